//! An event in; its deliveries and their jobs committed with it, in one transaction.
//!
//! For applications that send webhooks from their own process; the HTTP API is one of them. What is
//! dispatched here is delivered by any `postrider-worker` over the same database, or by a
//! `postrider_worker::Worker` in the same process.
//!
//! # An order and its event
//! [`Dispatcher::dispatch_in`] works inside a transaction of the application's own. If that commits,
//! there is the order, the event and a delivery for each subscriber; if it rolls back, there is none
//! of them. A service that is called over the network cannot do this.
//!
//! ```
//! use postrider_core::{IdGenerator, Keyring};
//! use postrider_database::{Config, Database};
//! use postrider_dispatch::{Dispatcher, NewEvent};
//! use postrider_store::Store;
//! use sea_orm::ConnectionTrait;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let key = Keyring::generate_key(&postrider_core::SystemRandom);
//! // Once, at start. PostgreSQL: `postgres://…`; a pool of the application's: `Database::from_connection`.
//! let database = Database::connect(Config::new("sqlite::memory:".parse()?)).await?;
//! postrider_migrations::migrate(database.connection()).await?;
//! let queue = postrider_queue::open(&database);
//! let store = Store::new(database.clone(), queue, Keyring::parse(&key)?, IdGenerator::system());
//! let dispatcher = Dispatcher::new(store, postrider_dispatch::Config::default());
//! # database.connection().execute_unprepared("CREATE TABLE orders (number bigint, cents bigint)").await?;
//!
//! // For each order.
//! let transaction = database.begin().await?;
//! transaction.execute_unprepared("INSERT INTO orders (number, cents) VALUES (17, 1999)").await?;
//! let event = NewEvent::new("order.created", &serde_json::json!({ "number": 17, "cents": 1999 }))?;
//! let dispatched = dispatcher.dispatch_in(&transaction, event).await?;
//! transaction.commit().await?;
//! dispatcher.wake();
//!
//! println!("{} goes to {} subscribers", dispatched.id, dispatched.subscribers.len());
//! # Ok(())
//! # }
//! ```
//!
//! # The rest
//! - [`Dispatcher::dispatch`] and [`Dispatcher::dispatch_batch`] return when the events are durable.
//!   Callers that dispatch at the same time share transactions: while one batch is being committed the
//!   next one gathers, and nobody waits on a timer when there is nothing to wait for. However many
//!   subscribers an event has, it takes the same few statements.
//! - [`NewEvent::key`] makes a repeated request one event: the same again gets the first answer with
//!   [`Dispatched::duplicate`] set, another request under the same key [`DispatchError::KeyConflict`].
//! - [`transform`] changes events before they are stored: hooks in Rust, and the settings file's
//!   `[[transforms]]`.
//! - An event that nobody subscribes to is a success with no jobs.
//! - Statistics and subscribers are the store's: [`Dispatcher::store`], `postrider_store::stats`.
//!
//! Two examples are run by the tests: `lead_notifier`, which sends an event in three ways that do not
//! harm each other, and `receiver`, which verifies signatures with axum.

mod commit;
mod dispatcher;
mod error;
mod event;
mod flush;
mod known;
pub mod transform;

pub use dispatcher::{Config, Dispatcher};
pub use error::{DispatchError, NewEventError};
pub use event::{Dispatched, IdempotencyKey, IdempotencyKeyError, NewEvent};
pub use transform::{EventDraft, Hook, Transforms, hook};
