//! `postrider retention apply --archive`: old days are in files before they are gone.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use postrider_testkit::{Api, Behaviour, Process, Program, Receiver, SmallDisk, eventually};
use sea_orm::{
    ConnectionTrait as _, Database, DatabaseConnection, DbBackend, Statement, TransactionTrait as _,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::client::{dispatch_with, ended, list, read, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment, SECRET_KEY, program};
use crate::dev::Dev;

/// The day to which the tests move everything: 9 September 2001, from 1:46:40.
const DAY: &str = "20010909";
const FILE: &str = "postrider-20010909.jsonl.gz";

/// Moves all events, deliveries and attempts to that day. Their ids tell the day.
const ON_POSTGRES: &str = "SELECT postrider_add_partition(1000000000000, 86400000);
    UPDATE events SET id = ('00e8d4a51000' || substr(replace(id::text, '-', ''), 13))::uuid;
    UPDATE deliveries SET id = ('00e8d4a51000' || substr(replace(id::text, '-', ''), 13))::uuid;
    UPDATE attempts SET delivery_id = ('00e8d4a51000' || substr(replace(delivery_id::text, '-', ''), 13))::uuid";
const ON_SQLITE: &str = "UPDATE events SET id = unhex('00E8D4A51000' || substr(hex(id), 13));
    UPDATE deliveries SET id = unhex('00E8D4A51000' || substr(hex(id), 13));
    UPDATE attempts SET delivery_id = unhex('00E8D4A51000' || substr(hex(delivery_id), 13))";

/// Dispatches events of several kinds for two tenants, waits for their end, and moves them to the old day.
async fn old_events(api: &Api, connection: &DatabaseConnection, shift: &str, receiver: &Receiver) {
    for tenant in ["default", "other"] {
        receiver.on("/fails", Behaviour::sequence([500, 200]));
        let api = api.clone().with_header("x-tenant-id", tenant);
        let policy = json!({"url": receiver.url("/hook"), "events": ["order.*"]});
        subscribe_with(&api, policy).await;
        subscribe_with(&api, json!({"url": receiver.url("/fails"), "events": ["bill.*"]})).await;
        let mut events = Vec::new();
        // Two lines of data, as somebody gave them.
        let raw = "{\"event\": \"order.created\", \"data\": {\"first\":  1.0,\n\"note\": \"a\\nb\"}}";
        let answer = api.post_raw("/v1/events", raw).await;
        assert_eq!(answer.status, 202, "{}", answer.text());
        events.push(answer.json());
        for event in ["order.paid", "bill.sent", "order.sent"] {
            events.push(dispatch_with(&api, json!({"event": event, "data": [event]})).await);
        }
        for event in &events {
            assert_eq!(ended(&api, event).await["status"], "succeeded");
        }
        dispatch_with(&api, json!({"event": "for.nobody", "data": {}})).await;
        let erased = format!("/v1/events/{}/payload", text(&events[3]["id"]));
        assert_eq!(api.delete(&erased).await.0, 204);
    }
    // The responses to the erased events' deliveries have gone, too.
    let erasing = async || {
        let gone = "SELECT event_id FROM erasures WHERE NOT last_pass LIMIT 1";
        let statement = Statement::from_string(connection.get_database_backend(), gone);
        connection.query_one_raw(statement).await.unwrap().is_none().then_some(())
    };
    eventually(DEADLINE, erasing).await;
    connection.execute_unprepared(shift).await.unwrap();
    settled(connection).await;
}

/// Waits until all transactions have ended that other tests of this PostgreSQL had begun before the last change. A day that
/// changed after one of them had begun would stay for another run.
async fn settled(connection: &DatabaseConnection) {
    if connection.get_database_backend() != DbBackend::Postgres {
        return;
    }
    let number = async |sql: &str| -> i64 {
        let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, sql)).await.unwrap();
        row.unwrap().try_get_by_index(0).unwrap()
    };
    let last = number("SELECT pg_current_xact_id()::text::bigint").await;
    let oldest = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint";
    eventually(DEADLINE, || async { (number(oldest).await > last).then_some(()) }).await;
}

