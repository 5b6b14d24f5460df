//! What a pooler must be like, checked once at start.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use sea_orm::sqlx::postgres::{PgConnectOptions, PgRow};
use sea_orm::sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, PgConnection, Row as _, query, raw_sql,
};
use sea_orm::{DbErr, RuntimeErr, SqlxError};

use crate::failover::while_full;
use crate::session::Setting;
use crate::{Config, DatabaseError, Pooler, PoolerError, RoleSettings, session};

/// How many statements are sent over each of two connections to learn whether they share connections to PostgreSQL.
const ROUNDS: usize = 8;

/// Checks that what is between the program and `server` is what the configuration says, and that it will do.
pub(crate) async fn check(config: &Config, server: &PgConnectOptions) -> Result<(), DatabaseError> {
    let first = while_full(config.acquire_timeout, || server.connect()).await;
    let mut first = first.map_err(unavailable)?;
    // There may be no second one to be had. Nothing is shared then.
    let Ok(mut second) = server.connect().await else {
        close(first).await;
        return Ok(());
    };
    let checked = match config.pooler {
        Pooler::None if share(&mut first, &mut second).await? => Err(PoolerError::Unexpected.into()),
        Pooler::None => Ok(()),
        Pooler::Transaction => behind_pooler(config, &mut first, &mut second).await,
    };
    close(first).await;
    close(second).await;
    checked
}

async fn close(connection: PgConnection) {
    if let Err(error) = connection.close().await {
        tracing::debug!(%error, "a database connection did not close cleanly");
    }
}

async fn behind_pooler(
    config: &Config,
    first: &mut PgConnection,
    second: &mut PgConnection,
) -> Result<(), DatabaseError> {
    if !prepares(first, second).await? {
        // The statements would be in the way of other clients.
        if let Err(error) = rows(first, "DEALLOCATE ALL".to_owned()).await {
            tracing::debug!(%error, "prepared statements were not removed");
        }
        return Err(PoolerError::PreparedStatements.into());
    }
    if config.role_settings == RoleSettings::Any {
        return Ok(());
    }
    match lacking(first, &session::all(config)).await? {
        None => Ok(()),
        Some(statements) => Err(PoolerError::Settings(statements).into()),
    }
}

/// Returns whether two connections are served by the same process of PostgreSQL. A pooler prefers the session that it used
/// last, so a few rounds suffice, unless it is very busy.
async fn share(first: &mut PgConnection, second: &mut PgConnection) -> Result<bool, DatabaseError> {
    let (mut of_first, mut of_second) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..ROUNDS {
        of_first.insert(process(first).await?);
        of_second.insert(process(second).await?);
    }
    Ok(of_first.len() > 1 || of_second.len() > 1 || of_first == of_second)
}

async fn process(connection: &mut PgConnection) -> Result<String, DatabaseError> {
    let rows = rows(connection, "SELECT pg_backend_pid()::text".to_owned()).await?;
    rows.first().map_or(Ok(String::new()), |row| row.try_get(0)).map_err(unavailable)
}

/// Returns whether statements can be prepared: both connections give different ones the same name.
async fn prepares(first: &mut PgConnection, second: &mut PgConnection) -> Result<bool, DatabaseError> {
    for _ in 0..ROUNDS {
        if !answers(first, "first").await? || !answers(second, "second").await? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Prepares a statement, or uses the prepared one, and returns whether it was that one.
async fn answers(connection: &mut PgConnection, text: &str) -> Result<bool, DatabaseError> {
    let answer = query(AssertSqlSafe(format!("SELECT '{text}'::text"))).fetch_one(connection).await;
    match answer.and_then(|row| row.try_get::<String, _>(0)) {
        Ok(answer) => Ok(answer == text),
        Err(error @ (SqlxError::Database(_) | SqlxError::Protocol(_))) => {
            tracing::debug!(%error, "a statement was not prepared");
            Ok(false)
        }
        Err(error) => Err(unavailable(error)),
    }
}

/// The statements that give the role the settings it lacks. `None` if it has all.
async fn lacking(
    connection: &mut PgConnection,
    settings: &[Setting],
) -> Result<Option<String>, DatabaseError> {
    let names: Vec<_> = settings.iter().map(|setting| format!("'{}'", setting.name)).collect();
    let sql = format!(
        "SELECT name, setting, quote_ident(current_user), quote_ident(current_database()) \
         FROM pg_settings WHERE name IN ({})",
        names.join(", ")
    );
    let (mut statements, mut lacking) = (String::new(), false);
    for row in rows(connection, sql).await? {
        let text = |place: usize| row.try_get::<String, _>(place).map_err(unavailable);
        let (name, now, role, database) = (text(0)?, text(1)?, text(2)?, text(3)?);
        let setting = settings.iter().find(|setting| setting.name == name && !setting.is_met_by(&now));
        if let Some(setting) = setting {
            let between = if lacking { "; " } else { "" };
            let value = setting.value();
            // Writing to a String cannot fail.
            let _ = write!(
                statements,
                "{between}ALTER ROLE {role} IN DATABASE {database} SET {name} = '{value}'"
            );
            lacking = true;
        }
    }
    Ok(lacking.then_some(statements))
}

/// Runs a statement that is not prepared.
async fn rows(connection: &mut PgConnection, sql: String) -> Result<Vec<PgRow>, DatabaseError> {
    raw_sql(AssertSqlSafe(sql)).fetch_all(connection).await.map_err(unavailable)
}

fn unavailable(error: SqlxError) -> DatabaseError {
    DbErr::Conn(RuntimeErr::SqlxError(error.into())).into()
}
