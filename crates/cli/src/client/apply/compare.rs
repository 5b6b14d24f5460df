//! What differs between an entry of the file and what the API has.

use std::fmt;

use postrider_api::Moment;
use postrider_core::key::{Preset, Scope, Scopes};
use postrider_core::subscriber::PolicyFields;
use serde_json::{Map, Value};

use super::table::Table;

/// Objects whose members are free: one that the file does not have is removed.
const WHOLE: [&str; 7] = ["schema", "example", "metadata", "transform", "plugin", "format_options", "policy"];
/// Of those, the fields that a change replaces as a whole, without null for a member that is removed.
const REPLACED: [&str; 2] = ["schema", "example"];
/// Fields whose values are secret.
const SECRET: [&str; 2] = ["headers", "auth"];

/// A field that has another value.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) field: String,
    from: Value,
    to: Value,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if SECRET.contains(&self.field.as_str()) {
            return write!(f, "{}: changed", self.field);
        }
        write!(f, "{}: {} -> {}", self.field, self.from, self.to)
    }
}

/// Returns the fields of the file that the API has with other values. What the API does not show cannot be compared.
pub(super) fn differences(table: &Table, desired: &Map<String, Value>, found: &Value) -> Vec<Difference> {
    let shown =
        desired.iter().filter(|(field, _)| !table.hidden.contains(&field.as_str()) && *field != table.key);
    let pairs = shown.map(|(field, to)| (field, found.get(field).unwrap_or(&Value::Null), to));
    let differing = pairs.filter(|(field, from, to)| !is_same(field, from, to));
    differing
        .map(|(field, from, to)| Difference { field: field.clone(), from: from.clone(), to: to.clone() })
        .collect()
}

/// Returns the merge patch (RFC 7396) that makes the differences.
pub(super) fn merge_patch(differences: &[Difference], found: &Value) -> Map<String, Value> {
    let patched = differences.iter().map(|Difference { field, to, .. }| {
        let mut value = to.clone();
        if !REPLACED.contains(&field.as_str())
            && let Value::Object(members) = &mut value
        {
            for gone in names(field, found.get(field).unwrap_or(&Value::Null)) {
                if !members.keys().any(|name| name.eq_ignore_ascii_case(&gone)) && is_whole(field) {
                    members.insert(gone, Value::Null);
                }
            }
        }
        (field.clone(), value)
    });
    patched.collect()
}

/// Whether a change must remove members that the file does not have.
fn is_whole(field: &str) -> bool {
    WHOLE.contains(&field) || field == "headers"
}

/// Returns the names of an object's members, or of headers, whose values the API does not show.
fn names(field: &str, value: &Value) -> Vec<String> {
    match value {
        Value::Object(members) => members.keys().cloned().collect(),
        Value::Array(names) if field == "headers" => {
            names.iter().filter_map(Value::as_str).map(str::to_owned).collect()
        }
        _ => Vec::new(),
    }
}

fn is_same(field: &str, from: &Value, to: &Value) -> bool {
    match field {
        "headers" => {
            let sorted = |value| {
                let mut names: Vec<String> =
                    names(field, value).iter().map(|name| name.to_ascii_lowercase()).collect();
                names.sort();
                names
            };
            sorted(from) == sorted(to)
        }
        "scopes" => scopes(from) == scopes(to),
        "policy" => {
            let policy = |value: &Value| serde_json::from_value::<PolicyFields>(value.clone());
            matches!((policy(from), policy(to)), (Ok(from), Ok(to)) if from == to)
        }
        // What the API shows of it: the secrets themselves it does not.
        "auth" => to.as_object().is_some_and(|to| {
            from.as_object().is_some_and(|from| {
                to.get("type") == from.get("type")
                    && to.iter().all(|(name, value)| from.get(name).is_none_or(|shown| shown == value))
            })
        }),
        field => agrees(from, to, WHOLE.contains(&field)),
    }
}

