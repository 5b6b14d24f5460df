//! How values are written: parsers for clap, and the opposite for help texts and messages.

use std::ops::RangeInclusive;
use std::time::Duration;

use clap::builder::BoolishValueParser;

/// Parses a duration such as `10s`, `2m` or `1h 30m`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    humantime::parse_duration(text.trim())
        .map_err(|error| format!("{error}; write for example 10s, 2m or 1h30m"))
}

/// Parses a duration within `bounds`.
pub(crate) fn duration_in(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync {
    move |text| match duration(text)? {
        value if bounds.contains(&value) => Ok(value),
        _ => Err(format!("must be {}", duration_range(&bounds))),
    }
}

/// Parses a duration within `bounds`, or zero, which disables something: `None`.
pub(crate) fn duration_or_zero(
    bounds: RangeInclusive<Duration>,
) -> impl Fn(&str) -> Result<Duration, String> + Clone + Send + Sync {
    move |text| match duration(text)? {
        value if value.is_zero() || bounds.contains(&value) => Ok(value),
        _ => Err(format!("must be {}, or 0s to disable it", duration_range(&bounds))),
    }
}

/// Parses a size in bytes within `bounds`: `5000`, `64KiB`, `1MiB`.
pub(crate) fn size_in(
    bounds: RangeInclusive<usize>,
) -> impl Fn(&str) -> Result<usize, String> + Clone + Send + Sync {
    move |text| match size(text)? {
        value if bounds.contains(&value) => Ok(value),
        _ => Err(format!("must be {}", size_range(&bounds))),
    }
}

/// Parses a whole number within `bounds`, which may be a `u32` or, if they begin above zero, a `NonZeroU32`.
pub(crate) fn count_in<N: TryFrom<u32>>(
    bounds: RangeInclusive<u32>,
) -> impl Fn(&str) -> Result<N, String> + Clone + Send + Sync {
    move |text| {
        let value = text.trim().parse().ok().filter(|value| bounds.contains(value));
        let value = value.and_then(|value: u32| N::try_from(value).ok());
        value.ok_or_else(|| format!("must be a whole number, {}", count_range(&bounds)))
    }
}

/// Parses a size in bytes: `5000`, `64KiB`, `1MiB`.
fn size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let (number, unit) = match text.strip_suffix("KiB") {
        Some(number) => (number, KIB),
        None => text.strip_suffix("MiB").map_or((text, 1), |number| (number, MIB)),
    };
    let number: usize =
        number.trim_end().parse().map_err(|_| "write for example 5000, 64KiB or 1MiB".to_owned())?;
    number.checked_mul(unit).ok_or_else(|| "too large".to_owned())
}

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// Parses a Boolean: `true`, `1`, `yes`, `on` and their opposites.
pub(crate) fn yes_or_no() -> BoolishValueParser {
    BoolishValueParser::new()
}

/// Bounds as in `5s to 1h` or `at most 1h`.
pub(crate) fn duration_range(bounds: &RangeInclusive<Duration>) -> String {
    let shown = |duration: &Duration| match duration.as_millis() {
        ms if ms % 3_600_000 == 0 => format!("{}h", ms / 3_600_000),
        ms if ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms if ms % 1000 == 0 => format!("{}s", ms / 1000),
        ms => format!("{ms}ms"),
    };
    range(bounds.start().is_zero(), &shown(bounds.start()), &shown(bounds.end()))
}

/// Bounds as in `1KiB to 64MiB` or `at most 1MiB`.
pub(crate) fn size_range(bounds: &RangeInclusive<usize>) -> String {
    let shown = |size: &usize| match *size {
        size if size % MIB == 0 => format!("{}MiB", size / MIB),
        size if size % KIB == 0 => format!("{}KiB", size / KIB),
        size => size.to_string(),
    };
    range(*bounds.start() == 0, &shown(bounds.start()), &shown(bounds.end()))
}

/// Bounds as in `1 to 30`.
pub(crate) fn count_range(bounds: &RangeInclusive<u32>) -> String {
    range(*bounds.start() == 0, &bounds.start().to_string(), &bounds.end().to_string())
}

fn range(from_zero: bool, least: &str, most: &str) -> String {
    if from_zero { format!("at most {most}") } else { format!("{least} to {most}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration(" 1h 30m "), Ok(Duration::from_mins(90)));
        for wrong in ["", "10", "-1s", "soon"] {
            assert!(duration(wrong).unwrap_err().contains("10s, 2m or 1h30m"), "{wrong}");
        }
    }

    #[test]
    fn sizes_may_have_a_unit() {
        assert_eq!(size("5000"), Ok(5000));
        assert_eq!(size("64KiB"), Ok(65_536));
        assert_eq!(size("1 MiB"), Ok(1_048_576));
        for wrong in ["", "MiB", "-1", "1GB", "1.5MiB", "99999999999999MiB"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn both_ends_of_a_range_are_allowed_values() {
        let lease = duration_in(Duration::from_secs(5)..=Duration::from_hours(1));
        assert_eq!((lease("5s"), lease("1h")), (Ok(Duration::from_secs(5)), Ok(Duration::from_hours(1))));
        assert_eq!(lease("4999ms").unwrap_err(), "must be 5s to 1h");
        assert!(lease("3601s").is_err() && lease("0s").is_err());
        let latency = duration_or_zero(Duration::from_millis(1)..=Duration::from_mins(1));
        assert_eq!(latency("0s"), Ok(Duration::ZERO));
        assert_eq!(latency("61s").unwrap_err(), "must be 1ms to 1m, or 0s to disable it");
        let limit = size_in(1024..=64 * MIB);
        assert_eq!((limit("1KiB"), limit("64MiB")), (Ok(1024), Ok(64 * MIB)));
        assert_eq!(limit("1023").unwrap_err(), "must be 1KiB to 64MiB");
        let attempts = count_in::<u32>(1..=30);
        assert_eq!((attempts("1"), attempts("30")), (Ok(1), Ok(30)));
        for wrong in ["0", "31", "-1", "many", ""] {
            assert_eq!(attempts(wrong).unwrap_err(), "must be a whole number, 1 to 30", "{wrong}");
        }
    }

    #[test]
    fn bounds_are_shown_as_they_are_written() {
        assert_eq!(duration_range(&(Duration::ZERO..=Duration::from_hours(24))), "at most 24h");
        assert_eq!(duration_range(&(Duration::from_millis(1)..=Duration::from_secs(90))), "1ms to 90s");
        assert_eq!(size_range(&(0..=MIB)), "at most 1MiB");
        assert_eq!(size_range(&(1500..=2 * KIB)), "1500 to 2KiB");
    }
}
