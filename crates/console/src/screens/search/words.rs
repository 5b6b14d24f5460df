//! What the search box understands: an id, or words that become the query string of a list.

use std::time::Duration;

use postrider_api::Moment;
use postrider_api::delivery::ResponseCode;
use postrider_core::{AttemptId, DeadReason, DeliveryStatus, ErrorKind, EventPattern, Timestamp};

use crate::links::segment;
use crate::query::Query;

/// Where a search leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// A page below the root.
    Page(String, Query),
    /// The delivery of an attempt.
    Attempt(AttemptId),
    /// These words mean nothing.
    Unknown(Vec<String>),
}

/// The most words that are read.
const MOST: usize = 32;

/// The prefixes of ids, and the folders of their pages.
const FOLDERS: [(&str, &str); 5] = [
    ("evt_", "events"),
    ("dlv_", "deliveries"),
    ("sub_", "subscribers"),
    ("rpl_", "replays"),
    ("key_", "keys"),
];

/// Reads what somebody has typed.
pub(crate) fn read(text: &str, now: Timestamp) -> Target {
    let words: Vec<&str> = text.split_whitespace().take(MOST).collect();
    if let [word] = words.as_slice()
        && let Some(target) = alone(word)
    {
        return target;
    }
    let (mut query, mut unknown) = (Query::default(), Vec::new());
    for word in words {
        match parameter(word, now) {
            Some((name, value)) => query = query.with(name, value),
            None => unknown.push(word.to_owned()),
        }
    }
    if unknown.is_empty() { Target::Page("deliveries".to_owned(), query) } else { Target::Unknown(unknown) }
}

/// A word that leads somewhere only if it is the only one.
fn alone(word: &str) -> Option<Target> {
    let page = |folder: &str, name: &str, value: &str| {
        Some(Target::Page(folder.to_owned(), Query::default().with(name, value)))
    };
    if let Ok(attempt) = word.parse() {
        return Some(Target::Attempt(attempt));
    }
    if let Some((_, folder)) = FOLDERS.iter().find(|(prefix, _)| word.starts_with(prefix)) {
        return Some(Target::Page(format!("{folder}/{}", segment(word)), Query::default()));
    }
    if word.starts_with("http://") || word.starts_with("https://") {
        return page("subscribers", "url", word);
    }
    match word.split_once(':') {
        Some(("uid", value)) if !value.is_empty() => page("subscribers", "uid", value),
        Some(("url", value)) if !value.is_empty() => page("subscribers", "url", value),
        Some(("key" | "idempotency_key", value)) if !value.is_empty() => {
            page("events", "idempotency_key", value)
        }
        Some(("actor", value)) if !value.is_empty() => page("audit", "actor", value),
        Some(("target", value)) if !value.is_empty() => page("audit", "target", value),
        _ => None,
    }
}

/// The parameter of the list of deliveries that a word stands for.
fn parameter(word: &str, now: Timestamp) -> Option<(&'static str, String)> {
    let Some((name, value)) = word.split_once(':') else { return plain(word) };
    let lower = value.to_ascii_lowercase();
    let (name, fits) = match name.to_ascii_lowercase().as_str() {
        "status" | "is" => ("status", lower.parse::<DeliveryStatus>().is_ok()),
        "code" | "response_code" => {
            return ResponseCode::try_from(lower.clone()).is_ok().then_some(("response_code", lower));
        }
        "sub" | "subscriber" | "subscriber_id" | "to" => {
            return (!value.is_empty()).then(|| ("subscriber_id", value.to_owned()));
        }
        "type" | "event" => {
            return value.parse::<EventPattern>().is_ok().then(|| ("event", value.to_owned()));
        }
        "event_id" => return value.starts_with("evt_").then(|| ("event_id", value.to_owned())),
        "error" | "kind" | "error_kind" => ("error_kind", lower.parse::<ErrorKind>().is_ok()),
        "reason" | "dead_reason" => ("dead_reason", lower.parse::<DeadReason>().is_ok()),
        "since" => return moment(value, now).map(|moment| ("since", moment)),
        "until" => return moment(value, now).map(|moment| ("until", moment)),
        "attempts" | "min_attempts" => ("min_attempts", value.parse::<u32>().is_ok()),
        "max_attempts" => ("max_attempts", value.parse::<u32>().is_ok()),
        _ => return None,
    };
    fits.then_some((name, lower))
}

