//! Events, deliveries and attempts in partitions, under keys that lead with the tenant.
//!
//! Programs of the release before cannot run beside this schema: stop them first. The migration refuses to run while they
//! are connected to PostgreSQL.
//!
//! | file | what it does |
//! |---|---|
//! | `tables.sql` | the tables and their indexes |
//! | `function.sql` | on PostgreSQL, the function that adds a partition |
//! | `attach.sql` | on PostgreSQL, makes the rows that there are one partition |
//! | `copy.sql` | on SQLite, copies them |

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0007_partitions"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let on_postgres = connection.get_database_backend() == DbBackend::Postgres;
        if on_postgres {
            refuse_beside_older_programs(connection).await?;
        }
        crate::schema::apply(manager, SET_ASIDE, SET_ASIDE_ON_POSTGRES).await?;
        let partitioned = if on_postgres { " PARTITION BY RANGE (id)" } else { "" };
        let partitioned_by_delivery = if on_postgres { " PARTITION BY RANGE (delivery_id)" } else { "" };
        let tables = include_str!("tables.sql")
            .replace("{partitioned}", partitioned)
            .replace("{partitioned_by_delivery}", partitioned_by_delivery);
        crate::schema::apply(manager, &tables, "").await?;
        if on_postgres {
            connection.execute_unprepared(include_str!("function.sql")).await?;
            connection.execute_unprepared(include_str!("attach.sql")).await?;
        } else {
            connection.execute_unprepared(include_str!("copy.sql")).await?;
        }
        Ok(())
    }
}

/// The names of these indexes are needed for those of the new tables.
const SET_ASIDE: &str = "
DROP INDEX events_by_tenant;
DROP INDEX deliveries_by_tenant;
DROP INDEX deliveries_by_subscriber;
DROP INDEX deliveries_by_event;
DROP INDEX deliveries_dead;
DROP INDEX deliveries_dead_by_subscriber;
ALTER TABLE events RENAME TO old_events;
ALTER TABLE deliveries RENAME TO old_deliveries;
ALTER TABLE attempts RENAME TO old_attempts;
";

const SET_ASIDE_ON_POSTGRES: &str = "
ALTER INDEX events_pkey RENAME TO old_events_pkey;
ALTER INDEX deliveries_pkey RENAME TO old_deliveries_pkey;
ALTER INDEX attempts_pkey RENAME TO old_attempts_pkey;
";

/// The name under which programs of the release before are connected.
const OLDER: &str = "SELECT count(*) AS connections FROM pg_stat_activity \
    WHERE datname = current_database() AND application_name = 'postrider' AND pid <> pg_backend_pid()";

async fn refuse_beside_older_programs(connection: &impl ConnectionTrait) -> Result<(), DbErr> {
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, OLDER)).await?;
    let connections: i64 = row.map_or(Ok(0), |row| row.try_get("", "connections"))?;
    if connections == 0 {
        return Ok(());
    }
    Err(DbErr::Custom(format!(
        "older Postrider programs have {connections} connection(s) to this database and cannot run with the new schema: \
         stop all servers and workers, then migrate"
    )))
}
