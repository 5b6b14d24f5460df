//! The database schema of Postrider, one history for PostgreSQL and SQLite.
//!
//! Migrations only expand: tables, columns and indexes are added, and nothing that a running older
//! program reads is renamed or removed. So a deployment migrates first and restarts its programs one
//! by one after it.
//!
//! The types are those that both databases share; the module `schema` fills in the few words that differ.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{
    ConnectionTrait, DatabaseConnection, DbBackend, Statement, TransactionTrait,
};

mod m0001_foundation;
mod m0002_shut_lanes;
mod m0003_room_in_place;
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
        ]
    }
}

/// Brings the database to the current schema. Safe to call from several programs at once: on
/// PostgreSQL they take turns.
///
/// # Errors
/// If the database is away, or refuses a step. Then nothing has changed.
pub async fn migrate(connection: &DatabaseConnection) -> Result<(), DbErr> {
    if connection.get_database_backend() != DbBackend::Postgres {
        return Migrator::up(connection, None).await;
    }
    let transaction = connection.begin().await?;
    // Released with the transaction. The number is ours alone: "postride" in ASCII.
    transaction.execute_unprepared("SELECT pg_advisory_xact_lock(8101253773854268517)").await?;
    Migrator::up(&transaction, None).await?;
    transaction.commit().await
}

/// The names of the migrations that the database lacks, oldest first. A database that is ahead of
/// this program lacks none, and fits: migrations only expand.
///
/// # Errors
/// If the database is away.
pub async fn pending(connection: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let schema = SchemaManager::new(connection);
    let all = Migrator::migrations().into_iter().map(|migration| migration.name().to_owned());
    if !schema.has_table("seaql_migrations").await? {
        return Ok(all.collect());
    }
    // Read by hand: the migrator's own way would make the table, which a program need not be allowed to.
    let select =
        Statement::from_string(connection.get_database_backend(), "SELECT version FROM seaql_migrations");
    let rows = connection.query_all_raw(select).await?;
    let applied = rows.iter().map(|row| row.try_get("", "version")).collect::<Result<Vec<String>, _>>()?;
    Ok(all.filter(|name| !applied.contains(name)).collect())
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
