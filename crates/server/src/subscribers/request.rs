//! Validation of a new subscriber, and of changes to one.

use axum::http::StatusCode;
use postrider_api::subscriber::{Change, ChangeRequest, HeaderPairs, Pairs, SubscriberRequest};
use postrider_core::inside::InsideUrl;
use postrider_core::merge_patch::merge;
use postrider_core::subscriber::PolicyFields;
use postrider_core::{
    Channels, CustomHeaders, EmailAddress, ErrorKind, EventPattern, Metadata, Policy, Secret, TargetUrl,
    TenantId,
};
use postrider_delivery::Client;
use postrider_store::StoreError;
use postrider_store::subscribers::{Changing, NewSubscriber, Notify, SubscriberChange};
use serde_json::{Map, Value};

use super::{auth, format, plugin, transform};
use crate::extract::parse;
use crate::problem::{Errors, Problem};
use crate::state::ApiState;

const MAX_DESCRIPTION: usize = 1000;
const MAX_PATTERNS: usize = 100;

/// The new subscriber, whose target is allowed, or a problem that names every invalid field.
pub(super) async fn new_subscriber(
    request: SubscriberRequest,
    tenant: &TenantId,
    state: &ApiState,
) -> Result<NewSubscriber, Problem> {
    let new = validated(request, state)?;
    if !is_sandbox(tenant, &new.url, state).await? {
        check_target(&state.targets, "url", &new.url).await?;
    }
    if let Some(url) = &new.notify.url {
        check_target(&state.targets, "notify_url", url).await?;
    }
    if let Some(new) = &new.auth {
        auth::check_target(&new.auth, &state.targets).await?;
    }
    Ok(new)
}

/// The new subscriber, or a problem that names every invalid field. Where its URL leads is not looked up.
pub(crate) fn validated(request: SubscriberRequest, state: &ApiState) -> Result<NewSubscriber, Problem> {
    let (random, now) = (state.store.ids().random(), state.store.ids().clock().now());
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
    let format = format::new(request.format.as_deref(), request.format_options, &mut errors);
    let plugin = request.plugin.map_or(Some(None), |choice| plugin::new(choice, &mut errors).map(Some));
    let active = request.active.unwrap_or(true);
    let uid = request.uid.map_or(Some(None), |uid| errors.check("uid", uid.parse()).map(Some));
    let metadata = errors.check("metadata", Metadata::try_from(request.metadata.unwrap_or_default()));
    let channels = request.channels.map_or(Some(None), |words| channels(words, &mut errors).map(Some));
    let filter = request.filter.map_or(Some(None), |text| transform::filter(&text, &mut errors).map(Some));
    let made = request.transform.map_or(Some(None), |of| transform::transform(of, &mut errors).map(Some));
    let auth = match request.auth {
        Some(fields) => auth::new(fields, &state.targets, now, &mut errors).map(Some),
        None => Some(None),
    };
    let notify_url = request.notify_url.map_or(Some(None), |url| notify_url(&url, &mut errors).map(Some));
    let notify_email =
        request.notify_email.map_or(Some(None), |text| notify_email(&text, &mut errors).map(Some));
    let new = (|| {
        Some(NewSubscriber {
            url: url?,
            events: events?,
            secret: secret?,
            description: description?,
            headers: headers?,
            active,
            policy: policy?,
            format: format?,
            plugin: plugin?,
            uid: uid?,
            metadata: metadata?,
            channels: channels?,
            filter: filter?,
            transform: made?,
            auth: auth?,
            notify: Notify { url: notify_url?, email: notify_email? },
        })
    })();
    errors.finish(new)
}

/// What a replacement says about secrets.
#[derive(Clone, Copy)]
pub(super) struct Secrets {
    /// Whether it gives the secret.
    pub(super) are_given: bool,
    /// Whether the present secret may go to another host.
    pub(super) may_move: bool,
}

