//! Plugins: WebAssembly modules that change what a subscriber receives.
//!
//! [`Module::compile`] checks a module and compiles it, once. [`Module::run`] runs it on one event, in a fresh instance each
//! time, so that nothing of one event is visible to the next. Both are synchronous and hold their thread: a compilation for up to
//! half a second, a call for up to about 0.1 s. Call them off the threads of an async runtime.
//!
//! # Bounds
//! A module has no imports, so nothing but the event and the configuration determines its output. [`limits`] lists the bounds.
//! A module that exceeds one is refused when it is compiled, or fails the call with a [`PluginError`].
//!
//! # Interface
//! A module exports:
//!
//! | export | type | meaning |
//! |---|---|---|
//! | `memory` | memory | where input and output are |
//! | `postrider_abi` | `() -> i32` | the version of this interface: [`limits::ABI`] |
//! | `postrider_alloc` | `(length: i32) -> i32` | the address of that many bytes, for the input |
//! | `postrider_transform` | `(address: i32, length: i32) -> i64` | transforms the input; returns the output's address in the upper 32 bits and its length in the lower 32 bits |
//!
//! The input is JSON:
//! `{"event":{"id":…,"event_type":…,"agent_id":…,"timestamp":…,"channels":[…]},"data":…,"config":…}`. `timestamp` is in Unix
//! seconds, and `data` is byte for byte what the application gave.
//!
//! The output is JSON too: `{"data":…}`, if need be with `"headers":{"name":"value"}`, or `{"error":"…"}` if the event cannot be
//! transformed. `data` is taken byte for byte. Nothing is freed, because the instance ends with the call.

mod error;
mod exchange;
pub mod limits;
mod module;
mod scan;

pub use error::{ModuleError, PluginError, Source};
pub use exchange::{Input, Output};
pub use module::Module;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
