//! The database schema of Postrider, one history for PostgreSQL and SQLite.
//!
//! Migrations only expand: they add tables, columns and indexes, and neither rename nor remove anything that an older
//! program reads. So a deployment migrates first and then restarts its programs one by one. Those from `m0005_queue` to
//! `m0011_retention` are the exception: together they convert a database of the first edition, whose programs must be
//! stopped.
//!
//! Both databases get the same DDL; the module `schema` fills in the few words that differ.

use std::time::Duration;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, RuntimeErr, Statement, TransactionTrait,
};

mod m0001_foundation;
mod m0002_shut_lanes;
mod m0003_room_in_place;
mod m0004_draining_lanes;
mod m0005_queue;
mod m0006_fan_outs;
mod m0007_partitions;
mod m0008_subscriber_counts;
mod m0009_rollups;
mod m0010_ends;
mod m0011_retention;
mod m0012_workers;
mod m0013_first_attempts;
mod m0014_payloads;
mod m0015_expiring_payloads;
mod m0016_tenants;
mod m0017_exchanges;
mod m0018_keys;
mod m0019_audit;
mod m0020_older_secrets;
mod m0021_holds;
mod m0022_request_keys;
mod m0023_shapes;
mod m0024_formats;
mod m0025_event_types;
mod m0026_event_keys;
mod m0027_egress_proxies;
mod m0028_owners;
mod m0029_filters;
mod m0030_plugins;
mod m0031_versions;
mod m0032_replays_and_tail;
mod m0033_outbox;
mod m0034_sessions;
mod m0035_sandboxes;
mod m0036_taken_jobs;
mod m0038_portal;
mod m0039_lanes_of_owners;
mod schema;

/// All migrations, oldest first.
#[derive(Debug)]
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![
            Box::new(m0001_foundation::Migration),
            Box::new(m0002_shut_lanes::Migration),
            Box::new(m0003_room_in_place::Migration),
            Box::new(m0004_draining_lanes::Migration),
            Box::new(m0005_queue::Migration),
            Box::new(m0006_fan_outs::Migration),
            Box::new(m0007_partitions::Migration),
            Box::new(m0008_subscriber_counts::Migration),
            Box::new(m0009_rollups::Migration),
            Box::new(m0010_ends::Migration),
            Box::new(m0011_retention::Migration),
            Box::new(m0012_workers::Migration),
            Box::new(m0013_first_attempts::Migration),
            Box::new(m0014_payloads::Migration),
            Box::new(m0015_expiring_payloads::Migration),
            Box::new(m0016_tenants::Migration),
            Box::new(m0017_exchanges::Migration),
            Box::new(m0018_keys::Migration),
            Box::new(m0019_audit::Migration),
            Box::new(m0020_older_secrets::Migration),
            Box::new(m0021_holds::Migration),
            Box::new(m0022_request_keys::Migration),
            Box::new(m0023_shapes::Migration),
            Box::new(m0024_formats::Migration),
            Box::new(m0025_event_types::Migration),
            Box::new(m0026_event_keys::Migration),
            Box::new(m0027_egress_proxies::Migration),
            Box::new(m0028_owners::Migration),
            Box::new(m0029_filters::Migration),
            Box::new(m0030_plugins::Migration),
            Box::new(m0031_versions::Migration),
            Box::new(m0032_replays_and_tail::Migration),
            Box::new(m0033_outbox::Migration),
            Box::new(m0034_sessions::Migration),
            Box::new(m0035_sandboxes::Migration),
            Box::new(m0036_taken_jobs::Migration),
            Box::new(m0038_portal::Migration),
            Box::new(m0039_lanes_of_owners::Migration),
        ]
    }
}

/// How long a migration waits for a lock before it starts over. It is shorter than PostgreSQL's `deadlock_timeout` (1 s),
/// so that in a deadlock with a program the migration gives way, and no program waits longer than this behind it.
const LOCK_TIMEOUT: &str = "500ms";

