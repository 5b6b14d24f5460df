//! Extractors of bodies, parameters and ids. They answer a problem before a handler runs.

use std::str::FromStr;
use std::sync::Arc;

use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use bytes::Bytes;
use postrider_core::id::{Id, IdKind};
use postrider_core::plugin::PluginName;
use postrider_core::{EventType, TenantId};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::body::Received;
use crate::problem::{Errors, Problem};
use crate::room::Room;

/// The bytes of a JSON body, up to the limit.
pub(crate) struct JsonBody {
    bytes: Bytes,
    room: BodyRoom,
}

/// The room that a large body takes. A handler keeps it for as long as it keeps what the body contained.
#[derive(Debug)]
pub(crate) struct BodyRoom(#[allow(dead_code, reason = "held until dropped")] Option<Arc<Room>>);

impl JsonBody {
    /// Parses the body.
    pub(crate) fn parse<'a, T: Deserialize<'a>>(&'a self) -> Result<T, Problem> {
        parse(&self.bytes, "")
    }

    /// Parses the body and drops its bytes, so that they are not held beside the values.
    pub(crate) fn into_parsed<T: DeserializeOwned>(self) -> Result<(T, BodyRoom), Problem> {
        Ok((self.parse()?, self.room))
    }

    /// Drops the bytes.
    pub(crate) fn into_room(self) -> BodyRoom {
        self.room
    }

    /// Parses the body. An empty body means the same as `{}`.
    pub(crate) fn parse_or_default<'a, T: Deserialize<'a> + Default>(&'a self) -> Result<T, Problem> {
        if self.bytes.trim_ascii().is_empty() { Ok(T::default()) } else { self.parse() }
    }
}

impl<S: Sync> FromRequestParts<S> for JsonBody {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        // `body::received` has put it there.
        let Received { bytes, room } = parts.extensions.remove().unwrap_or_default();
        if !bytes.is_empty() && !is_json(&parts.headers) {
            let detail = "send JSON with `Content-Type: application/json`";
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
        }
        Ok(Self { bytes, room: BodyRoom(room) })
    }
}

/// Whether the type is `application/json` or `application/…+json` (RFC 6839, section 3.1). Parameters do not matter.
fn is_json(headers: &HeaderMap) -> bool {
    let Some(Ok(value)) = headers.get(header::CONTENT_TYPE).map(|value| value.to_str()) else { return false };
    let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence
        .strip_prefix("application/")
        .is_some_and(|subtype| subtype == "json" || (subtype.len() > 5 && subtype.ends_with("+json")))
}

/// Parses JSON. `within` is its path in the request and prefixes the names of fields.
pub(crate) fn parse<'a, T: Deserialize<'a>>(json: &'a [u8], within: &str) -> Result<T, Problem> {
    // Serde would accept an array for an object and read its items as the fields in their order.
    if json.trim_ascii_start().starts_with(b"[") {
        let mut errors = Errors::within(within);
        errors.add("", "must be an object");
        return Err(errors.whole_body());
    }
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    let parsed = serde_path_to_error::deserialize(&mut deserializer);
    match parsed {
        Ok(value) => {
            deserializer.end().map_err(|error| not_json(&error))?;
            Ok(value)
        }
        Err(error) if error.inner().is_data() => {
            let (path, reason) = (error.path().to_string(), reason(error.inner()));
            let mut errors = Errors::within(within);
            errors.add(&field(&path, &reason), &reason);
            Err(errors.whole_body())
        }
        Err(error) => Err(not_json(error.inner())),
    }
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, format!("the body is not JSON: {error}"))
}

/// The field's name. For a field that is missing or given twice, serde's path ends at the object around it.
fn field(path: &str, reason: &str) -> String {
    let within = if path == "." { "" } else { path };
    let named = ["duplicate field `", "missing field `"];
    let name = named.iter().find_map(|start| reason.strip_prefix(start)?.strip_suffix('`'));
    match (within, name) {
        (within, None) => within.to_owned(),
        ("", Some(name)) => name.to_owned(),
        (within, Some(name)) => format!("{within}.{name}"),
    }
}

/// What is wrong, without the position, which the field's name gives, and without the value, which may be secret.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rfind(" at line ").map_or(text.as_str(), |end| &text[..end]);
    match text.rsplit_once(", expected ") {
        Some((found, expected)) if text.starts_with("invalid ") => {
            let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
            format!("{kind}, expected {expected}")
        }
        _ => text.to_owned(),
    }
}

/// The parameters of the query. `T` reads them from an object of strings.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let mut given = Map::new();
        let query = parts.uri.query().unwrap_or_default();
        for (name, value) in url::form_urlencoded::parse(query.as_bytes()) {
            if given.contains_key(&*name) {
                return Err(Problem::field(name, "is given twice"));
            }
            // A filter that is empty by mistake must not mean everything.
            if value.is_empty() {
                return Err(Problem::field(name, "must not be empty; leave it out to select everything"));
            }
            given.insert(name.into_owned(), Value::String(value.into_owned()));
        }
        match serde_path_to_error::deserialize(Value::Object(given)) {
            Ok(parameters) => Ok(Self(parameters)),
            Err(error) => Err(Problem::field(error.path().to_string(), error.inner())),
        }
    }
}

/// The `{id}` of the path. A malformed id is answered like an unknown one: 404.
pub(crate) struct PathId<K: IdKind>(pub(crate) Id<K>);

impl<K: IdKind, S: Send + Sync> FromRequestParts<S> for PathId<K> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        in_path(parts, "id", state).await.map(Self).ok_or_else(|| Problem::missing("object"))
    }
}