/// The change that makes a subscriber as `new` describes it, or a problem.
pub(super) fn replacement(
    new: NewSubscriber,
    secrets: Secrets,
    present: &Changing<'_>,
) -> Result<SubscriberChange, Problem> {
    // The headers and `auth` are those of the request, so only the secret could go to another host unknown to the caller.
    let moves = new.url.host() != present.url.host();
    if moves && !secrets.are_given && !secrets.may_move {
        let message = "moves to another host: repeat the secret, or set `keep_secrets` to true";
        return Err(Problem::field("url", message));
    }
    Ok(SubscriberChange {
        paused: None,
        format: Some(new.format),
        plugin: Some(new.plugin),
        url: Some(new.url),
        events: Some(new.events),
        description: Some(new.description),
        headers: Some(new.headers),
        active: Some(new.active),
        policy: Some(new.policy),
        secret: secrets.are_given.then_some(new.secret),
        forget_failures: false,
        uid: Some(new.uid),
        metadata: Some(new.metadata),
        channels: Some(new.channels),
        filter: Some(new.filter),
        transform: Some(new.transform),
        auth: Some(new.auth),
        notify_url: Some(new.notify.url),
        notify_email: Some(new.notify.email),
    })
}

/// Refuses the new URLs of a change at a forbidden address.
pub(super) async fn check_new_target(
    request: &ChangeRequest,
    tenant: &TenantId,
    state: &ApiState,
) -> Result<(), Problem> {
    let targets = &state.targets;
    for (field, change) in [("url", &request.url), ("notify_url", &request.notify_url)] {
        // `subscriber_change` names what is wrong with a URL.
        if let Change::Set(url) = change
            && let Ok(url) = TargetUrl::parse(url)
            && !(field == "url" && is_sandbox(tenant, &url, state).await?)
        {
            check_target(targets, field, &url).await?;
        }
    }
    auth::check_new_target(&request.auth, targets).await
}

/// The change to a subscriber, or a problem that names every invalid field.
pub(super) fn subscriber_change(
    request: ChangeRequest,
    present: &Changing<'_>,
    state: &ApiState,
) -> Result<SubscriberChange, Problem> {
    let mut errors = Errors::default();
    let url = not_null(request.url, "url", &mut errors).and_then(|url| target_url(&url, &mut errors));
    let moves = url.as_ref().is_some_and(|url| url.host() != present.url.host());
    let secret = match request.secret {
        Some(secret) if moves => errors.check("secret", Secret::parse(&secret)),
        Some(_) => {
            errors.add(
                "secret",
                "must be changed by POST /v1/subscribers/{id}/secret/rotate, unless `url` moves to another host",
            );
            None
        }
        None => None,
    };
    let now = state.store.ids().clock().now();
    let auth = auth::changed(present, request.auth, request.keep_secrets, &state.targets, now, &mut errors)?;
    if moves && !request.keep_secrets {
        let headers = match &request.headers {
            Change::Keep => Some(&[][..]),
            Change::Set(Pairs(pairs)) => Some(pairs.as_slice()),
            Change::Reset => None,
        };
        let named = headers.map_or(Ok(true), |named| names_all(named, present))?;
        if secret.is_none() || !named || !auth.is_repeated {
            errors.add(
                "url",
                "moves to another host: repeat the secret, name every header in `headers`, and repeat or remove `auth`, or set `keep_secrets` to true",
            );
        }
    }
    let headers = match request.headers {
        Change::Keep => None,
        Change::Reset => Some(CustomHeaders::default()),
        Change::Set(Pairs(changes)) => errors.check("headers", present_headers(present)?.merged(changes)),
    };
    let policy = match request.policy {
        Change::Keep => None,
        Change::Reset => Some(Policy::default()),
        Change::Set(changes) => changed_policy(&present.policy, changes, &mut errors)?,
    };
    let uid = optional(request.uid, |uid| errors.check("uid", uid.parse()));
    let metadata = match request.metadata {
        Change::Keep => None,
        Change::Reset => Some(Metadata::default()),
        Change::Set(changes) => errors.check("metadata", present.metadata.clone().merged(changes)),
    };
    let channels = optional(request.channels, |words| channels(words, &mut errors));
    let notify_url = optional(request.notify_url, |url| notify_url(&url, &mut errors));
    let notify_email = optional(request.notify_email, |text| notify_email(&text, &mut errors));
    let events = not_null(request.events, "events", &mut errors);
    let format = format::changed(&present.format, request.format, request.format_options, &mut errors);
    let filter = optional(request.filter, |text| transform::filter(&text, &mut errors));
    let made = match request.transform {
        Change::Keep => None,
        Change::Reset => Some(None),
        Change::Set(changes) => {
            transform::merged(present.transform.as_ref(), changes, &mut errors)?.map(Some)
        }
    };
    let plugin =
        optional(request.plugin, |changes| plugin::changed(present.plugin.as_ref(), changes, &mut errors));
    let change = SubscriberChange {
        paused: None,
        url,
        events: events.and_then(|events| patterns(&events, &mut errors)),
        description: value_or_reset(request.description).and_then(|text| description(text, &mut errors)),
        headers,
        active: not_null(request.active, "active", &mut errors),
        policy,
        format,
        plugin,
        secret,
        forget_failures: false,
        uid,
        metadata,
        channels,
        filter,
        transform: made,
        auth: optional(auth.new, Some),
        notify_url,
        notify_email,
    };
    errors.finish(Some(change))
}

