//! Hooks: the application's own code that changes or rejects events.

use std::error::Error;

use super::draft::EventDraft;

/// A hook's own error.
pub type HookError = Box<dyn Error + Send + Sync>;

/// Changes an event before it is stored, or rejects it.
///
/// [`hook`] makes one from a closure. A hook runs on the task that dispatches and must not block: fetch what it needs
/// before you dispatch the event.
pub trait Hook: Send + Sync + 'static {
    /// Returns the name that errors use for the hook.
    fn name(&self) -> &str;

    /// Changes the event's data, or leaves it.
    ///
    /// # Errors
    /// An error rejects the event.
    fn apply(&self, event: &mut EventDraft) -> Result<(), HookError>;
}

/// A closure with a name.
#[derive(Clone)]
pub struct NamedHook<F> {
    name: Box<str>,
    apply: F,
}

/// Makes a hook from a closure. Errors refer to it by `name`.
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
