//! Lets the payload of an event go before the event, and remembers what keeps an old partition.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0014_payloads"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

const SHARED: &str = "
-- Why the envelope is not there any more: 1 if it was erased on request, 2 if it has expired; NULL while it is there. Without
-- it, the envelope is NULL on PostgreSQL and empty on SQLite, which cannot drop a NOT NULL.
ALTER TABLE events ADD COLUMN payload_gone smallint;

-- Events whose payload was erased, while the responses to their deliveries are being erased.
CREATE TABLE erasures (
    tenant    text NOT NULL,
    event_id  {uuid} NOT NULL,
    -- The last delivery that was looked at.
    reached   {uuid} NOT NULL,
    -- When the next step is due. Once all deliveries were looked at, the same again some time later: a request that was in
    -- flight has been recorded by then.
    due_at    bigint NOT NULL,
    last_pass boolean NOT NULL,
    PRIMARY KEY (tenant, event_id)
);
CREATE INDEX erasures_by_turn ON erasures (due_at);

-- A delivery that was pending when the partition was to be dropped. It is looked at first the next time.
ALTER TABLE partitions ADD COLUMN pending_tenant text;
ALTER TABLE partitions ADD COLUMN pending_delivery {uuid};
";

/// Programs of the release before take an envelope that is NULL for unreadable and make no request.
const POSTGRES: &str = "
ALTER TABLE events ALTER COLUMN envelope DROP NOT NULL;

-- Drops the partition with this suffix if it ends at or before `until`, and if none of its deliveries is pending or died
-- after `dead_until`. Returns what it did: 'dropped', or why not: 'pending', 'dead', or 'gone' if it is not there or
-- another process is dropping one. Runs with the rights of the schema's owner, for every role that may delete events.
-- It reads the whole partition only if nothing that it can look up keeps it.
CREATE OR REPLACE FUNCTION postrider_drop_partition(dropped text, until bigint, dead_until bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    deliveries CONSTANT text := 'deliveries_' || dropped;
    has_dead CONSTANT text := format('SELECT EXISTS (SELECT 1 FROM %I WHERE died_at > %s)', deliveries, dead_until);
    stays boolean;
    starts uuid;
    ends uuid;
    known_tenant text;
    known_id uuid;
BEGIN
    IF NOT has_table_privilege(session_user, 'events', 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'dropping a partition needs the right to delete events';
    END IF;
    SELECT postrider_id_at(starts_at), postrider_id_at(ends_at), pending_tenant, pending_delivery
        INTO starts, ends, known_tenant, known_id
        FROM partitions WHERE suffix = dropped AND ends_at <= until;
    -- 'retentio' in ASCII.
    IF NOT FOUND OR NOT pg_try_advisory_xact_lock(8243122671965202799) OR to_regclass(deliveries) IS NULL THEN
        RETURN 'gone';
    END IF;
    IF known_id IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT 1 FROM %I WHERE tenant = $1 AND id = $2 AND status = 0)', deliveries)
            INTO stays USING known_tenant, known_id;
        IF stays THEN
            RETURN 'pending';
        END IF;
    END IF;
    IF EXISTS (SELECT 1 FROM fan_outs WHERE event_id >= starts AND event_id < ends) THEN
        RETURN 'pending';
    END IF;
    EXECUTE has_dead INTO stays;
    IF stays THEN
        RETURN 'dead';
    END IF;
    -- Nobody makes a delivery pending again from here on. Reading goes on.
    EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', deliveries);
    known_id := NULL;
    EXECUTE format('SELECT tenant, id FROM %I WHERE status = 0 LIMIT 1', deliveries) INTO known_tenant, known_id;
    IF known_id IS NOT NULL THEN
        UPDATE partitions SET pending_tenant = known_tenant, pending_delivery = known_id WHERE suffix = dropped;
        RETURN 'pending';
    END IF;
    -- Or will be: the fan-out of an event goes on.
    IF EXISTS (SELECT 1 FROM fan_outs WHERE event_id >= starts AND event_id < ends) THEN
        RETURN 'pending';
    END IF;
    EXECUTE has_dead INTO stays;
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
