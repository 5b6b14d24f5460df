//! Hostile and broken receivers, and the attempt that is stored for each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use postrider_core::subscriber::{PolicyFields, Span};
use postrider_core::{DeliveryStatus, ErrorKind, Policy};
use postrider_dispatch::NewEvent;
use postrider_store::deliveries::RecordedAttempt;
use postrider_store::subscribers::NewSubscriber;
use postrider_testkit::Receiver;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use crate::stage::{Stage, config, on_both, tenant};

on_both!(each_hostile_receiver_leaves_one_attempt_with_its_error);

/// The timeout of an attempt that only its deadline ends, and of one that must end before.
const SHORT: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_mins(1);

/// How late a deadline may take effect on a busy machine.
const SLACK: Duration = Duration::from_secs(30);

const LIMIT: usize = 5000;
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const A_MOMENT: Duration = Duration::from_millis(50);

/// What a receiver sends after it has read a request.
struct Script {
    first: Vec<u8>,
    then: Then,
}

enum Then {
    Close,
    Hang,
    Repeat(Vec<u8>, Duration),
}

/// What is expected of a stored attempt.
struct Expected {
    timeout: Duration,
    /// `None` if the attempt failed without an answer.
    status: Option<u16>,
    error: Option<ErrorKind>,
    /// Part of the verdict's detail; `None` if it has none.
    detail: Option<&'static str>,
    truncated: bool,
}

/// An attempt without an answer.
const fn failed(timeout: Duration, error: ErrorKind, detail: &'static str) -> Expected {
    Expected { timeout, status: None, error: Some(error), detail: Some(detail), truncated: false }
}

/// An attempt that succeeded.
const fn succeeded(timeout: Duration, detail: Option<&'static str>, truncated: bool) -> Expected {
    Expected { timeout, status: Some(200), error: None, detail, truncated }
}

