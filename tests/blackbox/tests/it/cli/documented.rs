//! The examples of `docs/cli.md`, run as they are written.

use std::process::Stdio;

use tokio::process::Command;
use tokio::time::timeout;

use super::Stage;
use crate::deployment::DEADLINE;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_examples_of_the_documentation_work() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md")).unwrap();
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0));
    let script: String = blocks.collect();
    assert!(script.contains("postrider subscribers create"), "{script}");
    let stage = Stage::start().await;
    let program = stage.program().command();
    let folder = std::path::Path::new(program.as_std().get_program()).parent().unwrap().to_owned();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("sh");
    shell
        .args(["-eux", "-c", &script])
        .current_dir(stage.home.path())
        .env_clear()
        .env("PATH", path)
        .env("HOME", stage.home.path())
        .env("POSTRIDER_URL", &stage.url)
        .env("POSTRIDER_KEY", &stage.key)
        .env("RECEIVER", stage.receiver.url("/hook"))
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = timeout(2 * DEADLINE, shell.output()).await.expect("the script ends").unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    stage.stop().await;
}
