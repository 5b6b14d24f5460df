//! The partitions that this process knows.

use std::sync::{PoisonError, RwLock};

use postrider_core::Timestamp;

/// A partition of each of the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    /// It has the rows whose ids were made from this moment,
    pub(crate) starts_at: Timestamp,
    /// until before this one.
    pub(crate) ends_at: Timestamp,
    /// The end of the tables' names.
    pub(crate) suffix: String,
}

/// The partitions that this process knows. Others may exist; and one that is old may have been dropped.
#[derive(Debug, Default)]
pub(crate) struct Known(RwLock<Vec<Partition>>);

impl Known {
    /// Replaces all, given in the order of time.
    pub(crate) fn replace(&self, partitions: Vec<Partition>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = partitions;
    }

    /// Forgets all.
    pub(crate) fn forget(&self) {
        self.replace(Vec::new());
    }

    /// Returns the end of the partition that has this moment.
    pub(crate) fn end_of(&self, moment: Timestamp) -> Option<Timestamp> {
        let partitions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        find(&partitions, moment).map(|partition| partition.ends_at)
    }

    /// Returns the suffix of the one partition that has all these moments. `None` if several have them, or one is unknown.
    pub(crate) fn of(&self, moments: impl Iterator<Item = Timestamp>) -> Option<String> {
        let partitions = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let mut found: Option<&Partition> = None;
        for moment in moments {
            match found {
                Some(partition) if partition.has(moment) => {}
                Some(_) => return None,
                None => found = Some(find(&partitions, moment)?),
            }
        }
        found.map(|partition| partition.suffix.clone())
    }
}

impl Partition {
    fn has(&self, moment: Timestamp) -> bool {
        (self.starts_at..self.ends_at).contains(&moment)
    }
}

fn find(partitions: &[Partition], moment: Timestamp) -> Option<&Partition> {
    let later = partitions.partition_point(|partition| partition.starts_at <= moment);
    partitions[..later].last().filter(|partition| partition.has(moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_of_one_partition_have_its_suffix() {
        let known = Known::default();
        let at = Timestamp::from_millis;
        let partition = |from, until, suffix: &str| Partition {
            starts_at: at(from),
            ends_at: at(until),
            suffix: suffix.into(),
        };
        known.replace(vec![partition(0, 10, "a"), partition(10, 20, "b"), partition(30, 40, "c")]);
        let of = |moments: &[i64]| known.of(moments.iter().copied().map(at));
        assert_eq!(of(&[10, 19, 12]).as_deref(), Some("b"));
        assert_eq!(of(&[0]).as_deref(), Some("a"));
        for moments in [&[9, 10][..], &[20], &[10, 25], &[40], &[-1], &[]] {
            assert_eq!(of(moments), None, "{moments:?}");
        }
        assert_eq!((known.end_of(at(39)), known.end_of(at(29))), (Some(at(40)), None));
        known.forget();
        assert_eq!(of(&[10]), None);
    }
}