/// How long to leave the locks to others before starting over, and how often to start over.
const PAUSE: Duration = Duration::from_millis(500);
const MOST_TRIES: u32 = 600;

/// Migrates the database to the current schema. Several programs may call this at once: on PostgreSQL they take turns.
/// A role without the right to change the schema may call it if nothing is left to do.
///
/// On PostgreSQL the running programs keep working: a migration that does not get a lock within half a second rolls back
/// and starts over, for ten minutes.
///
/// # Errors
/// Fails if the database is unavailable or refuses a step. Then nothing has changed.
pub async fn migrate(connection: &DatabaseConnection) -> Result<(), DbErr> {
    migrate_with::<Migrator>(connection).await
}

/// Migrates as [`migrate`] does, with other migrations.
///
/// # Errors
/// Fails as [`migrate`] does.
#[doc(hidden)]
pub async fn migrate_with<M: MigratorTrait>(connection: &DatabaseConnection) -> Result<(), DbErr> {
    if pending_of::<M>(connection).await?.is_empty() {
        return Ok(());
    }
    if connection.get_database_backend() != DbBackend::Postgres {
        return M::up(connection, None).await;
    }
    for _ in 1..MOST_TRIES {
        match migrate_at_once::<M>(connection).await {
            Err(error) if waited_for_lock(&error) => tokio::time::sleep(PAUSE).await,
            done => return done,
        }
    }
    migrate_at_once::<M>(connection).await
}

async fn migrate_at_once<M: MigratorTrait>(connection: &DatabaseConnection) -> Result<(), DbErr> {
    let transaction = connection.begin().await?;
    // The number is "postride" in ASCII, which no other program uses. The lock is released at the end of the transaction.
    // Filling a new column or building an index may take longer than any other statement. Behind a pooler nothing else sets
    // the isolation level: a stricter one would not see what another program has migrated.
    let begin = format!(
        "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; \
         SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = 0; \
         SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock(8101253773854268517); \
         SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"
    );
    transaction.execute_unprepared(&begin).await?;
    // Another program may have migrated while this one waited for its turn.
    if !pending_of::<M>(&transaction).await?.is_empty() {
        M::up(&transaction, None).await?;
    }
    transaction.commit().await
}

/// Returns whether a lock was not free in time, or the statement was the victim of a deadlock (PostgreSQL's manual,
/// appendix A).
fn waited_for_lock(error: &DbErr) -> bool {
    let (DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return false;
    };
    error
        .as_database_error()
        .is_some_and(|error| error.code().is_some_and(|code| matches!(&*code, "55P03" | "40P01")))
}

/// The names of the migrations that the database lacks, oldest first. A database that is newer than this program lacks
/// none and is compatible, since migrations only expand.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn pending(connection: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    pending_of::<Migrator>(connection).await
}

async fn pending_of<M: MigratorTrait>(connection: &impl ConnectionTrait) -> Result<Vec<String>, DbErr> {
    let backend = connection.get_database_backend();
    let all = M::migrations().into_iter().map(|migration| migration.name().to_owned());
    // Found along the search path, as all tables are. The migrator's own methods would create the table, or look only in
    // the first schema of the path: a program may lack that permission, and have a schema of its own.
    let exists = match backend {
        DbBackend::Postgres => "SELECT 1 WHERE to_regclass('seaql_migrations') IS NOT NULL",
        _ => "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'seaql_migrations'",
    };
    if connection.query_one_raw(Statement::from_string(backend, exists)).await?.is_none() {
        return Ok(all.collect());
    }
    let select = Statement::from_string(backend, "SELECT version FROM seaql_migrations");
    let rows = connection.query_all_raw(select).await?;
    let applied = rows.iter().map(|row| row.try_get("", "version")).collect::<Result<Vec<String>, _>>()?;
    Ok(all.filter(|name| !applied.contains(name)).collect())
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
