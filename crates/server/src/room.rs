//! Room in memory for the bodies of requests and for the events in responses.
//!
//! A request whose body is large waits for room before the body is read, and without taking one of the places of running
//! requests, so that no request waits behind it. Small bodies do not count: there are no more of them than connections.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use postrider_core::budget::ByteBudget;
use postrider_telemetry::metric;
use serde::Serialize;
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::problem::Problem;

/// Bodies of up to this many bytes do not count.
pub(crate) const SMALL: usize = 16 * 1024;

/// How long a request waits for room.
const LONGEST_WAIT: Duration = Duration::from_secs(10);

/// How long smaller bodies pass the one that has waited longest.
const MAX_BYPASS: Duration = Duration::from_secs(1);

/// The memory for bodies.
#[derive(Clone, Debug)]
pub(crate) struct Memory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    budget: Mutex<ByteBudget<Waiting>>,
    /// How many running requests wait for room, and the most that may.
    running: AtomicUsize,
    most_running: usize,
}

#[derive(Debug)]
struct Waiting {
    bytes: usize,
    admitted: oneshot::Sender<Room>,
}

/// Room for some bytes, until dropped.
#[derive(Debug)]
pub(crate) struct Room {
    bytes: usize,
    /// `None` for small bodies.
    memory: Option<Arc<Inner>>,
}

impl Memory {
    /// Memory of `limit` bytes for a server that runs this many requests at once.
    pub(crate) fn new(limit: usize, requests: usize) -> Self {
        #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 bytes.
        metrics::gauge!(metric::REQUEST_BYTES_MAX).set(limit as f64);
        metrics::gauge!(metric::REQUEST_BYTES).set(0.0);
        metrics::gauge!(metric::REQUESTS_WAITING).set(0.0);
        Self(Arc::new(Inner {
            budget: Mutex::new(ByteBudget::new(limit, MAX_BYPASS)),
            running: AtomicUsize::new(0),
            most_running: (requests / 2).max(1),
        }))
    }

    /// Waits for room.
    ///
    /// # Errors
    /// Fails with 503 after [`LONGEST_WAIT`].
    pub(crate) async fn room(&self, bytes: usize) -> Result<Room, Problem> {
        if bytes <= SMALL {
            return Ok(Room { bytes, memory: None });
        }
        let (admitted, room) = oneshot::channel();
        {
            let mut budget = self.0.budget();
            let now = Instant::now();
            if budget.take(bytes, now) {
                measure(&budget);
                return Ok(Room { bytes, memory: Some(Arc::clone(&self.0)) });
            }
            budget.wait(Waiting { bytes, admitted }, bytes, now);
        }
        let _waiting = WaitingGauge::increment();
        match timeout(LONGEST_WAIT, room).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) | Err(_) => Err(crowded()),
        }
    }

    /// Waits for room on behalf of a running request, whose place is then not available to others. Half of the places may
    /// wait like this.
    ///
    /// # Errors
    /// Fails with 503 after [`LONGEST_WAIT`], or at once if too many requests wait.
    pub(crate) async fn room_while_running(&self, bytes: usize) -> Result<Room, Problem> {
        if bytes <= SMALL {
            return self.room(bytes).await;
        }
        let running = RunningRequest::new(&self.0);
        if self.0.running.load(Ordering::Relaxed) > self.0.most_running {
            return Err(crowded());
        }
        let room = self.room(bytes).await;
        drop(running);
        room
    }
}

fn crowded() -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too many large requests are being processed; try again")
}

impl Inner {
    fn budget(&self) -> MutexGuard<'_, ByteBudget<Waiting>> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(self: &Arc<Self>, bytes: usize) {
        let admitted = {
            let mut budget = self.budget();
            budget.give_back(bytes);
            budget.retain(|waiting| !waiting.admitted.is_closed());
            let admitted = budget.admit(Instant::now());
            measure(&budget);
            admitted
        };
        for Waiting { bytes, admitted } in admitted {
            // If the request has gone in the meantime, dropping the room gives it back.
            let _ = admitted.send(Room { bytes, memory: Some(Arc::clone(self)) });
        }
    }
}

