//! The receivers of the demo, which run in its process.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use postrider_core::signing::Verifier;
use postrider_core::{Clock as _, Secret, SystemClock, chain};
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;

use crate::say::say;

/// How a receiver responds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Character {
    /// Accepts every request.
    Healthy,
    /// Rejects the first two attempts of each event.
    Flaky,
    /// Rejects every request.
    Dead,
}

impl Character {
    pub(crate) const ALL: [Self; 3] = [Self::Healthy, Self::Flaky, Self::Dead];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Flaky => "flaky",
            Self::Dead => "dead",
        }
    }

    const fn answer(self, attempt: usize) -> StatusCode {
        match self {
            Self::Healthy => StatusCode::OK,
            Self::Flaky if attempt > 2 => StatusCode::OK,
            Self::Flaky => StatusCode::SERVICE_UNAVAILABLE,
            Self::Dead => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A receiver on this machine, which stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Receiver {
    address: SocketAddr,
    seen: Arc<Seen>,
    _serving: AbortOnDropHandle<()>,
}

#[derive(Debug)]
struct Seen {
    character: Character,
    verifier: Verifier,
    log: Mutex<Log>,
}

/// The requests that a receiver got.
#[derive(Clone, Debug, Default)]
pub(crate) struct Log {
    /// Number of requests by their `webhook-id`.
    attempts: HashMap<String, usize>,
    /// Number of requests.
    pub(crate) requests: usize,
    /// Number of requests whose two signatures were valid.
    pub(crate) verified: usize,
}

impl Receiver {
    pub(crate) async fn start(character: Character, secret: &Secret) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Seen { character, verifier: Verifier::from(secret), log: Mutex::default() });
        let router = Router::new().route("/", post(receive)).with_state(Arc::clone(&seen));
        let serving = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                say(format_args!("a receiver of the demo failed: {}", chain(&error)));
            }
        });
        Ok(Self { address, seen, _serving: AbortOnDropHandle::new(serving) })
    }

    pub(crate) fn character(&self) -> Character {
        self.seen.character
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub(crate) fn log(&self) -> Log {
        self.seen.log.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn receive(State(seen): State<Arc<Seen>>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let standard = seen.verifier.verify(header, &body, SystemClock.now());
    let agent = seen.verifier.verify_agent(header("x-agent-signature").unwrap_or_default(), &body);
    let verified = standard.is_ok() && agent.is_ok();
    let id = header("webhook-id").unwrap_or("(no id)").to_owned();

    let mut log = seen.log.lock().unwrap_or_else(PoisonError::into_inner);
    log.requests += 1;
    log.verified += usize::from(verified);
    let attempt = log.attempts.entry(id.clone()).or_default();
    *attempt += 1;
    let answer = seen.character.answer(*attempt);
    say(format_args!(
        "  {id} {:<14} -> {:<8} attempt {attempt}: {} {}",
        header("x-event-type").unwrap_or("(no type)"),
        seen.character.as_str(),
        answer.as_u16(),
        if verified { "signatures valid" } else { "SIGNATURES INVALID" },
    ));
    answer
}
