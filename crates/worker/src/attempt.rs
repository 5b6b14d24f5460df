//! One claimed job: a request if one is due, and what becomes of its delivery.

use std::time::{Duration, Instant};

use bytes::Bytes;
use postrider_core::{
    Clock as _, CustomHeaders, DeadReason, ErrorKind, Random as _, Timestamp, Verdict, chain,
};
use postrider_delivery::{Encoded, LocalTrouble, Request, Sent, Webhook};
use postrider_queue::{ClaimedJob, Finish, Lease};
use postrider_shape::{Event, ShapeError, Shaped, Wanted};
use postrider_store::attempt::{Attempt, DeliveryRef, End, Outcome, Response};
use postrider_store::exchange::SentRequest;
use postrider_store::loading::{Body, Loaded, Work};
use postrider_store::tenants::EgressProxy;
use postrider_telemetry::context::{self, TraceParent};
use postrider_telemetry::{metric, span};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, Span, debug_span, field};

use crate::completion::Completion;
use crate::exchange;
use crate::in_flight::RequestPermit;
use crate::payloads::{Refused, Requested};
use crate::point::{during, point};
use crate::shared::Shared;
use crate::transport;
use crate::trouble;

/// A job that has waited for its body or its turn for longer than this is loaded again.
const STALE: Duration = Duration::from_secs(1);

/// Runs a claimed job until its completion is known, or until `cancel`, which gives the job back to the queue. Returns also
/// the right to make the request, if it made one.
pub(crate) async fn run<'a>(
    shared: &'a Shared,
    job: ClaimedJob,
    loaded: Loaded,
    cancel: &CancellationToken,
) -> (Completion, Option<RequestPermit<'a>>) {
    let lease = job.lease;
    let obtained = tokio::select! {
        obtained = obtain(shared, &job, loaded) => obtained,
        () = cancel.cancelled() => Obtained::Instead(Finish::Release),
    };
    match obtained {
        Obtained::Ready(loaded, body, permit) => (complete(shared, job, loaded, body, cancel).await, permit),
        Obtained::Instead(finish) => (Completion::Job { lease, finish }, None),
    }
}

async fn complete(
    shared: &Shared,
    job: ClaimedJob,
    loaded: Loaded,
    body: Bytes,
    cancel: &CancellationToken,
) -> Completion {
    let lease = job.lease;
    let mut trace = None;
    let (delivery, (attempt, end)) = match loaded {
        Loaded::Nothing => return Completion::Job { lease, finish: Finish::Done },
        Loaded::NotDue(delay) => return Completion::Job { lease, finish: Finish::RetryIn(delay) },
        Loaded::Inactive(delivery, end) => (delivery, (None, end)),
        Loaded::PayloadGone(delivery) => (delivery, (None, End::Cancelled)),
        Loaded::Unreadable(delivery, error) => {
            tracing::error!(
                error = %chain(&*error),
                delivery = %delivery.id,
                subscriber = %delivery.subscriber,
                tenant = %delivery.tenant,
                "stored delivery could not be read; if it could not be decrypted, check that the secret key is the one \
                 it was stored under"
            );
            let made = unreadable(shared, &delivery);
            (delivery, made)
        }
        Loaded::Deliver(work) => {
            let span = span(&work, job.trace.as_deref());
            trace = span.in_scope(TraceParent::current);
            let made = tokio::select! {
                made = deliver(shared, &work, body, job.trace.as_deref()).instrument(span) => made,
                // If another worker has the job by now, the release changes nothing.
                () = cancel.cancelled() => return Completion::Job { lease, finish: Finish::Release },
            };
            match made {
                Ok(made) => (work.delivery, made),
                Err(Unsent::TenantsProxy) => {
                    shared.proxies.unreachable(&work.delivery.tenant);
                    return Completion::Job { lease, finish: Finish::RetryIn(trouble::PROXY_RETRY_IN) };
                }
                Err(Unsent::Plugin | Unsent::Database) => {
                    return Completion::Job { lease, finish: Finish::RetryIn(trouble::RETRY_IN) };
                }
                Err(Unsent::Machine(trouble)) => {
                    let concurrency = shared.config.concurrency.get() as usize;
                    let in_flight = concurrency.saturating_sub(shared.slots.available_permits());
                    shared.trouble.note(trouble, in_flight, concurrency);
                    return Completion::Job { lease, finish: Finish::RetryIn(trouble::RETRY_IN) };
                }
            }
        }
    };
    Completion::Delivery { outcome: Box::new(Outcome { lease, delivery, attempt, end }), trace }
}

