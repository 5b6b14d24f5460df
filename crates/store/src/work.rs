//! What a worker needs to know of the jobs that it claimed.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use postrider_core::keyring::Purpose;
use postrider_core::signing::Signer;
use postrider_core::{
    AgentId, CustomHeaders, DeactivationReason, DeadReason, DeliveryId, DeliveryStatus, EventId, EventType,
    Policy, SubscriberId, TargetUrl, TenantId, Timestamp,
};
use postrider_database::{Batch, Column, Dialect, Kind};
use postrider_queue::ClaimedJob;
use sea_orm::QueryResult;

use crate::outcome::End;
use crate::row::{column, parse, status, target, unsigned};
use crate::subscriber::read_policy;
use crate::{Store, StoreError};

/// A delivery, as its outcome is recorded.
#[derive(Clone, Debug)]
pub struct DeliveryRef {
    /// Its id.
    pub id: DeliveryId,
    /// Whose it is.
    pub tenant: TenantId,
    /// What is delivered.
    pub event_id: EventId,
    /// Its type.
    pub event_type: EventType,
    /// To whom.
    pub subscriber: SubscriberId,
    /// When it was made: when the event was dispatched.
    pub created_at: Timestamp,
    /// How many attempts it has had.
    pub attempts: u32,
    /// How many of them came before the present round.
    pub round_start: u32,
    /// Whether its subscriber had failed since its last success.
    pub failing: bool,
}

/// A request to be made.
#[derive(Debug)]
pub struct Work {
    /// The delivery.
    pub delivery: DeliveryRef,
    /// Who emitted the event.
    pub agent_id: AgentId,
    /// The body to send.
    pub body: Bytes,
    /// Whom to send it to, and how. Shared by all that was loaded for the same subscriber at once.
    pub recipient: Arc<Recipient>,
}

/// What an attempt needs to know of a subscriber.
#[derive(Debug)]
pub struct Recipient {
    /// Where it is.
    pub url: TargetUrl,
    /// What signs its requests.
    pub signer: Signer,
    /// Headers of its own.
    pub headers: CustomHeaders,
    /// How it wants to be delivered to.
    pub policy: Policy,
}

/// What is to be done about a claimed job.
#[derive(Debug)]
pub enum Loaded {
    /// Make the request.
    Deliver(Box<Work>),
    /// Its delivery has ended, is worked on by another job, or does not exist: end the job.
    Nothing,
    /// Its next attempt is not due: put the job back until then.
    NotDue(Duration),
    /// Its subscriber is not active, or no more: end the delivery as this says.
    Inactive(DeliveryRef, End),
    /// What is stored of it cannot be read: an attempt that failed through no fault of the receiver.
    Unreadable(DeliveryRef, StoreError),
}

impl Store {
    /// What is to be done about each of these jobs, in their order. One statement for all.
    ///
    /// What was changed of a subscriber since the last attempt counts from this one on.
    ///
    /// # Errors
    /// If the database is away.
    pub async fn load(&self, jobs: &[ClaimedJob]) -> Result<Vec<Loaded>, StoreError> {
        const JOB: &[Column] = &[
            Column::new("place", Kind::Int),
            Column::new("job_id", Kind::Uuid),
            Column::new("delivery_id", Kind::Uuid),
        ];
        let mut input = Batch::new(JOB);
        for (place, job) in (0_i32..).zip(jobs) {
            input.push([place.into(), job.lease.job.0.into(), job.subject.into()]);
        }
        let dialect = self.database.dialect();
        let now = dialect.now();
        let deliveries = dialect
            .look_up("deliveries", "deliveries.id = input.delivery_id AND deliveries.job_id = input.job_id");
        let events = dialect.look_up("events", "events.id = deliveries.event_id");
        let subscribers = match dialect {
            Dialect::Postgres => {
                "LEFT JOIN LATERAL ( \
                    SELECT * FROM subscribers \
                    WHERE id = deliveries.subscriber_id AND tenant = deliveries.tenant LIMIT 1 \
                ) AS subscribers ON true"
            }
            Dialect::Sqlite => {
                "LEFT JOIN subscribers ON subscribers.id = deliveries.subscriber_id \
                    AND subscribers.tenant = deliveries.tenant"
            }
        };
        let sql = format!(
            "SELECT input.place, deliveries.id, deliveries.tenant, deliveries.event_id, deliveries.event_type, \
                deliveries.subscriber_id, deliveries.status, deliveries.attempts, deliveries.round_start, \
                deliveries.created_at, deliveries.next_attempt_at - {now} AS due_in, \
                CASE WHEN EXISTS (SELECT 1 FROM health WHERE health.subscriber_id = deliveries.subscriber_id) \
                    THEN 1 ELSE 0 END AS failing, \
                events.agent_id, events.envelope, \
                subscribers.active, subscribers.deactivation_reason, subscribers.url, subscribers.policy, subscribers.secret, subscribers.headers, \
                CASE WHEN subscribers.previous_secret_until > {now} THEN subscribers.previous_secret END AS previous_secret \
            FROM input {deliveries} {events} {subscribers}"
        );
        let rows = input.query(&self.database.dedicated(), &sql, []).await?;
        let mut loaded: Vec<Loaded> = Vec::with_capacity(jobs.len());
        loaded.resize_with(jobs.len(), || Loaded::Nothing);
        // One statement has seen one state of each subscriber: secrets are opened and keys made once for all its jobs.
        let mut recipients = HashMap::new();
        for row in &rows {
            let place = usize::try_from(column::<i32>(row, "place")?).unwrap_or(usize::MAX);
            if let Some(slot) = loaded.get_mut(place) {
                *slot = self.judge(row, &mut recipients)?;
            }
        }
        Ok(loaded)
    }

