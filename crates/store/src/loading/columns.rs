//! What is read about a job: by a claim, in its own statement, or by a load.

use std::sync::{Arc, Mutex, PoisonError};

use postrider_database::Dialect;
use postrider_queue::Join;

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
        let join = Join::new(columns(Dialect::Postgres), joins(Dialect::Postgres, &CLAIMED, tables));
        let join = Arc::new(join);
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

/// What is read about a job: names and expressions. The names differ from those of a claim.
pub(super) fn columns(dialect: Dialect) -> Vec<(&'static str, String)> {
    let now = dialect.now();
    let failing = "CASE WHEN (SELECT 1 FROM health WHERE health.subscriber_id = deliveries.subscriber_id LIMIT 1) \
        IS NOT NULL THEN 1 ELSE 0 END";
    let envelope = format!("CASE WHEN length(events.envelope) <= {SMALL_BODY} THEN events.envelope END");
    let previous =
        format!("CASE WHEN subscribers.previous_secret_until > {now} THEN subscribers.previous_secret END");
    let older =
        format!("CASE WHEN subscribers.older_secrets_until > {now} THEN subscribers.older_secrets END");
    let of = |table: &str, names: &[&'static str]| {
        names.iter().map(|name| (*name, format!("{table}.{name}"))).collect::<Vec<_>>()
    };
    let delivery =
        ["tenant", "event_type", "subscriber_id", "status", "attempts", "round_start", "created_at"];
    let subscriber = [
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
    ];
    let mut columns = vec![("delivery_id", "deliveries.id".to_owned())];
    columns.extend(of("deliveries", &delivery));
    columns.push(("due_in", format!("deliveries.next_attempt_at - {now}")));
    columns.push(("failing", failing.to_owned()));
    columns.push(("event_id", "events.id".to_owned()));
    columns.extend(of("events", &["agent_id", "payload_gone"]));
    // Only a projection or a plugin asks for them.
    let channels = "CASE WHEN coalesce(subscribers.transform, subscribers.plugin_name) IS NOT NULL THEN events.channels END";
    columns.push(("channels", channels.to_owned()));
    columns.push(("size", "length(events.envelope)".to_owned()));
    columns.push(("envelope", envelope));
    columns.extend(of("subscribers", &subscriber));
    columns.push(("previous_secret", previous));
    columns.push(("older_secrets", older));
    columns
}

/// The tables of [`columns`], each row looked up by itself.
pub(super) fn joins(dialect: Dialect, jobs: &Jobs, tables: &Tables) -> String {
    let Jobs { tenant, job, delivery, event, outer } = jobs;
    let delivery =
        format!("deliveries.tenant = {tenant} AND deliveries.id = {delivery} AND deliveries.job_id = {job}");
    let event = format!("events.tenant = {tenant} AND events.id = coalesce(deliveries.event_id, {event})");
    let subscriber = "subscribers.id = deliveries.subscriber_id AND subscribers.tenant = deliveries.tenant";
    let left = |partition: &str, table: &str, condition: &str| match dialect {
        Dialect::Postgres => format!(
            "LEFT JOIN LATERAL (SELECT * FROM {partition} AS {table} WHERE {condition} LIMIT 1) AS {table} ON true"
        ),
        Dialect::Sqlite => format!("LEFT JOIN {partition} AS {table} ON {condition}"),
    };
    let look_up = |partition: &str, table: &str, condition: &str| {
        if *outer {
            left(partition, table, condition)
        } else {
            dialect.look_up_in(partition, table, condition)
        }
    };
    let deliveries = look_up(&tables.deliveries(), "deliveries", &delivery);
    let events = look_up(&tables.events(), "events", &event);
    format!("{deliveries} {events} {}", left("subscribers", "subscribers", subscriber))
}
