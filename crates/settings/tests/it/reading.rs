use std::io::Write;

use crate::probe;

const SECRET: &str = "hunter2-hunter2-hunter2-hunter2-hunter2";

fn file(text: &str) -> (tempfile::NamedTempFile, String) {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    (file, path)
}

#[test]
fn a_flag_precedes_the_environment_the_file_and_the_default() {
    let (_file, path) = file("max_attempts = 3\nconcurrency = 30\nlease = \"30s\"\n");
    let environment = [("POSTRIDER_MAX_ATTEMPTS", "4"), ("POSTRIDER_CONCURRENCY", "40")];
    let read = probe::all(&environment, &["--config", &path, "--max-attempts", "5"]);
    assert!(read.contains("max_attempts: 5,"), "{read}");
    assert!(read.contains(" concurrency: 40,"), "{read}");
    assert!(read.contains("lease: 30s,"), "{read}");
    assert!(read.contains("shutdown_grace: 30s"), "{read}");
    assert!(read.contains(&format!("file: Some({path:?})")), "{read}");
}

#[test]
fn a_variable_may_name_the_file_and_keys_may_have_the_prefix() {
    let (_file, path) =
        file("postrider_max_attempts = 3\nhttps_only = true\nallow_nets = ['10.0.0.0/8', '::1/128']\n");
    let read = probe::all(&[("POSTRIDER_CONFIG", &path)], &[]);
    assert!(read.contains("max_attempts: 3,"), "{read}");
    assert!(read.contains("https_only: true"), "{read}");
    assert!(read.contains("allow_nets: [10.0.0.0/8, ::1/128]"), "{read}");
    // A flag turns off what the file turned on.
    let read = probe::all(&[], &[&format!("--config={path}"), "--https-only=false"]);
    assert!(read.contains("https_only: false"), "{read}");
    assert!(probe::all(&[], &["--https-only"]).contains("https_only: true"));
}

#[test]
fn an_empty_variable_counts_as_unset() {
    let empty = [
        "POSTRIDER_CONFIG",
        "POSTRIDER_LISTEN",
        "POSTRIDER_PROXY",
        "POSTRIDER_ALLOW_NETS",
        "POSTRIDER_LEASE",
    ];
    let read = probe::all(&empty.map(|name| (name, "")), &[]);
    assert!(read.contains("listen: 127.0.0.1:8080"), "{read}");
    assert!(read.contains("lease: 90s"), "{read}");
    assert!(read.contains("allow_nets: []") && read.contains("proxy: None"), "{read}");
}

#[test]
fn one_file_serves_all_programs_and_their_subcommands() {
    let (_file, path) = file("retry_schedule = ['7s', '8m']\nlisten = '0.0.0.0:80'\nlog = 'debug'\n");
    for args in [["--config", &path, "dev"], ["dev", "--config", &path]] {
        let read = probe::small(&[], &args);
        assert!(read.contains("retry_schedule: [7s, 480s]"), "{read}");
        assert!(read.contains("log: \"debug\""), "{read}");
        assert!(read.contains("telemetry_listen: 127.0.0.1:9465"), "the worker's default: {read}");
    }
}

#[test]
fn an_unknown_argument_is_reported() {
    for args in
        [&["--listne", "x"][..], &["dev", "--listne"], &["--config", "/dev/null", "dev", "--listne=x"]]
    {
        let read = probe::small(&[], args);
        assert!(read.starts_with("exit 2: error: unexpected argument '--listne' found"), "{args:?}: {read}");
    }
}

#[test]
fn an_unknown_key_is_reported_with_its_file() {
    let (_file, path) = file("listn = '0.0.0.0:80'\n");
    let read = probe::all(&[], &["--config", &path]);
    assert!(read.starts_with("exit 2: error: unknown setting `listn` in "), "{read}");
    assert!(read.contains(&path), "{read}");
    let read = probe::all(&[], &["--config", "/nowhere/postrider.toml"]);
    assert!(
        read.starts_with("exit 2: error: cannot read the settings file /nowhere/postrider.toml"),
        "{read}"
    );
}

#[test]
fn help_works_even_if_the_file_is_broken() {
    for args in [["--config", "/nowhere", "--help"], ["--help", "--config", "/nowhere"]] {
        let read = probe::all(&[], &args);
        assert!(read.starts_with("exit 0: ") && read.contains("POSTRIDER_LISTEN"), "{read}");
    }
    assert!(probe::all(&[], &["--config", "/nowhere", "--version"]).starts_with("exit 0: "));
}

#[test]
fn transforms_are_returned_unchanged() {
    let (_file, path) = file("[transforms.redact]\nfields = ['a']\nlevel = 1.5\n");
    let read = probe::all(&[], &["--config", &path]);
    assert!(read.contains("transforms: Some(Table({\"redact\""), "{read}");
    assert!(probe::all(&[], &[]).contains("transforms: None"));
}

#[test]
fn an_invalid_value_is_reported_with_its_variable_and_file() {
    let read = probe::all(&[("POSTRIDER_MAX_ATTEMPTS", "31")], &[]);
    assert!(read.starts_with("exit 2: "), "{read}");
    assert!(read.contains("'31'") && read.contains("POSTRIDER_MAX_ATTEMPTS"), "{read}");
    let read = probe::all(&[("POSTRIDER_RETRY_SCHEDULE", "1s,soon")], &[]);
    assert!(read.contains("POSTRIDER_RETRY_SCHEDULE") && read.contains("10s, 2m or 1h30m"), "{read}");
    let (_file, path) = file("lease = '90'\n");
    let read = probe::all(&[], &["--config", &path]);
    assert!(read.contains(&format!("(POSTRIDER_LEASE, lease in {path})")), "{read}");
    let read = probe::small(&[("POSTRIDER_MAX_ATTEMPTS", "0")], &["dev"]);
    assert!(read.contains("POSTRIDER_MAX_ATTEMPTS"), "{read}");
}

