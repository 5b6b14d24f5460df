//! Between rows of subscribers and their types.

use std::time::Duration;

use postrider_core::format::Format;
use postrider_core::plugin::{PluginConfig, SelectedPlugin};
use postrider_core::subscriber::PolicyFields;
use postrider_core::{
    DeactivationReason, EmailAddress, EventPattern, Expression, Keyring, Policy, SubscriberId, TargetUrl,
    TenantId, Timestamp, Transform,
};
use postrider_database::DatabaseError;
use postrider_queue::{LaneRate, LaneSettings};
use sea_orm::Value;
use sea_orm::sea_query::Expr;

use super::secrets;
use super::subscriber::{NewAuth, Notify, ShownAuth, Subscriber, SubscriberState};
use crate::StoreError;
use crate::entity::subscribers;
use crate::health::Health;
use crate::row::{parse, read_channels, read_metadata, target, timestamp};

/// Reads a subscriber from its row.
pub(super) fn read(
    keyring: &Keyring,
    row: subscribers::Model,
    events: Vec<EventPattern>,
    health: Health,
) -> Result<Subscriber, StoreError> {
    let id = SubscriberId::from_uuid(row.id);
    let tenant: TenantId = parse(&row.tenant, "subscribers", "tenant", id)?;
    let headers = match secrets::open_headers(keyring, &tenant, id, row.headers.as_deref()) {
        Ok(headers) => Some(headers),
        // The subscriber can still be read, and be given new ones.
        Err(StoreError::Keyring(_)) => None,
        Err(error) => return Err(error),
    };
    let auth = match secrets::open_auth(keyring, &tenant, id, row.auth.as_deref()) {
        Ok(auth) => Ok(auth.map(|auth| auth.fields().without_secrets())),
        Err(StoreError::Keyring(_)) => Err(()),
        Err(error) => return Err(error),
    };
    let expires_at = timestamp(row.auth_expires_at);
    let auth = auth.map(|fields| fields.map(|fields| ShownAuth { fields: Some(fields), expires_at }));
    let auth = auth.unwrap_or(Some(ShownAuth { fields: None, expires_at }));
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
        uid: row.uid.as_deref().map(|uid| parse(uid, "subscribers", "uid", id)).transpose()?,
        metadata: read_metadata(row.metadata.as_deref(), "subscribers", id)?,
        channels: read_channels(row.channels.as_deref(), "subscribers", id)?,
        url: target(&row.url, id)?,
        events,
        description: row.description,
        header_names: headers.map(|headers| headers.names().map(str::to_owned).collect()),
        state,
        paused_at: timestamp(row.paused_at),
        policy: read_policy(&row.policy, id)?,
        format: read_format(row.format.as_deref(), id)?,
        filter: read_filter(row.filter.as_deref(), id)?,
        transform: read_transform(row.transform.as_deref(), id)?,
        auth,
        notify: read_notify(row.notify_url.as_deref(), row.notify_email.as_deref(), id)?,
        plugin: read_plugin(row.plugin_name.as_deref(), row.plugin.as_deref(), id)?,
        health,
        created_at: Timestamp::from_millis(row.created_at),
        updated_at: Timestamp::from_millis(row.updated_at),
        matching_since: Timestamp::from_millis(row.matching_since_at.unwrap_or(row.updated_at)),
        tenant,
    })
}

/// Activates or deactivates a subscriber at its owner's request.
pub(super) fn set_active(
    update: sea_orm::UpdateMany<subscribers::Entity>,
    active: bool,
    now: Timestamp,
) -> sea_orm::UpdateMany<subscribers::Entity> {
    let since = (!active).then(|| now.millis());
    let reason = (!active).then(|| DeactivationReason::Requested.code());
    update
        .col_expr(subscribers::Column::Active, Expr::val(active))
        .col_expr(subscribers::Column::DeactivatedAt, Expr::val(Value::BigInt(since)))
        .col_expr(subscribers::Column::DeactivationReason, Expr::val(Value::SmallInt(reason)))
}

/// Changes how a subscriber's receiver is authenticated to. `sealed` is the encrypted form of `new`.
pub(super) fn set_auth(
    update: sea_orm::UpdateMany<subscribers::Entity>,
    sealed: Option<Vec<u8>>,
    new: Option<&NewAuth>,
) -> sea_orm::UpdateMany<subscribers::Entity> {
    let expires_at = new.and_then(|new| new.expires_at).map(Timestamp::millis);
    update
        .col_expr(subscribers::Column::Auth, Expr::val(Value::Bytes(sealed)))
        .col_expr(subscribers::Column::AuthExpiresAt, Expr::val(Value::BigInt(expires_at)))
        .col_expr(subscribers::Column::AuthWarnAt, Expr::val(Value::BigInt(new.and_then(warn_at))))
}

/// Changes where the owner of a subscriber is notified. `None` keeps an address, `Some(None)` removes it.
pub(super) fn set_notify(
    mut update: sea_orm::UpdateMany<subscribers::Entity>,
    url: Option<&Option<TargetUrl>>,
    email: Option<&Option<EmailAddress>>,
) -> sea_orm::UpdateMany<subscribers::Entity> {
    if let Some(url) = url {
        let url = url.as_ref().map(|url| url.as_str().to_owned());
        update = update.col_expr(subscribers::Column::NotifyUrl, Expr::val(Value::String(url)));
    }
    if let Some(email) = email {
        let email = email.as_ref().map(|email| email.as_str().to_owned());
        update = update.col_expr(subscribers::Column::NotifyEmail, Expr::val(Value::String(email)));
    }
    update
}

