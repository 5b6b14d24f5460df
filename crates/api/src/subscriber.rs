//! Subscribers: created, changed and shown.

mod auth;
mod fields;
mod format;
mod query;

use std::collections::BTreeMap;

use postrider_core::auth::AuthFields;
use postrider_core::format::FormatName;
use postrider_core::subscriber::PolicyFields;
use postrider_core::{Channels, DeactivationReason, SubscriberId, SubscriberUid, only_objects};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

#[cfg(feature = "schema")]
use crate::policy::PolicySchema;
use crate::secret::SecretView;
use crate::transform::TransformFields;
use crate::{List, Moment};

pub use auth::AuthView;
pub use fields::{Change, HeaderChanges, HeaderPairs, Pairs};
pub use format::{FormatOptionChanges, FormatOptions};
pub use query::{SubscribersQuery, UrlPart, UrlPartError};

/// A subscriber to create.
// No Debug: it holds a secret.
#[derive(Clone, Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct SubscriberRequest {
    /// The endpoint: an `https` or `http` URL without user information, at an address that the server allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, required = true, max_length = 2048, example = "https://example.com/hook")
    )]
    pub url: Option<String>,
    /// The event patterns: event types, prefixes with `.*`, or `*` for all events.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(
            value_type = Vec<String>, required = true, min_items = 1, max_items = 100,
            example = json!(["order.*"])
        )
    )]
    pub events: Option<Vec<String>>,
    /// The secret that signs deliveries: 8 to 256 characters, or a `whsec_` or `whsk_` key. Default: the server
    /// generates one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(
            value_type = Option<String>, min_length = 8, max_length = 256,
            example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
        )
    )]
    pub secret: Option<Zeroizing<String>>,
    /// A description for people: up to 1000 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(max_length = 1000))]
    pub description: Option<String>,
    /// Headers to add to deliveries, by name. Their values are never shown again.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<std::collections::HashMap<String, String>>, example = json!({"authorization": "Bearer 1234"}))
    )]
    pub headers: Option<HeaderPairs>,
    /// Whether the subscriber receives events from the start. Default: true.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub active: Option<bool>,
    /// The delivery policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<PolicySchema>))]
    pub policy: Option<PolicyFields>,
    /// The format of the body. Default: `postrider`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, pattern = "^(postrider|standard|data|cloudevents|cloudevents-binary|slack|form)$", example = "cloudevents"))]
    pub format: Option<String>,
    /// What the format needs: a `template` for `slack`, and nothing for all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub format_options: Option<FormatOptions>,
    /// The plugin that changes what the subscriber receives. Default: none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<PluginChoice>))]
    pub plugin: Option<PluginChoice>,
    /// A name of your choice, unique among the tenant's subscribers: 1 to 128 characters of `A-Z a-z 0-9 . _ -`, not
    /// beginning with `sub_`. It is accepted wherever the id is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, pattern = "^[A-Za-z0-9._-]{1,128}$", example = "billing-eu")
    )]
    pub uid: Option<String>,
    /// Texts by name, up to 4096 bytes in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(example = json!({"team": "billing"})))]
    pub metadata: Option<BTreeMap<String, String>>,
    /// Channels: of the events that match its patterns, the subscriber receives those that share a channel with it. Default:
    /// none, and it receives all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 10, example = json!(["customer:42"]))
    )]
    pub channels: Option<Vec<String>>,
    /// A filter: a CEL expression over `event` and `data` that gives true or false. Of the events that match by pattern and
    /// channel, the subscriber receives those for which it is true. Default: all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, min_length = 1, max_length = 4096, example = "data.total > 100"))]
    pub filter: Option<String>,
    /// What is done with the data before it is sent. Default: nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<TransformFields>,
    /// How Postrider authenticates to the receiver. Default: only by its signatures and `headers`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthFields>,
    /// Where the subscriber's owner gets notices, such as that it will be deactivated: webhooks, signed with its secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, max_length = 2048, example = "https://example.com/notices")
    )]
    pub notify_url: Option<String>,
    /// Where the subscriber's owner gets the same as mail, if the deployment can send some.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, format = "email", max_length = 254, example = "ops@example.com")
    )]
    pub notify_email: Option<String>,
    /// For `PUT`: lets the secret go to another host when `url` moves there. Otherwise such a request must repeat the secret.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub keep_secrets: bool,
}

impl SubscriberRequest {
    /// An active subscriber with a generated secret and the default policy.
    pub fn new<E: Into<String>>(url: impl Into<String>, events: impl IntoIterator<Item = E>) -> Self {
        let events = events.into_iter().map(Into::into).collect();
        Self { url: Some(url.into()), events: Some(events), ..Self::default() }
    }
}

