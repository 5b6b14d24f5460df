//! Notices about subscribers that fail.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_core::subscriber::NoticeKind;
use postrider_core::{SubscriberId, TenantId, Timestamp};
use postrider_database::sql::{column, execute, query_all};
use postrider_database::{Dialect, Transaction};
use sea_orm::{QueryResult, Value};
use serde_json::json;

use super::{Outbox, RaisedNotice, channels};
use crate::health::{BreakerPolicy, state};
use crate::row::{parse, target, timestamp, unsigned};
use crate::subscribers::{Notify, stored::read_notify};
use crate::{Store, StoreError};

impl Store {
    /// Writes notices about failing subscribers that are due, about `max` subscribers at most. With `with_email`, also those
    /// that are sent as mail. Returns what was written.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The notices may have been written all the same.
    pub async fn raise_failing(
        &self,
        policy: &BreakerPolicy,
        with_email: bool,
        max: u32,
    ) -> Result<Vec<RaisedNotice>, StoreError> {
        let dialect = self.database.dialect();
        let now = dialect.now();
        // Most of the time there is none, and no transaction is begun.
        let sql =
            format!("SELECT subscriber_id FROM health WHERE notify_at <= {now} ORDER BY notify_at LIMIT 1");
        if query_all(&self.database.reads(), sql, []).await?.is_empty() {
            return Ok(Vec::new());
        }
        let transaction = self.database.begin().await?;
        let lock = match dialect {
            Dialect::Postgres => "FOR UPDATE SKIP LOCKED",
            Dialect::Sqlite => "",
        };
        let sql = format!(
            "SELECT subscriber_id, failures, first_failed_at, opened_at, noticed, {now} AS now FROM health \
             WHERE notify_at <= {now} ORDER BY notify_at LIMIT {max} {lock}"
        );
        let rows = query_all(&transaction, sql, []).await?;
        let failing = rows.iter().map(Failing::read).collect::<Result<Vec<_>, _>>()?;
        let owners = owners(&transaction, failing.iter().map(|one| one.id)).await?;
        let mut outbox = Outbox::new(&self.ids);
        let mut raised = Vec::new();
        for one in &failing {
            let due = one.due(policy);
            if let (Some(owner), Some(kind)) =
                (owners.get(&one.id), due.iter().max_by_key(|kind| kind.code()))
            {
                let data = one.describe(owner, *kind, policy).to_string();
                for channel in channels(&owner.tenant, &owner.notify, with_email) {
                    outbox.push(&owner.tenant, one.id, channel, *kind, &data);
                }
                raised.push(RaisedNotice { tenant: owner.tenant.clone(), subscriber: one.id, kind: *kind });
            }
            let noticed = due.iter().fold(one.noticed, |bits, kind| bits | kind.code());
            let sql = "UPDATE health SET noticed = $2, notify_at = $3 WHERE subscriber_id = $1";
            let next = Value::BigInt(one.next(noticed, policy).map(Timestamp::millis));
            execute(&transaction, sql, [one.id.uuid().into(), noticed.into(), next]).await?;
        }
        outbox.write(&transaction).await?;
        transaction.commit().await?;
        Ok(raised)
    }
}

/// A subscriber that fails.
struct Failing {
    id: SubscriberId,
    failures: u32,
    since: Timestamp,
    opened_at: Option<Timestamp>,
    /// The kinds of notices that were written, as bits.
    noticed: i16,
    /// The database's time.
    now: Timestamp,
}

impl Failing {
    fn read(row: &QueryResult) -> Result<Self, StoreError> {
        Ok(Self {
            id: SubscriberId::from_uuid(column(row, "subscriber_id")?),
            failures: unsigned(column(row, "failures")?),
            since: Timestamp::from_millis(column(row, "first_failed_at")?),
            opened_at: timestamp(column(row, "opened_at")?),
            noticed: column(row, "noticed")?,
            now: Timestamp::from_millis(column(row, "now")?),
        })
    }

