//! Event types as `webhooks` of an OpenAPI 3.1 document.

use std::collections::{BTreeMap, HashSet};

use serde_json::{Map, Value, json};

/// The document that describes these types: by name, with their description and schema.
pub(super) fn document(types: impl Iterator<Item = (String, String, bool, Option<Value>)>) -> Value {
    let webhooks: Map<String, Value> = types
        .map(|(name, description, deprecated, schema)| {
            let envelope = json!({
                "type": "object",
                "required": ["event", "timestamp", "agent_id", "data"],
                "properties": {
                    "event": {"const": name},
                    "timestamp": {"type": "integer", "description": "Unix seconds."},
                    "agent_id": {"type": "string"},
                    "data": schema.map_or_else(|| json!({}), without_dialect),
                },
            });
            let operation = json!({
                "operationId": name,
                "description": description,
                "deprecated": deprecated,
                "requestBody": {"required": true, "content": {"application/json": {"schema": envelope}}},
                "responses": {"2XX": {"description": "The delivery has succeeded."}},
            });
            (name, json!({"post": operation}))
        })
        .collect();
    json!({"openapi": "3.1.0", "info": {"title": "Event types", "version": "1"}, "webhooks": webhooks})
}

/// The schema without what only a whole document may have, and with its definitions inside.
fn without_dialect(mut schema: Value) -> Value {
    if let Some(members) = schema.as_object_mut() {
        members.remove("$schema");
        // References are pointers into the schema itself, which an `$id` makes a document of its own.
        if members.contains_key("$defs") || members.contains_key("definitions") {
            members.entry("$id").or_insert_with(|| "data".into());
        }
    }
    schema
}

/// A type that a document describes.
#[derive(Debug, PartialEq)]
pub(super) struct Imported {
    pub(super) description: String,
    pub(super) deprecated: bool,
    pub(super) schema: Option<Value>,
}

/// Reads a webhook of a document: the schema of `data` in its body, or of the whole body if that has no such member.
pub(super) fn imported(webhook: &Value, components: &Value) -> Result<Imported, String> {
    let operation = webhook.get("post").ok_or("has no `post`")?;
    let content = operation.pointer("/requestBody/content").and_then(Value::as_object);
    let media =
        content.and_then(|content| content.get("application/json").or_else(|| content.values().next()));
    let schema = media.and_then(|media| media.get("schema")).map(|body| {
        let resolved = resolve(body, components);
        resolved.pointer("/properties/data").unwrap_or(body).clone()
    });
    let schema = schema.map(|schema| whole(schema, components)).transpose()?;
    let text = |name: &str| operation.get(name).and_then(Value::as_str);
    Ok(Imported {
        description: text("description").or_else(|| text("summary")).unwrap_or_default().to_owned(),
        deprecated: operation.get("deprecated").and_then(Value::as_bool).unwrap_or(false),
        schema: schema.filter(|schema| schema.as_object().is_none_or(|members| !members.is_empty())),
    })
}

const COMPONENTS: &str = "#/components/schemas/";

fn resolve<'a>(schema: &'a Value, components: &'a Value) -> &'a Value {
    let name = schema.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix(COMPONENTS));
    name.and_then(|name| components.get("schemas")?.get(name)).unwrap_or(schema)
}

/// The schema with the components to which it refers as its own definitions.
fn whole(mut schema: Value, components: &Value) -> Result<Value, String> {
    let (mut wanted, mut seen, mut definitions) = (Vec::new(), HashSet::new(), BTreeMap::new());
    inward(&mut schema, &mut wanted, 0)?;
    while let Some(name) = wanted.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let found = components.get("schemas").and_then(|schemas| schemas.get(&name));
        let mut component = found.cloned().ok_or_else(|| format!("`{COMPONENTS}{name}` is missing"))?;
        inward(&mut component, &mut wanted, 0)?;
        definitions.insert(name, component);
    }
    if !definitions.is_empty() {
        // A schema that is a reference must not have others beside it in draft 7, but may in 2020-12.
        let members = schema.as_object_mut().ok_or("has a schema that is no object")?;
        let definitions: Map<String, Value> = definitions.into_iter().collect();
        members.insert("$defs".into(), Value::Object(definitions));
    }
    Ok(schema)
}

/// Turns references to components into references to definitions, and notes their names.
fn inward(value: &mut Value, wanted: &mut Vec<String>, depth: usize) -> Result<(), String> {
    if depth > 100 {
        return Err("nests too deep".into());
    }
    match value {
        Value::Array(items) => {
            for item in items {
                inward(item, wanted, depth + 1)?;
            }
        }
        Value::Object(members) => {
            if let Some(Value::String(target)) = members.get_mut("$ref")
                && let Some(name) = target.strip_prefix(COMPONENTS).map(str::to_owned)
            {
                *target = format!("#/$defs/{name}");
                wanted.push(name);
            }
            for member in members.values_mut() {
                inward(member, wanted, depth + 1)?;
            }
        }
        _ => {}
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use postrider_schema::Schema;

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let schema = json!({"type": "object", "properties": {"id": {"type": "string"}}});
        let types = [("order.paid".to_owned(), "An order".to_owned(), true, Some(schema.clone()))];
        let document = document(types.into_iter());
        let read = imported(&document["webhooks"]["order.paid"], &Value::Null).unwrap();
        assert_eq!(read, Imported { description: "An order".into(), deprecated: true, schema: Some(schema) });
    }

    #[test]
    fn components_become_definitions() {
        let components = json!({"schemas": {
            "Body": {"type": "object", "properties": {"data": {"$ref": "#/components/schemas/Order"}}},
            "Order": {"type": "object", "properties": {"lines": {"items": {"$ref": "#/components/schemas/Line"}}}},
            "Line": {"type": "object", "required": ["n"]}, "Unused": {},
        }});
        let webhook = json!({"post": {"summary": "Paid", "requestBody": {"content": {"application/json": {
            "schema": {"$ref": "#/components/schemas/Body"},
        }}}}});
        let read = imported(&webhook, &components).unwrap();
        assert_eq!(read.description, "Paid");
        let validator = Schema::compile(&read.schema.unwrap()).unwrap();
        assert_eq!(validator.mismatches(&json!({"lines": [{"n": 1}]})), []);
        assert_eq!(validator.mismatches(&json!({"lines": [{}]})).len(), 1);
        let missing = json!({"post": {"requestBody": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/X"}}}}}});
        assert!(imported(&missing, &components).unwrap_err().contains("is missing"));
        assert!(imported(&json!({}), &components).is_err());
    }
}
