//! The bounds of modules and of their calls.

/// The version of the interface between Postrider and its plugins.
pub const ABI: i32 = 1;

/// The most bytes of a module.
pub const MAX_MODULE: usize = 4 * 1024 * 1024;
/// The most bytes of an instance's memory.
pub const MAX_MEMORY: usize = 16 * 1024 * 1024;
/// The fuel of a call: one unit for most instructions, up to 24 for jumps and calls. To use it up takes real plugins about 40 ms,
/// and no module more than about 0.1 s, on one core of a server of 2024.
pub const MAX_FUEL: u64 = 100_000_000;
/// The fuel to ask a module for its version.
pub(crate) const ABI_FUEL: u64 = 10_000;

/// The most functions of a module, and the most local variables of all of them together.
pub const MAX_FUNCTIONS: u32 = 20_000;
/// The most local variables of all functions together.
pub const MAX_LOCALS: u32 = 500_000;
/// The most bytes of one function's code.
pub const MAX_FUNCTION: usize = 256 * 1024;
/// How deep blocks of a function may nest.
pub const MAX_DEPTH: usize = 2_000;
/// The most entries of a module's table.
pub const MAX_TABLE: usize = 65_536;
/// How deep calls within a module may nest.
pub const MAX_CALLS: usize = 2_000;
/// The most bytes of the values that these calls hold.
pub const MAX_STACK: usize = 1024 * 1024;
/// The most globals, and the most data and element segments each.
pub const MAX_PARTS: u32 = 5_000;
/// The most parameters of a function.
pub const MAX_PARAMETERS: usize = 64;

/// The most bytes of a message with which a module refuses an event. The rest is cut off.
pub const MAX_MESSAGE: usize = 500;
