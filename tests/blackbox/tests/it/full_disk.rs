//! A disk that becomes full while the programs work, and has room again later.

use std::{collections::BTreeSet, fs, os::unix::fs::MetadataExt as _, path::Path};

use postrider_core::EventId;
use postrider_testkit::{Api, Receiver, SmallDisk, TestDatabase, eventually};
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};
use serde_json::json;

use crate::client::{list, subscribe, text};
use crate::deployment::{DEADLINE, Member, program};
use crate::dev::Dev;

/// The ids of all events that were acknowledged, as hexadecimal digits.
type Acknowledged = BTreeSet<String>;

/// Sends events of 4 KiB until `enough` of them were refused because the disk is full. Returns those acknowledged.
async fn send_until_refused(api: &Api, enough: usize) -> Acknowledged {
    let (mut acknowledged, mut refused) = (Acknowledged::new(), 0);
    for number in 0.. {
        let answer = send(api, number).await;
        match answer.status {
            202 => _ = acknowledged.insert(uuid_in(&answer)),
            503 => {
                assert!(answer.header("retry-after").is_some(), "{}", answer.text());
                refused += 1;
            }
            status => panic!("{status}: {}", answer.text()),
        }
        if refused == enough {
            break;
        }
        assert!(number < 20_000, "the disk does not become full");
    }
    acknowledged
}

async fn send(api: &Api, number: usize) -> postrider_testkit::api::Answer {
    let body = json!({ "event": "order.created", "data": { "number": number, "note": "x".repeat(4096) } });
    api.post_raw("/v1/events", body.to_string()).await
}

/// The id of an acknowledged event, as the database has it.
fn uuid_in(answer: &postrider_testkit::api::Answer) -> String {
    let id: EventId = text(&answer.json()["id"]).parse().unwrap();
    id.uuid().simple().to_string()
}

async fn send_all(api: &Api, count: usize) -> Acknowledged {
    let mut acknowledged = Acknowledged::new();
    for number in 0..count {
        let answer = send(api, number).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        acknowledged.insert(uuid_in(&answer));
    }
    acknowledged
}

async fn is_unready_as_the_disk_is_full(address: &Api) {
    let unready = async || {
        let (status, answer) = address.get("/readyz").await;
        (status == 503).then_some(answer)
    };
    let answer = eventually(DEADLINE, unready).await;
    let reason = text(&answer["reason"]).to_lowercase();
    assert!(reason.contains("full") || reason.contains("no space left"), "{answer}");
}

async fn becomes_ready(address: &Api) {
    eventually(DEADLINE, || async { (address.get("/readyz").await.0 == 200).then_some(()) }).await;
}

/// The values of a column of text, as another program reads them.
async fn column(connection: &DatabaseConnection, sql: &str) -> Vec<String> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await.expect("rows");
    rows.iter().map(|row| row.try_get_by_index(0).expect("a text")).collect()
}

/// One line says that the trouble began, one that it is over, and nothing else repeats it for each request.
fn is_logged_once(lines: &[String]) {
    let with = |text: &str| lines.iter().filter(|line| line.contains(text)).collect::<Vec<_>>();
    let (began, ended) = (with("the database cannot write"), with("the database can write again"));
    assert!((1..=3).contains(&began.len()), "{began:#?}");
    assert_eq!(ended.len(), began.len(), "{ended:#?}");
    assert!(ended.iter().all(|line| line.contains("failed")), "{ended:#?}");
    let loud: Vec<_> = lines.iter().filter(|line| line.contains("WARN") || line.contains("ERROR")).collect();
    assert!(loud.len() < 15, "{loud:#?}");
}

/// The events of the file, each with the status of its delivery; 1 is `succeeded`.
async fn deliveries(file: &Path) -> Vec<String> {
    let other = Database::connect(ConnectOptions::new(format!("sqlite://{}", file.display()))).await.unwrap();
    let sql = "SELECT lower(hex(events.id)) || ' ' || deliveries.status FROM events \
               LEFT JOIN deliveries ON substr(hex(deliveries.id), 1, 27) = substr(hex(events.id), 1, 27)";
    let rows = column(&other, sql).await;
    other.close().await.unwrap();
    rows
}

