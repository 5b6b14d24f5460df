//! The database, with the schema that this program needs.

use postrider_database::{Config, Database, DatabaseError, DatabaseUrl, DatabaseUrlError};
use postrider_settings::{DatabaseArgs, SettingsError};

/// Why the database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its settings.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Its URL.
    #[error("POSTRIDER_DATABASE_URL: {0}")]
    Url(#[from] DatabaseUrlError),
    /// It does not answer.
    #[error("cannot open the database {url}; is it running, and may this program connect?")]
    Away {
        /// Where it was looked for; without the password.
        url: DatabaseUrl,
        /// Why.
        source: DatabaseError,
    },
    /// Its schema is older than this program.
    #[error(
        "the database lacks {} migration(s), the first of them {}: run `postrider migrate`, or start postrider-server with --migrate",
        .0.len(),
        .0.first().map_or("unknown", String::as_str)
    )]
    Schema(Vec<String>),
    /// Its schema could not be read or brought up to date.
    #[error("cannot read or change the schema of the database")]
    Migration(#[source] DatabaseError),
}

/// Connects to the database, and sees that its schema fits; brings it up to date first if `migrate`.
///
/// # Errors
/// If a setting is wrong, the database does not answer, or its schema is older than this program.
pub async fn open_database(args: &DatabaseArgs, migrate: bool) -> Result<Database, OpenError> {
    let settings = args.config()?;
    let url: DatabaseUrl = settings.url.expose().parse()?;
    let config = Config { max_connections: settings.max_connections, ..Config::new(url.clone()) };
    let database = Database::connect(config).await.map_err(|source| OpenError::Away { url, source })?;
    if migrate {
        let migrated = postrider_migrations::migrate(database.connection()).await;
        migrated.map_err(|error| OpenError::Migration(error.into()))?;
    }
    let pending = postrider_migrations::pending(database.connection()).await;
    let pending = pending.map_err(|error| OpenError::Migration(error.into()))?;
    if pending.is_empty() { Ok(database) } else { Err(OpenError::Schema(pending)) }
}
