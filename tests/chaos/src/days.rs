//! Partitions of PostgreSQL: short ones, so that many begin during a run, and others that come and go.

use std::time::Duration;

use fastrand::Rng;
use sea_orm::{ConnectionTrait as _, DatabaseConnection};

use crate::moment;

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

/// Statements that make an old partition with a row, remove its payload and drop it, and drop the last one, which is empty and which
/// the programs make again. To be repeated while they fail, since dropping gives way to others.
pub(crate) fn coming_and_going(rng: &mut Rng) -> [String; 5] {
    let then = moment::now() - rng.i64(30..300) * DAY;
    [
        format!("SELECT postrider_add_partition({then}, 1000)"),
        format!(
            "INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at)
             SELECT postrider_id_at({then}), 'default', 'old.event', 'default', ''::bytea, 1, {then}
             ON CONFLICT DO NOTHING"
        ),
        stripping(&format!("starts_at <= {then} AND ends_at > {then}")),
        dropping(&format!("starts_at <= {then} AND ends_at > {then}")),
        dropping("starts_at = (SELECT max(starts_at) FROM partitions)"),
    ]
}

const NEVER: i64 = 9_000_000_000_000_000;

fn dropping(which: &str) -> String {
    format!("SELECT postrider_drop_partition(suffix, {NEVER}, {NEVER}) FROM partitions WHERE {which}")
}

fn stripping(which: &str) -> String {
    format!(
        "DO $$ DECLARE
            given text;
        BEGIN
            FOR given IN SELECT suffix FROM partitions WHERE {which} LOOP
                FOR step IN 1..20 LOOP
                    EXIT WHEN postrider_strip_step(given, {NEVER}, {NEVER}) <> 'more';
                END LOOP;
            END LOOP;
        END $$"
    )
}
