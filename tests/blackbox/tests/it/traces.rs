//! Traces: from the request that dispatched an event to the requests that delivered it.

use std::{collections::BTreeSet, time::Duration};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{AnyValue, KeyValue, any_value::Value as Any},
    resource::v1::Resource,
    trace::v1::{Span, Status, span::SpanKind, status::StatusCode},
};
use postrider_testkit::{Behaviour, Receiver, eventually};
use prost::Message as _;
use serde_json::json;

use crate::client::{dispatch, idle, subscribe, subscribe_with, text};
use crate::deployment::{DEADLINE, Deployment};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CALLER: &str = "00f067aa0ba902b7";

/// Values that no span may contain.
const CANARIES: [&str; 4] = ["canary-data", "canary-secret", "canary-query", "canary-header"];

/// A span, with the program that exported it.
#[derive(Clone, Debug)]
struct ExportedSpan {
    service: String,
    span: Span,
}

impl ExportedSpan {
    fn trace(&self) -> String {
        hex::encode(&self.span.trace_id)
    }

    /// The value of an attribute, as text.
    fn attribute(&self, key: &str) -> Option<String> {
        let KeyValue { value, .. } = self.span.attributes.iter().find(|attribute| attribute.key == key)?;
        Some(written(value.as_ref()?))
    }

    fn is_linked_to(&self, other: &Self) -> bool {
        let ids = (&other.span.trace_id, &other.span.span_id);
        self.span.links.iter().any(|link| (&link.trace_id, &link.span_id) == ids)
    }
}

fn written(value: &AnyValue) -> String {
    match &value.value {
        Some(Any::StringValue(text)) => text.clone(),
        Some(Any::IntValue(number)) => number.to_string(),
        other => format!("{other:?}"),
    }
}

/// The spans exported to the collector so far; the collector is an ordinary receiver.
fn exported(collector: &Receiver) -> Vec<ExportedSpan> {
    let mut spans = Vec::new();
    for request in collector.requests_to("/v1/traces") {
        assert_eq!(request.header("content-type"), Some("application/x-protobuf"));
        let export = ExportTraceServiceRequest::decode(request.body.as_slice()).expect("OTLP");
        for resource in export.resource_spans {
            let service = service(resource.resource.as_ref());
            let of_resource = resource.scope_spans.into_iter().flat_map(|scope| scope.spans);
            spans.extend(of_resource.map(|span| ExportedSpan { service: service.clone(), span }));
        }
    }
    spans
}

fn service(resource: Option<&Resource>) -> String {
    let attributes = resource.map(|resource| resource.attributes.as_slice()).unwrap_or_default();
    let name = attributes.iter().find(|attribute| attribute.key == "service.name");
    name.and_then(|name| name.value.as_ref()).map(written).unwrap_or_default()
}

