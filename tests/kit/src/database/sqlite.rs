use std::{
    any::TypeId,
    collections::HashMap,
    path::Path,
    sync::{Arc, LazyLock},
};

use sea_orm::ConnectionTrait as _;
use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;
use tokio::{fs, sync::Mutex};

use super::connect_up_to;

/// Migrated files by migration history, since copying is faster than migrating.
static TEMPLATES: LazyLock<Mutex<HashMap<TypeId, Arc<[u8]>>>> = LazyLock::new(Mutex::default);

/// Creates a folder with a migrated database, and returns it with the database's URL.
pub(super) async fn migrated_file<M: MigratorTrait + 'static>() -> (TempDir, String) {
    let template = template::<M>().await;
    let folder = tempfile::Builder::new().prefix("postrider-sqlite-").tempdir().expect("a temporary folder");
    let file = folder.path().join("postrider.db");
    fs::write(&file, template).await.expect("a copy of the migrated file");
    let url = url_of(&file);
    (folder, url)
}

async fn template<M: MigratorTrait + 'static>() -> Arc<[u8]> {
    // Locked during the migration, so that each history is migrated once.
    let mut templates = TEMPLATES.lock().await;
    if let Some(template) = templates.get(&TypeId::of::<M>()) {
        return template.clone();
    }
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("template.db");
    let connection = connect_up_to(&url_of(&file), 1).await;
    M::up(&connection, None)
        .await
        .unwrap_or_else(|error| panic!("cannot migrate a SQLite database: {error}"));
    // Moves everything from the WAL into the file that tests copy.
    connection.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)").await.expect("a checkpoint");
    connection.close().await.expect("a connection that closes");
    let template: Arc<[u8]> = fs::read(&file).await.expect("the migrated file").into();
    templates.insert(TypeId::of::<M>(), template.clone());
    template
}

fn url_of(file: &Path) -> String {
    format!("sqlite://{}?mode=rwc", file.display())
}