/// A word without a name.
fn plain(word: &str) -> Option<(&'static str, String)> {
    let lower = word.to_ascii_lowercase();
    if lower.parse::<DeliveryStatus>().is_ok() {
        return Some(("status", lower));
    }
    if ResponseCode::try_from(lower.clone()).is_ok() {
        return Some(("response_code", lower));
    }
    if lower.parse::<ErrorKind>().is_ok() {
        return Some(("error_kind", lower));
    }
    if word.starts_with("sub_") {
        return Some(("subscriber_id", word.to_owned()));
    }
    if word.starts_with("evt_") {
        return Some(("event_id", word.to_owned()));
    }
    let is_pattern = word.contains(['.', '*']) && word.parse::<EventPattern>().is_ok();
    is_pattern.then(|| ("event", word.to_owned()))
}

/// A moment, or how long ago: `30m`, `1h`, `2d`.
fn moment(text: &str, now: Timestamp) -> Option<String> {
    if let Ok(moment) = text.parse::<Moment>() {
        return Some(moment.to_string());
    }
    let (number, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        "w" => 604_800,
        _ => return None,
    };
    let number: u32 = number.parse().ok()?;
    let ago = Duration::from_secs(u64::from(number) * seconds);
    let moment = Timestamp::from_seconds(now.seconds()) - ago;
    (moment.millis() >= 0).then(|| Moment(moment).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> String {
        match read(text, Timestamp::from_seconds(1_700_000_000)) {
            Target::Page(path, query) => query.after(&path),
            Target::Attempt(id) => format!("the delivery of {id}"),
            Target::Unknown(words) => format!("unknown: {}", words.join(" ")),
        }
    }

    #[test]
    fn an_id_leads_to_its_page() {
        for (text, page) in [
            ("evt_01h455vb4pex5vsknk084sn02q", "events/evt_01h455vb4pex5vsknk084sn02q"),
            ("  dlv_1 ", "deliveries/dlv_1"),
            ("sub_a/../b", "subscribers/sub_a%2F..%2Fb"),
            ("rpl_1", "replays/rpl_1"),
            ("att_01h455vb4pex5vsknk084sn02q", "the delivery of att_01h455vb4pex5vsknk084sn02q"),
            ("att_1", "unknown: att_1"),
            ("uid:billing", "subscribers?uid=billing"),
            ("https://example.com/hook", "subscribers?url=https%3A%2F%2Fexample.com%2Fhook"),
            ("key:order-17", "events?idempotency_key=order-17"),
        ] {
            assert_eq!(found(text), page, "{text}");
        }
    }

    #[test]
    fn words_become_the_query_string_of_deliveries() {
        for (text, page) in [
            (
                "status:dead code:5xx sub:sub_1 type:order.* since:1h",
                "deliveries?status=dead&response_code=5xx&subscriber_id=sub_1&event=order.*&since=2023-11-14T21%3A13%3A20.000Z",
            ),
            ("dead 503", "deliveries?status=dead&response_code=503"),
            ("Status:DEAD", "deliveries?status=dead"),
            ("timeout_headers order.created", "deliveries?error_kind=timeout_headers&event=order.created"),
            ("until:2026-01-01T00:00:00Z", "deliveries?until=2026-01-01T00%3A00%3A00.000Z"),
            ("status:dead status:pending", "deliveries?status=pending"),
            ("", "deliveries"),
        ] {
            assert_eq!(found(text), page, "{text}");
        }
    }

    #[test]
    fn what_means_nothing_is_named() {
        for (text, unknown) in [
            ("status:gone", "unknown: status:gone"),
            ("hello dead", "unknown: hello"),
            ("code:700", "unknown: code:700"),
            ("since:é", "unknown: since:é"),
            ("since:99999999999d", "unknown: since:99999999999d"),
            ("x:y", "unknown: x:y"),
        ] {
            assert_eq!(found(text), unknown, "{text}");
        }
    }
}
