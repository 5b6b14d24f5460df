//! Completion of command lines with ids and names from a server.

use postrider_testkit::Program;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use super::{Stage, run};
use crate::client::text;

/// A function that does what bash does when a person presses Tab at the end of a line.
const COMPLETE: &str = r#"
eval "$(postrider completions bash)"
complete -p postrider >&2 || exit 9
press_tab() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMP_TYPE=9
    _clap_complete_postrider postrider "${COMP_WORDS[COMP_CWORD]}" ""
    printf '%s\n' "${COMPREPLY[@]}"
}
press_tab postrider "$@"
"#;

/// What the program offers for the last word, with what it says about it.
async fn offered(program: Program, line: &[&str]) -> Vec<String> {
    let program = program.env("_POSTRIDER_COMPLETE", "fish").args(["--", "postrider"]).args(line);
    let ran = run(&program, "").await;
    assert!(ran.code == 0 && ran.err.is_empty(), "{line:?}: {ran:?}");
    ran.out.lines().map(str::to_owned).collect()
}

/// Completes lines on a stage that has events, deliveries and a subscriber `good`.
pub(super) async fn ids_and_names(stage: &Stage) {
    stage.run(&["types", "create", "completed.type", "--set", "/description=What it is"]).await.ok();
    let key = stage.json(&["keys", "create", "completed", "publisher", "--tenant", "default"]).await;
    let nameless = json!({"url": stage.receiver.url("/nameless"), "events": ["none"]});
    let nameless = crate::client::subscribe_with(&stage.api, nameless).await;
    let newest = |list: Value| text(&list[0]["id"]).to_owned();
    let event = newest(stage.json(&["events", "list", "--limit", "1"]).await);
    let delivery = newest(stage.json(&["deliveries", "list", "--limit", "1"]).await);
    let good = stage.json(&["subscribers", "get", "good"]).await;

    let offers = async |line: &[&str]| {
        let offered = offered(stage.program(), line).await;
        offered.iter().map(|line| line.split('\t').next().unwrap_or_default().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(offers(&["events", "get", ""]).await[0], event);
    assert_eq!(offers(&["events", "get", &event[..6]]).await[0], event);
    assert_eq!(offers(&["deliveries", "get", ""]).await[0], delivery);
    assert_eq!(offers(&["deliveries", "list", "--event-id", ""]).await[0], event);
    let subscribers = offers(&["subscribers", "get", ""]).await;
    assert!(subscribers.iter().any(|name| name == "good"), "{subscribers:?}");
    assert!(subscribers.iter().any(|name| name == text(&nameless["id"])), "{subscribers:?}");
    assert_eq!(offers(&["doctor", text(&good["id"])]).await, [text(&good["id"])]);
    assert_eq!(offers(&["keys", "revoke", "key_"]).await[0], text(&key["id"]));
    assert_eq!(offers(&["send", "completed."]).await, ["completed.type"]);
    let described = offered(stage.program(), &["replay", "--event", "completed."]).await;
    assert_eq!(described, ["completed.type\tWhat it is"]);
    // The flags of the line name the server, as they will when the command runs.
    let line = ["events", "get", "--url", &stage.url, "--key", &stage.key, &event];
    assert_eq!(offered(stage.bare(), &line).await.len(), 1);

    let program = stage.program().command();
    let folder = std::path::Path::new(program.as_std().get_program()).parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let bash = |line: &[&str]| {
        let bash = Program::at("/bin/bash").args(["-c", COMPLETE, "bash"]).args(line);
        let bash = bash.env("PATH", &path).env("HOME", stage.home.path());
        bash.env("POSTRIDER_URL", &stage.url).env("POSTRIDER_KEY", &stage.key)
    };
    let completed = run(&bash(&["events", "get", ""]), "").await.ok();
    assert_eq!(completed.lines().next(), Some(&*event), "{completed}");
    assert_eq!(run(&bash(&["subscribers", "get", "goo"]), "").await.ok(), "good\n");
    assert_eq!(run(&bash(&["subscr"]), "").await.ok(), "subscribers\n");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_is_completed_in_silence_without_a_server() {
    let home = tempfile::tempdir().unwrap();
    let program = || Program::named("postrider").env("HOME", home.path());
    let line = ["events", "get", "evt_"];
    let nobody = program().env("POSTRIDER_URL", "http://127.0.0.1:1");
    assert_eq!(offered(nobody.clone(), &line).await, [""; 0]);
    assert!(offered(nobody, &["events", ""]).await.iter().any(|line| line.starts_with("get\t")));
    assert_eq!(offered(program().env("POSTRIDER_URL", "no URL"), &line).await, [""; 0]);
    // One that takes connections and never answers.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    assert_eq!(offered(program().env("POSTRIDER_URL", url), &line).await, [""; 0]);
    assert_eq!(offered(program().env("POSTRIDER_PROFILE", "unknown"), &line).await, [""; 0]);

    let key = format!("prk_{}_{}", "0".repeat(26), "k".repeat(40));
    for name in ["prod", "staging"] {
        let login = ["login", "--offline", "--url", "https://hooks.example.com", "--profile", name];
        run(&program().args(login), &key).await.ok();
    }
    let profiles = ["prod\thttps://hooks.example.com", "staging\thttps://hooks.example.com"];
    assert_eq!(offered(program(), &["profile", "use", ""]).await[..2], profiles);
    assert_eq!(offered(program(), &["events", "list", "--profile", "st"]).await, profiles[1..]);
}
