//! Beginning a transaction, and knowing that none is open before.

use sea_orm::sqlx::sqlite::SqliteTransactionManager;
use sea_orm::sqlx::{Connection as _, Executor as _, SqliteConnection};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, RuntimeErr, SqliteTransactionMode, SqlxError,
    TransactionOptions, TransactionTrait as _,
};
use sqlx_core::transaction::TransactionManager as _;

use crate::Dialect;
use crate::raw::{OwnTransaction, RawTransaction};
use crate::source::{Origin, Source};

/// Begins a transaction that will write.
///
/// Cancellation-safe: on a pool of SeaORM, `BEGIN` runs in its own task. If the future were dropped mid-`BEGIN`, sqlx would
/// return the connection to the pool with a transaction open, and the next user's writes would never be committed.
pub(crate) async fn begin(source: &Source) -> Result<RawTransaction, DbErr> {
    if let Some(pool) = &source.own {
        return OwnTransaction::begin(pool, source.purpose).await.map(RawTransaction::Own);
    }
    let (pool, origin) = (source.shared.clone(), source.origin);
    let task = async move {
        if origin == Origin::Application {
            settle_one(&pool).await?;
        }
        begin_shared(&pool).await
    };
    match tokio::spawn(task).await {
        Ok(begun) => begun.map(RawTransaction::Shared),
        // The runtime is shutting down.
        Err(error) => Err(DbErr::Custom(error.to_string())),
    }
}

async fn begin_shared(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    // SQLite: take the write lock at once. A transaction that reads first and then writes can be refused (SQLite's manual, "Transactions", §2.2).
    let mode = (Dialect::of(pool) == Dialect::Sqlite).then_some(SqliteTransactionMode::Immediate);
    pool.begin_with_options(TransactionOptions {
        sqlite_transaction_mode: mode,
        ..TransactionOptions::default()
    })
    .await
}

/// Settles an idle connection of a pool that an application opened: ours settle all that are returned.
async fn settle_one(pool: &DatabaseConnection) -> Result<(), DbErr> {
    if Dialect::of(pool) != Dialect::Sqlite {
        return Ok(());
    }
    let failed = |error: SqlxError| DbErr::Conn(RuntimeErr::SqlxError(error.into()));
    let mut connection = pool.get_sqlite_connection_pool().acquire().await.map_err(failed)?;
    if !settle(&mut connection).await.map_err(failed)? {
        connection.close_on_drop();
    }
    Ok(())
}

/// Returns whether a connection has certainly no open transaction, after ending one that sqlx takes for open.
///
/// After an error SQLite may have rolled back on its own. sqlx's `ROLLBACK` then fails, and sqlx goes on to count a
/// transaction that does not exist: the next one would be a savepoint, which commits nothing.
pub(crate) async fn settle(connection: &mut SqliteConnection) -> Result<bool, SqlxError> {
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // A rollback that was started when a transaction was dropped may still be on its way.
    connection.ping().await?;
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // SQLite refuses BEGIN within a transaction.
    if connection.execute("BEGIN").await.is_err() {
        return Ok(false);
    }
    SqliteTransactionManager::rollback(connection).await?;
    // More than one was counted, if it still is.
    Ok(!connection.is_in_transaction())
}
