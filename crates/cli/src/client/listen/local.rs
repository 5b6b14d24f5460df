//! Requests to the program on this machine, and their answers to the server.

use std::io;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue};
use postrider_api::attempt::HeaderView;
use postrider_api::listener::{ListenerAnswerRequest, ListenerDeliveryView};
use postrider_client::{Client, Failure};
use postrider_core::policy::AttemptTimeout;
use postrider_core::target::TargetPolicy;
use postrider_core::{AddressPolicy, ListenerId, TargetUrl, chain};
use postrider_delivery::{Config, Request, Sent};
use postrider_program::StartError;
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::client::output::{Format, cell, eprint_line, print_text};

/// The most bytes of a response's body that the server takes.
const RESPONSE_LIMIT: usize = 64 * 1024;
/// The pause before an answer is sent again, which a server that restarts has missed.
const PAUSE: Duration = Duration::from_millis(500);

/// The program on this machine.
#[derive(Debug)]
pub(super) struct Local {
    url: TargetUrl,
    http: postrider_delivery::Client,
    format: Format,
}

impl Local {
    pub(super) fn new(url: TargetUrl, format: Format) -> Result<Self, StartError> {
        // Which targets are allowed has been decided.
        let addresses = AddressPolicy::public_only().allowing(vec!["0.0.0.0/0".parse()?, "::/0".parse()?]);
        let targets = TargetPolicy { addresses, https_only: false };
        let config = Config { targets, response_limit: RESPONSE_LIMIT, ..Config::default() };
        Ok(Self { url, http: postrider_delivery::Client::new(config)?, format })
    }

    pub(super) fn shown(&self) -> &str {
        self.url.redacted()
    }

    /// Makes a request, and answers it.
    pub(super) async fn deliver(&self, client: &Client, listener: ListenerId, request: ListenerDeliveryView) {
        let deadline = Instant::now() + Duration::from_millis(request.timeout_ms);
        let Some(made) = self.request(&request) else {
            eprint_line(format_args!("{}: the request cannot be made here", request.event_id));
            return;
        };
        let sent = self.http.send(made).await;
        let answer = answer(&request, &sent);
        // Standard output may be closed.
        let _ = self.print(&request, &answer, &sent);
        loop {
            match client.answer_listener(listener, &answer).await {
                Ok(()) => return,
                Err(error) if error.failure() == Failure::Refused || Instant::now() >= deadline => {
                    eprint_line(format_args!(
                        "{}: the answer was not taken: {}",
                        request.event_id,
                        chain(&error)
                    ));
                    return;
                }
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    fn request(&self, request: &ListenerDeliveryView) -> Option<Request> {
        let mut headers = HeaderMap::with_capacity(request.headers.len());
        for HeaderView { name, value } in &request.headers {
            headers.append(HeaderName::try_from(name).ok()?, HeaderValue::try_from(value).ok()?);
        }
        Some(Request {
            method: request.method.parse().ok()?,
            url: self.url.clone(),
            headers,
            body: STANDARD.decode(&request.body_base64).ok()?.into(),
            // Without one that is valid, the default applies, and the server knows when the attempt has ended.
            timeout: AttemptTimeout::try_new(Duration::from_millis(request.timeout_ms)).ok(),
            auth: None,
            proxy: None,
        })
    }

    fn print(
        &self,
        request: &ListenerDeliveryView,
        answer: &ListenerAnswerRequest,
        sent: &Sent,
    ) -> io::Result<()> {
        let millis = u64::try_from(sent.duration.as_millis()).unwrap_or(u64::MAX);
        let line = json!({
            "event": request.event_type, "event_id": request.event_id, "attempt": request.attempt,
            "status": answer.status, "error": answer.error, "duration_ms": millis,
        });
        match self.format {
            Format::Json | Format::Jsonl => print_text(line),
            Format::Id => print_text(request.event_id),
            Format::Table => {
                let result = if answer.error.is_some() { &line["error"] } else { &line["status"] };
                let cells = [result, &line["event"], &line["event_id"]].map(|value| cell(value, usize::MAX));
                print_text(format_args!("{}  #{}  {millis} ms", cells.join("  "), request.attempt))
            }
        }
    }
}

fn answer(request: &ListenerDeliveryView, sent: &Sent) -> ListenerAnswerRequest {
    let id = Some(request.id.to_string());
    match &sent.result {
        Ok(response) => {
            let text = |value: &[u8]| value.iter().map(|&byte| char::from(byte)).collect();
            let headers = response.headers.iter();
            let headers = headers.map(|(name, value)| HeaderView { name: name.clone(), value: text(value) });
            ListenerAnswerRequest {
                id,
                status: Some(response.status),
                headers: Some(headers.collect()),
                body_base64: Some(STANDARD.encode(&response.body)),
                error: None,
            }
        }
        Err(failure) => {
            ListenerAnswerRequest { id, error: Some(failure.kind), ..ListenerAnswerRequest::default() }
        }
    }
}
