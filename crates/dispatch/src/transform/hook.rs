//! Hooks: what an application does to its events.

use std::error::Error;

use super::draft::EventDraft;

/// Why a hook failed.
pub type HookError = Box<dyn Error + Send + Sync>;

/// Changes an event before it is stored, or refuses it.
///
/// [`hook`] makes one of a closure. It runs on the task that dispatches, so it must not block: what
/// has to be fetched is fetched before the event is dispatched.
pub trait Hook: Send + Sync + 'static {
    /// What errors call it.
    fn name(&self) -> &str;

    /// Changes the event's data, or leaves it.
    ///
    /// # Errors
    /// If the event is not to be dispatched.
    fn apply(&self, event: &mut EventDraft) -> Result<(), HookError>;
}

/// A closure with a name.
#[derive(Clone)]
pub struct NamedHook<F> {
    name: Box<str>,
    apply: F,
}

/// A hook of a closure, under the name that errors call it by.
///
/// ```
/// use postrider_dispatch::transform::hook;
///
/// let total = hook("total", |event| {
///     let net: u64 = event.get("/net")?.ok_or("an order has a net price")?;
///     event.set("/total", &(net + net / 5))?;
///     Ok(())
/// });
/// # use postrider_dispatch::transform::Hook;
/// assert_eq!(total.name(), "total");
/// ```
pub fn hook<F>(name: &str, apply: F) -> NamedHook<F>
where
    F: Fn(&mut EventDraft) -> Result<(), HookError> + Send + Sync + 'static,
{
    NamedHook { name: name.into(), apply }
}

impl<F> Hook for NamedHook<F>
where
    F: Fn(&mut EventDraft) -> Result<(), HookError> + Send + Sync + 'static,
{
    fn name(&self) -> &str {
        &self.name
    }

    fn apply(&self, event: &mut EventDraft) -> Result<(), HookError> {
        (self.apply)(event)
    }
}

impl<F> std::fmt::Debug for NamedHook<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NamedHook").field("name", &self.name).finish_non_exhaustive()
    }
}
