//! Puts jobs into the queues on SQS and takes them out.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use postrider_queue::{Buffer, BufferedJob, JobId, LaneId, QueueError, Receipt, Taken};
use tokio::sync::Mutex;

use crate::calls::{
    BatchAnswer, ChangeMessageVisibility, DeleteMessageBatch, DeletedEntry, NewMessage, Nothing,
    QueueAttributes, ReceiveMessage, Received, ReceivedMessage, SendMessageBatch,
};
use crate::check::{Found, Warning, attributes, find};
use crate::client::Client;
use crate::error::SqsError;
use crate::message;
use crate::url::SqsUrl;

/// The most messages of a call.
const AT_ONCE: usize = 10;

/// How many calls put messages in side by side.
const SIDE_BY_SIDE: usize = 16;

/// How often messages are sent that SQS did not take.
const TRIES: u32 = 3;

/// From how many connections messages of the standard queue are taken. The FIFO queue has one.
const TAKERS: usize = 4;

/// How long SQS waits for a message: not as long as it could, since a worker that stops waits with it.
const WAIT: Duration = Duration::from_secs(5);

/// For how long a message that was taken is out of sight. Its job is in the database a moment later.
const OUT_OF_SIGHT: Duration = Duration::from_secs(30);

/// For how long a message that cannot be read is out of sight.
const UNREADABLE: Duration = Duration::from_mins(15);

/// For how long what was asked about the queues holds.
const KNOWN: Duration = Duration::from_secs(5);

/// A standard queue on SQS and a FIFO queue beside it.
#[derive(Debug)]
pub struct SqsBuffer {
    client: Client,
    standard: Found,
    fifo: Option<Found>,
    known: Mutex<Option<Known>>,
}

/// What was asked about the queues, and when.
#[derive(Clone, Debug)]
struct Known {
    asked: Instant,
    waiting: u64,
    created: String,
}

impl SqsBuffer {
    /// Finds the queues and checks them.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// Fails if there are no credentials, SQS cannot be reached, or a queue does not exist or cannot be used.
    pub async fn connect(url: &SqsUrl) -> Result<Self, SqsError> {
        Self::connect_with(url, Client::new(url, None)?).await
    }

    /// The same with these keys, whatever the environment says. For tests.
    ///
    /// # Errors
    /// As [`SqsBuffer::connect`].
    #[doc(hidden)]
    pub async fn connect_as(url: &SqsUrl, id: &str, secret: &str) -> Result<Self, SqsError> {
        Self::connect_with(url, Client::new(url, Some((id, secret)))?).await
    }

    async fn connect_with(url: &SqsUrl, client: Client) -> Result<Self, SqsError> {
        let standard = find(&client, url, &url.queue, false).await?;
        let fifo = match &url.fifo {
            Some(fifo) => Some(find(&client, url, fifo, true).await?),
            None => None,
        };
        Ok(Self { client, standard, fifo, known: Mutex::default() })
    }

