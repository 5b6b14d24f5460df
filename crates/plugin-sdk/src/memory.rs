//! The memory that a module shares with Postrider. [`plugin!`](crate::plugin) calls this.
//!
//! Postrider writes the input into a vector whose address it was given, and reads the output from another one. Both stay where
//! they are, in a variable that nothing else touches, so no raw pointer is ever read here.

use std::sync::{Mutex, PoisonError};

use crate::{Error, Input, Output, exchange};

/// The version of the interface.
pub const ABI: i32 = 1;

static SHARED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// Returns the address of as many bytes.
pub fn allocate(length: i32) -> i32 {
    let bytes = vec![0; usize::try_from(length).unwrap_or_default()];
    keep(bytes).0
}

/// Transforms what Postrider has written to the address that [`allocate`] returned. Returns the address and the length of the output.
pub fn transform(transform: fn(&Input<'_>) -> Result<Output, Error>) -> i64 {
    let given = std::mem::take(&mut *SHARED.lock().unwrap_or_else(PoisonError::into_inner));
    let output = exchange::run(transform, &String::from_utf8_lossy(&given));
    let (address, length) = keep(output.into_bytes());
    (i64::from(address) << 32) | i64::from(length)
}

/// Puts bytes where Postrider finds them. On `wasm32` an address has 32 bits.
#[allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap)]
fn keep(bytes: Vec<u8>) -> (i32, i32) {
    let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
    *shared = bytes;
    (shared.as_ptr().expose_provenance() as i32, shared.len() as i32)
}
