//! The types of subscribers.

use std::fmt;

use postrider_core::auth::AuthFields;
use postrider_core::format::Format;
use postrider_core::plugin::SelectedPlugin;
use postrider_core::{
    Channels, CustomHeaders, DeactivationReason, EmailAddress, EventPattern, Expression, Metadata, Policy,
    ReceiverAuth, Secret, SubscriberId, SubscriberUid, TargetUrl, TenantId, Timestamp, Transform,
};

#[cfg(doc)]
use super::previous::MAX_PREVIOUS;
use super::previous::PreviousSecret;
use crate::StoreError;
use crate::health::Health;

/// A subscriber, without its secrets.
#[derive(Clone, Debug)]
pub struct Subscriber {
    /// The subscriber's id.
    pub id: SubscriberId,
    /// The tenant that owns it.
    pub tenant: TenantId,
    /// The name that its application gave it.
    pub uid: Option<SubscriberUid>,
    /// Where deliveries go.
    pub url: TargetUrl,
    /// The patterns of the event types that it receives; never empty.
    pub events: Vec<EventPattern>,
    /// The owner's description.
    pub description: String,
    /// The names of the headers that are added to its deliveries. The values are secret. `None` if they cannot be
    /// decrypted.
    pub header_names: Option<Vec<String>>,
    /// Whether it receives deliveries.
    pub state: SubscriberState,
    /// Since when its deliveries wait; `None` unless it is paused.
    pub paused_at: Option<Timestamp>,
    /// How to deliver to it.
    pub policy: Policy,
    /// The body that it receives.
    pub format: Format,
    /// The plugin that changes what it receives.
    pub plugin: Option<SelectedPlugin>,
    /// What its application noted about it.
    pub metadata: Metadata,
    /// The channels of the events that it receives; `None` if it receives those without channels and all others.
    pub channels: Option<Channels>,
    /// Which events it receives, of those that match by type and channels; `None` for all of them.
    pub filter: Option<Expression>,
    /// What is done with the data before it is sent.
    pub transform: Option<Transform>,
    /// How its receiver is authenticated to; `None` if it is not.
    pub auth: Option<ShownAuth>,
    /// Where its owner is notified.
    pub notify: Notify,
    /// Its recent failures and its circuit breaker.
    pub health: Health,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
    /// Since when it has matched events as it does now, as far as is known.
    pub matching_since: Timestamp,
}

/// How a subscriber's receiver is authenticated to, without secrets.
#[derive(Clone)]
pub struct ShownAuth {
    /// The fields that are not secret; `None` if they cannot be decrypted.
    pub fields: Option<AuthFields>,
    /// When the first of its certificates expires.
    pub expires_at: Option<Timestamp>,
}

impl fmt::Debug for ShownAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShownAuth")
            .field("kind", &self.fields.as_ref().map(|fields| fields.kind))
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// How to authenticate to a receiver from now on.
#[derive(Clone, Debug)]
pub struct NewAuth {
    /// The credentials and certificates.
    pub auth: ReceiverAuth,
    /// When the first of the certificates expires.
    pub expires_at: Option<Timestamp>,
}

/// Where the owner of a subscriber is notified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Notify {
    /// Gets a webhook, signed with the subscriber's secret.
    pub url: Option<TargetUrl>,
    /// Gets mail, if the deployment can send some.
    pub email: Option<EmailAddress>,
}

/// Whether a subscriber receives deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubscriberState {
    /// It does.
    Active,
    /// It does not.
    Inactive {
        /// Since when.
        since: Timestamp,
        /// Why it was deactivated.
        reason: DeactivationReason,
    },
}

/// A subscriber to be created.
#[derive(Clone, Debug)]
pub struct NewSubscriber {
    /// Where deliveries go.
    pub url: TargetUrl,
    /// The patterns of the event types that it receives.
    pub events: Vec<EventPattern>,
    /// The secret that signs its deliveries.
    pub secret: Secret,
    /// The owner's description.
    pub description: String,
    /// The headers that are added to its deliveries.
    pub headers: CustomHeaders,
    /// Whether it receives deliveries from the start.
    pub active: bool,
    /// How to deliver to it.
    pub policy: Policy,
    /// The body that it receives.
    pub format: Format,
    /// The plugin that changes what it receives.
    pub plugin: Option<SelectedPlugin>,
    /// The name that its application gives it; none that another one of its tenant has.
    pub uid: Option<SubscriberUid>,
    /// What its application noted about it.
    pub metadata: Metadata,
    /// The channels of the events that it receives; `None` if it receives those without channels and all others.
    pub channels: Option<Channels>,
    /// Which events it receives, of those that match by type and channels; `None` for all of them.
    pub filter: Option<Expression>,
    /// What is done with the data before it is sent.
    pub transform: Option<Transform>,
    /// How to authenticate to its receiver.
    pub auth: Option<NewAuth>,
    /// Where its owner is notified.
    pub notify: Notify,
}

