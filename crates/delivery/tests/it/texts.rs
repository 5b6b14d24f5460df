//! The stored text of a failure: it helps the subscriber's owner, and contains no address.

use std::sync::Arc;

use postrider_core::target::TargetPolicy;
use postrider_core::{Clock as _, ErrorKind, SystemClock};
use postrider_delivery::{Client, Config, Resolve};
use rcgen::{CertificateParams, date_time_ymd};
use tokio::net::TcpListener;

use crate::receiver::Receiver;
use crate::setup::*;
use crate::timeouts::black_hole;
use crate::tls::Authority;

/// An attempt that must fail with `kind`.
struct Case {
    kind: ErrorKind,
    config: Config,
    resolver: Arc<dyn Resolve>,
    url: String,
}

/// The name that resolves to 127.0.0.1 here.
const NAME: &str = "receiver.test";

fn case(kind: ErrorKind, config: Config, url: String) -> Case {
    Case { kind, config, resolver: Names::new(NAME, &[&["127.0.0.1"]]), url }
}

/// A receiver that reads a request, writes `answer` and closes the connection.
async fn answering_once(answer: &'static [u8]) -> Receiver {
    Receiver::start(move |mut connection| async move {
        connection.request().await;
        let _ = connection.write(answer).await;
    })
    .await
}

#[tokio::test]
async fn an_examination_shows_certificates_even_if_they_are_rejected() {
    let authority = Authority::named("Authority of examinations");
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let expired = authority.server(NAME, &[], expired);
    let valid = authority.server(NAME, &[], |_| {});
    for (server, config, kind) in [
        (valid.clone(), authority.trusted(long_timeout()), None),
        (expired, authority.trusted(long_timeout()), Some(ErrorKind::TlsExpired)),
        (valid, long_timeout(), Some(ErrorKind::TlsUnknownIssuer)),
    ] {
        let receiver =
            Receiver::start_tls(server, |mut connection| async move { connection.hang().await }).await;
        let client = Client::with_resolver(config, Names::new(NAME, &[&["127.0.0.1"]])).unwrap();
        let url = format!("https://{NAME}:{}/", receiver.address.port());
        let examined = client.examine(&url.parse().unwrap()).await;
        assert_eq!(examined.result.as_ref().err().map(|failure| failure.kind), kind, "{examined:?}");
        let certificate = &examined.certificates[0];
        assert_eq!(
            (certificate.names.as_slice(), &*certificate.issuer),
            (&[NAME.to_owned()][..], "CN=Authority of examinations")
        );
        let is_expired = certificate.not_after < SystemClock.now();
        assert_eq!(is_expired, kind == Some(ErrorKind::TlsExpired), "{examined:?}");
        assert!(examined.trail.timings.tls.is_some(), "{examined:?}");
        assert_eq!(examined.trail.remote.is_some(), kind.is_none());
    }
    // The rules hold: nothing is connected to.
    let client = Client::with_resolver(Config::default(), Names::new(NAME, &[&["127.0.0.1"]])).unwrap();
    let examined = client.examine(&format!("https://{NAME}/").parse().unwrap()).await;
    assert_eq!(examined.result.unwrap_err().kind, ErrorKind::Blocked);
    assert!(examined.certificates.is_empty() && examined.trail.timings.connect.is_none());
}

