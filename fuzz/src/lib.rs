//! Properties of Postrider's parsers that hold for any input.
//!
//! There is one function per parser. It takes a fuzzer's bytes and panics if a property is violated: the parser must not
//! panic, and accepted values must have what the parser promises. The tests of this package run the functions over seeds
//! and random bytes on a stable compiler; `fuzz/cargo-fuzz` runs them under libFuzzer:
//!
//! ```text
//! cargo +nightly fuzz run --fuzz-dir fuzz/cargo-fuzz target_url -- -max_total_time=60
//! ```
//!
//! | module | parsers |
//! |---|---|
//! | [`target`] | URLs of subscribers and of the egress proxy, `Retry-After` |
//! | [`event`] | event types and patterns, data and the envelope, ids |
//! | [`expression`] | filters, projections, transforms |
//! | [`format`](mod@format) | formats of bodies, templates |
//! | [`schema`] | JSON Schemas of event types |
//! | [`secret`] | secrets, signatures, sealed data, custom headers |
//! | [`plugin`] | modules of plugins, and what they return |
//! | [`policy`] | delivery policies |
//! | [`script`] | scripts of sandboxes and simulations |
//! | [`trace`] | `traceparent` |

// A fuzz target reports a violated property by panicking.
#![allow(clippy::expect_used, clippy::missing_panics_doc, clippy::panic)]

pub mod event;
pub mod expression;
pub mod format;
pub mod plugin;
pub mod policy;
pub mod schema;
pub mod script;
pub mod secret;
pub mod target;
pub mod trace;

/// A fuzz target: its name and its function.
pub type Target = (&'static str, fn(&[u8]));

/// All targets. Their names are those of the binaries in `fuzz/cargo-fuzz`.
pub const TARGETS: &[Target] = &[
    ("target_url", target::target_url),
    ("proxy_url", target::proxy_url),
    ("retry_after", target::retry_after),
    ("event_type", event::event_type),
    ("event_data", event::event_data),
    ("id", event::id),
    ("expression", expression::expression),
    ("transform", expression::transform),
    ("format", format::format),
    ("schema", schema::schema),
    ("secret", secret::secret),
    ("verifier", secret::verifier),
    ("keyring", secret::keyring),
    ("custom_headers", secret::custom_headers),
    ("stored_headers", secret::stored_headers),
    ("plugin", plugin::plugin),
    ("policy", policy::policy),
    ("script", script::script),
    ("traceparent", trace::traceparent),
];

/// Returns the bytes as text; `None` if they are not UTF-8, which a parser of text never receives.
fn text(data: &[u8]) -> Option<&str> {
    std::str::from_utf8(data).ok()
}

/// Splits the bytes at the first line break into two texts.
fn two_texts(data: &[u8]) -> Option<(&str, &str)> {
    text(data)?.split_once('\n')
}
