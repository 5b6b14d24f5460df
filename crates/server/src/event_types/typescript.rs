//! Event types as TypeScript types.

use std::fmt::Write as _;

use serde_json::{Map, Value};

/// How deep schemas are written out.
const MAX_DEPTH: usize = 100;

/// The types of the data of these event types: by name, with their description and schema.
pub(super) fn types(types: impl Iterator<Item = (String, String, Option<Value>)>) -> String {
    let mut text = String::from("// The data of events, by event type.\n\nexport interface EventData {\n");
    for (name, description, schema) in types {
        comment(&description, 1, &mut text);
        let data =
            schema.as_ref().map_or_else(|| "unknown".to_owned(), |schema| written(schema, schema, 1, 0));
        // Writing to a String cannot fail.
        let _ = writeln!(text, "  {}: {data};", quoted(&name));
    }
    text.push_str("}\n\nexport type EventType = keyof EventData;\n\n");
    text.push_str(
        "export interface Event<T extends EventType = EventType> {\n  event: T;\n  /** Unix seconds. */\n  timestamp: number;\n  \
         agent_id: string;\n  data: EventData[T];\n}\n",
    );
    text
}

fn comment(description: &str, indent: usize, text: &mut String) {
    if !description.is_empty() {
        let one_line = description.split_whitespace().collect::<Vec<_>>().join(" ").replace("*/", "* /");
        let _ = writeln!(text, "{}/** {one_line} */", "  ".repeat(indent));
    }
}

/// A name or text as a literal. JSON strings are literals of TypeScript, too.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn written(root: &Value, schema: &Value, indent: usize, depth: usize) -> String {
    let Some(members) = schema.as_object().filter(|_| depth < MAX_DEPTH) else { return "unknown".into() };
    let inner = |schema: &Value| written(root, schema, indent, depth + 1);
    if let Some(target) = members.get("$ref").and_then(Value::as_str).and_then(|text| text.strip_prefix('#'))
    {
        return root.pointer(target).map_or_else(|| "unknown".into(), inner);
    }
    if let Some(value) = members.get("const") {
        return literal(value);
    }
    if let Some(Value::Array(values)) = members.get("enum") {
        return joined(values.iter().map(literal), " | ", "never");
    }
    for (name, between) in [("oneOf", " | "), ("anyOf", " | "), ("allOf", " & ")] {
        if let Some(Value::Array(schemas)) = members.get(name) {
            let parts = schemas.iter().map(|schema| format!("({})", inner(schema)));
            return joined(parts, between, "unknown");
        }
    }
    match members.get("type") {
        Some(Value::String(one)) => of_type(one, root, members, indent, depth),
        Some(Value::Array(several)) => {
            let each = several.iter().filter_map(Value::as_str);
            joined(each.map(|one| of_type(one, root, members, indent, depth)), " | ", "unknown")
        }
        _ if members.contains_key("properties") => object(root, members, indent, depth),
        _ => "unknown".into(),
    }
}

fn joined(parts: impl Iterator<Item = String>, between: &str, otherwise: &str) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { otherwise.to_owned() } else { parts.join(between) }
}

fn literal(value: &Value) -> String {
    if value.is_object() || value.is_array() { "unknown".into() } else { value.to_string() }
}

fn of_type(name: &str, root: &Value, members: &Map<String, Value>, indent: usize, depth: usize) -> String {
    match name {
        "string" | "boolean" | "null" => name.to_owned(),
        "number" | "integer" => "number".into(),
        "array" => {
            let items = members.get("items").map(|items| written(root, items, indent, depth + 1));
            format!("Array<{}>", items.unwrap_or_else(|| "unknown".into()))
        }
        "object" => object(root, members, indent, depth),
        _ => "unknown".into(),
    }
}

fn object(root: &Value, members: &Map<String, Value>, indent: usize, depth: usize) -> String {
    let Some(Value::Object(properties)) = members.get("properties") else {
        return "Record<string, unknown>".into();
    };
    let required: Vec<&str> = members
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect();
    let mut text = String::from("{\n");
    for (name, schema) in properties {
        let description = schema.get("description").and_then(Value::as_str).unwrap_or_default();
        comment(description, indent + 1, &mut text);
        let optional = if required.contains(&name.as_str()) { "" } else { "?" };
        let value = written(root, schema, indent + 1, depth + 1);
        let _ = writeln!(text, "{}{}{optional}: {value};", "  ".repeat(indent + 1), quoted(name));
    }
    text.push_str(&"  ".repeat(indent));
    text.push('}');
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_schema_is_written_as_a_type() {
        let schema = json!({
            "type": "object", "required": ["id"],
            "properties": {
                "id": {"type": "string", "description": "The id\n*/ of it"},
                "state": {"enum": ["new", 1, null]},
                "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
                "either": {"oneOf": [{"type": "string"}, {"type": ["integer", "null"]}]},
                "any": {},
            },
            "$defs": {"line": {"type": "object", "properties": {"n-1": {"type": "number"}}}},
        });
        let types = types(
            [("order.paid".to_owned(), "Paid".to_owned(), Some(schema)), ("x".into(), String::new(), None)]
                .into_iter(),
        );
        for line in [
            "  /** Paid */\n  \"order.paid\": {\n",
            "    /** The id * / of it */\n    \"id\": string;\n",
            "    \"state\"?: \"new\" | 1 | null;\n",
            "    \"lines\"?: Array<{\n      \"n-1\"?: number;\n    }>;\n",
            "    \"either\"?: (string) | (number | null);\n",
            "    \"any\"?: unknown;\n",
            "  \"x\": unknown;\n",
        ] {
            assert!(types.contains(line), "{line} in\n{types}");
        }
    }
}
