//! How values are written.

use std::time::Duration;

use clap::builder::BoolishValueParser;

/// A duration such as `10s`, `2m` or `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{error}; write for example 10s, 2m or 1h30m"))
}

/// A size in bytes: `5000`, `64KiB`, `1MiB`.
pub(crate) fn size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix("KiB") {
        Some(number) => (number, 1024),
        None => text.strip_suffix("MiB").map_or((text, 1), |number| (number, 1024 * 1024)),
    };
    let number: usize =
        number.trim_end().parse().map_err(|_| "write for example 5000, 64KiB or 1MiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

/// Yes or no: `true`, `1`, `yes`, `on` and their opposites.
pub(crate) fn yes_or_no() -> BoolishValueParser {
    BoolishValueParser::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration(" 1h 30m "), Ok(Duration::from_mins(90)));
        for wrong in ["", "10", "-1s", "soon"] {
            assert!(duration(wrong).unwrap_err().contains("10s, 2m or 1h30m"), "{wrong}");
        }
    }

    #[test]
    fn sizes_may_have_units() {
        assert_eq!(size("5000"), Ok(5000));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1 MiB"), Ok(1_048_576));
        for wrong in ["", "MiB", "-1", "1GB", "1.5MiB", "99999999999999MiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
