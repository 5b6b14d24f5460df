//! What a route may require of a request.

/// What a route requires. Both the check of each request and the OpenAPI description follow from it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Needs {
    pub(crate) access: Access,
    /// Whether the route accepts events, which the API rejects while it is overloaded.
    pub(crate) capacity: bool,
}

/// Whom a route serves.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Access {
    /// The operator, who shows the operator's key.
    OperatorKey,
}

impl Needs {
    /// The operator's key.
    pub(crate) const KEY: Self = Self { access: Access::OperatorKey, capacity: false };

    /// The same, on a route that accepts events.
    pub(crate) const fn with_capacity(self) -> Self {
        Self { capacity: true, ..self }
    }
}
