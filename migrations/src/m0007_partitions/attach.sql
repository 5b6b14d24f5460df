DO $$
DECLARE
    hour CONSTANT bigint := 3600000;
    last_at bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    parent text;
    newest uuid;
BEGIN
    PERFORM postrider_copy_grants(('old_' || copied)::regclass, copied::regclass)
        FROM unnest(ARRAY['events', 'deliveries', 'attempts']) AS copied;
    PERFORM postrider_copy_grants('old_events', 'partitions');
    IF NOT EXISTS (SELECT 1 FROM old_events) AND NOT EXISTS (SELECT 1 FROM old_deliveries) THEN
        DROP TABLE old_events, old_deliveries, old_attempts;
        RETURN;
    END IF;
    -- Up to a full hour, and to the newest id if a process's clock was ahead.
    FOREACH parent IN ARRAY ARRAY['events', 'deliveries'] LOOP
        EXECUTE format('SELECT id FROM %I ORDER BY id DESC LIMIT 1', 'old_' || parent) INTO newest;
        last_at := GREATEST(last_at, ('x' || left(replace(newest::text, '-', ''), 12))::bit(48)::bigint);
    END LOOP;
    last_at := last_at - last_at % hour + hour;
    ALTER TABLE old_deliveries ALTER event_id DROP NOT NULL;
    FOREACH parent IN ARRAY ARRAY['events', 'deliveries', 'attempts'] LOOP
        EXECUTE format('ALTER TABLE %I DROP CONSTRAINT %I', 'old_' || parent, 'old_' || parent || '_pkey');
        EXECUTE format('ALTER TABLE %I RENAME TO %I', 'old_' || parent, parent || '_converted');
        EXECUTE format('ALTER TABLE %I ATTACH PARTITION %I FOR VALUES FROM (%L) TO (%L)',
            parent, parent || '_converted', postrider_id_at(0), postrider_id_at(last_at));
    END LOOP;
    INSERT INTO partitions (starts_at, ends_at, suffix, converted) VALUES (0, last_at, 'converted', true);
END $$;
