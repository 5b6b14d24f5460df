//! Transactions on either kind of pool.

use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, ExecResult, QueryResult, RuntimeErr, Statement,
};
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use crate::Purpose;
use crate::error::is_dead_connection;
use crate::pool::{Lease, Pool};

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
pub(crate) struct OwnTransaction(Mutex<Option<Open>>);

#[derive(Debug)]
struct Open {
    lease: Lease,
    /// Where to begin again. `None` once a statement of the caller has run.
    fresh: Option<(Pool, Purpose)>,
}

impl Open {
    /// The statement for a second time, if it is the first one of the transaction.
    fn spare(&self, statement: &Statement) -> Option<Statement> {
        self.fresh.is_some().then(|| statement.clone())
    }

    async fn begin_again(&mut self) -> Result<(), DbErr> {
        if let Some((pool, purpose)) = self.fresh.take() {
            self.lease = begin(&pool, purpose).await?;
        }
        Ok(())
    }
}

async fn begin(pool: &Pool, purpose: Purpose) -> Result<Lease, DbErr> {
    let mut lease = pool.acquire(purpose).await?;
    match lease.execute_unprepared("BEGIN".to_owned()).await {
        Ok(_) => return Ok(lease),
        // No statement of the caller has run, and the pool has discarded all connections that may be dead as well.
        Err(error) if is_dead_connection(&error) => drop(lease),
        Err(error) => return Err(error),
    }
    let mut lease = pool.acquire(purpose).await?;
    lease.execute_unprepared("BEGIN".to_owned()).await?;
    Ok(lease)
}

/// Runs a statement. The first one of a transaction that finds its connection dead, or its plan stale after a change of the
/// schema, runs once more in a transaction on another connection: nothing has been committed.
macro_rules! run {
    ($own:ident, $method:ident, $statement:ident) => {{
        let mut open = $own.open().await?;
        let spare = open.spare(&$statement);
        let done = open.lease.$method($statement).await;
        match (done, spare) {
            (Err(error), Some(statement)) if is_dead_connection(&error) => {
                open.begin_again().await?;
                open.lease.$method(statement).await
            }
            (done, _) => {
                open.fresh = None;
                done
            }
        }
    }};
}

/// How long a transaction that was dropped may take to roll back before its connection is closed.
const ROLLBACK: Duration = Duration::from_secs(3);

impl OwnTransaction {
    pub(crate) async fn begin(pool: &Pool, purpose: Purpose) -> Result<Self, DbErr> {
        let open = Open { lease: begin(pool, purpose).await?, fresh: Some((pool.clone(), purpose)) };
        Ok(Self(Mutex::new(Some(open))))
    }

    async fn open(&self) -> Result<MappedMutexGuard<'_, Open>, DbErr> {
        let open = MutexGuard::try_map(self.0.lock().await, Option::as_mut);
        open.map_err(|_| DbErr::Conn(RuntimeErr::Internal("the transaction has ended".to_owned())))
    }

    /// Runs the statement that ends the transaction. The connection is closed if it fails.
    async fn end(mut self, statement: &str) -> Result<(), DbErr> {
        let Some(Open { mut lease, .. }) = self.0.get_mut().take() else { return Ok(()) };
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
        let Some(Open { mut lease, .. }) = self.0.get_mut().take() else { return };
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
            Self::Own(own) => run!(own, execute, statement).map(Into::into),
        }
    }

    async fn execute_unprepared(&self, sql: &str) -> Result<ExecResult, DbErr> {
        match self {
            Self::Shared(shared) => shared.execute_unprepared(sql).await,
            Self::Own(own) => {
                let mut open = own.open().await?;
                open.fresh = None;
                Ok(open.lease.execute_unprepared(sql.to_owned()).await?.into())
            }
        }
    }

    async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
        match self {
            Self::Shared(shared) => shared.query_one_raw(statement).await,
            Self::Own(own) => Ok(run!(own, query_one, statement)?.map(Into::into)),
        }
    }

    async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
        match self {
            Self::Shared(shared) => shared.query_all_raw(statement).await,
            Self::Own(own) => {
                let rows = run!(own, query_all, statement)?;
                Ok(rows.into_iter().map(Into::into).collect())
            }
        }
    }
}
