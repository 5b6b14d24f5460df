//! How the programs start, and how they report that they cannot.

use std::{fs, path::Path};

use postrider_testkit::{Api, Program, TestDatabase};
use sea_orm::ConnectionTrait as _;

use crate::client::{dispatch, subscribe};
use crate::deployment::{ADMIN_KEY, DEADLINE, Deployment, Member, SECRET_KEY, program};
use crate::main_job::Nothing;

/// A different key than [`SECRET_KEY`].
const OTHER_KEY: &str = "b3RoZXItYmxhY2stYm94LXRlc3Qta2V5LTAwMDAwMDE=";

/// Its standard error as it fails to start.
pub(crate) async fn complaint(program: &Program) -> String {
    let mut process = program.start();
    let status = process.wait(DEADLINE).await;
    let errors = process.stderr().join("\n");
    assert!(!status.success(), "it started: {program:?}");
    assert!(status.code().is_some(), "{status} is not an exit status: {errors}");
    for key in [ADMIN_KEY, SECRET_KEY, OTHER_KEY, "pass-of-the-test"] {
        assert!(!errors.contains(key), "a secret was printed: {errors}");
    }
    errors
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_or_invalid_setting_is_named() {
    // Never reached, since settings are validated first.
    let url = "postgres://nobody:pass-of-the-test@127.0.0.1:1/none";
    for (name, variable, values) in [
        (
            "postrider-server",
            "POSTRIDER_DATABASE_URL",
            &[
                "",
                "mysql://me:pass-of-the-test@localhost/x",
                "postgres://me:pass-of-the-test/x@localhost/x",
                "postgres://me:pass-of-the-test#@127.0.0.1:1/x?sslmode=always",
                "postgres://127.0.0.1:1/x?pasword=pass-of-the-test&port=x",
            ][..],
        ),
        ("postrider-server", "POSTRIDER_DATABASE_LISTEN_URL", &["postgres://me:pass-of-the-test/@x"]),
        ("postrider-server", "POSTRIDER_DATABASE_POOLER", &["session"]),
        ("postrider-server", "POSTRIDER_SECRET_KEY", &["", "short", "bm90IHRoaXJ0eS10d28gYnl0ZXM="]),
        (
            "postrider-server",
            "POSTRIDER_ADMIN_KEY",
            &[
                "thirty-one-characters-0123456789"[1..].as_ref(),
                "operator-key-operator-key-operator-key,short",
            ],
        ),
        ("postrider-server", "POSTRIDER_TRUSTED_PROXIES", &["10.0.0.0/33", "proxy"]),
        ("postrider-server", "POSTRIDER_LISTEN", &["8080", "nowhere:1"]),
        ("postrider-server", "POSTRIDER_BODY_LIMIT", &["1", "much"]),
        ("postrider-server", "POSTRIDER_ALLOW_NETS", &["127.0.0.1/33", "intranet"]),
        ("postrider-server", "POSTRIDER_LOG_FORMAT", &["xml"]),
        ("postrider-server", "POSTRIDER_LOG", &["postrider=loud"]),
        ("postrider-server", "POSTRIDER_SHUTDOWN_GRACE", &["2h"]),
        ("postrider-worker", "POSTRIDER_DATABASE_URL", &["", "/var/lib/postrider.db"]),
        ("postrider-worker", "POSTRIDER_SECRET_KEY", &["", "????"]),
        ("postrider-worker", "POSTRIDER_RETRY_SCHEDULE", &["soon", "1s,,2s", "2d"]),
        ("postrider-worker", "POSTRIDER_MAX_ATTEMPTS", &["0", "31", "-1"]),
        ("postrider-worker", "POSTRIDER_CONCURRENCY", &["0", "many"]),
        ("postrider-worker", "POSTRIDER_LEASE", &["1s", "90"]),
        ("postrider-worker", "POSTRIDER_REQUEST_TIMEOUT", &["0s", "1"]),
        ("postrider-worker", "POSTRIDER_CONNECT_TIMEOUT", &["1h"]),
        ("postrider-worker", "POSTRIDER_RESPONSE_LIMIT", &["1GiB"]),
        ("postrider-worker", "POSTRIDER_SHUTDOWN_GRACE", &["2h"]),
        ("postrider-worker", "POSTRIDER_TELEMETRY_LISTEN", &["9465"]),
    ] {
        for value in values {
            let errors = complaint(&program(name, url, &[(variable, value)])).await;
            assert!(errors.contains(variable), "{variable}={value}: {errors}");
        }
    }
    let errors = complaint(&Program::named("postrider").arg("migrate")).await;
    assert!(errors.contains("POSTRIDER_DATABASE_URL"), "{errors}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unreachable_database_is_reported() {
    let url = "postgres://nobody:pass-of-the-test@127.0.0.1:1/none";
    for name in ["postrider-server", "postrider-worker"] {
        let errors = complaint(&program(name, url, &[])).await;
        assert!(errors.contains("cannot open the database") && errors.contains("127.0.0.1:1"), "{errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_missing_schema_is_reported() {
    let database = TestDatabase::postgres_with::<Nothing>().await;
    let folder = tempfile::tempdir().unwrap();
    let sqlite = format!("sqlite://{}?mode=rwc", folder.path().join("new.db").display());
    for url in [database.url(), &sqlite] {
        for name in ["postrider-server", "postrider-worker"] {
            let errors = complaint(&program(name, url, &[])).await;
            assert!(errors.contains("postrider migrate") && errors.contains("--migrate"), "{errors}");
        }
        let mut migrate = program("postrider", url, &[]).arg("migrate").start();
        assert!(migrate.wait(DEADLINE).await.success(), "{:?}", migrate.stderr());
        for name in ["postrider-server", "postrider-worker"] {
            Member::start(&program(name, url, &[])).await.stop().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_encryption_key_is_reported() {
    let deployment = Deployment::start(0).await;
    subscribe(&deployment.api, "http://127.0.0.1:9/").await;
    let database = deployment.stop().await;
    for name in ["postrider-server", "postrider-worker"] {
        let errors = complaint(&program(name, database.url(), &[("POSTRIDER_SECRET_KEY", OTHER_KEY)])).await;
        assert!(errors.contains("POSTRIDER_SECRET_KEY"), "{errors}");
        // A new key followed by the previous one decrypts everything.
        let keys = format!("{OTHER_KEY},{SECRET_KEY}");
        let program = program(name, database.url(), &[("POSTRIDER_SECRET_KEY", &keys)]);
        Member::start(&program).await.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_needs_a_key_of_an_operator() {
    let deployment = Deployment::start(0).await;
    let without = program("postrider-server", deployment.database.url(), &[("POSTRIDER_ADMIN_KEY", "")]);
    let errors = complaint(&without).await;
    assert!(
        errors.contains("POSTRIDER_ADMIN_KEY is missing") && errors.contains("POST /v1/keys"),
        "{errors}"
    );
    let request = serde_json::json!({"name": "root", "tenant": "*", "scopes": ["operator"]});
    let (status, created) = deployment.api.post("/v1/keys", &request).await;
    assert_eq!(status, 201, "{created}");
    let server = Member::start(&without).await;
    let url = format!("http://{}", server.api_address().await);
    let key = created["key"].as_str().unwrap();
    assert_eq!(Api::new(&*url, key).get("/v1/tenants").await.0, 200);
    assert_eq!(Api::new(&*url, ADMIN_KEY).get("/v1/tenants").await.0, 401);
    assert!(!server.output().contains(&key[31..]), "a secret was logged");
    server.stop().await;
    // A revoked one does not count.
    let path = format!("/v1/keys/{}", created["id"].as_str().unwrap());
    assert_eq!(deployment.api.delete(&path).await.0, 204);
    complaint(&without).await;
    deployment.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_in_use_is_reported() {
    let deployment = Deployment::start(0).await;
    let is_listening = |line: &str| line.contains("listening");
    let taken = deployment.server.process.wait_for_address(is_listening, DEADLINE).await.to_string();
    for (name, variable) in [
        ("postrider-server", "POSTRIDER_LISTEN"),
        ("postrider-server", "POSTRIDER_TELEMETRY_LISTEN"),
        ("postrider-worker", "POSTRIDER_TELEMETRY_LISTEN"),
    ] {
        let errors = complaint(&program(name, deployment.database.url(), &[(variable, &taken)])).await;
        assert!(errors.contains(&taken) && errors.contains(variable), "{variable}: {errors}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn help_lists_every_setting() {
    const BOTH: &str = "SECRET_KEY ALLOW_NETS CONNECT_TIMEOUT REQUEST_TIMEOUT RESPONSE_LIMIT TELEMETRY_LISTEN \
        SHUTDOWN_GRACE LOG LOG_FORMAT";
    const SERVER: &str = "LISTEN ADMIN_KEY AGENT_ID";
    const WORKER: &str = "MAX_ATTEMPTS RETRY_SCHEDULE CONCURRENCY SUBSCRIBER_CONCURRENCY LEASE";
    for (name, command, settings) in [
        ("postrider-server", None, [BOTH, SERVER, "DATABASE_URL"]),
        ("postrider-worker", None, [BOTH, WORKER, "DATABASE_URL"]),
        ("postrider", Some("dev"), [BOTH, SERVER, WORKER]),
        ("postrider", Some("migrate"), ["DATABASE_URL", "", ""]),
    ] {
        let mut help = Program::named(name).args(command).arg("--help").start();
        assert!(help.wait(DEADLINE).await.success(), "{name} {command:?}");
        let text = help.stdout().join("\n");
        for setting in settings.iter().flat_map(|settings| settings.split_whitespace()) {
            // Secret settings are shown without a value.
            let is_shown =
                ["=", "]"].iter().any(|end| text.contains(&format!("[env: POSTRIDER_{setting}{end}")));
            assert!(is_shown, "{setting} of {name} {command:?}: {text}");
        }
        assert!(command == Some("migrate") || text.contains("OTEL_EXPORTER_OTLP_ENDPOINT"), "{name}: {text}");
    }
    let mut help = Program::named("postrider").arg("--help").start();
    assert!(help.wait(DEADLINE).await.success());
    let text = help.stdout().join("\n");
    for command in ["demo", "dev", "migrate"] {
        assert!(text.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_settings_file_is_read() {
    let database = TestDatabase::postgres().await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path
    };
    let good = format!(
        "database_url = {:?}\nlisten = \"127.0.0.1:0\"\ntelemetry_listen = \"127.0.0.1:0\"\n\
        admin_key = {ADMIN_KEY:?}\nsecret_key = {SECRET_KEY:?}\nallow_nets = [\"127.0.0.0/8\"]\n\
        agent_id = \"of-the-file\"\nmax_attempts = 2\nretry_schedule = [\"1s\", \"2s\"]\n",
        database.url()
    );
    let with = |name: &str, path: &Path| Program::named(name).arg("--config").arg(path);

    let path = file("good.toml", &good);
    let server = Member::start(&with("postrider-server", &path)).await;
    let worker = Member::start(&with("postrider-worker", &path)).await;
    let api = server.api().await;
    subscribe(&api, "http://127.0.0.1:9/").await;
    assert_eq!(dispatch(&api, "a").await["agent_id"], "of-the-file");
    worker.stop().await;
    server.stop().await;

    // The environment overrides the file.
    let program = with("postrider-server", &path).env("POSTRIDER_AGENT_ID", "of-the-environment");
    let server = Member::start(&program).await;
    assert_eq!(dispatch(&server.api().await, "a").await["agent_id"], "of-the-environment");
    server.stop().await;

    for (text, named) in [
        (format!("{good}\nretry_shedule = \"1s\"\n"), "retry_shedule"),
        (format!("{good}\n[worker]\nlease = \"90s\"\n"), "worker"),
        (good.replace("max_attempts = 2", "max_attempts = 99"), "max_attempts"),
        (good.replace("max_attempts = 2", "max_attempts = { of = 2 }"), "max_attempts"),
        (format!("{good}\nmax_attempts\n"), "line 11"),
    ] {
        let path = file("bad.toml", &text);
        for name in ["postrider-server", "postrider-worker"] {
            // The server has no setting for the number of attempts.
            if name == "postrider-server" && text.contains("= 99") {
                continue;
            }
            let errors = complaint(&with(name, &path)).await;
            assert!(errors.contains(named) && errors.contains("bad.toml"), "{named}: {errors}");
        }
    }
    let errors = complaint(&with("postrider-server", &folder.path().join("none.toml"))).await;
    assert!(errors.contains("none.toml"), "{errors}");
}

/// The programs' role may have fewer rights than the one that migrates.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn migrating_a_current_schema_needs_no_right_to_change_it() {
    let database = TestDatabase::postgres().await;
    let empty = TestDatabase::postgres_with::<Nothing>().await;
    let role = format!("reader_of_{}", database.url().rsplit('_').next().unwrap());
    let admin = database.connection();
    let create = format!("CREATE ROLE {role} LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}");
    admin.execute_unprepared(&create).await.unwrap();
    let (_, place) = database.url().split_once('@').unwrap();
    let migrate =
        |url: &str| Program::named("postrider").arg("migrate").env("POSTRIDER_DATABASE_URL", url).start();
    let mut done = migrate(&format!("postgres://{role}@{place}"));
    let succeeded = done.wait(DEADLINE).await.success();
    let (_, place) = empty.url().split_once('@').unwrap();
    let mut refused = migrate(&format!("postgres://{role}@{place}"));
    let failed = !refused.wait(DEADLINE).await.success();
    admin.execute_unprepared(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await.unwrap();
    assert!(succeeded, "{:?}", done.stderr());
    assert!(failed, "an empty database lacks all tables");
}