/// Whether changes name every present header, so that none goes to another host unknown to the caller.
fn names_all(changes: &[(String, Option<String>)], present: &Changing<'_>) -> Result<bool, Problem> {
    let headers = present_headers(present)?;
    Ok(headers.names().all(|name| changes.iter().any(|(named, _)| named.eq_ignore_ascii_case(name))))
}

fn present_headers(present: &Changing<'_>) -> Result<CustomHeaders, Problem> {
    present.headers().map_err(|error| match error {
        StoreError::Keyring(_) => Problem::new(
            StatusCode::CONFLICT,
            "the present headers cannot be decrypted with the server's keys; remove them with `\"headers\": null` first",
        ),
        error => error.into(),
    })
}

/// The policy with changes merged into it.
fn changed_policy(
    present: &Policy,
    changes: Map<String, Value>,
    errors: &mut Errors,
) -> Result<Option<Policy>, Problem> {
    let mut merged = serde_json::to_value(present.fields()).map_err(|_| Problem::internal())?;
    merge(&mut merged, Value::Object(changes));
    let fields = parse(merged.to_string().as_bytes(), "policy")?;
    Ok(policy(fields, errors))
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

/// The new value of a field that null takes away.
#[allow(clippy::option_option, reason = "as the fields that it fills")]
fn optional<T, U>(change: Change<T>, made: impl FnOnce(T) -> Option<U>) -> Option<Option<U>> {
    match change {
        Change::Keep => None,
        Change::Reset => Some(None),
        Change::Set(value) => made(value).map(Some),
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

/// Whether a URL is that of a sandbox of this tenant, to which workers send nothing over the network.
async fn is_sandbox(tenant: &TenantId, url: &TargetUrl, state: &ApiState) -> Result<bool, Problem> {
    match InsideUrl::of(url) {
        Some(InsideUrl::Sandbox(token)) if state.config.sandbox => {
            Ok(state.store.has_sandbox(tenant, token, url.redacted()).await?)
        }
        _ => Ok(false),
    }
}

/// Refuses a URL at a forbidden address. A name that does not resolve is accepted, since it may resolve later.
async fn check_target(targets: &Client, field: &str, url: &TargetUrl) -> Result<(), Problem> {
    match targets.check(url).await {
        Err(failure) if failure.kind == ErrorKind::Blocked => Err(Problem::field(field, &failure)),
        _ => Ok(()),
    }
}

fn notify_url(url: &str, errors: &mut Errors) -> Option<TargetUrl> {
    errors.check("notify_url", TargetUrl::parse(url))
}

fn notify_email(text: &str, errors: &mut Errors) -> Option<EmailAddress> {
    errors.check("notify_email", text.parse())
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

fn channels(words: Vec<String>, errors: &mut Errors) -> Option<Channels> {
    errors.check("channels", Channels::try_from(words))
}

fn custom_headers(Pairs(pairs): HeaderPairs, errors: &mut Errors) -> Option<CustomHeaders> {
    errors.check("headers", CustomHeaders::try_new(pairs))
}

fn policy(fields: PolicyFields, errors: &mut Errors) -> Option<Policy> {
    let policy = Policy::try_from(fields);
    policy.map_err(|error| errors.add(&format!("policy.{}", error.field), &error.reason)).ok()
}
