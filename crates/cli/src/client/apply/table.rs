//! The tables of the file, and how their entries are found and compared.

use serde_json::{Map, Value};

/// A table of the file, which is a resource of the API.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) path: &'static str,
    /// The field that names an entry, in the file and in the API.
    pub(super) key: &'static str,
    /// Whether entries are found in the list, because the name is no part of their path.
    pub(super) is_found_in_list: bool,
    /// Whether `--prune` deletes what the file does not have.
    pub(super) is_pruned: bool,
    /// Fields that the API never shows. They count when an entry is created.
    pub(super) hidden: &'static [&'static str],
    /// Of those, the fields that say how to make a change, and go with each.
    pub(super) with_changes: &'static [&'static str],
    /// Fields that are not exported: what the API knows by itself.
    pub(super) derived: &'static [&'static str],
}

/// In the order in which entries are made: what others refer to comes first.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "event_types",
        path: "/v1/event-types",
        key: "name",
        is_found_in_list: false,
        is_pruned: true,
        hidden: &["force"],
        with_changes: &["force"],
        derived: &["registered", "deliveries", "created_at", "updated_at"],
    },
    Table {
        name: "tenants",
        path: "/v1/tenants",
        key: "id",
        is_found_in_list: false,
        is_pruned: false,
        // Its credentials are masked.
        hidden: &["egress_proxy"],
        with_changes: &[],
        derived: &["counts", "created_at", "deletion", "egress_proxy"],
    },
    Table {
        name: "subscribers",
        path: "/v1/subscribers",
        key: "uid",
        is_found_in_list: false,
        is_pruned: true,
        hidden: &["secret", "keep_secrets"],
        with_changes: &["keep_secrets"],
        derived: &[
            "id",
            "headers",
            "auth",
            "deactivated_at",
            "deactivation_reason",
            "paused_at",
            "transform_version",
            "policy_version",
            "breaker",
            "created_at",
            "updated_at",
        ],
    },
    Table {
        name: "keys",
        path: "/v1/keys",
        key: "name",
        is_found_in_list: true,
        is_pruned: true,
        hidden: &[],
        with_changes: &[],
        derived: &["id", "created_at", "created_by", "revoked_at", "last_used_at"],
    },
];

impl Table {
    /// Returns the name of an entry; empty if it has none.
    pub(super) fn name_of(&self, entry: &Value) -> String {
        entry.get(self.key).and_then(Value::as_str).unwrap_or_default().to_owned()
    }

    /// Returns what stands for an entry in a path.
    pub(super) fn id_of(&self, entry: &Value) -> String {
        let id = entry.get("id").and_then(Value::as_str).map(str::to_owned);
        id.unwrap_or_else(|| self.name_of(entry))
    }

    /// Whether the file can describe this entry: it has a name, is registered where the key acts, and is not revoked.
    pub(super) fn is_managed(&self, entry: &Value) -> bool {
        let is_null = |field: &str| entry.get(field).is_none_or(Value::is_null);
        let is_registered = match entry.get("registered").and_then(Value::as_str) {
            // Deliveries are counted for tenants only. They see the deployment's types, but do not own them.
            Some("deployment") => is_null("deliveries"),
            registered => registered != Some("seen"),
        };
        !self.name_of(entry).is_empty() && is_registered && is_null("revoked_at")
    }

    /// Whether an entry of the file and one of the API are the same. The tenant is part of a key's identity, if the file names it.
    pub(super) fn is_same(&self, desired: &Map<String, Value>, found: &Value) -> bool {
        let same = |field: &str| desired.get(field) == found.get(field);
        same(self.key) && (self.name != "keys" || !desired.contains_key("tenant") || same("tenant"))
    }
}