/// A delivery of an event whose payload was not erased.
async fn with_payload(api: &Api) -> Value {
    for delivery in list(api, "/v1/deliveries").await {
        let event = read(api, &format!("/v1/events/{}", text(&delivery["event_id"]))).await;
        if event["payload"].is_null() {
            return delivery;
        }
    }
    panic!("the payloads of all events were erased");
}

/// What the API shows, as the lines of the archive have it.
async fn shown(api: &Api) -> BTreeSet<String> {
    let mut lines = BTreeSet::new();
    for tenant in ["default", "other"] {
        let api = api.clone().with_header("x-tenant-id", tenant);
        let mut add = |kind: &str, mut item: Value| {
            item["kind"] = kind.into();
            item["tenant"] = tenant.into();
            lines.insert(item.to_string());
        };
        for event in list(&api, "/v1/events?limit=250").await {
            let mut event = read(&api, &format!("/v1/events/{}", text(&event["id"]))).await;
            let fields = event.as_object_mut().unwrap();
            fields.remove("deliveries");
            fields.remove("deliveries_next_cursor");
            add("event", event);
        }
        for delivery in list(&api, "/v1/deliveries?limit=250").await {
            let attempts = format!("/v1/deliveries/{}/attempts", text(&delivery["id"]));
            for mut attempt in list(&api, &attempts).await {
                attempt["delivery_id"] = delivery["id"].clone();
                add("attempt", attempt);
            }
            add("delivery", delivery);
        }
    }
    lines
}

/// The lines of a file, as `zcat` prints them.
fn lines(file: &Path) -> Vec<String> {
    let output = Command::new("zcat").arg(file).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(ToOwned::to_owned).collect()
}

/// The lines of a file, each with its fields in the order of their names.
fn archived(file: &Path) -> BTreeSet<String> {
    let all = lines(file);
    let found: BTreeSet<_> =
        all.iter().map(|line| line.parse::<Value>().expect("a line of JSON").to_string()).collect();
    assert_eq!(found.len(), all.len(), "no line is there twice");
    found
}

/// A database, and how the command reaches it.
struct Place {
    url: String,
    key: String,
}

impl Place {
    fn apply(&self, arguments: &[&str]) -> Program {
        let own = [("POSTRIDER_SECRET_KEY", &*self.key), ("POSTRIDER_RETAIN_HISTORY", "forever")];
        let command = program("postrider", &self.url, &own).args(["retention", "apply"]);
        command.args(["--retain-history", "90d"]).args(arguments)
    }

    /// Runs the command to its end. Returns whether it succeeded, and what it printed.
    async fn run(&self, arguments: &[&str]) -> (bool, String) {
        let mut process = self.apply(arguments).start();
        let status = process.wait(DEADLINE).await;
        (status.success(), printed(&process))
    }

    async fn archive(&self, folder: &Path) -> (bool, String) {
        self.run(&["--archive", folder.to_str().unwrap()]).await
    }
}

fn printed(process: &Process) -> String {
    [process.stdout(), process.stderr()].concat().join("\n")
}

/// The names in a folder, without those that are hidden.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
    names.sort();
    names
}

/// A deployment over PostgreSQL with an old day, whose workers leave the removal to the command.
async fn deployment(receiver: &Receiver) -> (Deployment, Place) {
    let own = [("POSTRIDER_RETAIN_HISTORY", "forever"), ("POSTRIDER_RETRY_SCHEDULE", "50ms")];
    let deployment = Deployment::with(1, &own).await;
    old_events(&deployment.api, &deployment.database.connection(), ON_POSTGRES, receiver).await;
    let place = Place { url: deployment.database.url().to_owned(), key: SECRET_KEY.to_owned() };
    (deployment, place)
}

