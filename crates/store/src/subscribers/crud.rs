//! Creating, reading, changing and deleting subscribers.

use std::collections::BTreeSet;

use postrider_core::audit::AuditAction;
use postrider_core::keyring::Purpose;
use postrider_core::{
    Channels, DeactivationReason, Expression, SubscriberId, SubscriberUid, TenantId, Timestamp,
};
use postrider_database::Transaction;
use postrider_queue::{Draining, Hold};
use sea_orm::sea_query::Expr;
use sea_orm::{ActiveModelTrait as _, DbErr, EntityTrait, QuerySelect, SqlErr, Value};
use serde_json::Value as Json;

use super::counts::{self, CountChange};
use super::patterns;
use super::query::{delete, find, update};
use super::secrets::{open_auth, open_headers, seal, seal_auth, seal_headers};
use super::stored::{
    format_text, lane_settings, plugin_text, read, read_format, read_plugin, read_policy, read_transform,
    set_active, set_auth, set_content, set_notify, transform_text, warn_at,
};
use super::subscriber::{Changing, NewSubscriber, ShownAuth, Subscriber, SubscriberChange, SubscriberState};
use crate::entity::subscribers;
use crate::health::{Health, deactivate::drain_lane, state};
use crate::plugins;
use crate::queue_ids::lane_of;
use crate::row::{metadata_text, read_channels, read_metadata, target};
use crate::versions;
use crate::{Store, StoreError};

