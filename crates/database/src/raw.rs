//! Transactions on either kind of pool.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::pool::Lease;

/// An open transaction. Dropping it rolls it back.
#[derive(Debug)]
pub(crate) enum RawTransaction {
    /// On a pool of SeaORM.
    Shared(DatabaseTransaction),
    /// On one of our own connections.
    Own(OwnTransaction),
}

impl RawTransaction {
    pub(crate) async fn commit(self) -> Result<(), DbErr> {
        match self {
            Self::Shared(transaction) => transaction.commit().await,
            Self::Own(transaction) => transaction.end("COMMIT").await,
        }
    }

    pub(crate) async fn rollback(self) -> Result<(), DbErr> {
        match self {
            Self::Shared(transaction) => transaction.rollback().await,
            Self::Own(transaction) => transaction.end("ROLLBACK").await,
        }
    }
}

/// A transaction on one of our own connections.
#[derive(Debug)]
pub(crate) struct OwnTransaction(Mutex<Option<Lease>>);

/// How long a transaction that was dropped may take to roll back before its connection is closed.
const ROLLBACK: Duration = Duration::from_secs(3);

impl OwnTransaction {
    pub(crate) fn new(lease: Lease) -> Self {
        Self(Mutex::new(Some(lease)))
    }

    async fn lease(&self) -> Result<MappedMutexGuard<'_, Lease>, DbErr> {
        let lease = MutexGuard::try_map(self.0.lock().await, Option::as_mut);
        lease.map_err(|_| DbErr::Conn(RuntimeErr::Internal("the transaction has ended".to_owned())))
    }

    /// Runs the statement that ends the transaction. The connection is closed if it fails.
    async fn end(mut self, statement: &str) -> Result<(), DbErr> {
        let Some(mut lease) = self.0.get_mut().take() else { return Ok(()) };
        let ended = lease.execute_unprepared(statement.to_owned()).await;
        if ended.is_err() {
            lease.discard();
        }
        ended.map(drop)
    }
}

/// Rolls back. Outside of a runtime the connection is closed, with the same effect.
impl Drop for OwnTransaction {
    fn drop(&mut self) {
        let Some(mut lease) = self.0.get_mut().take() else { return };
        let runtime = tokio::runtime::Handle::try_current();
        if let (Ok(runtime), false) = (runtime, lease.is_running()) {
            runtime.spawn(async move {
                let rollback = lease.execute_unprepared("ROLLBACK".to_owned());
                if !matches!(tokio::time::timeout(ROLLBACK, rollback).await, Ok(Ok(_))) {
                    lease.discard();
                }
            });
        } else {
            lease.discard();
        }
    }
}

#[async_trait::async_trait]
impl ConnectionTrait for RawTransaction {
    fn get_database_backend(&self) -> DbBackend {
        match self {
            Self::Shared(shared) => shared.get_database_backend(),
            Self::Own(_) => DbBackend::Postgres,
        }
    }

    async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
        match self {
            Self::Shared(shared) => shared.execute_raw(statement).await,
            Self::Own(own) => Ok(own.lease().await?.execute(statement).await?.into()),
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Shared(shared) => shared.execute_unprepared(sql).await,
            Self::Own(own) => Ok(own.lease().await?.execute_unprepared(sql.to_owned()).await?.into()),
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Shared(shared) => shared.query_one_raw(statement).await,
            Self::Own(own) => Ok(own.lease().await?.query_one(statement).await?.map(Into::into)),
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Shared(shared) => shared.query_all_raw(statement).await,
            Self::Own(own) => {
                let rows = own.lease().await?.query_all(statement).await?;
                Ok(rows.into_iter().map(Into::into).collect())
            }
        }
    }
}