/// What a job needs, or what becomes of it instead.
enum Obtained<'a> {
    /// What to do, and the body to send and the right to send it if it is a request.
    Ready(Loaded, Bytes, Option<RequestPermit<'a>>),
    Instead(Finish),
}

/// Obtains the body of a loaded delivery, and the right to send it. A large body may have to wait until there is room for
/// it, and a job that was claimed ahead until another one of its lane has ended.
async fn obtain<'a>(shared: &'a Shared, job: &ClaimedJob, loaded: Loaded) -> Obtained<'a> {
    let Loaded::Deliver(work) = &loaded else { return Obtained::Ready(loaded, Bytes::new(), None) };
    let started = Instant::now();
    let body = match &work.body {
        Body::Loaded(body) => Ok(body.clone()),
        Body::Large(size) => {
            match shared.payloads.request(&work.delivery.tenant, work.delivery.event_id, *size) {
                Requested::Held(body) => Ok(body),
                Requested::Coming(arrival) => arrival.arrived().await,
                Requested::Crowded(delay) => return Obtained::Instead(Finish::RetryIn(delay)),
            }
        }
    };
    let body = match body {
        Ok(body) => body,
        // The next load decides what happens to it.
        Err(Refused::Gone) => return Obtained::Instead(Finish::Release),
        Err(Refused::Unreadable(error)) => {
            let Loaded::Deliver(work) = loaded else { return Obtained::Instead(Finish::Release) };
            return Obtained::Ready(Loaded::Unreadable(work.delivery, error), Bytes::new(), None);
        }
    };
    let Some(permit) = shared.in_flight.request(job.lease.lane).await else {
        return Obtained::Instead(Finish::Release);
    };
    let waited = started.elapsed();
    if waited < STALE {
        return Obtained::Ready(loaded, body, Some(permit));
    }
    // A lease that could not be extended may have been lost: another worker would be making the same request by now.
    if waited >= shared.config.lease / 3 && !holds(shared, job.lease).await {
        return Obtained::Instead(Finish::Release);
    }
    // The delivery may have been cancelled or its subscriber changed in the meantime.
    match shared.store.database().answered(shared.store.load(std::slice::from_ref(job))).await {
        Ok(mut loaded) => Obtained::Ready(loaded.pop().unwrap_or(Loaded::Nothing), body, Some(permit)),
        Err(error) => {
            tracing::warn!(error = %chain(&error), "claimed job not loaded again; giving it back to the queue");
            Obtained::Instead(Finish::Release)
        }
    }
}

/// Extends a lease, and returns whether it was still valid. If the database does not say, it may not be.
async fn holds(shared: &Shared, lease: Lease) -> bool {
    let extending = shared.store.queue().extend(std::slice::from_ref(&lease), shared.config.lease);
    matches!(shared.store.database().answered(extending).await, Ok(held) if held.contains(&lease.job))
}

/// A span after the semantic conventions for HTTP clients. It has no query, header or body.
fn span(work: &Work, trace: Option<&str>) -> Span {
    let delivery = &work.delivery;
    let span = debug_span!(
        "deliver",
        { span::KIND } = "client",
        { span::STATUS_CODE } = field::Empty,
        { span::HTTP_REQUEST_METHOD } = work.recipient.policy.method().as_str(),
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
        // The attempt is part of the trace of its dispatch, and links to the span that caused it.
        context::set_parent(&span, trace);
        context::add_link(&span, trace);
    }
    span
}

