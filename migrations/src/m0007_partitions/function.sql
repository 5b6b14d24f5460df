-- The least UUIDv7 of a moment, in Unix milliseconds.
CREATE FUNCTION postrider_id_at(moment bigint) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (lpad(to_hex(moment), 12, '0') || '00000000000000000000')::uuid
$$;

-- Grants on one table what is granted on another.
CREATE FUNCTION postrider_copy_grants(source regclass, target regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    given record;
BEGIN
    FOR given IN
        SELECT privilege_type, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE grantee::regrole::text END AS grantee
        FROM pg_class CROSS JOIN LATERAL aclexplode(relacl) WHERE oid = source AND aclexplode.grantee <> relowner
    LOOP
        EXECUTE format('GRANT %s ON %s TO %s', given.privilege_type, target, given.grantee);
    END LOOP;
END $$;

-- Adds the partition of a moment, if there is none, of up to `width` milliseconds: shorter where others begin or end.
--
-- Runs with the rights of the schema's owner, for every role that may insert events, so that programs need no right to
-- change the schema. Callers take turns. It does not wait for statements that read or write the tables, nor they for it.
CREATE FUNCTION postrider_add_partition(moment bigint, width bigint) RETURNS void
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
    -- "partitio" in ASCII.
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
        -- Deliveries that are created together end together, so a page needs as much free room as it has rows.
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING STORAGE) %s',
            child, parent, CASE parent WHEN 'deliveries' THEN 'WITH (fillfactor = 50)' ELSE '' END);
        PERFORM postrider_copy_grants(parent::regclass, child::regclass);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, child, postrider_id_at(first_at), postrider_id_at(last_at));
    END LOOP;
    INSERT INTO partitions (starts_at, ends_at, suffix, converted) VALUES (first_at, last_at, suffix, false);
END $$;

-- The schema in which the tables are, whatever the caller's search path says.
DO $$ BEGIN
    EXECUTE format('ALTER FUNCTION postrider_add_partition SET search_path = %I, pg_temp', current_schema());
END $$;
