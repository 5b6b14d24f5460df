//! How long things are kept.

use std::time::Duration;

use clap::Args;

use crate::bounds;
use crate::value::{duration, duration_range};

/// How long something is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// As long as the database exists.
    Forever,
    /// For at least this time.
    For(Duration),
}

/// How long events, deliveries and attempts are kept.
#[derive(Args, Clone, Copy, Debug, Default)]
#[command(next_help_heading = "Retention")]
pub struct RetentionArgs {
    /// How long events, deliveries and attempts are kept: an age, or `forever` [default: 90d; forever in a database of
    /// the first edition]
    ///
    /// PostgreSQL drops whole partitions. One in which deliveries are pending stays.
    #[arg(long, env = "POSTRIDER_RETAIN_HISTORY", value_name = "AGE", value_parser = age)]
    pub retain_history: Option<Age>,

    /// How long the data of events and the responses to their deliveries are kept: an age, or `forever` [default: as long as
    /// the history]
    ///
    /// An age above that of the history, or `forever`, means as long as the history. The payload of an event stays while one
    /// of its deliveries is pending, or is a dead letter that is kept. On PostgreSQL those of a whole partition stay while one
    /// delivery in it is pending.
    #[arg(long, env = "POSTRIDER_RETAIN_PAYLOADS", value_name = "AGE", value_parser = age)]
    pub retain_payloads: Option<Age>,

    /// How long dead letters are kept, with their events: an age, or `forever` [default: as long as the history]
    ///
    /// Never shorter than the history. A partition stays as long as one of its dead letters.
    #[arg(long, env = "POSTRIDER_RETAIN_DEAD", value_name = "AGE", value_parser = age)]
    pub retain_dead: Option<Age>,
}

/// Parses an age such as `90d`, or `forever`.
pub(crate) fn age(text: &str) -> Result<Age, String> {
    if text.trim() == "forever" {
        return Ok(Age::Forever);
    }
    match duration(text).map_err(|error| format!("{error}, or forever"))? {
        age if bounds::AGE.contains(&age) => Ok(Age::For(age)),
        _ => Err(format!("must be {}, or forever", duration_range(&bounds::AGE))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_time_or_for_ever() {
        assert_eq!(age("90d"), Ok(Age::For(Duration::from_hours(90 * 24))));
        assert_eq!(age("forever"), Ok(Age::Forever));
        for wrong in ["", "90", "30m", "never"] {
            assert!(age(wrong).is_err(), "{wrong}");
        }
    }
}
