//! What the owners of subscribers are notified of.

use crate::word::words;

words! {
    /// What the owner of a subscriber is notified of. The numbers are bits.
    NoticeKind, "a kind of notice" {
        /// Its circuit breaker has opened for the first time since its last success.
        CircuitOpened = 1, "circuit_opened";
        /// It has failed for a day without a success.
        FailingForADay = 2, "failing_for_a_day";
        /// It will be deactivated within a day, unless it has a success.
        DeactivationNear = 4, "deactivation_near";
        /// A certificate of its authentication expires within two weeks.
        CertificateExpiring = 8, "certificate_expiring";
    }
}

impl NoticeKind {
    /// Returns the type of the events that report it.
    pub const fn event_type(self) -> &'static str {
        match self {
            Self::CircuitOpened | Self::FailingForADay | Self::DeactivationNear => "subscriber.failing",
            Self::CertificateExpiring => "subscriber.certificate_expiring",
        }
    }
}

words! {
    /// How a notice is sent.
    NoticeChannel, "a channel of notices" {
        /// As an event of the subscriber's tenant.
        Event = 0, "event";
        /// As a webhook to the subscriber's `notify_url`.
        Webhook = 1, "webhook";
        /// As mail to the subscriber's `notify_email`.
        Email = 2, "email";
    }
}
