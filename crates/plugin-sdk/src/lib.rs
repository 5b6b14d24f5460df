//! Write plugins for Postrider in Rust.
//!
//! A plugin is a function from an event and a configuration to what a subscriber receives. [`plugin!`] makes it the function
//! of a WebAssembly module. An author's crate has no unsafe code, and its tests call the function natively, or
//! through [`run`] as Postrider would.
//!
//! # A plugin
//! `Cargo.toml` has `crate-type = ["cdylib"]` in its `[lib]`. `src/lib.rs`:
//!
//! ```
//! use postrider_plugin_sdk::{Error, Input, Output, plugin};
//! use serde::Deserialize;
//! use serde_json::Value;
//!
//! #[derive(Deserialize)]
//! struct Config {
//!     field: String,
//! }
//!
//! fn transform(input: &Input<'_>) -> Result<Output, Error> {
//!     let config: Config = input.config()?;
//!     let mut data: serde_json::Map<String, Value> = input.data()?;
//!     data.remove(&config.field);
//!     Ok(Output::new(&data)?.header("x-shop", &*input.event.agent_id))
//! }
//!
//! plugin!(transform);
//!
//! let given = r#"{"event":{"id":"evt_1","event_type":"order.paid","agent_id":"shop","timestamp":1700000000,"channels":[]},
//!     "data":{"id":1,"card":"4111"},"config":{"field":"card"}}"#;
//! assert_eq!(postrider_plugin_sdk::run(transform, given), r#"{"data":{"id":1},"headers":{"x-shop":"shop"}}"#);
//! ```
//!
//! Build it with `cargo build --release --target wasm32-unknown-unknown`, try it with `postrider plugins test`, and install it
//! with `postrider plugins add`.
//!
//! # Bounds
//! A call has bounded time, 16 MiB of memory, and no access to anything but its input: no clock, no randomness, no files and no
//! network. A panic fails the call.

mod exchange;
#[doc(hidden)]
pub mod memory;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

pub use exchange::{Event, Input, run};

/// Makes a function the plugin of this crate: `fn(&Input<'_>) -> Result<Output, Error>`.
///
/// Only builds for `wasm32` have its exports. A crate has one plugin.
#[macro_export]
macro_rules! plugin {
    ($transform:path) => {
        // Elsewhere only the type is checked.
        #[cfg(not(target_arch = "wasm32"))]
        const _: fn(&$crate::Input<'_>) -> ::std::result::Result<$crate::Output, $crate::Error> = $transform;
        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn postrider_abi() -> i32 {
                $crate::memory::ABI
            }

            #[unsafe(no_mangle)]
            extern "C" fn postrider_alloc(length: i32) -> i32 {
                $crate::memory::allocate(length)
            }

            #[unsafe(no_mangle)]
            extern "C" fn postrider_transform(_address: i32, _length: i32) -> i64 {
                $crate::memory::transform($transform)
            }
        };
    };
}

/// What a subscriber receives instead of the event's data.
#[derive(Clone, Debug)]
pub struct Output {
    data: Box<RawValue>,
    headers: Vec<(String, String)>,
}

impl Output {
    /// Sends a value as JSON.
    ///
    /// # Errors
    /// Fails if the value has no JSON form.
    pub fn new(data: &(impl Serialize + ?Sized)) -> Result<Self, Error> {
        Ok(Self::json(serde_json::value::to_raw_value(data)?))
    }

    /// Sends JSON as it is, byte for byte.
    pub fn json(data: Box<RawValue>) -> Self {
        Self { data, headers: Vec::new() }
    }

    /// Adds a header to the request. Postrider refuses names that HTTP or Postrider sets.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }
}

/// Why a plugin cannot transform an event. Postrider shows its first 500 bytes with the attempt.
#[derive(Clone, Debug)]
pub struct Error(String);

impl Error {
    /// An error with this message. It is visible to everyone who may read deliveries, so it must contain nothing secret.
    pub fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl<E: std::error::Error> From<E> for Error {
    fn from(error: E) -> Self {
        Self(error.to_string())
    }
}

impl Input<'_> {
    /// Reads the event's data.
    ///
    /// # Errors
    /// Fails if the data does not have the form of `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(self.data.get()).map_err(|error| Error(format!("data: {error}")))
    }

    /// Reads the configuration that the subscriber chose.
    ///
    /// # Errors
    /// Fails if the configuration does not have the form of `T`.
    pub fn config<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_str(self.config.get()).map_err(|error| Error(format!("config: {error}")))
    }
}

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