    /// What operators should know about these queues.
    pub fn warnings(&self) -> impl Iterator<Item = Warning> + '_ {
        self.queues().flat_map(|queue| queue.warnings.iter().copied())
    }

    fn queues(&self) -> impl Iterator<Item = &Found> {
        std::iter::once(&self.standard).chain(&self.fifo)
    }

    fn queue(&self, source: usize) -> &Found {
        self.fifo.as_ref().filter(|_| source >= TAKERS).unwrap_or(&self.standard)
    }

    /// What is known about the queues, asked again after some seconds.
    async fn known(&self) -> Result<Known, SqsError> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.asked.elapsed() < KNOWN) {
            return Ok(known.clone());
        }
        let asked = try_join_all(self.queues().map(|queue| attributes(&self.client, &queue.url))).await?;
        let waiting = asked.iter().filter_map(|queue| queue.number("ApproximateNumberOfMessages")).sum();
        let created = asked.iter().map(identity).collect::<Vec<_>>().join(" ");
        Ok(known.insert(Known { asked: Instant::now(), waiting, created }).clone())
    }

    /// Sends messages, and those again that SQS did not take. Returns those that it will never take.
    async fn send(
        &self,
        queue: &Found,
        mut messages: Vec<(JobId, NewMessage)>,
    ) -> Result<Vec<JobId>, SqsError> {
        let mut refused = Vec::new();
        for try_number in 1..=TRIES {
            let entries =
                messages.iter().enumerate().map(|(place, (_, message))| message.at(place)).collect();
            let sent = SendMessageBatch { queue_url: &queue.url, entries };
            let answer: BatchAnswer = self.client.call("SendMessageBatch", &sent).await?;
            let failed: HashMap<&str, bool> =
                answer.failed.iter().map(|one| (one.id.as_str(), one.sender_fault)).collect();
            let mut again = Vec::new();
            for (place, (job, message)) in messages.into_iter().enumerate() {
                match failed.get(place.to_string().as_str()) {
                    Some(true) => refused.push(job),
                    Some(false) => again.push((job, message)),
                    None => {}
                }
            }
            if again.is_empty() {
                return Ok(refused);
            }
            messages = again;
            if try_number == TRIES {
                let code = answer.failed.iter().find(|one| !one.sender_fault).map(|one| one.code.clone());
                return Err(SqsError::Refused {
                    call: "SendMessageBatch",
                    code: code.unwrap_or_default().chars().take(80).collect(),
                    message: format!("{} messages were not taken", messages.len()),
                    passes: true,
                });
            }
            tokio::time::sleep(Duration::from_millis(100) * try_number).await;
        }
        Ok(refused)
    }

    /// Sends the messages of the standard queue, ten by ten.
    async fn send_all(&self, messages: Vec<(JobId, NewMessage)>) -> Result<Vec<JobId>, SqsError> {
        let mut refused = Vec::new();
        let mut messages = messages.into_iter();
        loop {
            let batches: Vec<Vec<_>> = (0..SIDE_BY_SIDE)
                .map(|_| messages.by_ref().take(AT_ONCE).collect::<Vec<_>>())
                .filter(|batch| !batch.is_empty())
                .collect();
            if batches.is_empty() {
                return Ok(refused);
            }
            let sent = join_all(batches.into_iter().map(|batch| self.send(&self.standard, batch))).await;
            for sent in sent {
                refused.extend(sent?);
            }
        }
    }

    /// Sends the messages of the FIFO queue: of each lane one after the other, since a batch may fail in part. What comes after
    /// a message that was refused is not sent either.
    async fn send_in_order(
        &self,
        queue: &Found,
        messages: Vec<(LaneId, JobId, NewMessage)>,
    ) -> Result<Vec<JobId>, SqsError> {
        let mut lanes: HashMap<LaneId, VecDeque<(JobId, NewMessage)>> = HashMap::new();
        for (lane, job, message) in messages {
            lanes.entry(lane).or_default().push_back((job, message));
        }
        let mut refused = Vec::new();
        while !lanes.is_empty() {
            let heads: Vec<(LaneId, JobId, NewMessage)> = lanes
                .iter_mut()
                .filter_map(|(lane, line)| line.pop_front().map(|(job, message)| (*lane, job, message)))
                .collect();
            let mut heads = heads.into_iter();
            loop {
                let batch: Vec<_> = heads.by_ref().take(AT_ONCE).collect();
                if batch.is_empty() {
                    break;
                }
                let lane_of: HashMap<JobId, LaneId> =
                    batch.iter().map(|(lane, job, _)| (*job, *lane)).collect();
                let batch = batch.into_iter().map(|(_, job, message)| (job, message)).collect();
                for job in self.send(queue, batch).await? {
                    refused.push(job);
                    let line = lane_of.get(&job).and_then(|lane| lanes.remove(lane));
                    refused.extend(line.unwrap_or_default().into_iter().map(|(job, _)| job));
                }
            }
            lanes.retain(|_, line| !line.is_empty());
        }
        Ok(refused)
    }

    /// A message that is none of ours, or one of a newer version. It must not be in the way, and not vanish without a word.
    async fn put_aside(&self, queue: &Found, message: &ReceivedMessage) {
        tracing::error!(
            message_id = %message.message_id, length = message.body.len(), queue = %queue.url,
            "a message on the queue cannot be read; it is left there and comes back in 15 minutes"
        );
        let change = ChangeMessageVisibility {
            queue_url: &queue.url,
            receipt_handle: &message.receipt_handle,
            visibility_timeout: UNREADABLE.as_secs(),
        };
        if let Err(error) = self.client.call::<Nothing>("ChangeMessageVisibility", &change).await {
            tracing::debug!(%error, "the message comes back earlier");
        }
    }
}

#[async_trait]
impl Buffer for SqsBuffer {
    fn keeps_order(&self) -> bool {
        self.fifo.is_some()
    }

