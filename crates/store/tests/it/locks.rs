//! Every transaction locks rows in one order, so that any two of them wait for each other and never deadlock. The order
//! is in ARCHITECTURE.md, "Lock order".
//!
//! Each operation runs at the same time as each other one, on the same two subscribers. Triggers that sleep while a row
//! is locked make each transaction long enough for the two to meet. SQLite has one writer at a time and needs no order.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use postrider_core::plugin::{PluginConfig, PluginName, SelectedPlugin};
use postrider_core::replay::ReplayMode;
use postrider_core::{
    DeadReason, DeliveryId, ErrorKind, EventType, Secret, SubscriberId, SystemRandom, TenantId, Verdict,
    chain,
};
use postrider_database::Writes;
use postrider_queue::{Claim, Finish, JobId, LaneId, LaneSettings, Lease, LeaseToken, Place};
use postrider_store::StoreError;
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome};
use postrider_store::dead_letters::{AttemptBudget, DeadFilter};
use postrider_store::deliveries::DeliveryFilter;
use postrider_store::fan_out::{FanOutRow, FannedOut};
use postrider_store::health::BreakerPolicy;
use postrider_store::intake::{Crowd, Everyone};
use postrider_store::queue_ids::lane_of;
use postrider_store::replays::{ReplayChange, Started};
use postrider_store::retention::{Age, Retention};
use postrider_store::subscribers::SubscriberChange;
use postrider_store::tenants::{EgressProxy, NewTenant, Tenant};
use postrider_testkit::TestDatabase;
use sea_orm::ConnectionTrait as _;
use uuid::Uuid;

use crate::stage::Stage;

/// The plugin that they add, remove and choose.
fn plugin() -> PluginName {
    "numbers".parse().unwrap()
}

/// An operation that locks rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Dispatch,
    RecordSuccesses,
    RecordSuccessesOfAFailingSubscriber,
    RecordFailures,
    RecordFailuresThatOpenBreakers,
    RecordFailuresThatDeactivate,
    RecordThatReceiversAreGone,
    RecordCancelledDeliveries,
    Release,
    ChangeUrl,
    ChangePolicy,
    Activate,
    Deactivate,
    Delete,
    RotateSecret,
    Rekey,
    Retry,
    Cancel,
    Requeue,
    DeleteDeadLetter,
    SetLimits,
    Pause,
    Resume,
    Claim,
    Extend,
    Promote,
    Rescue,
    Drain,
    RemoveLanes,
    FanOut,
    ErasePayload,
    FoldStatistics,
    RemoveOldStatistics,
    CreateSubscriber,
    HoldSubscribers,
    HoldTenant,
    NotifyOwners,
    AddPlugin,
    RemovePlugin,
    ChoosePlugin,
    ChangePatterns,
    RemoveOldVersions,
    Replay,
    ReplayMissed,
    /// Not one of [`ALL`], as the others need their tenant.
    DeleteTenant,
}

use Operation::*;

const ALL: [Operation; 44] = [
    Dispatch,
    RecordSuccesses,
    RecordSuccessesOfAFailingSubscriber,
    RecordFailures,
    RecordFailuresThatOpenBreakers,
    RecordFailuresThatDeactivate,
    RecordThatReceiversAreGone,
    RecordCancelledDeliveries,
    Release,
    ChangeUrl,
    ChangePolicy,
    Activate,
    Deactivate,
    Delete,
    RotateSecret,
    Rekey,
    Retry,
    Cancel,
    Requeue,
    DeleteDeadLetter,
    SetLimits,
    Pause,
    Resume,
    Claim,
    Extend,
    Promote,
    Rescue,
    Drain,
    RemoveLanes,
    FanOut,
    ErasePayload,
    FoldStatistics,
    RemoveOldStatistics,
    CreateSubscriber,
    HoldSubscribers,
    HoldTenant,
    NotifyOwners,
    AddPlugin,
    RemovePlugin,
    ChoosePlugin,
    ChangePatterns,
    RemoveOldVersions,
    Replay,
    ReplayMissed,
];

