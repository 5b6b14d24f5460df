//! Registers tenants: their names, what is noted about them, how long their data is kept, and their deletion.

use std::collections::BTreeSet;

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0016_tenants"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, "").await?;
        register(manager.get_connection()).await
    }
}

const SHARED: &str = "
CREATE TABLE tenants (
    id              text NOT NULL PRIMARY KEY,
    -- Orders lists by age.
    number          {uuid} NOT NULL,
    name            text NOT NULL DEFAULT '',
    -- An object of texts, as JSON.
    metadata        text NOT NULL DEFAULT '{}',
    -- In milliseconds. NULL: as long as the deployment keeps them.
    retain_history  bigint,
    retain_payloads bigint,
    retain_dead     bigint,
    created_at      bigint NOT NULL,
    -- Since when its data is being deleted, and how many rows are gone so far.
    deletion_requested_at  bigint,
    deleted_rows    bigint NOT NULL DEFAULT 0
);
CREATE UNIQUE INDEX tenants_by_age ON tenants (number);
CREATE INDEX tenants_deleting ON tenants (deletion_requested_at) WHERE deletion_requested_at IS NOT NULL;
CREATE INDEX tenants_retaining ON tenants (id)
    WHERE retain_history IS NOT NULL OR retain_payloads IS NOT NULL OR retain_dead IS NOT NULL;
";

/// The tenants with data, each found by one look-up in the key, which leads with the tenant.
const FOUND: &str = "WITH RECURSIVE found(tenant) AS (
        SELECT min(tenant) FROM {table}
        UNION ALL
        SELECT (SELECT min(tenant) FROM {table} WHERE {table}.tenant > found.tenant) FROM found WHERE found.tenant IS NOT NULL
    )
    SELECT tenant FROM found WHERE tenant <> ''";

async fn register(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let backend = connection.get_database_backend();
    let mut tenants = BTreeSet::from(["default".to_owned(), "operator".to_owned()]);
    for table in ["subscriber_counts", "events"] {
        let found = Statement::from_string(backend, FOUND.replace("{table}", table));
        for row in connection.query_all_raw(found).await? {
            tenants.insert(row.try_get("", "tenant")?);
        }
    }
    // Older than any tenant that is registered later, whose number begins with the time.
    let (number, now) = match backend {
        DbBackend::Postgres => (
            "('00000000-0000-0000-0000-' || lpad(to_hex($2), 12, '0'))::uuid",
            "(extract(epoch FROM statement_timestamp()) * 1000)::bigint",
        ),
        _ => ("unhex(printf('%032x', $2))", "CAST(unixepoch('subsec') * 1000 AS integer)"),
    };
    let insert = format!("INSERT INTO tenants (id, number, created_at) VALUES ($1, {number}, {now})");
    for (tenant, number) in tenants.into_iter().zip(1_i64..) {
        let values = [tenant.into(), number.into()];
        connection.execute_raw(Statement::from_sql_and_values(backend, insert.as_str(), values)).await?;
    }
    Ok(())
}
