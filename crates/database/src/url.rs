//! Where the database is.

use std::fmt;
use std::str::FromStr;

use crate::Dialect;
use crate::servers::Servers;

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

/// Why a text is not the URL of a PostgreSQL or SQLite database. Shows nothing of the text, which may have a password
/// anywhere if it is misspelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseUrlError {
    /// It does not start with the name of a database.
    #[error("a database URL starts with postgres://, postgresql:// or sqlite://")]
    Scheme,
    /// A host or port is invalid, or a character would have to be encoded.
    #[error(
        "the host or port is invalid: expected host:port, or [address]:port for IPv6; in the user and password write % / ? @ : as %25 %2F %3F %40 %3A"
    )]
    Authority,
    /// The bytes that are encoded with percent signs are not UTF-8.
    #[error(
        "the bytes that are encoded with percent signs must be UTF-8; a percent sign itself is written %25"
    )]
    Encoding,
    /// The numbers of hosts and ports differ.
    #[error("the parameter port needs one port, or as many as there are hosts")]
    Ports,
    /// A parameter has no name or no value.
    #[error("expected parameters as name=value, separated by &, after the name of the database")]
    Parameters,
    /// The value of a parameter is invalid.
    #[error("the parameter {name} is invalid: expected {expected}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// The valid values.
        expected: &'static str,
    },
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