/// Why a request could not be made, for which no receiver is to blame.
enum Unsent {
    /// This machine lacks something.
    Machine(LocalTrouble),
    /// The egress proxy of the tenant cannot be reached, or read. That is no reason to send less for others.
    TenantsProxy,
    /// The subscriber's plugin cannot be loaded.
    Plugin,
    /// The receiver is inside Postrider, and the database is unavailable.
    Database,
}

/// Makes an attempt. Fails if this machine could not make the request, which is then no attempt.
async fn deliver(
    shared: &Shared,
    work: &Work,
    body: Bytes,
    trace: Option<&str>,
) -> Result<(Option<Attempt>, End), Unsent> {
    let ids = shared.store.ids();
    // Both clocks, this one first: if the process is stopped in between, the attempt is recorded as too long, and not as
    // ended before its request was sent.
    let began = Instant::now();
    let started_at = ids.clock().now();
    let traceparent = context::traceparent_or_new(trace, || {
        let mut random = [0; 24];
        ids.random().fill(&mut random);
        random
    });
    let delivery = &work.delivery;
    let (made, headers) = match shaped(shared, work, body).await {
        Ok(made) => made,
        Err(error @ ShapeError::Envelope(_)) => {
            tracing::error!(
                error = %chain(&error), delivery = %delivery.id, subscriber = %delivery.subscriber,
                tenant = %delivery.tenant, "stored event could not be formatted"
            );
            return Ok(unreadable(shared, delivery));
        }
        Err(error @ ShapeError::Unavailable(_)) => {
            tracing::debug!(error = %chain(&error), delivery = %delivery.id, "delivery waits for its plugin");
            return Err(Unsent::Plugin);
        }
        Err(error) => {
            metrics::counter!(metric::TRANSFORM_FAILURES).increment(1);
            let attempt = Attempt {
                started_at,
                duration: began.elapsed(),
                response: None,
                verdict: Verdict::failure(ErrorKind::Transform, chain(&error).to_string()),
                exchange: None,
            };
            let end = retry_or_dead(shared, work, None);
            log_attempt(work, &attempt, end, &traceparent);
            return Ok((Some(attempt), end));
        }
    };
    let Shaped { body, content_type, headers: content_headers, transform, own_headers: _ } = made;
    let policy = &work.recipient.policy;
    let webhook = Webhook {
        method: policy.method(),
        event_id: delivery.event_id,
        event_type: &delivery.event_type,
        agent_id: &work.agent_id,
        body: Encoded::for_policy(policy, body).await,
        content_type,
        content_headers: &content_headers,
        timestamp: started_at,
        signer: &work.recipient.signer,
        headers: headers.as_ref().unwrap_or(&work.recipient.headers),
        traceparent: Some(&traceparent),
    };
    let _in_flight = InFlightGauge::increment();
    let proxy = shared.proxies.of(&delivery.tenant);
    let (request, sent) = match webhook.request(work.recipient.url.clone(), policy.timeout()) {
        Ok(request) => {
            let proxy = match &proxy {
                Some(EgressProxy::Url(url)) => Some(url.clone()),
                Some(EgressProxy::Unreadable) => return Err(Unsent::TenantsProxy),
                None => None,
            };
            let request = Request { auth: work.recipient.auth.clone(), proxy, ..request };
            let versions = Some(work.recipient.versions);
            let about = SentRequest { transform, versions, ..exchange::request(&request) };
            let sending = during("sent", transport::send(shared, work, request));
            let sent = sending.await.map_err(|error| {
                tracing::debug!(error = %chain(&error), delivery = %delivery.id, "attempt not made; the database is unavailable");
                Unsent::Database
            })?;
            (Some(about), sent)
        }
        Err(failure) => (None, Sent::unsent(failure)),
    };
    let sent = Sent { duration: began.elapsed(), ..sent };
    if let Some(trouble) = sent.result.as_ref().err().and_then(|failure| failure.local) {
        let of_tenant = trouble == LocalTrouble::Proxy && proxy.is_some();
        return Err(if of_tenant { Unsent::TenantsProxy } else { Unsent::Machine(trouble) });
    }
    if delivery.attempts == 0 {
        let latency = started_at.since(delivery.created_at);
        metrics::histogram!(metric::DELIVERY_LATENCY).record(latency.as_secs_f64());
    }
    point("answered");
    metrics::histogram!(metric::DELIVERY_DURATION).record(sent.duration.as_secs_f64());

    let gone = sent.result.as_ref().is_ok_and(postrider_delivery::Response::is_gone);
    let retry_after = sent.result.as_ref().ok().and_then(|response| response.retry_delay(ids.clock().now()));
    let attempt = attempt(started_at, request, sent);
    let end = if attempt.verdict.is_success() {
        End::Succeeded
    } else if gone {
        End::Dead(DeadReason::Gone)
    } else {
        retry_or_dead(shared, work, retry_after)
    };
    log_attempt(work, &attempt, end, &traceparent);
    Ok((Some(attempt), end))
}