    async fn put(&self, jobs: &[BufferedJob<'_>]) -> Result<Vec<JobId>, QueueError> {
        let (mut refused, mut standard, mut ordered) = (Vec::new(), Vec::new(), Vec::new());
        for BufferedJob { job, ordered: is_ordered } in jobs {
            let Some(message_body) = message::write(job) else {
                refused.push(job.id);
                continue;
            };
            // Fair queues look at the groups of a standard queue.
            let message = NewMessage {
                id: String::new(),
                message_body,
                message_group_id: job.lane.0.to_string(),
                message_deduplication_id: is_ordered.then(|| job.id.0.to_string()),
            };
            if *is_ordered {
                ordered.push((job.lane, job.id, message));
            } else {
                standard.push((job.id, message));
            }
        }
        let in_order = async {
            match &self.fifo {
                Some(fifo) => self.send_in_order(fifo, ordered).await,
                None => Ok(ordered.into_iter().map(|(_, job, _)| job).collect()),
            }
        };
        let (standard, ordered) = futures_util::future::join(self.send_all(standard), in_order).await;
        refused.extend(standard?);
        refused.extend(ordered?);
        Ok(refused)
    }

    fn sources(&self) -> usize {
        TAKERS + usize::from(self.fifo.is_some())
    }

    async fn take(&self, source: usize) -> Result<Vec<Taken>, QueueError> {
        let queue = self.queue(source);
        let asked = ReceiveMessage {
            queue_url: &queue.url,
            max_number_of_messages: 10,
            wait_time_seconds: WAIT.as_secs(),
            visibility_timeout: OUT_OF_SIGHT.as_secs(),
            attribute_names: ["SentTimestamp"],
        };
        let Received { messages } = self.client.call_and_wait("ReceiveMessage", &asked, WAIT).await?;
        let now = now();
        let mut taken = Vec::with_capacity(messages.len());
        for message in messages {
            let Some(job) = message::read(&message.body) else {
                self.put_aside(queue, &message).await;
                continue;
            };
            let sent = message.attributes.get("SentTimestamp").and_then(|sent| sent.parse().ok());
            let waited = Duration::from_millis(now.saturating_sub(sent.unwrap_or(now)));
            taken.push(Taken { job, receipt: Receipt(message.receipt_handle), waited });
        }
        Ok(taken)
    }

    async fn remove(&self, source: usize, receipts: &[Receipt]) -> Result<(), QueueError> {
        let queue = self.queue(source);
        for receipts in receipts.chunks(AT_ONCE) {
            let entries = receipts.iter().enumerate();
            let entries = entries.map(|(place, Receipt(handle))| DeletedEntry {
                id: place.to_string(),
                receipt_handle: handle,
            });
            let entries = entries.collect();
            let removed = DeleteMessageBatch { queue_url: &queue.url, entries };
            let answer: BatchAnswer = self.client.call("DeleteMessageBatch", &removed).await?;
            if !answer.failed.is_empty() {
                tracing::debug!(messages = answer.failed.len(), "messages stay on the queue and come again");
            }
        }
        Ok(())
    }

    async fn waiting(&self) -> Result<u64, QueueError> {
        Ok(self.known().await?.waiting)
    }

    /// The queues and when they were made. It changes, too, whenever half of the time has passed for which they keep messages:
    /// what is filled then replaces messages before they expire.
    async fn run(&self) -> Result<String, QueueError> {
        let created = self.known().await?.created;
        let retention = self.queues().map(|queue| queue.retention.as_millis()).min().unwrap_or(u128::MAX);
        let half = u64::try_from(retention / 2).unwrap_or(u64::MAX).max(1);
        Ok(format!("{created} {}", now() / half))
    }
}

impl NewMessage {
    fn at(&self, place: usize) -> Self {
        Self {
            id: place.to_string(),
            message_body: self.message_body.clone(),
            message_group_id: self.message_group_id.clone(),
            message_deduplication_id: self.message_deduplication_id.clone(),
        }
    }
}

/// What tells a queue from another one of the same name.
fn identity(queue: &QueueAttributes) -> String {
    let text = |name| queue.attributes.get(name).map_or("", String::as_str);
    format!("{}@{}", text("QueueArn"), text("CreatedTimestamp"))
}

/// In Unix milliseconds.
#[allow(clippy::disallowed_methods, reason = "compared with the clock of SQS, which tests cannot move")]
fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
