//! Reading what a worker needs to work on the jobs that it claimed.

pub(crate) mod columns;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_core::format::Format;
use postrider_core::keyring::Purpose;
use postrider_core::plugin::SelectedPlugin;
use postrider_core::signing::Signer;
use postrider_core::{
    AgentId, Channels, CustomHeaders, DeactivationReason, DeliveryId, DeliveryStatus, EventId, ExpressionId,
    Policy, ReceiverAuth, SubscriberId, TargetUrl, TenantId, Timestamp, Transform,
};
use postrider_database::sql::column;
use postrider_database::{Batch, Column, Kind};
use postrider_queue::{Claim, Claimed, ClaimedJob, Joined, QueueError};
use sea_orm::QueryResult;
use uuid::Uuid;

pub use self::columns::SMALL_BODY;
use self::columns::{INPUT, about_delivery, about_subscriber, deliveries_and_events, subscribers};
use crate::attempt::{DeliveryRef, End};
use crate::audit::fingerprint_of;
use crate::exchange::Versions;
use crate::partitions::Tables;
use crate::row::{parse, read_channels, status, target, unsigned};
use crate::subscribers::{
    secrets,
    stored::{read_format, read_plugin, read_policy, read_transform},
};
use crate::{Store, StoreError};

/// The body of a request.
#[derive(Clone, Debug)]
pub enum Body {
    /// The bytes. Deliveries of an event that are loaded together share them.
    Loaded(Bytes),
    /// More than [`SMALL_BODY`] bytes, namely this many, which [`Store::envelopes`] reads.
    Large(usize),
}

/// A request to be made.
#[derive(Debug)]
pub struct Work {
    /// The delivery.
    pub delivery: DeliveryRef,
    /// The agent that emitted the event.
    pub agent_id: AgentId,
    /// The channels of the event; read only for a recipient with a transform or a plugin.
    pub channels: Option<Channels>,
    /// The body to send.
    pub body: Body,
    /// Where and how to send it. All jobs of a subscriber that are loaded together share it.
    pub recipient: Arc<Recipient>,
}

/// What an attempt needs to know about a subscriber.
#[derive(Debug)]
pub struct Recipient {
    /// Where to send the request.
    pub url: TargetUrl,
    /// Signs the request.
    pub signer: Signer,
    /// The subscriber's additional headers.
    pub headers: CustomHeaders,
    /// How to deliver to the subscriber.
    pub policy: Policy,
    /// The body that it receives.
    pub format: Format,
    /// What is done with the data before it is sent.
    pub transform: Option<Transform>,
    /// The plugin that changes the data after that.
    pub plugin: Option<SelectedPlugin>,
    /// How to authenticate to the receiver.
    pub auth: Option<Arc<ReceiverAuth>>,
    /// Which secret and policy these are.
    pub versions: Versions,
}

impl Recipient {
    /// Whether its transform or its plugin may ask for the event's channels.
    fn asks_for_channels(&self) -> bool {
        self.transform.is_some() || self.plugin.is_some()
    }
}

/// What to do about a claimed job.
#[derive(Debug)]
pub enum Loaded {
    /// Make the request.
    Deliver(Box<Work>),
    /// The delivery has ended, belongs to another job, or does not exist. End the job.
    Nothing,
    /// The next attempt is due only after this delay. Put the job back until then.
    NotDue(Duration),
    /// The subscriber is inactive or deleted. End the delivery as given.
    Inactive(DeliveryRef, End),
    /// The event's payload is gone. End the delivery as cancelled.
    PayloadGone(DeliveryRef),
    /// A stored value cannot be read. Record a failed attempt that does not blame the receiver.
    Unreadable(DeliveryRef, Arc<StoreError>),
}

/// What a claim has read about its jobs.
#[derive(Debug)]
pub struct Fetched(Joined);

