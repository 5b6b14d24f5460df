//! Clients and requests for the tests.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use postrider_core::target::{AddressPolicy, TargetPolicy};
use postrider_delivery::{Client, Config, Failure, Request, Resolve, ResolveError, Response, Sent};

/// How long an attempt may take in these tests, and how much later it may be noticed on a busy machine. What comes
/// before the phase that a test is about has to be over by then.
pub(crate) const DEADLINE: Duration = Duration::from_secs(2);
pub(crate) const SLACK: Duration = Duration::from_secs(30);

/// Short timeouts, and 127.0.0.0/8 open.
pub(crate) fn config() -> Config {
    Config { request_timeout: DEADLINE, targets: opening(&["127.0.0.0/8"]), ..Config::default() }
}

/// For what should succeed: plenty of time.
pub(crate) fn patient() -> Config {
    Config { request_timeout: Duration::from_mins(2), ..config() }
}

pub(crate) fn opening(nets: &[&str]) -> TargetPolicy {
    let nets = nets.iter().map(|net| net.parse().unwrap()).collect();
    TargetPolicy { addresses: AddressPolicy::public_only().allowing(nets), https_only: false }
}

pub(crate) fn client(config: Config) -> Client {
    Client::new(config).unwrap()
}

pub(crate) fn post(url: &str) -> Request {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/json"));
    Request { url: url.parse().unwrap(), headers, body: Bytes::from_static(b"{\"a\":1}"), timeout: None }
}

pub(crate) async fn send(config: Config, url: &str) -> Sent {
    client(config).send(post(url)).await
}

/// The answer, of an attempt that must have one.
pub(crate) async fn answer(config: Config, url: &str) -> Response {
    send(config, url).await.result.unwrap()
}

/// The failure, of an attempt that must have no answer, whose text must name no address.
pub(crate) async fn failure(config: Config, url: &str) -> Failure {
    told(send(config, url).await)
}

pub(crate) fn told(outcome: Sent) -> Failure {
    let failure = outcome.result.unwrap_err();
    let text = failure.to_string();
    assert!(!text.is_empty() && !names_an_address(&text), "{failure:?}");
    failure
}

/// Whether there is an IP address anywhere in a text, with or without a port.
pub(crate) fn names_an_address(text: &str) -> bool {
    text.split(|c: char| !(c.is_ascii_hexdigit() || ".:".contains(c)))
        .map(|word| word.trim_end_matches(['.', ':']))
        .any(|word| word.parse::<IpAddr>().is_ok() || word.parse::<SocketAddr>().is_ok())
}

/// Asserts that an attempt took its time, and no more.
pub(crate) fn ended_at_the_deadline(outcome: &Sent) {
    let took = outcome.duration;
    assert!(took >= DEADLINE && took < DEADLINE + SLACK, "took {took:?}");
}

/// A resolver that knows some names. Each has a list of answers, given in turn; the last one stays.
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
