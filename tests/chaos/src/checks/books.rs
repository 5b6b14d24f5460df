//! No job or lease is left, the statistics agree with the stored rows (deleted ones stay counted), and memory is flat.

use postrider_testkit::ATTEMPTS;
use sea_orm::DbBackend;

use super::Evidence;
use crate::{records::Records, referee::TRESPASSES};

/// Statements that count violations. `{nil}` is the nil id, and `{attempts}` all attempts.
const NONE: [(&str, &str); 11] = [
    ("claims were ended by a program that did not hold them", TRESPASSES),
    ("fan-outs are left", "SELECT count(*) FROM fan_outs"),
    (
        "events count other jobs than their fan-outs made",
        "SELECT count(*) FROM events WHERE subscribers_found > 100 AND jobs_created IS DISTINCT FROM subscribers_found",
    ),
    ("jobs are left", "SELECT (SELECT count(*) FROM jobs) + (SELECT count(*) FROM scheduled_jobs)"),
    ("lanes count jobs as running that are not running", "SELECT count(*) FROM lanes WHERE running <> 0"),
    (
        "idempotency keys name events that do not exist",
        "SELECT count(*) FROM idempotency_keys WHERE NOT EXISTS (SELECT 1 FROM events WHERE id = event_id)",
    ),
    (
        "deliveries have no end time although they are not pending",
        "SELECT count(*) FROM deliveries WHERE status <> 0 AND ended_at IS NULL",
    ),
    (
        "subscribers have roll-ups that differ from their deliveries",
        "SELECT count(*) FROM (
            SELECT subscriber_id, count(*) AS created, count(*) FILTER (WHERE status = 1) AS succeeded,
                count(*) FILTER (WHERE status = 2) AS dead,
                count(*) FILTER (WHERE status = 3) AS cancelled, sum(attempts) FILTER (WHERE status <> 0) AS spent
            FROM (
                SELECT subscriber_id, status, attempts FROM deliveries
                UNION ALL SELECT subscriber, status, attempts FROM chaos_deleted
            ) AS deliveries GROUP BY subscriber_id
        ) AS log FULL JOIN (
            SELECT subscriber_id, sum(created) AS created, sum(succeeded) AS succeeded, sum(dead) AS dead,
                sum(cancelled) AS cancelled, sum(spent) AS spent
            FROM rollups WHERE span = 3 AND event_type = '' AND subscriber_id <> {nil} GROUP BY subscriber_id
        ) AS sums USING (subscriber_id)
        WHERE log.created IS DISTINCT FROM sums.created OR log.succeeded IS DISTINCT FROM sums.succeeded
            OR log.dead IS DISTINCT FROM sums.dead
            OR log.cancelled IS DISTINCT FROM sums.cancelled OR log.spent IS DISTINCT FROM sums.spent",
    ),
    (
        "roll-up rows differ from the attempts that they count",
        "SELECT abs((SELECT count(*) FROM {attempts})
            + (SELECT CAST(coalesce(sum(attempts), 0) AS bigint) FROM chaos_deleted)
            - (SELECT CAST(coalesce(sum(attempts), 0) AS bigint) FROM rollups
                WHERE span = 3 AND event_type = '' AND subscriber_id <> {nil}))",
    ),
    ("deltas are not folded", "SELECT count(*) FROM rollup_deltas"),
    (
        "tenants have counts of subscribers that differ from their subscribers",
        "SELECT count(*) FROM (
            SELECT tenant, count(*) AS total, count(*) FILTER (WHERE active) AS active
            FROM subscribers GROUP BY tenant
        ) AS log FULL JOIN (
            SELECT tenant, sum(total) AS total, sum(active) AS active
            FROM subscriber_counts WHERE tenant <> '' GROUP BY tenant
        ) AS sums USING (tenant)
        WHERE coalesce(log.total, 0) <> coalesce(sums.total, 0) OR coalesce(log.active, 0) <> coalesce(sums.active, 0)",
    ),
];

/// A program's resident memory stabilises within this many samples, taken once a second.
const WARM_UP: usize = 5;
/// How much it may grow after that, in KiB: buffers and pools fill as faults come and go.
const GROWTH: u64 = 40 * 1024;

pub(super) async fn check(evidence: Evidence<'_>, records: &Records) -> Vec<String> {
    let mut wrong = Vec::new();
    let nil = match records.backend() {
        DbBackend::Sqlite => "zeroblob(16)",
        _ => "'00000000-0000-0000-0000-000000000000'",
    };
    for (what, sql) in NONE {
        let found = records.count(&sql.replace("{nil}", nil).replace("{attempts}", ATTEMPTS)).await;
        if found != 0 {
            wrong.push(format!("{found} {what}"));
        }
    }
    for ((who, instance), memory) in evidence.watch.memory() {
        let (Some(first), Some(last)) = (memory.get(WARM_UP), memory.last()) else { continue };
        if *last > first + GROWTH {
            wrong.push(format!("{who} (process {instance}) grew from {first} to {last} KiB"));
        }
    }
    wrong.extend(evidence.logbook.panic());
    wrong
}
