//! JSON as values of the library: parsed once, and cheap to copy.
//!
//! The library copies what a loop's variable is bound to, and what an error shows. Lists and maps are therefore shared, and the
//! library finds no form of its own for them to copy.

use std::any::Any;
use std::fmt;
use std::sync::Arc;

use cel::ExecutionError;
use cel::common::traits::{Adder, Container, Indexer, Iterable, Iterator as Items, Sizer};
use cel::common::types::{
    CelBool, CelDouble, CelInt, CelList, CelMap, CelNull, CelString, CelUInt, LIST_TYPE, MAP_TYPE, Type,
};
use cel::common::value::{CowVal, StaticVal, Val};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

use crate::steps::{comparison, turn};

/// A list.
#[derive(Clone, Debug)]
pub(crate) struct JsonList(Arc<[Box<dyn Val>]>);

/// A map, in the order of its keys. Of duplicate keys the last counts.
#[derive(Clone, Debug)]
pub(crate) struct JsonMap(Arc<[(CelString<'static>, Box<dyn Val>)]>);

impl JsonList {
    pub(crate) fn new(elements: Vec<Box<dyn Val>>) -> Self {
        Self(elements.into())
    }

    pub(crate) fn elements(&self) -> &[Box<dyn Val>] {
        &self.0
    }
}

impl JsonMap {
    pub(crate) fn new(mut members: Vec<(String, Box<dyn Val>)>) -> Self {
        // A stable sort: the last of several with one key stays the last of them.
        members.sort_by(|(one, _), (other, _)| one.cmp(other));
        let mut unique: Vec<(CelString<'static>, Box<dyn Val>)> = Vec::with_capacity(members.len());
        for (key, value) in members {
            match unique.last_mut() {
                Some(last) if last.0.inner() == key => last.1 = value,
                _ => unique.push((CelString::from(key), value)),
            }
        }
        Self(unique.into())
    }

    pub(crate) fn members(&self) -> &[(CelString<'static>, Box<dyn Val>)] {
        &self.0
    }

    pub(crate) fn find(&self, key: &str) -> Option<&(dyn Val + 'static)> {
        let place = self.0.binary_search_by(|(known, _)| known.inner().cmp(key)).ok()?;
        self.0.get(place).map(|(_, value)| value.as_ref())
    }
}

/// Whether two values are equal, whichever of them comes from JSON.
pub(crate) fn equal(one: &dyn Val, other: &dyn Val) -> bool {
    if !comparison() {
        return false;
    }
    if let Some(list) = one.downcast_ref::<CelList<'_>>() {
        return equals_list(other, list.inner());
    }
    if let Some(list) = one.downcast_ref::<JsonList>() {
        return equals_list(other, list.elements());
    }
    match (size_of_map(one), size_of_map(other)) {
        (Some(one_size), Some(other_size)) => {
            one_size == other_size
                && pairs(one).all(|(key, value)| get(other, key).is_some_and(|found| equal(value, found)))
        }
        (None, None) => one.equals(other),
        _ => false,
    }
}

fn equals_list(other: &dyn Val, elements: &[Box<dyn Val + '_>]) -> bool {
    let others: &[Box<dyn Val + '_>] =
        match (other.downcast_ref::<JsonList>(), other.downcast_ref::<CelList<'_>>()) {
            (Some(list), _) => list.elements(),
            (None, Some(list)) => list.inner(),
            (None, None) => return false,
        };
    elements.len() == others.len()
        && elements.iter().zip(others).all(|(one, other)| equal(one.as_ref(), other.as_ref()))
}

fn size_of_map(value: &dyn Val) -> Option<usize> {
    match value.downcast_ref::<JsonMap>() {
        Some(map) => Some(map.members().len()),
        None => value.downcast_ref::<CelMap<'_>>().map(|map| map.inner().len()),
    }
}

/// The members of a map.
fn pairs<'b>(map: &'b dyn Val) -> Box<dyn Iterator<Item = (&'b dyn Val, &'b dyn Val)> + 'b> {
    if let Some(map) = map.downcast_ref::<JsonMap>() {
        return Box::new(map.members().iter().map(|(key, value)| (key as &dyn Val, value.as_ref())));
    }
    match map.downcast_ref::<CelMap<'_>>() {
        Some(map) => Box::new(
            map.inner().iter().map(|(key, value)| (key.inner() as &dyn Val, value.as_ref() as &dyn Val)),
        ),
        None => Box::new(std::iter::empty()),
    }
}

fn get<'b>(map: &'b dyn Val, key: &dyn Val) -> Option<&'b dyn Val> {
    if let Some(map) = map.downcast_ref::<JsonMap>() {
        return map.find(key.downcast_ref::<CelString<'_>>()?.inner());
    }
    pairs(map).find(|(known, _)| known.equals(key)).map(|(_, value)| value)
}

impl Val for JsonList {
    fn get_type(&self) -> &Type {
        &LIST_TYPE
    }

    fn cel_type() -> &'static Type {
        &LIST_TYPE
    }

    fn as_adder<'b, 'v>(&'b self) -> Option<&'b (dyn Adder + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for JsonList {}

impl Adder for JsonList {
    fn add<'b, 'v>(&'b self, rhs: &(dyn Val + 'v)) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let others = rhs.as_iterable().ok_or_else(|| wrong_type(rhs, "list"))?;
        let mut elements: Vec<Box<dyn Val + 'v>> =
            self.0.iter().map(|element| element.clone_as_boxed()).collect();
        let mut others = others.iter();
        while let Some(other) = others.next() {
            elements.push(other.clone_as_boxed());
        }
        Ok(CowVal::owned(CelList::from(elements)))
    }
}

impl Container for JsonList {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(self.0.iter().any(|element| equal(element.as_ref(), value)))
    }
}

impl Indexer for JsonList {
    fn get<'b, 'v>(&'b self, index: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let place = match (index.downcast_ref::<CelInt>(), index.downcast_ref::<CelUInt>()) {
            (Some(place), _) => usize::try_from(*place.inner()).ok(),
            (None, Some(place)) => usize::try_from(*place.inner()).ok(),
            (None, None) => return Err(wrong_type(index, "int")),
        };
        let found = place.and_then(|place| self.0.get(place));
        found
            .map(|value| CowVal::Borrowed(value.as_ref()))
            .ok_or(ExecutionError::IndexOutOfBounds(cel::Value::Null))
    }

    fn steal<'v>(self: Box<Self>, index: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(index).map(CowVal::into_owned)
    }
}

