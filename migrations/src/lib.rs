//! The database schema of Postrider, one history for PostgreSQL and SQLite.
//!
//! Migrations only expand: they add tables, columns and indexes, and neither rename nor remove anything that an older
//! program reads. So a deployment migrates first and then restarts its programs one by one.
//!
//! Both databases get the same DDL; the module `schema` fills in the few words that differ.

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

/// Migrates the database to the current schema. Several programs may call this at once: on PostgreSQL they take turns.
///
/// # Errors
/// Fails if the database is unavailable or refuses a step. Then nothing has changed.
pub async fn migrate(connection: &DatabaseConnection) -> Result<(), DbErr> {
    if connection.get_database_backend() != DbBackend::Postgres {
        return Migrator::up(connection, None).await;
    }
    let transaction = connection.begin().await?;
    // Released at the end of the transaction. The number is "postride" in ASCII, which no other program uses.
    transaction.execute_unprepared("SELECT pg_advisory_xact_lock(8101253773854268517)").await?;
    Migrator::up(&transaction, None).await?;
    transaction.commit().await
}

/// The names of the migrations that the database lacks, oldest first. A database that is newer than this program lacks
/// none and is compatible, since migrations only expand.
///
/// # Errors
/// Fails if the database is unavailable.
pub async fn pending(connection: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let schema = SchemaManager::new(connection);
    let all = Migrator::migrations().into_iter().map(|migration| migration.name().to_owned());
    if !schema.has_table("seaql_migrations").await? {
        return Ok(all.collect());
    }
    // Not by the migrator's own method, which would create the table: a program may lack that permission.
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
