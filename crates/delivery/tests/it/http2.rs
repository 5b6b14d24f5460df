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

/// A client that trusts the receiver, and the receiver, which answers as `answer` says.
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
async fn http2_is_spoken_where_it_is_offered() {
    let (client, receiver, url) = pair(patient(), |request| async move {
        assert_eq!((request.version(), request.uri().path()), (http::Version::HTTP_2, "/hook"));
        let body = request.into_body().collect().await.unwrap().to_bytes();
        full(body)
    })
    .await;
    let sends = (0..20).map(|_| client.send(post(&url)));
    for outcome in futures_util::future::join_all(sends).await {
        assert_eq!(outcome.result.unwrap().body, "{\"a\":1}");
    }
    let accepted = receiver.accepted();
    assert!(client.send(post(&url)).await.is_success());
    assert_eq!(receiver.accepted(), accepted, "the connection is shared");
}

#[tokio::test]
async fn endless_bodies_end_over_http2_too() {
    let (client, _receiver, url) =
        pair(patient(), |_| async { http::Response::new(Endless(Duration::ZERO).boxed()) }).await;
    let outcome = client.send(post(&url)).await;
    assert!(outcome.duration < SLACK);
    let response = outcome.result.unwrap();
    assert_eq!((response.body.len(), response.truncated, response.note), (5000, true, None));

    let (client, _receiver, url) =
        pair(config(), |_| async { http::Response::new(Endless(Duration::from_secs(9)).boxed()) }).await;
    let outcome = client.send(post(&url)).await;
    ended_at_the_deadline(&outcome);
    assert_eq!(outcome.result.unwrap().note, Some(BodyNote::TimedOut));
}

#[tokio::test]
async fn silence_and_headers_over_the_limit_are_failures() {
    let (client, _receiver, url) = pair(config(), |_| std::future::pending()).await;
    let outcome = client.send(post(&url)).await;
    ended_at_the_deadline(&outcome);
    assert_eq!(told(outcome).kind, ErrorKind::TimeoutHeaders);

    let (client, _receiver, url) = pair(patient(), |_| async {
        let mut response = full("");
        response.headers_mut().insert("x-long", http::HeaderValue::try_from("y".repeat(64 * 1024)).unwrap());
        response
    })
    .await;
    let outcome = client.send(post(&url)).await;
    assert!(outcome.duration < SLACK);
    assert_eq!(told(outcome).kind, ErrorKind::Protocol);
}

#[tokio::test]
async fn one_slow_answer_does_not_hold_up_the_others_on_its_connection() {
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
    until("the slow one has arrived", || requests.load(Ordering::SeqCst) == 2).await;
    assert!(client.send(post(&url)).await.is_success());
    assert_eq!(told(slow.await.unwrap()).kind, ErrorKind::TimeoutHeaders);
}

#[tokio::test]
async fn a_receiver_that_agrees_to_http2_and_speaks_garbage() {
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
    let client = Client::with_resolver(authority.trusted(patient()), names).unwrap();
    let outcome = client.send(post(&format!("https://receiver.test:{}/", receiver.address.port()))).await;
    assert!(outcome.duration < SLACK);
    assert!(matches!(told(outcome).kind, ErrorKind::Protocol | ErrorKind::Reset));
    receiver.all_ended().await;
}
