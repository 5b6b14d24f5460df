use std::{collections::BTreeMap, time::Duration};

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend, DbErr, Statement, TransactionTrait as _};

/// The columns that hold times, as pairs of table and column.
const POSTGRES_COLUMNS: &str = r"
    SELECT table_name::text AS table_name, column_name::text AS column_name
    FROM information_schema.columns
    WHERE table_schema = current_schema() AND table_name IN ('jobs', 'scheduled_jobs', 'claims', 'lanes', 'deliveries', 'health', 'fan_outs', 'erasures', 'rollup_deltas', 'workers', 'tenants', 'api_keys', 'request_keys', 'owner_notices', 'replays', 'tail_rows', 'tail_watches', 'sandboxes', 'listeners', 'handovers', 'outbox')
      AND data_type = 'bigint' AND is_generated = 'NEVER'
      AND (column_name LIKE '%\_at' OR column_name LIKE '%\_until')";
const SQLITE_COLUMNS: &str = r"
    SELECT tables.name AS table_name, columns.name AS column_name
    FROM sqlite_master AS tables, pragma_table_info(tables.name) AS columns
    WHERE tables.type = 'table' AND tables.name IN ('jobs', 'scheduled_jobs', 'claims', 'lanes', 'deliveries', 'health', 'fan_outs', 'erasures', 'rollup_deltas', 'workers', 'tenants', 'api_keys', 'request_keys', 'owner_notices', 'replays', 'tail_rows', 'tail_watches', 'sandboxes', 'listeners', 'handovers', 'outbox')
      AND (columns.name LIKE '%\_at' ESCAPE '\' OR columns.name LIKE '%\_until' ESCAPE '\')";

pub(super) async fn advance(connection: &DatabaseConnection, duration: Duration) {
    let milliseconds = i64::try_from(duration.as_millis()).expect("a duration that fits into milliseconds");
    try_advance(connection, milliseconds)
        .await
        .unwrap_or_else(|error| panic!("cannot advance the database's clock: {error}"));
}

async fn try_advance(connection: &DatabaseConnection, milliseconds: i64) -> Result<(), DbErr> {
    let backend = connection.get_database_backend();
    let columns = if backend == DbBackend::Sqlite { SQLITE_COLUMNS } else { POSTGRES_COLUMNS };
    let mut changes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in connection.query_all_raw(Statement::from_string(backend, columns)).await? {
        let column: String = row.try_get("", "column_name")?;
        let change = format!(r#""{column}" = "{column}" - {milliseconds}"#);
        changes.entry(row.try_get("", "table_name")?).or_default().push(change);
    }

    // In one transaction, so that no one sees a job moved but not its delivery.
    let transaction = connection.begin().await?;
    for (table, changes) in changes {
        transaction.execute_unprepared(&format!(r#"UPDATE "{table}" SET {}"#, changes.join(", "))).await?;
    }
    transaction.commit().await
}
