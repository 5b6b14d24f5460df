//! One claimed job: a request if it is time for one, and what becomes of its delivery.

use std::time::Duration;

use postrider_core::{Clock as _, DeadReason, ErrorKind, Random as _, Verdict};
use postrider_delivery::{Sent, Webhook};
use postrider_queue::{ClaimedJob, Finish};
use postrider_store::attempt::DeliveryRef;
use postrider_store::attempt::{Attempt, End, Outcome, Response};
use postrider_store::loading::{Loaded, Work};
use postrider_telemetry::context::{self, TraceParent};
use postrider_telemetry::{metric, span};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug_span, field};

use crate::engine::Shared;
use crate::point::{during, point};
use crate::recorder::Ended;

/// Works on a claimed job until its end is known, or until it is to be given up.
pub(crate) async fn work(
    shared: &Shared,
    job: ClaimedJob,
    loaded: Loaded,
    give_up: &CancellationToken,
) -> Ended {
    let mut traced = None;
    let (delivery, (attempt, end)) = match loaded {
        Loaded::Nothing => return Ended::Job(job.lease, Finish::Done),
        Loaded::NotDue(delay) => return Ended::Job(job.lease, Finish::RetryIn(delay)),
        Loaded::Inactive(delivery, end) => (delivery, (None, end)),
        Loaded::Unreadable(delivery, error) => {
            tracing::error!(
                error = &error as &dyn std::error::Error,
                delivery = %delivery.id,
                subscriber = %delivery.subscriber,
                tenant = %delivery.tenant,
                "a delivery cannot be read; is POSTRIDER_SECRET_KEY the one it was stored under?"
            );
            let made = unreadable(shared, &delivery);
            (delivery, made)
        }
        Loaded::Deliver(work) => {
            let span = span(&work, job.trace.as_deref());
            traced = span.in_scope(TraceParent::current);
            let made = tokio::select! {
                made = deliver(shared, &work, job.trace.as_deref()).instrument(span) => made,
                // Given back unspent, or already another worker's: then this changes nothing.
                () = give_up.cancelled() => return Ended::Job(job.lease, Finish::Release),
            };
            (work.delivery, made)
        }
    };
    Ended::Delivery(Box::new(Outcome { lease: job.lease, delivery, attempt, end }), traced)
}

/// Follows the semantic conventions for HTTP client spans. No query, header or body is in it.
fn span(work: &Work, trace: Option<&str>) -> Span {
    let delivery = &work.delivery;
    let span = debug_span!(
        "deliver",
        { span::KIND } = "client",
        { span::STATUS_CODE } = field::Empty,
        { span::HTTP_REQUEST_METHOD } = "POST",
        { span::SERVER_ADDRESS } = work.recipient.url.host(),
        { span::SERVER_PORT } = work.recipient.url.port(),
        { span::URL_FULL } = work.recipient.url.redacted(),
        { span::HTTP_RESPONSE_STATUS_CODE } = field::Empty,
        { span::HTTP_REQUEST_RESEND_COUNT } = delivery.attempts,
        { span::ERROR_TYPE } = field::Empty,
        { span::TENANT_ID } = delivery.tenant.as_str(),
        { span::EVENT_ID } = %delivery.event_id,
        { span::EVENT_TYPE } = delivery.event_type.as_str(),
        { span::DELIVERY_ID } = %delivery.id,
        { span::SUBSCRIBER_ID } = %delivery.subscriber,
        { span::ATTEMPT_NUMBER } = delivery.attempts + 1,
        { span::OUTCOME } = field::Empty,
        { span::RETRY_DELAY } = field::Empty,
    );
    if let Some(trace) = trace {
        // One story: the attempt is part of the trace of its dispatch, and says which span caused it.
        context::set_parent(&span, trace);
        context::add_link(&span, trace);
    }
    span
}

