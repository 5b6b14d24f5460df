-- Copies rows of a partition's table that were looked at before and have changed since, up to 500 changes. Returns a pending
-- delivery among them, and then copies nothing; and whether those were all.
CREATE FUNCTION postrider_strip_changed(given text, dead_until bigint, OUT pending_tenant text, OUT pending_id uuid,
    OUT complete boolean) LANGUAGE plpgsql AS $$
DECLARE
    most CONSTANT integer := 500;
    numbers bigint[];
    parent text;
    named text;
    own_key text;
    columns text[];
BEGIN
    SELECT array_agg(number) INTO numbers
        FROM (SELECT number FROM stripping_changes WHERE suffix = given ORDER BY number LIMIT most) AS first_ones;
    complete := coalesce(cardinality(numbers), 0) < most;
    IF numbers IS NULL THEN
        RETURN;
    END IF;
    EXECUTE format('SELECT d.tenant, d.id FROM stripping_changes AS changed JOIN %I AS d
            ON d.tenant = changed.of_tenant AND d.id = changed.delivery_id
        WHERE changed.number = ANY ($1) AND d.status = 0 LIMIT 1', 'deliveries_' || given)
        INTO pending_tenant, pending_id USING numbers;
    IF pending_id IS NOT NULL THEN
        RETURN;
    END IF;
    FOREACH parent IN ARRAY ARRAY['deliveries', 'attempts', 'events'] LOOP
        named := CASE parent WHEN 'events' THEN 'event_id' ELSE 'delivery_id' END;
        own_key := CASE parent WHEN 'attempts' THEN 'delivery_id' ELSE 'id' END;
        columns := postrider_columns_of(parent::regclass);
        EXECUTE format('DELETE FROM %I AS c USING stripping_changes AS changed
            WHERE changed.number = ANY ($1) AND c.tenant = changed.of_tenant AND c.%I = changed.%I',
            parent || '_' || given || '_stripped', own_key, named) USING numbers;
        EXECUTE format('INSERT INTO %I (%s) SELECT %s FROM (SELECT c.*, %s AS strip_kept
                FROM (SELECT DISTINCT of_tenant, %I AS id FROM stripping_changes WHERE number = ANY ($1)) AS changed
                JOIN %I AS c ON c.tenant = changed.of_tenant AND c.%I = changed.id) AS c',
            parent || '_' || given || '_stripped', (SELECT string_agg(quote_ident(name), ', ') FROM unnest(columns) AS name),
            postrider_stripped_cells(columns), postrider_keeps_payload(parent, given, dead_until),
            named, parent || '_' || given, own_key) USING numbers;
    END LOOP;
    DELETE FROM stripping_changes WHERE number = ANY (numbers);
END $$;

