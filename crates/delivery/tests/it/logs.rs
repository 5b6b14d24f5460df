//! What an attempt logs, with all libraries at the most verbose level.

use std::io;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::HeaderValue;
use http_body_util::{BodyExt, Full};
use postrider_delivery::{Client, Config};
use tracing_subscriber::fmt::MakeWriter;

use crate::http2::pair;
use crate::receiver::Receiver;
use crate::setup::*;
use crate::tls::Authority;

#[derive(Clone, Default)]
struct Captured(Arc<Mutex<Vec<u8>>>);

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Captured {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

const SECRETS: [&str; 5] = ["q-s3cret", "h-s3cret", "b-s3cret", "p-s3cret", "answer-s3cret"];

// On one thread, so that this thread's subscriber receives all log lines.
#[tokio::test(flavor = "current_thread")]
async fn no_secret_is_logged() {
    // With a single subscriber, tracing caches the interest of the thread that reaches a call site first, so a test on
    // another thread could disable the call site for this one. A second subscriber turns that optimisation off.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let captured = Captured::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(captured.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);

    let authority = Authority::new();
    let answer = "HTTP/1.1 500 X\r\nX-Answer: answer-s3cret\r\nContent-Length: 13\r\n\r\nanswer-s3cret";
    let plain = Receiver::answering(answer).await;
    let tls = Receiver::start_tls(
        authority.server("receiver.test", &[], |_| {}),
        move |mut connection| async move {
            connection.request().await;
            let _ = connection.write(answer.as_bytes()).await;
        },
    )
    .await;
    let (h2_client, _h2_receiver, h2_url) = pair(long_timeout(), |_| async {
        let mut response = http::Response::new(Full::new(Bytes::from_static(b"answer-s3cret")).boxed());
        *response.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        response.headers_mut().insert("x-answer", HeaderValue::from_static("answer-s3cret"));
        response
    })
    .await;
    let garbage = Receiver::answering("answer-s3cret\r\n\r\n").await;
    let config = authority.trusted(long_timeout());
    let client =
        Client::with_resolver(config.clone(), Names::new("receiver.test", &[&["127.0.0.1"]])).unwrap();
    let unreachable = Config { proxy: Some("http://user:p-s3cret@127.0.0.1:9".parse().unwrap()), ..config };
    let proxied = client_of(unreachable);
    for (client, url) in [
        (&client, plain.url("/?q-s3cret")),
        (&client, garbage.url("/?q-s3cret")),
        (&client, format!("https://receiver.test:{}/?q-s3cret", tls.address.port())),
        (&h2_client, format!("{h2_url}?q-s3cret")),
        (&client, "http://unknown.test/?q-s3cret".to_owned()),
        (&client, "http://10.0.0.1/?q-s3cret".to_owned()),
        (&proxied, plain.url("/?q-s3cret")),
    ] {
        let mut request = post(&url);
        let mut value = HeaderValue::from_static("h-s3cret");
        value.set_sensitive(true);
        request.headers.insert("x-api-key", value);
        request.body = "b-s3cret".into();
        tracing::info!(?client, ?request, headers = ?request.headers, "sending");
        let sent = client.send(request).await;
        tracing::info!(?sent, "sent");
        assert!(!sent.is_success());
    }
    let log = String::from_utf8(captured.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("no response") && log.contains("sending"), "nothing was captured");
    for secret in SECRETS {
        assert!(!log.contains(secret), "{secret} in {log}");
    }
}

fn client_of(config: Config) -> Client {
    Client::new(config).unwrap()
}
