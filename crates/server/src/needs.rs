//! What a route may require of a request.

use axum::http::Method;
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
    /// What of it is written to the audit trail.
    pub(crate) trail: Trail,
    /// Whether an operator acts on the whole deployment unless the request names a tenant.
    pub(crate) deployment: bool,
    /// The most bytes of its body, if that is more than the server's limit.
    pub(crate) body: usize,
}

/// What the audit trail has of a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trail {
    /// Changes. A request with a safe method (RFC 9110, section 9.2.1) makes none.
    Changes,
    /// That something was read.
    Reads,
    /// Nothing.
    Nothing,
}

impl Trail {
    /// Whether a request with this method can leave something in the audit trail.
    pub(crate) fn has(self, method: &Method) -> bool {
        match self {
            Self::Changes => !method.is_safe(),
            Self::Reads => true,
            Self::Nothing => false,
        }
    }
}

impl Needs {
    /// A key with this scope.
    pub(crate) const fn scope(scope: Scope) -> Self {
        Self {
            scopes: Scopes::NONE.with(scope),
            capacity: false,
            some_subscribers: false,
            trail: Trail::Changes,
            deployment: false,
            body: 0,
        }
    }

    /// The same, with another scope.
    pub(crate) const fn and(self, scope: Scope) -> Self {
        Self { scopes: self.scopes.with(scope), ..self }
    }

    /// The same, with another scope, on a route that changes nothing.
    pub(crate) const fn and_reads(self, scope: Scope) -> Self {
        Self { scopes: self.scopes.with(scope), trail: Trail::Nothing, ..self }
    }

    /// The same, on a route that accepts events, which are on record themselves.
    pub(crate) const fn with_capacity(self) -> Self {
        Self { capacity: true, trail: Trail::Nothing, ..self }
    }

    /// The same, on a route whose handler observes the limit to some subscribers.
    pub(crate) const fn for_some_subscribers(self) -> Self {
        Self { some_subscribers: true, ..self }
    }

    /// The same, on a route that reads what must not be read unnoticed.
    pub(crate) const fn with_audited_read(self) -> Self {
        Self { trail: Trail::Reads, ..self }
    }

    /// The same, on a route that takes larger bodies than others.
    pub(crate) const fn with_body_of(self, bytes: usize) -> Self {
        Self { body: bytes, ..self }
    }

    /// The same, on a route that concerns the whole deployment.
    pub(crate) const fn on_deployment(self) -> Self {
        Self { deployment: true, ..self }
    }
}
