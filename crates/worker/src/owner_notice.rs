//! Sending notices to the owners of subscribers: as events, as webhooks and as mail.

use std::time::Duration;

use postrider_core::policy::{AttemptTimeout, RequestMethod};
use postrider_core::signing::Signer;
use postrider_core::subscriber::{NoticeChannel, NoticeKind};
use postrider_core::{AgentId, Clock as _, CustomHeaders, Envelope, EventData, EventType, Secret, chain};
use postrider_delivery::{Encoded, Request, Response, Webhook};
use postrider_dispatch::{DispatchError, IdempotencyKey, NewEvent};
use postrider_store::StoreError;
use postrider_store::owner_notices::OwnerNotice;
use postrider_store::tenants::EgressProxy;
use postrider_telemetry::metric;
use serde_json::Value;

use crate::mail::{Message, NotSent};
use crate::shared::Shared;

/// After how long a notice that could not be sent is sent again, about 20 hours in all. Then it is given up.
const DELAYS: [Duration; 7] = [
    Duration::from_mins(1),
    Duration::from_mins(5),
    Duration::from_mins(30),
    Duration::from_hours(1),
    Duration::from_hours(3),
    Duration::from_hours(6),
    Duration::from_hours(10),
];
/// The time limit of a webhook.
const TIMEOUT: Duration = Duration::from_secs(10);
/// To how many subscribers an event goes that reports a notice.
const MAX_SUBSCRIBERS: u32 = 20;

/// Why a notice was not sent.
#[derive(Debug, thiserror::Error)]
enum Unsent {
    /// Nobody is to be notified any more.
    #[error("{0}")]
    Needless(&'static str),
    /// It may be sent later.
    #[error("{0}")]
    ForNow(String),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The event could not be dispatched.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// What is stored of the notice cannot be sent.
    #[error("the stored notice cannot be read")]
    Unreadable,
}

/// Sends a notice that this worker has taken, and removes it or puts it off.
pub(crate) async fn send(shared: &Shared, notice: OwnerNotice) -> Result<(), StoreError> {
    let sent = match notice.channel {
        NoticeChannel::Event => as_event(shared, &notice).await,
        NoticeChannel::Webhook => as_webhook(shared, &notice).await,
        NoticeChannel::Email => as_mail(shared, &notice).await,
    };
    let count = |outcome: &'static str| {
        let channel = notice.channel.as_str();
        metrics::counter!(metric::OWNER_NOTICES, metric::CHANNEL => channel, metric::OUTCOME => outcome)
            .increment(1);
    };
    let (tenant, subscriber, stage) = (&notice.tenant, notice.subscriber, notice.kind.as_str());
    let channel = notice.channel.as_str();
    let error = match sent {
        Ok(()) => {
            count("sent");
            tracing::info!(%tenant, %subscriber, stage, channel, "owner notified");
            return shared.store.remove_notice(notice.id).await;
        }
        Err(Unsent::Needless(reason)) => {
            count("dropped");
            tracing::debug!(%tenant, %subscriber, stage, channel, reason, "notice to an owner dropped");
            return shared.store.remove_notice(notice.id).await;
        }
        Err(Unsent::Store(error)) if error.is_unavailable() => return Err(error),
        Err(error) => error,
    };
    let before = usize::try_from(notice.attempts).unwrap_or(usize::MAX).saturating_sub(1);
    if let Some(delay) = DELAYS.get(before).filter(|_| !matches!(error, Unsent::Unreadable)) {
        count("failed");
        tracing::debug!(%tenant, %subscriber, stage, channel, error = %chain(&error), "owner not notified; trying again");
        return shared.store.put_notice_off(notice.id, *delay).await;
    }
    count("dropped");
    tracing::warn!(%tenant, %subscriber, stage, channel, error = %chain(&error), "owner not notified");
    shared.store.remove_notice(notice.id).await
}

/// Dispatches an event to the subscribers that name its type. Those of all events do not get it: each notice about one
/// subscriber would go to all others, and to those that fail.
async fn as_event(shared: &Shared, notice: &OwnerNotice) -> Result<(), Unsent> {
    let (event_type, agent_id, data) = parts(notice)?;
    let found = shared.store.subscribers_by_name(&notice.tenant, &event_type, MAX_SUBSCRIBERS).await?;
    if found.is_empty() {
        return Err(Unsent::Needless("no subscriber names its event type"));
    }
    for subscriber in found {
        let key = IdempotencyKey::parse(&format!("notice {} {subscriber}", notice.id));
        let event = NewEvent {
            tenant: notice.tenant.clone(),
            event_type: event_type.clone(),
            data: data.clone(),
            agent_id: Some(agent_id.clone()),
            key: Some(key.map_err(|_| Unsent::Unreadable)?),
            trace: None,
            channels: None,
            metadata: postrider_core::Metadata::default(),
        };
        shared.dispatcher.dispatch_to(subscriber, event).await?;
    }
    Ok(())
}

