//! Where the database is.

use std::fmt;
use std::str::FromStr;

use crate::Dialect;
use crate::servers::{DatabaseUrlError, Servers};

/// Where the database is: `postgres://…` or `sqlite://…`. Debug and Display leave the password out.
///
/// A URL of PostgreSQL is read as libpq reads it (PostgreSQL's manual, §34.1.1.2): several hosts may be separated by
/// commas, an IPv6 address stands in brackets, and parameters follow after `?`.
///
/// ```
/// use postrider_database::DatabaseUrl;
///
/// let url: DatabaseUrl = "postgres://me:hunter2@[::1]:5433,db2/postrider?sslmode=require".parse()?;
/// assert_eq!(url.to_string(), "postgres://[::1]:5433,db2/postrider");
/// # Ok::<(), postrider_database::DatabaseUrlError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    /// `None` for SQLite.
    servers: Option<Servers>,
}

impl DatabaseUrl {
    /// The kind of database that it names.
    pub fn dialect(&self) -> Dialect {
        if self.servers.is_some() { Dialect::Postgres } else { Dialect::Sqlite }
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// The servers of PostgreSQL.
    pub(crate) fn servers(&self) -> Option<&Servers> {
        self.servers.as_ref()
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let servers = match text.split_once(':') {
            Some(("postgres" | "postgresql", rest)) => {
                let rest = rest.strip_prefix("//").ok_or(DatabaseUrlError::Scheme)?;
                Some(rest.parse()?)
            }
            Some(("sqlite", _)) => None,
            _ => return Err(DatabaseUrlError::Scheme),
        };
        Ok(Self { text: text.into(), servers })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.servers {
            Some(servers) => write!(f, "postgres://{servers}"),
            None => f.write_str(&self.text),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
