//! PostgreSQL servers of a test's own, for what would disturb the tests that share one.

use sea_orm::{ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection};
use tokio::task::block_in_place;
use xtask::postgres::{Durability, Options, Postgres};

/// The database of the programs.
pub(crate) const NAME: &str = "app";

/// Starts a server with an empty, migrated database.
pub(crate) async fn start(options: &Options) -> Postgres {
    let server = block_in_place(|| Postgres::start(options)).expect("a server");
    run(&server, "postgres", &format!("CREATE DATABASE {NAME}")).await;
    let connection = connect(&server.database_url(NAME)).await;
    postrider_migrations::migrate(&connection).await.expect("a schema");
    connection.close().await.expect("it closes");
    server
}

/// The configuration of a server that may forget everything when it crashes.
pub(crate) fn options() -> Options {
    Options::new(Durability::Off).set("shared_buffers", "32MB")
}

/// Runs statements in a database as the superuser, whom no default makes read-only.
pub(crate) async fn run(server: &Postgres, database: &str, sql: &str) {
    let url = format!("{}?options[default_transaction_read_only]=off", server.database_url(database));
    let connection = connect(&url).await;
    for statement in sql.split("; ") {
        connection.execute_unprepared(statement).await.unwrap_or_else(|error| panic!("{statement}: {error}"));
    }
    connection.close().await.expect("it closes");
}

pub(crate) async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.unwrap_or_else(|error| panic!("{url}: {error}"))
}
