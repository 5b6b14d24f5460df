//! Filters and transforms of subscribers: validated, changed and shown.

use postrider_api::transform::{StepFields, TransformFields};
use postrider_core::json::Pointer;
use postrider_core::merge_patch::merge;
use postrider_core::transform::{Step, Steps};
use postrider_core::{Expression, Transform};
use postrider_filter::{Filter, Projection};
use serde_json::{Map, Value};

use crate::extract::parse;
use crate::problem::{Errors, Problem};

/// A filter that compiles.
pub(super) fn filter(text: &str, errors: &mut Errors) -> Option<Expression> {
    let expression = errors.check("filter", text.parse())?;
    errors.check("filter", Filter::compile(&expression))?;
    Some(expression)
}

/// A transform whose steps name places, or whose expression compiles.
pub(super) fn transform(fields: TransformFields, errors: &mut Errors) -> Option<Transform> {
    let transform = match (fields.steps, fields.project) {
        (Some(fields), None) => {
            let steps: Vec<_> =
                fields.into_iter().enumerate().map(|(place, fields)| step(place, fields, errors)).collect();
            let steps: Vec<Step> = steps.into_iter().collect::<Option<_>>()?;
            Transform::Steps(errors.check("transform.steps", Steps::try_from(steps))?)
        }
        (None, Some(text)) => {
            let expression = errors.check("transform.project", text.parse())?;
            errors.check("transform.project", Projection::compile(&expression))?;
            Transform::Project(expression)
        }
        _ => {
            errors.add("transform", "must have either `steps` or `project`");
            return None;
        }
    };
    let length = serde_json::to_string(&transform).map_or(usize::MAX, |json| json.len());
    if length > Transform::MAX_LENGTH {
        errors.add("transform", &format!("must have at most {} bytes", Transform::MAX_LENGTH));
        return None;
    }
    Some(transform)
}

/// The transform with changes merged into it.
pub(super) fn merged(
    present: Option<&Transform>,
    changes: Map<String, Value>,
    errors: &mut Errors,
) -> Result<Option<Transform>, Problem> {
    let present = present.map_or(Ok(Value::Object(Map::new())), serde_json::to_value);
    let mut merged = present.map_err(|_| Problem::internal())?;
    merge(&mut merged, Value::Object(changes));
    let fields = parse(merged.to_string().as_bytes(), "transform")?;
    Ok(transform(fields, errors))
}

/// A transform, as the API shows it.
pub(super) fn view(transform: &Transform) -> TransformFields {
    match transform {
        Transform::Steps(steps) => {
            TransformFields { steps: Some(steps.as_slice().iter().map(step_view).collect()), project: None }
        }
        Transform::Project(expression) => {
            TransformFields { steps: None, project: Some(expression.to_string()) }
        }
    }
}

fn step(place: usize, fields: StepFields, errors: &mut Errors) -> Option<Step> {
    let field = |name: &str| format!("transform.steps[{place}].{name}");
    let StepFields { op, path, to, value, keep } = fields;
    let path = pointer(&field("path"), &path, errors);
    let unused = |errors: &mut Errors, names: &[(&str, bool)]| {
        for (name, _) in names.iter().filter(|(_, is_given)| *is_given) {
            errors.add(&field(name), &format!("`{op}` does not take it"));
        }
    };
    match op.as_str() {
        "drop" => {
            unused(errors, &[("to", to.is_some()), ("value", value.is_some()), ("keep", keep.is_some())]);
            Some(Step::Drop { path: path? })
        }
        "rename" => {
            unused(errors, &[("value", value.is_some()), ("keep", keep.is_some())]);
            let to = errors.require(&field("to"), to)?;
            let path = path?;
            let to = if to.starts_with('/') {
                pointer(&field("to"), &to, errors)?
            } else {
                beside(&path, &field("to"), &to, errors)?
            };
            Some(Step::Rename { path, to })
        }
        "set" => {
            unused(errors, &[("to", to.is_some()), ("keep", keep.is_some())]);
            let value = errors.require(&field("value"), value)?;
            Some(Step::Set { path: path?, value })
        }
        "mask" => {
            unused(errors, &[("to", to.is_some()), ("value", value.is_some())]);
            Some(Step::Mask { path: path?, keep: keep.unwrap_or_default() as usize })
        }
        _ => {
            errors.add(&field("op"), "must be `drop`, `rename`, `set` or `mask`");
            None
        }
    }
}

fn pointer(field: &str, text: &str, errors: &mut Errors) -> Option<Pointer> {
    let pointer: Pointer = errors.check(field, text.parse())?;
    if pointer.is_whole() {
        errors.add(field, "the data as a whole cannot be changed; name a place in it, such as `/card`");
        return None;
    }
    Some(pointer)
}

/// The place of a key beside the one at `path`.
fn beside(path: &Pointer, field: &str, key: &str, errors: &mut Errors) -> Option<Pointer> {
    if key.is_empty() || key.contains('/') {
        errors.add(field, "must be a JSON Pointer, as in `/contact/email`, or a key without `/`");
        return None;
    }
    Some(path.sibling(key))
}

fn step_view(step: &Step) -> StepFields {
    let fields =
        StepFields { op: step.op().to_owned(), path: step.path().to_string(), ..StepFields::default() };
    match step {
        Step::Drop { .. } => fields,
        Step::Rename { to, .. } => StepFields { to: Some(to.to_string()), ..fields },
        Step::Set { value, .. } => StepFields { value: Some(value.clone()), ..fields },
        Step::Mask { keep, .. } => StepFields { keep: u32::try_from(*keep).ok(), ..fields },
    }
}
