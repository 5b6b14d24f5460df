//! Schemas of event types, compiled within bounds.
//!
//! Callers write schemas, and every event is compared with one, so neither may take long. Regular expressions
//! run in linear time (the crate `regex`). A schema refers to parts of itself only and never in a circle, so it can be written
//! out without references, and is then small.

use std::collections::{HashMap, HashSet};

use jsonschema::{PatternOptions, Validator};
use serde_json::{Map, Value};

/// How many parts a schema may have once its references are written out.
const MAX_PARTS: u64 = 2_000;

/// How deep they may nest, and how many references may follow each other. Comparing takes room on the stack for each level.
const MAX_DEPTH: u64 = 120;
const MAX_REFERENCES: usize = 50;

/// How much memory a regular expression may take.
const MAX_PATTERN: usize = 256 * 1024;

/// How many failures are reported.
const MAX_FAILURES: usize = 20;

/// Members of a schema that are values, not schemas.
const VALUES: [&str; 5] = ["const", "enum", "default", "examples", "example"];

/// Where definitions are, which count where something refers to them.
const DEFINITIONS: [&str; 2] = ["$defs", "definitions"];

/// What is wrong in the data of an event, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// A JSON Pointer into the data.
    pub pointer: String,
    /// What is wrong.
    pub message: String,
}

/// A compiled schema.
#[derive(Debug)]
pub struct Schema(Validator);

/// Why a schema is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SchemaError(String);

impl Schema {
    /// The greatest length of a schema or an example in bytes, which callers check.
    pub const MAX_BYTES: usize = 64 * 1024;

    /// Compiles a schema.
    ///
    /// # Errors
    /// Fails with the reason if it is not a schema, or beyond the bounds.
    pub fn compile(schema: &Value) -> Result<Self, SchemaError> {
        if !schema.is_object() {
            return Err(SchemaError("must be an object".into()));
        }
        let parts = Parts { root: schema, known: HashMap::new(), within: HashSet::new() };
        parts.of_all().map_err(SchemaError)?;
        let patterns = PatternOptions::regex().size_limit(MAX_PATTERN).dfa_size_limit(MAX_PATTERN);
        let compiled = jsonschema::options().offline().with_pattern_options(patterns).build(schema);
        compiled.map(Self).map_err(|error| {
            let place = error.schema_path().as_str().to_owned();
            let place = if place.is_empty() { place } else { format!(" at {place}") };
            SchemaError(format!("is not a JSON Schema{place}: {error}"))
        })
    }

    /// Returns what does not match in data, at most 20 places, without the values themselves.
    pub fn mismatches(&self, data: &Value) -> Vec<Mismatch> {
        let mismatch = |error: jsonschema::ValidationError<'_>| Mismatch {
            pointer: error.instance_path().as_str().to_owned(),
            message: error.masked_with("the value").to_string(),
        };
        self.0.iter_errors(data).take(MAX_FAILURES).map(mismatch).collect()
    }
}

/// How large a part of a schema is once its references are written out: its parts, and how deep they nest.
#[derive(Clone, Copy)]
struct Size {
    parts: u64,
    depth: u64,
}

impl Size {
    const ONE: Self = Self { parts: 1, depth: 1 };

    /// This and a part within it.
    fn with(self, inner: Self) -> Self {
        Self {
            parts: self.parts.saturating_add(inner.parts),
            depth: self.depth.max(inner.depth.saturating_add(1)),
        }
    }
}

/// Measures a schema with its references written out.
struct Parts<'a> {
    root: &'a Value,
    /// By the pointers of references.
    known: HashMap<&'a str, Size>,
    within: HashSet<&'a str>,
}

impl<'a> Parts<'a> {
    fn of_all(mut self) -> Result<(), String> {
        let mut all = self.of(self.root)?;
        // Definitions that nothing refers to are compiled as well.
        let definitions = DEFINITIONS.iter().filter_map(|name| self.root.get(name)?.as_object());
        for definition in definitions.flat_map(Map::values) {
            let unused = self.of(definition)?;
            all = Size { parts: all.parts.max(unused.parts), depth: all.depth.max(unused.depth) };
        }
        if all.parts > MAX_PARTS {
            return Err(format!(
                "must have at most {MAX_PARTS} parts, each counted wherever something refers to it"
            ));
        }
        if all.depth > MAX_DEPTH {
            return Err(format!("must nest at most {MAX_DEPTH} levels deep, references included"));
        }
        Ok(())
    }

    fn of(&mut self, value: &'a Value) -> Result<Size, String> {
        let mut size = Size::ONE;
        match value {
            Value::Array(items) => {
                for item in items {
                    size = size.with(self.of(item)?);
                }
            }
            Value::Object(members) => {
                for (name, member) in members {
                    let name = name.as_str();
                    if VALUES.contains(&name) || DEFINITIONS.contains(&name) {
                        continue;
                    }
                    match (name, member) {
                        ("$ref", Value::String(target)) => size = size.with(self.of_target(target)?),
                        (
                            "$dynamicRef" | "$recursiveRef" | "$dynamicAnchor" | "$anchor",
                            Value::String(_),
                        ) => {
                            return Err(format!("`{name}` is not supported; use `$ref` with a pointer"));
                        }
                        ("$id" | "id", Value::String(_)) if !std::ptr::eq(value, self.root) => {
                            return Err("an `$id` is supported only for the whole schema".into());
                        }
                        _ => size = size.with(self.of(member)?),
                    }
                }
            }
            _ => {}
        }
        Ok(size)
    }

