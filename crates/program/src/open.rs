//! The database with the schema that this program needs, and the store over it.

use postrider_core::{IdGenerator, chain};
use postrider_database::{Config, Database, DatabaseError, DatabaseUrl, Purpose, RoleSettings};
use postrider_settings::{DatabaseArgs, QueueArgs, SecretKeys, SettingsError};
use postrider_store::{Store, StoreError};

use crate::queue::{QueueUrlError, open_queue};

/// Why the database or the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is missing or invalid.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database cannot be reached, or refuses the connection.
    #[error("cannot open the database {url}")]
    Unavailable {
        /// The URL without its password.
        url: DatabaseUrl,
        /// What went wrong.
        source: DatabaseError,
    },
    /// The schema is older than this program.
    #[error(
        "the database lacks {} migration(s), the first of them {}: run `postrider migrate`, or start postrider-server with --migrate, or `postrider serve` \
        without --no-migrate",
        .0.len(),
        .0.first().map_or("unknown", String::as_str)
    )]
    Schema(Vec<String>),
    /// The schema could not be read or migrated.
    #[error("cannot read or migrate the schema of the database")]
    Migration(#[source] DatabaseError),
    /// The keys do not decrypt the stored secrets.
    #[error(
        "POSTRIDER_SECRET_KEY does not decrypt the stored secrets; it must have the key that encrypted them. If that key is lost, \
        set POSTRIDER_SECRET_KEY_LOST to true and rotate the secrets"
    )]
    Keyring(#[source] StoreError),
    /// The queue cannot be used.
    #[error("cannot open the queue")]
    Queue(#[from] QueueUrlError),
    /// The stored secrets could not be read.
    #[error("cannot read the stored secrets")]
    Store(#[source] StoreError),
}

/// Connects to the database, migrates it if `migrate`, and checks its schema.
///
/// # Errors
/// Fails if a setting is invalid, the database is unavailable, or its schema is older than this program.
pub async fn open_database(args: &DatabaseArgs, migrate: bool) -> Result<Database, OpenError> {
    let database = connect(args, RoleSettings::Required).await?;
    if migrate {
        bring_up_to_date(&database).await?;
    }
    // On a connection that is open already: there may be no other to be had.
    let pending = postrider_migrations::pending(database.connection()).await;
    let pending = pending.map_err(|error| OpenError::Migration(error.into()))?;
    if pending.is_empty() { Ok(database) } else { Err(OpenError::Schema(pending)) }
}

/// Migrates the database, with a role that may lack the settings of the programs' role.
///
/// # Errors
/// Fails if a setting is invalid, the database is unavailable, or a migration fails.
pub async fn migrate_database(args: &DatabaseArgs) -> Result<(), OpenError> {
    let database = connect(args, RoleSettings::Any).await?;
    bring_up_to_date(&database).await?;
    database.close().await;
    Ok(())
}

async fn connect(args: &DatabaseArgs, role_settings: RoleSettings) -> Result<Database, OpenError> {
    let url: DatabaseUrl = args.url()?;
    let config = Config {
        max_connections: args.database_connections,
        pooler: args.pooler()?,
        role_settings,
        listen_url: args.listen_url()?,
        ..Config::new(url.clone())
    };
    let opened = Database::connect(config).await;
    opened.map_err(|source| OpenError::Unavailable { url, source })
}

async fn bring_up_to_date(database: &Database) -> Result<(), OpenError> {
    let migrated = postrider_migrations::migrate(database.sea_orm()).await;
    migrated.map_err(|error| OpenError::Migration(error.into()))
}

/// Opens the database as [`open_database`] does, and the store over it for `purpose`, and checks that `keys` decrypt its
/// secrets. The queue is the one that `queue` names.
///
/// # Errors
/// Fails as [`open_database`] does, if the queue cannot be used, or if `keys` lack the key of a stored secret and it is not
/// said to be lost.
pub async fn open_store(
    args: &DatabaseArgs,
    queue: &QueueArgs,
    keys: impl Into<SecretKeys>,
    purpose: Purpose,
    migrate: bool,
) -> Result<(Database, Store), OpenError> {
    let database = open_database(args, migrate).await?.serving(purpose);
    let queue = open_queue(&database, queue).await?;
    let SecretKeys { keyring, lost } = keys.into();
    let store = Store::new(database.clone(), queue, keyring, IdGenerator::system())
        .with_partitions_of(args.partition);
    match store.check_keyring().await {
        Ok(()) => {}
        Err(error @ StoreError::Keyring(_)) if lost => tracing::warn!(
            error = %chain(&error),
            "stored secrets cannot be decrypted; rotate them, and set the headers of their subscribers again"
        ),
        Err(error @ StoreError::Keyring(_)) => return Err(OpenError::Keyring(error)),
        Err(error) => return Err(OpenError::Store(error)),
    }
    Ok((database, store))
}
