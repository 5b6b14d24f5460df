//! `OpenAPI` schemas that cannot be derived.

use std::borrow::Cow;

use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};
use utoipa::{PartialSchema, ToSchema};

use crate::policy::Span;

/// A string that is one of `words`.
pub(crate) fn words(words: impl Iterator<Item = &'static str>) -> RefOr<Schema> {
    ObjectBuilder::new().schema_type(Type::String).enum_values(Some(words)).into()
}

impl PartialSchema for Span {
    fn schema() -> RefOr<Schema> {
        let seconds =
            ObjectBuilder::new().schema_type(Type::Number).minimum(Some(0.0)).title(Some("seconds"));
        let text = ObjectBuilder::new().schema_type(Type::String).title(Some("text"));
        OneOfBuilder::new()
            .item(seconds)
            .item(text)
            .description(Some("A duration: seconds, or text such as `1m 30s`. Responses always use text."))
            .examples([serde_json::json!("1m 30s"), serde_json::json!(90)])
            .into()
    }
}

impl ToSchema for Span {
    fn name() -> Cow<'static, str> {
        "Duration".into()
    }
}
