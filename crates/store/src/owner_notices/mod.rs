//! Notices to the owners of subscribers.
//!
//! A step finds what owners are to be notified of, writes a row of `owner_notices` for each way in which the notice is sent, and
//! notes that it has done so, all in one transaction: so each notice is written once, whichever worker takes the step. The
//! rows are then sent, and again after a failure, until they are removed.
//!
//! | file | what it holds |
//! |---|---|
//! | `failing` | subscribers that fail |
//! | `certificates` | certificates that expire |
//! | `outbox` | notices that have not been sent |

mod certificates;
mod failing;
mod outbox;

use postrider_core::subscriber::{NoticeChannel, NoticeKind};
use postrider_core::{SubscriberId, TenantId};

use self::outbox::Outbox;
pub use self::outbox::OwnerNotice;
use crate::subscribers::Notify;

/// A notice that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RaisedNotice {
    /// The subscriber's tenant.
    pub tenant: TenantId,
    /// The subscriber.
    pub subscriber: SubscriberId,
    /// What its owner is notified of.
    pub kind: NoticeKind,
}

/// The ways in which the owner of a subscriber is notified.
fn channels(tenant: &TenantId, notify: &Notify, with_email: bool) -> Vec<NoticeChannel> {
    // Events about the operator's own subscribers could go to a subscriber that fails.
    let event = (*tenant != TenantId::operator()).then_some(NoticeChannel::Event);
    let webhook = notify.url.as_ref().map(|_| NoticeChannel::Webhook);
    let email = notify.email.as_ref().filter(|_| with_email).map(|_| NoticeChannel::Email);
    event.into_iter().chain(webhook).chain(email).collect()
}
