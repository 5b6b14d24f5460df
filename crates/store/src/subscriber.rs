//! Subscribers: who gets what.

use std::collections::HashMap;
use std::time::Duration;

use postrider_core::keyring::{Purpose, SealContext};
use postrider_core::subscriber::PolicyFields;
use postrider_core::{
    CustomHeaders, DeactivationReason, EventPattern, Policy, Secret, SubscriberId, TargetUrl, TenantId,
    Timestamp, id,
};
use postrider_database::{Batch, Column, DatabaseError, Dialect, Kind};
use postrider_queue::{LaneId, LaneRate, LaneSettings};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ActiveModelTrait, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect, Statement, Value,
};

use crate::entity::{subscribers, subscriptions};
use crate::health::Health;
use crate::page::{Page, PageRequest};
use crate::row::{parse, target, timestamp};
use crate::{Store, StoreError};

/// A subscriber, without its secrets.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// Its id.
    pub id: SubscriberId,
    /// Whose it is.
    pub tenant: TenantId,
    /// Where deliveries go.
    pub url: TargetUrl,
    /// Which events it wants; never empty.
    pub events: Vec<EventPattern>,
    /// What its owner says of it.
    pub description: String,
    /// The names of the headers that are added to its deliveries. Their values are not shown.
    pub header_names: Vec<String>,
    /// Whether it gets anything.
    pub state: SubscriberState,
    /// How it wants to be delivered to.
    pub policy: Policy,
    /// How it fares.
    pub health: Health,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

/// Whether a subscriber gets anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberState {
    /// It does.
    Active,
    /// It does not.
    Inactive {
        /// Since when.
        since: Timestamp,
        /// Why.
        reason: DeactivationReason,
    },
}

/// A subscriber to be created.
#[derive(Clone, Debug)]
pub struct NewSubscriber {
    /// Where deliveries go.
    pub url: TargetUrl,
    /// Which events it wants.
    pub events: Vec<EventPattern>,
    /// What its deliveries are signed with.
    pub secret: Secret,
    /// What its owner says of it.
    pub description: String,
    /// Headers that are added to its deliveries.
    pub headers: CustomHeaders,
    /// Whether it gets anything from the start.
    pub active: bool,
    /// How it wants to be delivered to.
    pub policy: Policy,
}

impl NewSubscriber {
    /// An active subscriber of `events` with the default policy, no description and no headers of its own.
    pub fn new(url: TargetUrl, events: Vec<EventPattern>, secret: Secret) -> Self {
        Self {
            url,
            events,
            secret,
            description: String::new(),
            headers: CustomHeaders::default(),
            active: true,
            policy: Policy::default(),
        }
    }
}

/// What is to be changed of a subscriber; the rest stays.
#[derive(Clone, Debug, Default)]
pub struct SubscriberChange {
    /// Where deliveries go.
    pub url: Option<TargetUrl>,
    /// Which events it wants.
    pub events: Option<Vec<EventPattern>>,
    /// What its owner says of it.
    pub description: Option<String>,
    /// Headers that are added to its deliveries, in place of all earlier ones.
    pub headers: Option<CustomHeaders>,
    /// Whether it gets anything.
    pub active: Option<bool>,
    /// How it wants to be delivered to, in place of all that it said before.
    pub policy: Option<Policy>,
}

/// How many jobs of a subscriber that is active no more are made ready at once; what is beyond them
/// ends when it is due.
pub(crate) const EXPEDITED_AT_ONCE: u32 = 10_000;