/// Whether a value of the API is that of the file: the same, or one that means the same. In an object that is not compared
/// as a whole, members that the file does not have are left alone.
fn agrees(from: &Value, to: &Value, whole: bool) -> bool {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            let known = from.iter().all(|(name, value)| !whole || is_empty(value) || to.contains_key(name));
            known && to.iter().all(|(name, to)| agrees(from.get(name).unwrap_or(&Value::Null), to, whole))
        }
        (Value::Array(from), Value::Array(to)) => {
            from.len() == to.len() && from.iter().zip(to).all(|(from, to)| agrees(from, to, whole))
        }
        (Value::Number(from), Value::Number(to)) => from == to || from.as_f64() == to.as_f64(),
        (Value::String(from), Value::String(to)) if from != to => {
            matches!((moment(from), moment(to)), (Some(from), Some(to)) if from == to)
        }
        (from, to) => from == to || is_empty(from) && is_empty(to),
    }
}

fn moment(text: &str) -> Option<Moment> {
    serde_json::from_value(text.into()).ok()
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Returns the scopes that a list names; names that stand for several are replaced by them.
fn scopes(value: &Value) -> Option<Scopes> {
    let names = value.as_array()?.iter().map(Value::as_str);
    names.into_iter().try_fold(Scopes::NONE, |scopes, name| {
        let name = name?;
        let one = name.parse::<Scope>().map(|scope| Scopes::of(&[scope]));
        Some(scopes.and(one.or_else(|_| name.parse::<Preset>().map(Preset::scopes)).ok()?))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::client::apply::table::TABLES;

    fn differing(table: &str, desired: &Value, found: &Value) -> (Vec<String>, Value) {
        let table = TABLES.iter().find(|known| known.name == table).unwrap();
        let found_differences = differences(table, desired.as_object().unwrap(), found);
        let patch = merge_patch(&found_differences, found);
        (found_differences.into_iter().map(|difference| difference.field).collect(), patch.into())
    }

    #[test]
    fn what_means_the_same_is_no_difference() {
        let found = json!({
            "uid": "a", "id": "sub_1", "url": "https://a/", "description": "", "headers": ["authorization"],
            "policy": {"timeout": "1m"}, "metadata": {}, "channels": null, "plugin": null, "auth": {"type": "basic", "username": "u"},
        });
        let desired = json!({
            "uid": "a", "url": "https://a/", "description": "", "secret": "x", "headers": {"Authorization": "Bearer 1"},
            "policy": {"timeout": "60s"}, "metadata": {}, "channels": [], "auth": {"type": "basic", "username": "u", "password": "p"},
        });
        assert_eq!(differing("subscribers", &desired, &found), (vec![], json!({})));
        let key = json!({"name": "k", "scopes": ["types:read", "events:write"], "limits": {"event_types": [], "burst": null}});
        let desired = json!({"name": "k", "scopes": ["publisher"], "limits": {"event_types": []}});
        assert_eq!(differing("keys", &desired, &key), (vec![], json!({})));
        let key = json!({"expires_at": "2030-01-01T00:00:00.000Z"});
        assert_eq!(
            differing("keys", &json!({"expires_at": "2030-01-01T01:00:00+01:00"}), &key).0,
            Vec::<String>::new()
        );
    }

    #[test]
    fn a_patch_removes_what_the_file_does_not_have() {
        let found = json!({
            "headers": ["a", "b"], "metadata": {"team": "x", "old": "y"}, "policy": {"max_attempts": 3, "timeout": "1m"},
            "auth": {"type": "basic"},
        });
        let desired = json!({
            "headers": {"B": "2"}, "metadata": {"team": "z"}, "policy": {"timeout": "1m"}, "auth": {"type": "oauth2"},
        });
        let (fields, patch) = differing("subscribers", &desired, &found);
        assert_eq!(fields, ["auth", "headers", "metadata", "policy"]);
        let expected = json!({
            "auth": {"type": "oauth2"}, "headers": {"B": "2", "a": null}, "metadata": {"team": "z", "old": null},
            "policy": {"timeout": "1m", "max_attempts": null},
        });
        assert_eq!(patch, expected);
        let found = json!({"schema": {"type": "object", "required": ["a"]}});
        let desired = json!({"schema": {"type": "object"}});
        assert_eq!(differing("event_types", &desired, &found), (vec!["schema".to_owned()], desired));
    }
}
