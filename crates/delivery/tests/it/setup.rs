//! Clients and requests for the tests.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use postrider_core::policy::RequestMethod;
use postrider_core::target::{AddressPolicy, TargetPolicy};
use postrider_delivery::{Client, Config, Failure, Request, Resolve, ResolveError, Response, Sent};

/// The time limit of an attempt in these tests, and how much later a busy machine may notice it. All phases before the
/// one that a test is about must end within `DEADLINE`.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
pub(crate) const SLACK: Duration = Duration::from_secs(30);

/// A short timeout, with 127.0.0.0/8 allowed.
pub(crate) fn config() -> Config {
    Config { request_timeout: DEADLINE, targets: allowing(&["127.0.0.0/8"]), ..Config::default() }
}

/// A long timeout, for attempts that should end by themselves.
pub(crate) fn long_timeout() -> Config {
    Config { request_timeout: Duration::from_mins(2), ..config() }
}

pub(crate) fn allowing(nets: &[&str]) -> TargetPolicy {
    let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
    TargetPolicy { addresses: AddressPolicy::public_only().allowing(nets), https_only: false }
}

pub(crate) fn client(config: Config) -> Client {
    Client::new(config).unwrap()
}

pub(crate) fn post(url: &str) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    let body = Bytes::from_static(b"{\"a\":1}");
    Request {
        method: RequestMethod::Post,
        url: url.parse().unwrap(),
        headers,
        body,
        timeout: None,
        auth: None,
        proxy: None,
    }
}

pub(crate) async fn send(config: Config, url: &str) -> Sent {
    client(config).send(post(url)).await
}

/// Makes an attempt that must get a response, and returns it.
pub(crate) async fn response(config: Config, url: &str) -> Response {
    send(config, url).await.result.unwrap()
}

/// Makes an attempt that must get no response, and returns the failure.
pub(crate) async fn failure(config: Config, url: &str) -> Failure {
    failure_of(send(config, url).await)
}

/// Returns the failure of an attempt, and asserts that its text contains no address.
pub(crate) fn failure_of(sent: Sent) -> Failure {
    let failure = sent.result.unwrap_err();
    let text = failure.to_string();
    assert!(!text.is_empty() && !names_an_address(&text), "{failure:?}");
    failure
}

/// Returns whether a text contains an IP address, with or without a port.
pub(crate) fn names_an_address(text: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_hexdigit() || ".:".contains(c)))
        .map(|word| word.trim_end_matches(['.', ':']))
        .any(|word| word.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok())
}

/// Asserts that an attempt ended at its deadline, neither earlier nor much later.
pub(crate) fn assert_ended_at_the_deadline(sent: &Sent) {
    let took = sent.duration;
    assert!(took >= DEADLINE && took < DEADLINE + SLACK, "took {took:?}");
}

/// Repeats `check` until it returns something, and panics if that takes longer than `limit`.
pub(crate) async fn eventually<T>(limit: Duration, mut check: impl AsyncFnMut() -> Option<T>) -> T {
    let checking = async {
        loop {
            if let Some(found) = check().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(limit, checking).await.unwrap()
}

/// A resolver that knows some names. Each has a list of answers; successive lookups take the next, and the last repeats.
#[derive(Default)]
pub(crate) struct Names {
    answers: Mutex<HashMap<String, Vec<Vec<IpAddr>>>>,
    asked: AtomicUsize,
}

impl Names {
    pub(crate) fn new(name: &str, answers: &[&[&str]]) -> Arc<Self> {
        let parse = |answer: &&[&str]| answer.iter().map(|address| address.parse().unwrap()).collect();
        let answers = HashMap::from([(name.to_owned(), answers.iter().map(parse).collect())]);
        Arc::new(Self { answers: Mutex::new(answers), asked: AtomicUsize::new(0) })
    }

    pub(crate) fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Resolve for Names {
    async fn resolve(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let mut names = self.answers.lock().unwrap();
        let answers = names.get_mut(host).ok_or(ResolveError::NoAddress)?;
        Ok(if answers.len() > 1 { answers.remove(0) } else { answers[0].clone() })
    }
}

/// A resolver that never answers.
pub(crate) struct Silent;

#[async_trait]
impl Resolve for Silent {
    async fn resolve(&self, _: &str) -> Result<Vec<IpAddr>, ResolveError> {
        std::future::pending().await
    }
}

/// A resolver that is unavailable.
pub(crate) struct Unavailable;

#[async_trait]
impl Resolve for Unavailable {
    async fn resolve(&self, _: &str) -> Result<Vec<IpAddr>, ResolveError> {
        Err(ResolveError::Unavailable)
    }
}