    fn judge(
        &self,
        row: &QueryResult,
        recipients: &mut HashMap<SubscriberId, Arc<Recipient>>,
    ) -> Result<Loaded, StoreError> {
        if status(column(row, "status")?)? != DeliveryStatus::Pending {
            return Ok(Loaded::Nothing);
        }
        let delivery = DeliveryRef {
            id: DeliveryId::from_uuid(column(row, "id")?),
            tenant: parse(&column::<String>(row, "tenant")?, "deliveries", "tenant")?,
            event_id: EventId::from_uuid(column(row, "event_id")?),
            event_type: parse(&column::<String>(row, "event_type")?, "deliveries", "event_type")?,
            subscriber: SubscriberId::from_uuid(column(row, "subscriber_id")?),
            created_at: Timestamp::from_millis(column(row, "created_at")?),
            attempts: unsigned(column(row, "attempts")?),
            round_start: unsigned(column(row, "round_start")?),
            failing: column::<i32>(row, "failing")? != 0,
        };
        if column::<Option<bool>>(row, "active")? != Some(true) {
            let reason =
                column::<Option<i16>>(row, "deactivation_reason")?.and_then(DeactivationReason::from_code);
            // One that was given up for failing may come back, and recovers what is dead.
            let end = match reason {
                Some(DeactivationReason::Failing) => End::Dead(DeadReason::SubscriberFailing),
                _ => End::Cancelled,
            };
            return Ok(Loaded::Inactive(delivery, end));
        }
        if let Some(due_in) = column::<Option<i64>>(row, "due_in")?
            && let Ok(due_in @ 1..) = u64::try_from(due_in)
        {
            return Ok(Loaded::NotDue(Duration::from_millis(due_in)));
        }
        match self.read_work(row, &delivery, recipients) {
            Ok((agent_id, body, recipient)) => {
                Ok(Loaded::Deliver(Box::new(Work { delivery, agent_id, body, recipient })))
            }
            Err(error) => Ok(Loaded::Unreadable(delivery, error)),
        }
    }

    fn read_work(
        &self,
        row: &QueryResult,
        delivery: &DeliveryRef,
        recipients: &mut HashMap<SubscriberId, Arc<Recipient>>,
    ) -> Result<(AgentId, Bytes, Arc<Recipient>), StoreError> {
        let agent_id = parse(&column::<String>(row, "agent_id")?, "events", "agent_id")?;
        let body = column::<Vec<u8>>(row, "envelope")?.into();
        let recipient = match recipients.entry(delivery.subscriber) {
            Entry::Occupied(known) => Arc::clone(known.get()),
            Entry::Vacant(new) => Arc::clone(new.insert(Arc::new(self.read_recipient(row, delivery)?))),
        };
        Ok((agent_id, body, recipient))
    }

    fn read_recipient(&self, row: &QueryResult, delivery: &DeliveryRef) -> Result<Recipient, StoreError> {
        let (tenant, subscriber) = (&delivery.tenant, delivery.subscriber);
        let secret =
            self.open_secret(tenant, subscriber, Purpose::Secret, &column::<Vec<u8>>(row, "secret")?)?;
        let previous = column::<Option<Vec<u8>>>(row, "previous_secret")?
            .map(|sealed| self.open_secret(tenant, subscriber, Purpose::PreviousSecret, &sealed))
            .transpose()?;
        Ok(Recipient {
            url: target(&column::<String>(row, "url")?)?,
            signer: Signer::new(&secret, previous.as_slice()),
            headers: self.open_headers(
                tenant,
                subscriber,
                column::<Option<Vec<u8>>>(row, "headers")?.as_deref(),
            )?,
            policy: read_policy(&column::<String>(row, "policy")?)?,
        })
    }
}
