//! The OpenAPI description of a server, which every response must match.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::Arc;

use http::Method;
use jsonschema::Validator;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Answer;

/// An OpenAPI description, ready to check responses.
///
/// It is stricter than the document: an object may have only the properties that are described. Clients must tolerate
/// others, but a test should see that the server and its description disagree.
#[derive(Debug)]
pub struct Description {
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    method: Method,
    /// The parts of the path; `None` stands for a parameter.
    path: Vec<Option<String>>,
    responses: HashMap<String, Response>,
}

/// The described bodies of a response by media type. A response without a body has none.
#[derive(Debug, Default)]
struct Response(HashMap<String, Option<Arc<Validator>>>);

impl Description {
    /// Reads a description.
    pub fn new(mut api: Value) -> Self {
        close_objects(&mut api);
        let mut validators = HashMap::new();
        let mut operations = Vec::new();
        for (path, item) in api["paths"].as_object().expect("paths") {
            for (method, operation) in item.as_object().expect("operations") {
                let responses = operation["responses"].as_object().expect("responses").iter();
                let read = |response: &Value, validators: &mut HashMap<String, Arc<Validator>>| {
                    let content = response["content"].as_object().into_iter().flatten();
                    let body = content.map(|(media_type, content)| {
                        (media_type.clone(), validator(&api, &content["schema"], validators))
                    });
                    Response(body.collect())
                };
                operations.push(Operation {
                    method: method.to_ascii_uppercase().parse().expect("a method"),
                    path: path
                        .split('/')
                        .map(|part| (!part.starts_with('{')).then(|| part.to_owned()))
                        .collect(),
                    responses: responses
                        .map(|(status, response)| (status.clone(), read(response, &mut validators)))
                        .collect(),
                });
            }
        }
        Self { operations }
    }

    /// Checks a response. Requests that the description does not know, such as those with a wrong method, pass.
    ///
    /// # Errors
    /// Says how the response differs from its description.
    pub fn check(&self, method: &Method, path: &str, answer: &Answer) -> Result<(), String> {
        let path = path.split('?').next().unwrap_or_default();
        let Some(operation) = self.operations.iter().find(|operation| operation.matches(method, path)) else {
            return Ok(());
        };
        let status = answer.status.to_string();
        let Some(Response(described)) = operation.responses.get(&status) else {
            return Err(format!("{method} {path}: the status {status} is not described: {}", answer.text()));
        };
        let content_type = answer.header("content-type").unwrap_or_default();
        let media_type = content_type.split(';').next().unwrap_or_default().trim();
        if described.is_empty() {
            return match answer.body.len() {
                0 => Ok(()),
                _ => Err(format!("{method} {path} {status}: the body is not described: {}", answer.text())),
            };
        }
        let Some(schema) = described.get(media_type) else {
            return Err(format!("{method} {path} {status}: the type `{media_type}` is not described"));
        };
        let Some(validator) = schema else { return Ok(()) };
        if !media_type.ends_with("json") {
            return Ok(());
        }
        let body = match serde_json::from_slice(&answer.body) {
            Ok(body) => body,
            // Data comes back byte for byte, and may have numbers that a `Value` cannot hold.
            Err(error) => {
                let is_json = serde_json::from_slice::<&RawValue>(&answer.body).is_ok();
                return if is_json { Ok(()) } else { Err(format!("{method} {path} {status}: {error}")) };
            }
        };
        let mut differences = String::new();
        for error in validator.iter_errors(&body) {
            let _ = write!(differences, "\n  {}: {error}", error.instance_path());
        }
        if differences.is_empty() {
            Ok(())
        } else {
            Err(format!("{method} {path} {status} differs from its description:{differences}\n{body:#}"))
        }
    }
}

impl Operation {
    fn matches(&self, method: &Method, path: &str) -> bool {
        let parts: Vec<_> = path.split('/').collect();
        self.method == *method
            && self.path.len() == parts.len()
            && self.path.iter().zip(parts).all(|(own, part)| own.as_deref().is_none_or(|own| own == part))
    }
}

/// The validator of a schema of the description, made once.
fn validator(
    api: &Value,
    schema: &Value,
    made: &mut HashMap<String, Arc<Validator>>,
) -> Option<Arc<Validator>> {
    let mut schema = schema.as_object()?.clone();
    let key = Value::Object(schema.clone()).to_string();
    if let Some(validator) = made.get(&key) {
        return Some(Arc::clone(validator));
    }
    // References are relative to the document, so the document's components become part of the schema.
    schema.insert("components".to_owned(), api["components"].clone());
    let validator = Arc::new(jsonschema::validator_for(&Value::Object(schema)).expect("a schema"));
    made.insert(key, Arc::clone(&validator));
    Some(validator)
}

/// Forbids properties that are not described, except in schemas that others extend.
fn close_objects(api: &mut Value) {
    fn extended(value: &Value, names: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                let parts = map.get("allOf").and_then(Value::as_array).into_iter().flatten();
                let references = parts.filter_map(|part| part["$ref"].as_str());
                names.extend(references.filter_map(|name| name.rsplit('/').next()).map(str::to_owned));
                map.values().for_each(|value| extended(value, names));
            }
            Value::Array(list) => list.iter().for_each(|value| extended(value, names)),
            _ => {}
        }
    }
    let mut names = Vec::new();
    extended(api, &mut names);
    let schemas = api["components"]["schemas"].as_object_mut().expect("schemas");
    for (name, schema) in schemas.iter_mut().filter(|(name, _)| !names.contains(name)) {
        let is_object = schema.get("properties").is_some() || schema.get("allOf").is_some();
        if is_object {
            schema["unevaluatedProperties"] = json!(false);
        } else if schema.get("oneOf").is_none() && schema.get("enum").is_none() {
            assert!(schema.get("type").is_some(), "{name} describes nothing");
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;

    fn answer(status: u16, body: &Value) -> Answer {
        let headers =
            HeaderMap::from_iter([(http::header::CONTENT_TYPE, "application/json".parse().unwrap())]);
        Answer { status, headers, body: Bytes::from(body.to_string()) }
    }

    #[test]
    fn responses_that_differ_from_their_description_are_found() {
        let schema = json!({
            "type": "object", "required": ["name", "size"],
            "properties": {"name": {"type": "string"}, "size": {"type": ["integer", "null"]}},
        });
        let content = json!({"application/json": {"schema": {"$ref": "#/components/schemas/Thing"}}});
        let description = Description::new(json!({
            "paths": {"/things/{id}": {"get": {"responses": {"200": {"content": content}}}}},
            "components": {"schemas": {"Thing": schema}},
        }));
        let check =
            |status, body: &Value| description.check(&Method::GET, "/things/7?x=1", &answer(status, body));
        assert_eq!(check(200, &json!({"name": "a", "size": null})), Ok(()));
        for (status, body) in [
            (200, json!({"name": "a"})),
            (200, json!({"name": 1, "size": 1})),
            (200, json!({"name": "a", "size": 1, "more": 1})),
            (201, json!({"name": "a", "size": 1})),
        ] {
            assert!(check(status, &body).is_err(), "{status} {body}");
        }
        assert_eq!(description.check(&Method::GET, "/others", &answer(500, &json!(1))), Ok(()));
    }
}
