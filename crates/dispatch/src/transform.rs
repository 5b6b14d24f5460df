//! Changing an event's data before it is stored: hooks in Rust, and transforms from the settings file.
//!
//! Transforms run once per event, before it fans out, in this order: hooks for every event (`*`) in the order of
//! registration, hooks for the event's type, configured transforms for its type, configured transforms for every event.
//! Each sees the result of the one before it. If one fails or panics, its event fails with [`DispatchError::Hook`] or
//! [`DispatchError::HookPanicked`], and nothing of that event is stored.
//!
//! ```
//! use postrider_dispatch::transform::{Transforms, hook};
//!
//! let mut transforms = Transforms::new();
//! transforms.register("*", hook("stamp", |event| Ok(event.set("/source", &"shop")?)))?;
//! transforms.register("order.created", hook("no-card", |event| {
//!     event.remove("/card")?;
//!     Ok(())
//! }))?;
//! let config = postrider_dispatch::Config { transforms, ..Default::default() };
//! # let _ = config;
//! # Ok::<(), postrider_dispatch::transform::TransformsError>(())
//! ```
//!
//! # What stays unchanged
//! Data that no transform changes is stored byte for byte. A transform that changes part of it through a
//! [JSON Pointer](Pointer) rewrites only the white space of the objects and arrays on the pointer's path: numbers
//! keep all digits, keys their order and spelling, and duplicate keys stay. [`EventDraft::replace`] writes what it is
//! given, so data that a hook reads into Rust types and writes back is as exact as those types are.
//!
//! # Repeats
//! Transforms run before an idempotency key is looked up. They therefore also run for a repeat, and their result is then
//! not used. A key stands for the data that the caller gave, not for the data that the transforms produced.
//!
//! # From the settings file
//! Each entry is for one event type or for `*`. Within an entry the order is `drop`, `rename`, `set`, `mask`; entries for
//! the same event type run in the order of the file. A pointer to nothing is skipped, except that `set` and `rename`
//! create the objects on the path to their target.
//!
//! ```
//! # use postrider_dispatch::transform::Transforms;
//! # let file: toml::Table = r#"
//! [[transforms]]
//! event = "order.created"
//! drop = ["/card/cvv"]                   # removed, if present
//! rename = { "/mail" = "/contact/email" } # moved, all at once; replaces the target
//! set = { "/source" = "shop" }           # any JSON value
//! mask = { "/card/number" = 4 }          # all but the last 4 characters become `*`
//!
//! [[transforms]]
//! event = "*"
//! drop = ["/internal"]
//! # "#.parse()?;
//! # let transforms = file["transforms"].clone();
//! # let mut hooks = Transforms::new();
//! # hooks.configure(transforms)?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A mask reveals no more than its entry allows: text that is no longer than the visible part is masked as a whole, a
//! number is masked by its digits, and any other value except null becomes `****`.

mod configured;
mod draft;
mod error;
mod hook;
#[cfg(test)]
mod tests;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use postrider_core::event::EventTypeError;
use postrider_core::{AgentId, EventData, EventType, TenantId};
use serde::Deserializer;

pub use draft::{EditError, EventDraft};
pub use error::{EntryError, TransformsError};
pub use hook::{Hook, HookError, NamedHook, hook};
pub use postrider_core::json::{Pointer, PointerError};

use crate::error::DispatchError;

/// Hooks and configured transforms, in their order. Cheap to clone.
#[derive(Clone, Default)]
pub struct Transforms {
    hooks: Registry,
    configured: Registry,
}

/// Transforms by the event type that they are registered for.
#[derive(Clone, Default)]
struct Registry {
    every: Vec<Arc<dyn Hook>>,
    by_event_type: HashMap<EventType, Vec<Arc<dyn Hook>>>,
}

