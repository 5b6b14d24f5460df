//! The headers of a webhook (design, §4).

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use postrider_core::signing::Signer;
use postrider_core::{AgentId, CustomHeaders, ErrorKind, EventId, EventType, TargetUrl, Timestamp};

use crate::client::Request;
use crate::failure::Failure;

/// What Postrider calls itself towards receivers.
const AGENT: HeaderValue = HeaderValue::from_static("AI-Agent-Webhook/1.0");

/// One attempt's webhook, before it is signed.
#[derive(Clone)]
pub struct Webhook<'a> {
    /// The event; also the `webhook-id`, the same on every attempt.
    pub event_id: EventId,
    /// The event's type.
    pub event_type: &'a EventType,
    /// Who emitted the event.
    pub agent_id: &'a AgentId,
    /// The body, byte for byte as it is sent.
    pub body: Bytes,
    /// When this attempt is made.
    pub timestamp: Timestamp,
    /// Holds the subscriber's secrets.
    pub signer: &'a Signer,
    /// What the subscriber wants to be sent besides.
    pub headers: &'a CustomHeaders,
    /// The trace that the attempt belongs to (W3C Trace Context).
    pub traceparent: Option<&'a str>,
}

impl Webhook<'_> {
    /// All headers but `Host` and `Content-Length`, which the client adds. The signatures cover the body.
    ///
    /// Custom headers and signatures are marked sensitive, so that they do not print.
    ///
    /// # Errors
    /// [`ErrorKind::Internal`] if a custom header cannot be sent, which their type should have ruled out.
    pub fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::with_capacity(16);
        for (name, value) in self.headers.iter() {
            let name = HeaderName::try_from(name).map_err(|_| unsendable())?;
            headers.append(name, secret(value).ok_or_else(unsendable)?);
        }

        // After the custom ones, which could not take their places even if they tried.
        let (id, seconds) = (self.event_id.to_string(), self.timestamp.seconds());
        let agent_signature = self.signer.agent_signature(&self.body);
        let webhook_signature = self.signer.webhook_signature(&id, seconds, &self.body);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, AGENT);
        for (name, value) in [
            ("x-agent-signature", secret(&agent_signature)),
            ("x-agent-id", HeaderValue::try_from(self.agent_id.as_str()).ok()),
            ("x-event-type", HeaderValue::try_from(self.event_type.as_str()).ok()),
            ("webhook-id", HeaderValue::try_from(id).ok()),
            ("webhook-timestamp", Some(HeaderValue::from(seconds))),
            ("webhook-signature", secret(&webhook_signature)),
        ] {
            headers.insert(HeaderName::from_static(name), value.ok_or_else(unsendable)?);
        }
        if let Some(traceparent) = self.traceparent.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(HeaderName::from_static("traceparent"), traceparent);
        }
        Ok(headers)
    }

    /// The attempt's request to `url`.
    ///
    /// # Errors
    /// As for [`headers`](Self::headers).
    pub fn request(&self, url: TargetUrl, timeout: Option<Duration>) -> Result<Request, Failure> {
        Ok(Request { url, headers: self.headers()?, body: self.body.clone(), timeout })
    }
}

/// A value that does not print.
fn secret(value: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::try_from(value).ok()?;
    value.set_sensitive(true);
    Some(value)
}

fn unsendable() -> Failure {
    Failure::new(ErrorKind::Internal, "a header has characters that cannot be sent over HTTP")
}
