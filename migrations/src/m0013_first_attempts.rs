//! Attempts that succeed at once, in the rows of their deliveries.

use sea_orm_migration::prelude::*;

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0013_first_attempts"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        crate::schema::apply(manager, SHARED, POSTGRES).await
    }
}

/// The first attempt of a delivery, if it succeeded without a note: then `attempts` has no row of it, and its id is the
/// delivery's. All other attempts are in `attempts`. NULL if the first attempt is there, or was not made yet.
///
/// `first_response` is the response without its status, as `crates/store/src/packed_response.rs` packs it. It can be NULL
/// although there was a response, if it was erased.
const SHARED: &str = "
ALTER TABLE deliveries ADD COLUMN first_started_at bigint;
ALTER TABLE deliveries ADD COLUMN first_duration_us integer;
ALTER TABLE deliveries ADD COLUMN first_status smallint;
ALTER TABLE deliveries ADD COLUMN first_response {bytes};
";

/// The function of `m0007_partitions`, which leaves more room, since a delivery grows by its attempt, and lz4 for what
/// PostgreSQL compresses, if it was built with lz4: it takes a fifth of the time of pglz.
const POSTGRES: &str = "
CREATE OR REPLACE FUNCTION postrider_add_partition(moment bigint, width bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    day CONSTANT bigint := 86400000;
    aligned CONSTANT bigint := moment - moment % width;
    first_at bigint;
    last_at bigint;
    suffix text;
    parent text;
    child text;
BEGIN
    IF NOT has_table_privilege(session_user, 'events', 'INSERT') THEN
        RAISE insufficient_privilege USING MESSAGE = 'adding a partition needs the right to insert events';
    END IF;
    -- 'partitio' in ASCII.
    PERFORM pg_advisory_xact_lock(8097879449299872111);
    IF EXISTS (SELECT 1 FROM partitions WHERE starts_at <= moment AND ends_at > moment) THEN
        RETURN;
    END IF;
    first_at := GREATEST(aligned, (SELECT max(ends_at) FROM partitions WHERE ends_at <= moment));
    last_at := LEAST(aligned + width, (SELECT min(starts_at) FROM partitions WHERE starts_at > moment));
    suffix := to_char(to_timestamp(first_at / 1000.0) AT TIME ZONE 'UTC',
        CASE WHEN first_at % day = 0 THEN 'YYYYMMDD' ELSE 'YYYYMMDD_HH24MISSMS' END);
    FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts'] LOOP
        child := parent || '_' || suffix;
        -- Deliveries that are created together end together, and each then needs room for itself and its attempt in the same
        -- page: two to three times its size.
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE
                INCLUDING COMPRESSION) %s',
            child, parent, CASE parent WHEN 'deliveries' THEN 'WITH (fillfactor = 30)' ELSE '' END);
        PERFORM postrider_copy_grants(parent::regclass, child::regclass);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, child, postrider_id_at(first_at), postrider_id_at(last_at));
    END LOOP;
    INSERT INTO partitions (starts_at, ends_at, suffix, converted) VALUES (first_at, last_at, suffix, false);
END $$;

-- Replacing a function removes its settings.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION postrider_add_partition SET search_path = %I, pg_temp', current_schema());
END $$;

-- The partitions that were made ahead have no rows yet, or room for more.
DO $$
DECLARE
    has_lz4 CONSTANT boolean :=
        (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression');
    ending text;
BEGIN
    FOR ending IN
        SELECT '' UNION ALL SELECT '_' || suffix FROM partitions
        WHERE NOT converted AND ends_at > (extract(epoch FROM clock_timestamp()) * 1000)::bigint
    LOOP
        IF ending <> '' THEN
            EXECUTE format('ALTER TABLE %I SET (fillfactor = 30)', 'deliveries' || ending);
        END IF;
        IF has_lz4 THEN
            EXECUTE format('ALTER TABLE %I ALTER envelope SET COMPRESSION lz4', 'events' || ending);
            EXECUTE format('ALTER TABLE %I ALTER first_response SET COMPRESSION lz4', 'deliveries' || ending);
            EXECUTE format('ALTER TABLE %I ALTER response_body SET COMPRESSION lz4', 'attempts' || ending);
        END IF;
    END LOOP;
END $$;
";
