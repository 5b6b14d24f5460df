//! Lists, one page at a time.

use std::str::FromStr;

use postrider_core::id::{Id, IdKind};
use serde::{Deserialize, Serialize, Serializer};

/// One page of a list, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct List<T> {
    /// The items of this page. With a filter that matches few items, it may end before it is full, and be empty, although
    /// another page follows.
    pub data: Vec<T>,
    /// The `cursor` of the request for the next page; `None` on the last page.
    pub next_cursor: Option<String>,
}

/// The number of items on a page, 1 to 250. The server's default is 50.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Limit(u16);

/// The number is not a page size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a limit is {} to {}", Limit::MIN, Limit::MAX)]
pub struct LimitError;

impl Limit {
    /// The smallest page.
    pub const MIN: u16 = 1;
    /// The largest page.
    pub const MAX: u16 = 250;

    /// A page of `items` items.
    ///
    /// # Errors
    /// If `items` is not 1 to 250.
    pub fn new(items: u16) -> Result<Self, LimitError> {
        if (Self::MIN..=Self::MAX).contains(&items) { Ok(Self(items)) } else { Err(LimitError) }
    }

    /// The number of items.
    pub fn items(self) -> u16 {
        self.0
    }
}

impl TryFrom<String> for Limit {
    type Error = LimitError;

    fn try_from(text: String) -> Result<Self, LimitError> {
        u16::from_str(&text).map_err(|_| LimitError).and_then(Self::new)
    }
}

impl From<Limit> for String {
    fn from(limit: Limit) -> Self {
        limit.0.to_string()
    }
}

/// Yes or no as a parameter: `true` or `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Flag(pub bool);

/// The text is neither `true` nor `false`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be `true` or `false`")]
pub struct FlagError;

impl TryFrom<String> for Flag {
    type Error = FlagError;

    fn try_from(text: String) -> Result<Self, FlagError> {
        text.parse().map(Self).map_err(|_| FlagError)
    }
}

impl From<Flag> for String {
    fn from(Flag(yes): Flag) -> Self {
        yes.to_string()
    }
}

/// A number as a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Count(pub u32);

/// The text is not a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a number from 0 to {}", Count::MAX)]
pub struct CountError;

impl Count {
    /// The largest number: what `int32` in the description of the API can hold.
    pub const MAX: u32 = i32::MAX as u32;
}

impl TryFrom<String> for Count {
    type Error = CountError;

    fn try_from(text: String) -> Result<Self, CountError> {
        text.parse().ok().filter(|number| *number <= Self::MAX).map(Self).ok_or(CountError)
    }
}

impl From<Count> for String {
    fn from(Count(number): Count) -> Self {
        number.to_string()
    }
}

/// Where a page starts: the `next_cursor` of the page before.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String", bound = "")]
pub struct Cursor<K: IdKind>(pub Id<K>);

/// The text is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a cursor is the `next_cursor` of the page before, unchanged")]
pub struct CursorError;

impl<K: IdKind> TryFrom<String> for Cursor<K> {
    type Error = CursorError;

    fn try_from(text: String) -> Result<Self, CursorError> {
        text.parse().map(Self).map_err(|_| CursorError)
    }
}

impl<K: IdKind> Serialize for Cursor<K> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(feature = "schema")]
mod schema {
    use std::borrow::Cow;

    use utoipa::openapi::RefOr;
    use utoipa::openapi::schema::{ArrayBuilder, ObjectBuilder, Ref, Schema, SchemaType, Type};
    use utoipa::{PartialSchema, ToSchema};

    use super::List;

    // By hand, because the derive writes the schema of the items into the list instead of a reference to it.
    impl<T: ToSchema> PartialSchema for List<T> {
        fn schema() -> RefOr<Schema> {
            let items = ArrayBuilder::new()
                .items(Ref::from_schema_name(T::name()))
                .description(Some("The items of this page."));
            let next_cursor = ObjectBuilder::new()
                .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
                .description(Some("The `cursor` of the request for the next page; null on the last page."));
            ObjectBuilder::new()
                .description(Some(
                    "One page of a list, newest first. With a filter that matches few items, a page may end before it is full, \
                    and be empty, although `next_cursor` continues.",
                ))
                .property("data", items)
                .required("data")
                .property("next_cursor", next_cursor)
                .required("next_cursor")
                .into()
        }
    }

    impl<T: ToSchema> ToSchema for List<T> {
        fn name() -> Cow<'static, str> {
            format!("{}List", T::name()).into()
        }

        fn schemas(schemas: &mut Vec<(String, RefOr<Schema>)>) {
            schemas.push((T::name().into_owned(), T::schema()));
            T::schemas(schemas);
        }
    }
}
