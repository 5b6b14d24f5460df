//! What a transaction reports, compared with the rows that a second connection finds.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use postrider_database::{Config, Database, DatabaseError, Transaction};
use postrider_testkit::{SmallDisk, TestDatabase, eventually};
use sea_orm::{ConnectOptions, ConnectionTrait, DbBackend, DbErr, Statement};

const INSERT: &str = "INSERT INTO things (id, filler) VALUES";

/// The rows that are committed, as another program sees them.
pub(crate) async fn committed(url: &str) -> Vec<i64> {
    let other = sea_orm::Database::connect(ConnectOptions::new(url)).await.expect("a connection of its own");
    let select = Statement::from_string(other.get_database_backend(), "SELECT id FROM things ORDER BY id");
    let rows = other.query_all_raw(select).await.expect("the rows");
    let ids = rows.iter().map(|row| row.try_get("", "id").expect("an id")).collect();
    other.close().await.expect("it closes");
    ids
}

async fn open(url: &str) -> Database {
    let database = Database::connect(Config::new(url.parse().expect("a database URL"))).await;
    let database = database.expect("the database");
    let table = match database.dialect() {
        postrider_database::Dialect::Postgres => "CREATE TABLE things (id bigint PRIMARY KEY, filler bytea)",
        postrider_database::Dialect::Sqlite => "CREATE TABLE things (id bigint PRIMARY KEY, filler blob)",
    };
    database.connection().execute_unprepared(table).await.expect("a table");
    database
}

/// A row of 64 KiB and its successor, in one transaction.
pub(crate) async fn insert(database: &Database, id: i64) -> Result<(), DatabaseError> {
    let transaction = database.begin().await?;
    insert_in(&transaction, id).await?;
    transaction.commit().await
}

async fn insert_in(transaction: &Transaction, id: i64) -> Result<(), DbErr> {
    let filler = if transaction.get_database_backend() == DbBackend::Sqlite {
        "zeroblob(65536)"
    } else {
        "decode(repeat('00', 65536), 'hex')"
    };
    transaction.execute_unprepared(&format!("{INSERT} ({id}, {filler})")).await?;
    transaction.execute_unprepared(&format!("{INSERT} ({}, NULL)", id + 1)).await?;
    Ok(())
}

/// Inserts pairs of rows until the database cannot write, for some more times, and again after `make_room`. Checks that
/// what was acknowledged exists, and nothing else.
async fn nothing_acknowledged_is_lost(url: &str, database: &Database, make_room: impl AsyncFnOnce()) {
    let mut acknowledged = Vec::new();
    let mut failures = 0;
    for id in (0..).step_by(2) {
        match insert(database, id).await {
            Ok(()) => acknowledged.extend([id, id + 1]),
            Err(error) => {
                assert!(matches!(error, DatabaseError::CannotWrite(_)), "{error:?}");
                let trouble = database.trouble().expect("it is known");
                assert!(trouble.words.contains("full"), "{trouble:?}");
                failures += 1;
            }
        }
        if failures == 10 {
            break;
        }
        assert!(id < 10_000, "it does not become full");
    }
    assert_eq!(committed(url).await, acknowledged, "while it was full");

    make_room().await;
    eventually(Duration::from_secs(30), || async { database.trouble().is_none().then_some(()) }).await;
    for id in (20_000..20_020).step_by(2) {
        insert(database, id).await.expect("there is room");
        acknowledged.extend([id, id + 1]);
    }
    assert_eq!(committed(url).await, acknowledged, "after room was made");
    database.close().await;
    assert_eq!(committed(url).await, acknowledged, "after it was closed");
}

#[tokio::test]
async fn a_full_database_loses_nothing_acknowledged() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = format!("sqlite://{}", folder.path().join("things.db").display());
    let database = open(&url).await;
    let limit = async |pages: u32| {
        let limit = format!("PRAGMA max_page_count = {pages}");
        database.connection().execute_unprepared(&limit).await.expect("a limit");
    };
    limit(200).await;
    nothing_acknowledged_is_lost(&url, &database, async || limit(1_000_000).await).await;
}