    /// The kinds of notices whose moment has come and that were not written. The most urgent one stands for all of them.
    fn due(&self, policy: &BreakerPolicy) -> Vec<NoticeKind> {
        let opened = self.opened_at.map(|_| NoticeKind::CircuitOpened);
        let timed = policy.notices().into_iter().filter(|(_, after)| self.now.since(self.since) >= *after);
        let all = opened.into_iter().chain(timed.map(|(kind, _)| kind));
        all.filter(|kind| self.noticed & kind.code() == 0).collect()
    }

    /// When there may be another notice, once those in `noticed` were written.
    fn next(&self, noticed: i16, policy: &BreakerPolicy) -> Option<Timestamp> {
        let left = policy.notices().into_iter().filter(|(kind, _)| noticed & kind.code() == 0);
        left.map(|(_, after)| self.since + after).min()
    }

    fn describe(&self, owner: &Owner, kind: NoticeKind, policy: &BreakerPolicy) -> serde_json::Value {
        json!({
            "subscriber_id": self.id,
            "uid": owner.uid,
            "url": owner.url,
            "stage": kind.as_str(),
            "failures": self.failures,
            "failing_since": self.since.rfc3339(),
            "deactivation_at": policy.deactivate_after.map(|after| (self.since + after).rfc3339()),
        })
    }
}

/// Whom to notify about a subscriber.
struct Owner {
    tenant: TenantId,
    uid: Option<String>,
    /// Without its query, which may hold a secret.
    url: String,
    notify: Notify,
}

/// The owners of those subscribers that are active.
async fn owners(
    transaction: &Transaction,
    ids: impl Iterator<Item = SubscriberId>,
) -> Result<BTreeMap<SubscriberId, Owner>, StoreError> {
    let subscribers = Dialect::of(transaction)
        .look_up("subscribers", "subscribers.id = input.subscriber_id AND subscribers.active");
    let sql = format!(
        "SELECT subscribers.id, subscribers.tenant, subscribers.uid, subscribers.url, subscribers.notify_url, \
            subscribers.notify_email FROM input {subscribers}"
    );
    let rows = state::ids(ids).query(transaction, &sql, []).await?;
    let owner = |row: &QueryResult| {
        let id = SubscriberId::from_uuid(column(row, "id")?);
        let (notify_url, notify_email): (Option<String>, Option<String>) =
            (column(row, "notify_url")?, column(row, "notify_email")?);
        let owner = Owner {
            tenant: parse(&column::<String>(row, "tenant")?, "subscribers", "tenant", id)?,
            uid: column(row, "uid")?,
            url: target(&column::<String>(row, "url")?, id)?.redacted().to_owned(),
            notify: read_notify(notify_url.as_deref(), notify_email.as_deref(), id)?,
        };
        Ok((id, owner))
    };
    rows.iter().map(owner).collect()
}

impl BreakerPolicy {
    /// The notices that are due some time after the first failure, and when.
    pub(crate) fn notices(&self) -> Vec<(NoticeKind, Duration)> {
        const DAY: Duration = Duration::from_hours(24);
        let before_the_end = |after: &Duration| self.deactivate_after.is_none_or(|end| *after < end);
        let near = self.deactivate_after.and_then(|end| end.checked_sub(DAY));
        let near = near.filter(|after| !after.is_zero()).map(|after| (NoticeKind::DeactivationNear, after));
        let day = Some(DAY).filter(before_the_end).map(|after| (NoticeKind::FailingForADay, after));
        day.into_iter().chain(near).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_moments_follow_the_policy() {
        let hours = |hours| Duration::from_hours(hours);
        let notices = |deactivate_after| {
            let policy = BreakerPolicy { deactivate_after, ..BreakerPolicy::default() };
            policy.notices().into_iter().map(|(kind, after)| (kind.as_str(), after)).collect::<Vec<_>>()
        };
        let (day, near) = ("failing_for_a_day", "deactivation_near");
        assert_eq!(notices(Some(hours(120))), [(day, hours(24)), (near, hours(96))]);
        assert_eq!(notices(Some(hours(30))), [(day, hours(24)), (near, hours(6))]);
        assert_eq!(notices(Some(hours(24))), []);
        assert_eq!(notices(None), [(day, hours(24))]);
    }
}