-- Puts the copies of a partition's tables in their place. The caller has locked all of these tables.
CREATE FUNCTION postrider_strip_exchange(given text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    parent text;
    child text;
    copy text;
    bounds text;
BEGIN
    FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts'] LOOP
        child := parent || '_' || given;
        copy := child || '_stripped';
        PERFORM postrider_copy_grants(child::regclass, copy::regclass);
        SELECT pg_get_expr(relpartbound, oid) INTO bounds FROM pg_class WHERE oid = child::regclass;
        EXECUTE format('DROP TABLE %I', child);
        EXECUTE format('ALTER TABLE %I RENAME TO %I', copy, child);
        EXECUTE format('ALTER TABLE %I RESET (autovacuum_enabled)', child);
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I %s', parent, child, bounds);
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT within', child);
    END LOOP;
END $$;

-- Takes the next step towards a partition without payloads: up to 20,000 rows looked at, or up to 2,000 copied, or the copies
-- put in the place of the partition's tables. Only the last one locks anything that others wait for, for an instant; it
-- gives way if it cannot have that. Nothing is done to a partition that ends after `until`, and a delivery that died after
-- `dead_until` keeps the payload of its event.
--
-- Returns 'more', 'stripped' after the last step, 'pending' if a delivery is pending, 'gone' if the partition is not there or has
-- been stripped, or 'busy' if another process takes a step. Runs with the rights of the schema's owner, for every role that may
-- delete events.
CREATE FUNCTION postrider_strip_step(given text, until bigint, dead_until bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    looked_at CONSTANT integer := 20000;
    copied CONSTANT integer := 2000;
    -- The bytes of payloads that are kept.
    most_bytes CONSTANT integer := 4194304;
    deliveries CONSTANT text := 'deliveries_' || given;
    no_id CONSTANT uuid := '00000000-0000-0000-0000-000000000000';
    own strippings;
    parent text;
    columns text[];
    keys text;
    starts uuid;
    ends uuid;
    known_tenant text;
    known_id uuid;
    stays boolean;
    last_tenant text;
    last_id uuid;
    last_then uuid;
    complete boolean;
BEGIN
    IF NOT has_table_privilege(session_user, 'events', 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'stripping a partition needs the right to delete events';
    END IF;
    -- 'payloads' in ASCII.
    IF NOT pg_try_advisory_xact_lock(8097887111620945011) THEN
        RETURN 'busy';
    END IF;
    -- Dropping the partition waits for this step, or the other way round.
    SELECT postrider_id_at(starts_at), postrider_id_at(ends_at), pending_tenant, pending_delivery
        INTO starts, ends, known_tenant, known_id
        FROM partitions WHERE suffix = given AND ends_at <= until AND NOT stripped FOR NO KEY UPDATE;
    IF NOT FOUND OR to_regclass(deliveries) IS NULL THEN
        RETURN 'gone';
    END IF;
    SELECT * INTO own FROM strippings WHERE suffix = given;
    IF FOUND THEN
        stays := own.original = to_regclass(deliveries);
        IF own.place > 0 THEN
            -- A migration may have added columns.
            FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts'] LOOP
                stays := stays AND to_regclass(parent || '_' || given || '_stripped') IS NOT NULL
                    AND postrider_columns_of(parent::regclass)
                        = postrider_columns_of((parent || '_' || given || '_stripped')::regclass);
            END LOOP;
        END IF;
        IF NOT stays THEN
            PERFORM postrider_strip_abandon(given);
            RETURN 'more';
        END IF;
    ELSE
        INSERT INTO strippings VALUES (given, to_regclass(deliveries), 0, '', no_id, no_id) RETURNING * INTO own;
    END IF;
    IF known_id IS NOT NULL THEN
        EXECUTE format('SELECT EXISTS (SELECT FROM %I WHERE tenant = $1 AND id = $2 AND status = 0)', deliveries)
            INTO stays USING known_tenant, known_id;
        IF stays THEN
            RETURN 'pending';
        END IF;
    END IF;
    IF EXISTS (SELECT FROM fan_outs WHERE event_id >= starts AND event_id < ends) THEN
        RETURN 'pending';
    END IF;
    known_id := NULL;
    IF own.place = 0 THEN
        EXECUTE format('WITH next AS MATERIALIZED (SELECT tenant, id, status FROM %I
                WHERE (tenant, id) > ($1, $2) ORDER BY tenant, id LIMIT %s)
            SELECT last.tenant, last.id, pending.tenant, pending.id
            FROM (SELECT tenant, id FROM next ORDER BY tenant DESC, id DESC LIMIT 1) AS last
            LEFT JOIN (SELECT tenant, id FROM next WHERE status = 0 LIMIT 1) AS pending ON true', deliveries, looked_at)
            INTO last_tenant, last_id, known_tenant, known_id USING own.reached_tenant, own.reached_id;
        IF last_id IS NULL THEN
            PERFORM postrider_strip_begin(given);
        END IF;
    ELSIF own.place <= 3 THEN
        parent := (ARRAY['deliveries', 'attempts', 'events'])[own.place];
        columns := postrider_columns_of(parent::regclass);
        keys := CASE parent WHEN 'attempts' THEN 'c.tenant, c.delivery_id, c.id' ELSE 'c.tenant, c.id, c.id' END;
        EXECUTE format('WITH next AS MATERIALIZED (SELECT c.*, %1$s AS strip_kept FROM %2$I AS c
                WHERE %3$s ORDER BY %4$s LIMIT %5$s),
            sized AS (SELECT c.*, sum(CASE WHEN c.strip_kept THEN %6$s ELSE 0 END) OVER ordered AS strip_size,
                row_number() OVER ordered AS strip_number FROM next AS c WINDOW ordered AS (ORDER BY %4$s)),
            pending AS (SELECT c.tenant, c.id FROM next AS c WHERE %7$s LIMIT 1),
            copied AS (INSERT INTO %8$I AS c (%9$s) SELECT %10$s FROM sized AS c
                WHERE (c.strip_size <= %11$s OR c.strip_number = 1) AND NOT EXISTS (SELECT FROM pending)
                RETURNING %12$s)
            SELECT last.tenant, last.id, last.then_id, pending.tenant, pending.id FROM (SELECT) AS one
            LEFT JOIN (SELECT * FROM copied ORDER BY tenant DESC, id DESC, then_id DESC LIMIT 1) AS last ON true
            LEFT JOIN pending ON true',
            postrider_keeps_payload(parent, given, dead_until), parent || '_' || given,
            CASE parent WHEN 'attempts' THEN '(c.tenant, c.delivery_id, c.id) > ($1, $2, $3)'
                ELSE '(c.tenant, c.id) > ($1, $2)' END,
            CASE parent WHEN 'attempts' THEN keys ELSE 'c.tenant, c.id' END,
            copied,
            CASE parent WHEN 'events' THEN 'coalesce(octet_length(c.envelope), 0)'
                WHEN 'attempts' THEN 'coalesce(octet_length(c.response_headers), 0) + coalesce(octet_length(c.response_body), 0)'
                ELSE 'coalesce(octet_length(c.first_response), 0)' END,
            CASE parent WHEN 'deliveries' THEN 'c.status = 0' ELSE 'false' END,
            parent || '_' || given || '_stripped',
            (SELECT string_agg(quote_ident(name), ', ') FROM unnest(columns) AS name),
            postrider_stripped_cells(columns), most_bytes,
            CASE parent WHEN 'attempts' THEN 'c.tenant, c.delivery_id AS id, c.id AS then_id'
                ELSE 'c.tenant, c.id, c.id AS then_id' END)
            INTO last_tenant, last_id, last_then, known_tenant, known_id
            USING own.reached_tenant, own.reached_id, own.reached_then;
    ELSIF own.place = 4 THEN
        EXECUTE format('ANALYZE %I, %I, %I', 'events_' || given || '_stripped', deliveries || '_stripped',
            'attempts_' || given || '_stripped');
    ELSE
        SELECT * INTO known_tenant, known_id, complete FROM postrider_strip_changed(given, dead_until);
        IF known_id IS NULL AND complete THEN
            -- Others lock the whole tables first too. What has changed since is little.
            LOCK TABLE ONLY events, ONLY deliveries, ONLY attempts IN ACCESS EXCLUSIVE MODE;
            EXECUTE format('LOCK TABLE %I, %I, %I IN ACCESS EXCLUSIVE MODE',
                'events_' || given, deliveries, 'attempts_' || given);
            SELECT * INTO known_tenant, known_id, complete FROM postrider_strip_changed(given, dead_until);
        END IF;
        IF known_id IS NULL THEN
            IF NOT complete THEN
                RETURN 'more';
            END IF;
            IF EXISTS (SELECT FROM fan_outs WHERE event_id >= starts AND event_id < ends) THEN
                RETURN 'pending';
            END IF;
            PERFORM postrider_strip_exchange(given);
            EXECUTE format('UPDATE partitions SET stripped = true, kept_look_at = (SELECT $1 FROM %I
                WHERE payload_gone IS NULL LIMIT 1) WHERE suffix = $2', 'events_' || given)
                USING (extract(epoch FROM clock_timestamp()) * 1000)::bigint + 3600000, given;
            DELETE FROM strippings WHERE suffix = given;
            RETURN 'stripped';
        END IF;
    END IF;
    IF known_id IS NOT NULL THEN
        UPDATE partitions SET pending_tenant = known_tenant, pending_delivery = known_id WHERE suffix = given;
        RETURN 'pending';
    END IF;
    UPDATE strippings SET place = CASE WHEN last_id IS NULL THEN place + 1 ELSE place END,
        reached_tenant = coalesce(last_tenant, ''), reached_id = coalesce(last_id, no_id),
        reached_then = coalesce(last_then, no_id)
        WHERE suffix = given;
    RETURN 'more';
END $$;
