//! Keys, tenants and the audit trail.

use super::call::{Call, DELETE, GET, PATCH, POST, Resource, Shows, Take, column};
use crate::client::output::Column;

pub(super) const RESOURCES: &[Resource] = &[
    Resource { name: "keys", about: "Create, list, change, rotate and revoke API keys", calls: KEY_CALLS },
    Resource { name: "tenants", about: "Register, list, change and delete tenants", calls: TENANT_CALLS },
    Resource { name: "audit", about: "List who changed what, and when", calls: AUDIT_CALLS },
];

const KEYS: &[Column] = &[
    column("id", "/id"),
    column("name", "/name"),
    column("tenant", "/tenant"),
    column("scopes", "/scopes"),
    column("expires", "/expires_at"),
    column("revoked", "/revoked_at"),
    column("last used", "/last_used_at"),
];

const TENANTS: &[Column] = &[
    column("id", "/id"),
    column("name", "/name"),
    column("active", "/active"),
    column("subscribers", "/counts/subscribers/total"),
    column("deliveries", "/counts/deliveries/total"),
    column("created", "/created_at"),
    column("deletion", "/deletion/requested_at"),
];

const AUDIT: &[Column] = &[
    column("id", "/id"),
    column("at", "/at"),
    column("tenant", "/tenant"),
    column("actor", "/actor"),
    column("name", "/actor_name"),
    column("action", "/action"),
    column("target", "/target"),
];

const KEY: Take = Take::Id("KEY", "Id of the key");
const TENANT: Take = Take::Id("TENANT", "Name of the tenant, as in X-Tenant-ID");

const KEY_CALLS: &[Call] = &[
    Call {
        name: "list",
        about: "List keys, newest first",
        example: "postrider keys list",
        method: GET,
        path: "/v1/keys",
        takes: &[],
        shows: Shows::List(KEYS),
    },
    Call {
        name: "get",
        about: "Read a key, without its text",
        example: "postrider keys get key_01h455vb4pex5vsknk084sn02q",
        method: GET,
        path: "/v1/keys/{id}",
        takes: &[KEY],
        shows: Shows::Of(KEYS),
    },
    Call {
        name: "create",
        about: "Create a key, and print its text once",
        example: "postrider keys create 'shop backend' publisher --tenant acme",
        method: POST,
        path: "/v1/keys",
        takes: &[
            Take::Field("key-name", "name", "NAME", "Name of the key, for people"),
            Take::Fields(
                "scopes",
                "scopes",
                "SCOPE",
                "Scopes, or names that stand for several, such as publisher",
            ),
            Take::Value("expires-at", "TIME", "Until when the key is valid: RFC 3339 or Unix seconds"),
            Take::Body,
        ],
        shows: Shows::Of(KEYS),
    },
    Call {
        name: "change",
        about: "Change fields of a key (RFC 7396)",
        example: "postrider keys change key_01h455vb4pex5vsknk084sn02q --set '/scopes=[\"support\"]'",
        method: PATCH,
        path: "/v1/keys/{id}",
        takes: &[KEY, Take::Body],
        shows: Shows::Of(KEYS),
    },
    Call {
        name: "rotate",
        about: "Replace the text of a key, and print the new one once; the old one stays valid for a day",
        example: "postrider keys rotate key_01h455vb4pex5vsknk084sn02q --overlap-seconds 3600",
        method: POST,
        path: "/v1/keys/{id}/rotate",
        takes: &[KEY, Take::Value("overlap-seconds", "SECONDS", "How long the old text stays valid")],
        shows: Shows::Of(KEYS),
    },
    Call {
        name: "revoke",
        about: "Revoke a key at once",
        example: "postrider keys revoke key_01h455vb4pex5vsknk084sn02q",
        method: DELETE,
        path: "/v1/keys/{id}",
        takes: &[KEY],
        shows: Shows::Of(KEYS),
    },
];

const TENANT_CALLS: &[Call] = &[
    Call {
        name: "list",
        about: "List tenants, newest first",
        example: "postrider tenants list",
        method: GET,
        path: "/v1/tenants",
        takes: &[],
        shows: Shows::List(TENANTS),
    },
    Call {
        name: "get",
        about: "Read a tenant",
        example: "postrider tenants get acme",
        method: GET,
        path: "/v1/tenants/{id}",
        takes: &[TENANT],
        shows: Shows::Of(TENANTS),
    },
    Call {
        name: "create",
        about: "Register a tenant",
        example: "postrider tenants create acme --set '/name=Acme Ltd'",
        method: POST,
        path: "/v1/tenants",
        takes: &[
            Take::Field("tenant-id", "id", "TENANT", "Name of the tenant, as in X-Tenant-ID"),
            Take::Body,
        ],
        shows: Shows::Of(TENANTS),
    },
    Call {
        name: "change",
        about: "Change fields of a tenant (RFC 7396)",
        example: "postrider tenants change acme --set /retention/payloads=7d",
        method: PATCH,
        path: "/v1/tenants/{id}",
        takes: &[TENANT, Take::Body],
        shows: Shows::Of(TENANTS),
    },
    Call {
        name: "delete",
        about: "Delete a tenant with everything that it has",
        example: "postrider tenants delete acme --yes",
        method: DELETE,
        path: "/v1/tenants/{id}",
        takes: &[TENANT, Take::Confirm("This deletes the tenant with all its subscribers, events and keys.")],
        shows: Shows::Of(TENANTS),
    },
];

const AUDIT_CALLS: &[Call] = &[Call {
    name: "list",
    about: "List changes, and reads of secrets and payloads, newest first",
    example: "postrider audit list --target billing-eu --since 2026-01-01T00:00:00Z",
    method: GET,
    path: "/v1/audit",
    takes: &[
        Take::Filter("actor", "ACTOR", "Only what this actor did: the id of a key, or environment"),
        Take::Filter("action", "ACTION", "Only this action, such as subscriber.created"),
        Take::Filter("target", "TARGET", "Only what was done to this: an id, or the name of a tenant"),
        Take::Filter("since", "TIME", "Only from this time on: RFC 3339 or Unix seconds"),
        Take::Filter("until", "TIME", "Only before this time: RFC 3339 or Unix seconds"),
    ],
    shows: Shows::List(AUDIT),
}];