/// Where the owner of a subscriber is notified.
pub(crate) fn read_notify(
    url: Option<&str>,
    email: Option<&str>,
    subscriber: SubscriberId,
) -> Result<Notify, StoreError> {
    Ok(Notify {
        url: url.map(|url| parse(url, "subscribers", "notify_url", subscriber)).transpose()?,
        email: email.map(|email| parse(email, "subscribers", "notify_email", subscriber)).transpose()?,
    })
}

/// How long before a certificate expires its owner is warned.
const WARNED_BEFORE: Duration = Duration::from_hours(14 * 24);

/// When the owner is warned that a certificate expires.
pub(super) fn warn_at(new: &NewAuth) -> Option<i64> {
    new.expires_at.map(|expires_at| (expires_at - WARNED_BEFORE).millis())
}

/// The settings of the subscriber's lane.
pub(super) fn lane_settings(policy: &Policy) -> LaneSettings {
    LaneSettings {
        concurrency: policy.concurrency(),
        ordered: policy.ordered(),
        rate: policy.rate_limit().map(|rate| LaneRate { interval: rate.interval, burst: rate.burst }),
    }
}

/// Reads a policy from its stored form.
pub(crate) fn read_policy(text: &str, subscriber: SubscriberId) -> Result<Policy, StoreError> {
    let inconsistent = |error: &dyn std::fmt::Display| {
        DatabaseError::inconsistent("subscribers", "policy", subscriber, error)
    };
    let fields: PolicyFields = serde_json::from_str(text).map_err(|error| inconsistent(&error))?;
    Ok(Policy::try_from(fields).map_err(|error| inconsistent(&error))?)
}

/// A format in its stored form, JSON. `None` for the envelope.
pub(super) fn format_text(format: &Format) -> Option<String> {
    // A struct of strings always has a JSON form.
    (*format != Format::Postrider).then(|| serde_json::to_string(format).unwrap_or_default())
}

/// Reads a format from its stored form.
pub(crate) fn read_format(text: Option<&str>, subscriber: SubscriberId) -> Result<Format, StoreError> {
    let Some(text) = text else { return Ok(Format::Postrider) };
    let inconsistent = |error| DatabaseError::inconsistent("subscribers", "format", subscriber, error);
    Ok(serde_json::from_str(text).map_err(inconsistent)?)
}

/// Reads a filter from its stored form.
pub(super) fn read_filter(
    text: Option<&str>,
    subscriber: SubscriberId,
) -> Result<Option<Expression>, StoreError> {
    text.map(|text| parse(text, "subscribers", "filter", subscriber)).transpose()
}

/// A transform in its stored form, JSON.
pub(super) fn transform_text(transform: &Transform) -> String {
    // Texts, numbers and JSON values always have a JSON form.
    serde_json::to_string(transform).unwrap_or_default()
}

/// Reads a transform from its stored form.
pub(crate) fn read_transform(
    text: Option<&str>,
    subscriber: SubscriberId,
) -> Result<Option<Transform>, StoreError> {
    let inconsistent = |error| DatabaseError::inconsistent("subscribers", "transform", subscriber, error);
    Ok(text.map(|text| serde_json::from_str(text).map_err(inconsistent)).transpose()?)
}

/// The configuration of a plugin in its stored form, JSON.
pub(super) fn plugin_text(plugin: Option<&SelectedPlugin>) -> Option<String> {
    plugin.map(|plugin| plugin.config.to_json())
}

/// Reads a plugin and its configuration from their stored form.
pub(crate) fn read_plugin(
    name: Option<&str>,
    config: Option<&str>,
    subscriber: SubscriberId,
) -> Result<Option<SelectedPlugin>, StoreError> {
    let Some(name) = name else { return Ok(None) };
    let inconsistent = |error| DatabaseError::inconsistent("subscribers", "plugin", subscriber, error);
    let config: PluginConfig = serde_json::from_str(config.unwrap_or("{}")).map_err(inconsistent)?;
    Ok(Some(SelectedPlugin { name: parse(name, "subscribers", "plugin_name", subscriber)?, config }))
}

/// Changes which events a subscriber receives by their content, and what it gets of them.
pub(super) fn set_content(
    mut update: sea_orm::UpdateMany<subscribers::Entity>,
    filter: Option<&Option<Expression>>,
    transform: Option<&Option<Transform>>,
) -> sea_orm::UpdateMany<subscribers::Entity> {
    if let Some(filter) = filter {
        let text = filter.as_ref().map(|filter| filter.as_str().to_owned());
        let id = filter.as_ref().map(|filter| filter.id().uuid());
        update = update
            .col_expr(subscribers::Column::Filter, Expr::val(Value::String(text)))
            .col_expr(subscribers::Column::FilterId, Expr::val(Value::Uuid(id)));
    }
    if let Some(transform) = transform {
        let text = transform.as_ref().map(transform_text);
        update = update.col_expr(subscribers::Column::Transform, Expr::val(Value::String(text)));
    }
    update
}
