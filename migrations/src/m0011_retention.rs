//! Dropping partitions.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0011_retention"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, "", POSTGRES).await
    }
}

/// The settings of the function: it gives way to others instead of making them wait behind it, and finds pending
/// deliveries by reading the whole partition, since no index has them.
const POSTGRES: &str = "
-- Drops the partition with this suffix if it ends at or before `until`, and if none of its deliveries is pending or died
-- after `dead_until`. Returns what it did: 'dropped', or why not: 'pending', 'dead', or 'gone' if it is not there or
-- another process is dropping one. Runs with the rights of the schema's owner, for every role that may delete events.
CREATE FUNCTION postrider_drop_partition(dropped text, until bigint, dead_until bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    deliveries CONSTANT text := 'deliveries_' || dropped;
    stays boolean;
    starts uuid;
    ends uuid;
BEGIN
    IF NOT has_table_privilege(session_user, 'events', 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'dropping a partition needs the right to delete events';
    END IF;
    SELECT postrider_id_at(starts_at), postrider_id_at(ends_at) INTO starts, ends
        FROM partitions WHERE suffix = dropped AND ends_at <= until;
    -- 'retentio' in ASCII.
    IF NOT FOUND OR NOT pg_try_advisory_xact_lock(8243122671965202799) OR to_regclass(deliveries) IS NULL THEN
        RETURN 'gone';
    END IF;
    -- Nobody makes a delivery pending again from here on. Reading goes on.
    EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', deliveries);
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE status = 0)', deliveries) INTO stays;
    -- Or will be: the fan-out of an event goes on.
    IF stays OR EXISTS (SELECT 1 FROM fan_outs WHERE event_id >= starts AND event_id < ends) THEN
        RETURN 'pending';
    END IF;
    EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE died_at > %s)', deliveries, dead_until) INTO stays;
    IF stays THEN
        RETURN 'dead';
    END IF;
    EXECUTE format('DROP TABLE %I, %I, %I', 'events_' || dropped, deliveries, 'attempts_' || dropped);
    DELETE FROM partitions WHERE suffix = dropped;
    RETURN 'dropped';
END $$;

DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION postrider_drop_partition SET search_path = %I, pg_temp', current_schema());
    ALTER FUNCTION postrider_drop_partition SET lock_timeout = '50ms';
    ALTER FUNCTION postrider_drop_partition SET enable_seqscan = on;
END $$;
";
