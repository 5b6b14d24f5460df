//! The whole of Postrider in this process, over SQLite in a folder.

use std::path::Path;

use postrider_core::{IdGenerator, Keyring};
use postrider_database::{Config, Database};
use postrider_program::StartError;
use postrider_store::Store;

/// Opens, or makes, the database in `folder`.
pub(crate) async fn open(folder: &Path, keyring: Keyring) -> Result<Store, StartError> {
    let file = folder.join("postrider.db");
    let url = format!("sqlite://{}?mode=rwc", file.display()).parse()?;
    let database = Database::connect(Config::new(url)).await?;
    postrider_migrations::migrate(database.connection()).await?;
    let queue = postrider_queue::open(&database);
    let store = Store::new(database, queue, keyring, IdGenerator::system());
    store.check_keyring().await?;
    Ok(store)
}