#[test]
fn help_shows_variables_with_their_defaults_and_bounds() {
    let help = probe::all(&[], &["--help"]);
    for variable in [
        "POSTRIDER_DATABASE_URL",
        "POSTRIDER_LISTEN",
        "POSTRIDER_TELEMETRY_LISTEN",
        "POSTRIDER_ADMIN_KEY",
        "POSTRIDER_SECRET_KEY",
        "POSTRIDER_ALLOW_NETS",
        "POSTRIDER_AGENT_ID",
        "POSTRIDER_MAX_ATTEMPTS",
        "POSTRIDER_RETRY_SCHEDULE",
        "POSTRIDER_CONNECT_TIMEOUT",
        "POSTRIDER_REQUEST_TIMEOUT",
        "POSTRIDER_RESPONSE_LIMIT",
        "POSTRIDER_CONCURRENCY",
        "POSTRIDER_SUBSCRIBER_CONCURRENCY",
        "POSTRIDER_LEASE",
        "POSTRIDER_SHUTDOWN_DELAY",
        "POSTRIDER_SHUTDOWN_GRACE",
        "POSTRIDER_LOG",
        "POSTRIDER_LOG_FORMAT",
    ] {
        let shown = [format!("[env: {variable}="), format!("[env: {variable}]")];
        assert!(shown.iter().any(|shown| help.contains(shown)), "{variable}:\n{help}");
    }
    for default in ["127.0.0.1:8080", "127.0.0.1:9464", "1s,5s,30s,2m,10m,30m", "90s", "1MiB"] {
        assert!(help.contains(&format!("[default: {default}]")), "{default}:\n{help}");
    }
    for bounded in ["has gone silent (5s to 1h)", "longer than this (1s to 24h; 0s disables it)", "(1 to 30)"]
    {
        assert!(help.contains(bounded), "{bounded}:\n{help}");
    }
    assert!(help.contains("OTEL_EXPORTER_OTLP_ENDPOINT") && help.contains("OTEL_SERVICE_NAME"), "{help}");
    assert!(help.contains("- text: ") && help.contains("- json: "), "{help}");
}

#[test]
fn secrets_are_never_printed() {
    let url = format!("postgres://user:{SECRET}@host/name");
    let proxy = format!("http://user:{SECRET}@proxy:3128");
    let variables = [
        ("POSTRIDER_ADMIN_KEY", SECRET),
        ("POSTRIDER_SECRET_KEY", SECRET),
        ("POSTRIDER_DATABASE_URL", url.as_str()),
        ("POSTRIDER_PROXY", proxy.as_str()),
    ];
    let lines = variables.map(|(name, value)| format!("{} = '{value}'\n", name.to_lowercase()));
    let (_file, path) = file(&lines.concat());
    for shown in [
        probe::all(&variables, &[]),
        probe::all(&variables, &["--help"]),
        probe::all(&variables, &["--max-attempts", "x"]),
        probe::all(&[], &["--config", &path]),
        probe::all(&[], &["--config", &path, "--help"]),
        probe::all(&[], &["--config", &path, "--max-attempts", "x"]),
    ] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    assert!(probe::all(&[], &["--config", &path]).contains("admin_key: Some(SecretText(…))"));
}

#[test]
fn settings_are_shown_with_secrets_masked() {
    let (_file, path) = file("lease = \"30s\"\n");
    let variables = [("POSTRIDER_ADMIN_KEY", SECRET), ("POSTRIDER_CONCURRENCY", "40")];
    let read = probe::all(&variables, &["--config", &path, "--max-attempts", "5"]);
    for (name, shown) in [
        ("POSTRIDER_ADMIN_KEY", "value: None, masked: true, given: true"),
        ("POSTRIDER_CONCURRENCY", "value: Some(\"40\"), masked: false, given: true"),
        ("POSTRIDER_LEASE", "value: Some(\"30s\"), masked: false, given: true"),
        ("POSTRIDER_MAX_ATTEMPTS", "value: Some(\"5\"), masked: false, given: true"),
        ("POSTRIDER_SECRET_KEY", "value: None, masked: false, given: false"),
        ("POSTRIDER_SHUTDOWN_GRACE", "value: Some(\"30s\"), masked: false, given: false"),
    ] {
        let setting =
            read.split("ShownSetting {").find(|setting| setting.contains(&format!("name: \"{name}\"")));
        assert!(setting.is_some_and(|setting| setting.contains(shown)), "{name}: {setting:?}");
    }
}

#[test]
fn opentelemetry_variables_are_read() {
    let read = probe::telemetry(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")]);
    assert!(read.contains("http://127.0.0.1:4318/v1/traces"), "{read}");
    let wrong =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "smoke")];
    let read = probe::telemetry(&wrong);
    assert!(read.contains("OTEL_EXPORTER_OTLP_PROTOCOL is `smoke`"), "{read}");
    assert!(probe::telemetry(&[]).contains("otlp: None"));
}