/// Sends a webhook, signed with the subscriber's secrets. It goes to another URL than the subscriber's deliveries, whose lane
/// is paused, so it is no delivery.
async fn as_webhook(shared: &Shared, notice: &OwnerNotice) -> Result<(), Unsent> {
    let (event_type, agent_id, data) = parts(notice)?;
    let subscriber = of(shared, notice).await?;
    let url = subscriber.notify.url.ok_or(Unsent::Needless("the subscriber has no notify_url"))?;
    let gone = Unsent::Needless("the subscriber was deleted");
    let (secret, previous) = shared.store.secret(&notice.tenant, notice.subscriber).await?.ok_or(gone)?;
    let previous: Vec<Secret> = previous.into_iter().map(|previous| previous.secret).collect();
    let envelope =
        Envelope { event_type: &event_type, timestamp: notice.created_at, agent_id: &agent_id, data: &data };
    let webhook = Webhook {
        method: RequestMethod::Post,
        event_id: notice.id,
        event_type: &event_type,
        agent_id: &agent_id,
        body: Encoded::plain(envelope.to_bytes()),
        content_type: "application/json",
        content_headers: &[],
        timestamp: shared.store.ids().clock().now(),
        signer: &Signer::new(&secret, &previous),
        headers: &CustomHeaders::default(),
        traceparent: None,
    };
    let request = webhook.request(url, AttemptTimeout::try_new(TIMEOUT).ok());
    let proxy = match shared.proxies.of(&notice.tenant) {
        Some(EgressProxy::Url(url)) => Some(url),
        Some(EgressProxy::Unreadable) => {
            return Err(Unsent::ForNow("the tenant's egress proxy cannot be read".to_owned()));
        }
        None => None,
    };
    let request = Request { proxy, ..request.map_err(|_| Unsent::Unreadable)? };
    let sent = shared.client.send(request).await;
    if sent.result.as_ref().is_ok_and(Response::is_gone) {
        return Err(Unsent::Needless("the notify_url answered 410"));
    }
    match sent.verdict().detail() {
        Some(detail) if !sent.is_success() => Err(Unsent::ForNow(detail.to_owned())),
        _ => Ok(()),
    }
}

async fn as_mail(shared: &Shared, notice: &OwnerNotice) -> Result<(), Unsent> {
    let mailer = shared.config.mailer.as_ref();
    let mailer = mailer.ok_or_else(|| Unsent::ForNow("this worker sends no mail".to_owned()))?;
    let subscriber = of(shared, notice).await?;
    let to = subscriber.notify.email.ok_or(Unsent::Needless("the subscriber has no notify_email"))?;
    let data: Value = serde_json::from_str(&notice.data).map_err(|_| Unsent::Unreadable)?;
    let (subject, text) = letter(notice.kind, &data);
    let message = Message { to: &to, id: notice.id.to_string(), subject, text };
    mailer.send(message).await.map_err(|error| match error {
        NotSent::Rejected => Unsent::Needless("the relay rejected the message for good"),
        NotSent::ForNow => Unsent::ForNow(error.to_string()),
    })
}

/// The subscriber of a notice that still holds.
async fn of(
    shared: &Shared,
    notice: &OwnerNotice,
) -> Result<postrider_store::subscribers::Subscriber, Unsent> {
    let found = shared.store.subscriber(&notice.tenant, notice.subscriber).await?;
    let found = found.ok_or(Unsent::Needless("the subscriber was deleted"))?;
    if notice.kind != NoticeKind::CertificateExpiring && found.health.failing_since.is_none() {
        return Err(Unsent::Needless("the subscriber fails no longer"));
    }
    Ok(found)
}

fn parts(notice: &OwnerNotice) -> Result<(EventType, AgentId, EventData), Unsent> {
    let event_type = notice.kind.event_type().parse().map_err(|_| Unsent::Unreadable)?;
    let agent_id = "postrider".parse().map_err(|_| Unsent::Unreadable)?;
    let data = EventData::from_json(&notice.data).map_err(|_| Unsent::Unreadable)?;
    Ok((event_type, agent_id, data))
}

/// The subject and the text of a message.
fn letter(kind: NoticeKind, data: &Value) -> (String, String) {
    let text = |name: &str| data[name].as_str().unwrap_or("unknown").to_owned();
    let (url, id, since) = (text("url"), text("subscriber_id"), text("failing_since"));
    let end = data["deactivation_at"].as_str();
    let (subject, first) = match kind {
        NoticeKind::CircuitOpened => (
            format!("Deliveries to {url} fail"),
            format!("All deliveries to {url} have failed since {since}. They are now made less often."),
        ),
        NoticeKind::FailingForADay => (
            format!("Deliveries to {url} have failed for a day"),
            format!("All deliveries to {url} have failed since {since}, for more than a day."),
        ),
        NoticeKind::DeactivationNear => (
            format!("Deliveries to {url} will stop within a day"),
            format!("All deliveries to {url} have failed since {since}, and will stop within a day."),
        ),
        NoticeKind::CertificateExpiring => (
            format!("A certificate for deliveries to {url} expires soon"),
            format!(
                "A certificate that authenticates deliveries to {url} expires at {}. Replace it before that, or they fail.",
                text("expires_at")
            ),
        ),
    };
    let until = match (kind, end) {
        (NoticeKind::CertificateExpiring, _) | (_, None) => String::new(),
        (_, Some(end)) => format!(" Without a success until {end} the subscriber is deactivated."),
    };
    (subject, format!("{first}{until}\n\nSubscriber: {id}\n"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kind_has_a_letter_of_its_own() {
        let data = json!({
            "subscriber_id": "sub_1", "url": "https://example.com/hook", "failing_since": "2026-11-14T22:13:20Z",
            "deactivation_at": "2026-11-19T22:13:20Z", "expires_at": "2026-12-01T00:00:00Z",
        });
        let letters: Vec<_> = NoticeKind::ALL.iter().map(|kind| letter(*kind, &data)).collect();
        for (index, (subject, text)) in letters.iter().enumerate() {
            assert!(
                subject.contains("https://example.com/hook") && text.contains("sub_1"),
                "{subject}: {text}"
            );
            assert!(letters[..index].iter().all(|(other, _)| other != subject), "{subject}");
        }
        assert!(letters[0].1.contains("Without a success until 2026-11-19T22:13:20Z"), "{}", letters[0].1);
        assert!(letters[3].1.contains("2026-12-01T00:00:00Z"), "{}", letters[3].1);
    }
}
