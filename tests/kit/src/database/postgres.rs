use std::{
    env,
    hash::{BuildHasher as _, DefaultHasher, Hash as _, Hasher as _, RandomState},
    process, thread,
};

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};
use sea_orm_migration::MigratorTrait;
use url::Url;

use super::{URL_VARIABLE, connect_up_to};

/// The number of the advisory lock that guards the creation of templates; any unused number.
const TEMPLATE_LOCK: i64 = 0x0050_0574_71de_0001;

/// A database cloned from a template, dropped with this value.
#[derive(Debug)]
pub(super) struct Clone {
    server: Url,
    name: String,
}

impl Clone {
    pub(super) fn url(&self) -> String {
        url_of(&self.server, &self.name)
    }
}

impl Drop for Clone {
    /// Best effort: a leftover database does no harm, since names never repeat.
    fn drop(&mut self) {
        let server = self.server.to_string();
        let statement = format!(r#"DROP DATABASE IF EXISTS "{}" WITH (FORCE)"#, self.name);
        // The test's runtime may be shutting down, where blocking is forbidden, so a thread runs its own runtime.
        let dropping = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let admin = connect_up_to(&server, 1).await;
                let dropped = admin.execute_unprepared(&statement).await;
                // Close the connection even if the drop failed, so that the server logs no broken connection.
                let _ = admin.close().await;
                dropped.map(drop).map_err(std::io::Error::other)
            })
        });
        let _ = dropping.join();
    }
}

pub(super) async fn clone_of_template<M: MigratorTrait>() -> Clone {
    let server = server();
    let admin = connect_up_to(server.as_str(), 1).await;
    let template = template_name::<M>();
    if !is_template(&admin, &template).await.expect("the list of databases") {
        make_template::<M>(&admin, &server, &template)
            .await
            .unwrap_or_else(|error| panic!("cannot make the template database {template}: {error}"));
    }

    let name = format!("postrider_test_{}_{:016x}", process::id(), random());
    let statement = format!(r#"CREATE DATABASE "{name}" TEMPLATE "{template}""#);
    admin.execute_unprepared(&statement).await.expect("a clone of the template database");
    admin.close().await.expect("a connection that closes");
    Clone { server, name }
}

/// Test processes run in parallel: the first one creates the template, and the others wait for it.
async fn make_template<M: MigratorTrait>(
    admin: &DatabaseConnection,
    server: &Url,
    template: &str,
) -> Result<(), DbErr> {
    // The lock belongs to a connection, and the pool has only one, so the lock is held until the pool closes.
    admin.execute_unprepared(&format!("SELECT pg_advisory_lock({TEMPLATE_LOCK})")).await?;
    if !is_template(admin, template).await? {
        // Left behind by a process that died half-way.
        admin.execute_unprepared(&format!(r#"DROP DATABASE IF EXISTS "{template}" WITH (FORCE)"#)).await?;
        admin.execute_unprepared(&format!(r#"CREATE DATABASE "{template}""#)).await?;
        let connection = connect_up_to(&url_of(server, template), 1).await;
        M::up(&connection, None).await?;
        connection.close().await?;
        // Marks the template as ready. PostgreSQL cannot clone a database that has connections.
        let ready = format!(r#"ALTER DATABASE "{template}" WITH IS_TEMPLATE true ALLOW_CONNECTIONS false"#);
        admin.execute_unprepared(&ready).await?;
    }
    admin.execute_unprepared(&format!("SELECT pg_advisory_unlock({TEMPLATE_LOCK})")).await?;
    Ok(())
}

async fn is_template(admin: &DatabaseConnection, name: &str) -> Result<bool, DbErr> {
    let query = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT 1 FROM pg_database WHERE datname = $1 AND datistemplate",
        [name.into()],
    );
    Ok(admin.query_one_raw(query).await?.is_some())
}

fn server() -> Url {
    let given = env::var(URL_VARIABLE).unwrap_or_default();
    assert!(
        !given.is_empty(),
        "this test needs a PostgreSQL server: run `cargo xtask test`, or `cargo xtask postgres -- cargo test -p X` \
         for one package, or set {URL_VARIABLE} to a server where databases may be created"
    );
    Url::parse(&given).unwrap_or_else(|error| panic!("{URL_VARIABLE} is not a URL: {error}"))
}

fn url_of(server: &Url, database: &str) -> String {
    let mut url = server.clone();
    url.set_path(database);
    url.into()
}

/// The template's name, which is different for each migration history.
fn template_name<M: MigratorTrait>() -> String {
    let mut hasher = DefaultHasher::new();
    env!("POSTRIDER_MIGRATIONS_HASH").hash(&mut hasher);
    for migration in M::migrations() {
        migration.name().hash(&mut hasher);
    }
    format!("postrider_template_{:016x}", hasher.finish())
}

fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}