/// Changes to a subscriber: a JSON merge patch (RFC 7396). Fields that are absent keep their value; null resets a
/// description, a policy or one of its fields, and removes headers or one of them.
// No Debug: it may hold a secret.
#[derive(Default, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields, expecting = "an object")]
pub struct ChangeRequest {
    /// The endpoint.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = String, required = false, max_length = 2048, example = "https://example.com/hook")
    )]
    pub url: Change<String>,
    /// The event patterns. They replace all previous ones.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(
            value_type = Vec<String>, required = false, min_items = 1, max_items = 100,
            example = json!(["order.*"])
        )
    )]
    pub events: Change<Vec<String>>,
    /// A description for people: up to 1000 characters.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, max_length = 1000))]
    pub description: Change<String>,
    /// Headers to add to deliveries, change or remove (null), by name. Others stay as they are.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(
            value_type = Option<std::collections::HashMap<String, Option<String>>>,
            example = json!({"authorization": "Bearer 1234", "x-old": null})
        )
    )]
    pub headers: Change<HeaderChanges>,
    /// Whether the subscriber receives events.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = bool, required = false))]
    pub active: Change<bool>,
    /// Fields of the delivery policy to change. Others stay as they are.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<PolicySchema>))]
    pub policy: Change<serde_json::Map<String, serde_json::Value>>,
    /// The format of the body.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, pattern = "^(postrider|standard|data|cloudevents|cloudevents-binary|slack|form)$", example = "cloudevents"))]
    pub format: Change<String>,
    /// What the format needs. Another format forgets what it does not need.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<FormatOptions>))]
    pub format_options: Change<FormatOptionChanges>,
    /// The plugin, or members of its configuration to change. Another plugin begins without configuration; null takes the
    /// plugin away.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<PluginChoice>))]
    pub plugin: Change<PluginChanges>,
    /// The secret, if `url` moves to another host: the present one or another, which then signs at once and alone. In all
    /// other cases call `POST /v1/subscribers/{id}/secret/rotate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, min_length = 8, max_length = 256))]
    pub secret: Option<Zeroizing<String>>,
    /// Lets the secret and the headers go to another host when `url` moves there. Otherwise such a change must repeat the
    /// secret, and name every header.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(feature = "schema", schema(required = false))]
    pub keep_secrets: bool,
    /// A name of your choice, unique among the tenant's subscribers; null takes it away.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, pattern = "^[A-Za-z0-9._-]{1,128}$", example = "billing-eu")
    )]
    pub uid: Change<String>,
    /// Texts to add, change or remove (null), by name. Others stay as they are.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<BTreeMap<String, Option<String>>>, example = json!({"team": "billing", "old": null}))
    )]
    pub metadata: Change<BTreeMap<String, Option<String>>>,
    /// The channels. They replace all previous ones; null takes them away.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<Vec<String>>, min_items = 1, max_items = 10, example = json!(["customer:42"]))
    )]
    pub channels: Change<Vec<String>>,
    /// The filter; null takes it away.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, min_length = 1, max_length = 4096, example = "data.total > 100"))]
    pub filter: Change<String>,
    /// The transform, merged member by member; null takes it away. To replace steps by a projection, set `steps` to null.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<TransformFields>))]
    pub transform: Change<serde_json::Map<String, serde_json::Value>>,
    /// How Postrider authenticates to the receiver: fields to change or remove (null). Others stay as they are, unless `type`
    /// changes, which keeps only `ca`. Null takes all of it away.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(feature = "schema", schema(value_type = Option<AuthFields>))]
    pub auth: Change<serde_json::Map<String, serde_json::Value>>,
    /// Where the subscriber's owner gets notices as webhooks; null for nowhere.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, max_length = 2048, example = "https://example.com/notices")
    )]
    pub notify_url: Change<String>,
    /// Where the subscriber's owner gets notices as mail; null for nowhere.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    #[cfg_attr(
        feature = "schema",
        schema(value_type = Option<String>, format = "email", max_length = 254, example = "ops@example.com")
    )]
    pub notify_email: Change<String>,
}

