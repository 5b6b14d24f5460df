//! Changing an event's data before it is stored: hooks in Rust, and transforms from the settings file.
//!
//! They run once per event, before it fans out, in this order: hooks for every event (`*`) in the
//! order of registration, hooks of the event's type, configured transforms of its type, configured
//! transforms for every event. Each sees what the one before it left. One that fails or panics fails
//! its event with [`DispatchError::Hook`], and nothing of that event is stored.
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
//! # What stays as it is
//! Data that no transform changes is stored byte for byte. A transform that changes a part of it
//! through a [JSON Pointer](mod@pointer) rewrites only the objects and arrays that the pointer leads
//! through, and of those only the white space: numbers keep all digits, keys their order and
//! spelling, duplicate keys stay. [`EventDraft::replace`] writes what it is given, so what was read
//! into Rust types and written again is as exact as those types are.
//!
//! # Repeats
//! Transforms run before an idempotency key is looked up, so they run for a repeat too, whose result
//! is then not used. The key's request is what the caller gave, not what transforms made of it.
//!
//! # From the settings file
//! Each entry is for one event type or for `*`. Within an entry the order is `drop`, `rename`, `set`,
//! `mask`; entries of the same event run in the order of the file. What a pointer does not lead to
//! is passed over, but `set` and `rename` make the objects on the way to their targets.
//!
//! ```
//! # use postrider_dispatch::transform::Transforms;
//! # let file: toml::Table = r#"
//! [[transforms]]
//! event = "order.created"
//! drop = ["/card/cvv"]                   # gone, wherever there is one
//! rename = { "/mail" = "/contact/email" } # moved, all of them at once; replaces what is there
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
//! A mask lets nothing through that it was not told to: a text no longer than what is to stay is
//! masked whole, a number is masked by its digits, and anything else but null becomes `****`.

mod configured;
mod document;
mod draft;
mod hook;
pub mod pointer;
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

pub use configured::EntryError;
pub use draft::{EditError, EventDraft};
pub use hook::{Hook, HookError, NamedHook, hook};

use crate::error::DispatchError;

/// Hooks and configured transforms, in their order. Cheap to clone.
#[derive(Clone, Default)]
pub struct Transforms {
    hooks: Registry,
    configured: Registry,
}

/// Transforms by what they are for.
#[derive(Clone, Default)]
struct Registry {
    every: Vec<Arc<dyn Hook>>,
    by_event_type: HashMap<EventType, Vec<Arc<dyn Hook>>>,
}

/// Why a hook or a configured transform was not taken.
#[derive(Debug, thiserror::Error)]
pub enum TransformsError {
    /// A hook is for something that is no event type.
    #[error("the hook `{hook}` is registered for `{event}`: use `*` or one event type ({source})")]
    Event {
        /// The hook's name.
        hook: String,
        /// What it was registered for.
        event: String,
        /// Why that is no event type.
        source: EventTypeError,
    },
    /// The configured transforms are no list.
    #[error("transforms are a list of tables, each of which begins with [[transforms]]: {0}")]
    Shape(String),
    /// An entry makes no sense.
    #[error("entry {number} of [[transforms]]{}: {source}", of(event.as_deref()))]
    Entry {
        /// Which entry, from 1.
        number: usize,
        /// What its `event` says, if anything.
        event: Option<String>,
        /// What is wrong with it.
        source: EntryError,
    },
}

fn of(event: Option<&str>) -> String {
    event.map(|event| format!(" (event `{event}`)")).unwrap_or_default()
}

impl Transforms {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a hook for every event (`*`) or for one event type. Hooks run in the order in which they
    /// were added, those for every event first.
    ///
    /// # Errors
    /// If `event` is neither `*` nor an event type; a pattern such as `order.*` is neither.
    pub fn register(&mut self, event: &str, hook: impl Hook) -> Result<&mut Self, TransformsError> {
        let name = hook.name().to_owned();
        self.hooks.add(event, Arc::new(hook)).map_err(|source| TransformsError::Event {
            hook: name,
            event: event.to_owned(),
            source,
        })?;
        Ok(self)
    }

    /// Adds transforms from settings: the value of `transforms` in a TOML file (a `toml::Value`), or
    /// the same from any other format. The form is shown [above](self).
    ///
    /// # Errors
    /// If it is no list of such entries; the error names the entry.
    pub fn configure<'de>(&mut self, settings: impl Deserializer<'de>) -> Result<&mut Self, TransformsError> {
        for (event, transform) in configured::read(settings)? {
            match event {
                Some(event) => {
                    self.configured.by_event_type.entry(event).or_default().push(Arc::new(transform))
                }
                None => self.configured.every.push(Arc::new(transform)),
            }
        }
        Ok(self)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        [&self.hooks, &self.configured]
            .into_iter()
            .all(|registry| registry.every.is_empty() && registry.by_event_type.is_empty())
    }

    /// What the transforms make of an event's data; none if they leave it as it is.
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
            run(hook.as_ref(), &mut draft)
                .map_err(|source| DispatchError::Hook { name: hook.name().into(), source: source.into() })?;
        }
        Ok(draft.into_changed())
    }
}

/// A hook panicked. What it said is left to the process's panic hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it panicked")]
struct Panicked;

fn run(hook: &dyn Hook, draft: &mut EventDraft) -> Result<(), HookError> {
    // The draft is thrown away after a panic, so nobody sees it half changed.
    let applied = catch_unwind(AssertUnwindSafe(|| hook.apply(draft)));
    applied.map_err(|panic: Box<dyn Any + Send>| {
        // What a panic carries may panic once more when it is dropped; then it is not dropped.
        if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(panic))) {
            std::mem::forget(again);
        }
        Panicked
    })??;
    draft.settle()?;
    Ok(())
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
