//! The bounds of expressions.

/// The most nodes of an expression. A loop counts as about ten.
pub(crate) const MAX_NODES: usize = 200;

/// The most levels of an expression. A loop counts as two.
pub(crate) const MAX_DEPTH: usize = 24;

/// The most bytes of a text that a loop compares with.
pub(crate) const MAX_HOISTED: usize = 256;
