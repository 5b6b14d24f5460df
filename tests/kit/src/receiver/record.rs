use std::{
    collections::HashMap,
    str,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use serde_json::Value;
use tokio::sync::Notify;

use super::Behaviour;

/// A complete request, as it arrived.
#[derive(Clone, Debug)]
pub struct ReceivedRequest {
    /// The method.
    pub method: String,
    /// The request target: path and query.
    pub target: String,
    /// The headers in their original order: names in their original case, values as bytes.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, without any transfer encoding.
    pub body: Vec<u8>,
    /// When its head was complete.
    pub arrived: Instant,
    /// The number of the connection that it arrived on, counted from 0.
    pub connection: usize,
}

impl ReceivedRequest {
    /// The target without its query.
    pub fn path(&self) -> &str {
        self.target.split_once('?').map_or(&self.target, |(path, _)| path)
    }

    /// The value of the first header with this name, ignoring case; `None` if there is none or it is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self.headers.iter().find(|(given, _)| given.eq_ignore_ascii_case(name))?;
        str::from_utf8(value).ok()
    }

    /// The body, which must be JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("the body is not JSON: {error}"))
    }
}

/// The state that a receiver's connections share.
#[derive(Debug, Default)]
pub(super) struct Journal {
    state: Mutex<State>,
    received: Notify,
}

#[derive(Debug, Default)]
struct State {
    requests: Vec<ReceivedRequest>,
    behaviours: HashMap<String, Behaviour>,
    in_flight: usize,
    peak_in_flight: usize,
}

impl Journal {
    pub(super) fn set_behaviour(&self, path: &str, behaviour: Behaviour) {
        self.state().behaviours.insert(path.to_owned(), behaviour);
    }

    pub(super) fn requests(&self) -> Vec<ReceivedRequest> {
        self.state().requests.clone()
    }

    pub(super) fn peak_in_flight(&self) -> usize {
        self.state().peak_in_flight
    }

    /// Records a request and returns the behaviour for it.
    pub(super) fn record(&self, request: ReceivedRequest) -> Behaviour {
        let mut state = self.state();
        let behaviour =
            state.behaviours.get_mut(request.path()).map_or(Behaviour::Status(200), Behaviour::next);
        state.requests.push(request);
        drop(state);
        self.received.notify_waiters();
        behaviour
    }

    /// Counts a request as in progress until the guard is dropped.
    pub(super) fn in_flight(&self) -> InFlight<'_> {
        let mut state = self.state();
        state.in_flight += 1;
        state.peak_in_flight = state.peak_in_flight.max(state.in_flight);
        InFlight { journal: self }
    }

    pub(super) async fn wait_for(
        &self,
        count: usize,
        counts: impl Fn(&ReceivedRequest) -> bool,
    ) -> Vec<ReceivedRequest> {
        loop {
            // Registered before looking, so that no request is missed.
            let mut received = std::pin::pin!(self.received.notified());
            received.as_mut().enable();
            let found: Vec<_> = self.requests().into_iter().filter(&counts).collect();
            if found.len() >= count {
                return found;
            }
            received.await;
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug)]
pub(super) struct InFlight<'a> {
    journal: &'a Journal,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.journal.state().in_flight -= 1;
    }
}
