//! `postrider serve`: the API and a worker in one process, over both databases.

use std::path::Path;
use std::time::Duration;

use postrider_testkit::{Behaviour, Program, Receiver, TestDatabase, eventually, receiver::Gate};
use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::json;

use crate::cli::run;
use crate::client::{dispatch, ended, fields, list, read, subscribe, text};
use crate::deployment::{ADMIN_KEY, DEADLINE, Member, SECRET_KEY, program};
use crate::main_job::Nothing;
use crate::start::complaint;

/// `postrider serve` on free ports, without keys and without a database.
fn bare() -> Program {
    let addresses = ["POSTRIDER_LISTEN", "POSTRIDER_TELEMETRY_LISTEN"];
    let program = Program::named("postrider").arg("serve");
    addresses.into_iter().fold(program, |program, name| program.env(name, "127.0.0.1:0"))
}

fn with_keys() -> Program {
    bare().env("POSTRIDER_SECRET_KEY", SECRET_KEY).env("POSTRIDER_ADMIN_KEY", ADMIN_KEY)
}

/// Where the data is.
enum Place<'a> {
    Url(&'a str),
    Folder(&'a Path),
}

impl Place<'_> {
    fn of(&self, program: Program) -> Program {
        match self {
            Self::Url(url) => program.env("POSTRIDER_DATABASE_URL", *url),
            Self::Folder(folder) => program.arg("--data").arg(*folder),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_requires_keys_and_one_database() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let url = format!("sqlite://{}", folder.path().join("other.db").display());
    let in_folder = Place::Folder(&data);
    for (program, parts) in [
        (in_folder.of(bare().env("POSTRIDER_ADMIN_KEY", ADMIN_KEY)), &["POSTRIDER_SECRET_KEY"][..]),
        (in_folder.of(with_keys().arg("--no-migrate")), &["postrider migrate", "--no-migrate"]),
        (in_folder.of(with_keys().env("POSTRIDER_MIGRATE", "false")), &["postrider migrate"]),
        (in_folder.of(bare().env("POSTRIDER_SECRET_KEY", SECRET_KEY)), &["POSTRIDER_ADMIN_KEY"]),
        (with_keys(), &["POSTRIDER_DATABASE_URL", "--data"]),
        (in_folder.of(Place::Url(&url).of(with_keys())), &["two databases"]),
    ] {
        let errors = complaint(&program).await;
        assert!(parts.iter().all(|part| errors.contains(part)), "{parts:?}: {errors}");
    }
    // Nobody invented a key.
    assert!(!data.join("admin.key").exists() && !data.join("secret.key").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_does_the_main_job_on_both_databases() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let database = TestDatabase::postgres_with::<Nothing>().await;
    let receiver = Receiver::start().await;
    let (expected, hook) = ((200, 200), receiver.url("/hook"));
    for place in [Place::Folder(&data), Place::Url(database.url())] {
        // Migrates the empty database.
        let whole = Member::start(&place.of(with_keys())).await;
        let api = whole.api().await;
        let (status, refused) = api.post("/v1/subscribers", &json!({"url": hook, "events": ["*"]})).await;
        assert_eq!((status, fields(&refused)), (422, vec!["url"]), "targets on this machine: {refused}");
        whole.stop().await;

        let allowed = with_keys().env("POSTRIDER_ALLOW_NETS", "127.0.0.0/8");
        // There is nothing left to migrate.
        let whole = Member::start(&place.of(allowed).arg("--no-migrate")).await;
        let api = whole.api().await;
        assert_eq!((api.get("/readyz").await.0, whole.telemetry.get("/readyz").await.0), expected);
        subscribe(&api, &hook).await;
        let event = dispatch(&api, "order.created").await;
        assert_eq!(ended(&api, &event).await["status"], "succeeded");
        let (_, metrics) = whole.telemetry.get("/metrics").await;
        for half in ["webhook_events_total", "webhook_in_flight"] {
            assert!(metrics.as_str().unwrap_or_default().contains(half), "{half}: {metrics}");
        }
        whole.stop().await;
    }
    assert_eq!(receiver.requests().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serve_shares_postgresql_with_servers_and_workers() {
    let database = TestDatabase::postgres().await;
    let receiver = Receiver::start().await;
    let whole = Member::start(&program("postrider", database.url(), &[]).arg("serve")).await;
    let server = Member::start(&program("postrider-server", database.url(), &[])).await;
    let worker = Member::start(&program("postrider-worker", database.url(), &[])).await;
    let (of_whole, of_server) = (whole.api().await, server.api().await);
    subscribe(&of_whole, &receiver.url("/hook")).await;
    eventually(DEADLINE, || async {
        let (connection, all) = (database.connection(), "SELECT id FROM workers".to_owned());
        let rows = connection.query_all_raw(Statement::from_string(DbBackend::Postgres, all)).await.unwrap();
        (rows.len() == 2).then_some(())
    })
    .await;
    worker.stop().await;
    let event = dispatch(&of_server, "order.created").await;
    assert_eq!(ended(&of_server, &event).await["status"], "succeeded", "the process of `serve` delivers");
    let worker = Member::start(&program("postrider-worker", database.url(), &[])).await;
    let event = dispatch(&of_whole, "order.paid").await;
    whole.stop().await;
    assert_eq!(ended(&of_server, &event).await["status"], "succeeded");
    let event = dispatch(&of_server, "order.shipped").await;
    assert_eq!(ended(&of_server, &event).await["status"], "succeeded", "the other worker delivers");
    assert_eq!(read(&of_server, "/v1/stats").await["deliveries"]["succeeded"], 3);

    let url = format!("http://{}", server.api_address().await);
    let doctor =
        program("postrider", database.url(), &[("POSTRIDER_URL", &url), ("POSTRIDER_KEY", ADMIN_KEY)]);
    let checks = run(&doctor.args(["doctor", "-o", "json"]), "").await.json();
    let names: Vec<&str> = checks.as_array().unwrap().iter().map(|check| text(&check["check"])).collect();
    assert!(
        ["database version", "partitions", "workers", "queue"].iter().all(|name| names.contains(name)),
        "{checks}"
    );
    server.stop().await;
    worker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_serve_has_not_finished_is_delivered_after_a_crash() {
    for backend in [DbBackend::Postgres, DbBackend::Sqlite] {
        let database = TestDatabase::on(backend).await;
        let (receiver, gate) = (Receiver::start().await, Gate::closed());
        receiver.on("/hook", Behaviour::Status(200).behind(&gate));
        let serve = program("postrider", database.url(), &[]).arg("serve");
        let mut whole = Member::start(&serve).await;
        let api = whole.api().await;
        subscribe(&api, &receiver.url("/hook")).await;
        dispatch(&api, "order.created").await;
        receiver.wait_for(1, DEADLINE).await;
        whole.process.signal("KILL").await;
        assert!(!whole.process.wait(DEADLINE).await.success());

        // Its lease has expired.
        database.advance(Duration::from_mins(3)).await;
        gate.open();
        let again = Member::start(&serve).await;
        let api = again.api().await;
        let event = list(&api, "/v1/events").await.remove(0);
        let delivery = ended(&api, &event).await;
        assert_eq!(
            (&delivery["status"], &delivery["attempts"]),
            (&json!("succeeded"), &json!(1)),
            "{backend:?}"
        );
        let requests = receiver.requests();
        assert_eq!(requests.len(), 2, "{backend:?}");
        assert_eq!(requests[0].header("webhook-id"), requests[1].header("webhook-id"));
        again.stop().await;
    }
}
