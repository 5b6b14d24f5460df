//! A receiver of webhooks: verifies the signature before anything else, and acts once on each event.
//!
//! ```text
//! RECEIVER_SECRET=whsec_… cargo run -p postrider-dispatch --example receiver
//! ```
//!
//! Only `postrider-core` of Postrider is needed for this.
#![allow(clippy::print_stdout, reason = "an example prints what it received")]

use std::collections::{HashSet, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use postrider_core::signing::Verifier;
use postrider_core::{Clock, SystemClock};
use serde_json::Value;

/// A larger body is rejected with 413 before it is read to its end.
const BODY_LIMIT: usize = 2 * 1024 * 1024;

/// How many event ids are remembered. Retries come within minutes or hours. A production receiver stores ids in its
/// database, in the transaction that acts on the event.
const REMEMBERED: usize = 10_000;

/// What the receiver does with an event. Called once per event.
pub(crate) type Act = Arc<dyn Fn(Value) + Send + Sync>;

struct Receiver {
    verifier: Verifier,
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
    act: Act,
}

/// Returns the application, with its route `POST /webhooks`.
pub(crate) fn app(verifier: Verifier, clock: Arc<dyn Clock>, act: Act) -> Router {
    let receiver = Receiver { verifier, clock, seen: Mutex::default(), act };
    Router::new()
        .route("/webhooks", post(receive))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(Arc::new(receiver))
}

/// Takes the body as bytes, because the signature covers them: JSON that was parsed and serialised again may differ.
async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<StatusCode, (StatusCode, String)> {
    let header = |name: &str| headers.get(name)?.to_str().ok();
    let verified = receiver
        .verifier
        .verify(header, &body, receiver.clock.now())
        .map_err(|error| (StatusCode::UNAUTHORIZED, error.to_string()))?;
    let event: Value =
        serde_json::from_slice(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    // Delivery is at least once, so a repeat gets the same answer as the first request.
    if receiver.seen.lock().unwrap_or_else(PoisonError::into_inner).is_new(&verified.id) {
        (receiver.act)(event);
    }
    Ok(StatusCode::NO_CONTENT)
}

/// The ids of the last events.
#[derive(Default)]
struct Seen {
    ids: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    fn is_new(&mut self, id: &str) -> bool {
        if !self.ids.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(oldest) = self.order.pop_front()
        {
            self.ids.remove(&oldest);
        }
        true
    }
}

#[allow(dead_code, reason = "the tests use only the application")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let secret =
        std::env::var("RECEIVER_SECRET").map_err(|_| "set RECEIVER_SECRET to the subscriber's secret")?;
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:4000".to_owned());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("receiving at http://{}/webhooks", listener.local_addr()?);
    let act: Act = Arc::new(|event| println!("{event}"));
    axum::serve(listener, app(Verifier::new(&secret)?, Arc::new(SystemClock), act)).await?;
    Ok(())
}
