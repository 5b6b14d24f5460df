//! Wake-ups by a channel of Redis.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::StreamExt as _;
use postrider_queue::{Bell, Wakeups};
use redis::{Client, RedisResult};
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::connection::Connection;

/// How long to wait before listening again after the connection broke.
const AGAIN: Duration = Duration::from_millis(500);

/// How often to look whether a silent connection still works.
const SILENT: Duration = Duration::from_secs(10);

/// Sends hints to the workers of all processes and receives them.
pub(crate) struct Waker {
    bell: Arc<Bell>,
    nodes: Vec<String>,
    channel: Arc<str>,
    /// A hint is to be sent. However many there are, the next one says it all.
    wanted: Arc<Notify>,
    listens: AtomicBool,
    tasks: std::sync::Mutex<Vec<AbortHandle>>,
}

impl Waker {
    pub(crate) fn new(connection: Connection, nodes: Vec<String>, channel: Arc<str>) -> Self {
        let wanted = Arc::new(Notify::new());
        let sending = tokio::spawn(send(connection, Arc::clone(&channel), Arc::clone(&wanted)));
        let tasks = std::sync::Mutex::new(vec![sending.abort_handle()]);
        Self { bell: Arc::default(), nodes, channel, wanted, listens: AtomicBool::new(false), tasks }
    }

    pub(crate) fn wake(&self) {
        self.bell.ring();
        self.wanted.notify_one();
    }

    /// Wakes workers of this process: a function has told the others.
    pub(crate) fn ring_here(&self) {
        self.bell.ring();
    }

    /// Listens for hints, from the first call on with a connection of its own.
    pub(crate) fn listen(&self) -> Wakeups {
        if !self.listens.swap(true, Ordering::Relaxed) {
            let listening = listen(self.nodes.clone(), Arc::clone(&self.channel), Arc::clone(&self.bell));
            let task = tokio::spawn(listening).abort_handle();
            self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(task);
        }
        self.bell.listen()
    }
}

impl Drop for Waker {
    fn drop(&mut self) {
        for task in self.tasks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).drain(..) {
            task.abort();
        }
    }
}

async fn send(connection: Connection, channel: Arc<str>, wanted: Arc<Notify>) {
    loop {
        wanted.notified().await;
        let sent: RedisResult<()> = connection.query(redis::cmd("PUBLISH").arg(&*channel).arg("")).await;
        if let Err(error) = sent {
            tracing::debug!(%error, "workers not woken through Redis; they poll");
        }
    }
}

async fn listen(nodes: Vec<String>, channel: Arc<str>, bell: Arc<Bell>) {
    for node in nodes.iter().cycle() {
        if let Err(error) = listen_at(node, &channel, &bell).await {
            tracing::debug!(%error, "no wake-ups through Redis; listening again");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen_at(node: &str, channel: &str, bell: &Bell) -> RedisResult<()> {
    let (mut sink, mut hints) = Client::open(node)?.get_async_pubsub().await?.split();
    sink.subscribe(channel).await?;
    // What came before the subscription was missed.
    bell.ring();
    loop {
        match tokio::time::timeout(SILENT, hints.next()).await {
            Ok(Some(_)) => bell.ring(),
            Ok(None) => return Ok(()),
            Err(_) => match tokio::time::timeout(SILENT, sink.ping::<redis::Value>()).await {
                Ok(answered) => drop(answered?),
                Err(_) => return Ok(()),
            },
        }
    }
}
