-- The event of a delivery, unless it is of the first edition, and the last delivery that an event can have.
CREATE FUNCTION postrider_event_of(delivery uuid) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (left(delivery::text, 31) || '00000')::uuid
$$;
CREATE FUNCTION postrider_last_of(event uuid) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$
    SELECT (left(event::text, 31) || 'fffff')::uuid
$$;

-- Notes that a row of a partition has changed while the partition is being copied. Runs with the rights of the schema's
-- owner, for every role that may change the row.
CREATE FUNCTION postrider_note_change() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    changed record;
BEGIN
    IF TG_OP = 'DELETE' THEN
        changed := OLD;
    ELSE
        changed := NEW;
    END IF;
    IF TG_ARGV[0] = 'events' THEN
        INSERT INTO stripping_changes (suffix, of_tenant, event_id) VALUES (TG_ARGV[1], changed.tenant, changed.id);
    ELSIF TG_ARGV[0] = 'deliveries' THEN
        -- Its event keeps its payload or not.
        INSERT INTO stripping_changes (suffix, of_tenant, delivery_id, event_id)
            VALUES (TG_ARGV[1], changed.tenant, changed.id, coalesce(changed.event_id, postrider_event_of(changed.id)));
    ELSE
        INSERT INTO stripping_changes (suffix, of_tenant, delivery_id)
            VALUES (TG_ARGV[1], changed.tenant, changed.delivery_id);
    END IF;
    RETURN NULL;
END $$;

-- The columns of a table in their order.
CREATE FUNCTION postrider_columns_of(described regclass) RETURNS text[] LANGUAGE sql STABLE AS $$
    SELECT array_agg(attname::text ORDER BY attname) FROM pg_attribute
    WHERE attrelid = described AND attnum > 0 AND NOT attisdropped
$$;

-- An expression: whether the row `c` of a partition's table keeps its payload, since a delivery died after `dead_until`.
CREATE FUNCTION postrider_keeps_payload(parent text, given text, dead_until bigint) RETURNS text LANGUAGE sql AS $$
    SELECT CASE parent
        WHEN 'deliveries' THEN format('coalesce(c.died_at > %s, false)', dead_until)
        WHEN 'attempts' THEN format('EXISTS (SELECT FROM %I AS d
            WHERE d.tenant = c.tenant AND d.id = c.delivery_id AND d.died_at > %s)', 'deliveries_' || given, dead_until)
        ELSE format('(EXISTS (SELECT FROM %1$I AS d
                WHERE d.tenant = c.tenant AND d.id BETWEEN c.id AND postrider_last_of(c.id) AND d.died_at > %2$s)
            OR EXISTS (SELECT FROM %1$I AS d
                WHERE d.event_id = c.id AND d.tenant = c.tenant AND d.died_at > %2$s))', 'deliveries_' || given, dead_until)
    END
$$;

-- Expressions for these columns of the row `c` as the copy has them, where `c.strip_kept` is whether it keeps its payload.
CREATE FUNCTION postrider_stripped_cells(columns text[]) RETURNS text LANGUAGE sql AS $$
    SELECT string_agg(CASE
        WHEN name IN ('envelope', 'response_headers', 'response_body', 'first_response')
            THEN format('CASE WHEN c.strip_kept THEN c.%I END', name)
        WHEN name = 'payload_gone' THEN 'CASE WHEN c.strip_kept THEN c.payload_gone ELSE coalesce(c.payload_gone, 2) END'
        ELSE format('c.%I', name) END, ', ' ORDER BY place)
    FROM unnest(columns) WITH ORDINALITY AS given (name, place)
$$;

-- Makes empty copies of a partition's tables, and has changes of the partition noted from now on.
CREATE FUNCTION postrider_strip_begin(given text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    child text;
    copy text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts'] LOOP
        child := parent || '_' || given;
        copy := child || '_stripped';
        -- Vacuum would hold a lock that the exchange of the tables needs.
        EXECUTE format('CREATE TABLE %I (LIKE %I INCLUDING ALL) WITH (autovacuum_enabled = off)', copy, parent);
        -- So that attaching it does not read it.
        EXECUTE format('ALTER TABLE %I ADD CONSTRAINT within CHECK (%s)', copy,
            pg_get_partition_constraintdef(child::regclass));
        IF parent = 'events' THEN
            EXECUTE format('CREATE INDEX ON %I (tenant, id) WHERE payload_gone IS NULL', copy);
        END IF;
        -- Waits for those who are changing the table: whatever they change is copied, and whatever changes later is noted.
        EXECUTE format('CREATE TRIGGER postrider_note_change AFTER INSERT OR UPDATE OR DELETE ON %I
            FOR EACH ROW EXECUTE FUNCTION postrider_note_change(%L, %L)', child, parent, given);
    END LOOP;
END $$;

-- Removes what there is of the copies of a partition, such as if the partition is gone.
CREATE FUNCTION postrider_strip_abandon(given text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    parent text;
    child text;
BEGIN
    IF NOT has_table_privilege(session_user, 'events', 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'stripping a partition needs the right to delete events';
    END IF;
    DELETE FROM strippings WHERE suffix = given;
    IF NOT FOUND THEN
        RETURN;
    END IF;
    FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts'] LOOP
        child := parent || '_' || given;
        EXECUTE format('DROP TABLE IF EXISTS %I', child || '_stripped');
        IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = to_regclass(child) AND tgname = 'postrider_note_change') THEN
            EXECUTE format('DROP TRIGGER postrider_note_change ON %I', child);
        END IF;
    END LOOP;
    DELETE FROM stripping_changes WHERE suffix = given;
END $$;