async fn deliver(shared: &Shared, work: &Work, trace: Option<&str>) -> (Option<Attempt>, End) {
    let ids = shared.store.ids();
    let started_at = ids.clock().now();
    let traceparent = context::traceparent_or_new(trace, || {
        let mut random = [0; 24];
        ids.random().fill(&mut random);
        random
    });
    let delivery = &work.delivery;
    let webhook = Webhook {
        event_id: delivery.event_id,
        event_type: &delivery.event_type,
        agent_id: &work.agent_id,
        body: work.body.clone(),
        timestamp: started_at,
        signer: &work.recipient.signer,
        headers: &work.recipient.headers,
        traceparent: Some(&traceparent),
    };
    if delivery.attempts == 0 {
        let latency = started_at.since(delivery.created_at);
        metrics::histogram!(metric::DELIVERY_LATENCY).record(latency.as_secs_f64());
    }
    let _counted = Counted::new();
    let sent = match webhook.request(work.recipient.url.clone(), work.recipient.policy.timeout()) {
        Ok(request) => during("sent", shared.client.send(request)).await,
        Err(failure) => Sent { duration: Duration::ZERO, result: Err(failure) },
    };
    point("answered");
    metrics::histogram!(metric::DELIVERY_DURATION).record(sent.duration.as_secs_f64());

    let gone = sent.result.as_ref().is_ok_and(postrider_delivery::Response::is_gone);
    let retry_after = sent.result.as_ref().ok().and_then(|response| response.retry_delay(ids.clock().now()));
    let attempt = attempt(started_at, sent);
    let end = if attempt.verdict.is_success() {
        End::Succeeded
    } else if gone {
        End::Dead(DeadReason::Gone)
    } else {
        again(shared, work, retry_after)
    };
    log_attempt(work, &attempt, end, &traceparent);
    (Some(attempt), end)
}

/// When the next attempt is due, or that there is none.
fn again(shared: &Shared, work: &Work, retry_after: Option<Duration>) -> End {
    let delivery = &work.delivery;
    let failed = (delivery.attempts + 1).saturating_sub(delivery.round_start);
    let policy = work.recipient.policy.retry(&shared.config.retry);
    match policy.delay_after(failed, retry_after, &**shared.store.ids().random()) {
        Some(delay) => End::RetryIn(delay),
        None => End::Dead(DeadReason::AttemptsUsedUp),
    }
}

fn attempt(started_at: postrider_core::Timestamp, sent: Sent) -> Attempt {
    let verdict = sent.verdict();
    let response = sent.result.ok().map(|response| Response {
        status: response.status,
        headers: response.headers,
        body: response.body,
        truncated: response.truncated,
    });
    Attempt { started_at, duration: sent.duration, response, verdict }
}

/// Nothing of it could be sent; it is tried again like any other, in case the key comes back.
fn unreadable(shared: &Shared, delivery: &DeliveryRef) -> (Option<Attempt>, End) {
    let detail = "Postrider could not read what it stores of this delivery".to_owned();
    let attempt = Attempt {
        started_at: shared.store.ids().clock().now(),
        duration: Duration::ZERO,
        response: None,
        verdict: Verdict::failure(ErrorKind::Internal, detail),
    };
    let failed = (delivery.attempts + 1).saturating_sub(delivery.round_start);
    let delay = shared.config.retry.delay_after(failed, None, &**shared.store.ids().random());
    (Some(attempt), delay.map_or(End::Dead(DeadReason::AttemptsUsedUp), End::RetryIn))
}

fn log_attempt(work: &Work, attempt: &Attempt, end: End, traceparent: &str) {
    let delivery = &work.delivery;
    let status = attempt.response.as_ref().map(|response| response.status);
    let error = attempt.verdict.error_kind();
    let delay = if let End::RetryIn(delay) = end { Some(delay) } else { None };
    let span = Span::current();
    span.record(span::OUTCOME, end.status().as_str());
    if let Some(status) = status {
        span.record(span::HTTP_RESPONSE_STATUS_CODE, status);
    }
    if let Some(error) = error {
        span.record(span::ERROR_TYPE, error.as_str());
        span.record(span::STATUS_CODE, "ERROR");
    }
    if let Some(delay) = delay {
        span.record(span::RETRY_DELAY, u64::try_from(delay.as_millis()).unwrap_or(u64::MAX));
    }
    tracing::debug!(
        // The one that the receiver was told of, also where none is exported.
        trace_id = traceparent.get(3..35),
        tenant = %delivery.tenant,
        event = %delivery.event_id,
        delivery = %delivery.id,
        subscriber = %delivery.subscriber,
        attempt = delivery.attempts + 1,
        status,
        error = error.map(ErrorKind::as_str),
        outcome = end.status().as_str(),
        ?delay,
        "attempt"
    );
}

/// One request in flight, for as long as this lives.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!(metric::IN_FLIGHT).increment(1.0);
        Self
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!(metric::IN_FLIGHT).decrement(1.0);
    }
}
