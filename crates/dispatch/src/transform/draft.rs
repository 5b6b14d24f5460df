//! An event as hooks see it.

use postrider_core::event::EventDataError;
use postrider_core::{AgentId, EventData, EventType, TenantId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::document::{Node, PutError};
use super::pointer::{Pointer, PointerError};

/// An event before it is stored. Its data can be changed, the rest only read.
///
/// Places in the data are named by [JSON Pointers](mod@super::pointer).
#[derive(Clone, Debug)]
pub struct EventDraft {
    tenant: TenantId,
    event_type: EventType,
    agent_id: AgentId,
    /// As it was before the present hook.
    data: EventData,
    /// As it is now, if the present hook has looked into it.
    open: Option<Node>,
    /// Whether `open` is another than `data`, and whether `data` is another than was given.
    open_changed: bool,
    changed: bool,
}

/// Why an event's data could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// Not a JSON Pointer.
    #[error("`{pointer}`: {source}")]
    Pointer {
        /// What was given.
        pointer: String,
        /// What is wrong with it.
        source: PointerError,
    },
    /// A value that is no container stands where the pointer leads through.
    #[error("`{pointer}` leads through a value that is neither object nor array")]
    NotAContainer {
        /// The pointer.
        pointer: String,
    },
    /// An array has no such element.
    #[error("`{pointer}` names an element that its array does not have; `-` is the place past its end")]
    NoElement {
        /// The pointer.
        pointer: String,
    },
    /// A value is not of the type that was asked for, or has no JSON form.
    #[error("the value does not fit: {0}")]
    Value(#[from] serde_json::Error),
    /// What was made of the data cannot be the data of an event.
    #[error(transparent)]
    Data(#[from] EventDataError),
}

impl EventDraft {
    pub(super) fn new(
        tenant: &TenantId,
        event_type: &EventType,
        agent_id: &AgentId,
        data: &EventData,
    ) -> Self {
        Self {
            tenant: tenant.clone(),
            event_type: event_type.clone(),
            agent_id: agent_id.clone(),
            data: data.clone(),
            open: None,
            open_changed: false,
            changed: false,
        }
    }

    /// Whose it is.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The event's type.
    pub fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// Who emits it.
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// Its data, as JSON text.
    pub fn to_json(&self) -> String {
        match &self.open {
            Some(node) => node.to_string(),
            None => self.data.as_json().to_owned(),
        }
    }

    /// Its data as a value.
    ///
    /// # Errors
    /// If it is not of that type.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, EditError> {
        Ok(serde_json::from_str(&self.to_json())?)
    }

    /// Puts other data in place of its own.
    ///
    /// # Errors
    /// If the value does not serialise to an object or an array.
    pub fn replace(&mut self, data: &(impl Serialize + ?Sized)) -> Result<(), EditError> {
        self.data = EventData::from_value(data)?;
        self.open = None;
        self.open_changed = false;
        self.changed = true;
        Ok(())
    }

    /// The value at a place; none if there is none.
    ///
    /// # Errors
    /// If `pointer` is none, or the value is not of that type.
    pub fn get<T: DeserializeOwned>(&mut self, pointer: &str) -> Result<Option<T>, EditError> {
        let path = parse(pointer)?;
        let found = self.open().at(path.steps());
        Ok(found.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Puts a value in place of what is there; objects on the way are made.
    ///
    /// # Errors
    /// If `pointer` is none or leads through a text, a number or a boolean, or past an array's end.
    pub fn set(&mut self, pointer: &str, value: &(impl Serialize + ?Sized)) -> Result<(), EditError> {
        let raw = serde_json::value::to_raw_value(value)?;
        self.put(&parse(pointer)?, &raw)
    }

    /// Takes out what is there; tells whether anything was.
    ///
    /// # Errors
    /// If `pointer` is none.
    pub fn remove(&mut self, pointer: &str) -> Result<bool, EditError> {
        Ok(self.take(&parse(pointer)?).is_some())
    }

    /// Moves what is there to another place, in place of what is there; tells whether anything was.
    ///
    /// # Errors
    /// If a pointer is none, or the value cannot be put there.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<bool, EditError> {
        let (from, to) = (parse(from)?, parse(to)?);
        let Some(value) = self.take(&from) else { return Ok(false) };
        self.put(&to, &value)?;
        Ok(true)
    }

    /// Masks all but the last `keep` characters of what is there, as a configured mask does; tells
    /// whether anything was.
    ///
    /// # Errors
    /// If `pointer` is none.
    pub fn mask(&mut self, pointer: &str, keep: usize) -> Result<bool, EditError> {
        Ok(self.mask_at(&parse(pointer)?, keep))
    }

    pub(super) fn put(&mut self, pointer: &Pointer, value: &RawValue) -> Result<(), EditError> {
        self.open().put(pointer.steps(), value).map_err(|error| match error {
            PutError::NoElement => EditError::NoElement { pointer: pointer.to_string() },
            PutError::NotAContainer | PutError::Key => {
                EditError::NotAContainer { pointer: pointer.to_string() }
            }
        })?;
        self.open_changed = true;
        Ok(())
    }

    pub(super) fn take(&mut self, pointer: &Pointer) -> Option<Box<RawValue>> {
        let taken = self.open().take(pointer.steps())?;
        self.open_changed = true;
        match taken {
            Node::Text(text) => Some(text),
            // A value that was taken apart and put together again is JSON as before.
            open => RawValue::from_string(open.to_string()).ok(),
        }
    }

    pub(super) fn mask_at(&mut self, pointer: &Pointer, keep: usize) -> bool {
        let masked = self.open().replace(pointer.steps(), &|text| masked(text, keep));
        self.open_changed |= masked;
        masked
    }

    /// Ends a hook: what it made must be the data of an event.
    pub(super) fn settle(&mut self) -> Result<(), EditError> {
        if let Some(node) = self.open.take()
            && std::mem::take(&mut self.open_changed)
        {
            self.data = EventData::from_json(&node.to_string())?;
            self.changed = true;
        }
        Ok(())
    }

    /// The data, if it is another than was given.
    pub(super) fn into_changed(self) -> Option<EventData> {
        self.changed.then_some(self.data)
    }

    fn open(&mut self) -> &mut Node {
        // An event's data is an object or an array, so it opens.
        self.open.get_or_insert_with(|| {
            Node::open(self.data.as_json()).unwrap_or_else(|| Node::Object(Vec::new()))
        })
    }
}

fn parse(pointer: &str) -> Result<Pointer, EditError> {
    pointer.parse().map_err(|source| EditError::Pointer { pointer: pointer.to_owned(), source })
}

/// A value's text with all but the last `keep` characters masked; none if there is nothing to mask.
/// What is not understood is masked whole.
fn masked(json: &str, keep: usize) -> Option<Box<RawValue>> {
    const WHOLE: &str = "****";
    let plain = match json.as_bytes().first()? {
        b'n' => return None,
        b'"' => serde_json::from_str::<String>(json).ok(),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    };
    let masked = match plain {
        None => WHOLE.to_owned(),
        Some(plain) if plain.is_empty() => return None,
        Some(plain) => {
            let length = plain.chars().count();
            let hidden = if length > keep { length - keep } else { length };
            plain.chars().enumerate().map(|(place, shown)| if place < hidden { '*' } else { shown }).collect()
        }
    };
    serde_json::value::to_raw_value(&masked).ok()
}
