//! Receivers that speak HTTP/2.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use postrider_core::ErrorKind;
use postrider_delivery::{BodyNote, Client};

use crate::receiver::{Connection, Receiver, until};
use crate::setup::*;
use crate::tls::Authority;

pub(crate) type Body = http_body_util::combinators::BoxBody<Bytes, Infallible>;

/// A client, an HTTP/2 receiver that it trusts and that responds with `answer`, and the receiver's URL.
pub(crate) async fn pair<F, S>(config: postrider_delivery::Config, answer: F) -> (Client, Receiver, String)
where
    F: Fn(http::Request<Incoming>) -> S + Clone + Send + Sync + 'static,
    S: Future<Output = http::Response<Body>> + Send + 'static,
{
    let authority = Authority::new();
    let receiver = Receiver::start_tls(
        authority.server("receiver.test", &[b"h2"], |_| {}),
        move |connection: Connection| {
            let answer = answer.clone();
            async move {
                let service = service_fn(move |request| {
                    let answering = answer(request);
                    async move { Ok::<_, Infallible>(answering.await) }
                });
                let _ = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(connection.stream), service)
                    .await;
            }
        },
    )
    .await;
    let names = Names::new("receiver.test", &[&["127.0.0.1"]]);
    let client = Client::with_resolver(authority.trusted(config), names).unwrap();
    let url = format!("https://receiver.test:{}/hook", receiver.address.port());
    (client, receiver, url)
}

fn full(body: impl Into<Bytes>) -> http::Response<Body> {
    http::Response::new(Full::new(body.into()).boxed())
}

/// A body that never ends.
struct Endless(Duration);

impl hyper::body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Infallible>>> {
        if self.0.is_zero() {
            return std::task::Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::from_static(
                &[b'z'; 8192],
            )))));
        }
        let (pause, waker) = (self.0, cx.waker().clone());
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            waker.wake();
        });
        std::task::Poll::Pending
    }
}

#[tokio::test]
async fn http2_is_used_if_the_receiver_offers_it() {
    let (client, receiver, url) = pair(long_timeout(), |request| async move {
        assert_eq!((request.version(), request.uri().path()), (http::Version::HTTP_2, "/hook"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        full(body)
    })
    .await;
    let sends = (0..20).map(|_| client.send(post(&url)));
    for sent in futures_util::future::join_all(sends).await {
        assert_eq!(sent.result.unwrap().body, "{\"a\":1}");
    }
    let accepted = receiver.accepted();
    assert!(client.send(post(&url)).await.is_success());
    assert_eq!(receiver.accepted(), accepted, "the connection is shared");
}

#[tokio::test]
async fn an_endless_body_ends_over_http2_too() {
    let (client, _receiver, url) =
        pair(long_timeout(), |_| async { http::Response::new(Endless(Duration::ZERO).boxed()) }).await;
    let sent = client.send(post(&url)).await;
    assert!(sent.duration < SLACK);
    let response = sent.result.unwrap();
    assert_eq!((response.body.len(), response.truncated, response.note), (5000, true, None));

    let (client, _receiver, url) =
        pair(config(), |_| async { http::Response::new(Endless(Duration::from_secs(9)).boxed()) }).await;
    let sent = client.send(post(&url)).await;
    assert_ended_at_the_deadline(&sent);
    assert_eq!(sent.result.unwrap().note, Some(BodyNote::TimedOut));
}

#[tokio::test]
async fn http2_silence_and_oversized_headers_are_failures() {
    let (client, _receiver, url) = pair(config(), |_| std::future::pending()).await;
    let sent = client.send(post(&url)).await;
    assert_ended_at_the_deadline(&sent);
    assert_eq!(failure_of(sent).kind, ErrorKind::TimeoutHeaders);

    let (client, _receiver, url) = pair(long_timeout(), |_| async {
        let mut response = full("");
        response.headers_mut().insert("x-long", http::HeaderValue::try_from("y".repeat(128 * 1024)).unwrap());
        response
    })
    .await;
    let sent = client.send(post(&url)).await;
    assert!(sent.duration < SLACK);
    assert_eq!(failure_of(sent).kind, ErrorKind::Protocol);
}

#[tokio::test]
async fn one_slow_response_does_not_delay_others_on_its_connection() {
    let count = Arc::new(AtomicUsize::new(0));
    let requests = count.clone();
    let (client, _receiver, url) = pair(config(), move |_| {
        let count = count.clone();
        async move {
            if count.fetch_add(1, Ordering::SeqCst) == 1 {
                std::future::pending::<()>().await;
            }
            full("ok")
        }
    })
    .await;
    assert!(client.send(post(&url)).await.is_success());
    let slow = client.clone();
    let slow_url = url.clone();
    let slow = tokio::spawn(async move { slow.send(post(&slow_url)).await });
    until("the slow request has arrived", || requests.load(Ordering::SeqCst) == 2).await;
    assert!(client.send(post(&url)).await.is_success());
    assert_eq!(failure_of(slow.await.unwrap()).kind, ErrorKind::TimeoutHeaders);
}

#[tokio::test]
async fn a_receiver_that_negotiates_http2_but_does_not_speak_it_is_a_failure() {
    let authority = Authority::new();
    let receiver = Receiver::start_tls(
        authority.server("receiver.test", &[b"h2"], |_| {}),
        |mut connection| async move {
            let _ = connection.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
            connection.hang().await;
        },
    )
    .await;
    let names = Names::new("receiver.test", &[&["127.0.0.1"]]);
    let client = Client::with_resolver(authority.trusted(long_timeout()), names).unwrap();
    let sent = client.send(post(&format!("https://receiver.test:{}/", receiver.address.port()))).await;
    assert!(sent.duration < SLACK);
    assert!(matches!(failure_of(sent).kind, ErrorKind::Protocol | ErrorKind::Reset));
    receiver.all_ended().await;
}
