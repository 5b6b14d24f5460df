//! Values of the library as JSON.

use cel::common::types::{CelBool, CelDouble, CelInt, CelList, CelMap, CelNull, CelString, CelUInt};
use cel::common::value::Val;
use serde_json::Number;

use crate::error::Failed;
use crate::json::{JsonList, JsonMap};

/// The members of a map, in the order of their names. `None` if it is not a map from texts.
pub(crate) fn members(value: &dyn Val) -> Option<Vec<(&str, &dyn Val)>> {
    if let Some(map) = value.downcast_ref::<JsonMap>() {
        return Some(map.members().iter().map(|(key, value)| (key.inner(), value.as_ref())).collect());
    }
    let map = value.downcast_ref::<CelMap<'_>>()?.inner();
    let members = map.iter().map(|(key, value)| {
        let key = key.inner().downcast_ref::<CelString<'_>>()?;
        Some((key.inner(), value.as_ref() as &dyn Val))
    });
    let mut members: Vec<_> = members.collect::<Option<_>>()?;
    members.sort_unstable_by_key(|(key, _)| *key);
    Some(members)
}

/// A value in JSON of at most `max` bytes.
pub(crate) fn to_json(value: &dyn Val, max: usize) -> Result<String, Failed> {
    let mut json = Written { text: String::new(), max };
    json.value(value)?;
    Ok(json.text)
}

struct Written {
    text: String,
    max: usize,
}

impl Written {
    fn value(&mut self, value: &dyn Val) -> Result<(), Failed> {
        if let Some(text) = value.downcast_ref::<CelString<'_>>() {
            return self.string(text.inner());
        }
        if let Some(number) = value.downcast_ref::<CelInt>() {
            return self.push(&number.inner().to_string());
        }
        if let Some(number) = value.downcast_ref::<CelUInt>() {
            return self.push(&number.inner().to_string());
        }
        if let Some(number) = value.downcast_ref::<CelDouble>() {
            let number = Number::from_f64(*number.inner()).ok_or(Failed::NotJson)?;
            return self.push(&number.to_string());
        }
        if let Some(value) = value.downcast_ref::<CelBool>() {
            return self.push(if *value.inner() { "true" } else { "false" });
        }
        if value.downcast_ref::<CelNull>().is_some() {
            return self.push("null");
        }
        if let Some(list) = value.downcast_ref::<JsonList>() {
            return self.list(list.elements());
        }
        if let Some(list) = value.downcast_ref::<CelList<'_>>() {
            return self.list(list.inner());
        }
        self.push("{")?;
        for (place, (key, value)) in members(value).ok_or(Failed::NotJson)?.into_iter().enumerate() {
            if place > 0 {
                self.push(",")?;
            }
            self.string(key)?;
            self.push(":")?;
            self.value(value)?;
        }
        self.push("}")
    }

    fn list(&mut self, elements: &[Box<dyn Val + '_>]) -> Result<(), Failed> {
        self.push("[")?;
        for (place, element) in elements.iter().enumerate() {
            if place > 0 {
                self.push(",")?;
            }
            self.value(element.as_ref())?;
        }
        self.push("]")
    }

    fn string(&mut self, text: &str) -> Result<(), Failed> {
        let text = serde_json::to_string(text).map_err(|_| Failed::NotJson)?;
        self.push(&text)
    }

    fn push(&mut self, text: &str) -> Result<(), Failed> {
        if self.text.len() + text.len() > self.max {
            return Err(Failed::TooLong(self.max));
        }
        self.text.push_str(text);
        Ok(())
    }
}
