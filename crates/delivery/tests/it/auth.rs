//! Authentication to receivers: passwords, access tokens, client certificates and private authorities.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use postrider_core::auth::AuthFields;
use postrider_core::{Clock as _, ErrorKind, ReceiverAuth, SystemClock, Timestamp};
use postrider_delivery::{Client, Config, Request, Sent};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use serde_json::{Value, json};

use crate::receiver::{Connection, Receiver};
use crate::setup::*;
use crate::tls::Authority;

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
const UNAUTHORIZED: &[u8] = b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n";

fn auth(fields: &Value) -> Arc<ReceiverAuth> {
    let fields: AuthFields = serde_json::from_value(fields.clone()).unwrap();
    Arc::new(ReceiverAuth::try_from(fields).unwrap())
}

fn with(auth: &Arc<ReceiverAuth>, url: &str) -> Request {
    Request { auth: Some(auth.clone()), ..post(url) }
}

fn json_answer(status: &str, body: &Value) -> Vec<u8> {
    let body = body.to_string();
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// A token endpoint that issues `t1`, `t2` and so on.
async fn token_endpoint(expires_in: u32) -> Receiver {
    let issued = Arc::new(AtomicUsize::new(0));
    Receiver::start(move |mut connection| {
        let issued = issued.clone();
        async move {
            while connection.request().await.is_some() {
                let number = issued.fetch_add(1, Ordering::SeqCst) + 1;
                let token = format!("t{number}");
                let answer = json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in});
                if connection.write(&json_answer("200 OK", &answer)).await.is_err() {
                    return;
                }
            }
        }
    })
    .await
}

fn oauth2(endpoint: &Receiver) -> Value {
    json!({"type": "oauth2", "token_url": endpoint.url("/token"), "client_id": "my client", "client_secret": "s3:cret"})
}

