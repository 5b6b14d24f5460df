//! What becomes of events that do not match the schema of their type.

use crate::word::words;

words! {
    /// What becomes of events that do not match the schema of their type.
    SchemaMode, "a mode" {
        /// They are not compared with it.
        Off = 0, "off";
        /// They are delivered and counted.
        Warn = 1, "warn";
        /// They are refused.
        Enforce = 2, "enforce";
    }
}
