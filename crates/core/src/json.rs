//! JSON that is changed in places and otherwise kept as it is written.

mod document;
pub mod layout;
mod mask;
mod pointer;

pub use self::document::{Document, PutError};
pub use self::pointer::{Pointer, PointerError};
