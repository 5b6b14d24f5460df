//! `login`, `logout` and `profile`.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;

use postrider_testkit::Behaviour;

use super::{Stage, run};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_profile_keeps_a_key_for_its_server_alone() {
    let stage = Stage::start().await;
    let bare = |args: &[&str]| stage.bare().args(args);
    let file = stage.home.path().join(".config/postrider/profiles.toml");
    run(&bare(&["login"]), "").await.fails(2, "--url");
    run(&bare(&["login", "--url", &stage.url]), "").await.fails(2, "standard input");
    run(&bare(&["login", "--url", &stage.url]), "a wrong key").await.fails(4, "401");
    assert!(!file.exists());
    let stored = run(&bare(&["login", "--url", &stage.url, "--profile", "local"]), &stage.key).await;
    assert!(stored.code == 0 && stored.out.is_empty() && !stored.err.contains(&stage.key), "{stored:?}");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);

    run(&bare(&["events", "list"]), "").await.ok();
    run(&bare(&["login", "--url", "http://127.0.0.1:1", "--profile", "other", "--offline"]), "k").await.ok();
    run(&bare(&["events", "list", "--profile", "other"]), "").await.fails(1, "127.0.0.1:1");
    run(&bare(&["profile", "use", "other"]), "").await.ok();
    run(&bare(&["events", "list"]), "").await.fails(1, "127.0.0.1:1");
    run(&bare(&["events", "list", "--profile", "local"]), "").await.ok();
    let listed = run(&bare(&["profile", "list", "-o", "json"]), "").await.json();
    assert_eq!((&listed[0]["name"], &listed[1]["default"]), (&"local".into(), &true.into()), "{listed}");
    assert!(!listed.to_string().contains(&stage.key));
    run(&bare(&["events", "list", "--profile", "unknown"]), "").await.fails(2, "local, other");

    // Another server does not get the key of the default profile.
    stage.receiver.on("/v1/events", Behaviour::respond(200, r#"{"data":[],"next_cursor":null}"#));
    run(&bare(&["events", "list", "--url", &stage.receiver.url("")]), "").await.ok();
    assert_eq!(stage.receiver.requests()[0].header("authorization"), None);

    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    run(&bare(&["events", "list"]), "").await.fails(2, "chmod 600");
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    run(&bare(&["logout", "other"]), "").await.ok();
    run(&bare(&["logout", "other"]), "").await.fails(2, "local");
    fs::write(&file, format!("[profiles.local]\nurl = \"x\"\nkey = {}\n", stage.key)).unwrap();
    let broken = run(&bare(&["events", "list"]), "").await;
    assert!(!broken.err.contains(&stage.key), "{broken:?}");
    broken.fails(2, "line 3");
    stage.stop().await;
}