fn authorizations(receiver: &Receiver) -> Vec<String> {
    receiver.requests().iter().map(|request| request.header("authorization").unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_user_name_and_password_are_sent_as_basic_authentication() {
    let receiver = Receiver::answering(OK).await;
    let basic = auth(&json!({"type": "basic", "username": "Aladdin", "password": "open sesame"}));
    let mut request = with(&basic, &receiver.url("/"));
    request.headers.insert("authorization", "Bearer own".parse().unwrap());
    assert!(!format!("{request:?}").contains("sesame"), "{request:?}");
    assert!(client(long_timeout()).send(request).await.is_success());
    assert_eq!(
        authorizations(&receiver),
        ["Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="],
        "it replaces an own header"
    );
}

#[tokio::test]
async fn attempts_share_a_token_until_it_expires() {
    let receiver = Receiver::answering(OK).await;
    for (expires_in, tokens) in [(3600, 1), (0, 20)] {
        let endpoint = token_endpoint(expires_in).await;
        let client = client(long_timeout());
        let mut fields = oauth2(&endpoint);
        fields["scope"] = "events.write events.read".into();
        fields["audience"] = "https://api.example".into();
        let auth = auth(&fields);
        let attempts = (0..20).map(|_| client.send(with(&auth, &receiver.url("/"))));
        assert!(join_all(attempts).await.iter().all(Sent::is_success));
        assert_eq!(endpoint.requests().len(), tokens, "expires in {expires_in}");
        let asked = endpoint.requests().remove(0);
        assert!(asked.head.starts_with("POST /token HTTP/1.1\r\n"), "{}", asked.head);
        assert_eq!(asked.header("authorization"), Some("Basic bXkrY2xpZW50OnMzJTNBY3JldA=="));
        assert_eq!(asked.header("content-type"), Some("application/x-www-form-urlencoded"));
        assert_eq!(
            String::from_utf8(asked.body).unwrap(),
            "grant_type=client_credentials&scope=events.write+events.read&audience=https%3A%2F%2Fapi.example"
        );
    }
    assert!(authorizations(&receiver)[..20].iter().all(|sent| sent == "Bearer t1"));
}

#[tokio::test]
async fn a_client_can_authenticate_in_the_body_of_its_request() {
    let (receiver, endpoint) = (Receiver::answering(OK).await, token_endpoint(3600).await);
    let mut fields = oauth2(&endpoint);
    fields["client_auth"] = "client_secret_post".into();
    assert!(client(long_timeout()).send(with(&auth(&fields), &receiver.url("/"))).await.is_success());
    let asked = endpoint.requests().remove(0);
    assert_eq!(asked.header("authorization"), None);
    let body = String::from_utf8(asked.body).unwrap();
    assert!(body.ends_with("&client_id=my+client&client_secret=s3%3Acret"), "{body}");
}

#[tokio::test]
async fn a_rejected_token_is_discarded_once() {
    let endpoint = token_endpoint(3600).await;
    let receiver = Receiver::start(|mut connection: Connection| async move {
        while let Some(request) = connection.request().await {
            let accepted = request.head.starts_with("POST /good");
            let answer = if accepted { OK } else { UNAUTHORIZED };
            if connection.write(answer).await.is_err() {
                return;
            }
        }
    })
    .await;
    let (client, auth) = (client(long_timeout()), auth(&oauth2(&endpoint)));
    for _ in 0..4 {
        assert_eq!(client.send(with(&auth, &receiver.url("/"))).await.result.unwrap().status, 401);
    }
    assert_eq!(authorizations(&receiver), ["Bearer t1", "Bearer t2", "Bearer t2", "Bearer t2"]);
    // Once a token was accepted, another rejection is news.
    assert!(client.send(with(&auth, &receiver.url("/good"))).await.is_success());
    for _ in 0..2 {
        client.send(with(&auth, &receiver.url("/"))).await;
    }
    assert_eq!(authorizations(&receiver)[4..], ["Bearer t2", "Bearer t2", "Bearer t3"]);
}

#[tokio::test]
async fn without_a_token_nothing_is_sent_and_the_failure_says_why() {
    let receiver = Receiver::answering(OK).await;
    let refusing =
        Receiver::answering(json_answer("401 Unauthorized", &json!({"error": "invalid_client"}))).await;
    let talking = Receiver::answering(json_answer("400 Bad Request", &json!({"error": "s3cret"}))).await;
    let page = Receiver::answering(json_answer("200 OK", &json!({"login": "here"}))).await;
    let mac = json!({"access_token": "t", "token_type": "mac"});
    let mac = Receiver::answering(json_answer("200 OK", &mac)).await;
    let split = json!({"access_token": "t\r\nx-evil: 1", "token_type": "Bearer"});
    let split = Receiver::answering(json_answer("200 OK", &split)).await;
    let closing = Receiver::start(|connection| async move { drop(connection) }).await;
    for (endpoint, text) in [
        (&refusing, "the token endpoint answered 401 (invalid_client)"),
        (&talking, "the token endpoint answered 400"),
        (&page, "the token endpoint's answer is not JSON with an `access_token` (RFC 6749, §5.1)"),
        (&mac, "the token endpoint issued a token that is no bearer token (RFC 6750)"),
        (&split, "the token endpoint issued a token that cannot be sent in a header"),
        (&closing, "the token endpoint closed the connection, or its answer is not valid HTTP"),
    ] {
        let client = client(long_timeout());
        let auth = auth(&oauth2(endpoint));
        let attempts = (0..5).map(|_| client.send(with(&auth, &receiver.url("/"))));
        for sent in join_all(attempts).await {
            let failure = failure_of(sent);
            assert_eq!((failure.kind, failure.to_string().as_str()), (ErrorKind::Auth, text));
        }
        assert_eq!(endpoint.accepted(), 1, "they share the failure: {text}");
    }
    assert!(receiver.requests().is_empty());
}

#[tokio::test]
async fn the_token_endpoint_has_the_same_target_rules_and_deadline() {
    let receiver = Receiver::answering(OK).await;
    let forbidden = json!({"type": "oauth2", "token_url": "http://10.1.2.3/token", "client_id": "a", "client_secret": "b"});
    let failure = failure_of(client(long_timeout()).send(with(&auth(&forbidden), &receiver.url("/"))).await);
    assert_eq!(failure.kind, ErrorKind::Auth);
    assert_eq!(failure.to_string(), "the token endpoint is at an address or has a URL that is not allowed");

    let silent = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    let sent = client(config()).send(with(&auth(&oauth2(&silent)), &receiver.url("/"))).await;
    assert_ended_at_the_deadline(&sent);
    let failure = failure_of(sent);
    assert_eq!(failure.kind, ErrorKind::Auth);
    assert_eq!(failure.to_string(), "time ran out before the token endpoint answered");
    assert!(receiver.requests().is_empty());
}

/// A receiver that requires client certificates of an authority, with a certificate of the same authority.
async fn mutual(authority: &Authority, versions: &[&[u8]]) -> Receiver {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
    let config = authority.server_verifying("receiver.test", versions, verifier);
    Receiver::start_tls(config, |mut connection: Connection| async move {
        while connection.request().await.is_some() && connection.write(OK).await.is_ok() {}
    })
    .await
}

fn client_of(config: Config) -> Client {
    Client::with_resolver(config, Names::new("receiver.test", &[&["127.0.0.1"]])).unwrap()
}

fn https(receiver: &Receiver) -> String {
    format!("https://receiver.test:{}/", receiver.address.port())
}

#[tokio::test]
async fn connections_with_different_certificates_are_not_shared() {
    let (authority, other) = (Authority::new(), Authority::named("Another authority"));
    let receiver = mutual(&authority, &[b"http/1.1"]).await;
    let identity = |of: &Authority| {
        let (certificate, private_key) = of.pem("client.test");
        auth(
            &json!({"type": "mtls", "certificate": certificate, "private_key": private_key, "ca": authority.ca_pem()}),
        )
    };
    let (first, second, foreign) = (identity(&authority), identity(&authority), identity(&other));
    let only_ca = auth(&json!({"type": "tls", "ca": authority.ca_pem()}));
    let client = client_of(long_timeout());
    for auth in [&first, &second, &first, &second] {
        assert!(client.send(with(auth, &https(&receiver))).await.is_success());
    }
    assert_eq!(receiver.accepted(), 2, "one connection for each certificate");
    let failure = failure_of(client.send(with(&only_ca, &https(&receiver))).await);
    assert_eq!(
        (failure.kind, failure.to_string().as_str()),
        (ErrorKind::Tls, "the receiver requires a client certificate")
    );
    let failure = failure_of(client.send(with(&foreign, &https(&receiver))).await);
    assert_eq!(
        (failure.kind, failure.to_string().as_str()),
        (ErrorKind::Tls, "the receiver rejected the client certificate, or requires one")
    );
    // Without the private authority, not even an open connection is used.
    assert_eq!(failure_of(client.send(post(&https(&receiver))).await).kind, ErrorKind::TlsUnknownIssuer);
    assert_eq!(receiver.requests().len(), 4);
}

#[tokio::test]
async fn a_missing_certificate_is_named_over_http2_too() {
    let authority = Authority::new();
    let receiver = mutual(&authority, &[b"h2"]).await;
    let only_ca = auth(&json!({"type": "tls", "ca": authority.ca_pem()}));
    let failure = failure_of(client_of(long_timeout()).send(with(&only_ca, &https(&receiver))).await);
    assert_eq!(
        (failure.kind, failure.to_string().as_str()),
        (ErrorKind::Tls, "the receiver requires a client certificate")
    );
}

#[test]
fn certificates_and_keys_are_checked_together() {
    let authority = Authority::new();
    let (certificate, key) = authority.pem("client.test");
    let (_, another_key) = authority.pem("client.test");
    let expired = authority.pem_until("client.test", 2020);
    let client = client(long_timeout());
    let mtls = |certificate: &str, key: &str| {
        auth(&json!({"type": "mtls", "certificate": certificate, "private_key": key}))
    };
    let read = client.client_tls(&mtls(&certificate, &key)).unwrap().unwrap();
    let now = SystemClock.now();
    assert!(read.expires_at().unwrap() > now && read.valid_at(now).is_ok());
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    for (wrong, field) in [
        (mtls(&certificate, &another_key), "private_key"),
        (mtls(&certificate, "no key"), "private_key"),
        (mtls(&certificate, &encrypted), "private_key"),
        (mtls("no certificate", &key), "certificate"),
        (mtls(&certificate.replace("MII", "AAA"), &key), "certificate"),
        (auth(&json!({"type": "tls", "ca": "no certificate"})), "ca"),
    ] {
        let error = client.client_tls(&wrong).unwrap_err();
        assert_eq!(error.field, field, "{error}");
        assert!(!error.to_string().contains("BEGIN PRIVATE KEY-----\n"), "{error}");
    }
    let expired = client.client_tls(&mtls(&expired.0, &expired.1)).unwrap().unwrap();
    assert_eq!(expired.valid_at(now).unwrap_err().to_string(), "certificate: has expired");
    assert_eq!(expired.expires_at(), Some(Timestamp::from_seconds(1_577_836_800)));
    assert!(
        client
            .client_tls(&auth(&json!({"type": "basic", "username": "a", "password": "b"})))
            .unwrap()
            .is_none()
    );
}
