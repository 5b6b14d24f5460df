//! The event that hooks read and change.

use postrider_core::event::EventDataError;
use postrider_core::json::{Document, Pointer, PointerError, PutError};
use postrider_core::{AgentId, EventData, EventType, TenantId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

/// An event before it is stored. Hooks can change its data and read the rest.
///
/// [JSON Pointers](Pointer) name places in the data.
#[derive(Clone, Debug)]
pub struct EventDraft {
    tenant: TenantId,
    event_type: EventType,
    agent_id: AgentId,
    /// The data before the current hook.
    data: EventData,
    /// The data as parsed and changed by the current hook; `None` if the hook has not read it.
    open: Option<Document>,
    /// Whether `open` differs from `data`.
    open_changed: bool,
    /// Whether `data` differs from the data that the caller gave.
    changed: bool,
}

/// Why an event's data could not be read or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum EditError {
    /// The text is not a JSON Pointer.
    #[error("`{pointer}` is not a place in the data")]
    Pointer {
        /// The text that was given.
        pointer: String,
        /// Why it is not a JSON Pointer.
        source: PointerError,
    },
    /// The pointer's path leads through a value that is not a container.
    #[error("`{pointer}` leads through a value that is neither object nor array")]
    NotAContainer {
        /// The pointer.
        pointer: String,
    },
    /// The pointer names an element that its array does not have.
    #[error("`{pointer}` names an element that its array does not have; `-` is the place past its end")]
    NoElement {
        /// The pointer.
        pointer: String,
    },
    /// A value is not of the requested type, or cannot be serialised as JSON.
    #[error("the value is not of the requested type, or has no JSON form")]
    Value(#[from] serde_json::Error),
    /// The changed data cannot be the data of an event.
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

    /// Returns the tenant that owns the event.
    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// Returns the event type.
    pub fn event_type(&self) -> &EventType {
        &self.event_type
    }

    /// Returns the agent that emits the event.
    pub fn agent_id(&self) -> &AgentId {
        &self.agent_id
    }

    /// Returns the data as JSON text.
    pub fn to_json(&self) -> String {
        match &self.open {
            Some(node) => node.to_string(),
            None => self.data.as_json().to_owned(),
        }
    }

    /// Deserialises the data.
    ///
    /// # Errors
    /// Fails if the data is not of type `T`.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, EditError> {
        Ok(serde_json::from_str(&self.to_json())?)
    }

    /// Replaces the data.
    ///
    /// # Errors
    /// Fails if the value does not serialise to an object or an array.
    pub fn replace(&mut self, data: &(impl Serialize + ?Sized)) -> Result<(), EditError> {
        self.data = EventData::from_value(data)?;
        self.open = None;
        self.open_changed = false;
        self.changed = true;
        Ok(())
    }

    /// Returns the value at a place, or `None` if there is no value.
    ///
    /// # Errors
    /// Fails if `pointer` is not a JSON Pointer, or the value is not of type `T`.
    pub fn get<T: DeserializeOwned>(&mut self, pointer: &str) -> Result<Option<T>, EditError> {
        let path = parse(pointer)?;
        let found = self.open().at(&path);
        Ok(found.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Puts a value at a place, replacing the value there. Creates the objects on the path.
    ///
    /// # Errors
    /// Fails if `pointer` is not a JSON Pointer, or leads through text, a number or a boolean, or past an array's end.
    pub fn set(&mut self, pointer: &str, value: &(impl Serialize + ?Sized)) -> Result<(), EditError> {
        let raw = serde_json::value::to_raw_value(value)?;
        self.put(&parse(pointer)?, &raw)
    }

    /// Removes the value at a place. Returns whether there was one.
    ///
    /// # Errors
    /// Fails if `pointer` is not a JSON Pointer.
    pub fn remove(&mut self, pointer: &str) -> Result<bool, EditError> {
        Ok(self.take(&parse(pointer)?).is_some())
    }

    /// Moves the value at a place to another, replacing the value there. Returns whether there was a value to move.
    ///
    /// # Errors
    /// Fails if one of the two is not a JSON Pointer, or the value cannot be put at the target.
    pub fn rename(&mut self, from: &str, to: &str) -> Result<bool, EditError> {
        let (from, to) = (parse(from)?, parse(to)?);
        let Some(value) = self.take(&from) else { return Ok(false) };
        self.put(&to, &value)?;
        Ok(true)
    }

    /// Masks all but the last `keep` characters of the value at a place, as a configured mask does. Returns whether there
    /// was a value to mask.
    ///
    /// # Errors
    /// Fails if `pointer` is not a JSON Pointer.
    pub fn mask(&mut self, pointer: &str, keep: usize) -> Result<bool, EditError> {
        Ok(self.mask_at(&parse(pointer)?, keep))
    }

    pub(super) fn put(&mut self, pointer: &Pointer, value: &RawValue) -> Result<(), EditError> {
        self.open().put(pointer, value).map_err(|error| match error {
            PutError::NoElement => EditError::NoElement { pointer: pointer.to_string() },
            _ => EditError::NotAContainer { pointer: pointer.to_string() },
        })?;
        self.open_changed = true;
        Ok(())
    }

    pub(super) fn take(&mut self, pointer: &Pointer) -> Option<Box<RawValue>> {
        let taken = self.open().take(pointer)?;
        self.open_changed = true;
        Some(taken)
    }

    pub(super) fn mask_at(&mut self, pointer: &Pointer, keep: usize) -> bool {
        let masked = self.open().mask(pointer, keep);
        self.open_changed |= masked;
        masked
    }

    /// Ends a hook. Fails if the changed data cannot be the data of an event.
    pub(super) fn settle(&mut self) -> Result<(), EditError> {
        if let Some(node) = self.open.take()
            && std::mem::take(&mut self.open_changed)
        {
            self.data = EventData::from_json(&node.to_string())?;
            self.changed = true;
        }
        Ok(())
    }

    /// Returns the data if it differs from the data that the caller gave.
    pub(super) fn into_changed(self) -> Option<EventData> {
        self.changed.then_some(self.data)
    }

    fn open(&mut self) -> &mut Document {
        // An event's data is an object or an array, so parsing it succeeds.
        self.open.get_or_insert_with(|| Document::open(self.data.as_json()).unwrap_or_default())
    }
}

fn parse(pointer: &str) -> Result<Pointer, EditError> {
    pointer.parse().map_err(|source| EditError::Pointer { pointer: pointer.to_owned(), source })
}
