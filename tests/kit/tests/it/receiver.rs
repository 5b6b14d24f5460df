use std::{sync::Arc, time::Duration};

use postrider_testkit::{Api, Behaviour, Receiver, receiver::Gate};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{
        ClientConfig, RootCertStore,
        crypto::ring,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

const DEADLINE: Duration = Duration::from_secs(10);

#[tokio::test]
async fn a_request_is_recorded_as_it_was_sent() {
    let receiver = Receiver::start().await;
    let mut stream = TcpStream::connect(receiver.address()).await.expect("a connection");
    let request =
        b"POST /hook?a=1 HTTP/1.1\r\nX-Second: 2\r\nhost: x\r\nx-First:  caf\xc3\xa9 \r\nX-Second: 3\r\n\
                    Content-Length: 4\r\n\r\n\x00\xff{}";
    for _ in 0..2 {
        stream.write_all(request).await.expect("a request sent");
        let mut answer = [0; 12];
        stream.read_exact(&mut answer).await.expect("an answer");
        assert_eq!(&answer, b"HTTP/1.1 200");
        // The rest of the answer, which has no body.
        while !answer.ends_with(b"\r\n\r\n") {
            answer.rotate_left(1);
            answer[11] = stream.read_u8().await.expect("the rest of the answer");
        }
    }

    let requests = receiver.wait_for(2, DEADLINE).await;
    for request in &requests {
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", "/hook?a=1"));
        assert_eq!(request.path(), "/hook");
        let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
        assert_eq!(
            request.headers,
            [
                header("X-Second", "2"),
                header("host", "x"),
                header("x-First", "café"),
                header("X-Second", "3"),
                header("Content-Length", "4"),
            ]
        );
        assert_eq!(request.header("x-second"), Some("2"));
        assert_eq!(request.body, b"\x00\xff{}");
        assert_eq!(request.connection, 0);
    }
    assert!(requests[0].arrived <= requests[1].arrived);
}

#[tokio::test]
async fn each_path_follows_its_own_script() {
    let receiver = Receiver::start().await;
    receiver.on("/a", Behaviour::sequence([500, 410]));
    receiver.on(
        "/b",
        Behaviour::Respond {
            status: 429,
            headers: vec![("Retry-After".to_owned(), "7".to_owned())],
            body: b"slow down".to_vec(),
        },
    );
    let client = Api::without_key(receiver.url(""));
    for (path, status) in [("/a", 500), ("/b", 429), ("/a", 410), ("/a", 410), ("/c", 200)] {
        assert_eq!(client.post_raw(path, "{}").await.status, status, "{path}");
    }
    let answer = client.post_raw("/b", "{}").await;
    assert_eq!((answer.header("retry-after"), answer.text().as_str()), (Some("7"), "slow down"));
    assert_eq!(receiver.requests_to("/a").len(), 3);
    assert_eq!(receiver.wait_for_path("/b", 2, DEADLINE).await.len(), 2);
}

#[tokio::test]
async fn a_gate_holds_requests_back_and_a_hang_never_answers() {
    let receiver = Receiver::start().await;
    let gate = Gate::closed();
    receiver.on("/held", Behaviour::Status(204).behind(&gate));
    receiver.on("/hang", Behaviour::Hang);
    let client = Api::without_key(receiver.url(""));

    let held = tokio::spawn({
        let client = client.clone();
        async move { client.post_raw("/held", "{}").await.status }
    });
    let hanging =
        tokio::spawn(async move { client.try_send(http::Method::GET, "/hang", &[], "").await.is_ok() });
    receiver.wait_for(2, DEADLINE).await;
    assert_eq!(receiver.peak_in_flight(), 2);
    assert!(!held.is_finished());
    gate.open();
    assert_eq!(held.await.expect("a task that ends"), 204);
    assert!(!hanging.is_finished());

    drop(receiver);
    assert!(!hanging.await.expect("a task that ends"), "the connection ended with the receiver");
}

#[tokio::test]
async fn a_reset_is_a_reset() {
    let receiver = Receiver::start().await;
    receiver.on("/", Behaviour::Reset);
    let mut stream = TcpStream::connect(receiver.address()).await.expect("a connection");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("a request sent");
    let error = stream.read_u8().await.expect_err("no answer");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(receiver.requests().len(), 1);
}

#[tokio::test]
async fn only_its_own_authority_vouches_for_a_receiver_of_https() {
    let receiver = Receiver::start_tls("hooks.example").await;
    assert_eq!(receiver.url("/x"), format!("https://hooks.example:{}/x", receiver.address().port()));

    let mut roots = RootCertStore::empty();
    let strangers = connector(roots.clone());
    roots
        .add(CertificateDer::from_pem_slice(receiver.ca_pem().as_bytes()).expect("PEM"))
        .expect("an authority");
    let trusting = connector(roots);
    let name = ServerName::try_from("hooks.example").expect("a name");

    let stream = TcpStream::connect(receiver.address()).await.expect("a connection");
    strangers.connect(name.clone(), stream).await.expect_err("no trusted authority signed its certificate");

    let stream = TcpStream::connect(receiver.address()).await.expect("a connection");
    let mut stream = trusting.connect(name, stream).await.expect("a handshake");
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n")
        .await
        .expect("a request sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"));
    assert_eq!(receiver.requests()[0].header("host"), Some("y"));
}

fn connector(roots: RootCertStore) -> TlsConnector {
    let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    TlsConnector::from(Arc::new(config))
}
