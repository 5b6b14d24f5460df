//! A program whose clock is off says so, because receivers refuse what it signs.
//!
//! The clock is that of libfaketime, which the test command installs where it may.

use std::path::PathBuf;
use std::time::Duration;

use postrider_testkit::{Receiver, eventually};

use crate::client::{dispatch, subscribe};
use crate::deployment::{DEADLINE, Deployment, Member, program};
use crate::exposition::Exposition;

/// Where Debian, Ubuntu, Fedora and Alpine put the library.
fn faketime() -> Option<PathBuf> {
    let folders = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu", "/usr/lib64", "/usr/lib"];
    folders
        .into_iter()
        .map(|folder| PathBuf::from(folder).join("faketime/libfaketime.so.1"))
        .find(|file| file.is_file())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_whose_clock_is_off_says_so() {
    let Some(library) = faketime() else {
        println!("skipped: libfaketime is not installed (Debian and Ubuntu: the package `faketime`)");
        return;
    };
    let deployment = Deployment::start(0).await;
    let receiver = Receiver::start().await;
    subscribe(&deployment.api, &receiver.url("/hook")).await;
    for (offset, seconds, level, text) in [
        ("+2h", 7200.0, "ERROR", "those that verify signatures refuse all requests"),
        ("-20s", -20.0, "WARN", "this machine's clock differs from the database's"),
    ] {
        for name in ["postrider-worker", "postrider-server"] {
            let program = program(name, deployment.database.url(), &[])
                .env("LD_PRELOAD", &library)
                .env("FAKETIME", offset)
                // Timeouts and intervals use the monotonic clock, which no operator changes.
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
            let member = Member::start(&program).await;
            let line = member.process.wait_for_line(|line| line.contains(text), DEADLINE).await;
            assert!(line.contains(level), "{line}");
            let skew = gauge(&member).await;
            assert!((skew - seconds).abs() < 2.0, "{name} measures {skew} s");
            if name == "postrider-worker" {
                let before = receiver.requests().len();
                dispatch(&deployment.api, "order.created").await;
                let requests = receiver.wait_for(before + 1, DEADLINE).await;
                let signed: f64 = requests[before].header("webhook-timestamp").unwrap().parse().unwrap();
                println!("{name} signed with {signed}");
            }
            // Logged once, however often it is measured.
            tokio::time::sleep(Duration::from_secs(6)).await;
            assert_eq!(member.output().matches(text).count(), 1, "{}", member.output());
            member.stop().await;
        }
    }
    let skew = eventually(DEADLINE, || async { skew_of(&deployment.server).await }).await;
    assert!(skew.abs() < 1.0, "the server with the right clock measures {skew} s");
    assert!(!deployment.server.output().contains("clock"), "{}", deployment.server.output());
    deployment.stop().await;
}

/// The gauge, once it has been measured.
async fn gauge(member: &Member) -> f64 {
    eventually(DEADLINE, || skew_of(member)).await
}

async fn skew_of(member: &Member) -> Option<f64> {
    Exposition::of(&member.telemetry)
        .await
        .samples("webhook_clock_skew_seconds")
        .map(|sample| sample.value)
        .next()
}
