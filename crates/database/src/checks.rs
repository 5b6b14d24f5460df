//! What a PostgreSQL database must be like, checked once at start.

pub(crate) mod pooler;

use sea_orm::ConnectionTrait;

use crate::sql::{column, query_one};
use crate::{DatabaseError, Dialect};

/// Rejects a database that cannot store every text, and warns of defaults that sessions have to override.
pub(crate) async fn check(connection: &impl ConnectionTrait) -> Result<(), DatabaseError> {
    if Dialect::of(connection) != Dialect::Postgres {
        return Ok(());
    }
    let sql = "SELECT current_setting('server_encoding') AS encoding, \
        (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit') AS commits";
    let Some(row) = query_one(connection, sql, []).await? else { return Ok(()) };
    let encoding: String = column(&row, "encoding")?;
    if encoding != "UTF8" {
        return Err(DatabaseError::Encoding(encoding));
    }
    if column::<Option<String>>(&row, "commits")?.as_deref() == Some("off") {
        tracing::warn!(
            "synchronous_commit is off by default; it is on in the sessions of this program, as an acknowledged event must survive a crash"
        );
    }
    Ok(())
}
