//! Filters and projections: expressions in the [Common Expression Language](https://cel.dev) (CEL) over an event.
//!
//! The library `cel` has no budget at run time. Expressions are therefore checked before they are accepted ([`Rejected`]):
//!
//! | bound | why |
//! |---|---|
//! | 200 nodes, 24 levels, 4,096 bytes | the work for each part of an event |
//! | only known functions and names | nothing that is slow, or missing at run time |
//! | regular expressions are literals, and linear in time | the crate `regex`, compiled once, at most 64 KiB each |
//! | one level of loops (`exists`, `all`, `map`, …) | work that is linear in the event's size, not quadratic |
//! | no lists, no `+` with text inside loops | memory |
//! | 2,000,000 steps for all expressions about one event: a turn of a loop takes as many as its expression has nodes, a comparison one | what one event may take, however large it is |
//! | inside loops, what does not depend on the loop is evaluated once, and must be a number, a boolean or a short text | the same |
//!
//! | module | what it does |
//! |---|---|
//! | [`filter`], [`projection`] | the two kinds of expressions |
//! | `program` | an expression that was accepted: compiled once, evaluated often |
//! | `check` | the bounds; rewrites what the library would do slowly or wrongly |
//! | `shape` | what is asked of parts of an expression: which names they use, whether they give a boolean |
//! | `functions` | the functions that expressions are rewritten to |
//! | `json` | JSON as values of the library |
//! | `write` | values of the library as JSON |
//! | `steps` | how much work the expressions about one event may do |
//! | `subject` | an event, parsed once for all expressions |
//! | `limits` | the numbers of the bounds |
//! | `error` | why an expression was rejected, or could not be evaluated |

mod check;
mod error;
pub mod filter;
mod functions;
mod json;
mod limits;
mod program;
pub mod projection;
mod shape;
mod steps;
mod subject;
mod write;

pub use self::error::{Failed, Position, Reason, Rejected};
pub use self::filter::Filter;
pub use self::projection::{Projected, Projection};
pub use self::subject::{Facts, Subject, UnreadableData};

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(test)]
mod tests;