impl Store {
    /// Creates a subscriber, and its lane in the queue.
    ///
    /// # Errors
    /// If the database is away, or the secret cannot be sealed.
    pub async fn create_subscriber(
        &self,
        tenant: &TenantId,
        new: NewSubscriber,
    ) -> Result<Subscriber, StoreError> {
        let now = self.ids.clock().now();
        let id: SubscriberId = self.ids.next();
        let state = if new.active {
            SubscriberState::Active
        } else {
            SubscriberState::Inactive { since: now, reason: DeactivationReason::Requested }
        };
        let header_names = new.headers.names().map(str::to_owned).collect();
        let row = subscribers::Model {
            id: id.uuid(),
            tenant: tenant.as_str().into(),
            url: new.url.as_str().into(),
            description: new.description.clone(),
            secret: self.seal(tenant, id, Purpose::Secret, new.secret.expose().as_bytes())?,
            previous_secret: None,
            previous_secret_until: None,
            headers: self.seal_headers(tenant, id, &new.headers)?,
            policy: policy_text(&new.policy),
            active: new.active,
            deactivated_at: (!new.active).then(|| now.millis()),
            deactivation_reason: (!new.active).then(|| DeactivationReason::Requested.code()),
            created_at: now.millis(),
            updated_at: now.millis(),
        };
        let row: subscribers::ActiveModel = row.into();
        let transaction = self.database.begin().await?;
        subscribers::Entity::insert(row.reset_all()).exec_without_returning(&transaction).await?;
        subscribe(&transaction, tenant, id, &new.events).await?;
        self.queue.configure_in(&transaction, LaneId(id.uuid()), lane_settings(&new.policy)).await?;
        transaction.commit().await?;
        Ok(Subscriber {
            id,
            tenant: tenant.clone(),
            url: new.url,
            events: new.events,
            description: new.description,
            header_names,
            state,
            policy: new.policy,
            health: Health::default(),
            created_at: now,
            updated_at: now,
        })
    }

