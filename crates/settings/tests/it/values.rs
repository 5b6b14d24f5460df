use std::time::Duration;

use postrider_core::RetrySchedule;
use postrider_settings::SettingsError;
use postrider_telemetry::Program;

use crate::All;

fn args(given: &[&str]) -> All {
    let given = std::iter::once("program").chain(given.iter().copied());
    postrider_settings::parse::<All>(Program::Server, given).unwrap().args
}

fn message<T>(result: Result<T, SettingsError>) -> String {
    match result {
        Ok(_) => panic!("it must be refused"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_missing_names_its_variable_and_says_what_to_do() {
    let args = args(&[]);
    let missing = message(args.database.config());
    assert!(
        missing.starts_with("POSTRIDER_DATABASE_URL is missing: ") && missing.contains("sqlite://"),
        "{missing}"
    );
    let missing = message(args.secret_key.config());
    assert!(missing.starts_with("POSTRIDER_SECRET_KEY is missing: "), "{missing}");
    assert!(missing.contains("openssl rand -base64 32"), "{missing}");
    let missing = message(args.server.config());
    assert!(missing.starts_with("POSTRIDER_ADMIN_KEY is missing: "), "{missing}");
}

#[test]
fn what_makes_no_sense_names_its_variable_and_not_its_value() {
    for (flag, wrong, name) in [
        ("--database-url", "mysql://u:hunter2@h/n", "POSTRIDER_DATABASE_URL"),
        ("--secret-key", "hunter2", "POSTRIDER_SECRET_KEY"),
        ("--secret-key", "aHVudGVyMg==", "POSTRIDER_SECRET_KEY"),
        ("--admin-key", "hunter2", "POSTRIDER_ADMIN_KEY"),
        ("--admin-key", "hunter2 hunter2 hunter2 hunter2 hunter2", "POSTRIDER_ADMIN_KEY"),
        ("--admin-key", "hunter2hunter2hunter2hunter2hunter2ü", "POSTRIDER_ADMIN_KEY"),
        ("--body-limit", "1023", "POSTRIDER_BODY_LIMIT"),
        ("--proxy", "socks5://u:hunter2@h", "POSTRIDER_PROXY"),
        ("--extra-roots", "/nowhere/roots.pem", "POSTRIDER_EXTRA_ROOTS"),
        ("--retry-schedule", "1s,25h", "POSTRIDER_RETRY_SCHEDULE"),
        ("--lease", "1s", "POSTRIDER_LEASE"),
        ("--shutdown-grace", "2h", "POSTRIDER_SHUTDOWN_GRACE"),
        ("--shed-queue-age", "999ms", "POSTRIDER_SHED_QUEUE_AGE"),
        ("--shed-queue-age", "25h", "POSTRIDER_SHED_QUEUE_AGE"),
        ("--shed-latency", "61s", "POSTRIDER_SHED_LATENCY"),
    ] {
        let args = args(&[flag, wrong]);
        let errors = [
            args.database.config().err(),
            args.secret_key.config().err(),
            args.server.config().err(),
            args.delivery.config().err(),
            args.retry.config().err(),
            args.worker.config().err(),
            args.shed.config().err(),
        ];
        let shown: Vec<_> = errors.iter().flatten().map(ToString::to_string).collect();
        assert!(
            shown.iter().any(|error| error.starts_with(&format!("{name}: "))),
            "{flag} {wrong}: {shown:#?}"
        );
        assert!(!shown.concat().contains("hunter2"), "{shown:#?}");
    }
}

#[test]
fn defaults_are_the_designs() {
    let args = args(&[]);
    let retry = args.retry.config().unwrap();
    assert_eq!(retry, postrider_core::RetryPolicy::default());
    let delivery = args.delivery.config().unwrap();
    assert_eq!(delivery.connect_timeout, Duration::from_secs(10));
    assert_eq!(delivery.request_timeout, Duration::from_secs(30));
    assert_eq!(delivery.response_limit, 5000);
    assert_eq!(delivery.targets, postrider_core::target::TargetPolicy::default());
    assert!(delivery.proxy.is_none() && delivery.extra_roots_pem.is_empty());
    let worker = args.worker.config().unwrap();
    assert_eq!((worker.concurrency, worker.subscriber_concurrency), (512, 32));
    assert!(worker.lease >= 3 * delivery.request_timeout);
    assert!(worker.shutdown_grace >= delivery.request_timeout);
    let shed = args.shed.config().unwrap();
    assert_eq!((shed.queue_age, shed.latency), (None, None), "off");
    assert_eq!(args.dispatch.config().unwrap().as_str(), "default");
    assert_eq!(args.telemetry.listen().to_string(), "127.0.0.1:9464");
}

#[test]
fn what_is_given_is_what_comes_out() {
    let roots = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(roots.path(), "PEM").unwrap();
    let admin_key = "k".repeat(32);
    let secret_key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";
    let args = args(&[
        "--database-url=postgres://u:p@h/n",
        "--database-connections=3",
        &format!("--admin-key={admin_key}\n"),
        &format!("--secret-key={secret_key}\n"),
        "--body-limit=64KiB",
        "--migrate",
        "--allow-nets=127.0.0.0/8,::1/128",
        "--https-only",
        "--proxy=http://u:p@proxy:3128",
        &format!("--extra-roots={}", roots.path().display()),
        "--retry-schedule=1s, 2m",
        "--agent-id=my-agent",
        "--shed-queue-age=5m",
        "--shed-latency=250ms",
    ]);
    let shed = args.shed.config().unwrap();
    assert_eq!(
        (shed.queue_age, shed.latency),
        (Some(Duration::from_mins(5)), Some(Duration::from_millis(250)))
    );
    let database = args.database.config().unwrap();
    assert_eq!((database.url.expose(), database.max_connections), ("postgres://u:p@h/n", 3));
    let server = args.server.config().unwrap();
    assert_eq!(server.admin_key.expose(), admin_key, "a line break copied along is no part of it");
    assert_eq!((server.body_limit, server.migrate), (65_536, true));
    assert!(args.secret_key.config().is_ok());
    let delivery = args.delivery.config().unwrap();
    assert!(delivery.targets.https_only && delivery.proxy.is_some());
    assert!(delivery.targets.addresses.judge("127.0.0.1".parse().unwrap()).is_ok());
    assert!(delivery.targets.addresses.judge("10.0.0.1".parse().unwrap()).is_err());
    assert_eq!(delivery.extra_roots_pem, [b"PEM"]);
    let RetrySchedule::Steps(steps) = args.retry.config().unwrap().schedule().clone() else {
        panic!("steps")
    };
    assert_eq!(steps.delays(), [Duration::from_secs(1), Duration::from_mins(2)]);
    assert_eq!(args.dispatch.config().unwrap().as_str(), "my-agent");
}

#[test]
fn zero_is_never_for_what_ends_patience() {
    let usual = args(&[]).worker.config().unwrap();
    assert_eq!(usual.breaker_failures, 10);
    assert_eq!(usual.deactivate_after, Some(Duration::from_hours(5 * 24)));
    let never = args(&["--breaker-failures", "0", "--deactivate-after", "0s"]).worker.config().unwrap();
    assert_eq!((never.breaker_failures, never.deactivate_after), (0, None));
}
