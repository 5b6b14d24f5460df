use std::str::FromStr;
use std::time::Duration;

use postrider_core::{RetrySchedule, chain};
use postrider_settings::SettingsError;
use postrider_telemetry::Program;

use crate::All;

fn args(given: &[&str]) -> All {
    let given = std::iter::once("program").chain(given.iter().copied());
    postrider_settings::parse::<All>(Program::Server, given).unwrap().args
}

fn message<T>(result: Result<T, SettingsError>) -> String {
    match result {
        Ok(_) => panic!("it must be rejected"),
        Err(error) => chain(&error).to_string(),
    }
}

/// A URL or a key that must have a colon.
#[derive(Debug)]
struct Parsed(String);

#[derive(Debug, thiserror::Error)]
#[error("expected a colon")]
struct NoColon;

impl FromStr for Parsed {
    type Err = NoColon;

    fn from_str(text: &str) -> Result<Self, NoColon> {
        text.contains(':').then(|| Self(text.to_owned())).ok_or(NoColon)
    }
}

#[test]
fn a_missing_setting_is_named_with_a_hint() {
    let args = args(&[]);
    let missing = message(args.database.url::<Parsed>());
    assert!(
        missing.starts_with("POSTRIDER_DATABASE_URL is missing: ") && missing.contains("sqlite://"),
        "{missing}"
    );
    let missing = message(args.secret_key.config());
    assert!(missing.starts_with("POSTRIDER_SECRET_KEY is missing: "), "{missing}");
    assert!(missing.contains("openssl rand -base64 32"), "{missing}");
    assert!(args.server.admin_keys::<Parsed>().unwrap().is_none(), "stored keys may do");
    let missing = postrider_settings::ServerArgs::no_operator_key().to_string();
    assert!(missing.starts_with("POSTRIDER_ADMIN_KEY is missing: "), "{missing}");
}

#[test]
fn an_invalid_setting_is_named_without_its_value() {
    for (flag, wrong, expected) in [
        ("--database-url", "hunter2", "POSTRIDER_DATABASE_URL: expected a colon"),
        ("--admin-key", "hunter2", "POSTRIDER_ADMIN_KEY: expected a colon"),
        ("--secret-key", "hunter2", "POSTRIDER_SECRET_KEY: key 1 "),
        ("--secret-key", "aHVudGVyMg==", "POSTRIDER_SECRET_KEY: key 1 "),
        ("--proxy", "ftp://u:hunter2@h", "POSTRIDER_PROXY: "),
        ("--extra-roots", "/nowhere/roots.pem", "POSTRIDER_EXTRA_ROOTS: cannot read /nowhere/roots.pem: "),
        (
            "--extra-roots",
            env!("CARGO_MANIFEST_PATH"),
            "POSTRIDER_EXTRA_ROOTS: extra root certificates: file 1 ",
        ),
        ("--retry-schedule", &"1s,".repeat(31)[..92], "POSTRIDER_RETRY_SCHEDULE: "),
    ] {
        let args = args(&[flag, wrong]);
        let errors = [
            args.database.url::<Parsed>().err(),
            args.secret_key.config().err(),
            args.server.admin_keys::<Parsed>().err(),
            args.delivery.client().err(),
            args.retry.config().err(),
        ];
        let shown: Vec<_> = errors.iter().flatten().map(|error| chain(error).to_string()).collect();
        assert!(shown.iter().any(|error| error.starts_with(expected)), "{flag} {wrong}: {shown:#?}");
        assert!(!shown.concat().contains("hunter2"), "{shown:#?}");
    }
}

