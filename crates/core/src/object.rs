//! Structs that deserialise from JSON objects only.
//!
//! Serde's derived implementation also accepts an array with the fields' values in order.

use serde::de::{Deserializer, Visitor};
use serde::forward_to_deserialize_any;

/// Implements serde's traits for structs that derive `Serialize` and `Deserialize` with `#[serde(remote = "Self")]`.
///
/// ```
/// # use serde::{Deserialize, Serialize};
/// #[derive(Debug, Deserialize, Serialize)]
/// #[serde(remote = "Self")]
/// struct Point {
///     x: u8,
/// }
/// postrider_core::only_objects!(Point);
///
/// assert!(serde_json::from_str::<Point>(r#"{"x":1}"#).is_ok());
/// assert!(serde_json::from_str::<Point>("[1]").is_err());
/// ```
#[macro_export]
macro_rules! only_objects {
    ($($name:ident),+) => {$(
        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                // The derived function: an inherent function takes precedence over a trait's.
                Self::serialize(self, serializer)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::deserialize($crate::object::OnlyObjects(deserializer))
            }
        }
    )+};
}

/// Deserialises an object, whichever type the visitor asks for.
#[derive(Debug)]
pub struct OnlyObjects<D>(pub D);

impl<'de, D: Deserializer<'de>> Deserializer<'de> for OnlyObjects<D> {
    type Error = D::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(visitor)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct enum identifier ignored_any
    }
}
