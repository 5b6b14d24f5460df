//! Beginning a transaction, and knowing that none is open before.

use sea_orm::sqlx::sqlite::SqliteTransactionManager;
use sea_orm::sqlx::{Connection as _, Executor as _, SqliteConnection};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, RuntimeErr, SqliteTransactionMode, SqlxError,
    TransactionOptions, TransactionTrait as _,
};
use sqlx_core::transaction::TransactionManager as _;

use crate::Dialect;
use crate::error::is_dead_connection;

/// How many dead connections one call passes over.
pub(crate) const MOST_DEAD: usize = 32;

/// Begins a transaction, passing over dead connections.
pub(crate) async fn begin(pool: &DatabaseConnection) -> Result<DatabaseTransaction, DbErr> {
    // SQLite: take the write lock at once. A transaction that reads first and then writes can be refused (SQLite's manual, "Transactions", §2.2).
    let mode = (Dialect::of(pool) == Dialect::Sqlite).then_some(SqliteTransactionMode::Immediate);
    let options = || TransactionOptions { sqlite_transaction_mode: mode, ..TransactionOptions::default() };
    for _ in 0..MOST_DEAD {
        match pool.begin_with_options(options()).await {
            Err(error) if is_dead_connection(&error) => {}
            begun => return begun,
        }
    }
    pool.begin_with_options(options()).await
}

/// Settles an idle connection of a pool that an application opened: ours settle all that are returned.
pub(crate) async fn settle_one(pool: &DatabaseConnection) -> Result<(), DbErr> {
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