/// `postrider dev` with an old day.
async fn dev(receiver: &Receiver, data: &Path) -> (Dev, DatabaseConnection, Place) {
    let dev = Dev::start(data).await;
    let url = format!("sqlite://{}", data.join("postrider.db").display());
    let connection = Database::connect(&url).await.unwrap();
    old_events(&dev.api().await, &connection, ON_SQLITE, receiver).await;
    let key = fs::read_to_string(data.join("secret.key")).unwrap().trim().to_owned();
    (dev, connection, Place { url, key })
}

/// The archive has what the API showed, and then the API shows nothing.
async fn is_archived(api: &Api, place: &Place, folder: &Path) {
    let before = shown(api).await;
    assert_eq!(before.len(), 2 * (5 + 4 + 5), "{before:#?}");
    let (succeeded, output) = place.run(&["--dry-run", "--archive", folder.to_str().unwrap()]).await;
    assert!(succeeded && output.contains(&format!("{DAY}: would be removed")), "{output}");
    assert_eq!(names(folder), [] as [&str; 0]);

    let (succeeded, output) = place.archive(folder).await;
    assert!(succeeded, "{output}");
    assert!(output.contains(&format!("{DAY}: wrote 28 lines")), "{output}");
    assert!(output.contains(&format!("{DAY}: removed")), "{output}");
    assert_eq!(names(folder), [FILE]);
    let file = folder.join(FILE);
    assert_eq!(archived(&file), before);
    let raw = lines(&file);
    let exact = raw.iter().filter(|line| line.contains(r#""data":{"first":  1.0, "note": "a\nb"}"#));
    assert_eq!(exact.count(), 2, "{raw:#?}");
    let erased = raw.iter().filter(|line| line.contains(r#""data":null,"payload":"erased""#));
    assert_eq!(erased.count(), 2, "{raw:#?}");
    assert!(raw.iter().all(|line| !line.contains("whsec_") && !line.contains(&place.key)));

    assert_eq!(shown(api).await, BTreeSet::new());
    let (succeeded, output) = place.archive(folder).await;
    assert!(succeeded && !output.contains(DAY), "{output}");
    assert_eq!(archived(&file), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_day_of_postgresql_is_archived_and_removed() {
    let (receiver, folder) = (Receiver::start().await, TempDir::new().unwrap());
    let (deployment, place) = deployment(&receiver).await;
    is_archived(&deployment.api, &place, folder.path()).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_day_of_sqlite_is_archived_and_removed() {
    let (receiver, folder) = (Receiver::start().await, TempDir::new().unwrap());
    let data = TempDir::new().unwrap();
    let (dev, _connection, place) = dev(&receiver, data.path()).await;
    is_archived(&dev.api().await, &place, folder.path()).await;
    dev.stop("TERM").await;
}

/// What a run must not be stopped by, and what it must not remove.
async fn nothing_is_removed_without_an_archive(api: &Api, place: &Place) {
    let before = shown(api).await;
    let folder = TempDir::new().unwrap();
    let missing = folder.path().join("missing");
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for wrong in [&missing, &file] {
        let (succeeded, output) = place.archive(wrong).await;
        assert!(!succeeded && output.contains("the folder does not exist"), "{output}");
    }
    // Nobody may write there, not even root.
    let (succeeded, output) = place.archive(Path::new("/proc/self")).await;
    assert!(!succeeded && output.contains("cannot write /proc/self/"), "{output}");
    // Something is in the way of the file.
    fs::create_dir(folder.path().join(format!(".postrider-{DAY}.unfinished"))).unwrap();
    let (succeeded, output) = place.archive(folder.path()).await;
    assert!(!succeeded && output.contains("nothing more is removed"), "{output}");
    if let Some(disk) = SmallDisk::mount(64 << 10) {
        disk.fill();
        let (succeeded, output) = place.archive(disk.path()).await;
        assert!(!succeeded && output.contains("No space left on device"), "{output}");
        assert!(!disk.path().join(FILE).exists());
        assert_eq!(shown(api).await, before);
        disk.make_room();
        let (succeeded, output) = place.archive(disk.path()).await;
        assert!(succeeded, "{output}");
        assert_eq!(archived(&disk.path().join(FILE)), before);
        assert_eq!(shown(api).await, BTreeSet::new());
    } else {
        assert_eq!(shown(api).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_removed_from_postgresql_while_the_archive_cannot_be_written() {
    let receiver = Receiver::start().await;
    let (deployment, place) = deployment(&receiver).await;
    nothing_is_removed_without_an_archive(&deployment.api, &place).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_removed_from_sqlite_while_the_archive_cannot_be_written() {
    let (receiver, data) = (Receiver::start().await, TempDir::new().unwrap());
    let (dev, _connection, place) = dev(&receiver, data.path()).await;
    nothing_is_removed_without_an_archive(&dev.api().await, &place).await;
    dev.stop("TERM").await;
}

/// A run that is killed at either of its two long steps loses nothing, and the next one completes it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_run_is_completed_by_the_next_one() {
    let (receiver, folder) = (Receiver::start().await, TempDir::new().unwrap());
    let (deployment, place) = deployment(&receiver).await;
    let before = shown(&deployment.api).await;
    let connection = deployment.database.connection();
    let arguments = ["--archive", folder.path().to_str().unwrap()];

    // While it writes the file: it waits for the attempts, which come last.
    let others = connection.begin().await.unwrap();
    others.execute_unprepared("LOCK TABLE attempts IN ACCESS EXCLUSIVE MODE").await.unwrap();
    let mut process = place.apply(&arguments).start();
    let unfinished = folder.path().join(format!(".postrider-{DAY}.unfinished"));
    eventually(DEADLINE, || async { unfinished.exists().then_some(()) }).await;
    let (succeeded, output) = place.archive(folder.path()).await;
    assert!(!succeeded && output.contains("another run is archiving into this folder"), "{output}");
    process.signal("KILL").await;
    process.wait(DEADLINE).await;
    others.rollback().await.unwrap();
    assert_eq!(names(folder.path()), [] as [&str; 0]);

    // While it waits for a reader, to drop the day.
    let reader = connection.begin().await.unwrap();
    reader.execute_unprepared("SELECT count(*) FROM deliveries").await.unwrap();
    let mut process = place.apply(&arguments).start();
    process.wait_for_line(|line| line.contains("wrote 28 lines"), DEADLINE).await;
    process.signal("KILL").await;
    process.wait(DEADLINE).await;
    reader.rollback().await.unwrap();
    assert_eq!(names(folder.path()), [FILE]);
    assert_eq!(shown(&deployment.api).await, before);
    let file = folder.path().join(FILE);
    let written = fs::read(&file).unwrap();

    // The day changes before the next run: an attempt is made. Its file has all lines, and the first one stays.
    let delivery = with_payload(&deployment.api).await;
    let retried =
        deployment.api.post(&format!("/v1/deliveries/{}/retry", text(&delivery["id"])), &json!({})).await;
    assert_eq!(retried.0, 202, "{}", retried.1);
    eventually(DEADLINE, || async {
        let now = read(&deployment.api, &format!("/v1/deliveries/{}", text(&delivery["id"]))).await;
        (now["status"] == "succeeded" && now["attempts"] != delivery["attempts"]).then_some(())
    })
    .await;
    settled(&connection).await;
    let changed = shown(&deployment.api).await;
    assert_eq!(changed.len(), before.len() + 1);
    let reader = connection.begin().await.unwrap();
    reader.execute_unprepared("SELECT count(*) FROM deliveries").await.unwrap();
    let mut process = place.apply(&arguments).start();
    process.wait_for_line(|line| line.contains("wrote 29 lines"), DEADLINE).await;
    process.signal("KILL").await;
    process.wait(DEADLINE).await;
    reader.rollback().await.unwrap();
    let (succeeded, output) = place.archive(folder.path()).await;
    let second = folder.path().join("postrider-20010909.2.jsonl.gz");
    assert!(succeeded && output.contains(&format!("{DAY}: is in {} already", second.display())), "{output}");
    assert!(output.contains(&format!("{DAY}: removed")), "{output}");
    assert_eq!(names(folder.path()), ["postrider-20010909.2.jsonl.gz", FILE]);
    assert_eq!((fs::read(&file).unwrap(), archived(&second)), (written, changed));
    assert_eq!(shown(&deployment.api).await, BTreeSet::new());
    deployment.stop().await;
}

/// A run over SQLite that is killed between two batches: the file is there, and the rest of the rows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_half_deleted_day_of_sqlite_is_completed_by_the_next_run() {
    let (receiver, folder) = (Receiver::start().await, TempDir::new().unwrap());
    let data = TempDir::new().unwrap();
    let (dev, connection, place) = dev(&receiver, data.path()).await;
    let api = dev.api().await;
    let before = shown(&api).await;
    // The next run finds this file, and another tenant's rows in the database.
    let copied: PathBuf = data.path().join("copy.db");
    connection.execute_unprepared(&format!("VACUUM INTO '{}'", copied.display())).await.unwrap();
    let of_copy = Place { url: format!("sqlite://{}", copied.display()), key: place.key.clone() };
    let (succeeded, output) = of_copy.archive(folder.path()).await;
    assert!(succeeded, "{output}");
    let half = "DELETE FROM attempts WHERE tenant = 'default'; DELETE FROM deliveries WHERE tenant = 'default'; \
        DELETE FROM events WHERE tenant = 'default'";
    connection.execute_unprepared(half).await.unwrap();
    assert_eq!(shown(&api).await.len(), 14);
    let (succeeded, output) = place.archive(folder.path()).await;
    assert!(succeeded && output.contains("already"), "{output}");
    assert_eq!(names(folder.path()), [FILE]);
    assert_eq!(archived(&folder.path().join(FILE)), before);
    assert_eq!(shown(&api).await, BTreeSet::new());
    dev.stop("TERM").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_an_archive_old_days_are_removed_at_once() {
    let (receiver, data) = (Receiver::start().await, TempDir::new().unwrap());
    let (deployment, on_postgres) = deployment(&receiver).await;
    let (succeeded, output) = on_postgres.run(&[]).await;
    assert!(succeeded && output.contains(&format!("{DAY}: removed")), "{output}");
    assert_eq!(shown(&deployment.api).await, BTreeSet::new());
    let forever = program("postrider", &on_postgres.url, &[("POSTRIDER_RETAIN_HISTORY", "forever")]);
    let mut process = forever.args(["retention", "apply"]).start();
    assert!(!process.wait(DEADLINE).await.success());
    assert!(printed(&process).contains("give --retain-history with an age"), "{}", printed(&process));
    deployment.stop().await;

    let (dev, _connection, on_sqlite) = dev(&receiver, data.path()).await;
    let (succeeded, output) = on_sqlite.run(&[]).await;
    assert!(succeeded && output.contains("deleted 10 events"), "{output}");
    assert_eq!(shown(&dev.api().await).await, BTreeSet::new());
    dev.stop("TERM").await;
}

/// A worker that drops days by itself is noticed while a day is being archived.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_another_process_removes_first_is_reported() {
    let (receiver, folder) = (Receiver::start().await, TempDir::new().unwrap());
    let (deployment, place) = deployment(&receiver).await;
    let others = deployment.database.connection().begin().await.unwrap();
    others
        .execute_unprepared("SELECT postrider_drop_partition('20010909', 2000000000000, 2000000000000)")
        .await
        .unwrap();
    let mut process = place.apply(&["--archive", folder.path().to_str().unwrap()]).start();
    // It knows the day, and waits to read it.
    let waits = async || {
        let sql = "SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 'deliveries_20010909'::regclass";
        let waiting = Statement::from_string(DbBackend::Postgres, sql);
        deployment.database.connection().query_one_raw(waiting).await.unwrap()
    };
    eventually(DEADLINE, waits).await;
    others.commit().await.unwrap();
    let status = process.wait(DEADLINE).await;
    assert!(
        !status.success() && printed(&process).contains("ANOTHER PROCESS REMOVED IT"),
        "{}",
        printed(&process)
    );
    assert_eq!(names(folder.path()), [] as [&str; 0]);
    deployment.stop().await;
}