    /// A subscriber of the tenant's.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn subscriber(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
    ) -> Result<Option<Subscriber>, StoreError> {
        let row = find(tenant, id).one(self.database.connection()).await?;
        Ok(self.with_events(row.into_iter().collect()).await?.pop())
    }

    /// The tenant's subscribers, newest first.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn subscribers(
        &self,
        tenant: &TenantId,
        page: PageRequest<id::Subscriber>,
    ) -> Result<Page<Subscriber, id::Subscriber>, StoreError> {
        let mut query = subscribers::Entity::find().filter(subscribers::Column::Tenant.eq(tenant.as_str()));
        if let Some(before) = page.before {
            query = query.filter(subscribers::Column::Id.lt(before.uuid()));
        }
        let query = query.order_by_desc(subscribers::Column::Id).limit(u64::from(page.limit) + 1);
        let rows = query.all(self.database.connection()).await?;
        let items = self.with_events(rows).await?;
        Ok(Page::cut(items, page.limit, |subscriber| subscriber.id))
    }

    /// Changes a subscriber. What is changed counts from the next attempt on.
    ///
    /// # Errors
    /// If the database is away, or the headers cannot be sealed.
    pub async fn change_subscriber(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        change: SubscriberChange,
    ) -> Result<Option<Subscriber>, StoreError> {
        let now = self.ids.clock().now();
        let transaction = self.database.begin().await?;
        let mut update = update(tenant, id).col_expr(subscribers::Column::UpdatedAt, Expr::val(now.millis()));
        if let Some(url) = &change.url {
            update = update.col_expr(subscribers::Column::Url, Expr::val(url.as_str()));
        }
        if let Some(description) = &change.description {
            update = update.col_expr(subscribers::Column::Description, Expr::val(description.as_str()));
        }
        if let Some(headers) = &change.headers {
            let sealed = self.seal_headers(tenant, id, headers)?;
            update = update.col_expr(subscribers::Column::Headers, Expr::val(Value::Bytes(sealed)));
        }
        if let Some(policy) = &change.policy {
            update = update.col_expr(subscribers::Column::Policy, Expr::val(policy_text(policy)));
        }
        if let Some(active) = change.active {
            update = set_active(update, active, DeactivationReason::Requested, now);
        }
        if update.exec(&transaction).await?.rows_affected == 0 {
            return Ok(None);
        }
        if let Some(events) = &change.events {
            let old = subscriptions::Column::SubscriberId.eq(id.uuid());
            subscriptions::Entity::delete_many().filter(old).exec(&transaction).await?;
            subscribe(&transaction, tenant, id, events).await?;
        }
        if change.active == Some(true) || change.url.is_some() {
            // Another chance, or another receiver.
            self.reset_health(&transaction, id).await?;
        }
        if change.active == Some(false) {
            self.expedite_lane(&transaction, id).await?;
        }
        if let Some(policy) = &change.policy {
            self.queue.configure_in(&transaction, LaneId(id.uuid()), lane_settings(policy)).await?;
        }
        transaction.commit().await?;
        self.queue.wake();
        self.subscriber(tenant, id).await
    }

    /// Deletes a subscriber. Its history stays; what is pending ends `cancelled`.
    ///
    /// Tells whether there was one.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn delete_subscriber(&self, tenant: &TenantId, id: SubscriberId) -> Result<bool, StoreError> {
        let transaction = self.database.begin().await?;
        let delete = subscribers::Entity::delete_many()
            .filter(subscribers::Column::Id.eq(id.uuid()))
            .filter(subscribers::Column::Tenant.eq(tenant.as_str()));
        let deleted = delete.exec(&transaction).await?.rows_affected > 0;
        if deleted {
            self.expedite_lane(&transaction, id).await?;
            transaction.commit().await?;
            self.queue.wake();
        }
        Ok(deleted)
    }

    /// Nothing is wanted for this subscriber any more: its jobs need not wait to find that out.
    pub(crate) async fn expedite_lane(
        &self,
        transaction: &DatabaseTransaction,
        id: SubscriberId,
    ) -> Result<(), StoreError> {
        self.reset_health(transaction, id).await?;
        self.queue.expedite_in(transaction, LaneId(id.uuid()), EXPEDITED_AT_ONCE).await?;
        Ok(())
    }

    /// A subscriber's secret.
    ///
    /// # Errors
    /// If the database is away, or the secret cannot be opened.
    pub async fn secret(&self, tenant: &TenantId, id: SubscriberId) -> Result<Option<Secret>, StoreError> {
        let row = find(tenant, id).one(self.database.connection()).await?;
        row.map(|row| self.open_secret(tenant, id, Purpose::Secret, &row.secret)).transpose()
    }

    /// Gives a subscriber a new secret. For `overlap` the old one signs beside it.
    ///
    /// Tells whether there was such a subscriber.
    ///
    /// # Errors
    /// If the database is away, or a secret cannot be sealed or opened.
    pub async fn rotate_secret(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        secret: &Secret,
        overlap: Duration,
    ) -> Result<bool, StoreError> {
        let now = self.ids.clock().now();
        let transaction = self.database.begin().await?;
        // Two rotations at once: the second one must see the first one's secret.
        let locked = if self.database.dialect() == Dialect::Postgres {
            find(tenant, id).lock_exclusive()
        } else {
            find(tenant, id)
        };
        let Some(row) = locked.one(&transaction).await? else { return Ok(false) };
        let old = self.open_secret(tenant, id, Purpose::Secret, &row.secret)?;
        let previous = if overlap.is_zero() {
            None
        } else {
            Some(self.seal(tenant, id, Purpose::PreviousSecret, old.expose().as_bytes())?)
        };
        let until = previous.is_some().then(|| (now + overlap).millis());
        let sealed = self.seal(tenant, id, Purpose::Secret, secret.expose().as_bytes())?;
        update(tenant, id)
            .col_expr(subscribers::Column::Secret, Expr::val(sealed))
            .col_expr(subscribers::Column::PreviousSecret, Expr::val(Value::Bytes(previous)))
            .col_expr(subscribers::Column::PreviousSecretUntil, Expr::val(Value::BigInt(until)))
            .col_expr(subscribers::Column::UpdatedAt, Expr::val(now.millis()))
            .exec(&transaction)
            .await?;
        transaction.commit().await?;
        Ok(true)
    }

    /// Sees that the keyring opens what is stored, so that a wrong key is found at start and not by
    /// the first delivery.
    ///
    /// # Errors
    /// If the database is away, or the newest subscriber's secret cannot be opened.
    pub async fn check_keyring(&self) -> Result<(), StoreError> {
        let newest = subscribers::Entity::find().order_by_desc(subscribers::Column::Id);
        if let Some(row) = newest.one(self.database.connection()).await? {
            let tenant: TenantId = parse(&row.tenant, "subscribers", "tenant")?;
            self.open_secret(&tenant, SubscriberId::from_uuid(row.id), Purpose::Secret, &row.secret)?;
        }
        Ok(())
    }

    async fn with_events(&self, rows: Vec<subscribers::Model>) -> Result<Vec<Subscriber>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let found = subscriptions::Entity::find()
            .filter(subscriptions::Column::SubscriberId.is_in(ids))
            .order_by_asc(subscriptions::Column::Pattern);
        let mut events: HashMap<_, Vec<EventPattern>> = HashMap::new();
        for row in found.all(self.database.connection()).await? {
            events.entry(row.subscriber_id).or_default().push(parse(
                &row.pattern,
                "subscriptions",
                "pattern",
            )?);
        }
        let health = self.health_of(rows.iter().map(|row| SubscriberId::from_uuid(row.id))).await?;
        rows.into_iter()
            .map(|row| {
                let events = events.remove(&row.id).unwrap_or_default();
                let health = health.get(&SubscriberId::from_uuid(row.id)).copied().unwrap_or_default();
                self.read(row, events, health)
            })
            .collect()
    }

    fn read(
        &self,
        row: subscribers::Model,
        events: Vec<EventPattern>,
        health: Health,
    ) -> Result<Subscriber, StoreError> {
        let id = SubscriberId::from_uuid(row.id);
        let tenant: TenantId = parse(&row.tenant, "subscribers", "tenant")?;
        let headers = self.open_headers(&tenant, id, row.headers.as_deref())?;
        let state = if row.active {
            SubscriberState::Active
        } else {
            SubscriberState::Inactive {
                since: timestamp(row.deactivated_at).unwrap_or(Timestamp::from_millis(row.updated_at)),
                reason: row
                    .deactivation_reason
                    .and_then(DeactivationReason::from_code)
                    .unwrap_or(DeactivationReason::Requested),
            }
        };
        Ok(Subscriber {
            id,
            url: target(&row.url)?,
            events,
            description: row.description,
            header_names: headers.names().map(str::to_owned).collect(),
            state,
            policy: read_policy(&row.policy)?,
            health,
            created_at: Timestamp::from_millis(row.created_at),
            updated_at: Timestamp::from_millis(row.updated_at),
            tenant,
        })
    }

    fn seal(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        purpose: Purpose,
        plain: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let context = SealContext { tenant, subscriber: id, purpose };
        Ok(self.keyring.seal(&**self.ids.random(), &context, plain)?)
    }

    fn seal_headers(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        headers: &CustomHeaders,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        if headers.is_empty() {
            return Ok(None);
        }
        self.seal(tenant, id, Purpose::Headers, &headers.to_bytes()).map(Some)
    }

    pub(crate) fn open_secret(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        purpose: Purpose,
        sealed: &[u8],
    ) -> Result<Secret, StoreError> {
        let plain = self.keyring.open(&SealContext { tenant, subscriber: id, purpose }, sealed)?;
        let text = std::str::from_utf8(&plain)
            .map_err(|_| DatabaseError::inconsistent("subscribers", "secret", "not text"))?;
        // The reason is left out: it could tell something of the secret.
        Secret::parse(text)
            .map_err(|_| DatabaseError::inconsistent("subscribers", "secret", "no secret").into())
    }

    pub(crate) fn open_headers(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        sealed: Option<&[u8]>,
    ) -> Result<CustomHeaders, StoreError> {
        let Some(sealed) = sealed else { return Ok(CustomHeaders::default()) };
        let plain =
            self.keyring.open(&SealContext { tenant, subscriber: id, purpose: Purpose::Headers }, sealed)?;
        CustomHeaders::from_bytes(&plain)
            .map_err(|error| DatabaseError::inconsistent("subscribers", "headers", &error).into())
    }
}