    fn of_target(&mut self, target: &'a str) -> Result<Size, String> {
        if let Some(size) = self.known.get(target) {
            return Ok(*size);
        }
        let pointer = target.strip_prefix('#').filter(|pointer| pointer.starts_with('/'));
        let pointer = pointer.ok_or_else(|| {
            format!("`$ref` must be a pointer into the schema, such as `#/$defs/name`, and not `{target}`")
        })?;
        let found =
            self.root.pointer(pointer).ok_or_else(|| format!("`$ref`: there is nothing at `{target}`"))?;
        if self.within.len() >= MAX_REFERENCES {
            return Err(format!("`$ref`: more than {MAX_REFERENCES} references follow each other"));
        }
        if !self.within.insert(target) {
            return Err(format!("`$ref`: `{target}` refers to itself; schemas must not go in circles"));
        }
        let size = self.of(found)?;
        self.within.remove(target);
        self.known.insert(target, size);
        Ok(size)
    }
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refused(schema: &Value) -> String {
        Schema::compile(schema).map(drop).unwrap_err().to_string()
    }

    #[test]
    fn a_schema_names_what_does_not_match_without_its_value() {
        let schema = json!({
            "type": "object", "required": ["id"],
            "properties": {"id": {"type": "string"}, "items": {"type": "array", "items": {"$ref": "#/$defs/item"}}},
            "$defs": {"item": {"type": "object", "properties": {"price": {"type": "number", "minimum": 0}}}},
        });
        let validator = Schema::compile(&schema).unwrap();
        assert_eq!(validator.mismatches(&json!({"id": "a", "items": [{"price": 1.5}]})), []);
        let found = validator.mismatches(&json!({"items": [{"price": 1}, {"price": "s3cret"}]}));
        let pointers: Vec<_> = found.iter().map(|mismatch| mismatch.pointer.as_str()).collect();
        assert!(pointers.contains(&"/items/1/price") && pointers.contains(&""), "{found:?}");
        assert!(!format!("{found:?}").contains("s3cret"), "{found:?}");
    }

    #[test]
    fn the_draft_is_that_of_the_schema() {
        let seven =
            json!({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "string"}]});
        assert_eq!(Schema::compile(&seven).unwrap().mismatches(&json!([1])).len(), 1);
        let tuple = json!({"prefixItems": [{"type": "string"}]});
        assert_eq!(Schema::compile(&tuple).unwrap().mismatches(&json!([1])).len(), 1);
    }

    #[test]
    fn schemas_beyond_the_bounds_are_refused() {
        assert!(refused(&json!(true)).contains("object"));
        assert!(refused(&json!({"type": "wrong"})).contains("not a JSON Schema"));
        assert!(
            refused(&json!({"$ref": "https://example.com/schema.json"})).contains("pointer into the schema")
        );
        assert!(refused(&json!({"$ref": "file:///etc/passwd"})).contains("pointer into the schema"));
        assert!(refused(&json!({"$ref": "#"})).contains("pointer into the schema"));
        assert!(refused(&json!({"$ref": "#/$defs/none"})).contains("there is nothing"));
        let circle = json!({"$ref": "#/$defs/a", "$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"items": {"$ref": "#/$defs/a"}}}});
        assert!(refused(&circle).contains("circles"));
        let unused = json!({"$defs": {"a": {"properties": {"x": {"$ref": "#/$defs/a"}}}}});
        assert!(refused(&unused).contains("circles"));
        assert!(refused(&json!({"$dynamicRef": "#a"})).contains("not supported"));
        assert!(
            refused(&json!({"properties": {"a": {"$id": "https://example.com/"}}})).contains("whole schema")
        );
        // Look-around and back references take more than linear time.
        assert!(refused(&json!({"pattern": "(?=a)b"})).contains("not a JSON Schema"));
        assert!(refused(&json!({"pattern": "(a{1000}){1000}"})).contains("not a JSON Schema"));
    }

    /// Each definition refers twice to the next one: 2^40 parts.
    #[test]
    fn references_are_counted_as_often_as_they_are_followed() {
        let chain = |length: u32| -> Value {
            let definitions: Map<String, Value> = (0..length)
                .map(|place| {
                    let next = if place + 1 == length {
                        json!({})
                    } else {
                        json!({"$ref": format!("#/$defs/d{}", place + 1)})
                    };
                    (format!("d{place}"), json!({"allOf": [next]}))
                })
                .collect();
            json!({"$ref": "#/$defs/d0", "$defs": definitions})
        };
        assert!(Schema::compile(&chain(20)).is_ok());
        let deep = refused(&chain(45));
        assert!(deep.contains("120 levels deep"), "{deep}");
        assert!(refused(&chain(60)).contains("more than 50 references"));
        let definitions: Map<String, Value> = (0..40)
            .map(|place| {
                let next = json!({"$ref": format!("#/$defs/d{}", place + 1)});
                (format!("d{place}"), json!({"anyOf": [next.clone(), next]}))
            })
            .chain([("d40".to_owned(), json!({"type": "string"}))])
            .collect();
        let schema = json!({"$ref": "#/$defs/d0", "$defs": definitions});
        assert!(refused(&schema).contains("at most 2000 parts"));
    }

    #[test]
    fn hostile_patterns_take_linear_time() {
        let validator = Schema::compile(&json!({"items": {"pattern": "^(a+)+$"}})).unwrap();
        let hostile = json!([format!("{}b", "a".repeat(100_000))]);
        assert_eq!(validator.mismatches(&hostile).len(), 1);
    }
}
