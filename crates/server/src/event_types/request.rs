//! Validation of an event type, and of changes to one.

use postrider_api::event_type::{EventTypeChangeRequest, EventTypeRequest};
use postrider_api::subscriber::Change;
use postrider_core::event::SchemaMode;
use postrider_core::{EventType, Timestamp};
use postrider_schema::{Mismatch, Schema};
use postrider_store::event_types::RegisteredType;
use serde_json::Value;
use serde_json::value::RawValue;

use super::compare::breaking;
use crate::problem::{Errors, Problem};

const MAX_DESCRIPTION: usize = 4_000;
const MAX_GROUP: usize = 100;

/// A type as a request describes it, in place of `present`.
pub(super) fn registered(
    name: EventType,
    request: EventTypeRequest,
    present: Option<&RegisteredType>,
    mut errors: Errors,
) -> Result<RegisteredType, Problem> {
    let wanted = RegisteredType {
        name,
        description: text("description", request.description, MAX_DESCRIPTION, &mut errors),
        group: text("group", request.group, MAX_GROUP, &mut errors),
        deprecated: request.deprecated.unwrap_or(false),
        schema: json("schema", request.schema, &mut errors),
        example: json("example", request.example, &mut errors),
        mode: mode(request.mode, &mut errors),
        // The store sets them.
        created_at: Timestamp::from_millis(0),
        updated_at: Timestamp::from_millis(0),
    };
    checked(wanted, present, request.force, errors)
}

/// A type after a change.
pub(super) fn changed(
    present: &RegisteredType,
    request: EventTypeChangeRequest,
) -> Result<RegisteredType, Problem> {
    let mut errors = Errors::default();
    let mut wanted = present.clone();
    match request.description {
        Change::Keep => {}
        Change::Reset => wanted.description = String::new(),
        Change::Set(new) => wanted.description = text("description", Some(new), MAX_DESCRIPTION, &mut errors),
    }
    match request.group {
        Change::Keep => {}
        Change::Reset => wanted.group = String::new(),
        Change::Set(new) => wanted.group = text("group", Some(new), MAX_GROUP, &mut errors),
    }
    match request.deprecated {
        Change::Keep => {}
        Change::Reset => wanted.deprecated = false,
        Change::Set(deprecated) => wanted.deprecated = deprecated,
    }
    match request.schema {
        Change::Keep => {}
        Change::Reset => wanted.schema = None,
        Change::Set(new) => wanted.schema = json("schema", Some(new), &mut errors),
    }
    match request.example {
        Change::Keep => {}
        Change::Reset => wanted.example = None,
        Change::Set(new) => wanted.example = json("example", Some(new), &mut errors),
    }
    match request.mode {
        Change::Keep => {}
        Change::Reset => wanted.mode = SchemaMode::Off,
        Change::Set(new) => wanted.mode = mode(Some(new), &mut errors),
    }
    checked(wanted, Some(present), request.force, errors)
}

/// Checks that schema and example are sound, match each other, and break nobody.
pub(super) fn checked(
    wanted: RegisteredType,
    present: Option<&RegisteredType>,
    force: bool,
    mut errors: Errors,
) -> Result<RegisteredType, Problem> {
    let parsed = |text: &Option<String>| text.as_deref().map(serde_json::from_str::<Value>);
    let schema = parsed(&wanted.schema).and_then(|schema| errors.check("schema", schema));
    let example = parsed(&wanted.example).and_then(|example| errors.check("example", example));
    let validator = schema.as_ref().and_then(|schema| errors.check("schema", Schema::compile(schema)));
    if let (Some(validator), Some(example)) = (&validator, &example) {
        for Mismatch { pointer, message } in validator.mismatches(example) {
            errors.add(&format!("example{pointer}"), &message);
        }
    }
    if wanted.schema.is_none() && wanted.mode != SchemaMode::Off {
        errors.add("mode", "needs a schema");
    }
    let old = present.and_then(|present| parsed(&present.schema)).and_then(Result::ok);
    let wanted = errors.finish(Some(wanted))?;
    if let (Some(old), false) = (&old, force) {
        let differences = match &schema {
            Some(new) => breaking(old, new),
            None => vec!["the schema was removed".to_owned()],
        };
        if !differences.is_empty() {
            return Err(Problem::breaking(&differences));
        }
    }
    Ok(wanted)
}

fn text(field: &str, text: Option<String>, most: usize, errors: &mut Errors) -> String {
    let text = text.unwrap_or_default();
    if text.chars().count() > most {
        errors.add(field, &format!("must have at most {most} characters"));
    }
    text
}

fn json(field: &str, value: Option<Box<RawValue>>, errors: &mut Errors) -> Option<String> {
    let value = value?;
    if value.get().len() > Schema::MAX_BYTES {
        errors.add(field, &format!("must have at most {} bytes", Schema::MAX_BYTES));
    }
    Some(value.get().to_owned())
}

fn mode(mode: Option<String>, errors: &mut Errors) -> SchemaMode {
    mode.and_then(|mode| errors.check("mode", mode.parse())).unwrap_or(SchemaMode::Off)
}
