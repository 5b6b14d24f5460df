//! How subscribers matched events before they were changed.
//!
//! A change of a subscriber's activity, patterns, channels or filter keeps what they were in `subscriber_versions`, in its own
//! transaction, which has locked the subscriber. `subscribers.matching_since_at` is when the present ones began.

use postrider_core::{SubscriberId, Timestamp};
use postrider_database::sql::{Part, Template, execute};
use postrider_database::{Dialect, Transaction};
use sea_orm::Value;

use crate::retention::Retention;
use crate::{Store, StoreError};

/// How many versions of a subscriber are kept.
pub const KEPT: u32 = 50;

/// The most versions that one call removes.
const REMOVED_AT_ONCE: u32 = 2_000;

const ON_POSTGRES: &[Part] = &[("joined", "string_agg(pattern, ' ')")];
const ON_SQLITE: &[Part] = &[("joined", "group_concat(pattern, ' ')")];

/// Of two changes in one millisecond, the first keeps its version.
const VERSION: &str =
    "INSERT INTO subscriber_versions (subscriber_id, ended_at, began_at, active, events, channels, filter)
     SELECT id, coalesce(CAST($2 AS bigint), {now}), coalesce(matching_since_at, updated_at), active, coalesce((
         SELECT {joined} FROM (
             SELECT pattern FROM subscriptions WHERE subscriptions.subscriber_id = $1
             UNION SELECT pattern FROM channel_subscriptions WHERE channel_subscriptions.subscriber_id = $1
         ) AS mine
     ), ''), channels, filter
     FROM subscribers WHERE id = $1 ON CONFLICT DO NOTHING";
static KEEP_ON_POSTGRES: Template = Template::new(VERSION, &[ON_POSTGRES]);
static KEEP_ON_SQLITE: Template = Template::new(VERSION, &[ON_SQLITE]);

static TRIM: &str = "DELETE FROM subscriber_versions WHERE subscriber_id = $1 AND ended_at <= (
         SELECT ended_at FROM subscriber_versions WHERE subscriber_id = $1 ORDER BY ended_at DESC LIMIT 1 OFFSET $2
     )";

/// Keeps how a subscriber matches until `now`, or the present of the database if that is not given. The subscriber must be
/// locked. The caller sets `matching_since_at` to the same moment.
pub(crate) async fn keep(
    transaction: &Transaction,
    subscriber: SubscriberId,
    now: Option<Timestamp>,
) -> Result<(), StoreError> {
    let sql = match Dialect::of(transaction) {
        Dialect::Postgres => KEEP_ON_POSTGRES.on(Dialect::Postgres),
        Dialect::Sqlite => KEEP_ON_SQLITE.on(Dialect::Sqlite),
    };
    let now = Value::BigInt(now.map(Timestamp::millis));
    execute(transaction, sql, [subscriber.uuid().into(), now]).await?;
    execute(transaction, TRIM, [subscriber.uuid().into(), i64::from(KEPT).into()]).await?;
    Ok(())
}

impl Store {
    /// Removes versions of subscribers that are older than any event that the retention keeps, some thousands at most.
    /// Returns whether there may be more.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_old_versions(&self, retention: Retention) -> Result<bool, StoreError> {
        let Some(before) = retention.dead.before(self.ids.clock().now()) else { return Ok(false) };
        let (place, of, lock) = match self.database.dialect() {
            Dialect::Postgres => ("ctid", "= ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
            Dialect::Sqlite => ("rowid", "IN (", ""),
        };
        let old = format!(
            "SELECT {place} FROM subscriber_versions WHERE ended_at < $1 ORDER BY ended_at LIMIT {REMOVED_AT_ONCE}{lock}"
        );
        let sql = format!("DELETE FROM subscriber_versions WHERE {place} {of}({old}))");
        let removed = execute(self.database.connection(), sql, [before.millis().into()]).await?;
        Ok(removed >= u64::from(REMOVED_AT_ONCE))
    }
}
