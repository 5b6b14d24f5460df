//! The description of a delivery policy.

use std::borrow::Cow;
use std::ops::RangeInclusive;
use std::time::Duration;

use postrider_core::bounds;
use postrider_core::subscriber::PolicyFields;
use serde_json::json;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{Object, Schema};
use utoipa::{Number, PartialSchema, ToSchema};

/// Describes [`PolicyFields`], with the bounds that validation uses.
#[derive(Debug)]
pub enum PolicySchema {}

impl PartialSchema for PolicySchema {
    fn schema() -> RefOr<Schema> {
        bounded("Policy", PolicyFields::schema())
    }
}

impl ToSchema for PolicySchema {
    fn name() -> Cow<'static, str> {
        PolicyFields::name()
    }

    fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
        let mut nested = Vec::new();
        PolicyFields::schemas(&mut nested);
        schemas.extend(nested.into_iter().map(|(name, schema)| {
            let schema = bounded(&name, schema);
            (name, schema)
        }));
    }
}

/// The schema of that name with the bounds of its fields.
fn bounded(name: &str, mut schema: RefOr<Schema>) -> RefOr<Schema> {
    if let RefOr::T(Schema::Object(object)) = &mut schema {
        match name {
            "Policy" => {
                number(object, "max_attempts", &bounds::MAX_ATTEMPTS);
                number(object, "jitter_percent", &bounds::JITTER_PERCENT);
                number(object, "concurrency", &bounds::CONCURRENCY);
                duration(object, "timeout", &bounds::TIMEOUT);
                if let Some(RefOr::T(Schema::OneOf(timeout))) = object.properties.get_mut("timeout") {
                    timeout.examples = vec![json!("10s"), json!(10)];
                }
                if let Some(RefOr::T(Schema::Array(array))) = object.properties.get_mut("schedule") {
                    array.min_items = Some(*bounds::SCHEDULE_LENGTH.start());
                    array.max_items = Some(*bounds::SCHEDULE_LENGTH.end());
                }
            }
            "Exponential" => {
                number(object, "factor", &bounds::EXPONENTIAL_FACTOR);
                duration(object, "base", &bounds::EXPONENTIAL_BASE);
                duration(object, "cap", &bounds::EXPONENTIAL_BASE);
                object.examples = vec![json!({"base": "1s", "factor": 2, "cap": "1h"})];
            }
            "RateLimit" => {
                number(object, "per_second", &bounds::REQUESTS_PER_SECOND);
                number(object, "burst", &bounds::BURST);
            }
            _ => {}
        }
    }
    schema
}

fn number<T: Copy + Into<Number>>(object: &mut Object, field: &str, range: &RangeInclusive<T>) {
    if let Some(RefOr::T(Schema::Object(property))) = object.properties.get_mut(field) {
        property.minimum = Some((*range.start()).into());
        property.maximum = Some((*range.end()).into());
    }
}

/// Bounds of a duration cannot be schema keywords, since it may be text. They become part of the description.
fn duration(object: &mut Object, field: &str, range: &RangeInclusive<Duration>) {
    let bounds = format!(" {:?} to {:?}.", range.start(), range.end());
    let description = match object.properties.get_mut(field) {
        Some(RefOr::Ref(reference)) => &mut reference.description,
        Some(RefOr::T(Schema::OneOf(either))) => {
            let reference = either.items.iter_mut().find_map(|item| match item {
                RefOr::Ref(reference) => Some(&mut reference.description),
                RefOr::T(_) => None,
            });
            let Some(description) = reference else { return };
            description
        }
        _ => return,
    };
    description.push_str(&bounds);
}
