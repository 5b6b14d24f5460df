//! The event types that this server knows, so that events are compared with schemas without a round trip.
//!
//! Nothing is read while no type was ever registered. Otherwise the types of a tenant are read with its first event, and again
//! after any type was changed: a count of changes, at which the server looks every two seconds, says so.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use postrider_core::event::SchemaMode;
use postrider_core::{EventData, EventType, TenantId, chain};
use postrider_schema::{Mismatch, Schema};
use postrider_store::event_types::TypesOf;
use postrider_store::{Store, StoreError};
use postrider_telemetry::{BoundedLabel, metric};
use serde_json::Value;
use tokio::sync::Semaphore;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep;

use crate::problem::{Errors, Problem};

/// How often the server looks whether types were changed.
const INTERVAL: Duration = Duration::from_secs(2);

/// Of how many tenants types are remembered.
const MOST: usize = 10_000;

/// Longer data is compared apart from the threads that serve requests, of several events at once at most this many.
const SHORT: usize = 4 * 1024;
const AT_ONCE: usize = 2;

#[derive(Debug)]
pub(crate) struct KnownTypes {
    shared: Arc<Shared>,
    long: Semaphore,
    /// The task that looks. It ends when this is dropped.
    _looking: JoinSet<()>,
}

#[derive(Debug)]
struct Shared {
    store: Store,
    /// How often types were changed, as far as this server knows.
    changes: AtomicI64,
    known: Mutex<HashMap<TypesOf, Arc<Types>>>,
}

/// What an owner has registered.
#[derive(Debug)]
struct Types {
    /// The count of changes when this was read.
    as_of: i64,
    names: HashSet<EventType>,
    compared: HashMap<EventType, Arc<Compared>>,
    only_registered: bool,
}

/// A type whose events are compared with a schema.
#[derive(Debug)]
struct Compared {
    mode: SchemaMode,
    schema: Schema,
}

impl KnownTypes {
    /// Starts to look for changes. The caller must be within a Tokio runtime.
    pub(crate) fn start(store: &Store) -> Self {
        let shared =
            Arc::new(Shared { store: store.clone(), changes: AtomicI64::new(0), known: Mutex::default() });
        let mut looking = JoinSet::new();
        looking.spawn(look(Arc::clone(&shared)));
        Self { shared, long: Semaphore::new(AT_ONCE), _looking: looking }
    }

    /// Takes note of a change that this server has made.
    pub(crate) async fn changed(&self) -> Result<(), StoreError> {
        self.shared.look().await
    }

    /// How often types were changed, as far as this server knows; zero if there were never any.
    pub(crate) fn changes(&self) -> i64 {
        self.shared.changes.load(Ordering::Acquire)
    }

    /// Refuses an event whose type is not allowed, or whose data does not match the schema of its type.
    pub(crate) async fn admit(
        &self,
        tenant: &TenantId,
        event_type: &EventType,
        data: &EventData,
        labels: &BoundedLabel,
        errors: &mut Errors,
    ) -> Result<(), Problem> {
        if self.shared.changes.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        let own = self.shared.types(TypesOf::Tenant(tenant.clone())).await?;
        let compared = if own.names.contains(event_type) {
            own.compared.get(event_type).cloned()
        } else {
            let all = self.shared.types(TypesOf::Deployment).await?;
            if own.only_registered && !all.names.contains(event_type) {
                errors.add("event", "is not registered, and the tenant allows only registered event types");
                return Ok(());
            }
            all.compared.get(event_type).cloned()
        };
        let Some(compared) = compared else { return Ok(()) };
        let mode = compared.mode;
        let found = self.compare(compared, data).await?;
        if found.is_empty() {
            return Ok(());
        }
        let label = labels.value(event_type.as_str());
        if mode == SchemaMode::Enforce {
            counter!(metric::SCHEMA_REFUSALS, metric::EVENT_TYPE => label).increment(1);
            for Mismatch { pointer, message } in found {
                errors.add(&format!("data{pointer}"), &message);
            }
        } else {
            counter!(metric::SCHEMA_WARNINGS, metric::EVENT_TYPE => label).increment(1);
        }
        Ok(())
    }

    async fn compare(&self, compared: Arc<Compared>, data: &EventData) -> Result<Vec<Mismatch>, Problem> {
        if data.as_json().len() <= SHORT {
            return Ok(compare(&compared.schema, data.as_json()));
        }
        // The semaphore is never closed.
        let _permit = self.long.acquire().await.ok();
        let text = data.as_json().to_owned();
        spawn_blocking(move || compare(&compared.schema, &text)).await.map_err(|_| Problem::internal())
    }
}

fn compare(schema: &Schema, text: &str) -> Vec<Mismatch> {
    match serde_json::from_str::<Value>(text) {
        Ok(data) => schema.mismatches(&data),
        // It is JSON, or it would not be the data of an event.
        Err(error) => vec![Mismatch {
            pointer: String::new(),
            message: format!("cannot be compared with the schema: {error}"),
        }],
    }
}

impl Shared {
    async fn look(&self) -> Result<(), StoreError> {
        let changes = self.store.event_type_changes().await?;
        self.changes.fetch_max(changes, Ordering::AcqRel);
        Ok(())
    }

    /// The types of an owner, not older than the last change of which this server knows.
    async fn types(&self, of: TypesOf) -> Result<Arc<Types>, Problem> {
        let changes = self.changes.load(Ordering::Acquire);
        if let Some(known) = self.known().get(&of).filter(|known| known.as_of >= changes) {
            return Ok(Arc::clone(known));
        }
        let types = Arc::new(self.read(&of, changes).await?);
        let mut known = self.known();
        if known.len() >= MOST {
            known.clear();
        }
        known.insert(of, Arc::clone(&types));
        Ok(types)
    }

    async fn read(&self, of: &TypesOf, as_of: i64) -> Result<Types, StoreError> {
        let only_registered = match of {
            TypesOf::Tenant(tenant) => {
                self.store.tenant(tenant).await?.is_some_and(|tenant| tenant.only_registered)
            }
            TypesOf::Deployment => false,
        };
        let registered = self.store.event_types(of).await?;
        let names = registered.iter().map(|registered| registered.name.clone()).collect();
        let mut compared = HashMap::new();
        for registered in registered.into_iter().filter(|registered| registered.mode != SchemaMode::Off) {
            let Some(text) = &registered.schema else { continue };
            let parsed = serde_json::from_str(text).map_err(|error| error.to_string());
            match parsed.and_then(|schema: Value| Schema::compile(&schema).map_err(|error| error.to_string()))
            {
                Ok(schema) => {
                    let type_compared = Arc::new(Compared { mode: registered.mode, schema });
                    compared.insert(registered.name, type_compared);
                }
                // It was accepted by another version.
                Err(error) => {
                    tracing::error!(event_type = %registered.name, error, "schema of an event type not compiled");
                }
            }
        }
        Ok(Types { as_of, names, compared, only_registered })
    }

    fn known(&self) -> MutexGuard<'_, HashMap<TypesOf, Arc<Types>>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn look(shared: Arc<Shared>) {
    loop {
        if let Err(error) = shared.look().await {
            tracing::debug!(error = %chain(&error), "changes of event types not read");
        }
        sleep(INTERVAL).await;
    }
}