/// The `{id}` of the path, a tenant's. An invalid one is answered like an unknown one: 404.
pub(crate) struct PathTenant(pub(crate) TenantId);

impl<S: Send + Sync> FromRequestParts<S> for PathTenant {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        in_path(parts, "id", state).await.map(Self).ok_or_else(|| Problem::missing("tenant"))
    }
}

/// The `{name}` of the path, an event type. An invalid one is answered like an unknown one: 404.
pub(crate) struct PathEventType(pub(crate) EventType);

impl<S: Send + Sync> FromRequestParts<S> for PathEventType {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        in_path(parts, "name", state).await.map(Self).ok_or_else(|| Problem::missing("event type"))
    }
}

/// The `{name}` of the path, a plugin's. An invalid one is answered like an unknown one: 404.
pub(crate) struct PathPlugin(pub(crate) PluginName);

impl<S: Send + Sync> FromRequestParts<S> for PathPlugin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        in_path(parts, "name", state).await.map(Self).ok_or_else(|| Problem::missing("plugin"))
    }
}

pub(crate) async fn id_in_path<T: FromStr>(parts: &mut Parts, state: &(impl Send + Sync)) -> Option<T> {
    in_path(parts, "id", state).await
}

async fn in_path<T: FromStr>(parts: &mut Parts, name: &str, state: &(impl Send + Sync)) -> Option<T> {
    let parameters: Result<RawPathParams, RawPathParamsRejection> =
        RawPathParams::from_request_parts(parts, state).await;
    let parameters = parameters.ok()?;
    let (_, id) = parameters.iter().find(|(given, _)| *given == name)?;
    id.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;
    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Body {
        number: Option<u8>,
        #[serde(default)]
        list: Vec<Inner>,
        raw: Option<Box<RawValue>>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Inner {
        word: Option<String>,
    }

    fn rejected(json: &str, within: &str) -> (u16, String) {
        let problem =
            serde_json::to_value(parse::<Body>(json.as_bytes(), within).unwrap_err().into_body()).unwrap();
        let status = u16::try_from(problem["status"].as_u64().unwrap()).unwrap();
        (status, problem["errors"][0]["field"].as_str().unwrap_or_default().to_owned())
    }

    #[test]
    fn errors_name_the_invalid_field() {
        for (json, field) in [
            (r#"{"number":"a"}"#, "number"),
            (r#"{"number":256}"#, "number"),
            (r#"{"list":[{"word":"a"},{"word":1}]}"#, "list[1].word"),
            (r#"{"list":[{"words":"a"}]}"#, "list[0].words"),
            (r#"{"other":1}"#, "other"),
            (r#"{"number":1,"number":2}"#, "number"),
            (r#"{"list":[{"word":"a","word":"b"}]}"#, "list[0].word"),
        ] {
            assert_eq!(rejected(json, ""), (422, field.to_owned()), "{json}");
            assert_eq!(rejected(json, "events[3]"), (422, format!("events[3].{field}")), "{json}");
        }
        assert_eq!(rejected("[]", "events[3]"), (422, "events[3]".to_owned()));
        assert_eq!(rejected(r" [7,[],{}]", ""), (422, "body".to_owned()), "objects without names");
        assert_eq!(rejected("1", ""), (422, "body".to_owned()));
    }

    #[test]
    fn errors_do_not_repeat_the_invalid_value() {
        for (json, message) in [
            (r#"{"list":"a secret, expected \" to be"}"#, "invalid type: string, expected a sequence"),
            (r#"{"number":"a secret"}"#, "invalid type: string, expected u8"),
            (r#"{"number":12345678}"#, "invalid value: integer, expected u8"),
            (r#"{"number":[1]}"#, "invalid type: sequence, expected u8"),
        ] {
            let problem =
                serde_json::to_value(parse::<Body>(json.as_bytes(), "").unwrap_err().into_body()).unwrap();
            assert_eq!(problem["errors"][0]["message"], message, "{json}");
            assert!(!problem.to_string().contains("a secret"), "{problem}");
        }
    }

    #[test]
    fn malformed_json_is_a_bad_request() {
        for json in ["", "{", "{}x", r#"{"number":}"#, "\u{feff}{}", r#"{"raw":{"a":}}"#] {
            assert_eq!(rejected(json, "").0, 400, "{json:?}");
        }
        assert!(parse::<Body>(b"{\"raw\":\"\xff\"}", "").is_err());
    }

    #[test]
    fn raw_values_keep_their_bytes() {
        let body: Body = parse(br#"{"raw": {"b":1.10, "a":1e400,"a":2} }"#, "").unwrap();
        assert_eq!(body.raw.unwrap().get(), r#"{"b":1.10, "a":1e400,"a":2}"#);
        let body: Body = parse(br#"{"raw":null,"number":3,"list":[{"word":"a"}]}"#, "").unwrap();
        assert!(body.raw.is_none() && body.number == Some(3) && body.list[0].word.as_deref() == Some("a"));
    }

    #[test]
    fn json_is_recognised_by_its_media_type() {
        for (value, json) in [
            ("application/json", true),
            ("Application/JSON; charset=utf-8", true),
            ("application/cloudevents+json", true),
            ("application/+json", false),
            ("text/json", false),
            ("application/jsonp", false),
            ("", false),
        ] {
            let headers = HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
            assert_eq!(is_json(&headers), json, "{value}");
        }
        assert!(!is_json(&HeaderMap::new()));
    }
}