#[tokio::test]
async fn dev_loses_nothing_acknowledged_on_a_full_disk_and_recovers() {
    let Some(disk) = SmallDisk::mount(12 << 20) else { return };
    let receiver = Receiver::start().await;
    let dev = Dev::start(disk.path()).await;
    let api = dev.api().await;
    let telemetry = dev.telemetry().await;
    subscribe(&api, &receiver.url("/hook")).await;

    let mut acknowledged = send_until_refused(&api, 100).await;
    is_unready_as_the_disk_is_full(&api).await;
    is_unready_as_the_disk_is_full(&telemetry).await;
    assert!(!list(&api, "/v1/events").await.is_empty(), "reads still work");

    disk.resize(48 << 20);
    becomes_ready(&api).await;
    becomes_ready(&telemetry).await;
    acknowledged.extend(send_all(&api, 50).await);

    // The file itself is asked, while the program runs and after it has ended.
    let file = fs::read_dir(disk.path()).unwrap().map(|entry| entry.unwrap().path());
    let file = file.into_iter().find(|path| path.extension().is_some_and(|end| end == "db")).unwrap();
    let wanted: BTreeSet<_> = acknowledged.iter().map(|id| format!("{id} 1")).collect();
    let missing = async || {
        let found: BTreeSet<_> = deliveries(&file).await.into_iter().collect();
        wanted.difference(&found).cloned().collect::<Vec<_>>()
    };
    eventually(DEADLINE, || async { missing().await.is_empty().then_some(()) }).await;
    is_logged_once(&dev.lines());
    dev.stop("TERM").await;
    assert_eq!(missing().await, Vec::<String>::new(), "after the program has ended");
}

#[tokio::test]
async fn a_server_whose_postgresql_has_a_full_disk_is_not_ready_and_recovers() {
    let Some(disk) = SmallDisk::mount(64 << 20) else { return };
    let common = TestDatabase::postgres().await;
    let admin = common.connection();
    let name = format!("postrider_full_{}", std::process::id());
    let folder = column(&admin, "SELECT current_setting('data_directory')").await.remove(0);
    let Ok(owner) = fs::metadata(&folder) else {
        println!("skipped: the PostgreSQL server is not on this machine");
        return;
    };
    let tablespace = disk.path().join("tablespace");
    fs::create_dir(&tablespace).unwrap();
    std::os::unix::fs::chown(&tablespace, Some(owner.uid()), Some(owner.gid())).unwrap();
    // The way to it is of this user alone.
    fs::set_permissions(disk.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let place = tablespace.display();
    for sql in [
        format!("CREATE TABLESPACE {name} LOCATION '{place}'"),
        format!("CREATE DATABASE {name} TEMPLATE template0 TABLESPACE {name}"),
    ] {
        admin.execute_unprepared(&sql).await.unwrap();
    }
    let end = common.url().rfind('/').unwrap();
    let rest = common.url()[end..].split_once('?').map(|(_, rest)| format!("?{rest}")).unwrap_or_default();
    let url = format!("{}/{name}{rest}", &common.url()[..end]);

    let server = Member::start(&program("postrider-server", &url, &[("POSTRIDER_MIGRATE", "true")])).await;
    let api = server.api().await;
    disk.fill();
    let mut acknowledged = send_until_refused(&api, 30).await;
    is_unready_as_the_disk_is_full(&api).await;
    is_unready_as_the_disk_is_full(&server.telemetry).await;

    disk.make_room();
    becomes_ready(&api).await;
    becomes_ready(&server.telemetry).await;
    acknowledged.extend(send_all(&api, 20).await);
    is_logged_once(&[server.process.stdout(), server.process.stderr()].concat());
    server.stop().await;

    let other = Database::connect(ConnectOptions::new(&url)).await.unwrap();
    let found: Acknowledged =
        column(&other, "SELECT replace(id::text, '-', '') FROM events").await.into_iter().collect();
    assert_eq!(acknowledged.difference(&found).collect::<Vec<_>>(), Vec::<&String>::new());
    other.close().await.unwrap();
    for sql in [format!("DROP DATABASE {name} WITH (FORCE)"), format!("DROP TABLESPACE {name}")] {
        admin.execute_unprepared(&sql).await.unwrap();
    }
}