impl Store {
    /// Creates a subscriber, and its lane in the queue.
    ///
    /// # Errors
    /// Fails if the database is unavailable, the secret cannot be encrypted, or the uid is taken.
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
        let secret = new.secret.expose().as_bytes();
        let header_names = new.headers.names().map(str::to_owned).collect();
        let row = subscribers::Model {
            id: id.uuid(),
            tenant: tenant.as_str().into(),
            url: new.url.as_str().into(),
            description: new.description.clone(),
            secret: seal(&self.keyring, &self.ids, tenant, id, Purpose::Secret, secret)?,
            previous_secret: None,
            previous_secret_until: None,
            older_secrets: None,
            older_secrets_until: None,
            headers: seal_headers(&self.keyring, &self.ids, tenant, id, &new.headers)?,
            policy: new.policy.to_json(),
            format: format_text(&new.format),
            active: new.active,
            deactivated_at: (!new.active).then(|| now.millis()),
            deactivation_reason: (!new.active).then(|| DeactivationReason::Requested.code()),
            paused_at: None,
            created_at: now.millis(),
            updated_at: now.millis(),
            uid: new.uid.as_ref().map(|uid| uid.as_str().into()),
            metadata: metadata_text(&new.metadata),
            channels: new.channels.as_ref().map(|channels| channels.as_str().into()),
            filter: new.filter.as_ref().map(|filter| filter.as_str().into()),
            filter_id: new.filter.as_ref().map(|filter| filter.id().uuid()),
            transform: new.transform.as_ref().map(transform_text),
            auth: seal_auth(&self.keyring, &self.ids, tenant, id, new.auth.as_ref())?,
            auth_expires_at: new.auth.as_ref().and_then(|new| new.expires_at).map(Timestamp::millis),
            auth_warn_at: new.auth.as_ref().and_then(warn_at),
            notify_url: new.notify.url.as_ref().map(|url| url.as_str().into()),
            notify_email: new.notify.email.as_ref().map(|email| email.as_str().into()),
            plugin: plugin_text(new.plugin.as_ref()),
            plugin_name: new.plugin.as_ref().map(|plugin| plugin.name.as_str().into()),
            matching_since_at: Some(now.millis()),
        };
        let row: subscribers::ActiveModel = row.into();
        let transaction = self.database.begin().await?;
        let tenant_is_active = self.lock_activity(&transaction, tenant).await?;
        let inserted =
            subscribers::Entity::insert(row.reset_all()).exec_without_returning(&transaction).await;
        inserted.map_err(uid_taken)?;
        if let Some(plugin) = &new.plugin {
            plugins::keep(&transaction, &plugin.name).await?;
        }
        patterns::insert(&transaction, tenant, id, &new.events, new.channels.as_ref()).await?;
        self.queue
            .configure_in(&transaction, lane_of(id), tenant.as_str(), lane_settings(&new.policy))
            .await?;
        if !tenant_is_active {
            self.queue.hold_in(&transaction, &[lane_of(id)], tenant.as_str(), Hold::Owner).await?;
        }
        counts::add(&transaction, [(tenant, id, CountChange::created(new.active))]).await?;
        let after = self.subscriber_json(&transaction, tenant, id).await?;
        self.audit(&transaction, tenant, AuditAction::SubscriberCreated, id, Json::Null, after).await?;
        transaction.commit().await?;
        self.queue.lanes_changed();
        Ok(Subscriber {
            id,
            tenant: tenant.clone(),
            url: new.url,
            events: new.events,
            description: new.description,
            header_names: Some(header_names),
            state,
            paused_at: None,
            policy: new.policy,
            format: new.format,
            plugin: new.plugin,
            uid: new.uid,
            metadata: new.metadata,
            channels: new.channels,
            filter: new.filter,
            transform: new.transform,
            auth: new.auth.map(|new| ShownAuth {
                fields: Some(new.auth.fields().without_secrets()),
                expires_at: new.expires_at,
            }),
            notify: new.notify,
            health: Health::default(),
            created_at: now,
            updated_at: now,
            matching_since: now,
        })
    }

    /// Returns a subscriber of the tenant.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn subscriber(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
    ) -> Result<Option<Subscriber>, StoreError> {
        let row = find(tenant, id).one(&self.database.reads()).await?;
        Ok(self.read_subscribers(row.into_iter().collect()).await?.pop())
    }

    /// Changes a subscriber. The change takes effect with the next attempt of each delivery.
    ///
    /// # Errors
    /// Fails if the database is unavailable or the headers cannot be encrypted.
    pub async fn change_subscriber(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        change: SubscriberChange,
    ) -> Result<Option<Subscriber>, StoreError> {
        self.change_subscriber_with(tenant, id, |_| Ok(change)).await
    }

    /// Reads a subscriber, passes its present state to `change`, and writes the change that this returns. The row is locked
    /// throughout.
    ///
    /// # Errors
    /// Fails if the database is unavailable, the headers cannot be encrypted, the uid is taken, or with the error of `change`.
    pub async fn change_subscriber_with<E: From<StoreError>>(
        &self,
        tenant: &TenantId,
        id: SubscriberId,
        change: impl FnOnce(Changing<'_>) -> Result<SubscriberChange, E>,
    ) -> Result<Option<Subscriber>, E> {
        let locked = async {
            let transaction = self.database.begin().await?;
            let row = find(tenant, id).lock_exclusive().one(&transaction).await?;
            let Some(row) = row else { return Ok(None) };
            let (url, policy) = (target(&row.url, id)?, read_policy(&row.policy, id)?);
            let format = read_format(row.format.as_deref(), id)?;
            let plugin = read_plugin(row.plugin_name.as_deref(), row.plugin.as_deref(), id)?;
            let metadata = read_metadata(row.metadata.as_deref(), "subscribers", id)?;
            let transform = read_transform(row.transform.as_deref(), id)?;
            Ok::<_, StoreError>(Some((transaction, row, (url, policy, format, plugin, metadata, transform))))
        };
        let Some((transaction, row, present)) = locked.await? else { return Ok(None) };
        let (url, policy, format, plugin, metadata, transform) = present;
        let change = {
            let open_headers = || open_headers(&self.keyring, tenant, id, row.headers.as_deref());
            let open_auth = || open_auth(&self.keyring, tenant, id, row.auth.as_deref());
            let has_auth = row.auth.is_some();
            change(Changing {
                url,
                policy,
                format,
                plugin,
                metadata,
                transform,
                has_auth,
                open_headers: &open_headers,
                open_auth: &open_auth,
            })?
        };
        let writing = async {
            let before = self.subscriber_json(&transaction, tenant, id).await?;
            self.write_change(&transaction, tenant, id, &row, &change).await?;
            let after = self.subscriber_json(&transaction, tenant, id).await?;
            self.audit(&transaction, tenant, AuditAction::SubscriberChanged, id, before, after).await
        };
        writing.await?;
        transaction.commit().await.map_err(StoreError::from)?;
        self.queue.lanes_changed();
        self.queue.wake(&[lane_of(id)]);
        Ok(self.subscriber(tenant, id).await?)
    }

    /// Writes a change to a subscriber, whose row is locked.
    async fn write_change(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
        id: SubscriberId,
        row: &subscribers::Model,
        change: &SubscriberChange,
    ) -> Result<(), StoreError> {
        let now = self.ids.clock().now();
        // What is asked for may be so already.
        let activity = change.active.filter(|active| *active != row.active);
        let moved = change.url.as_ref().is_some_and(|url| url.as_str() != row.url);
        let mut update = update(tenant, id).col_expr(subscribers::Column::UpdatedAt, Expr::val(now.millis()));
        if activity.is_some() || changes_matching(transaction, id, row, change).await? {
            versions::keep(transaction, id, Some(now)).await?;
            update = update.col_expr(subscribers::Column::MatchingSinceAt, Expr::val(Some(now.millis())));
        }
        if let Some(url) = &change.url {
            update = update.col_expr(subscribers::Column::Url, Expr::val(url.as_str()));
        }
        if let Some(description) = &change.description {
            update = update.col_expr(subscribers::Column::Description, Expr::val(description.as_str()));
        }
        if let Some(headers) = &change.headers {
            let sealed = seal_headers(&self.keyring, &self.ids, tenant, id, headers)?;
            update = update.col_expr(subscribers::Column::Headers, Expr::val(Value::Bytes(sealed)));
        }
        if let Some(policy) = &change.policy {
            update = update.col_expr(subscribers::Column::Policy, Expr::val(policy.to_json()));
        }
        if let Some(format) = &change.format {
            update = update.col_expr(subscribers::Column::Format, Expr::val(format_text(format)));
        }
        if let Some(plugin) = &change.plugin {
            if let Some(plugin) = plugin {
                plugins::keep(transaction, &plugin.name).await?;
            }
            let name = plugin.as_ref().map(|plugin| plugin.name.as_str());
            update = update
                .col_expr(subscribers::Column::Plugin, Expr::val(Value::String(plugin_text(plugin.as_ref()))))
                .col_expr(subscribers::Column::PluginName, Expr::val(text_or_null(name)));
        }
        if let Some(secret) = &change.secret {
            let secret = secret.expose().as_bytes();
            let sealed = seal(&self.keyring, &self.ids, tenant, id, Purpose::Secret, secret)?;
            update = update
                .col_expr(subscribers::Column::Secret, Expr::val(sealed))
                .col_expr(subscribers::Column::PreviousSecret, Expr::val(Value::Bytes(None)))
                .col_expr(subscribers::Column::PreviousSecretUntil, Expr::val(Value::BigInt(None)))
                .col_expr(subscribers::Column::OlderSecrets, Expr::val(Value::Bytes(None)))
                .col_expr(subscribers::Column::OlderSecretsUntil, Expr::val(Value::BigInt(None)));
        }
        if let Some(uid) = &change.uid {
            let uid = uid.as_ref().map(SubscriberUid::as_str);
            update = update.col_expr(subscribers::Column::Uid, Expr::val(text_or_null(uid)));
        }
        if let Some(metadata) = &change.metadata {
            let metadata = metadata_text(metadata);
            update = update.col_expr(subscribers::Column::Metadata, Expr::val(Value::String(metadata)));
        }
        if let Some(channels) = &change.channels {
            let channels = channels.as_ref().map(Channels::as_str);
            update = update.col_expr(subscribers::Column::Channels, Expr::val(text_or_null(channels)));
        }
        update = set_content(update, change.filter.as_ref(), change.transform.as_ref());
        if let Some(auth) = &change.auth {
            let sealed = seal_auth(&self.keyring, &self.ids, tenant, id, auth.as_ref())?;
            update = set_auth(update, sealed, auth.as_ref());
        }
        update = set_notify(update, change.notify_url.as_ref(), change.notify_email.as_ref());
        if let Some(active) = activity {
            update = set_active(update, active, now);
        }
        let pause = change.paused.filter(|paused| *paused != row.paused_at.is_some());
        if let Some(paused) = pause {
            let since = paused.then(|| now.millis());
            update = update.col_expr(subscribers::Column::PausedAt, Expr::val(Value::BigInt(since)));
        }
        update.exec(transaction).await.map_err(uid_taken)?;
        if change.events.is_some() || change.channels.is_some() {
            let events = match &change.events {
                Some(events) => events.clone(),
                None => patterns::of(transaction, &[id.uuid()]).await?.remove(&id.uuid()).unwrap_or_default(),
            };
            let channels = match &change.channels {
                Some(channels) => channels.clone(),
                None => read_channels(row.channels.as_deref(), "subscribers", id)?,
            };
            patterns::delete(transaction, id).await?;
            patterns::insert(transaction, tenant, id, &events, channels.as_ref()).await?;
        }
        if let Some(policy) = &change.policy {
            self.queue.configure_in(transaction, lane_of(id), tenant.as_str(), lane_settings(policy)).await?;
        }
        self.change_lane(transaction, tenant, id, (activity, pause)).await?;
        if change.forget_failures || activity == Some(true) || moved {
            state::reset(&*self.queue, transaction, id).await?;
        }
        let counted = activity.map_or_else(CountChange::default, |is| CountChange::activity(row.active, is));
        counts::add(transaction, [(tenant, id, counted)]).await
    }

    /// Drains or holds the lane of a subscriber whose activity or pause changes.
    async fn change_lane(
        &self,
        transaction: &Transaction,
        tenant: &TenantId,
        id: SubscriberId,
        (activity, pause): (Option<bool>, Option<bool>),
    ) -> Result<(), StoreError> {
        match activity {
            Some(false) => drain_lane(&*self.queue, transaction, id, Draining::Yes).await?,
            // What has not been ended by now is delivered after all.
            Some(true) => self.queue.drain_in(transaction, lane_of(id), Draining::No).await?,
            None => {}
        }
        match pause {
            Some(true) => {
                self.queue.hold_in(transaction, &[lane_of(id)], tenant.as_str(), Hold::Lane).await?;
            }
            Some(false) => self.queue.release_in(transaction, &[lane_of(id)], Hold::Lane).await?,
            None => {}
        }
        Ok(())
    }

    /// Deletes a subscriber. Its events, deliveries and attempts stay; pending deliveries end as cancelled.
    ///
    /// Returns whether the tenant had the subscriber.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn delete_subscriber(&self, tenant: &TenantId, id: SubscriberId) -> Result<bool, StoreError> {
        let transaction = self.database.begin().await?;
        let before = self.subscriber_json(&transaction, tenant, id).await?;
        let Some(was_active) = delete(&transaction, tenant, id).await? else { return Ok(false) };
        drain_lane(&*self.queue, &transaction, id, Draining::ThenRemoved).await?;
        counts::add(&transaction, [(tenant, id, CountChange::deleted(was_active))]).await?;
        self.audit(&transaction, tenant, AuditAction::SubscriberDeleted, id, before, Json::Null).await?;
        transaction.commit().await?;
        self.queue.lanes_changed();
        self.queue.wake(&[lane_of(id)]);
        Ok(true)
    }

    /// Reads the patterns and the health of these subscribers.
    pub(super) async fn read_subscribers(
        &self,
        rows: Vec<subscribers::Model>,
    ) -> Result<Vec<Subscriber>, StoreError> {
        if rows.is_empty() {
            return Ok(Vec::new());
        }
        let ids: Vec<_> = rows.iter().map(|row| row.id).collect();
        let mut events = patterns::of(&self.database.reads(), &ids).await?;
        let ids = rows.iter().map(|row| SubscriberId::from_uuid(row.id));
        let health = state::read(&self.database, ids).await?;
        rows.into_iter()
            .map(|row| {
                let events = events.remove(&row.id).unwrap_or_default();
                let health = health.get(&SubscriberId::from_uuid(row.id)).copied().unwrap_or_default();
                read(&self.keyring, row, events, health)
            })
            .collect()
    }
}

