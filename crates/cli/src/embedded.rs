//! All of Postrider in this process, over SQLite in a folder.

use std::path::Path;

use postrider_program::{OpenError, Purpose};
use postrider_settings::{DatabaseArgs, QueueArgs, SecretKeys};
use postrider_store::Store;

/// Opens the database in `folder`, which it creates and migrates as needed.
pub(crate) async fn open(folder: &Path, keys: impl Into<SecretKeys>) -> Result<Store, OpenError> {
    let (_, store) =
        postrider_program::open_store(&database(folder), &QueueArgs::default(), keys, Purpose::Api, true)
            .await?;
    Ok(store)
}

/// Returns the settings of the database in `folder`.
pub(crate) fn database(folder: &Path) -> DatabaseArgs {
    let file = folder.join("postrider.db");
    let url = format!("sqlite://{}?mode=rwc", file.display());
    DatabaseArgs {
        database_url: Some(url.into()),
        database_connections: 1,
        database_pooler: "none".to_owned(),
        database_listen_url: None,
        // Of no use to SQLite.
        partition: Store::PARTITION,
    }
}