fn find(tenant: &TenantId, id: SubscriberId) -> sea_orm::Select<subscribers::Entity> {
    subscribers::Entity::find_by_id(id.uuid()).filter(subscribers::Column::Tenant.eq(tenant.as_str()))
}

fn update(tenant: &TenantId, id: SubscriberId) -> sea_orm::UpdateMany<subscribers::Entity> {
    subscribers::Entity::update_many()
        .filter(subscribers::Column::Id.eq(id.uuid()))
        .filter(subscribers::Column::Tenant.eq(tenant.as_str()))
}

fn set_active(
    update: sea_orm::UpdateMany<subscribers::Entity>,
    active: bool,
    reason: DeactivationReason,
    now: Timestamp,
) -> sea_orm::UpdateMany<subscribers::Entity> {
    let since = (!active).then(|| now.millis());
    let reason = (!active).then(|| reason.code());
    update
        .col_expr(subscribers::Column::Active, Expr::val(active))
        .col_expr(subscribers::Column::DeactivatedAt, Expr::val(Value::BigInt(since)))
        .col_expr(subscribers::Column::DeactivationReason, Expr::val(Value::SmallInt(reason)))
}

/// Deactivates a subscriber, and tells whether it was active; within a transaction of the store's.
pub(crate) async fn deactivate(
    transaction: &DatabaseTransaction,
    id: SubscriberId,
    reason: DeactivationReason,
) -> Result<bool, StoreError> {
    let now = Dialect::of(transaction).now();
    let sql = format!(
        "UPDATE subscribers SET active = false, deactivated_at = {now}, deactivation_reason = $2, updated_at = {now} \
         WHERE id = $1 AND active"
    );
    let values: [Value; 2] = [id.uuid().into(), reason.code().into()];
    let statement = Statement::from_sql_and_values(transaction.get_database_backend(), sql, values);
    Ok(transaction.execute_raw(statement).await?.rows_affected() > 0)
}

