//! What the audit trail records.

use crate::word::words;

words! {
    /// What was done to something, or with it.
    AuditAction, "an action" {
        /// A subscriber was created.
        SubscriberCreated = 0, "subscriber.created";
        /// A subscriber was changed, activated or deactivated.
        SubscriberChanged = 1, "subscriber.changed";
        /// A subscriber was deleted.
        SubscriberDeleted = 2, "subscriber.deleted";
        /// The secret of a subscriber was read.
        SecretRead = 3, "secret.read";
        /// The secret of a subscriber was replaced.
        SecretRotated = 4, "secret.rotated";
        /// A delivery was retried.
        DeliveryRetried = 5, "delivery.retried";
        /// A delivery was cancelled.
        DeliveryCancelled = 6, "delivery.cancelled";
        /// Dead letters were requeued.
        DeadLettersRequeued = 7, "dead_letters.requeued";
        /// A dead letter was deleted.
        DeadLetterDeleted = 8, "dead_letter.deleted";
        /// The payload of an event was erased.
        PayloadErased = 9, "payload.erased";
        /// The payload of an event, or responses to a delivery, were read.
        PayloadRead = 10, "payload.read";
        /// A tenant was registered on request.
        TenantRegistered = 11, "tenant.registered";
        /// A tenant was changed.
        TenantChanged = 12, "tenant.changed";
        /// The deletion of a tenant was requested.
        TenantDeleted = 13, "tenant.deleted";
        /// A key was created.
        KeyCreated = 14, "key.created";
        /// A key was changed.
        KeyChanged = 15, "key.changed";
        /// A key was rotated.
        KeyRotated = 16, "key.rotated";
        /// A key was revoked.
        KeyRevoked = 17, "key.revoked";
        /// An event type was registered or changed.
        EventTypeChanged = 18, "event_type.changed";
        /// An event type was deleted.
        EventTypeDeleted = 19, "event_type.deleted";
        /// A plugin was installed or replaced.
        PluginAdded = 22, "plugin.added";
        /// A plugin was removed.
        PluginRemoved = 23, "plugin.removed";
        /// A replay was started.
        ReplayStarted = 30, "replay.started";
        /// A replay was paused.
        ReplayPaused = 31, "replay.paused";
        /// A paused replay was resumed.
        ReplayResumed = 32, "replay.resumed";
        /// A replay was cancelled.
        ReplayCancelled = 33, "replay.cancelled";
        /// A key was used to sign in to the console.
        SessionCreated = 40, "session.created";
        /// A session of the console was ended.
        SessionRevoked = 41, "session.revoked";
        /// A link to the portal was made.
        PortalLinkCreated = 42, "portal_link.created";
        /// A link to the portal was used, which began a session there.
        PortalLinkUsed = 43, "portal_link.used";
        /// A sandbox was created.
        SandboxCreated = 44, "sandbox.created";
        /// A sandbox was deleted.
        SandboxDeleted = 45, "sandbox.deleted";
    }
}
