//! What must hold of every parser of Postrider, whatever bytes it is given.
//!
//! One function for each parser. Each takes bytes as a fuzzer makes them and panics if a rule is broken:
//! not only that nothing panics, but that what is accepted keeps what the parser promises. The tests of
//! this package run them over seeds and random bytes on a stable compiler; `fuzz/cargo-fuzz` runs them
//! under libFuzzer:
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir fuzz/cargo-fuzz target_url -- -max_total_time=60
//! ```
//!
//! | module | parsers |
//! |---|---|
//! | [`target`] | URLs of subscribers and of the egress proxy, `Retry-After` |
//! | [`event`] | event types and patterns, data and the envelope, ids |
//! | [`secret`] | secrets, signatures, sealed bytes, headers |
//! | [`policy`] | policies of subscribers |
//! | [`trace`] | `traceparent` |

// A broken rule is told by a panic here: that is what a fuzzer looks for.
#![allow(clippy::expect_used, clippy::missing_panics_doc)]

pub mod event;
pub mod policy;
pub mod secret;
pub mod target;
pub mod trace;

/// A fuzz target: its name, and what runs it.
pub type Target = (&'static str, fn(&[u8]));

/// All targets, by the names of their binaries in `fuzz/cargo-fuzz`.
pub const TARGETS: &[Target] = &[
    ("target_url", target::target_url),
    ("proxy_url", target::proxy_url),
    ("retry_after", target::retry_after),
    ("event_type", event::event_type),
    ("event_data", event::event_data),
    ("id", event::id),
    ("secret", secret::secret),
    ("verifier", secret::verifier),
    ("keyring", secret::keyring),
    ("custom_headers", secret::custom_headers),
    ("stored_headers", secret::stored_headers),
    ("policy", policy::policy),
    ("traceparent", trace::traceparent),
];

/// The bytes as text; a parser of text never sees anything else.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// The bytes in two at the first line break, as text.
fn two_texts(data: &[u8]) -> Option<(&str, &str)> {
    text(data)?.split_once('\n')
}