#[tokio::test]
async fn a_full_disk_loses_nothing_acknowledged() {
    let Some(disk) = SmallDisk::mount(4 << 20) else { return };
    let url = format!("sqlite://{}", disk.path().join("things.db").display());
    std::fs::write(disk.path().join("filler"), vec![0; 2 << 20]).expect("a file in the way");
    let database = open(&url).await;
    nothing_acknowledged_is_lost(&url, &database, async || disk.make_room()).await;
}

/// Its pool has none of our hooks.
#[tokio::test]
async fn a_full_disk_loses_nothing_acknowledged_in_a_pool_of_the_application() {
    let Some(disk) = SmallDisk::mount(4 << 20) else { return };
    let url = format!("sqlite://{}", disk.path().join("things.db").display());
    std::fs::write(disk.path().join("filler"), vec![0; 2 << 20]).expect("a file in the way");
    open(&url).await.close().await;
    let mut options = ConnectOptions::new(&url);
    options.max_connections(1);
    let pool = sea_orm::Database::connect(options).await.expect("a pool");
    let database = Database::from_connection(pool);
    nothing_acknowledged_is_lost(&url, &database, async || disk.make_room()).await;
}

/// A caller that ignores the error of a statement must not take what follows for committed.
#[tokio::test]
async fn a_transaction_with_a_failed_statement_does_not_commit() {
    for test in [TestDatabase::postgres().await, TestDatabase::sqlite().await] {
        let database = open(test.url()).await;
        let transaction = database.begin().await.expect("a transaction");
        insert_in(&transaction, 1).await.expect("two rows");
        insert_in(&transaction, 1).await.expect_err("they exist");
        insert_in(&transaction, 3).await.expect_err("the transaction can only be rolled back");
        let error = transaction.commit().await.expect_err("nothing is committed");
        assert!(matches!(error, DatabaseError::Aborted), "{error:?}");
        insert(&database, 5).await.expect("the next transaction");
        assert_eq!(committed(test.url()).await, [5, 6]);
    }
}

/// Polls a future a number of times and then drops it.
struct Cancelled<F>(Pin<Box<F>>, usize);

impl<F: Future> Future for Cancelled<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if self.1 == 0 {
            return Poll::Ready(None);
        }
        self.1 -= 1;
        match self.0.as_mut().poll(context) {
            Poll::Ready(done) => Poll::Ready(Some(done)),
            // The last poll has happened, and nothing wakes this again before it is dropped.
            Poll::Pending if self.1 == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

#[tokio::test]
async fn a_transaction_cancelled_at_any_await_commits_all_or_nothing() {
    for test in [TestDatabase::postgres().await, TestDatabase::sqlite().await] {
        let database = open(test.url()).await;
        let mut done = Vec::new();
        for polls in 1.. {
            let id = i64::try_from(polls * 10).expect("a small number");
            let ended = Cancelled(Box::pin(insert(&database, id)), polls).await;
            // The next user of the connection finds no transaction of the cancelled one.
            insert(&database, id + 5).await.expect("the next transaction");
            let found = committed(test.url()).await;
            let pair: Vec<_> = found.iter().copied().filter(|row| (id..id + 2).contains(row)).collect();
            assert!(pair.is_empty() || pair.len() == 2, "{pair:?} after {polls} polls");
            assert!(found.ends_with(&[id + 5, id + 6]), "{found:?} after {polls} polls");
            if let Some(ended) = ended {
                ended.expect("a commit");
                assert_eq!(pair.len(), 2, "acknowledged after {polls} polls");
                done.push(polls);
            }
            if done.len() == 3 {
                break;
            }
            assert!(polls < 200, "it does not end");
        }
    }
}
