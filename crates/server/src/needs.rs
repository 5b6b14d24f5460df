//! What a route may require of a request.

use postrider_core::key::{Scope, Scopes};

/// What a route requires. Both the check of each request and the OpenAPI description follow from it. There is no route
/// without it, and no way to make one without a scope.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) scopes: Scopes,
    /// Whether the route accepts events, which the API rejects while it is overloaded.
    pub(crate) capacity: bool,
    /// Whether a key that is limited to some subscribers may call it. The handler then sees to it that the key reaches no
    /// other subscriber.
    pub(crate) some_subscribers: bool,
    /// Whether an operator acts on the whole deployment unless the request names a tenant.
    pub(crate) deployment: bool,
}

impl Needs {
    /// A key with this scope.
    pub(crate) const fn scope(scope: Scope) -> Self {
        Self { scopes: Scopes::NONE.with(scope), capacity: false, some_subscribers: false, deployment: false }
    }

    /// The same, on a route that accepts events.
    pub(crate) const fn with_capacity(self) -> Self {
        Self { capacity: true, ..self }
    }

    /// The same, on a route whose handler observes the limit to some subscribers.
    pub(crate) const fn for_some_subscribers(self) -> Self {
        Self { some_subscribers: true, ..self }
    }

    /// The same, on a route that concerns the whole deployment.
    pub(crate) const fn on_deployment(self) -> Self {
        Self { deployment: true, ..self }
    }
}
