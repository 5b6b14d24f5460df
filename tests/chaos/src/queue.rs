//! Redis as the queue, and its faults.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use fastrand::Rng;
use postrider_testkit::redis::{Keeps, RedisServer};
use tokio_util::sync::CancellationToken;

use crate::{
    incident::{Chronicle, Fault},
    moment::{self, wait},
};

/// The Redis server that holds the queue.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Mutex<RedisServer>>);

impl Queue {
    /// Starts Redis. `None` if there is none.
    pub(crate) fn start(keeps: Keeps) -> Option<Self> {
        Some(Self(Arc::new(Mutex::new(RedisServer::start(keeps)?))))
    }

    pub(crate) fn url(&self) -> String {
        self.with(|redis| redis.url())
    }

    /// Kills and restarts Redis until `stop`.
    pub(crate) async fn torment(self, mut rng: Rng, chronicle: Arc<Chronicle>, stop: CancellationToken) {
        loop {
            wait(Duration::from_millis(rng.u64(1000..6000)), &stop).await;
            if stop.is_cancelled() {
                return;
            }
            let from = moment::now();
            self.with(RedisServer::kill);
            wait(Duration::from_millis(rng.u64(..3000)), &stop).await;
            let queue = self.clone();
            let restarted = tokio::task::spawn_blocking(move || queue.with(RedisServer::restart)).await;
            restarted.expect("a Redis that starts again");
            chronicle.note(Fault::Queue, None, from);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut RedisServer) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
