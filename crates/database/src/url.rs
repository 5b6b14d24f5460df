//! Where the database is.

use std::fmt;
use std::str::FromStr;

use ::url::Url;

use crate::Dialect;

/// Where the database is: `postgres://…` or `sqlite://…`. Debug and Display leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    dialect: Dialect,
}

/// The text is not the URL of a PostgreSQL or SQLite database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a database URL starts with postgres://, postgresql:// or sqlite://")]
pub struct DatabaseUrlError;

impl DatabaseUrl {
    /// The kind of database that it names.
    pub fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The URL with its password.
    pub fn expose(&self) -> &str {
        &self.text
    }
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let dialect = match text.split_once(':') {
            Some(("postgres" | "postgresql", rest)) if rest.starts_with("//") => Dialect::Postgres,
            Some(("sqlite", _)) => Dialect::Sqlite,
            _ => return Err(DatabaseUrlError),
        };
        Ok(Self { text: text.into(), dialect })
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.dialect, Url::parse(&self.text)) {
            (Dialect::Postgres, Ok(url)) => {
                write!(f, "postgres://{}", url.host_str().unwrap_or("localhost"))?;
                if let Some(port) = url.port() {
                    write!(f, ":{port}")?;
                }
                f.write_str(url.path())
            }
            (Dialect::Postgres, Err(_)) => f.write_str("postgres://…"),
            (Dialect::Sqlite, _) => f.write_str(&self.text),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let url: DatabaseUrl = "postgres://me:hunter2@db:5432/postrider?sslmode=require".parse().unwrap();
        assert_eq!(url.to_string(), "postgres://db:5432/postrider");
        assert!(!format!("{url:?}").contains("hunter2"));
        assert!("mysql://x".parse::<DatabaseUrl>().is_err());
        assert_eq!("sqlite://a.db".parse::<DatabaseUrl>().unwrap().dialect(), Dialect::Sqlite);
    }
}
