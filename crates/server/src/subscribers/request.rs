//! Validation of a new subscriber, and of changes to one.

use std::sync::Arc;

use postrider_api::subscriber::{Change, ChangeRequest, HeaderPairs, SubscriberRequest};
use postrider_core::subscriber::PolicyFields;
use postrider_core::{CustomHeaders, ErrorKind, EventPattern, Policy, Random, Secret, TargetUrl};
use postrider_delivery::Client;
use postrider_store::subscribers::{NewSubscriber, SubscriberChange};

use crate::problem::{Errors, Problem};

const MAX_DESCRIPTION: usize = 1000;
const MAX_PATTERNS: usize = 100;

/// The new subscriber, or a problem that names every invalid field.
pub(super) async fn new_subscriber(
    request: SubscriberRequest,
    targets: &Client,
    random: &Arc<dyn Random>,
) -> Result<NewSubscriber, Problem> {
    let mut errors = Errors::default();
    let url = errors.require("url", request.url).and_then(|url| target_url(&url, &mut errors));
    let events = errors.require("events", request.events).and_then(|events| patterns(&events, &mut errors));
    let secret = match request.secret {
        Some(secret) => errors.check("secret", Secret::parse(&secret)),
        None => Some(Secret::generate(random)),
    };
    let description = request.description.map_or(Some(String::new()), |text| description(text, &mut errors));
    let headers =
        request.headers.map_or(Some(CustomHeaders::default()), |pairs| custom_headers(pairs, &mut errors));
    let policy = request.policy.map_or(Some(Policy::default()), |fields| policy(fields, &mut errors));
    let active = request.active.unwrap_or(true);
    let new = (|| {
        Some(NewSubscriber {
            url: url?,
            events: events?,
            secret: secret?,
            description: description?,
            headers: headers?,
            active,
            policy: policy?,
        })
    })();
    let new = errors.finish(new)?;
    check_target(targets, &new.url).await?;
    Ok(new)
}

/// The change, or a problem that names every invalid field.
pub(super) async fn subscriber_change(
    request: ChangeRequest,
    targets: &Client,
) -> Result<SubscriberChange, Problem> {
    let mut errors = Errors::default();
    if request.secret.is_some() {
        errors.add("secret", "must be changed by POST /v1/subscribers/{id}/secret/rotate");
    }
    let url = not_null(request.url, "url", &mut errors);
    let events = not_null(request.events, "events", &mut errors);
    let change = SubscriberChange {
        url: url.and_then(|url| target_url(&url, &mut errors)),
        events: events.and_then(|events| patterns(&events, &mut errors)),
        description: value_or_reset(request.description).and_then(|text| description(text, &mut errors)),
        headers: value_or_reset(request.headers).and_then(|pairs| custom_headers(pairs, &mut errors)),
        active: not_null(request.active, "active", &mut errors),
        policy: value_or_reset(request.policy).and_then(|fields| policy(fields, &mut errors)),
    };
    let change = errors.finish(Some(change))?;
    if let Some(url) = &change.url {
        check_target(targets, url).await?;
    }
    Ok(change)
}

/// The new value of a field that cannot be reset.
fn not_null<T>(change: Change<T>, field: &str, errors: &mut Errors) -> Option<T> {
    match change {
        Change::Set(value) => Some(value),
        Change::Keep => None,
        Change::Reset => {
            errors.add(field, "must not be null; omit it to keep the current value");
            None
        }
    }
}

/// The new value of a field that null resets.
fn value_or_reset<T: Default>(change: Change<T>) -> Option<T> {
    match change {
        Change::Set(value) => Some(value),
        Change::Keep => None,
        Change::Reset => Some(T::default()),
    }
}

fn target_url(url: &str, errors: &mut Errors) -> Option<TargetUrl> {
    errors.check("url", TargetUrl::parse(url))
}

/// Refuses a URL at a forbidden address. A name that does not resolve is accepted, since it may resolve later.
async fn check_target(targets: &Client, url: &TargetUrl) -> Result<(), Problem> {
    match targets.check(url).await {
        Err(failure) if failure.kind == ErrorKind::Blocked => Err(Problem::field("url", &failure)),
        _ => Ok(()),
    }
}

fn patterns(events: &[String], errors: &mut Errors) -> Option<Vec<EventPattern>> {
    if !(1..=MAX_PATTERNS).contains(&events.len()) {
        let message = format!("must have 1 to {MAX_PATTERNS} event patterns; `*` matches all events");
        errors.add("events", &message);
        return None;
    }
    let checked: Vec<_> = events
        .iter()
        .enumerate()
        .map(|(place, pattern)| errors.check(&format!("events[{place}]"), pattern.parse()))
        .collect();
    let mut patterns: Vec<EventPattern> = checked.into_iter().collect::<Option<_>>()?;
    patterns.sort_unstable();
    patterns.dedup();
    Some(patterns)
}

fn description(text: String, errors: &mut Errors) -> Option<String> {
    if text.chars().take(MAX_DESCRIPTION + 1).count() > MAX_DESCRIPTION {
        errors.add("description", &format!("must have at most {MAX_DESCRIPTION} characters"));
        return None;
    }
    // PostgreSQL's text type cannot hold NUL; other control characters would garble a terminal.
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        errors.add("description", "must not have control characters other than tabs and line breaks");
        return None;
    }
    Some(text)
}

fn custom_headers(HeaderPairs(pairs): HeaderPairs, errors: &mut Errors) -> Option<CustomHeaders> {
    errors.check("headers", CustomHeaders::try_new(pairs))
}

fn policy(fields: PolicyFields, errors: &mut Errors) -> Option<Policy> {
    let policy = Policy::try_from(fields);
    policy.map_err(|error| errors.add(&format!("policy.{}", error.field), &error.reason)).ok()
}