/// A subscriber, without its secret and the values of its headers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Subscriber))]
pub struct SubscriberView {
    /// The subscriber's id.
    #[cfg_attr(feature = "schema", schema(value_type = String, example = "sub_01h455vb4pex5vsknk084sn02q"))]
    pub id: SubscriberId,
    /// The name that the application gave it; null if it has none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<String>, required, example = "billing-eu"))]
    pub uid: Option<SubscriberUid>,
    /// The endpoint.
    #[cfg_attr(feature = "schema", schema(example = "https://example.com/hook"))]
    pub url: String,
    /// The event patterns.
    #[cfg_attr(feature = "schema", schema(example = json!(["order.*"])))]
    pub events: Vec<String>,
    /// A description for people.
    pub description: String,
    /// The names of the headers that are added to deliveries; null if the server lacks the key that decrypts them.
    #[cfg_attr(feature = "schema", schema(required, example = json!(["authorization"])))]
    pub headers: Option<Vec<String>>,
    /// Whether the subscriber receives events.
    pub active: bool,
    /// When the subscriber was deactivated; null while it is active.
    #[cfg_attr(feature = "schema", schema(required))]
    pub deactivated_at: Option<Moment>,
    /// Why the subscriber is not active; null while it is active.
    #[cfg_attr(feature = "schema", schema(required))]
    pub deactivation_reason: Option<DeactivationReason>,
    /// When the subscriber was paused; null unless its deliveries wait until it is resumed.
    #[cfg_attr(feature = "schema", schema(required))]
    pub paused_at: Option<Moment>,
    /// The delivery policy. Absent fields follow the deployment's settings.
    #[cfg_attr(feature = "schema", schema(value_type = PolicySchema))]
    pub policy: PolicyFields,
    /// Stands for the policy in attempts.
    #[serde(default)]
    pub policy_version: String,
    /// The format of the body.
    pub format: FormatName,
    /// What the format needs.
    pub format_options: FormatOptions,
    /// The plugin that changes what the subscriber receives; null if it has none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub plugin: Option<PluginChoice>,
    /// Texts by name.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required, example = json!({"team": "billing"})))]
    pub metadata: BTreeMap<String, String>,
    /// The channels; null if it has none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(value_type = Option<Vec<String>>, required, example = json!(["customer:42"])))]
    pub channels: Option<Channels>,
    /// The filter; null if it has none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required, example = "data.total > 100"))]
    pub filter: Option<String>,
    /// What is done with the data before it is sent; null if nothing is.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub transform: Option<TransformFields>,
    /// Stands for the transform in attempts; null if there is none.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub transform_version: Option<String>,
    /// How Postrider authenticates to the receiver, without secrets; null if only by signatures and headers.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required))]
    pub auth: Option<AuthView>,
    /// Where the subscriber's owner gets notices as webhooks; null for nowhere.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required, example = "https://example.com/notices"))]
    pub notify_url: Option<String>,
    /// Where the subscriber's owner gets notices as mail; null for nowhere.
    #[serde(default)]
    #[cfg_attr(feature = "schema", schema(required, example = "ops@example.com"))]
    pub notify_email: Option<String>,
    /// The circuit breaker.
    pub breaker: BreakerView,
    /// When the subscriber was created.
    pub created_at: Moment,
    /// When the subscriber was last changed.
    pub updated_at: Moment,
}

/// A plugin that a subscriber chooses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(example = json!({"name": "redact", "config": {"fields": ["card"]}})))]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct PluginChoice {
    /// The name of an installed plugin.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = String, required = true, pattern = "^[a-z0-9][a-z0-9._-]{0,63}$"))]
    pub name: Option<String>,
    /// What the plugin is to do for this subscriber: an object of at most 4096 bytes. Its members are the plugin's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "schema", schema(value_type = Object))]
    pub config: Option<serde_json::Map<String, serde_json::Value>>,
}

/// Changes to the plugin of a subscriber.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self", expecting = "an object")]
pub struct PluginChanges {
    /// The name of an installed plugin.
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub name: Change<String>,
    /// Members of its configuration to add, change or remove (null).
    #[serde(default, skip_serializing_if = "Change::is_keep")]
    pub config: Change<serde_json::Map<String, serde_json::Value>>,
}

only_objects!(SubscriberRequest, PluginChoice, PluginChanges);

/// A circuit breaker. It opens after several failures in a row, and then nothing is sent for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = Breaker))]
pub struct BreakerView {
    /// The state.
    pub state: BreakerState,
    /// The number of failures in a row.
    pub failures: u32,
    /// Since when every attempt has failed; null if the last one succeeded.
    #[cfg_attr(feature = "schema", schema(required))]
    pub failing_since: Option<Moment>,
    /// Until when nothing is sent; null unless the breaker is open.
    #[cfg_attr(feature = "schema", schema(required))]
    pub open_until: Option<Moment>,
}

/// The state of a circuit breaker: `closed` (deliveries flow), `open` (nothing is sent) or `half_open` (one delivery at
/// a time is sent as a probe).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum BreakerState {
    /// Deliveries flow.
    Closed,
    /// Nothing is sent.
    Open,
    /// One delivery at a time is sent as a probe.
    HalfOpen,
}

/// A new subscriber with its secret.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(as = CreatedSubscriber))]
pub struct CreatedSubscriberView {
    /// The subscriber.
    #[serde(flatten)]
    pub subscriber: SubscriberView,
    /// Its secret.
    #[serde(flatten)]
    pub secret: SecretView,
}

/// A page of subscribers.
pub type SubscriberList = List<SubscriberView>;
