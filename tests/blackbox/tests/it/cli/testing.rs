//! The examples of `docs/testing.md` outside of Rust, run as they are written.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use postrider_testkit::Program;
use tokio::process::Command;
use tokio::time::timeout;

use super::Stage;
use crate::client::dispatch;
use crate::deployment::DEADLINE;

fn page() -> String {
    std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/testing.md")).unwrap()
}

/// The blocks of a language.
fn blocks(language: &str) -> Vec<String> {
    let page = page();
    let begin = format!("```{language}\n");
    page.split(&begin).skip(1).map(|rest| rest.split_once("```").unwrap().0.to_owned()).collect()
}

/// The folder of the programs.
fn programs() -> PathBuf {
    let program = Program::named("postrider").command();
    Path::new(program.as_std().get_program()).parent().unwrap().to_owned()
}

async fn runs(script: &str, variables: &[(&str, &str)]) {
    let folder = tempfile::tempdir().unwrap();
    let path = format!("{}:{}", programs().display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    shell
        .args(["-eux", "-o", "pipefail", "-c", script])
        .current_dir(folder.path())
        .env_clear()
        .envs([("PATH", path.as_str()), ("HOME", folder.path().to_str().unwrap())])
        .env("TMPDIR", folder.path())
        .env("GITHUB_ENV", folder.path().join("github.env"))
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(2 * DEADLINE, shell.output()).await.expect("the script ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

async fn has(program: &str) -> bool {
    let found = Command::new("sh").args(["-c", &format!("command -v {program}")]).output().await;
    let has = found.unwrap().status.success();
    if !has {
        println!("skipped: {program} is not installed");
    }
    has
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_for_a_shell_work() {
    let blocks = blocks("sh");
    let [in_a_shell, listen, simulate] = &blocks[..] else { panic!("three blocks: {blocks:?}") };
    let fails = in_a_shell.replace("verified,ordered,unique", "nonsense");
    assert_ne!(&fails, in_a_shell);
    runs(in_a_shell, &[]).await;
    runs(&format!("! (set -e; {fails})"), &[]).await;

    let stage = Stage::start().await;
    let environment = [("POSTRIDER_URL", &*stage.url), ("POSTRIDER_KEY", &*stage.key)];
    if has("curl").await {
        runs(&format!("{} | grep '\"status\":\"succeeded\"'", simulate.trim()), &environment).await;
    }
    let port = stage.receiver.address().port().to_string();
    let command = listen.trim().replace("3000", &port);
    let words: Vec<&str> = command.split_whitespace().map(|word| word.trim_matches('\'')).collect();
    let mut listening = stage.program().args(&words[1..]).start();
    listening.wait_for_line(|line| line == "connected", DEADLINE).await;
    dispatch(&stage.api, "order.created").await;
    stage.receiver.wait_for_path("/hooks", 1, DEADLINE).await;
    listening.signal("INT").await;
    assert!(listening.wait(DEADLINE).await.success());
    stage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_example_for_github_actions_works() {
    if !has("jq").await {
        return;
    }
    let blocks = blocks("yaml");
    let steps = steps(&blocks[0]);
    assert_eq!(steps.len(), 4, "{steps:?}");
    // Each step is a shell of its own, with what the ones before have written for it. What they started stays.
    let mut script = "trap 'kill $(jobs -p); wait' EXIT; touch \"$GITHUB_ENV\"\n".to_owned();
    for step in steps {
        script.push_str("set -a; . \"$GITHUB_ENV\"; set +a\n");
        script.push_str(&step);
        script.push('\n');
    }
    runs(&script, &[]).await;
}

/// The scripts of a workflow: `run: …`, and the indented lines after `run: |`.
fn steps(workflow: &str) -> Vec<String> {
    let mut steps = Vec::new();
    let mut lines = workflow.lines().peekable();
    while let Some(line) = lines.next() {
        let Some(script) = line.trim_start().trim_start_matches("- ").strip_prefix("run: ") else { continue };
        if script != "|" {
            steps.push(script.to_owned());
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let mut script = String::new();
        while let Some(line) = lines.next_if(|line| line.len() - line.trim_start().len() > indent) {
            script.push_str(line.trim_start());
            script.push('\n');
        }
        steps.push(script);
    }
    steps
}
