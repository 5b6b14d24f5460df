//! URLs that name more than one server, over real connections.

#![allow(clippy::expect_used, reason = "test code: a panic with a description is a failed test")]

use std::net::Ipv4Addr;
use std::time::Duration;

use postrider_database::{Config, Database};
use postrider_testkit::{TestDatabase, eventually};
use sea_orm::{ConnectionTrait as _, Statement};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

/// A second server: a link to the first one that connects to another of its databases, whose name is as long.
async fn other_server(url: &str, from: String, to: String) -> u16 {
    assert_eq!(from.len(), to.len());
    let server = url::Url::parse(url).expect("a URL");
    let address = (server.host_str().expect("a host").to_owned(), server.port().expect("a port"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (address, from, to) = (address.clone(), from.clone(), to.clone());
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await?;
                let mut first = vec![0; 4096];
                // The request for TLS, which the test's server refuses, and the start-up message with the name.
                for _ in 0..2 {
                    let read = client.read(&mut first).await?;
                    let text = &mut first[..read];
                    if let Some(at) = text.windows(from.len()).position(|part| part == from.as_bytes()) {
                        text[at..at + to.len()].copy_from_slice(to.as_bytes());
                        server.write_all(text).await?;
                        break;
                    }
                    server.write_all(text).await?;
                    let mut answer = [0];
                    server.read_exact(&mut answer).await?;
                    client.write_all(&answer).await?;
                }
                tokio::io::copy_bidirectional(&mut client, &mut server).await.map(drop)
            });
        }
    });
    port
}

async fn database_of(database: &Database) -> Option<String> {
    let connection = database.connection();
    let statement = Statement::from_string(
        connection.get_database_backend(),
        "SELECT current_database()::text AS name, current_setting('transaction_read_only') AS read_only",
    );
    let row = connection.query_one_raw(statement).await.ok()??;
    (row.try_get::<String>("", "read_only").ok()? == "off").then(|| row.try_get("", "name").ok())?
}

/// The first server becomes read-only, as a primary that has been demoted, and then the second one does.
#[tokio::test]
async fn the_pool_follows_the_server_that_accepts_writes() {
    let (one, two) = (TestDatabase::postgres().await, TestDatabase::postgres().await);
    let name = |test: &TestDatabase| test.url().rsplit_once('/').expect("a name").1.to_owned();
    let (first, second) = (name(&one), name(&two));
    let port = other_server(one.url(), first.clone(), second.clone()).await;
    let url = url::Url::parse(one.url()).expect("a URL");
    let urls = format!(
        "postgres://{}@127.0.0.1:1,{}:{},127.0.0.1:{port}/{first}",
        url.username(),
        url.host_str().expect("a host"),
        url.port().expect("a port"),
    );
    let freeze = async |test: &TestDatabase, name: &str, value: &str| {
        let statements = format!(
            r#"ALTER DATABASE "{name}" SET default_transaction_read_only = {value};
            SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = '{name}' AND application_name = 'postrider-2'"#
        );
        // From the other database, which is not frozen.
        test.connection().execute_unprepared(&statements).await.expect("a change");
    };
    freeze(&one, &second, "on").await;
    let database = Database::connect(Config::new(urls.parse().expect("a URL"))).await.expect("a server");
    let limit = Duration::from_mins(1);
    let moved = async |name: &str| {
        eventually(limit, || async { database_of(&database).await.filter(|now| now == name) }).await;
    };
    moved(&first).await;
    freeze(&two, &second, "off").await;
    freeze(&one, &first, "on").await;
    moved(&second).await;
    freeze(&two, &first, "off").await;
    freeze(&two, &second, "on").await;
    moved(&first).await;
}