#[tokio::test]
async fn no_failure_contains_an_address() {
    assert!(names_an_address("connect to 10.1.2.3:80: refused") && names_an_address("[::1]:80"));
    assert!(names_an_address("fe80::1 is down.") && !names_an_address("refused with 500 at 12:30"));

    let hanging = Receiver::start(|mut connection| async move { connection.hang().await }).await;
    let mute = answering_once(b"").await;
    let plain = Receiver::start(|mut connection| async move {
        let _ = connection.write(b"220 10.1.2.3 ready\r\n").await;
        connection.hang().await;
    })
    .await;
    let garbage = answering_once(b"10.1.2.3 says 10.1.2.3\r\n\r\n").await;
    let refusing = answering_once(b"HTTP/1.1 502 no route to 10.1.2.3:80\r\nVia: 10.1.2.3\r\n\r\n").await;
    let (full, _listener, _waiting) = black_hole("127.0.0.1:0").await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let through = |proxy: &str| Config { proxy: Some(proxy.parse().unwrap()), ..long_timeout() };
    let strict = || Config { targets: TargetPolicy::default(), ..long_timeout() };
    let elsewhere = Config { targets: allowing(&["0.0.0.0/32"]), ..long_timeout() };

    let authority = Authority::new();
    let expired = |params: &mut CertificateParams| params.not_after = date_time_ymd(2020, 1, 1);
    let server = |host: &str| authority.server(host, &[], |_| {});
    let nothing = |_| async {};
    let expired = Receiver::start_tls(authority.server(NAME, &[], expired), nothing).await;
    let another = Receiver::start_tls(server("another.test"), nothing).await;
    let own = Receiver::start_tls(server(NAME), nothing).await;
    // What OpenSSL answers to a client with which it shares no cipher suite: the alert handshake_failure.
    let old = Receiver::start(|mut connection| async move {
        let _ = connection.write(&[0x15, 3, 3, 0, 2, 2, 40]).await;
        connection.hang().await;
    })
    .await;
    let https = |receiver: &Receiver| format!("https://{NAME}:{}/", receiver.address.port());

    let cases = [
        case(ErrorKind::Dns, long_timeout(), "http://unknown.test/".to_owned()),
        case(ErrorKind::Blocked, strict(), format!("http://{NAME}/")),
        case(ErrorKind::Blocked, strict(), "http://10.1.2.3/".to_owned()),
        case(ErrorKind::Blocked, elsewhere, format!("http://0.0.0.0:{}/", mute.address.port())),
        case(ErrorKind::Connect, long_timeout(), format!("http://{closed}/")),
        case(ErrorKind::Tls, long_timeout(), format!("https://{}/", plain.address)),
        case(ErrorKind::TlsExpired, authority.trusted(long_timeout()), https(&expired)),
        case(ErrorKind::TlsWrongHost, authority.trusted(long_timeout()), https(&another)),
        case(ErrorKind::TlsUnknownIssuer, long_timeout(), https(&own)),
        case(ErrorKind::TlsUnsupported, long_timeout(), https(&old)),
        Case {
            resolver: Arc::new(Silent),
            ..case(ErrorKind::TimeoutDns, config(), format!("http://{NAME}/"))
        },
        case(ErrorKind::TimeoutConnect, config(), format!("http://{full}/")),
        case(ErrorKind::TimeoutTls, config(), format!("https://{}/", hanging.address)),
        case(ErrorKind::TimeoutHeaders, config(), hanging.url("/")),
        case(ErrorKind::Reset, long_timeout(), mute.url("/")),
        case(ErrorKind::Protocol, long_timeout(), garbage.url("/")),
        case(ErrorKind::Proxy, through(&format!("http://{closed}")), "http://127.0.0.1:9/".to_owned()),
        case(ErrorKind::Proxy, through(&refusing.url("")), "http://127.0.0.1:9/".to_owned()),
    ];
    for Case { kind, config, resolver, url } in &cases {
        let client = Client::with_resolver(config.clone(), resolver.clone()).unwrap();
        let failure = failure_of(client.send(post(url)).await);
        assert_eq!(failure.kind, *kind, "{url}: {failure}");
    }
    // A `Status` comes with a response, an `Internal` failure needs no receiver, and an `Unprocessed` one a special one
    // (`a_receiver_that_refuses_everything_is_not_blamed`); an `Auth` needs authentication
    // (`without_a_token_nothing_is_sent_and_the_failure_says_why`), and a `Transform` failure is made before there is a request.
    let untried = [
        ErrorKind::Status,
        ErrorKind::Internal,
        ErrorKind::Unprocessed,
        ErrorKind::Auth,
        ErrorKind::Transform,
    ];
    let tried = |kind: &ErrorKind| cases.iter().any(|case| case.kind == *kind);
    assert!(
        ErrorKind::ALL.iter().all(|kind| tried(kind) != untried.contains(kind)),
        "a kind is missing from the cases"
    );
}