fn named<'a>(spans: &'a [ExportedSpan], name: &str) -> Vec<&'a ExportedSpan> {
    spans.iter().filter(|spans| spans.span.name == name).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_is_one_trace() {
    let collector = Receiver::start().await;
    let endpoint = collector.url("");
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "100"),
        ("POSTRIDER_RETRY_SCHEDULE", "50ms"),
    ];
    let deployment = Deployment::with(1, &settings).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    receiver.on("/flaky", Behaviour::sequence([500, 200]));
    for path in ["/good", "/flaky"] {
        let url = receiver.url(&format!("{path}?key=canary-query"));
        let headers = json!({"x-plain": "canary-header"});
        subscribe_with(
            api,
            json!({"url": url, "events": ["*"], "secret": "canary-secret", "headers": headers}),
        )
        .await;
    }
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let headers = [("content-type", "application/json"), ("traceparent", traceparent.as_str())];
    let body = json!({"event": "order.created", "data": {"card": "canary-data"}}).to_string();
    let answer = api.send(http::Method::POST, "/v1/events", &headers, body).await;
    assert_eq!(answer.status, 202, "{}", answer.text());
    idle(api).await;
    deployment.stop().await;

    // The programs export their last spans as they stop.
    let spans = exported(&collector);
    let services: BTreeSet<_> = spans.iter().map(|spans| spans.service.as_str()).collect();
    assert_eq!(services, BTreeSet::from(["postrider-server", "postrider-worker"]));
    let of_the_trace: Vec<_> = spans.iter().filter(|spans| spans.trace() == TRACE).cloned().collect();

    let [request] = named(&of_the_trace, "POST /v1/events")[..] else {
        panic!("one request: {of_the_trace:?}")
    };
    assert_eq!(
        (hex::encode(&request.span.parent_span_id), request.span.kind()),
        (CALLER.to_owned(), SpanKind::Server)
    );
    assert_eq!(request.attribute("http.response.status_code").as_deref(), Some("202"));

    let [dispatch] = named(&of_the_trace, "dispatch")[..] else { panic!("one dispatch: {of_the_trace:?}") };
    assert_eq!(dispatch.span.parent_span_id, request.span.span_id);
    assert_eq!(dispatch.attribute("postrider.events").as_deref(), Some("1"));
    assert_eq!(dispatch.attribute("postrider.subscribers_found").as_deref(), Some("2"));

    let delivers = named(&of_the_trace, "deliver");
    assert_eq!(delivers.len(), 3, "{delivers:?}");
    for deliver in &delivers {
        assert_eq!(deliver.service, "postrider-worker");
        assert_eq!(
            deliver.span.parent_span_id, dispatch.span.span_id,
            "its parent is the span that caused it"
        );
        assert!(deliver.is_linked_to(dispatch), "{deliver:?}");
        assert_deliver(deliver, text(&answer.json()["id"]));
    }
    let count = |outcome: &str, status: &str| {
        let is = |deliver: &&&ExportedSpan| {
            deliver.attribute("postrider.outcome").as_deref() == Some(outcome)
                && deliver.attribute("http.response.status_code").as_deref() == Some(status)
        };
        delivers.iter().filter(is).count()
    };
    assert_eq!((count("succeeded", "200"), count("pending", "500")), (2, 1), "{delivers:?}");

    // Claims and records serve many jobs at once: they are traces of their own with links.
    for name in ["queue.claim", "record"] {
        let linked: Vec<_> = named(&spans, name)
            .into_iter()
            .filter(|spans| spans.span.links.iter().any(|link| hex::encode(&link.trace_id) == TRACE))
            .collect();
        assert!(!linked.is_empty(), "no {name} links to the trace: {:?}", named(&spans, name));
    }
    for deliver in &delivers {
        assert!(
            named(&spans, "record").iter().any(|record| record.is_linked_to(deliver)),
            "{deliver:?} is not recorded"
        );
    }

    // The receivers get the span of the attempt.
    let attempts: BTreeSet<_> = delivers
        .iter()
        .map(|deliver| format!("00-{TRACE}-{}-01", hex::encode(&deliver.span.span_id)))
        .collect();
    let requests = receiver.requests();
    let told_to: BTreeSet<_> =
        requests.iter().map(|request| request.header("traceparent").unwrap().to_owned()).collect();
    assert_eq!((requests.len(), told_to), (3, attempts));

    let everything = format!("{spans:?}");
    for canary in CANARIES {
        assert!(!everything.contains(canary), "{canary} is in a span");
        // Nor in the exported bytes.
        for request in collector.requests() {
            assert!(
                !request.body.windows(canary.len()).any(|window| window == canary.as_bytes()),
                "{canary}"
            );
        }
    }
}

