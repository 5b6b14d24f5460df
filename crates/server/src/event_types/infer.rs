//! Deriving a schema from examples.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

/// The most members of an object that are described. Of one with more, only that it is an object.
const MAX_MEMBERS: usize = 200;

/// How deep values are described.
const MAX_DEPTH: usize = 20;

/// The schema that all of these values match.
pub(super) fn schema(values: &[Value]) -> Value {
    let mut shape = Shape::default();
    for value in values {
        shape.add(value, 0);
    }
    let mut schema =
        Map::from_iter([("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"))]);
    if let Value::Object(described) = shape.describe() {
        schema.extend(described);
    }
    Value::Object(schema)
}

/// What values have in common.
#[derive(Default)]
struct Shape {
    types: BTreeSet<&'static str>,
    objects: usize,
    members: BTreeMap<String, (usize, Shape)>,
    /// Whether some object had too many members, or values nest too deep.
    cut: bool,
    items: Option<Box<Shape>>,
}

impl Shape {
    fn add(&mut self, value: &Value, depth: usize) {
        self.types.insert(match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        });
        self.cut |= depth >= MAX_DEPTH;
        match value {
            Value::Object(members) if !self.cut => {
                self.objects += 1;
                for (name, member) in members {
                    let (times, shape) = self.members.entry(name.clone()).or_default();
                    *times += 1;
                    shape.add(member, depth + 1);
                }
                self.cut |= self.members.len() > MAX_MEMBERS;
            }
            Value::Array(items) if !self.cut => {
                let shape = self.items.get_or_insert_default();
                for item in items {
                    shape.add(item, depth + 1);
                }
            }
            _ => {}
        }
    }

    fn describe(&self) -> Value {
        let mut types: Vec<&str> = self.types.iter().copied().collect();
        if types.contains(&"number") {
            types.retain(|name| *name != "integer");
        }
        let mut schema = Map::new();
        match types[..] {
            [] => return json!({}),
            [one] => schema.insert("type".into(), json!(one)),
            _ => schema.insert("type".into(), json!(types)),
        };
        if types.contains(&"object") && !self.cut {
            let members: Map<String, Value> =
                self.members.iter().map(|(name, (_, shape))| (name.clone(), shape.describe())).collect();
            let always: Vec<&String> = self
                .members
                .iter()
                .filter(|(_, (times, _))| *times == self.objects)
                .map(|(name, _)| name)
                .collect();
            schema.insert("properties".into(), members.into());
            if !always.is_empty() {
                schema.insert("required".into(), json!(always));
            }
        }
        if let Some(items) = self.items.as_ref().filter(|items| !items.types.is_empty() && !self.cut) {
            schema.insert("items".into(), items.describe());
        }
        Value::Object(schema)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use postrider_schema::Schema;

    #[test]
    fn members_of_all_examples_are_required() {
        let schema = schema(&[
            json!({"id": "a", "total": 1, "lines": [{"n": 1}]}),
            json!({"id": "b", "total": 1.5, "note": null, "lines": []}),
        ]);
        let expected = json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "properties": {
                "id": {"type": "string"}, "total": {"type": "number"}, "note": {"type": "null"},
                "lines": {
                    "type": "array",
                    "items": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]},
                },
            },
            "required": ["id", "lines", "total"],
        });
        assert_eq!(schema, expected);
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            (-1e9..1e9).prop_map(Value::from),
            "[a-c]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-c]{1,2}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn the_examples_match_their_schema(values in prop::collection::vec(json_value(), 1..6)) {
            let validator = Schema::compile(&schema(&values)).unwrap();
            for value in &values {
                prop_assert_eq!(validator.mismatches(value), []);
            }
        }
    }
}
