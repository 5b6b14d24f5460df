//! The headers of a webhook request.
//!
//! `webhook-id`, `webhook-timestamp` and `webhook-signature` follow [Standard Webhooks] 1.0.0.
//!
//! [Standard Webhooks]: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md

use http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue};
use postrider_core::policy::{AttemptTimeout, RequestMethod};
use postrider_core::signing::Signer;
use postrider_core::{AgentId, CustomHeaders, ErrorKind, EventId, EventType, TargetUrl, Timestamp};

use crate::client::Request;
use crate::encoding::Encoded;
use crate::failure::Failure;
use crate::headers::{AGENT, sensitive};

/// The contents of one attempt's request, before signing.
///
/// ```
/// use postrider_core::policy::RequestMethod;
/// use postrider_core::signing::Signer;
/// use postrider_core::{Clock, CustomHeaders, IdGenerator, Secret, SystemClock};
/// use postrider_delivery::{Encoded, Webhook};
///
/// let signer = Signer::new(&Secret::parse("client-secret")?, &[]);
/// let webhook = Webhook {
///     method: RequestMethod::Post,
///     event_id: IdGenerator::system().next(),
///     event_type: &"order.created".parse()?,
///     agent_id: &"billing".parse()?,
///     body: Encoded::plain("{}"),
///     content_type: "application/json",
///     content_headers: &[],
///     timestamp: SystemClock.now(),
///     signer: &signer,
///     headers: &CustomHeaders::default(),
///     traceparent: None,
/// };
/// let headers = webhook.headers()?;
/// assert_eq!(headers["x-event-type"], "order.created");
/// assert!(headers.contains_key("webhook-signature"));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Webhook<'a> {
    /// The method.
    pub method: RequestMethod,
    /// The event's id. It is also the `webhook-id`, the same on every attempt.
    pub event_id: EventId,
    /// The event type.
    pub event_type: &'a EventType,
    /// The program that emitted the event.
    pub agent_id: &'a AgentId,
    /// The body, exactly as it is sent.
    pub body: Encoded,
    /// The type of the body. A request without a body does not name it.
    pub content_type: &'static str,
    /// Further headers that belong to the body.
    pub content_headers: &'a [(&'static str, String)],
    /// The time of this attempt.
    pub timestamp: Timestamp,
    /// Signs with the subscriber's secrets.
    pub signer: &'a Signer,
    /// The subscriber's own headers.
    pub headers: &'a CustomHeaders,
    /// The `traceparent` header (W3C Trace Context, §3.2) of the attempt's trace.
    pub traceparent: Option<&'a str>,
}

impl Webhook<'_> {
    /// Returns all headers except `Host` and `Content-Length`, which the client adds.
    ///
    /// Custom headers and signatures are marked sensitive, so that `Debug` does not show them.
    ///
    /// # Errors
    /// Fails with [`ErrorKind::Internal`] if a header cannot be sent over HTTP.
    pub fn headers(&self) -> Result<HeaderMap, Failure> {
        let mut headers = HeaderMap::with_capacity(16);
        for (name, value) in self.headers.iter() {
            let name = HeaderName::try_from(name).map_err(|_| unsendable())?;
            headers.append(name, sensitive(value).ok_or_else(unsendable)?);
        }

        // After the custom headers: `insert` replaces any custom header of the same name.
        let (id, seconds) = (self.event_id.to_string(), self.timestamp.seconds());
        let Encoded { bytes, content_encoding } = &self.body;
        let agent_signature = self.signer.agent_signature(bytes);
        let webhook_signature = self.signer.webhook_signature(&id, seconds, bytes);
        if self.method.has_body() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
            if let Some(encoding) = content_encoding {
                headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
        }
        headers.insert(USER_AGENT, AGENT);
        for (name, value) in self.content_headers {
            let value = HeaderValue::try_from(value).map_err(|_| unsendable())?;
            headers.insert(HeaderName::from_static(name), value);
        }
        for (name, value) in [
            ("x-agent-signature", sensitive(&agent_signature)),
            ("x-agent-id", HeaderValue::try_from(self.agent_id.as_str()).ok()),
            ("x-event-type", HeaderValue::try_from(self.event_type.as_str()).ok()),
            ("webhook-id", HeaderValue::try_from(id).ok()),
            ("webhook-timestamp", Some(HeaderValue::from(seconds))),
            ("webhook-signature", sensitive(&webhook_signature)),
        ] {
            headers.insert(HeaderName::from_static(name), value.ok_or_else(unsendable)?);
        }
        if let Some(traceparent) = self.traceparent.and_then(|text| HeaderValue::try_from(text).ok()) {
            headers.insert(HeaderName::from_static("traceparent"), traceparent);
        }
        Ok(headers)
    }

    /// Returns the signed request to `url`, without authentication.
    ///
    /// # Errors
    /// Fails as [`headers`](Self::headers) does.
    pub fn request(&self, url: TargetUrl, timeout: Option<AttemptTimeout>) -> Result<Request, Failure> {
        let (headers, body) = (self.headers()?, self.body.bytes.clone());
        Ok(Request { method: self.method, url, headers, body, timeout, auth: None, proxy: None })
    }
}

fn unsendable() -> Failure {
    Failure::new(ErrorKind::Internal, "a header contains characters that cannot be sent over HTTP")
}