impl NewSubscriber {
    /// An active subscriber with the default policy, an empty description, no additional headers, and nothing else.
    pub fn new(url: TargetUrl, events: Vec<EventPattern>, secret: Secret) -> Self {
        Self {
            url,
            events,
            secret,
            description: String::new(),
            headers: CustomHeaders::default(),
            active: true,
            policy: Policy::default(),
            format: Format::default(),
            plugin: None,
            uid: None,
            metadata: Metadata::default(),
            channels: None,
            filter: None,
            transform: None,
            auth: None,
            notify: Notify::default(),
        }
    }
}

/// A subscriber that is about to be changed, under its lock.
pub struct Changing<'a> {
    /// Where deliveries go now.
    pub url: TargetUrl,
    /// How they are made now.
    pub policy: Policy,
    /// The body that it receives now.
    pub format: Format,
    /// The plugin that changes it now.
    pub plugin: Option<SelectedPlugin>,
    /// What is noted about it now.
    pub metadata: Metadata,
    /// What is done with the data now.
    pub transform: Option<Transform>,
    /// Whether its receiver is authenticated to now.
    pub has_auth: bool,
    pub(super) open_headers: &'a dyn Fn() -> Result<CustomHeaders, StoreError>,
    pub(super) open_auth: &'a dyn Fn() -> Result<Option<ReceiverAuth>, StoreError>,
}

impl Changing<'_> {
    /// Decrypts its headers.
    ///
    /// # Errors
    /// Fails if the keyring lacks their key.
    pub fn headers(&self) -> Result<CustomHeaders, StoreError> {
        (self.open_headers)()
    }

    /// Decrypts how its receiver is authenticated to.
    ///
    /// # Errors
    /// Fails if the keyring lacks the key.
    pub fn auth(&self) -> Result<Option<ReceiverAuth>, StoreError> {
        (self.open_auth)()
    }
}

impl fmt::Debug for Changing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Changing")
            .field("url", &self.url)
            .field("policy", &self.policy)
            .finish_non_exhaustive()
    }
}

/// The result of rotating a secret.
pub enum Rotated {
    /// The new secret signs. These sign beside it, newest first.
    Done(Vec<PreviousSecret>),
    /// [`MAX_PREVIOUS`] replaced secrets still sign.
    TooManyPrevious,
    /// The tenant has no such subscriber.
    Missing,
}

/// Changes to a subscriber. `None` keeps the current value.
#[derive(Clone, Debug, Default)]
pub struct SubscriberChange {
    /// Where deliveries go.
    pub url: Option<TargetUrl>,
    /// The patterns of the event types that it receives.
    pub events: Option<Vec<EventPattern>>,
    /// The owner's description.
    pub description: Option<String>,
    /// The headers that are added to its deliveries. They replace all earlier ones.
    pub headers: Option<CustomHeaders>,
    /// Whether it receives deliveries.
    pub active: Option<bool>,
    /// Whether its deliveries wait.
    pub paused: Option<bool>,
    /// How to deliver to it. It replaces the whole earlier policy.
    pub policy: Option<Policy>,
    /// The body that it receives.
    pub format: Option<Format>,
    /// The plugin that changes what it receives; `Some(None)` takes it away.
    pub plugin: Option<Option<SelectedPlugin>>,
    /// The secret that signs its deliveries from now on, without any earlier one.
    pub secret: Option<Secret>,
    /// Whether earlier failures no longer count, so that its breaker closes. They also end when it is activated again or
    /// gets another URL.
    pub forget_failures: bool,
    /// The name that its application gives it; `Some(None)` takes it away.
    pub uid: Option<Option<SubscriberUid>>,
    /// What its application notes about it. It replaces all earlier notes.
    pub metadata: Option<Metadata>,
    /// Its channels; `Some(None)` takes them away.
    pub channels: Option<Option<Channels>>,
    /// Its filter; `Some(None)` takes it away.
    pub filter: Option<Option<Expression>>,
    /// Its transform; `Some(None)` takes it away.
    pub transform: Option<Option<Transform>>,
    /// How to authenticate to its receiver; `Some(None)` for not at all.
    pub auth: Option<Option<NewAuth>>,
    /// Where its owner gets webhooks; `Some(None)` for nowhere.
    pub notify_url: Option<Option<TargetUrl>>,
    /// Where its owner gets mail; `Some(None)` for nowhere.
    pub notify_email: Option<Option<EmailAddress>>,
}
