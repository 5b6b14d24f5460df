//! What is shown on a terminal only: the screen of `top`, and how far a command has come.

use std::process::Stdio;

use postrider_testkit::Program;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Stage;
use crate::deployment::DEADLINE;

/// The end of the alternate screen, and a visible cursor.
const BACK: [&str; 2] = ["\u{1b}[?1049l", "\u{1b}[?25h"];

/// Runs a shell script in a terminal of 100 by 30, types `keys` once `sign` is on it, and returns all that it has shown.
async fn shown(stage: &Stage, script: &str, sign: &str, keys: &str) -> String {
    let program = stage.program().command();
    let script = format!("stty cols 100 rows 30; {script}");
    let terminal = Program::at("/usr/bin/script")
        .args(["-qec", &script, "/dev/null"])
        .env("postrider", program.as_std().get_program())
        .env("SHELL", "/bin/sh")
        .env("TERM", "xterm")
        .env("HOME", stage.home.path())
        .env("POSTRIDER_URL", &stage.url)
        .env("POSTRIDER_KEY", &stage.key);
    let mut command = terminal.command();
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut stdin, mut stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut text = String::new();
    let reading = async {
        let mut typed = false;
        let mut bytes = [0; 4096];
        loop {
            let read = stdout.read(&mut bytes).await.unwrap();
            if read == 0 {
                return;
            }
            text.push_str(&String::from_utf8_lossy(&bytes[..read]));
            if !typed && text.contains(sign) {
                typed = true;
                stdin.write_all(keys.as_bytes()).await.unwrap();
            }
        }
    };
    let ended = timeout(DEADLINE, reading).await;
    ended.unwrap_or_else(|_| panic!("no end: {text}"));
    let status = child.wait().await.unwrap();
    assert!(status.success(), "{status}: {text}");
    text
}

/// On a stage that has a subscriber `slow`, which does not answer.
pub(super) async fn terminals(stage: &Stage) {
    for keys in ["q", "\u{3}"] {
        let script = r#""$postrider" top --interval 1 && stty -a"#;
        let text = shown(stage, script, "FAILURES", keys).await;
        assert!(text.contains("\u{1b}[?1049h") && text.contains("created"), "{keys:?}: {text}");
        let (_, after) = text.split_once(BACK[0]).unwrap_or_else(|| panic!("{keys:?}: {text}"));
        assert!(text.contains(BACK[1]), "{keys:?}: {text}");
        let modes: Vec<&str> = after.split([' ', '\r', '\n', ';']).collect();
        assert!(modes.contains(&"icanon") && modes.contains(&"echo"), "{keys:?}: {after}");
    }
    // A narrow terminal, which changes its size, and a wrong key, which is said where it stays.
    let narrow = r#"stty cols 20 rows 5; "$postrider" top --count 1; POSTRIDER_KEY=wrong "$postrider" top; test $? = 4"#;
    let text = shown(stage, narrow, "nothing is typed", "").await;
    let (_, after) = text.rsplit_once(BACK[0]).unwrap();
    assert!(after.contains("401"), "{text}");

    let send = r#""$postrider" send slow.bar --wait --timeout 1; test $? = 5"#;
    let text = shown(stage, send, "nothing is typed", "").await;
    assert!(text.contains("deliveries [") && text.contains("0/1"), "{text}");
    let piped = stage.run(&["send", "slow.bar", "--wait", "--timeout", "1"]).await;
    assert!(piped.code == 5 && !piped.err.contains("0/1"), "{piped:?}");
}
