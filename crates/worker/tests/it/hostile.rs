//! Receivers of every bad kind, and the row that is kept of an attempt at each.

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

on_both!(each_hostile_receiver_leaves_one_row_that_tells_what_it_did);

/// Of an attempt that can only end by its deadline, and of one that must not need it.
const SHORT: Duration = Duration::from_secs(5);
const LONG: Duration = Duration::from_mins(1);

/// How late a deadline may be noticed on a busy machine.
const SLACK: Duration = Duration::from_secs(30);

const LIMIT: usize = 5000;
const CHUNKED: &str = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
const A_MOMENT: Duration = Duration::from_millis(50);

/// What a receiver sends once it has a request.
struct Script {
    first: Vec<u8>,
    then: Then,
}

enum Then {
    Close,
    Hang,
    Repeat(Vec<u8>, Duration),
}

/// What is kept of an attempt.
struct Row {
    timeout: Duration,
    /// `None`: the attempt failed without an answer.
    status: Option<u16>,
    error: Option<ErrorKind>,
    /// Part of the text, if there is to be one.
    says: Option<&'static str>,
    truncated: bool,
}

/// An attempt that has no answer.
const fn failed(timeout: Duration, error: ErrorKind, says: &'static str) -> Row {
    Row { timeout, status: None, error: Some(error), says: Some(says), truncated: false }
}

/// An attempt that counts as success.
const fn succeeded(timeout: Duration, says: Option<&'static str>, truncated: bool) -> Row {
    Row { timeout, status: Some(200), error: None, says, truncated }
}

fn cases() -> Vec<(&'static str, Script, Row)> {
    let script = |first: &str, then: Then| Script { first: first.as_bytes().to_vec(), then };
    let repeat = |bytes: &str, pause: Duration| Then::Repeat(bytes.as_bytes().to_vec(), pause);
    let fast_chunk = format!("2000\r\n{}\r\n", "z".repeat(0x2000));
    let bomb = "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f";
    let late = "HTTP/1.1 500 X\r\nTransfer-Encoding: chunked\r\n\r\n";
    let refused = |status, says| Row {
        timeout: LONG,
        status: Some(status),
        error: Some(ErrorKind::Status),
        says: Some(says),
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
            "slow-refusal",
            script(late, repeat("1\r\nz\r\n", A_MOMENT)),
            Row { timeout: SHORT, ..refused(500, "the receiver answered 500") },
        ),
        ("endless-body", script(CHUNKED, repeat(&fast_chunk, Duration::ZERO)), succeeded(LONG, None, true)),
        // Until it closes: what it sends has no other end.
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
            refused(302, "the receiver answered 302"),
        ),
    ]
}

async fn each_hostile_receiver_leaves_one_row_that_tells_what_it_did(stage: &Stage) {
    let worker = stage.worker(config()).await;
    let mut receivers = JoinSet::new();
    let mut waiting = Vec::new();
    for (name, script, row) in cases() {
        let url = format!("http://{}/", serve(script, &mut receivers).await);
        waiting.push((name, attempt_at(stage, name, &url, row.timeout).await, row));
    }
    // Nobody trusts its authority.
    let untrusted = Receiver::start_tls("127.0.0.1").await;
    let row = failed(LONG, ErrorKind::TlsUnknownIssuer, "is not trusted");
    waiting.push(("untrusted", attempt_at(stage, "untrusted", &untrusted.url("/"), LONG).await, row));

    for (name, event, row) in waiting {
        let delivery = stage.ended(event).await;
        let success = row.error.is_none();
        let status = if success { DeliveryStatus::Succeeded } else { DeliveryStatus::Dead };
        assert_eq!((delivery.status, delivery.attempts), (status, 1), "{name}");
        let attempts = stage.attempts(&delivery).await;
        assert_eq!(attempts.len(), 1, "{name}");
        judge(name, &attempts[0], &row);
    }
    stage.settled().await;
    worker.stop().await;
}

fn judge(name: &str, attempt: &RecordedAttempt, row: &Row) {
    assert_eq!(
        (attempt.response_status, attempt.verdict.error_kind()),
        (row.status, row.error),
        "{name}: {attempt:?}"
    );
    let detail = attempt.verdict.detail();
    assert_eq!(detail.is_some(), row.says.is_some(), "{name}: {attempt:?}");
    assert!(
        row.says.is_none_or(|says| detail.is_some_and(|detail| detail.contains(says))),
        "{name}: {detail:?}"
    );
    let expected = if row.truncated { LIMIT..=LIMIT } else { 0..=LIMIT };
    assert_eq!(attempt.response_truncated, row.truncated, "{name}");
    assert!(expected.contains(&attempt.response_body.len()), "{name}: {attempt:?}");
    if row.timeout == SHORT {
        assert!((SHORT..SHORT + SLACK).contains(&attempt.duration), "{name}: {:?}", attempt.duration);
    } else {
        assert!(attempt.duration < LONG, "{name}: {:?}", attempt.duration);
    }
}

/// A subscriber of its own gets an event of its own, and one attempt at it.
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

/// Plays the script until its end, or until the client has gone.
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
