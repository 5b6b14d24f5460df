//! The clock of a process is compared with the database's.

use std::sync::Arc;
use std::time::Duration;

use postrider_core::{Clock, IdGenerator, Keyring, SystemClock, SystemRandom, Timestamp};
use postrider_store::Store;

use crate::stage::{Stage, on_both};

on_both!(the_difference_between_the_clocks_is_measured, a_database_is_examined);

/// A clock that is two hours ahead.
#[derive(Debug)]
struct Ahead;

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        SystemClock.now() + Duration::from_hours(2)
    }
}

async fn the_difference_between_the_clocks_is_measured(stage: &Stage) {
    let skew = stage.store.clock_skew().await.unwrap();
    let uncertainty = i64::try_from(skew.uncertainty.as_millis()).unwrap() + 2;
    assert!(skew.millis.abs() <= uncertainty, "{skew:?}");

    let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom)).unwrap();
    let ids = IdGenerator::new(Arc::new(Ahead), Arc::new(SystemRandom));
    let ahead = Store::new(stage.store.database().clone(), Arc::clone(stage.store.queue()), keyring, ids);
    let skew = ahead.clock_skew().await.unwrap();
    let uncertainty = i64::try_from(skew.uncertainty.as_millis()).unwrap() + 2;
    assert!((skew.millis - 7_200_000).abs() <= uncertainty, "{skew:?}");
}

async fn a_database_is_examined(stage: &Stage) {
    stage.store.keep_partitions().await.unwrap();
    let found = stage.store.examine().await.unwrap();
    assert!(found.version.starts_with(|c: char| c.is_ascii_digit()) && found.size > 100_000, "{found:?}");
    assert_eq!(found.workers, 0, "{found:?}");
    let is_ahead = found.partitions_ahead.is_none_or(|ahead| ahead > Duration::from_hours(6 * 24));
    assert!(is_ahead, "{found:?}");
}