fn measure(budget: &ByteBudget<Waiting>) {
    #[allow(clippy::cast_precision_loss)] // Exact up to 2^53 bytes.
    metrics::gauge!(metric::REQUEST_BYTES).set(budget.used() as f64);
}

impl Room {
    /// Whether these bytes count.
    pub(crate) const fn counts(&self) -> bool {
        self.memory.is_some()
    }

    /// Gives back what exceeds this many bytes.
    pub(crate) fn shrink_to(&mut self, bytes: usize) {
        if let Some(memory) = &self.memory
            && let Some(rest) = self.bytes.checked_sub(bytes)
        {
            self.bytes = bytes;
            memory.give_back(rest);
        }
    }

    /// Returns a JSON response that holds the room until its last byte has been sent.
    pub(crate) fn json(self, value: &impl Serialize) -> Result<Response, Problem> {
        struct Held(Vec<u8>, #[allow(dead_code, reason = "held until dropped")] Room);
        impl AsRef<[u8]> for Held {
            fn as_ref(&self) -> &[u8] {
                &self.0
            }
        }
        let json = serde_json::to_vec(value).map_err(|error| {
            tracing::error!(%error, "a response could not be serialised");
            Problem::internal()
        })?;
        let mut response = Response::new(Body::from(Bytes::from_owner(Held(json, self))));
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        Ok(response)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(memory) = &self.memory {
            memory.give_back(self.bytes);
        }
    }
}

/// Counts a running request that waits for room until dropped.
struct RunningRequest<'a>(&'a Inner);

impl<'a> RunningRequest<'a> {
    fn new(memory: &'a Inner) -> Self {
        memory.running.fetch_add(1, Ordering::Relaxed);
        Self(memory)
    }
}

impl Drop for RunningRequest<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a request that waits for room until dropped.
struct WaitingGauge;

impl WaitingGauge {
    fn increment() -> Self {
        metrics::gauge!(metric::REQUESTS_WAITING).increment(1.0);
        Self
    }
}

impl Drop for WaitingGauge {
    fn drop(&mut self) {
        metrics::gauge!(metric::REQUESTS_WAITING).decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[tokio::test(start_paused = true)]
    async fn a_large_body_waits_and_is_rejected_in_the_end_while_small_ones_pass() {
        let memory = Memory::new(2 * MIB, 8);
        let first = memory.room(MIB).await.unwrap();
        let second = memory.room(MIB).await.unwrap();
        assert!(memory.room(SMALL).await.is_ok());
        let started = tokio::time::Instant::now();
        assert_eq!(memory.room(MIB).await.unwrap_err().into_body().status, 503);
        assert_eq!(started.elapsed(), LONGEST_WAIT);

        let waiting = tokio::spawn({
            let memory = memory.clone();
            async move { memory.room(2 * MIB).await }
        });
        tokio::task::yield_now().await;
        drop((first, second));
        let mut room = waiting.await.unwrap().unwrap();
        assert_eq!(memory.0.budget().used(), 2 * MIB);
        room.shrink_to(MIB);
        assert_eq!(memory.0.budget().used(), MIB);
        drop(room);
        assert_eq!(memory.0.budget().used(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn half_of_the_running_requests_may_wait_for_room() {
        let memory = Memory::new(MIB, 4);
        let _all = memory.room(MIB).await.unwrap();
        let waiting: Vec<_> = (0..2)
            .map(|_| {
                let memory = memory.clone();
                tokio::spawn(async move { memory.room_while_running(MIB).await.map(drop) })
            })
            .collect();
        tokio::task::yield_now().await;
        let started = tokio::time::Instant::now();
        assert!(memory.room_while_running(MIB).await.is_err());
        assert_eq!(started.elapsed(), Duration::ZERO, "rejected at once");
        for waiting in waiting {
            assert!(waiting.await.unwrap().is_err());
        }
    }
}
