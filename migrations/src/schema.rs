//! One text of DDL for two databases.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend};

/// Runs `shared` on either database, with its placeholders filled in, and `postgres` after it on
/// PostgreSQL only.
///
/// | placeholder | PostgreSQL | SQLite |
/// |---|---|---|
/// | `{uuid}` | `uuid` | `blob` |
/// | `{bytes}` | `bytea` | `blob` |
/// | `{sequence}` | `bigint GENERATED ALWAYS AS IDENTITY` | `integer PRIMARY KEY AUTOINCREMENT` |
///
/// On PostgreSQL, `postgres` adds the primary key of a table with a `{sequence}`.
pub(crate) async fn apply(manager: &SchemaManager<'_>, shared: &str, postgres: &str) -> Result<(), DbErr> {
    let connection = manager.get_connection();
    let on_postgres = connection.get_database_backend() == DbBackend::Postgres;
    let [uuid, bytes, sequence] = if on_postgres {
        ["uuid", "bytea", "bigint GENERATED ALWAYS AS IDENTITY"]
    } else {
        ["blob", "blob", "integer PRIMARY KEY AUTOINCREMENT"]
    };
    let ddl = shared.replace("{uuid}", uuid).replace("{bytes}", bytes).replace("{sequence}", sequence);
    if !ddl.is_empty() {
        connection.execute_unprepared(&ddl).await?;
    }
    if on_postgres && !postgres.is_empty() {
        connection.execute_unprepared(postgres).await?;
    }
    Ok(())
}