#[test]
fn a_value_out_of_bounds_is_rejected_with_the_bounds() {
    for (flag, wrong, bounds) in [
        ("--body-limit", "1023", "POSTRIDER_BODY_LIMIT)': must be 1KiB to 64MiB"),
        (
            "--database-connections",
            "0",
            "POSTRIDER_DATABASE_CONNECTIONS)': must be a whole number, 1 to 1000",
        ),
        ("--concurrency", "0", "POSTRIDER_CONCURRENCY)': must be a whole number, 1 to 100000"),
        ("--subscriber-concurrency", "100001", "must be a whole number, 1 to 100000"),
        ("--max-attempts", "31", "POSTRIDER_MAX_ATTEMPTS)': must be a whole number, 1 to 30"),
        ("--retry-schedule", "1s,25h", "POSTRIDER_RETRY_SCHEDULE)': must be at most 24h"),
        ("--connect-timeout", "0s", "POSTRIDER_CONNECT_TIMEOUT)': must be 1ms to 1m"),
        ("--request-timeout", "301s", "POSTRIDER_REQUEST_TIMEOUT)': must be 1ms to 5m"),
        ("--response-limit", "2MiB", "POSTRIDER_RESPONSE_LIMIT)': must be at most 1MiB"),
        ("--lease", "4s", "POSTRIDER_LEASE)': must be 5s to 1h"),
        ("--shutdown-grace", "2h", "POSTRIDER_SHUTDOWN_GRACE)': must be at most 1h"),
        ("--shed-queue-age", "999ms", "POSTRIDER_SHED_QUEUE_AGE)': must be 1s to 24h, or 0s to disable it"),
        ("--shed-queue-age", "25h", "must be 1s to 24h, or 0s to disable it"),
        ("--shed-latency", "61s", "POSTRIDER_SHED_LATENCY)': must be 1ms to 1m, or 0s to disable it"),
    ] {
        let given = ["program", flag, wrong];
        let error = postrider_settings::parse::<All>(Program::Server, given).unwrap_err().to_string();
        assert!(error.contains(bounds), "{flag} {wrong}: {error}");
    }
}

#[test]
fn defaults_are_those_of_the_libraries() {
    let args = args(&[]);
    let retry = args.retry.config().unwrap();
    assert_eq!(retry, postrider_core::RetryPolicy::default());
    let delivery = args.delivery.config().unwrap();
    let default = postrider_delivery::Config::default();
    assert_eq!(delivery.connect_timeout, default.connect_timeout);
    assert_eq!(delivery.request_timeout, default.request_timeout);
    assert_eq!(delivery.response_limit, default.response_limit);
    assert_eq!(delivery.targets, default.targets);
    assert!(delivery.proxy.is_none() && delivery.extra_roots_pem.is_empty());
    let worker = args.worker;
    assert_eq!((worker.concurrency.get(), worker.subscriber_concurrency.get()), (512, 32));
    assert!(worker.lease >= 3 * delivery.request_timeout);
    assert!(args.shutdown.shutdown_grace >= delivery.request_timeout);
    let shed = args.shed.config();
    assert_eq!((shed.queue_age, shed.latency), (None, None), "off");
    assert_eq!(args.dispatch.agent_id.as_str(), "default");
    assert_eq!(args.telemetry.listen().to_string(), "127.0.0.1:9464");
}

#[test]
fn given_values_are_returned() {
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
        "--trusted-proxies=10.0.0.0/8,fd00::/8",
        "--allow-nets=127.0.0.0/8,::1/128",
        "--https-only",
        "--proxy=http://u:p@proxy:3128",
        &format!("--extra-roots={}", roots.path().display()),
        "--retry-schedule=1s, 2m",
        "--agent-id=my-agent",
        "--shed-queue-age=5m",
        "--shed-latency=250ms",
    ]);
    let shed = args.shed.config();
    assert_eq!(
        (shed.queue_age, shed.latency),
        (Some(Duration::from_mins(5)), Some(Duration::from_millis(250)))
    );
    assert_eq!(args.database.url::<Parsed>().unwrap().0, "postgres://u:p@h/n");
    assert_eq!(args.database.database_connections, 3);
    let given = args.server.admin_keys::<String>().unwrap().unwrap();
    assert_eq!(given, admin_key, "without the line break that was copied along");
    assert_eq!((args.server.body_limit, args.server.migrate), (65_536, true));
    assert_eq!(args.server.trusted_proxies, ["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()]);
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
    assert_eq!(args.dispatch.agent_id.as_str(), "my-agent");
}

#[test]
fn zero_disables_the_breaker_and_deactivation() {
    let usual = args(&[]).worker;
    assert_eq!(usual.breaker_failures, 10);
    assert_eq!(usual.deactivate_after(), Some(Duration::from_hours(5 * 24)));
    let never = args(&["--breaker-failures", "0", "--deactivate-after", "0s"]).worker;
    assert_eq!((never.breaker_failures, never.deactivate_after()), (0, None));
}
