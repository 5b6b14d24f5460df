//! A shop that embeds Postrider.
//!
//! Its orders and Postrider's tables share one SQLite file, so that an order and its event are written
//! in one transaction; a worker in the same process delivers.

use postrider_core::{EventId, IdGenerator, Keyring};
use postrider_database::{Config as DatabaseConfig, Database, DatabaseError, DatabaseUrlError};
use postrider_delivery::Client;
use postrider_dispatch::{Config, DispatchError, Dispatcher, NewEvent, NewEventError, Transforms};
use postrider_store::Store;
use postrider_worker::Worker;
use sea_orm::{ConnectionTrait, DbErr, Statement};
use serde::Serialize;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// An order, as its event contains it.
#[derive(Clone, Debug, Serialize)]
pub struct Order {
    /// Its number.
    pub number: i64,
    /// Its total in cents.
    pub cents: i64,
    /// The card that pays for it.
    pub card: Card,
}

/// A payment card.
#[derive(Clone, Debug, Serialize)]
pub struct Card {
    /// Its number, which subscribers must not see.
    pub number: String,
}

/// An error of the shop.
#[derive(Debug, thiserror::Error)]
pub enum ShopError {
    /// The path cannot be part of a database URL.
    #[error(transparent)]
    Url(#[from] DatabaseUrlError),
    /// The database.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A statement of the shop's own.
    #[error("the database rejected a statement")]
    Statement(#[from] DbErr),
    /// The order cannot be an event's data.
    #[error(transparent)]
    Event(#[from] NewEventError),
    /// The event was not dispatched.
    #[error(transparent)]
    Dispatch(#[from] DispatchError),
    /// The dispatcher's configuration is invalid.
    #[error(transparent)]
    Dispatcher(#[from] postrider_dispatch::ConfigError),
    /// The worker's configuration.
    #[error(transparent)]
    Worker(#[from] postrider_worker::ConfigError),
    /// The order is invalid.
    #[error("the total of an order must be greater than zero")]
    Worthless,
}

/// The shop: its database, its dispatcher, and the worker that delivers.
#[derive(Debug)]
pub struct Shop {
    database: Database,
    dispatcher: Dispatcher,
    worker: JoinHandle<()>,
    stop: CancellationToken,
}

impl Shop {
    /// Opens the shop over a database file, creating it if necessary.
    ///
    /// # Errors
    /// Fails if the database cannot be opened or migrated.
    pub async fn open(
        path: &str,
        keyring: Keyring,
        client: Client,
        transforms: Transforms,
    ) -> Result<Self, ShopError> {
        let url = format!("sqlite://{path}").parse()?;
        let database = Database::connect(DatabaseConfig::new(url)).await?;
        postrider_migrations::migrate(database.sea_orm()).await?;
        let orders = "CREATE TABLE IF NOT EXISTS orders (number bigint PRIMARY KEY, cents bigint NOT NULL)";
        database.connection().execute_unprepared(orders).await?;

        let queue = postrider_queue::open(&database);
        let store = Store::new(database.clone(), queue, keyring, IdGenerator::system());
        let stop = CancellationToken::new();
        let worker = Worker::new(store.clone(), client, postrider_worker::Config::default())?;
        let worker = tokio::spawn(worker.run(stop.clone()));
        let dispatcher = Dispatcher::new(store, Config { transforms, ..Config::default() })?;
        Ok(Self { database, dispatcher, worker, stop })
    }

    /// Postrider's store: subscribers, deliveries, statistics.
    pub fn store(&self) -> &Store {
        self.dispatcher.store()
    }

    /// Places an order: writes it and its event in one transaction.
    ///
    /// # Errors
    /// Fails if the order is invalid or cannot be written. Then neither order nor event exists.
    pub async fn order(&self, order: &Order) -> Result<EventId, ShopError> {
        let transaction = self.database.begin().await?;
        let insert = Statement::from_sql_and_values(
            transaction.get_database_backend(),
            "INSERT INTO orders (number, cents) VALUES ($1, $2)",
            [order.number.into(), order.cents.into()],
        );
        transaction.execute_raw(insert).await?;
        let event = NewEvent::new("order.created", order)?;
        let dispatched = self.dispatcher.dispatch_in(&transaction, event).await?;
        // Checked late on purpose, so that the transaction has something to roll back.
        if order.cents <= 0 {
            return Err(ShopError::Worthless);
        }
        transaction.commit().await?;
        self.dispatcher.wake();
        Ok(dispatched.id)
    }

    /// The number of orders.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn orders(&self) -> Result<i64, ShopError> {
        let connection = self.database.connection();
        let count = Statement::from_string(
            connection.get_database_backend(),
            "SELECT count(*) AS orders FROM orders",
        );
        let row = connection.query_one_raw(count).await?;
        Ok(row.map(|row| row.try_get("", "orders")).transpose()?.unwrap_or(0))
    }

    /// Closes the shop: deliveries in flight finish, and the rest waits in the database.
    pub async fn close(self) {
        self.stop.cancel();
        let _ = self.worker.await;
        self.database.close().await;
    }
}
