//! Request and response of an attempt.

use maud::{Markup, html};
use postrider_api::attempt::{AttemptView, BodyEncoding, HeaderView, RequestView, ResponseView, TimingsView};
use postrider_core::Timestamp;

use crate::json;
use crate::parts;
use crate::text;

/// Shows an attempt.
pub(crate) fn attempt(attempt: &AttemptView, now: Timestamp) -> Markup {
    let status = attempt.response.as_ref().map(|response| response.status);
    let kind = attempt.error.as_ref().map(|error| error.kind.as_str());
    html! {
        h3 {
            "Attempt " (attempt.number)
            @if attempt.error.is_none() { (parts::badge("✓", "good", "succeeded")) } @else { (parts::badge("✕", "bad", "failed")) }
            (parts::code(status, kind))
            span.quiet { (parts::ago(attempt.started_at, now)) " · " (text::millis(attempt.duration_ms)) }
            @if attempt.resent { span.quiet { "sent twice on a reused connection" } }
        }
        p.quiet { (text::moment(attempt.started_at)) " UTC" @if let Some(address) = &attempt.remote_addr { " · " code { (address) } } }
        @if let Some(error) = &attempt.error { p { (error.message) } }
        @if let Some(note) = &attempt.note { p.quiet { (note) } }
        @if let Some(advice) = &attempt.advice { p.advice { (advice) } }
        @if let Some(timings) = &attempt.timings_ms { (phases(timings)) }
        @if let Some(request) = &attempt.request { (sent(request)) }
        @else { p.quiet { "There is no record of a request: none was sent, it was erased, or it has expired." } }
        @if let Some(response) = &attempt.response { (answered(response)) }
    }
}

/// The trace of these attempts, if all of them belong to one, as when the caller that dispatched the event began it.
pub(crate) fn trace<'a>(attempts: impl Iterator<Item = &'a AttemptView>) -> Option<&'a str> {
    let mut traces = attempts.filter_map(|attempt| {
        let header = attempt.request.as_ref()?.headers.iter().find(|header| header.name == "traceparent")?;
        header.value.split('-').nth(1)
    });
    let first = traces.next()?;
    traces.all(|trace| trace == first).then_some(first)
}

/// The time of each phase, as a bar and in words.
fn phases(timings: &TimingsView) -> Markup {
    let phases = [
        ("resolve", timings.resolve),
        ("connect", timings.connect),
        ("TLS", timings.tls),
        ("first byte", timings.first_byte),
        ("body", timings.body),
    ];
    let total: f64 = phases.iter().filter_map(|(_, millis)| *millis).sum();
    let scale = 100.0 / total.max(0.001);
    let mut x = 0.0;
    let mut bars = Vec::new();
    for (_, millis) in phases {
        let width = millis.unwrap_or(0.0) * scale;
        bars.push((format!("{x:.2}"), format!("{width:.2}")));
        x += width;
    }
    html! {
        svg.phases viewBox="0 0 100 4" preserveAspectRatio="none" aria-hidden="true" {
            @for (x, width) in &bars { rect x=(x) width=(width) y="0" height="4" {} }
        }
        p.quiet {
            @for (name, millis) in phases {
                @if let Some(millis) = millis { span { (name) " " (text::millis(millis)) } " · " }
            }
            "total " (text::millis(total))
        }
    }
}

fn sent(request: &RequestView) -> Markup {
    html! {
        details {
            summary { "Request: " code { (request.method) " " span.url { (request.url) } } }
            (headers(&request.headers))
            p.quiet { "SHA-256 of the body " code { (request.body_sha256) }
                @if let Some(version) = &request.transform_version { " · transform " code { (version) } } }
        }
    }
}

fn answered(response: &ResponseView) -> Markup {
    html! {
        details open[response.status >= 300] {
            summary { "Response: " (parts::code(Some(response.status), None)) }
            @if response.payload.is_some() {
                p.quiet { "Headers and body are not shown: the key has no scope " code { "payloads:read" } ", or they were erased or have expired." }
            } @else {
                (headers(&response.headers))
                (body(response))
            }
        }
    }
}

fn headers(headers: &[HeaderView]) -> Markup {
    html! {
        @if !headers.is_empty() {
            table.headers {
                caption.unseen { "Headers" }
                tbody { @for header in headers { tr { th scope="row" { (header.name) } td { code { (header.value) } } } } }
            }
        }
    }
}

fn body(response: &ResponseView) -> Markup {
    let is_json =
        response.headers.iter().any(|header| header.name == "content-type" && header.value.contains("json"));
    html! {
        @if response.body.is_empty() { p.quiet { "The body is empty." } }
        @else if is_json && response.body_encoding == BodyEncoding::Utf8 && !response.truncated { (json::shown(&response.body)) }
        @else { pre.body.wrap tabindex="0" { (response.body) } }
        @if response.body_encoding == BodyEncoding::Base64 { p.quiet { "The body is not UTF-8 and is shown in base64." } }
        @if response.truncated { p.quiet { "The body was longer than what is kept." } }
    }
}
