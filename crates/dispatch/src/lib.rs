//! Takes an event and commits it with its deliveries and jobs, in one transaction.
//!
//! For applications that send webhooks from their own process; the HTTP API is one of them. Any `postrider-worker` over
//! the same database delivers the events, or a `postrider_worker::Worker` in the same process.
//!
//! # An order and its event
//! [`Dispatcher::dispatch_in`] works inside the application's own transaction. If that commits, the order, the event and
//! a delivery for each subscriber exist; if it rolls back, none of them does. A service that is called over the network
//! cannot offer this.
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
//! // Once, at start. For PostgreSQL, `postgres://…`; for the application's own pool, `Database::from_connection`.
//! let database = Database::connect(Config::new("sqlite::memory:".parse()?)).await?;
//! postrider_migrations::migrate(database.sea_orm()).await?;
//! let queue = postrider_queue::open(&database);
//! let store = Store::new(database.clone(), queue, Keyring::parse(&key)?, IdGenerator::system());
//! let dispatcher = Dispatcher::new(store, postrider_dispatch::Config::default())?;
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
//! println!("{} goes to {} subscribers", dispatched.id, dispatched.subscribers_found);
//! # Ok(())
//! # }
//! ```
//!
//! # More
//! - [`Dispatcher::dispatch`] and [`Dispatcher::dispatch_batch`] return when the events are durable. Concurrent callers
//!   share transactions: while one batch is being committed the next one gathers, and no call waits for a timer when
//!   nothing is being committed. An event takes the same few statements however many subscribers it has; of one with more
//!   than a hundred, the deliveries are made afterwards ([`FanOut::Continuing`]).
//! - [`NewEvent::key`] makes a repeated request one event: the same request again gets the first answer with
//!   [`Dispatched::duplicate`] set; another request under the same key gets [`DispatchError::KeyConflict`].
//! - [`transform`] changes events before they are stored: hooks in Rust, and `[[transforms]]` in the settings file.
//! - [`plugins`] runs the plugins that subscribers have chosen, when their deliveries are attempted.
//! - An event without subscribers succeeds and has no jobs.
//! - For statistics and subscribers, use the store: [`Dispatcher::store`], `postrider_store::stats`.
//!
//! The tests run two examples: `lead_notifier`, which sends an event in three ways that cannot fail each other, and
//! `receiver`, which verifies signatures with axum.

mod commit;
mod config;
mod dispatcher;
mod error;
mod event;
mod fan_out;
mod flush;
pub mod plugins;
mod shared;
mod subscriber_cache;
pub mod transform;

pub use config::{Config, ConfigError};
pub use dispatcher::Dispatcher;
pub use error::{DispatchError, NewEventError};
pub use event::{Dispatched, FanOut, IdempotencyKey, IdempotencyKeyError, NewEvent};
pub use transform::{EventDraft, Hook, Transforms, hook};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