/// Sleeps whenever a row of these tables is changed or deleted, and therefore locked.
const SLOW: &str = "
    CREATE FUNCTION rest() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_sleep(0.002);
        IF TG_OP = 'DELETE' THEN RETURN OLD; END IF;
        RETURN NEW;
    END $$;
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON subscribers FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON subscriber_versions FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON plugins FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON deliveries FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON rollups FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON subscriber_counts FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON scheduled_jobs FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON claims FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON lanes FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON replays FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON fan_outs FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON tenants FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON events FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON health FOR EACH ROW EXECUTE FUNCTION rest();
    CREATE TRIGGER rest BEFORE UPDATE OR DELETE ON owner_notices FOR EACH ROW EXECUTE FUNCTION rest()";

/// How many pairs run at the same time, each on subscribers of its own.
const AT_ONCE: usize = 12;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_two_operations_deadlock() {
    let pairs = ALL.iter().enumerate();
    let pairs = pairs.flat_map(|(place, one)| ALL[place..].iter().map(move |two| (*one, *two)));
    none_deadlocks(pairs.map(|pair| (TenantId::default(), pair)).collect()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn deleting_a_tenant_deadlocks_with_no_operation() {
    let pairs = ALL.iter().copied().chain([DeleteTenant]).enumerate();
    let tenant = |place| format!("tenant-{place}").parse().unwrap();
    none_deadlocks(pairs.map(|(place, one)| (tenant(place), (one, DeleteTenant))).collect()).await;
}

/// Runs the two operations of each pair at the same time, on subscribers of the given tenant.
async fn none_deadlocks(pairs: Vec<(TenantId, (Operation, Operation))>) {
    let stage = Arc::new(Stage::of(TestDatabase::postgres().await).await);
    stage.database.connection().execute_unprepared(SLOW).await.unwrap();
    let pairs = Arc::new(pairs);
    let next = Arc::new(AtomicUsize::new(0));
    let mut running = Vec::new();
    for _ in 0..AT_ONCE {
        let (stage, pairs, next) = (Arc::clone(&stage), Arc::clone(&pairs), Arc::clone(&next));
        running.push(tokio::spawn(async move {
            let mut faults = Vec::new();
            while let Some((tenant, (one, two))) = pairs.get(next.fetch_add(1, Ordering::Relaxed)) {
                let ground = Ground::new(&stage, tenant).await;
                let (first, second) = tokio::join!(ground.run(&stage, *one), ground.run(&stage, *two));
                for error in [first, second].into_iter().filter_map(Result::err) {
                    faults.push(format!("{one:?} with {two:?}: {error}"));
                }
            }
            faults
        }));
    }
    let mut faults = Vec::new();
    for running in running {
        faults.extend(running.await.unwrap());
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    let deadlocks = "SELECT deadlocks AS n FROM pg_stat_database WHERE datname = current_database()";
    assert_eq!(stage.count(deadlocks).await, 0);
}

/// Two subscribers with deliveries in every state, on which both operations of a pair act.
struct Ground {
    tenant: TenantId,
    /// In descending order of their ids, so that no batch is in order by chance.
    subscribers: Vec<SubscriberId>,
    /// Claimed, once for each subscriber and each of the two operations.
    claimed: Vec<(Lease, DeliveryRef)>,
    waiting: Vec<DeliveryId>,
    dead: Vec<DeliveryId>,
}

impl Ground {
    async fn new(stage: &Stage, tenant: &TenantId) -> Self {
        let (one, two) = (stage.subscribe(tenant, true).await, stage.subscribe(tenant, true).await);
        let mut subscribers = vec![one, two];
        subscribers.sort_unstable();
        subscribers.reverse();
        let tenant = tenant.clone();
        let mut ground = Self {
            tenant: tenant.clone(),
            subscribers,
            claimed: Vec::new(),
            waiting: Vec::new(),
            dead: Vec::new(),
        };
        let token = LeaseToken(stage.store.ids().next_uuid());
        let transaction = stage.store.database().begin().await.unwrap();
        let mut sql = Vec::new();
        for place in 0..6 {
            for subscriber in &ground.subscribers {
                let now = stage.now();
                let id = stage.dispatch_in(&transaction, &tenant, *subscriber, "a.b", now).await;
                match place {
                    0..=1 => ground.waiting.push(id),
                    2..=3 => {
                        sql.push(format!(
                            "UPDATE deliveries SET status = 2, died_at = 1, dead_reason = 1, ended_at = 1 \
                             WHERE id = '{}'; DELETE FROM jobs WHERE subject = '{0}'",
                            id.uuid()
                        ));
                        ground.dead.push(id);
                    }
                    _ => {
                        sql.push(format!(
                            "UPDATE jobs SET lease_token = '{}' WHERE subject = '{}'; UPDATE lanes SET running = running + 1 WHERE id = '{}'",
                            token.0,
                            id.uuid(),
                            subscriber.uuid()
                        ));
                        ground.claimed.push((
                            Lease {
                                job: JobId(Uuid::nil()),
                                token,
                                lane: lane_of(*subscriber),
                                place: Place::default(),
                            },
                            DeliveryRef {
                                id,
                                tenant: tenant.clone(),
                                event_id: postrider_core::EventId::from_uuid(Uuid::nil()),
                                event_type: "a.b".parse::<EventType>().unwrap(),
                                subscriber: *subscriber,
                                created_at: now,
                                attempts: 0,
                                round_start: 0,
                                failing: false,
                            },
                        ));
                    }
                }
            }
        }
        transaction.commit().await.unwrap();
        let lanes: Vec<_> = ground.subscribers.iter().map(|id| format!("'{}'::uuid", id.uuid())).collect();
        sql.push(format!(
            "INSERT INTO claims (token, lease_until, lanes) VALUES ('{0}', 9000000000000, ARRAY[{1}]); \
             UPDATE lanes SET last_seq = 9000000000000 WHERE id IN ({1})",
            token.0,
            lanes.join(", ")
        ));
        // In the order of all others: an operation on all lanes of the tenant may be running.
        let order = format!("SELECT id FROM lanes WHERE id IN ({}) ORDER BY id FOR UPDATE", lanes.join(", "));
        // Without the triggers, which are for the operations.
        let quick = format!(
            "BEGIN; SET LOCAL session_replication_role = replica; {order}; {}; COMMIT",
            sql.join("; ")
        );
        stage.database.connection().execute_unprepared(&quick).await.unwrap();
        for (lease, delivery) in &mut ground.claimed {
            let sql = format!("SELECT id, priority, seq FROM jobs WHERE subject = '{}'", delivery.id.uuid());
            let row = &stage.rows(&sql).await[0];
            lease.job = JobId(row.try_get("", "id").unwrap());
            let (priority, seq) = (row.try_get("", "priority").unwrap(), row.try_get("", "seq").unwrap());
            lease.place = Place { priority, seq };
        }
        ground
    }

    /// Runs an operation on both subscribers. Returns the error of the database, if there was one.
    #[allow(clippy::too_many_lines, reason = "one arm for each operation")]
    async fn run(&self, stage: &Stage, operation: Operation) -> Result<(), String> {
        let (store, queue, tenant) = (&stage.store, stage.store.queue(), &self.tenant);
        let policy = BreakerPolicy { breaker_failures: 100, ..BreakerPolicy::default() };
        match operation {
            Dispatch => {
                let transaction = store.database().begin().await.map_err(text)?;
                stage.dispatch_in(&transaction, tenant, self.subscribers[0], "a.b", stage.now()).await;
                transaction.commit().await.map_err(text)?;
            }
            RecordSuccesses => {
                let outcomes = self.outcomes(stage, End::Succeeded);
                let outcomes: Vec<&Outcome> = outcomes.iter().collect();
                if !store.record_fast(&outcomes).await.map_err(text)? {
                    store.record(outcomes, &[], &policy).await.map_err(text)?;
                }
            }
            RecordSuccessesOfAFailingSubscriber => {
                let rows: Vec<_> =
                    self.subscribers.iter().map(|id| format!("('{}', 1, 1, 1, 1, 1)", id.uuid())).collect();
                let sql = format!(
                    "INSERT INTO health (subscriber_id, failures, first_failed_at, openings, opened_at, open_until) \
                     VALUES {} ON CONFLICT DO NOTHING",
                    rows.join(", ")
                );
                stage.database.connection().execute_unprepared(&sql).await.map_err(text)?;
                let outcomes = self.outcomes(stage, End::Succeeded);
                store.record(&outcomes, &[], &policy).await.map_err(text)?;
            }
            RecordFailures => {
                let outcomes = self.outcomes(stage, End::RetryIn(Duration::from_mins(1)));
                store.record(&outcomes, &[], &policy).await.map_err(text)?;
            }
            RecordFailuresThatOpenBreakers => {
                let outcomes = self.outcomes(stage, End::RetryIn(Duration::from_mins(1)));
                let opens = BreakerPolicy { breaker_failures: 1, ..policy };
                store.record(&outcomes, &[], &opens).await.map_err(text)?;
            }
            RecordFailuresThatDeactivate => {
                let outcomes = self.outcomes(stage, End::RetryIn(Duration::from_mins(1)));
                let deactivates = BreakerPolicy { deactivate_after: Some(Duration::ZERO), ..policy };
                store.record(&outcomes, &[], &deactivates).await.map_err(text)?;
            }
            RecordThatReceiversAreGone => {
                let outcomes = self.outcomes(stage, End::Dead(DeadReason::Gone));
                store.record(&outcomes, &[], &policy).await.map_err(text)?;
            }
            RecordCancelledDeliveries => {
                for (_, delivery) in &self.claimed {
                    store.cancel(tenant, delivery.id).await.map_err(text)?;
                }
                let outcomes = self.outcomes(stage, End::Succeeded);
                store.record(&outcomes, &[], &policy).await.map_err(text)?;
            }
            Release => {
                let leases: Vec<_> =
                    self.claimed.iter().map(|(lease, _)| (*lease, Finish::Release)).collect();
                store.record(&[], &leases, &policy).await.map_err(text)?;
            }
            ChangeUrl => {
                let url = Some("https://example.com/new".parse().unwrap());
                self.change(stage, SubscriberChange { url, ..SubscriberChange::default() }).await?;
            }
            ChangePolicy => {
                let policy = Some(postrider_core::Policy::default());
                self.change(stage, SubscriberChange { policy, ..SubscriberChange::default() }).await?;
            }
            Activate | Deactivate => {
                let active = Some(operation == Activate);
                self.change(stage, SubscriberChange { active, ..SubscriberChange::default() }).await?;
            }
            Delete => {
                for id in &self.subscribers {
                    store.delete_subscriber(tenant, *id).await.map_err(text)?;
                }
            }
            RotateSecret => {
                let secret = Secret::generate(&SystemRandom);
                for id in &self.subscribers {
                    store.rotate_secret(tenant, *id, &secret, Duration::ZERO).await.map_err(text)?;
                }
            }
            Rekey => drop(store.rekey().await.map_err(text)?),
            Retry => {
                for id in &self.dead {
                    store.retry(tenant, *id).await.map_err(text)?;
                }
            }
            Cancel => {
                for id in &self.waiting {
                    store.cancel(tenant, *id).await.map_err(text)?;
                }
            }
            Requeue => {
                let ids = Some(self.dead.clone());
                let filter = DeadFilter { ids, ..DeadFilter::default() };
                let budget = AttemptBudget::FromZero;
                store.requeue(tenant, &filter, budget, 100).await.map_err(text)?;
            }
            DeleteDeadLetter => {
                for id in &self.dead {
                    store.delete_dead_letter(tenant, *id).await.map_err(text)?;
                }
            }
            SetLimits => {
                for lane in self.lanes() {
                    queue.configure(lane, tenant.as_str(), LaneSettings::default()).await.map_err(text)?;
                }
            }
            Pause => {
                for lane in self.lanes() {
                    queue.pause(lane, Duration::from_mins(1)).await.map_err(text)?;
                }
            }
            Resume => {
                for lane in self.lanes() {
                    queue.resume(lane).await.map_err(text)?;
                }
            }
            Claim => {
                let claim = Claim::new(LeaseToken(store.ids().next_uuid()), 20, Duration::from_mins(1));
                queue.claim(&claim).await.map_err(text)?;
            }
            Extend => {
                let leases: Vec<_> = self.claimed.iter().map(|(lease, _)| *lease).collect();
                queue.extend(&leases, Duration::from_mins(1)).await.map_err(text)?;
            }
            Promote => drop(queue.promote(20).await.map_err(text)?),
            Rescue => {
                for (lease, _) in &self.claimed {
                    let sql = format!("UPDATE claims SET lease_until = 1 WHERE token = '{}'", lease.token.0);
                    stage.database.connection().execute_unprepared(&sql).await.map_err(text)?;
                }
                let token = LeaseToken(store.ids().next_uuid());
                let rescue =
                    postrider_queue::Rescue { max: 20, max_rescues: 5, token, lease: Duration::from_mins(1) };
                queue.rescue(&rescue).await.map_err(text)?;
            }
            Drain => drop(store.drain(None, 20).await.map_err(text)?),
            RemoveLanes => drop(queue.remove_lanes(20).await.map_err(text)?),
            FanOut => self.fan_out(stage).await?,
            ErasePayload => {
                let events = self.waiting.iter().chain(self.claimed.iter().map(|(_, delivery)| &delivery.id));
                for id in events {
                    store.erase_payload(tenant, id.event()).await.map_err(text)?;
                }
                for _ in 0..8 {
                    store.erase_responses(20).await.map_err(text)?;
                }
            }
            FoldStatistics => drop(store.fold_statistics().await.map_err(text)?),
            RemoveOldStatistics => store.remove_old_statistics().await.map_err(text)?,
            AddPlugin => {
                store.add_plugin(&plugin(), &"1".parse().unwrap(), vec![1]).await.map_err(text)?;
            }
            RemovePlugin => {
                store.remove_plugin(&plugin()).await.map_err(text)?;
            }
            ChoosePlugin => {
                let chosen = SelectedPlugin { name: plugin(), config: PluginConfig::default() };
                for id in &self.subscribers {
                    let chosen = Some(Some(chosen.clone()));
                    let change = SubscriberChange { plugin: chosen, ..SubscriberChange::default() };
                    match store.change_subscriber(tenant, *id, change).await {
                        Ok(_) | Err(StoreError::PluginMissing) => {}
                        Err(error) => return Err(text(error)),
                    }
                }
            }
            ChangePatterns => {
                for pattern in ["c.d", "*"] {
                    let events = Some(vec![pattern.parse().unwrap()]);
                    self.change(stage, SubscriberChange { events, ..SubscriberChange::default() }).await?;
                }
            }
            RemoveOldVersions => {
                let all = Age::For(Duration::ZERO);
                let none = Retention { history: all, payloads: all, dead: all };
                store.remove_old_versions(none).await.map_err(text)?;
            }
            CreateSubscriber => drop(stage.subscribe(tenant, true).await),
            Replay => {
                self.replay(stage, ReplayMode::All).await?;
                self.replay(stage, ReplayMode::Cancel).await?;
            }
            ReplayMissed => {
                stage.subscribe(tenant, true).await;
                self.replay(stage, ReplayMode::Missed).await?;
            }
            NotifyOwners => {
                let due = format!(
                    "UPDATE subscribers SET auth_expires_at = 1, auth_warn_at = 1 WHERE id = '{}'",
                    self.subscribers[0].uuid()
                );
                stage.database.connection().execute_unprepared(&due).await.map_err(text)?;
                let due = BreakerPolicy { deactivate_after: None, ..policy };
                store.raise_failing(&due, true, 20).await.map_err(text)?;
                store.raise_certificates(true, 20).await.map_err(text)?;
                for notice in store.take_notices(true, 20, Duration::ZERO).await.map_err(text)? {
                    store.put_notice_off(notice.id, Duration::ZERO).await.map_err(text)?;
                    store.remove_notice(notice.id).await.map_err(text)?;
                }
                store.remove_stale_notices().await.map_err(text)?;
            }
            HoldSubscribers => {
                for paused in [true, false] {
                    let paused = Some(paused);
                    self.change(stage, SubscriberChange { paused, ..SubscriberChange::default() }).await?;
                }
            }
            DeleteTenant => delete_tenant(stage, &self.tenant).await?,
            HoldTenant => {
                store.register_tenant(&NewTenant::named(tenant.clone())).await.map_err(text)?;
                for active in [false, true] {
                    let change = |tenant: &mut Tenant| {
                        tenant.active = active;
                        let proxy = "http://proxy.test".parse().map(EgressProxy::Url);
                        tenant.egress_proxy = proxy.ok().filter(|_| active);
                        Ok::<_, StoreError>(())
                    };
                    store.change_tenant(tenant, change).await.map_err(text)?;
                    while store.hold_lanes_of(tenant).await.map_err(text)? {}
                }
            }
        }
        Ok(())
    }

    fn lanes(&self) -> impl Iterator<Item = LaneId> {
        self.subscribers.iter().map(|id| lane_of(*id))
    }

    async fn change(&self, stage: &Stage, change: SubscriberChange) -> Result<(), String> {
        for id in &self.subscribers {
            let changed = stage.store.change_subscriber(&self.tenant, *id, change.clone()).await;
            changed.map_err(text)?;
        }
        Ok(())
    }

    /// Stores an event that goes to both subscribers, and takes a step: of its fan-out, or of that of another pair.
    async fn fan_out(&self, stage: &Stage) -> Result<(), String> {
        let (last, first) = (self.subscribers[0], self.subscribers[1]);
        let promise = FanOutRow {
            event_id: stage.store.ids().next(),
            tenant: self.tenant.clone(),
            event_type: "a.b".parse().unwrap(),
            dispatched_at: stage.now(),
            channels: None,
            crowd: Crowd { size: 2, last },
            trace: None,
        };
        let event = promise.event_id.uuid();
        let mut writes = Writes::new();
        stage.store.promise_with(&[promise], &mut writes);
        let transaction = stage.store.database().begin().await.map_err(text)?;
        writes.execute(&transaction).await.map_err(text)?;
        let before = Uuid::from_u128(first.uuid().as_u128() - 1);
        let sql = format!("UPDATE fan_outs SET reached = '{before}' WHERE event_id = '{event}'");
        transaction.execute_unprepared(&sql).await.map_err(text)?;
        transaction.commit().await.map_err(text)?;
        // Another pair may be taking its step.
        for _ in 0..20 {
            match stage.store.fan_out(None, 100, &Everyone).await.map_err(text)? {
                FannedOut::Busy => tokio::time::sleep(Duration::from_millis(5)).await,
                FannedOut::Step(_) | FannedOut::Nothing => break,
            }
        }
        Ok(())
    }

    /// Replays or cancels what the subscribers of this pair have, or replays what others have missed of it.
    async fn replay(&self, stage: &Stage, mode: ReplayMode) -> Result<(), String> {
        let (store, tenant) = (&stage.store, &self.tenant);
        let event = self.dead[0].event();
        let filter = match mode {
            ReplayMode::Missed => DeliveryFilter { event_id: Some(event), ..DeliveryFilter::default() },
            _ => DeliveryFilter { subscriber: Some(self.subscribers[0]), ..DeliveryFilter::default() },
        };
        let Started::Replay(replay) = store.start_replay(tenant, mode, &filter).await.map_err(text)? else {
            return Ok(());
        };
        for _ in 0..20 {
            if store.step_replay(tenant, replay.id, &Everyone).await.map_err(text)?.is_none() {
                break;
            }
        }
        store.change_replay(tenant, replay.id, ReplayChange::Cancel).await.map_err(text)?;
        store.clean_replays().await.map_err(text)?;
        Ok(())
    }

    fn outcomes(&self, stage: &Stage, end: End) -> Vec<Outcome> {
        let verdict = match end {
            End::Succeeded => Verdict::Success,
            _ => Verdict::failure(ErrorKind::Status, "HTTP 500"),
        };
        let outcome = |(lease, delivery): &(Lease, DeliveryRef)| Outcome {
            lease: *lease,
            delivery: delivery.clone(),
            attempt: Some(Attempt {
                started_at: stage.now(),
                duration: Duration::from_millis(1),
                response: None,
                verdict: verdict.clone(),
                exchange: None,
            }),
            end,
        };
        self.claimed.iter().map(outcome).collect()
    }
}

/// Deletes a tenant with all that it has, while another operation may register it again.
pub(crate) async fn delete_tenant(stage: &Stage, tenant: &TenantId) -> Result<(), String> {
    let store = &stage.store;
    store.register_tenant(&NewTenant::named(tenant.clone())).await.map_err(text)?;
    store.delete_tenant(tenant).await.map_err(text)?;
    let due = format!("UPDATE tenants SET deletion_requested_at = 1 WHERE id = '{tenant}'");
    stage.database.connection().execute_unprepared(&due).await.map_err(text)?;
    // The other operation of the pair may register it again.
    let left =
        format!("SELECT count(*) AS n FROM tenants WHERE id = '{tenant}' AND deletion_requested_at = 1");
    while stage.count(&left).await > 0 {
        if store.delete_tenant_data().await.map_err(text)?.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

fn text<E: std::error::Error + 'static>(error: E) -> String {
    chain(&error).to_string()
}
