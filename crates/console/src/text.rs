//! Numbers and times as people read them.

use std::time::Duration;

use postrider_api::Moment;
use postrider_core::Timestamp;

/// Writes a number with a comma for each thousand.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 delivery`, `2 deliveries`.
pub(crate) fn counted(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// Writes milliseconds with about three digits.
pub(crate) fn millis(millis: f64) -> String {
    match millis {
        ms if ms < 10.0 => format!("{ms:.1} ms"),
        ms if ms < 1_000.0 => format!("{ms:.0} ms"),
        ms if ms < 60_000.0 => format!("{:.1} s", ms / 1_000.0),
        ms => format!("{:.1} min", ms / 60_000.0),
    }
}

/// Writes a share of 0 to 1 in percent. Never rounds up to 100 %.
pub(crate) fn percent(share: f64) -> String {
    let percent = (share * 1_000.0).floor() / 10.0;
    if percent >= 100.0 { "100 %".to_owned() } else { format!("{percent:.1} %") }
}

/// Writes seconds as a duration; a fraction of one in milliseconds.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` keeps to the bounds")]
pub(crate) fn seconds(seconds: f64) -> String {
    if seconds > 0.0 && seconds < 1.0 {
        millis(seconds * 1_000.0)
    } else {
        duration(Duration::from_secs(seconds as u64))
    }
}

/// Writes a duration in its largest unit, or in two of them: `45 s`, `3 min`, `2 h 5 min`.
pub(crate) fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let two = |large: u64, unit: &str, small: u64, part: &str| {
        if small == 0 { format!("{large} {unit}") } else { format!("{large} {unit} {small} {part}") }
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => two(seconds / 60, "min", if seconds < 600 { seconds % 60 } else { 0 }, "s"),
        3_600..86_400 => two(seconds / 3_600, "h", seconds % 3_600 / 60, "min"),
        _ => two(seconds / 86_400, "d", if seconds < 864_000 { seconds % 86_400 / 3_600 } else { 0 }, "h"),
    }
}

/// How long ago a moment was, or how soon it will be.
pub(crate) fn relative(moment: Timestamp, now: Timestamp) -> String {
    if moment > now {
        return format!("in {}", rough(moment.since(now)));
    }
    let ago = now.since(moment);
    if ago < Duration::from_secs(5) { "now".to_owned() } else { format!("{} ago", rough(ago)) }
}

/// Writes a duration in its largest unit only.
fn rough(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3_600 => format!("{} min", seconds / 60),
        seconds @ 3_600..172_800 => format!("{} h", seconds / 3_600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

/// Writes a moment in UTC, to the second: `2026-11-28 18:23:44`.
pub(crate) fn moment(moment: Moment) -> String {
    let text = moment.to_string();
    let (date, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{date} {}", time.split('.').next().unwrap_or_default())
}

/// A word of the API for people: `attempts_used_up` becomes `attempts used up`.
pub(crate) fn words(word: &str) -> String {
    word.replace('_', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_have_commas() {
        for (number, text) in [(0, "0"), (999, "999"), (1_000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn durations_name_their_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (61, "1 min 1 s"),
            (600, "10 min"),
            (7_500, "2 h 5 min"),
            (90_000, "1 d 1 h"),
        ] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
        assert_eq!(millis(1.25), "1.2 ms");
        assert_eq!(millis(90_000.0), "1.5 min");
    }

    #[test]
    fn times_are_relative_in_both_directions() {
        let now = Timestamp::from_seconds(1_700_000_000);
        for (seconds, text) in
            [(-3, "now"), (-90, "1 min ago"), (-7_200, "2 h ago"), (-200_000, "2 d ago"), (30, "in 30 s")]
        {
            assert_eq!(relative(Timestamp::from_seconds(1_700_000_000 + seconds), now), text);
        }
        assert_eq!(moment(Moment(now)), "2023-11-14 22:13:20");
    }

    #[test]
    fn a_share_is_not_rounded_up_to_all() {
        assert_eq!(percent(0.999_99), "99.9 %");
        assert_eq!(percent(1.0), "100 %");
    }
}