impl Store {
    /// Returns what to do about each of these jobs, in their order. One statement reads all of them, including changes
    /// to subscribers since their last attempt.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn load(&self, jobs: &[ClaimedJob]) -> Result<Vec<Loaded>, StoreError> {
        let tables = self.tables_of(jobs.iter().map(|job| DeliveryId::from_uuid(job.subject)));
        match self.load_from(&tables, jobs).await {
            // The partition was dropped: no delivery was pending in it.
            Err(StoreError::Database(error)) if error.is_missing_table() => {
                self.partitions.forget();
                self.load_from(&Tables::WHOLE, jobs).await
            }
            loaded => loaded,
        }
    }

    async fn load_from(&self, tables: &Tables, jobs: &[ClaimedJob]) -> Result<Vec<Loaded>, StoreError> {
        const JOB: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("tenant", Kind::Text),
            Column::new("job_id", Kind::Uuid),
            Column::new("delivery_id", Kind::Uuid),
            Column::new("event_id", Kind::Uuid),
        ];
        let mut input = Batch::new(JOB);
        for (place, job) in (0_i32..).zip(jobs) {
            input.push([
                place.into(),
                job.owner.as_str().into(),
                job.lease.job.0.into(),
                job.subject.into(),
                DeliveryId::from_uuid(job.subject).event().uuid().into(),
            ]);
        }
        let dialect = self.database.dialect();
        let columns =
            about_delivery(dialect).into_iter().chain(about_subscriber(dialect, "deliveries.subscriber_id"));
        let columns =
            columns.map(|(name, value)| format!("{value} AS {name}")).collect::<Vec<_>>().join(", ");
        let subscriber =
            "subscribers.id = deliveries.subscriber_id AND subscribers.tenant = deliveries.tenant";
        let sql = format!(
            "SELECT input.place, {columns} FROM input {} {}",
            deliveries_and_events(dialect, &INPUT, tables),
            subscribers(dialect, subscriber)
        );
        let rows = input.query(&self.database.reads(), &sql, []).await?;
        let mut loaded: Vec<Loaded> = Vec::with_capacity(jobs.len());
        loaded.resize_with(jobs.len(), || Loaded::Nothing);
        let mut known = Known::default();
        for row in &rows {
            let place = usize::try_from(column::<i32>(row, "place")?).unwrap_or(usize::MAX);
            if let Some(entry) = loaded.get_mut(place) {
                *entry = self.judge(row, row, &mut known)?;
            }
        }
        Ok(loaded)
    }

    /// Claims jobs and, if the queue can do that in the same statement, reads what [`Store::loaded`] then returns. Otherwise
    /// [`Store::load`] loads it.
    ///
    /// # Errors
    /// Fails if the queue is unavailable. Jobs may have been claimed all the same; their leases expire.
    pub async fn claim(&self, claim: &Claim) -> Result<(Claimed, Option<Fetched>), QueueError> {
        // Most jobs are about deliveries of today. On the whole tables each claim would open all their partitions.
        let Some(tables) = self.tables_of_now() else { return Ok((self.queue.claim(claim).await?, None)) };
        let claimed = self.queue.claim_joined(claim, &self.claimed.join(&tables)).await;
        if claimed.is_err() {
            // The partition may have gone.
            self.partitions.forget();
        }
        let (claimed, rows) = claimed?;
        Ok((claimed, rows.map(Fetched)))
    }

    /// Returns what to do about each of these jobs, in their order, as their claim has read it. Loads those that it did not
    /// find, such as older ones.
    ///
    /// # Errors
    /// Fails if the database is unavailable, or the rows cannot be read.
    pub async fn loaded(&self, jobs: &[ClaimedJob], fetched: &Fetched) -> Result<Vec<Loaded>, StoreError> {
        let mut known = Known::default();
        let mut loaded = Vec::with_capacity(jobs.len());
        let (mut places, mut others) = (Vec::new(), Vec::new());
        for (place, job) in jobs.iter().enumerate() {
            let row = fetched.0.jobs.get(&job.lease.job);
            let lane = fetched.0.lanes.get(&job.lease.lane);
            // The event of a stale job is found without its delivery.
            let is_found = |row| -> Result<bool, StoreError> {
                let id = |name| column::<Option<Uuid>>(row, name);
                Ok(id("delivery_id")?.is_some() && id("event_id")?.is_some())
            };
            let found = row.map(is_found).transpose()?.unwrap_or(false);
            if let (Some(row), Some(lane), true) = (row, lane, found) {
                loaded.push(self.judge(row, lane, &mut known)?);
            } else {
                places.push(place);
                others.push(job.clone());
                loaded.push(Loaded::Nothing);
            }
        }
        if !others.is_empty() {
            for (place, other) in places.into_iter().zip(self.load(&others).await?) {
                loaded[place] = other;
            }
        }
        Ok(loaded)
    }

    /// Returns the envelopes of tenants' events: the bodies of their deliveries. An event that does not exist has none, nor
    /// does one whose payload is gone.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn envelopes(
        &self,
        events: &[(TenantId, EventId)],
    ) -> Result<HashMap<EventId, Bytes>, StoreError> {
        let named = events.iter().map(|(tenant, event)| (tenant, *event));
        let (input, events) = crate::event_keys::look_up(self.database.dialect(), named);
        let sql = format!(
            "SELECT events.id, events.envelope FROM input {events} WHERE events.payload_gone IS NULL"
        );
        let rows = input.query(self.database.connection(), &sql, []).await?;
        let envelope = |row: QueryResult| {
            let id = EventId::from_uuid(column(&row, "id")?);
            Ok((id, column::<Vec<u8>>(&row, "envelope")?.into()))
        };
        // Row by row, so that no more than one of them is in memory twice.
        rows.into_iter().map(envelope).collect()
    }

    /// Decides from the row of a delivery and that of its subscriber, which may be the same.
    fn judge(
        &self,
        row: &QueryResult,
        subscriber: &QueryResult,
        known: &mut Known,
    ) -> Result<Loaded, StoreError> {
        let id = DeliveryId::from_uuid(column(row, "delivery_id")?);
        if status(column(row, "status")?, id)? != DeliveryStatus::Pending {
            return Ok(Loaded::Nothing);
        }
        let delivery = DeliveryRef {
            id,
            tenant: parse(&column::<String>(row, "tenant")?, "deliveries", "tenant", id)?,
            event_id: EventId::from_uuid(column(row, "event_id")?),
            event_type: parse(&column::<String>(row, "event_type")?, "deliveries", "event_type", id)?,
            subscriber: SubscriberId::from_uuid(column(row, "subscriber_id")?),
            created_at: Timestamp::from_millis(column(row, "created_at")?),
            attempts: unsigned(column(row, "attempts")?),
            round_start: unsigned(column(row, "round_start")?),
            failing: column::<i32>(subscriber, "failing")? != 0,
        };
        if column::<Option<bool>>(subscriber, "active")? != Some(true) {
            let reason = column::<Option<i16>>(subscriber, "deactivation_reason")?
                .and_then(DeactivationReason::from_code);
            return Ok(Loaded::Inactive(delivery, End::of_inactive(reason)));
        }
        if column::<Option<i16>>(row, "payload_gone")?.is_some() {
            return Ok(Loaded::PayloadGone(delivery));
        }
        if let Some(due_in) = column::<Option<i64>>(row, "due_in")?
            && let Ok(due_in @ 1..) = u64::try_from(due_in)
        {
            return Ok(Loaded::NotDue(Duration::from_millis(due_in)));
        }
        match self.read_work(row, subscriber, &delivery, known) {
            Ok((agent_id, channels, body, recipient)) => {
                Ok(Loaded::Deliver(Box::new(Work { delivery, agent_id, channels, body, recipient })))
            }
            Err(error) => Ok(Loaded::Unreadable(delivery, Arc::new(error))),
        }
    }

    fn read_work(
        &self,
        row: &QueryResult,
        subscriber: &QueryResult,
        delivery: &DeliveryRef,
        known: &mut Known,
    ) -> Result<(AgentId, Option<Channels>, Body, Arc<Recipient>), StoreError> {
        let agent_id = parse(&column::<String>(row, "agent_id")?, "events", "agent_id", delivery.event_id)?;
        let body = match known.bodies.entry(delivery.event_id) {
            Entry::Occupied(known) => known.get().clone(),
            Entry::Vacant(new) => new.insert(read_body(row)?).clone(),
        };
        let recipient = match known.recipients.entry(delivery.subscriber) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => {
                Arc::clone(new.insert(Arc::new(self.read_recipient(subscriber, delivery)?)))
            }
        };
        let channels =
            if recipient.asks_for_channels() { column::<Option<String>>(row, "channels")? } else { None };
        let channels = read_channels(channels.as_deref(), "events", delivery.event_id)?;
        Ok((agent_id, channels, body, recipient))
    }

    fn read_recipient(&self, row: &QueryResult, delivery: &DeliveryRef) -> Result<Recipient, StoreError> {
        let (tenant, subscriber) = (&delivery.tenant, delivery.subscriber);
        let open = |purpose, sealed: Vec<u8>| {
            secrets::open_secret(&self.keyring, tenant, subscriber, purpose, &sealed)
        };
        let sealed: Vec<u8> = column(row, "secret")?;
        let policy: String = column(row, "policy")?;
        let versions =
            Versions { secret: fingerprint_of(&sealed), policy: ExpressionId::of(policy.as_bytes()) };
        let secret = open(Purpose::Secret, sealed)?;
        let mut previous = Vec::new();
        if let Some(sealed) = column::<Option<Vec<u8>>>(row, "previous_secret")? {
            previous.push(open(Purpose::PreviousSecret, sealed)?);
        }
        if let Some(sealed) = column::<Option<Vec<u8>>>(row, "older_secrets")? {
            let now = self.ids.clock().now();
            let older = secrets::open_older(&self.keyring, tenant, subscriber, &sealed)?;
            previous.extend(older.into_iter().filter(|older| older.until > now).map(|older| older.secret));
        }
        let headers: Option<Vec<u8>> = column(row, "headers")?;
        let auth: Option<Vec<u8>> = column(row, "auth")?;
        Ok(Recipient {
            url: target(&column::<String>(row, "url")?, subscriber)?,
            signer: Signer::new(&secret, &previous),
            headers: secrets::open_headers(&self.keyring, tenant, subscriber, headers.as_deref())?,
            policy: read_policy(&policy, subscriber)?,
            format: read_format(column::<Option<String>>(row, "format")?.as_deref(), subscriber)?,
            transform: read_transform(column::<Option<String>>(row, "transform")?.as_deref(), subscriber)?,
            plugin: read_plugin(
                column::<Option<String>>(row, "plugin_name")?.as_deref(),
                column::<Option<String>>(row, "plugin")?.as_deref(),
                subscriber,
            )?,
            auth: secrets::open_auth(&self.keyring, tenant, subscriber, auth.as_deref())?.map(Arc::new),
            versions,
        })
    }
}

/// What several of the loaded jobs share. All rows of a subscriber show the same state of it, so its secrets are decrypted
/// once for all its jobs.
#[derive(Default)]
struct Known {
    bodies: HashMap<EventId, Body>,
    recipients: HashMap<SubscriberId, Arc<Recipient>>,
}

fn read_body(row: &QueryResult) -> Result<Body, StoreError> {
    Ok(match column::<Option<Vec<u8>>>(row, "envelope")? {
        Some(envelope) => Body::Loaded(envelope.into()),
        None => Body::Large(usize::try_from(column::<i32>(row, "size")?).unwrap_or(usize::MAX)),
    })
}
