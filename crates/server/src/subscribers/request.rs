//! A subscriber as it is given, and as it is changed.

use std::fmt;
use std::sync::Arc;

use postrider_core::subscriber::PolicyFields;
use postrider_core::{CustomHeaders, ErrorKind, EventPattern, Policy, Random, Secret, TargetUrl};
use postrider_delivery::Client;
use postrider_store::subscriber::{NewSubscriber, SubscriberChange};
use serde::Deserialize;
use serde::de::{self, Deserializer, IgnoredAny, MapAccess, Visitor};
use utoipa::ToSchema;
use zeroize::Zeroizing;

use super::schema::PolicySchema;
use crate::problem::{Errors, Problem};

const MAX_DESCRIPTION: usize = 1000;
const MAX_PATTERNS: usize = 100;

/// A subscriber to be created.
// No Debug: it holds a secret.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SubscriberRequest {
    /// Where deliveries go: `https` or `http`, without user information, at an address that is allowed.
    #[schema(value_type = String, required = true, max_length = 2048, example = "https://example.com/hook")]
    url: Option<String>,
    /// Which events it wants: event types, prefixes with `.*`, or `*` for all.
    #[schema(value_type = Vec<String>, required = true, min_items = 1, max_items = 100, example = json!(["order.*"]))]
    events: Option<Vec<String>>,
    /// What deliveries are signed with: 8 to 256 characters, or a `whsec_` or `whsk_` key. Made if not given.
    #[schema(value_type = Option<String>, example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: Option<Zeroizing<String>>,
    /// What its owner says of it: up to 1000 characters.
    #[schema(max_length = 1000)]
    description: Option<String>,
    /// Headers that are added to its deliveries, by name. Their values are never shown again.
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    headers: Option<HeaderPairs>,
    /// Whether it gets anything from the start; true if not given.
    #[schema(default = true)]
    active: Option<bool>,
    /// How it wants to be delivered to.
    #[schema(value_type = Option<PolicySchema>)]
    policy: Option<PolicyFields>,
}

/// What is to be changed of a subscriber. What is not given stays; null takes back a description,
/// headers or a policy.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangeRequest {
    /// Where deliveries go.
    #[serde(default)]
    #[schema(value_type = Option<String>, nullable = false, max_length = 2048)]
    url: Given<String>,
    /// Which events it wants, in place of all before.
    #[serde(default)]
    #[schema(value_type = Option<Vec<String>>, nullable = false, min_items = 1, max_items = 100)]
    events: Given<Vec<String>>,
    /// What its owner says of it.
    #[serde(default)]
    #[schema(value_type = Option<String>, max_length = 1000)]
    description: Given<String>,
    /// Headers that are added to its deliveries, in place of all before.
    #[serde(default)]
    #[schema(value_type = Option<std::collections::HashMap<String, String>>)]
    headers: Given<HeaderPairs>,
    /// Whether it gets anything.
    #[serde(default)]
    #[schema(value_type = Option<bool>, nullable = false)]
    active: Given<bool>,
    /// How it wants to be delivered to, in place of all that it said before.
    #[serde(default)]
    #[schema(value_type = Option<PolicySchema>)]
    policy: Given<PolicyFields>,
    /// Taken only to say where it belongs.
    #[schema(ignore)]
    secret: Option<IgnoredAny>,
}

/// A field of a change.
#[derive(Default)]
enum Given<T> {
    /// It is not there.
    #[default]
    Absent,
    /// It is null.
    Null,
    Value(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Null, Self::Value))
    }
}

impl<T> Given<T> {
    /// The value, of a field that cannot be taken back.
    fn or_refuse_null(self, field: &str, errors: &mut Errors) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent => None,
            Self::Null => {
                errors.add(field, "it cannot be null; leave it out to keep what is");
                None
            }
        }
    }

    /// The value, of a field of which null takes back what was said.
    fn or_take_back(self) -> Option<T>
    where
        T: Default,
    {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent => None,
            Self::Null => Some(T::default()),
        }
    }
}

impl SubscriberRequest {
    /// The subscriber, if every field holds.
    pub(super) async fn judge(
        self,
        targets: &Client,
        random: &Arc<dyn Random>,
    ) -> Result<NewSubscriber, Problem> {
        let mut errors = Errors::default();
        let url = errors.require("url", self.url).and_then(|url| judge_url(&url, &mut errors));
        let events =
            errors.require("events", self.events).and_then(|events| judge_events(&events, &mut errors));
        let secret = match self.secret {
            Some(secret) => errors.check("secret", Secret::parse(&secret)),
            None => Some(Secret::generate(random)),
        };
        let description =
            self.description.map_or(Some(String::new()), |text| judge_description(text, &mut errors));
        let headers =
            self.headers.map_or(Some(CustomHeaders::default()), |pairs| judge_headers(pairs, &mut errors));
        let policy = self.policy.map_or(Some(Policy::default()), |fields| judge_policy(fields, &mut errors));
        let active = self.active.unwrap_or(true);
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
        judge_target(targets, &new.url).await?;
        Ok(new)
    }
}