impl Transforms {
    /// Creates an empty list of transforms.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a hook for every event (`*`) or for one event type. Hooks run in the order in which they were added, those
    /// for every event first.
    ///
    /// # Errors
    /// Fails if `event_type` is neither `*` nor an event type; a pattern such as `order.*` is neither.
    pub fn register(&mut self, event_type: &str, hook: impl Hook) -> Result<&mut Self, TransformsError> {
        let name = hook.name().to_owned();
        self.hooks.add(event_type, Arc::new(hook)).map_err(|source| TransformsError::Event {
            hook: name,
            event_type: event_type.to_owned(),
            source,
        })?;
        Ok(self)
    }

    /// Adds transforms from settings: the value of `transforms` in a TOML file (a `toml::Value`), or the same from any
    /// other format. The [module documentation](self) shows the form.
    ///
    /// # Errors
    /// Fails if the value is not a list of such entries. The error names the entry.
    pub fn configure<'de>(&mut self, settings: impl Deserializer<'de>) -> Result<&mut Self, TransformsError> {
        for (event_type, transform) in configured::read(settings)? {
            let transforms = match event_type {
                Some(event_type) => self.configured.by_event_type.entry(event_type).or_default(),
                None => &mut self.configured.every,
            };
            transforms.push(Arc::new(transform));
        }
        Ok(self)
    }

    /// Returns whether no transform has been added.
    pub fn is_empty(&self) -> bool {
        [&self.hooks, &self.configured]
            .into_iter()
            .all(|registry| registry.every.is_empty() && registry.by_event_type.is_empty())
    }

    /// Runs the transforms on an event's data. Returns `None` if they change nothing.
    pub(crate) fn apply(
        &self,
        tenant: &TenantId,
        event_type: &EventType,
        agent_id: &AgentId,
        data: &EventData,
    ) -> Result<Option<EventData>, DispatchError> {
        let (hooks, configured) = (&self.hooks, &self.configured);
        let mut all = hooks
            .every
            .iter()
            .chain(hooks.of(event_type))
            .chain(configured.of(event_type))
            .chain(&configured.every)
            .peekable();
        if all.peek().is_none() {
            return Ok(None);
        }
        let mut draft = EventDraft::new(tenant, event_type, agent_id, data);
        for hook in all {
            run(hook.as_ref(), &mut draft)?;
        }
        Ok(draft.into_changed())
    }
}

fn run(hook: &dyn Hook, draft: &mut EventDraft) -> Result<(), DispatchError> {
    // Unwind safe: the draft is dropped after a panic, so no half-changed draft is visible.
    let applied = catch_unwind(AssertUnwindSafe(|| hook.apply(draft)));
    let applied = applied.map_err(|panic: Box<dyn Any + Send>| {
        // Dropping a panic's payload may panic again. In that case the second payload is leaked.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
        // The process's panic hook has printed the message.
        DispatchError::HookPanicked { name: hook.name().into() }
    })?;
    let failed = |source: HookError| DispatchError::Hook { name: hook.name().into(), source: source.into() };
    applied.map_err(failed)?;
    draft.settle().map_err(|error| failed(error.into()))
}

impl Registry {
    fn add(&mut self, event_type: &str, hook: Arc<dyn Hook>) -> Result<(), EventTypeError> {
        if event_type == "*" {
            self.every.push(hook);
        } else {
            self.by_event_type.entry(event_type.parse()?).or_default().push(hook);
        }
        Ok(())
    }

    fn of(&self, event_type: &EventType) -> &[Arc<dyn Hook>] {
        self.by_event_type.get(event_type).map_or(&[], Vec::as_slice)
    }
}

impl fmt::Debug for Transforms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transforms")
            .field("hooks", &self.hooks)
            .field("configured", &self.configured)
            .finish()
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |hooks: &[Arc<dyn Hook>]| -> Vec<String> {
            hooks.iter().map(|hook| hook.name().to_owned()).collect()
        };
        let mut map = f.debug_map();
        map.entry(&"*", &names(&self.every));
        map.entries(self.by_event_type.iter().map(|(event, hooks)| (event.as_str(), names(hooks)))).finish()
    }
}
