//! The arguments of functions.

use std::time::Duration;

use redis::Cmd;
use uuid::Uuid;

/// The arguments of a call, after the keys.
#[derive(Clone, Debug)]
pub(crate) struct Arguments(Vec<Vec<u8>>);

impl Arguments {
    /// Those that every function takes: by how much to move the clock, and the channel for wake-ups.
    pub(crate) fn new(shift: i64, channel: &str) -> Self {
        Self(vec![shift.to_string().into_bytes(), channel.as_bytes().to_vec()])
    }

    pub(crate) fn id(&mut self, id: Uuid) -> &mut Self {
        self.0.push(id.as_bytes().to_vec());
        self
    }

    pub(crate) fn text(&mut self, text: &str) -> &mut Self {
        self.0.push(text.as_bytes().to_vec());
        self
    }

    #[allow(clippy::needless_pass_by_value, reason = "numbers are as cheap to pass")]
    pub(crate) fn number(&mut self, number: impl ToString) -> &mut Self {
        self.text(&number.to_string())
    }

    pub(crate) fn flag(&mut self, flag: bool) -> &mut Self {
        self.text(if flag { "1" } else { "0" })
    }

    /// In milliseconds, rounded up, so that nothing is early.
    pub(crate) fn millis(&mut self, duration: Duration) -> &mut Self {
        self.number(millis(duration))
    }

    pub(crate) fn add_to(&self, command: &mut Cmd) {
        for argument in &self.0 {
            command.arg(argument.as_slice());
        }
    }
}

/// A hundred years: added to a time, it is still a number that Redis keeps exactly.
const FOR_EVER: u64 = 100 * 365 * 24 * 3600 * 1000;

pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX).min(FOR_EVER)
}
