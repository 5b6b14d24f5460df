//! Lets the payloads of an old partition go before the partition.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0015_expiring_payloads"
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
-- Whether the payloads of the partition have expired.
ALTER TABLE partitions ADD COLUMN stripped boolean NOT NULL DEFAULT false;
";

/// Updating each row would write all of them once more, with their old versions left behind. The copy is written once, and the
/// old tables are dropped.
const POSTGRES: &str = "
-- Replaces the tables of the partition with this suffix by copies without payloads, if it ends at or before `until`, and if
-- none of its deliveries is pending. Returns what it did: 'stripped', or why not: 'pending', or 'gone' if it is not there, has
-- been stripped, or another process is at work on one. Runs with the rights of the schema's owner, for every role that may
-- delete events.
CREATE FUNCTION postrider_strip_partition(given text, until bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    payload CONSTANT text[] := ARRAY['envelope', 'response_headers', 'response_body', 'first_response'];
    deliveries CONSTANT text := 'deliveries_' || given;
    stays boolean;
    starts uuid;
    ends uuid;
    known_tenant text;
    known_id uuid;
    parent text;
    child text;
    copy text;
    bounds text;
    names text;
    cells text;
    swapped text[] := '{}';
BEGIN
    IF NOT has_table_privilege(session_user, 'events', 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'stripping a partition needs the right to delete events';
    END IF;
    SELECT postrider_id_at(starts_at), postrider_id_at(ends_at), pending_tenant, pending_delivery
        INTO starts, ends, known_tenant, known_id
        FROM partitions WHERE suffix = given AND ends_at <= until AND NOT stripped;
    -- The lock of postrider_drop_partition.
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
    -- Nobody writes to them from here on. Reading goes on.
    EXECUTE format('LOCK TABLE %I, %I, %I IN SHARE ROW EXCLUSIVE MODE',
        'events_' || given, deliveries, 'attempts_' || given);
    known_id := NULL;
    EXECUTE format('SELECT tenant, id FROM %I WHERE status = 0 LIMIT 1', deliveries) INTO known_tenant, known_id;
    IF known_id IS NOT NULL THEN
        UPDATE partitions SET pending_tenant = known_tenant, pending_delivery = known_id WHERE suffix = given;
        RETURN 'pending';
    END IF;
    IF EXISTS (SELECT 1 FROM fan_outs WHERE event_id >= starts AND event_id < ends) THEN
        RETURN 'pending';
    END IF;
    FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts'] LOOP
        child := parent || '_' || given;
        copy := child || '_stripped';
        SELECT string_agg(format('%I', attname), ', ' ORDER BY attnum),
            string_agg(CASE WHEN attname = ANY (payload) THEN 'NULL'
                WHEN attname = 'payload_gone' THEN 'coalesce(payload_gone, 2)'
                ELSE format('%I', attname) END, ', ' ORDER BY attnum)
            INTO names, cells
            FROM pg_attribute WHERE attrelid = parent::regclass AND attnum > 0 AND NOT attisdropped;
        CONTINUE WHEN names = cells;
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL)', copy, parent);
        PERFORM postrider_copy_grants(child::regclass, copy::regclass);
        EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM %I', copy, names, cells, child);
        -- So that attaching does not read it.
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT within CHECK (%s)', copy,
            pg_get_partition_constraintdef(child::regclass));
        swapped := swapped || parent;
    END LOOP;
    -- The copy took long, so it is worth some patience, but nobody waits behind this for longer than the time limit of locks.
    FOR turn IN 1..40 LOOP
        BEGIN
            LOCK TABLE events, deliveries, attempts IN ACCESS EXCLUSIVE MODE;
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            IF turn = 40 THEN
                RAISE;
            END IF;
            PERFORM pg_sleep(0.1);
        END;
    END LOOP;
    FOREACH parent IN ARRAY swapped LOOP
        child := parent || '_' || given;
        copy := child || '_stripped';
        SELECT pg_get_expr(relpartbound, oid) INTO bounds FROM pg_class WHERE oid = child::regclass;
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', parent, child);
        EXECUTE format('DROP TABLE %I', child);
        EXECUTE format('ALTER TABLE %I RENAME TO %I', copy, child);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I %s', parent, child, bounds);
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT within', child);
    END LOOP;
    UPDATE partitions SET stripped = true WHERE suffix = given;
    RETURN 'stripped';
END $$;

DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION postrider_strip_partition SET search_path = %I, pg_temp', current_schema());
    ALTER FUNCTION postrider_strip_partition SET lock_timeout = '50ms';
    ALTER FUNCTION postrider_strip_partition SET enable_seqscan = on;
END $$;
";
