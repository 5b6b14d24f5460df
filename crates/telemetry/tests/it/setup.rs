use std::time::Duration;

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::Span;
use postrider_telemetry::context::{self, TraceParent};
use postrider_telemetry::{Config, Error, Otlp, Program, Protocol, init};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

const INCOMING: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const DISPATCHED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// One test for everything, because a process can be set up only once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_set_up_once_and_exports_its_spans() {
    let wrong = Config { log_filter: "postrider=loud".into(), ..Config::new(Program::Worker) };
    let error = init(&wrong).unwrap_err();
    assert!(matches!(error, Error::Filter { .. }) && error.to_string().contains("postrider=loud"), "{error}");

    let (sender, mut received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let take = axum::routing::post(move |body: axum::body::Bytes| async move {
        sender.send(ExportTraceServiceRequest::decode(body).unwrap()).unwrap();
    });
    tokio::spawn(axum::serve(listener, axum::Router::new().route("/v1/traces", take)).into_future());

    assert_eq!((context::current_traceparent(), context::current_trace_id()), (None, None));
    let otlp = Otlp { protocol: Protocol::HttpProtobuf, endpoint, timeout: Duration::from_secs(10) };
    // The log filter does not affect what is exported.
    let config = Config { log_filter: "off".into(), otlp: Some(otlp), ..Config::new(Program::Worker) };
    let guard = init(&config).unwrap();
    assert!(matches!(init(&config), Err(Error::Installed(_))));

    let deliver = tracing::debug_span!(target: "postrider_worker", "deliver");
    context::set_parent(&deliver, INCOMING);
    context::add_link(&deliver, DISPATCHED);
    context::add_link(&deliver, "nonsense");
    let sent = deliver.in_scope(|| {
        tracing::debug_span!(target: "h2", "frame").in_scope(|| ());
        assert_eq!(context::current_trace_id().as_deref(), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
        context::traceparent_or_new(None, || panic!("there is a current context"))
    });
    drop(deliver);
    let orphan = tracing::info_span!(target: "postrider_worker", "queue.claim");
    context::set_parent(&orphan, "nonsense");
    drop(orphan);
    guard.shutdown(Duration::from_secs(2)).await;

    let mut spans: Vec<Span> = Vec::new();
    while let Ok(request) = received.try_recv() {
        spans.extend(request.resource_spans.into_iter().flat_map(|r| r.scope_spans).flat_map(|s| s.spans));
    }
    let mut names: Vec<_> = spans.iter().map(|span| span.name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["deliver", "queue.claim"], "only the spans of Postrider");
    let deliver = spans.iter().find(|span| span.name == "deliver").unwrap();
    let sent: TraceParent = sent.parse().unwrap();
    assert!(sent.is_sampled());
    assert_eq!(sent.to_string(), format!("00-{}-{}-01", hex(&deliver.trace_id), hex(&deliver.span_id)));
    assert_eq!(hex(&deliver.trace_id), "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!(hex(&deliver.parent_span_id), "00f067aa0ba902b7");
    let links: Vec<_> = deliver.links.iter().map(|link| hex(&link.trace_id)).collect();
    assert_eq!(links, ["0af7651916cd43dd8448eb211c80319c"]);
    let orphan = spans.iter().find(|span| span.name == "queue.claim").unwrap();
    assert!(orphan.parent_span_id.is_empty(), "an invalid context starts a new trace");
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