fn assert_deliver(deliver: &ExportedSpan, event: &str) {
    assert_eq!(deliver.span.kind(), SpanKind::Client);
    let attribute = |key: &str| deliver.attribute(key).unwrap_or_else(|| panic!("no {key} in {deliver:?}"));
    assert_eq!(attribute("http.request.method"), "POST");
    assert_eq!(attribute("server.address"), "127.0.0.1");
    assert!(attribute("server.port").parse::<u16>().is_ok());
    assert!(
        attribute("url.full").ends_with("/good") || attribute("url.full").ends_with("/flaky"),
        "{deliver:?}"
    );
    assert_eq!(
        (attribute("postrider.event.id"), attribute("postrider.tenant.id")),
        (event.to_owned(), "default".to_owned())
    );
    assert!(attribute("postrider.delivery.id").starts_with("dlv_"));
    assert!(attribute("postrider.subscriber.id").starts_with("sub_"));
    let number: u32 = attribute("postrider.attempt.number").parse().unwrap();
    let failed = attribute("http.response.status_code") == "500";
    assert_eq!(failed, number == 1 && attribute("url.full").ends_with("/flaky"));
    assert_eq!(deliver.attribute("http.request.resend_count"), Some((number - 1).to_string()));
    let status = deliver.span.status.as_ref().map_or(StatusCode::Unset, Status::code);
    assert_eq!(status == StatusCode::Error, failed, "{deliver:?}");
    assert_eq!(deliver.attribute("error.type").is_some(), failed);
    let delay = deliver.attribute("postrider.retry.delay_ms").map(|delay| delay.parse::<u64>().unwrap());
    assert_eq!(delay.is_some_and(|delay| (50..=55).contains(&delay)), failed, "{delay:?}");
}

/// Without an exporter, an incoming trace is still passed to the receiver; without an incoming trace, one begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_is_passed_on_by_programs_that_export_none() {
    let deployment = Deployment::with(1, &[("POSTRIDER_LOG", "info,postrider_worker=debug")]).await;
    let api = &deployment.api;
    let receiver = Receiver::start().await;
    subscribe(api, &receiver.url("/")).await;
    let traceparent = format!("00-{TRACE}-{CALLER}-01");
    let traced = api.clone().with_header("traceparent", &traceparent);
    dispatch(&traced, "a").await;
    receiver.wait_for(1, DEADLINE).await;
    dispatch(api, "a").await;
    let requests = receiver.wait_for(2, DEADLINE).await;
    let sent = requests[0].header("traceparent").unwrap();
    assert!(
        sent.starts_with(&format!("00-{TRACE}-")) && sent.ends_with("-01") && sent != traceparent,
        "{sent}"
    );
    let new = requests[1].header("traceparent").unwrap();
    assert!(!new.contains(TRACE) && new.ends_with("-00"), "{new}");

    // The log line of an attempt contains all of its ids.
    let line = eventually(DEADLINE, || async {
        let output = deployment.workers[0].output();
        output.lines().find(|line| line.contains(TRACE)).map(str::to_owned)
    })
    .await;
    for part in [
        "DEBUG",
        &format!("trace_id=\"{TRACE}\""),
        "tenant=default",
        "event=evt_",
        "delivery=dlv_",
        "subscriber=sub_",
        "outcome=\"succeeded\"",
    ] {
        assert!(line.contains(part), "no {part} in {line}");
    }
    deployment.stop().await;
}

/// A collector that never answers delays neither deliveries nor shutdown.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hanging_collector_delays_nothing() {
    let collector = Receiver::start().await;
    collector.on("/v1/traces", Behaviour::Hang);
    let endpoint = collector.url("");
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    let mut deployment = Deployment::with(1, &settings).await;
    let api = deployment.api.clone();
    let receiver = Receiver::start().await;
    subscribe(&api, &receiver.url("/")).await;
    dispatch(&api, "a").await;
    receiver.wait_for(1, DEADLINE).await;
    idle(&api).await;
    eventually(DEADLINE, || async { (!collector.requests().is_empty()).then_some(()) }).await;
    let asked = std::time::Instant::now();
    deployment.workers.remove(0).stop().await;
    deployment.server.stop().await;
    // Each program waits up to 2 s for its last spans, although its grace period is 30 s.
    assert!(asked.elapsed() < Duration::from_secs(9), "{:?}", asked.elapsed());
}
