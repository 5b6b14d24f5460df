//! What the run reads from the database: by connections of its own, never by those of the programs.

use std::{path::Path, time::Duration};

use sea_orm::{
    ConnectOptions, ConnectionTrait as _, Database, DatabaseConnection, DbBackend, DbErr, QueryResult,
    Statement,
};

/// Reads the database of the run.
#[derive(Clone, Debug)]
pub(crate) enum Records {
    Postgres(DatabaseConnection),
    /// The URL of a file that is opened for each statement, read-only, so that reading never keeps SQLite from emptying its
    /// log or removing it.
    Sqlite(String),
}

impl Records {
    pub(crate) fn of_file(file: &Path) -> Self {
        Self::Sqlite(format!("sqlite://{}?mode=ro", file.display()))
    }

    pub(crate) fn backend(&self) -> DbBackend {
        match self {
            Self::Postgres(_) => DbBackend::Postgres,
            Self::Sqlite(_) => DbBackend::Sqlite,
        }
    }

    /// The rows, or an error while a fault keeps us from the database too.
    pub(crate) async fn try_rows(&self, sql: &str) -> Result<Vec<QueryResult>, DbErr> {
        let statement = Statement::from_string(self.backend(), sql);
        match self {
            Self::Postgres(database) => database.query_all_raw(statement).await,
            Self::Sqlite(url) => {
                let database = connect_to_file(url).await?;
                let rows = database.query_all_raw(statement).await;
                database.close().await?;
                rows
            }
        }
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        self.try_rows(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// A single number.
    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.rows(sql).await.first().map_or(0, |row| row.try_get_by_index(0).expect("a number"))
    }
}

/// One connection to a SQLite file.
pub(crate) async fn connect_to_file(url: &str) -> Result<DatabaseConnection, DbErr> {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(1)
        .sqlx_logging(false)
        .map_sqlx_sqlite_opts(|options| options.busy_timeout(Duration::from_secs(5)));
    Database::connect(options).await
}
