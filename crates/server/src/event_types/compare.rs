//! Whether a schema is compatible with the one that it replaces.
//!
//! Publishers and receivers have been written against the old schema. So it is compatible to add an optional member, a
//! definition or a text for people. Anything else may break one of them.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

/// Members that only tell people something, or are compared where they are used.
const TEXTS: [&str; 11] = [
    "title",
    "description",
    "$comment",
    "default",
    "examples",
    "example",
    "deprecated",
    "$schema",
    "$id",
    "$defs",
    "definitions",
];

/// How many differences are reported.
const MAX_DIFFERENCES: usize = 20;

/// How deep schemas are compared.
const MAX_DEPTH: usize = 64;

/// What in the new schema may break somebody.
pub(super) fn breaking(old: &Value, new: &Value) -> Vec<String> {
    let definitions = |schema: &Value| ["$defs", "definitions"].map(|name| schema.get(name).cloned());
    let same_definitions = definitions(old) == definitions(new);
    let mut comparing = Comparing { old, new, same_definitions, found: Vec::new() };
    comparing.schemas(old, new, "data", 0);
    comparing.found.truncate(MAX_DIFFERENCES);
    comparing.found
}

struct Comparing<'a> {
    old: &'a Value,
    new: &'a Value,
    /// Otherwise equal references may lead to different schemas.
    same_definitions: bool,
    found: Vec<String>,
}

impl<'a> Comparing<'a> {
    fn schemas(&mut self, old: &'a Value, new: &'a Value, at: &str, depth: usize) {
        let (old, new) = (target(self.old, old), target(self.new, new));
        if old == new && self.same_definitions || depth > MAX_DEPTH || self.found.len() > MAX_DIFFERENCES {
            return;
        }
        let (Some(before), Some(after)) = (old.as_object(), new.as_object()) else {
            self.found.push(format!("`{at}` has another schema"));
            return;
        };
        self.types(before, after, at);
        self.required(before, after, at);
        self.properties(before, after, at, depth);
        if let (Some(before), Some(after)) = (before.get("items"), after.get("items")) {
            self.schemas(before, after, &format!("{at}[]"), depth + 1);
        }
        let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for name in names {
            let compared = ["type", "required", "properties"].contains(&name.as_str())
                || name == "items" && before.contains_key(name) && after.contains_key(name)
                || TEXTS.contains(&name.as_str());
            if !compared && before.get(name) != after.get(name) {
                self.found.push(format!("`{name}` of `{at}` changed"));
            }
        }
    }

    fn types(&mut self, before: &Map<String, Value>, after: &Map<String, Value>, at: &str) {
        if types(before) != types(after) {
            self.found.push(format!("the type of `{at}` changed"));
        }
    }

    fn required(&mut self, before: &Map<String, Value>, after: &Map<String, Value>, at: &str) {
        let (before, after) = (names(before.get("required")), names(after.get("required")));
        for name in before.difference(&after) {
            self.found.push(format!("`{at}.{name}` is no longer required"));
        }
        for name in after.difference(&before) {
            self.found.push(format!("`{at}.{name}` is required now"));
        }
    }

    fn properties(
        &mut self,
        before: &'a Map<String, Value>,
        after: &'a Map<String, Value>,
        at: &str,
        depth: usize,
    ) {
        let of = |schema: &'a Map<String, Value>| schema.get("properties").and_then(Value::as_object);
        let after = of(after);
        for (name, old) in of(before).into_iter().flatten() {
            match after.and_then(|after| after.get(name)) {
                Some(new) => self.schemas(old, new, &format!("{at}.{name}"), depth + 1),
                None => self.found.push(format!("`{at}.{name}` was removed")),
            }
        }
    }
}

/// What a reference leads to.
fn target<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let reference = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'));
    reference.and_then(|pointer| root.pointer(pointer)).unwrap_or(schema)
}

fn types(schema: &Map<String, Value>) -> BTreeSet<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => BTreeSet::from([one.as_str()]),
        several => names(several),
    }
}

fn names(list: Option<&Value>) -> BTreeSet<&str> {
    list.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_nobody_can_notice_is_compatible() {
        let old = json!({
            "type": "object", "required": ["id"], "description": "an order",
            "properties": {
                "id": {"type": "string"}, "state": {"enum": ["new", "paid"]},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
            },
            "$defs": {"line": {"type": "object", "properties": {"price": {"type": "number"}}}},
        });
        let changed = |pointer: &str, value: Value| {
            let mut new = old.clone();
            *new.pointer_mut(pointer).unwrap() = value;
            new
        };
        let mut added = old.clone();
        added["properties"]["note"] = json!({"type": "string"});
        for compatible in [old.clone(), changed("/description", json!("anything else")), added] {
            assert_eq!(breaking(&old, &compatible), Vec::<String>::new());
        }
        for (new, difference) in [
            (changed("/properties/id", json!({"type": "integer"})), "the type of `data.id` changed"),
            (changed("/properties", json!({})), "`data.id` was removed"),
            (changed("/required", json!([])), "`data.id` is no longer required"),
            (changed("/required", json!(["id", "state"])), "`data.state` is required now"),
            (changed("/properties/state/enum", json!(["new"])), "`enum` of `data.state` changed"),
            (
                changed("/$defs/line/properties/price/type", json!("string")),
                "the type of `data.lines[].price` changed",
            ),
            (
                changed("/properties/id", json!({"type": "string", "maxLength": 5})),
                "`maxLength` of `data.id` changed",
            ),
        ] {
            assert!(breaking(&old, &new).contains(&difference.to_owned()), "{:?}", breaking(&old, &new));
        }
    }
}
