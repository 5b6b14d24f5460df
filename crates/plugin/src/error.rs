//! What goes wrong with a module, or in a call.

use postrider_core::header::HeaderError;

use crate::limits::{ABI, MAX_MEMORY, MAX_MODULE};

/// An error of the WebAssembly library.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a module cannot be a plugin.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModuleError {
    /// It has more than [`MAX_MODULE`] bytes.
    #[error("the module has {0} bytes; at most {MAX_MODULE} are allowed")]
    TooLarge(usize),
    /// It is not a valid WebAssembly module, or uses what plugins may not use.
    #[error("the module is not a valid WebAssembly module, or uses features that plugins cannot")]
    Invalid(#[source] Source),
    /// It imports something.
    #[error("the module imports `{module}.{name}`; a plugin cannot import anything")]
    Imports {
        /// The module from which it imports.
        module: String,
        /// What it imports.
        name: String,
    },
    /// It has a function that runs when it is instantiated.
    #[error("the module has a start function; a plugin cannot have one")]
    Start,
    /// Some part of it is larger, deeper or more numerous than allowed.
    #[error("the module has {what}; at most {most} are allowed")]
    Exceeds {
        /// What there is too much of.
        what: &'static str,
        /// How much of it there may be.
        most: u64,
    },
    /// It lacks an export, or one has the wrong type.
    #[error("the module must export `{name}` as {expected}")]
    Export {
        /// The export.
        name: &'static str,
        /// Its type.
        expected: &'static str,
    },
    /// It was built for another version of the interface.
    #[error("the module was built for version {0} of the plugin interface; this is version {ABI}")]
    Version(i32),
    /// It cannot be instantiated, or fails to return its version.
    #[error("the module cannot be instantiated")]
    Instance(#[source] PluginError),
}

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PluginError {
    /// The data or the configuration is not JSON.
    #[error("the plugin's input is not JSON")]
    Input(#[source] serde_json::Error),
    /// It ran for too long.
    #[error("the plugin used up its fuel")]
    Fuel,
    /// It stopped: a panic, an access outside its memory, calls that nest too deep and the like.
    #[error("the plugin was stopped by a trap")]
    Trap(#[source] Source),
    /// It returned an address for the input that is outside its memory.
    #[error("the plugin has no place for its input; a plugin has at most {MAX_MEMORY} bytes of memory")]
    Allocation,
    /// Its output is outside its memory.
    #[error("the plugin's output is outside its memory")]
    OutputPlace,
    /// Its output is too long.
    #[error("the plugin's output has {length} bytes; at most {most} are allowed")]
    OutputTooLong {
        /// The bytes of the output.
        length: usize,
        /// The most that are allowed.
        most: usize,
    },
    /// Its output is not UTF-8.
    #[error("the plugin's output is not UTF-8")]
    OutputText(#[source] std::str::Utf8Error),
    /// Its output is not what the interface says.
    #[error("the plugin's output is not a JSON object with `data` and `headers`, or with `error`")]
    OutputJson(#[source] serde_json::Error),
    /// The data of its output nests too deep.
    #[error("the plugin's output nests too deep")]
    OutputTooDeep,
    /// It returned headers that a subscriber cannot have.
    #[error("the plugin's headers are not allowed")]
    Headers(#[from] HeaderError),
    /// It refused the event, for this reason.
    #[error("the plugin refused the event: {0}")]
    Refused(String),
}
