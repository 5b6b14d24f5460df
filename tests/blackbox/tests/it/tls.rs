//! TLS to PostgreSQL with the certificate authorities of the operating system, by name and by IPv6 address.

use std::fs;
use std::net::{Ipv6Addr, TcpListener};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

use postrider_testkit::{Receiver, eventually};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use tempfile::TempDir;
use xtask::postgres::Postgres;

use crate::client::{dispatch, ended, subscribe};
use crate::deployment::{DEADLINE, Member, program};
use crate::servers;

/// An authority, in a file that stands for the operating system's.
fn authority(folder: &TempDir, name: &str) -> (CertifiedIssuer<'static, KeyPair>, PathBuf) {
    let mut parameters = CertificateParams::default();
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.distinguished_name.push(DnType::CommonName, name);
    let issuer = CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap();
    let path = folder.path().join(name);
    fs::write(&path, issuer.pem()).unwrap();
    (issuer, path)
}

/// Gives a running server a certificate for these names, after which it accepts connections over TLS only.
async fn secure(server: &Postgres, issuer: &CertifiedIssuer<'static, KeyPair>, names: &[&str]) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|&name| name.to_owned()).collect();
    let certificate = CertificateParams::new(names).unwrap().signed_by(&key, issuer).unwrap();
    let data = server.folder().join("data");
    let owner = fs::metadata(&data).unwrap();
    for (name, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
        let path = data.join(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        chown(&path, Some(owner.uid()), Some(owner.gid())).unwrap();
    }
    servers::run(server, servers::NAME, "ALTER SYSTEM SET ssl = on; SELECT pg_reload_conf()").await;
    fs::write(data.join("pg_hba.conf"), "hostssl all all all trust\n").unwrap();
    // Until it has read both.
    let plain = format!("{}?sslmode=disable", server.database_url(servers::NAME));
    eventually(DEADLINE, || async {
        servers::run(server, servers::NAME, "SELECT pg_reload_conf()").await;
        migrate(&plain, None).await.err().filter(|errors| errors.contains("no pg_hba.conf entry"))
    })
    .await;
}

/// Runs `postrider migrate`, which connects, and returns what it prints if it fails.
async fn migrate(url: &str, authorities: Option<&Path>) -> Result<(), String> {
    let mut migrate = program("postrider", url, &[]).arg("migrate");
    if let Some(path) = authorities {
        migrate = migrate.env("SSL_CERT_FILE", path);
    }
    let mut process = migrate.start();
    let status = process.wait(DEADLINE).await;
    if status.success() { Ok(()) } else { Err(process.stderr().join("\n")) }
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        println!("skipped: the machine has no IPv6");
    }
    has
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_authorities_of_the_operating_system_verify_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let (ours, trusted) = authority(&folder, "trusted.pem");
    let (_, other) = authority(&folder, "other.pem");
    let has_ipv6 = has_ipv6();
    let addresses = if has_ipv6 { "127.0.0.1, ::1" } else { "127.0.0.1" };
    let server = servers::start(&servers::options().set("listen_addresses", addresses)).await;
    secure(&server, &ours, &["localhost", "::1"]).await;
    let url = |host: &str, more: &str| {
        format!("postgres://postrider@{host}:{}/{}?{more}", server.port(), servers::NAME)
    };

    let system = "sslrootcert=system";
    migrate(&url("localhost", system), Some(&trusted)).await.expect("a server that is verified");
    let empty = folder.path().join("empty.pem");
    fs::write(&empty, "").unwrap();
    for (host, authorities, error) in [
        ("localhost", &other, "UnknownIssuer"),
        ("127.0.0.1", &trusted, "not valid for name"),
        ("localhost", &empty, "the operating system has no certificate authorities"),
    ] {
        let printed = migrate(&url(host, system), Some(authorities)).await.expect_err(error);
        assert!(printed.contains(error), "{error}: {printed}");
    }
    if !has_ipv6 {
        return;
    }
    // An address of a URL stands in brackets, and has none in a certificate.
    for more in [system, "sslmode=require", ""] {
        migrate(&url("[::1]", more), Some(&trusted)).await.unwrap_or_else(|error| panic!("{more}: {error}"));
    }
    let url = url("[::1]", system);
    let with = |name: &str| program(name, &url, &[]).env("SSL_CERT_FILE", &trusted);
    let (api, worker) =
        (Member::start(&with("postrider-server")).await, Member::start(&with("postrider-worker")).await);
    let (client, receiver) = (api.api().await, Receiver::start().await);
    subscribe(&client, &receiver.url("/")).await;
    let event = dispatch(&client, "a").await;
    assert_eq!(ended(&client, &event).await["status"], "succeeded");
    worker.stop().await;
    api.stop().await;
}