/// Makes the body that the subscriber has asked for, and the subscriber's own headers if the transform has changed them. The
/// envelope is sent as it is stored.
async fn shaped(
    shared: &Shared,
    work: &Work,
    envelope: Bytes,
) -> Result<(Shaped, Option<CustomHeaders>), ShapeError> {
    let event = Event { id: work.delivery.event_id, channels: work.channels.clone() };
    let wanted = Wanted {
        format: &work.recipient.format,
        transform: work.recipient.transform.as_ref(),
        plugin: work.recipient.plugin.as_ref(),
    };
    let made = shared.shaper.shape(&event, envelope, &wanted).await?;
    let headers = made.merged_headers(&work.recipient.headers)?;
    Ok((made, headers))
}

/// Returns when the next attempt is due, or that the delivery is dead.
fn retry_or_dead(shared: &Shared, work: &Work, retry_after: Option<Duration>) -> End {
    let delivery = &work.delivery;
    let failed = (delivery.attempts + 1).saturating_sub(delivery.round_start);
    let policy = work.recipient.policy.retry(&shared.config.retry);
    match policy.delay_after(failed, retry_after, &**shared.store.ids().random()) {
        Some(delay) => End::RetryIn(delay),
        None => End::Dead(DeadReason::AttemptsUsedUp),
    }
}

fn attempt(started_at: Timestamp, request: Option<SentRequest>, sent: Sent) -> Attempt {
    let verdict = sent.verdict();
    let Sent { duration, result, trail } = sent;
    let response = result.ok().map(|response| Response {
        status: response.status,
        headers: response.headers,
        body: response.body,
        truncated: response.truncated,
    });
    let exchange = request.map(|request| Box::new(exchange::of(request, trail)));
    Attempt { started_at, duration, response, verdict, exchange }
}

/// Returns a failed attempt for a delivery that could not be read. It is retried like any other, in case the key or the
/// database is restored.
fn unreadable(shared: &Shared, delivery: &DeliveryRef) -> (Option<Attempt>, End) {
    let detail = "Postrider could not read the stored delivery".to_owned();
    let attempt = Attempt {
        started_at: shared.store.ids().clock().now(),
        duration: Duration::ZERO,
        response: None,
        verdict: Verdict::failure(ErrorKind::Internal, detail),
        exchange: None,
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
        // The trace id that the receiver got, even if no trace is exported.
        trace_id = traceparent.get(3..35),
        tenant = %delivery.tenant,
        event = %delivery.event_id,
        delivery = %delivery.id,
        subscriber = %delivery.subscriber,
        attempt = delivery.attempts + 1,
        started_at = attempt.started_at.millis(),
        status,
        error = error.map(ErrorKind::as_str),
        outcome = end.status().as_str(),
        ?delay,
        "attempt"
    );
}

/// Counts a request in flight until dropped.
struct InFlightGauge;

impl InFlightGauge {
    fn increment() -> Self {
        metrics::gauge!(metric::IN_FLIGHT).increment(1.0);
        Self
    }
}

impl Drop for InFlightGauge {
    fn drop(&mut self) {
        metrics::gauge!(metric::IN_FLIGHT).decrement(1.0);
    }
}
