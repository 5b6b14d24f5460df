//! What is read about a job: by a claim, in its own statement, or by a load.

use std::sync::{Arc, Mutex, PoisonError};

use postrider_database::Dialect;
use postrider_queue::{Join, Reads};

use crate::partitions::Tables;

/// The largest body in bytes that [`Store::load`](crate::Store::load) reads with its job. Larger ones are left to
/// [`Store::envelopes`](crate::Store::envelopes), so that the caller decides how many of them it holds.
pub const SMALL_BODY: usize = 16 * 1024;

/// The join of claims, which names the partition of today.
#[derive(Debug, Default)]
pub(crate) struct ClaimedJoin(Mutex<Option<(Tables, Arc<Join>)>>);

impl ClaimedJoin {
    pub(crate) fn join(&self, tables: &Tables) -> Arc<Join> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, join)) = &*last
            && of == tables
        {
            return Arc::clone(join);
        }
        let about_jobs = Reads {
            columns: about_delivery(Dialect::Postgres),
            joins: deliveries_and_events(Dialect::Postgres, &CLAIMED, tables),
        };
        let about_lanes = Reads {
            columns: about_subscriber(Dialect::Postgres, "looked.id"),
            joins: subscribers(
                Dialect::Postgres,
                "tally.jobs > 0 AND subscribers.id = looked.id AND subscribers.tenant = looked.owner",
            ),
        };
        let join = Arc::new(Join::new(about_jobs, about_lanes));
        *last = Some((tables.clone(), Arc::clone(&join)));
        join
    }
}

/// A table of jobs, and how its rows are joined: a claim must keep those without a delivery.
pub(super) struct Jobs {
    tenant: &'static str,
    job: &'static str,
    delivery: &'static str,
    event: &'static str,
    outer: bool,
}

pub(super) const INPUT: Jobs = Jobs {
    tenant: "input.tenant",
    job: "input.job_id",
    delivery: "input.delivery_id",
    event: "input.event_id",
    outer: false,
};
const CLAIMED: Jobs = Jobs {
    tenant: "taken.owner",
    job: "taken.id",
    delivery: "taken.subject",
    // The last 20 bits are the number of the delivery.
    event: "overlay(taken.subject::text PLACING '00000' FROM 32)::uuid",
    outer: true,
};

/// What is read about a job's delivery and its event: names and expressions. The names differ from those of a claim.
pub(super) fn about_delivery(dialect: Dialect) -> Vec<(&'static str, String)> {
    let now = dialect.now();
    let envelope = format!("CASE WHEN length(events.envelope) <= {SMALL_BODY} THEN events.envelope END");
    let mut columns = vec![("delivery_id", "deliveries.id".to_owned())];
    columns.extend(of(
        "deliveries",
        &["tenant", "event_type", "subscriber_id", "status", "attempts", "round_start", "created_at"],
    ));
    columns.push(("due_in", format!("deliveries.next_attempt_at - {now}")));
    columns.push(("event_id", "events.id".to_owned()));
    columns.extend(of("events", &["agent_id", "payload_gone", "channels"]));
    columns.push(("size", "length(events.envelope)".to_owned()));
    columns.push(("envelope", envelope));
    columns
}

/// What is read about the subscriber with this id, which need not exist.
pub(super) fn about_subscriber(dialect: Dialect, id: &str) -> Vec<(&'static str, String)> {
    let now = dialect.now();
    let failing = format!(
        "CASE WHEN (SELECT 1 FROM health WHERE health.subscriber_id = {id} LIMIT 1) IS NOT NULL THEN 1 ELSE 0 END"
    );
    let previous =
        format!("CASE WHEN subscribers.previous_secret_until > {now} THEN subscribers.previous_secret END");
    let older =
        format!("CASE WHEN subscribers.older_secrets_until > {now} THEN subscribers.older_secrets END");
    let mut columns = of(
        "subscribers",
        &[
            "active",
            "deactivation_reason",
            "url",
            "policy",
            "format",
            "transform",
            "plugin",
            "plugin_name",
            "secret",
            "headers",
            "auth",
        ],
    );
    columns.push(("failing", failing));
    columns.push(("previous_secret", previous));
    columns.push(("older_secrets", older));
    columns
}

fn of(table: &str, names: &[&'static str]) -> Vec<(&'static str, String)> {
    names.iter().map(|name| (*name, format!("{table}.{name}"))).collect()
}

/// The tables of [`about_delivery`], each row looked up by itself.
pub(super) fn deliveries_and_events(dialect: Dialect, jobs: &Jobs, tables: &Tables) -> String {
    let Jobs { tenant, job, delivery, event, outer } = jobs;
    let delivery =
        format!("deliveries.tenant = {tenant} AND deliveries.id = {delivery} AND deliveries.job_id = {job}");
    let event = format!("events.tenant = {tenant} AND events.id = coalesce(deliveries.event_id, {event})");
    let look_up = |partition: &str, table: &str, condition: &str| {
        if *outer {
            left(dialect, partition, table, condition)
        } else {
            dialect.look_up_in(partition, table, condition)
        }
    };
    let deliveries = look_up(&tables.deliveries(), "deliveries", &delivery);
    let events = look_up(&tables.events(), "events", &event);
    format!("{deliveries} {events}")
}

/// The table of [`about_subscriber`].
pub(super) fn subscribers(dialect: Dialect, condition: &str) -> String {
    left(dialect, "subscribers", "subscribers", condition)
}

fn left(dialect: Dialect, partition: &str, table: &str, condition: &str) -> String {
    match dialect {
        Dialect::Postgres => format!(
            "LEFT JOIN LATERAL (SELECT * FROM {partition} AS {table} WHERE {condition} LIMIT 1) AS {table} ON true"
        ),
        Dialect::Sqlite => format!("LEFT JOIN {partition} AS {table} ON {condition}"),
    }
}