/// Returns whether a change of patterns, channels or filter changes which events a subscriber receives.
async fn changes_matching(
    transaction: &Transaction,
    id: SubscriberId,
    row: &subscribers::Model,
    change: &SubscriberChange,
) -> Result<bool, StoreError> {
    let differs = |new: Option<&str>, present: &Option<String>| new != present.as_deref();
    let channels = change.channels.as_ref().map(|channels| channels.as_ref().map(Channels::as_str));
    let filter = change.filter.as_ref().map(|filter| filter.as_ref().map(Expression::as_str));
    if channels.is_some_and(|new| differs(new, &row.channels))
        || filter.is_some_and(|new| differs(new, &row.filter))
    {
        return Ok(true);
    }
    let Some(events) = &change.events else { return Ok(false) };
    let present = patterns::of(transaction, &[id.uuid()]).await?.remove(&id.uuid()).unwrap_or_default();
    Ok(events.iter().collect::<BTreeSet<_>>() != present.iter().collect())
}

/// The only unique columns that a caller chooses are the tenant and the uid.
fn uid_taken(error: DbErr) -> StoreError {
    match error.sql_err() {
        Some(SqlErr::UniqueConstraintViolation(_)) => StoreError::UidTaken,
        _ => error.into(),
    }
}

fn text_or_null(text: Option<&str>) -> Value {
    Value::String(text.map(str::to_owned))
}
