use std::time::Instant;

use opentelemetry::trace::{Span as _, Tracer as _, TracerProvider as _};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use super::*;

fn with(variables: &[(&str, &str)]) -> Result<Option<Otlp>, OtlpError> {
    Otlp::from_variables(|name| variables.iter().find(|(n, _)| *n == name).map(|(_, v)| (*v).to_owned()))
}

fn otlp(variables: &[(&str, &str)]) -> Otlp {
    with(variables).unwrap().unwrap()
}

#[test]
fn without_an_endpoint_there_is_no_export() {
    assert_eq!(with(&[]).unwrap(), None);
    assert_eq!(with(&[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")]).unwrap(), None);
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    assert_eq!(with(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap(), None);
    assert_eq!(with(&[endpoint, ("OTEL_TRACES_EXPORTER", "none")]).unwrap(), None);
}

#[test]
fn the_general_endpoint_gets_a_path_and_the_one_for_traces_does_not() {
    let base = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318/otlp/");
    assert_eq!(otlp(&[base]).endpoint, "http://c:4318/otlp/v1/traces");
    let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:4318/in");
    assert_eq!(otlp(&[base, own]).endpoint, "http://t:4318/in");
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    assert_eq!(otlp(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"), grpc]).endpoint, "http://c:4317");
}

#[test]
fn an_endpoint_without_scheme_is_https_unless_insecure() {
    let grpc = ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc");
    let bare = ("OTEL_EXPORTER_OTLP_ENDPOINT", "c:4317");
    assert_eq!(otlp(&[bare, grpc]).endpoint, "https://c:4317");
    assert_eq!(otlp(&[bare, grpc, ("OTEL_EXPORTER_OTLP_INSECURE", "true")]).endpoint, "http://c:4317");
}

#[test]
fn the_variables_for_traces_precede_the_general_ones() {
    let found = otlp(&[
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/protobuf"),
        ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "2500"),
    ]);
    assert_eq!((found.protocol, found.timeout), (Protocol::Grpc, Duration::from_millis(2500)));
}

#[test]
fn an_invalid_value_is_reported_with_its_variable() {
    let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
    let error = with(&[endpoint, ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "OTEL_EXPORTER_OTLP_PROTOCOL is `http/json`: use `grpc` or `http/protobuf`"
    );
    for wrong in ["soon", "0", "-1"] {
        let error = with(&[endpoint, ("OTEL_EXPORTER_OTLP_TIMEOUT", wrong)]).unwrap_err();
        assert!(error.to_string().contains("OTEL_EXPORTER_OTLP_TIMEOUT"), "{error}");
    }
}

#[test]
fn outside_a_runtime_the_exporter_fails_without_a_panic() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let otlp = Otlp { protocol, endpoint: "http://127.0.0.1:1".into(), timeout: DEFAULT_TIMEOUT };
        assert!(matches!(otlp.provider("test"), Err(OtlpError::Runtime(_))), "{protocol:?}");
    }
}

/// Returns the names of the spans in an export, and the service names of their resources.
fn names_and_services(request: &ExportTraceServiceRequest) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for spans in &request.resource_spans {
        let service = spans.resource.as_ref().and_then(|resource| {
            resource.attributes.iter().find(|kv| kv.key == "service.name").map(|kv| format!("{:?}", kv.value))
        });
        for span in spans.scope_spans.iter().flat_map(|scope| &scope.spans) {
            found.push((span.name.clone(), service.clone().unwrap_or_default()));
        }
    }
    found
}

/// Exports a span to `endpoint` and returns the spans that arrived at `received`.
async fn export(
    protocol: Protocol,
    endpoint: String,
    mut received: mpsc::UnboundedReceiver<ExportTraceServiceRequest>,
) -> Vec<(String, String)> {
    let otlp = Otlp { protocol, endpoint, timeout: Duration::from_secs(5) };
    let provider = otlp.provider("postrider-test").unwrap();
    provider.tracer("test").start("deliver").end();
    tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(Duration::from_secs(5)))
        .await
        .unwrap()
        .unwrap();
    names_and_services(&received.try_recv().expect("the span arrived before the shutdown ended"))
}

struct Collector(mpsc::UnboundedSender<ExportTraceServiceRequest>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: tonic::Request<ExportTraceServiceRequest>,
    ) -> Result<tonic::Response<ExportTraceServiceResponse>, tonic::Status> {
        self.0.send(request.into_inner()).map_err(|_| tonic::Status::unavailable("closed"))?;
        Ok(tonic::Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_exported_over_grpc() {
    let (sender, received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(Collector(sender)));
    let server =
        tokio::spawn(server.serve_with_incoming(tonic::transport::server::TcpIncoming::from(listener)));
    let spans = export(Protocol::Grpc, format!("http://{address}"), received).await;
    server.abort();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].0, "deliver");
    assert!(spans[0].1.contains("postrider-test"), "{spans:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn spans_are_exported_over_http() {
    let (sender, received) = mpsc::unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let take = axum::routing::post(move |body: Bytes| async move {
        sender.send(ExportTraceServiceRequest::decode(body).unwrap()).unwrap();
    });
    let server = axum::serve(listener, axum::Router::new().route("/v1/traces", take));
    let server = tokio::spawn(server.into_future());
    let spans = export(Protocol::HttpProtobuf, format!("http://{address}/v1/traces"), received).await;
    server.abort();
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].0, "deliver");
    assert!(spans[0].1.contains("postrider-test"), "{spans:?}");
}

/// The collector accepts the connection and never responds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_collector_does_not_delay_the_shutdown() {
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let endpoint = format!("http://{}/", listener.local_addr().unwrap());
        let provider =
            Otlp { protocol, endpoint, timeout: Duration::from_secs(30) }.provider("test").unwrap();
        provider.tracer("test").start("deliver").end();
        let began = Instant::now();
        let limit = Duration::from_millis(300);
        let ended = tokio::task::spawn_blocking(move || provider.shutdown_with_timeout(limit)).await.unwrap();
        assert!(ended.is_err(), "{protocol:?}");
        assert!(began.elapsed() < Duration::from_secs(5), "{protocol:?} took {:?}", began.elapsed());
    }
}