async fn subscribe(
    transaction: &DatabaseTransaction,
    tenant: &TenantId,
    id: SubscriberId,
    events: &[EventPattern],
) -> Result<(), StoreError> {
    const PATTERN: &[Column] = &[Column::new("pattern", Kind::Text)];
    let mut input = Batch::new(PATTERN);
    for pattern in events {
        input.push([pattern.as_str().into()]);
    }
    let sql = "INSERT INTO subscriptions (tenant, pattern, subscriber_id) SELECT DISTINCT $1, pattern, $2 FROM input";
    let sql = if Dialect::of(transaction) == Dialect::Postgres {
        "INSERT INTO subscriptions (tenant, pattern, subscriber_id) SELECT DISTINCT $1::text, pattern, $2::uuid FROM input"
    } else {
        sql
    };
    input.execute(transaction, sql, [tenant.as_str().into(), id.uuid().into()]).await?;
    Ok(())
}

fn lane_settings(policy: &Policy) -> LaneSettings {
    LaneSettings {
        concurrency: policy.concurrency(),
        ordered: policy.ordered(),
        rate: policy.rate_limit().map(|rate| LaneRate { interval: rate.interval, burst: rate.burst }),
    }
}

fn policy_text(policy: &Policy) -> String {
    // A struct of numbers and texts always has a JSON form.
    serde_json::to_string(policy.fields()).unwrap_or_else(|_| "{}".into())
}

pub(crate) fn read_policy(text: &str) -> Result<Policy, StoreError> {
    let wrong = |error: &dyn std::fmt::Display| {
        DatabaseError::inconsistent("subscribers", "policy", &error.to_string())
    };
    let fields: PolicyFields = serde_json::from_str(text).map_err(|error| wrong(&error))?;
    Ok(Policy::try_from(fields).map_err(|error| wrong(&error))?)
}
