use std::{panic::AssertUnwindSafe, time::Duration};

use postrider_testkit::{Program, eventually};

const DEADLINE: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Program {
    Program::at("/bin/sh").args(["-c", script])
}

#[tokio::test]
async fn a_program_gets_only_the_environment_that_the_test_sets() {
    let mut process =
        shell("echo given=$GIVEN; echo cargo=$CARGO_PKG_NAME >&2; exit 3").env("GIVEN", "yes").start();
    assert_eq!(process.wait(DEADLINE).await.code(), Some(3));
    assert_eq!(process.stdout(), ["given=yes"]);
    assert_eq!(process.stderr(), ["cargo="]);
}

#[tokio::test]
async fn a_test_waits_for_an_address_and_sends_sigterm() {
    let script =
        "trap 'echo bye; exit 0' TERM; echo starting; sleep 0.1; echo listening address=127.0.0.1:4321 >&2
                  while :; do sleep 0.05; done";
    let mut process = shell(script).start();
    let address = process.wait_for_address(|line| line.contains("listening"), DEADLINE).await;
    assert_eq!(address.port(), 4321);
    assert!(process.is_running());
    process.terminate().await;
    assert!(process.wait(DEADLINE).await.success());
    assert_eq!(process.stdout(), ["starting", "bye"]);
}

#[tokio::test]
async fn a_dropped_process_is_killed() {
    let process = shell("echo up; exec sleep 600").start();
    process.wait_for_line(|line| line == "up", DEADLINE).await;
    let id = process.id().expect("a running process");
    drop(process);
    eventually(DEADLINE, || async {
        let mut probe = shell(&format!("kill -0 {id}")).start();
        (!probe.wait(DEADLINE).await.success()).then_some(())
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "has ended without printing the line")]
async fn waiting_for_a_line_fails_at_once_when_the_program_ends() {
    shell("echo something else").start().wait_for_line(|line| line == "ready", Duration::from_mins(10)).await;
}

#[test]
fn a_condition_that_never_holds_panics_with_its_location() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let waiting = || {
        runtime.block_on(eventually(Duration::from_millis(1), || async { None::<()> }));
    };
    let panic = std::panic::catch_unwind(AssertUnwindSafe(waiting)).expect_err("it never holds");
    let text = panic.downcast_ref::<String>().expect("a text");
    assert!(text.contains(file!()), "{text}");
}
