//! Partitions of PostgreSQL: short ones, so that many begin during a run, and others that come and go.

use std::time::Duration;

use fastrand::Rng;
use sea_orm::{ConnectionTrait as _, DatabaseConnection};

use crate::{moment, postgres::insist};

/// The length of a short partition, in milliseconds.
const SHORT: i64 = 20_000;
/// How long the programs may run after the faults, in milliseconds.
const AFTERWARDS: i64 = 600_000;
const DAY: i64 = 86_400_000;

/// Migrates the database, and makes every other partition of the run. The programs make those in between.
pub(crate) async fn prepare(database: &DatabaseConnection, faults: Duration) {
    postrider_migrations::migrate(database).await.expect("migrations");
    let now = moment::now();
    let end = now + i64::try_from(faults.as_millis()).unwrap_or(i64::MAX / 2) + AFTERWARDS;
    let sql = format!(
        "SELECT postrider_add_partition(moment, {SHORT}) FROM generate_series({now}::bigint, {end}, {}) AS moment",
        2 * SHORT
    );
    database.execute_unprepared(&sql).await.expect("partitions");
}

/// Drops the last partition, which is empty and which the programs make again, and an old one with rows.
pub(crate) async fn come_and_go(database: &DatabaseConnection, rng: &mut Rng) {
    // Two short ones may meet in an old day, but never in the same second.
    let then = moment::now() - rng.i64(30..300) * DAY;
    let add = format!("SELECT postrider_add_partition({then}, 1000)");
    insist(database, &add).await;
    let write = format!(
        "INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at)
         SELECT postrider_id_at({then}), 'default', 'old.event', 'default', ''::bytea, 1, {then}
         ON CONFLICT DO NOTHING"
    );
    insist(database, &write).await;
    drop_partition(database, &format!("starts_at <= {then} AND ends_at > {then}")).await;
    drop_partition(database, "starts_at = (SELECT max(starts_at) FROM partitions)").await;
}

/// Repeats the call until it succeeds, since it gives way to others.
async fn drop_partition(database: &DatabaseConnection, which: &str) {
    let sql = format!(
        "SELECT postrider_drop_partition(suffix, 9000000000000000, 9000000000000000) FROM partitions WHERE {which}"
    );
    insist(database, &sql).await;
}