impl Iterable for JsonList {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Items<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Lent(self.0.iter().map(AsRef::as_ref)))
    }
}

impl Sizer for JsonList {
    fn size(&self) -> CelInt {
        size(self.0.len())
    }
}

impl Val for JsonMap {
    fn get_type(&self) -> &Type {
        &MAP_TYPE
    }

    fn cel_type() -> &'static Type {
        &MAP_TYPE
    }

    fn as_container(&self) -> Option<&dyn Container> {
        Some(self)
    }

    fn as_indexer<'b, 'v>(&'b self) -> Option<&'b (dyn Indexer + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_iterable<'b, 'v>(&'b self) -> Option<&'b (dyn Iterable + 'v)>
    where
        Self: 'v,
    {
        Some(self)
    }

    fn as_sizer(&self) -> Option<&dyn Sizer> {
        Some(self)
    }

    fn equals(&self, other: &dyn Val) -> bool {
        equal(self, other)
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for JsonMap {}

impl Container for JsonMap {
    fn contains(&self, value: &dyn Val) -> Result<bool, ExecutionError> {
        Ok(value.downcast_ref::<CelString<'_>>().is_some_and(|key| self.find(key.inner()).is_some()))
    }
}

impl Indexer for JsonMap {
    fn get<'b, 'v>(&'b self, key: &dyn Val) -> Result<CowVal<'b, 'v>, ExecutionError>
    where
        Self: 'v,
    {
        let key = key.downcast_ref::<CelString<'_>>().ok_or_else(|| wrong_type(key, "string"))?.inner();
        self.find(key).map(CowVal::Borrowed).ok_or_else(|| ExecutionError::no_such_key(key))
    }

    fn steal<'v>(self: Box<Self>, key: &dyn Val) -> Result<Box<dyn Val + 'v>, ExecutionError>
    where
        Self: 'v,
    {
        self.get(key).map(CowVal::into_owned)
    }
}

impl Iterable for JsonMap {
    fn iter<'b, 'v>(&'b self) -> Box<dyn Items<'b, 'v> + 'b>
    where
        Self: 'v,
    {
        Box::new(Lent(self.0.iter().map(|(key, _)| key as &(dyn Val + 'static))))
    }
}

impl Sizer for JsonMap {
    fn size(&self) -> CelInt {
        size(self.0.len())
    }
}

/// An iterator in the form that the library takes.
struct Lent<I>(I);

impl<'b, 'v, I: Iterator<Item = &'b (dyn Val + 'static)>> Items<'b, 'v> for Lent<I> {
    fn next(&mut self) -> Option<&'b (dyn Val + 'v)> {
        if !turn() {
            return None;
        }
        self.0.next().map(|value| value as &'b (dyn Val + 'v))
    }
}

fn size(length: usize) -> CelInt {
    CelInt::from(i64::try_from(length).unwrap_or(i64::MAX))
}

fn wrong_type(value: &dyn Val, want: &str) -> ExecutionError {
    ExecutionError::UnexpectedType { got: value.get_type().name().to_owned(), want: want.to_owned() }
}

/// A value that is read from JSON.
pub(crate) struct Json(pub(crate) Box<dyn Val>);

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Values).map(Self)
    }
}

struct Values;

impl<'de> Visitor<'de> for Values {
    type Value = Box<dyn Val>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Box::new(CelNull))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
        Ok(Box::new(CelBool::from(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
        Ok(Box::new(CelInt::from(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
        Ok(match i64::try_from(value) {
            Ok(value) => Box::new(CelInt::from(value)),
            Err(_) => Box::new(CelUInt::from(value)),
        })
    }

    fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
        Ok(Box::new(CelDouble::from(value)))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Self::Value, E> {
        self.visit_string(value.to_owned())
    }

    fn visit_string<E>(self, value: String) -> Result<Self::Value, E> {
        Ok(Box::new(CelString::from(value)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(Json(element)) = seq.next_element()? {
            elements.push(element);
        }
        Ok(Box::new(JsonList::new(elements)))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut members = Vec::new();
        while let Some((key, Json(value))) = map.next_entry::<String, Json>()? {
            members.push((key, value));
        }
        Ok(Box::new(JsonMap::new(members)))
    }
}
