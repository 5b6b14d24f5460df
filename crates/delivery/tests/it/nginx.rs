//! Deliveries through nginx, which ends connections after 1,000 requests and when it is reloaded.
//!
//! Without nginx (Debian's `nginx-light`) these tests print that they are skipped.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use postrider_delivery::{Client, Config};
use tempfile::TempDir;

use crate::receiver::until;
use crate::setup::*;
use crate::tls::Authority;

/// The version of HTTP that nginx speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

struct Nginx {
    process: Child,
    port: u16,
    folder: TempDir,
    authority: Authority,
}

impl Nginx {
    /// Starts nginx with its default settings; `None` if there is no nginx. `more` are directives of its server.
    async fn start(version: Version, more: &str) -> Option<Self> {
        let candidates = ["/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/bin/nginx"];
        let Some(program) = candidates.into_iter().find(|path| Path::new(path).is_file()) else {
            println!("skipped: there is no nginx");
            return None;
        };
        let authority = Authority::new();
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = authority.pem("receiver.test");
        fs::write(folder.path().join("certificate.pem"), certificate).unwrap();
        fs::write(folder.path().join("key.pem"), key).unwrap();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let at = folder.path().display();
        let http2 = if version == Version::Http2 { " http2" } else { "" };
        let paths = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .map(|name| format!("{name}_temp_path {at}/{name};\n"))
            .concat();
        let settings = format!(
            "daemon off;\nworker_processes 2;\npid {at}/pid;\nerror_log {at}/error.log;\n\
             events {{ worker_connections 1024; }}\nhttp {{\naccess_log {at}/access.log;\n{paths}\
             server {{\nlisten 127.0.0.1:{port} ssl{http2};\nserver_name receiver.test;\n\
             ssl_certificate {at}/certificate.pem;\nssl_certificate_key {at}/key.pem;\n{more}\n\
             location / {{ return 200 ok; }}\n}}\n}}\n"
        );
        fs::write(folder.path().join("nginx.conf"), settings).unwrap();
        let process = Command::new(program)
            .args(["-p", folder.path().to_str().unwrap(), "-c", "nginx.conf", "-e", "stderr"])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let nginx = Self { process, port, folder, authority };
        let end = Instant::now() + Duration::from_mins(1);
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(Instant::now() < end, "nginx did not start: {}", nginx.errors());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Some(nginx)
    }

    fn client(&self) -> Client {
        let names = Names::new("receiver.test", &[&["127.0.0.1"]]);
        let config = Config { targets: allowing(&["127.0.0.0/8"]), ..Config::default() };
        Client::with_resolver(self.authority.trusted(config), names).unwrap()
    }

    fn url(&self) -> String {
        format!("https://receiver.test:{}/hook", self.port)
    }

    /// Starts new workers and ends the connections of the old ones.
    fn reload(&self) {
        let status = Command::new("kill").args(["-HUP", &self.process.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.folder.path().join("error.log")).unwrap_or_default()
    }

    /// Returns the number of requests that nginx has answered.
    fn answered(&self) -> usize {
        fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default().lines().count()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status();
        let _ = self.process.wait();
    }
}

/// Makes `count` first attempts, 64 at a time, and reloads nginx `reloads` times meanwhile. All must succeed.
async fn deliver_through(version: Version, more: &str, count: usize, reloads: usize) {
    let Some(nginx) = Nginx::start(version, more).await else { return };
    let (client, url) = (nginx.client(), nginx.url());
    let every = count / (reloads + 1);
    let sends = futures_util::stream::iter(0..count).map(|at| {
        if at > 0 && at % every == 0 && at / every <= reloads {
            nginx.reload();
        }
        client.send(post(&url))
    });
    let (mut resent, mut failed) = (0, Vec::new());
    let mut sends = sends.buffer_unordered(64);
    while let Some(sent) = sends.next().await {
        resent += usize::from(sent.trail.resent);
        if !sent.is_success() {
            failed.push(format!("{sent:?}"));
        }
    }
    println!("{version:?}: {count} attempts, {} failed, {resent} resent", failed.len());
    assert!(
        failed.is_empty(),
        "{} of {count} failed: {:?}\n{}",
        failed.len(),
        failed.first(),
        nginx.errors()
    );
    // nginx writes its log after it has answered.
    until("all answers are logged", || nginx.answered() >= count).await;
    assert!(nginx.answered() <= count + resent, "{} answers to {count} requests", nginx.answered());
}

#[tokio::test]
async fn every_first_attempt_succeeds_over_http2_while_nginx_is_reloaded() {
    deliver_through(Version::Http2, "", 2000, 3).await;
}

#[tokio::test]
async fn every_first_attempt_succeeds_over_http1_while_nginx_is_reloaded() {
    deliver_through(Version::Http1, "", 2000, 3).await;
}

#[tokio::test]
async fn every_first_attempt_succeeds_with_five_requests_per_connection() {
    deliver_through(Version::Http2, "keepalive_requests 5;", 300, 0).await;
    deliver_through(Version::Http1, "keepalive_requests 5;", 300, 0).await;
}

#[tokio::test]
async fn every_first_attempt_succeeds_with_two_requests_at_once_per_connection() {
    deliver_through(Version::Http2, "http2_max_concurrent_streams 2;", 300, 0).await;
}

#[tokio::test]
#[ignore = "takes a minute; the small ones above cover it"]
async fn ten_thousand_first_attempts_succeed_while_nginx_is_reloaded_ten_times() {
    deliver_through(Version::Http2, "", 10_000, 10).await;
    deliver_through(Version::Http1, "", 10_000, 10).await;
}
