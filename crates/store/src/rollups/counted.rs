//! What one roll-up counts: deliveries, and the attempts at them.

use super::tally::Tally;
use crate::encoding::{read_bytes, read_signed, write_bytes, write_signed};

/// Counts of deliveries. Negative in what is added when a retry makes an ended delivery pending again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) created: i64,
    pub(crate) succeeded: i64,
    pub(crate) dead: i64,
    pub(crate) cancelled: i64,
    /// The attempts of the deliveries that ended.
    pub(crate) spent: i64,
}

impl Counts {
    pub(super) const fn values(self) -> [i64; 5] {
        [self.created, self.succeeded, self.dead, self.cancelled, self.spent]
    }

    pub(super) const fn of([created, succeeded, dead, cancelled, spent]: [i64; 5]) -> Self {
        Self { created, succeeded, dead, cancelled, spent }
    }

    /// Adds other counts.
    pub(crate) fn add(&mut self, other: Self) {
        *self = self.with(other, i64::saturating_add);
    }

    /// Subtracts other counts.
    pub(super) fn subtract(&mut self, other: Self) {
        *self = self.with(other, i64::saturating_sub);
    }

    fn with(self, other: Self, change: impl Fn(i64, i64) -> i64) -> Self {
        let mut values = self.values();
        for (value, other) in values.iter_mut().zip(other.values()) {
            *value = change(*value, other);
        }
        Self::of(values)
    }
}

/// Counts of deliveries, and the tally of attempts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counted {
    pub(crate) counts: Counts,
    pub(crate) tally: Tally,
}

impl Counted {
    /// Adds what another one counted.
    pub(crate) fn merge(&mut self, other: &Self) {
        self.counts.add(other.counts);
        self.tally.merge(&other.tally);
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        for count in self.counts.values() {
            write_signed(bytes, count);
        }
        write_bytes(bytes, &self.tally.to_bytes());
    }

    /// Takes one from the front. `None` if the bytes do not begin with one.
    pub(super) fn read(bytes: &mut &[u8]) -> Option<Self> {
        Encoded::read(bytes)?.decode()
    }
}

/// One that was found in bytes, but whose tally has not been read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Encoded<'a> {
    counts: Counts,
    tally: &'a [u8],
}

impl<'a> Encoded<'a> {
    /// Takes one from the front. `None` if the bytes do not begin with one.
    pub(super) fn read(bytes: &mut &'a [u8]) -> Option<Self> {
        let mut counts = [0; 5];
        for count in &mut counts {
            *count = read_signed(bytes)?;
        }
        Some(Self { counts: Counts::of(counts), tally: read_bytes(bytes)? })
    }

    pub(super) fn decode(self) -> Option<Counted> {
        Some(Counted { counts: self.counts, tally: Tally::from_bytes(self.tally)? })
    }
}
