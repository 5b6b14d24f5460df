use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use postrider_telemetry::{Program, PrometheusHandle, Readiness, listener, metric, prometheus};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

/// Returns the recorder of this process, whose upkeep runs on a runtime that outlives the tests.
fn handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            std::thread::spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
                let runtime = Box::leak(Box::new(runtime));
                let handle =
                    runtime.block_on(async { prometheus::install(Program::Whole, "0.0.0").unwrap() });
                std::thread::spawn(|| runtime.block_on(std::future::pending::<()>()));
                handle
            })
            .join()
            .unwrap()
        })
        .clone()
}

struct Served {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<()>,
}

async fn serve(readiness: Readiness) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel::<()>();
    let router = listener::routes(handle(), readiness);
    let ended = tokio::spawn(listener::serve(listener, router, async move {
        let _ = stopped.await;
    }));
    Served { address, stop, ended }
}

/// Sends a GET and returns the response's status, media type and body.
async fn get(address: std::net::SocketAddr, path: &str) -> (u16, String, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = hyper::Request::get(path).header("host", "telemetry").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let media = response.headers()["content-type"].to_str().unwrap().to_owned();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, media, String::from_utf8(body.to_vec()).unwrap())
}

#[tokio::test]
async fn a_condition_is_checked_besides_the_probe() {
    let taken = Arc::new(AtomicBool::new(false));
    let readiness = Readiness::always();
    let condition = Arc::clone(&taken);
    readiness.clone().require(move || {
        if condition.load(Ordering::SeqCst) { Err("all places are taken".to_owned()) } else { Ok(()) }
    });
    assert_eq!(readiness.check().await, Ok(()));
    taken.store(true, Ordering::SeqCst);
    assert_eq!(readiness.check().await, Err("all places are taken".to_owned()), "at once");
}

#[tokio::test]
async fn metrics_are_served_to_scrapers() {
    let served = serve(Readiness::always()).await;
    metrics::counter!(metric::LEASES_LOST).increment(3);
    let (status, media, body) = get(served.address, "/metrics").await;
    assert_eq!((status, media.as_str()), (200, "text/plain; version=0.0.4; charset=utf-8"));
    assert!(
        body.contains("# TYPE webhook_leases_lost_total counter\nwebhook_leases_lost_total 3\n"),
        "{body}"
    );
    assert!(body.contains("webhook_build_info{program=\"postrider\",version=\"0.0.0\"} 1\n"), "{body}");
    assert!(body.contains("process_open_fds "), "{body}");
}

#[tokio::test]
async fn healthz_is_always_ok_and_readyz_reports_the_probe() {
    let up = Arc::new(AtomicBool::new(false));
    let probed = Arc::clone(&up);
    let readiness = Readiness::new(Duration::from_secs(5), move || {
        let up = probed.load(Ordering::SeqCst);
        async move { if up { Ok(()) } else { Err("the database is unavailable".to_owned()) } }
    });
    let served = serve(readiness).await;
    let (status, media, body) = get(served.address, "/healthz").await;
    assert_eq!((status, media.as_str(), body.as_str()), (200, "application/json", r#"{"status":"ok"}"#));
    let (status, _, body) = get(served.address, "/readyz").await;
    assert_eq!(status, 503);
    assert_eq!(body, r#"{"reason":"the database is unavailable","status":"unready"}"#);

    up.store(true, Ordering::SeqCst);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    loop {
        let (status, _, body) = get(served.address, "/readyz").await;
        if status == 200 {
            assert_eq!(body, r#"{"status":"ready"}"#);
            break;
        }
        assert!(tokio::time::Instant::now() < deadline, "never ready: {body}");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_probe_that_hangs_counts_as_not_ready() {
    let served = serve(Readiness::new(Duration::from_millis(20), std::future::pending)).await;
    let (status, _, body) = get(served.address, "/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("no answer within 20ms"), "{body}");
}

#[tokio::test]
async fn the_listener_stops_after_the_shutdown_signal() {
    let served = serve(Readiness::always()).await;
    let (status, ..) = get(served.address, "/healthz").await;
    assert_eq!(status, 200);
    served.stop.send(()).unwrap();
    tokio::time::timeout(Duration::from_secs(10), served.ended).await.unwrap().unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "the port is closed");
}

/// Neither connections that send nothing nor those that send a part of a head keep a scraper out.
#[tokio::test]
async fn idle_connections_and_slow_heads_keep_no_scraper_out() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    let served = serve(Readiness::always()).await;
    let mut idle = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        if number % 2 == 0 {
            stream.write_all(b"GET /metrics HTTP/1.1\r\nhost:").await.unwrap();
        }
        idle.push(stream);
    }
    for path in ["/metrics", "/healthz", "/readyz"] {
        let answer = tokio::time::timeout(Duration::from_secs(10), get(served.address, path)).await;
        assert_eq!(answer.unwrap_or_else(|_| panic!("no answer to {path}")).0, 200);
    }
    // All but the newest connections have been closed.
    let old = idle.len() - listener::CONNECTIONS;
    for stream in &mut idle[..old] {
        let end = tokio::time::timeout(Duration::from_secs(10), stream.read(&mut [0; 16])).await;
        assert!(matches!(end.expect("the connection is closed"), Ok(0) | Err(_)));
    }
}

#[tokio::test]
async fn a_second_recorder_is_rejected() {
    drop(handle());
    assert!(prometheus::install(Program::Worker, "0.0.0").is_err());
}
