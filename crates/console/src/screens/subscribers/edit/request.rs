//! What the form of a subscriber asks of the API.

use http::StatusCode;
use postrider_api::subscriber::SubscriberView;
use postrider_core::policy::Span;
use serde_json::{Map, Value, json};

use crate::controls::lines;
use crate::failure::{Failure, problem};
use crate::query::Query;
use crate::visit::Visit;

/// The fields of the form for a subscriber as it is.
pub(super) fn present(subscriber: &SubscriberView) -> Query {
    let policy = &subscriber.policy;
    let span = |span: Span| json!(span).as_str().unwrap_or_default().to_owned();
    let template = serde_json::to_value(&subscriber.format_options).unwrap_or_default();
    let transform = subscriber.transform.as_ref();
    let metadata: Vec<String> =
        subscriber.metadata.iter().map(|(name, value)| format!("{name}: {value}")).collect();
    let channels = subscriber.channels.as_ref();
    let fields = [
        ("url", Some(subscriber.url.clone())),
        ("events", Some(subscriber.events.join("\n"))),
        ("channels", channels.map(|all| all.iter().collect::<Vec<_>>().join(", "))),
        ("filter", subscriber.filter.clone()),
        ("format", Some(subscriber.format.to_string())),
        ("template", template["template"].as_str().map(str::to_owned)),
        ("transform", transform.and_then(|transform| serde_json::to_string_pretty(transform).ok())),
        ("max_attempts", policy.max_attempts.map(|number| number.to_string())),
        (
            "schedule",
            policy
                .schedule
                .as_ref()
                .map(|all| all.iter().map(|one| span(*one)).collect::<Vec<_>>().join(", ")),
        ),
        ("timeout", policy.timeout.map(span)),
        ("concurrency", policy.concurrency.map(|number| number.to_string())),
        ("per_second", policy.rate_limit.map(|limit| limit.per_second.to_string())),
        ("burst", policy.rate_limit.and_then(|limit| limit.burst).map(|burst| burst.to_string())),
        ("ordered", policy.ordered.filter(|ordered| *ordered).map(|_| "true".to_owned())),
        ("description", Some(subscriber.description.clone())),
        ("uid", subscriber.uid.as_ref().map(ToString::to_string)),
        ("metadata", Some(metadata.join("\n"))),
        ("notify_url", subscriber.notify_url.clone()),
        ("notify_email", subscriber.notify_email.clone()),
    ];
    let given = fields.into_iter().filter_map(|(name, value)| Some((name, value?)));
    given.fold(Query::default(), |query, (name, value)| query.with(name, value))
}

/// A request that creates a subscriber: only what the form gives.
pub(super) fn created(visit: &Visit, fields: &Query) -> Result<Value, Failure> {
    let mut request = changed(visit, fields)?;
    if let Some(members) = request.as_object_mut() {
        members.remove("keep_secrets");
        members.retain(|_, value| !value.is_null());
        if let Some(Value::Object(policy)) = members.get_mut("policy") {
            policy.retain(|_, value| !value.is_null());
        }
    }
    Ok(request)
}

/// Adds what takes away the texts that the form no longer has.
pub(super) fn forget(request: &mut Value, subscriber: &SubscriberView) {
    let Some(metadata) = request.get_mut("metadata").and_then(Value::as_object_mut) else { return };
    for name in subscriber.metadata.keys() {
        metadata.entry(name).or_insert(Value::Null);
    }
}

/// A merge patch (RFC 7396): empty fields become null, which resets them. What the form does not have stays.
pub(super) fn changed(visit: &Visit, fields: &Query) -> Result<Value, Failure> {
    let text = |name: &str| fields.get(name).map_or(Value::Null, |value| json!(value));
    let list = |name: &str| {
        Some(lines(fields.get(name))).filter(|all| !all.is_empty()).map_or(Value::Null, |all| json!(all))
    };
    let mut request = json!({
        "url": text("url"),
        "events": list("events"),
        "channels": list("channels"),
        "filter": text("filter"),
        "format": text("format"),
        "transform": Value::Null,
        "policy": policy(fields),
        "description": text("description"),
        "uid": text("uid"),
        "metadata": Value::Null,
        "notify_url": text("notify_url"),
        "notify_email": text("notify_email"),
    });
    if let Some(transform) = fields.get("transform") {
        request["transform"] = parsed(visit, transform)?;
    }
    // Other formats refuse a template.
    if let Some(template) = fields.get("template").filter(|_| fields.get("format") == Some("slack")) {
        request["format_options"] = json!({"template": template});
    }
    if let Some(secret) = fields.get("secret") {
        request["secret"] = json!(secret);
    }
    if fields.get("keep_secrets").is_some() {
        request["keep_secrets"] = json!(true);
    }
    for name in ["headers", "metadata"] {
        if let Some(given) = fields.get(name) {
            request[name] = Value::Object(pairs(visit, name, given)?);
        }
    }
    Ok(request)
}

fn policy(fields: &Query) -> Value {
    let number = |name: &str| match fields.get(name) {
        None => Value::Null,
        // The API says what is wrong with a text.
        Some(text) => {
            serde_json::from_str::<serde_json::Number>(text).map_or_else(|_| json!(text), Value::Number)
        }
    };
    let text = |name: &str| fields.get(name).map_or(Value::Null, |value| json!(value));
    let schedule = Some(lines(fields.get("schedule"))).filter(|all| !all.is_empty());
    let rate = match (number("per_second"), number("burst")) {
        (Value::Null, Value::Null) => Value::Null,
        (per_second, burst) => json!({"per_second": per_second, "burst": burst}),
    };
    json!({
        "max_attempts": number("max_attempts"),
        "schedule": schedule.map_or(Value::Null, |all| json!(all)),
        "timeout": text("timeout"),
        "concurrency": number("concurrency"),
        "rate_limit": rate,
        "ordered": if fields.get("ordered").is_some() { json!(true) } else { Value::Null },
    })
}

fn parsed(visit: &Visit, text: &str) -> Result<Value, Failure> {
    serde_json::from_str(text).map_err(|error| refusal(visit, format!("transform is not JSON: {error}")))
}

/// Lines of names and values, separated by a colon.
fn pairs(visit: &Visit, field: &str, text: &str) -> Result<Map<String, Value>, Failure> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| {
            let (name, value) = line.split_once(':').ok_or_else(|| {
                refusal(visit, format!("{field}: each line needs a name, a colon and a value"))
            })?;
            Ok((name.trim().to_owned(), json!(value.trim())))
        })
        .collect()
}

fn refusal(visit: &Visit, detail: String) -> Failure {
    Failure::new(visit, problem(StatusCode::UNPROCESSABLE_ENTITY, detail))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_numbers_and_empty_fields_are_reset() {
        let fields = Query::read(b"max_attempts=5&per_second=0.5&schedule=10s,+1m&timeout=&concurrency=many");
        let expected = json!({
            "max_attempts": 5, "schedule": ["10s", "1m"], "timeout": null, "concurrency": "many",
            "rate_limit": {"per_second": 0.5, "burst": null}, "ordered": null,
        });
        assert_eq!(policy(&fields), expected);
    }
}