impl ChangeRequest {
    /// The change, if every field holds.
    pub(super) async fn judge(self, targets: &Client) -> Result<SubscriberChange, Problem> {
        let mut errors = Errors::default();
        if self.secret.is_some() {
            errors.add("secret", "a secret is changed by POST /v1/subscribers/{id}/secret/rotate");
        }
        let url = self.url.or_refuse_null("url", &mut errors);
        let events = self.events.or_refuse_null("events", &mut errors);
        let change = SubscriberChange {
            url: url.and_then(|url| judge_url(&url, &mut errors)),
            events: events.and_then(|events| judge_events(&events, &mut errors)),
            description: self
                .description
                .or_take_back()
                .and_then(|text| judge_description(text, &mut errors)),
            headers: self.headers.or_take_back().and_then(|pairs| judge_headers(pairs, &mut errors)),
            active: self.active.or_refuse_null("active", &mut errors),
            policy: self.policy.or_take_back().and_then(|fields| judge_policy(fields, &mut errors)),
        };
        let change = errors.finish(Some(change))?;
        if let Some(url) = &change.url {
            judge_target(targets, url).await?;
        }
        Ok(change)
    }
}

fn judge_url(url: &str, errors: &mut Errors) -> Option<TargetUrl> {
    errors.check("url", TargetUrl::parse(url))
}

/// Refuses a target that deliveries may not go to. A name that does not resolve now may do so later.
async fn judge_target(targets: &Client, url: &TargetUrl) -> Result<(), Problem> {
    match targets.check(url).await {
        Err(failure) if failure.kind == ErrorKind::Blocked => Err(Problem::field("url", &failure)),
        _ => Ok(()),
    }
}

fn judge_events(events: &[String], errors: &mut Errors) -> Option<Vec<EventPattern>> {
    if !(1..=MAX_PATTERNS).contains(&events.len()) {
        errors.add("events", &format!("a subscriber wants 1 to {MAX_PATTERNS} patterns; `*` is all events"));
        return None;
    }
    let judged: Vec<_> = events
        .iter()
        .enumerate()
        .map(|(place, pattern)| errors.check(&format!("events[{place}]"), pattern.parse()))
        .collect();
    let mut patterns: Vec<EventPattern> = judged.into_iter().collect::<Option<_>>()?;
    patterns.sort_unstable();
    patterns.dedup();
    Some(patterns)
}

fn judge_description(text: String, errors: &mut Errors) -> Option<String> {
    if text.chars().take(MAX_DESCRIPTION + 1).count() > MAX_DESCRIPTION {
        errors.add("description", &format!("a description has at most {MAX_DESCRIPTION} characters"));
        return None;
    }
    // PostgreSQL's text cannot hold NUL; the others are of no use to a reader.
    if text.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\r' | '\t')) {
        errors.add("description", "a description has no control characters but tabs and line breaks");
        return None;
    }
    Some(text)
}

fn judge_headers(HeaderPairs(pairs): HeaderPairs, errors: &mut Errors) -> Option<CustomHeaders> {
    errors.check("headers", CustomHeaders::try_new(pairs))
}

fn judge_policy(fields: PolicyFields, errors: &mut Errors) -> Option<Policy> {
    let policy = Policy::try_from(fields);
    policy.map_err(|error| errors.add(&format!("policy.{}", error.field), &error.reason)).ok()
}

/// Names and values as they stand in the JSON, so that a name given twice is found.
// No Debug: values are secret.
#[derive(Default)]
struct HeaderPairs(Vec<(String, String)>);

impl<'de> Deserialize<'de> for HeaderPairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct PairsVisitor;

        impl<'de> Visitor<'de> for PairsVisitor {
            type Value = HeaderPairs;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of header names and values")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<HeaderPairs, A::Error> {
                let mut pairs = Vec::new();
                while let Some(pair) = map.next_entry()? {
                    if pairs.len() > postrider_core::header::MAX_HEADERS {
                        return Err(de::Error::custom(postrider_core::header::HeaderError::TooMany));
                    }
                    pairs.push(pair);
                }
                Ok(HeaderPairs(pairs))
            }
        }

        deserializer.deserialize_map(PairsVisitor)
    }
}
