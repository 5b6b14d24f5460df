//! Commands that need no server: `sign`, `verify`, `completions`, `man`.

use postrider_testkit::Program;

use super::{Ran, run};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn postrider(args: &[&str]) -> Ran {
    run(&Program::named("postrider").args(args), "").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signature_is_made_and_checked_offline() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("@{}", path.display())
    };
    let body = r#"{"order":1.50}"#;
    let secret = file("secret", &format!("{SECRET}\n"));
    let headers = postrider(&["sign", "--secret", &secret, "-d", body]).await.ok();
    let names =
        ["webhook-id: ", "webhook-timestamp: ", "webhook-signature: v1,", "x-agent-signature: sha256="];
    assert!(
        headers.lines().zip(names).all(|(line, name)| line.starts_with(name)) && !headers.contains(SECRET),
        "{headers}"
    );
    let headers = file("headers", &headers);
    let verify = async |secret: &str, body: &str, more: &[&str]| {
        postrider(
            &[&["verify", "--secret", secret, "--headers", &headers, "-d", body, "-o", "json"], more]
                .concat(),
        )
        .await
    };
    assert_eq!(verify(SECRET, body, &[]).await.json()["verified"], true);
    assert_eq!(verify(SECRET, &file("body", body), &[]).await.json()["verified"], true);
    for (reason, secret, body, more) in [
        ("body_changed", SECRET, "{\"order\": 1.50}", &[][..]),
        ("secret_prefix", &SECRET[6..], body, &[]),
        ("secret_or_body", "another secret", body, &[]),
        ("clock", SECRET, body, &["--now", "1"]),
    ] {
        let ran = verify(secret, body, more).await;
        let answer: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        assert_eq!((ran.code, answer["reason"].as_str()), (1, Some(reason)), "{ran:?}");
    }
    verify("short", body, &[]).await.fails(2, "8 to 256");
    postrider(&["verify", "--secret", SECRET, "-d", body]).await.fails(2, "--headers");
    let alone = ["verify", "--secret", SECRET, "-d", body, "-H", "X-Agent-Signature: sha256=00"];
    postrider(&alone).await.fails(1, "X-Agent-Signature");
    let fixed =
        ["sign", "--secret", SECRET, "-d", body, "--id", "evt_1", "--timestamp", "1700000000", "-o", "json"];
    assert_eq!(postrider(&fixed).await.json(), postrider(&fixed).await.json());
    postrider(&["sign", "--secret", SECRET, "-d", body, "--id", "a.b"]).await.fails(2, "full stop");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_shell_has_completions_and_each_command_a_manual_page() {
    for (shell, registered) in [
        ("bash", "complete -o nospace"),
        ("zsh", "#compdef postrider"),
        ("fish", "complete --keep-order"),
        ("elvish", "arg-completer[postrider]"),
        ("powershell", "Register-ArgumentCompleter"),
    ] {
        let script = postrider(&["completions", shell]).await.ok();
        assert!(script.contains(registered) && script.contains("_POSTRIDER_COMPLETE"), "{shell}: {script}");
    }
    assert!(postrider(&["man"]).await.ok().contains(".SH"));
    let folder = tempfile::tempdir().unwrap();
    postrider(&["man", "--folder", folder.path().to_str().unwrap()]).await.ok();
    assert!(folder.path().join("postrider-subscribers-create.1").exists());
}