fn cases() -> Vec<(&'static str, Script, Expected)> {
    let script = |first: &str, then: Then| Script { first: first.as_bytes().to_vec(), then };
    let repeat = |bytes: &str, pause: Duration| Then::Repeat(bytes.as_bytes().to_vec(), pause);
    let fast_chunk = format!("2000\r\n{}\r\n", "z".repeat(0x2000));
    let bomb = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f";
    let late = "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n";
    let rejected = |status, detail| Expected {
        timeout: LONG,
        status: Some(status),
        error: Some(ErrorKind::Status),
        detail: Some(detail),
        truncated: false,
    };
    let silent = "time ran out before it answered";
    let cut = "time ran out before the body was complete";
    let lost = "the connection was lost before the body was complete";
    vec![
        ("silence", script("", Then::Hang), failed(SHORT, ErrorKind::TimeoutHeaders, silent)),
        (
            "slow-headers",
            script("HTTP/1.1 200 OK\r\nX-Slow: ", repeat("y", A_MOMENT)),
            failed(SHORT, ErrorKind::TimeoutHeaders, silent),
        ),
        (
            "early-hints",
            script("", repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", A_MOMENT)),
            failed(SHORT, ErrorKind::TimeoutHeaders, silent),
        ),
        ("slow-body", script(CHUNKED, repeat("1\r\nz\r\n", A_MOMENT)), succeeded(SHORT, Some(cut), false)),
        (
            "slow-rejection",
            script(late, repeat("1\r\nz\r\n", A_MOMENT)),
            Expected { timeout: SHORT, ..rejected(500, "the receiver answered 500") },
        ),
        ("endless-body", script(CHUNKED, repeat(&fast_chunk, Duration::ZERO)), succeeded(LONG, None, true)),
        // Only the end of the connection ends this body.
        ("bomb", script(bomb, repeat(&"\0".repeat(0x4000), Duration::ZERO)), succeeded(LONG, None, true)),
        (
            "broken-body",
            script("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nzzz", Then::Close),
            succeeded(LONG, Some(lost), false),
        ),
        (
            "endless-headers",
            script("HTTP/1.1 200 OK\r\nX-Endless: ", repeat(&"y".repeat(1024), Duration::ZERO)),
            failed(LONG, ErrorKind::Protocol, "not valid HTTP"),
        ),
        (
            "switching",
            script("HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", Then::Hang),
            failed(LONG, ErrorKind::Protocol, "another protocol"),
        ),
        (
            "garbage",
            script("SSH-2.0\r\n\r\n", Then::Hang),
            failed(LONG, ErrorKind::Protocol, "not valid HTTP"),
        ),
        ("closed", script("", Then::Close), failed(LONG, ErrorKind::Reset, "closed the connection")),
        (
            "redirect",
            script("HTTP/1.1 302 X\r\nLocation: http://10.0.0.1/\r\nContent-Length: 0\r\n\r\n", Then::Hang),
            rejected(302, "the receiver answered 302"),
        ),
    ]
}

async fn each_hostile_receiver_leaves_one_attempt_with_its_error(stage: &Stage) {
    let worker = stage.worker(config()).await;
    let mut receivers = JoinSet::new();
    let mut waiting = Vec::new();
    for (name, script, expected) in cases() {
        let url = format!("http://{}/", serve(script, &mut receivers).await);
        waiting.push((name, attempt_at(stage, name, &url, expected.timeout).await, expected));
    }
    // Its certificate is from an authority that no client trusts.
    let untrusted = Receiver::start_tls("127.0.0.1").await;
    let expected = failed(LONG, ErrorKind::TlsUnknownIssuer, "is not trusted");
    waiting.push(("untrusted", attempt_at(stage, "untrusted", &untrusted.url("/"), LONG).await, expected));

    for (name, event, expected) in waiting {
        let delivery = stage.ended(event).await;
        let success = expected.error.is_none();
        let status = if success { DeliveryStatus::Succeeded } else { DeliveryStatus::Dead };
        assert_eq!((delivery.status, delivery.attempts), (status, 1), "{name}");
        let attempts = stage.attempts(&delivery).await;
        assert_eq!(attempts.len(), 1, "{name}");
        check(name, &attempts[0], &expected);
    }
    stage.settled().await;
    worker.stop().await;
}

fn check(name: &str, attempt: &RecordedAttempt, expected: &Expected) {
    assert_eq!(
        (attempt.response_status, attempt.verdict.error_kind()),
        (expected.status, expected.error),
        "{name}: {attempt:?}"
    );
    let detail = attempt.verdict.detail();
    assert_eq!(detail.is_some(), expected.detail.is_some(), "{name}: {attempt:?}");
    assert!(
        expected.detail.is_none_or(|part| detail.is_some_and(|detail| detail.contains(part))),
        "{name}: {detail:?}"
    );
    let length = if expected.truncated { LIMIT..=LIMIT } else { 0..=LIMIT };
    assert_eq!(attempt.response_truncated, expected.truncated, "{name}");
    assert!(length.contains(&attempt.response_body.len()), "{name}: {attempt:?}");
    if expected.timeout == SHORT {
        assert!((SHORT..SHORT + SLACK).contains(&attempt.duration), "{name}: {:?}", attempt.duration);
    } else {
        assert!(attempt.duration < LONG, "{name}: {:?}", attempt.duration);
    }
}

/// Creates a subscriber for this case only, and dispatches an event to it with a single attempt.
async fn attempt_at(stage: &Stage, name: &str, url: &str, timeout: Duration) -> postrider_core::EventId {
    let policy =
        PolicyFields { timeout: Some(Span(timeout)), max_attempts: Some(1), ..PolicyFields::default() };
    let new = NewSubscriber {
        url: url.parse().unwrap(),
        events: vec![name.parse().unwrap()],
        policy: Policy::try_from(policy).unwrap(),
        ..stage.new_subscriber("/")
    };
    stage.store.create_subscriber(&tenant(), new).await.unwrap();
    let event = NewEvent::new(name, &json!({})).unwrap();
    stage.dispatcher.dispatch(event).await.unwrap().id
}

/// Listens until `receivers` is dropped.
async fn serve(script: Script, receivers: &mut JoinSet<()>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let script = Arc::new(script);
    receivers.spawn(async move {
        let mut connections = JoinSet::new();
        while let Ok((stream, _)) = listener.accept().await {
            connections.spawn(play(stream, Arc::clone(&script)));
        }
    });
    address
}

/// Plays the script until its end, or until the client disconnects.
async fn play(mut stream: TcpStream, script: Arc<Script>) {
    let mut request = Vec::new();
    while !request.ends_with(b"}") {
        if !stream.read_buf(&mut request).await.is_ok_and(|length| length > 0) {
            return;
        }
    }
    let _ = stream.write_all(&script.first).await;
    match &script.then {
        Then::Close => {}
        Then::Hang => {
            let _ = stream.read_u8().await;
        }
        Then::Repeat(bytes, pause) => {
            while stream.write_all(bytes).await.is_ok() {
                tokio::time::sleep(*pause).await;
            }
        }
    }
}
