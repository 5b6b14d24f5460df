-- Looks at up to 200 events of a stripped partition that have kept their payloads, after the one with this key, and removes
-- those payloads that nothing keeps any more: none of the event's deliveries is pending, died after `dead_until`, or is yet
-- to be made. The responses follow as after an erasure on request. Returns how many it removed, which is NULL if
-- another process is at work, and the key of the last event that it looked at, which is NULL after the last one. Runs with the rights of the schema's owner, for every role that may
-- delete events.
CREATE FUNCTION postrider_strip_kept(given text, dead_until bigint, after_tenant text, after_id uuid,
    OUT removed bigint, OUT last_tenant text, OUT last_id uuid) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    looked_at CONSTANT integer := 200;
    -- How many deliveries of these events there may be, unless one event has more.
    most CONSTANT integer := 10000;
    deliveries CONSTANT text := 'deliveries_' || given;
    now_ms CONSTANT bigint := (extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    stays boolean;
BEGIN
    IF NOT has_table_privilege(session_user, 'events', 'DELETE') THEN
        RAISE insufficient_privilege USING MESSAGE = 'stripping a partition needs the right to delete events';
    END IF;
    -- 'payloads' in ASCII.
    IF NOT pg_try_advisory_xact_lock(8097887111620945011) THEN
        RETURN;
    END IF;
    removed := 0;
    PERFORM FROM partitions WHERE suffix = given AND stripped FOR NO KEY UPDATE;
    IF NOT FOUND OR to_regclass(deliveries) IS NULL THEN
        RETURN;
    END IF;
    -- Nobody makes a delivery pending again from here on. Reading goes on.
    EXECUTE format('LOCK TABLE %I IN SHARE ROW EXCLUSIVE MODE', deliveries);
    EXECUTE format('WITH next AS MATERIALIZED (SELECT c.tenant, c.id, c.subscribers_found FROM %1$I AS c
            WHERE c.payload_gone IS NULL AND (c.tenant, c.id) > ($1, $2) ORDER BY c.tenant, c.id LIMIT %3$s),
        sized AS (SELECT c.*, sum(c.subscribers_found) OVER ordered AS size, row_number() OVER ordered AS number
            FROM next AS c WINDOW ordered AS (ORDER BY c.tenant, c.id)),
        due AS MATERIALIZED (SELECT * FROM sized WHERE size <= %4$s OR number = 1),
        settled AS MATERIALIZED (SELECT c.tenant, c.id FROM due AS c
            WHERE NOT %5$s
                AND NOT EXISTS (SELECT FROM %2$I AS d
                    WHERE d.tenant = c.tenant AND d.id BETWEEN c.id AND postrider_last_of(c.id) AND d.status = 0)
                AND NOT EXISTS (SELECT FROM %2$I AS d WHERE d.event_id = c.id AND d.tenant = c.tenant AND d.status = 0)
                AND NOT EXISTS (SELECT FROM fan_outs AS f WHERE f.tenant = c.tenant AND f.event_id = c.id)),
        gone AS (UPDATE %1$I AS e SET envelope = NULL, payload_gone = 2 FROM settled AS c
            WHERE e.tenant = c.tenant AND e.id = c.id RETURNING e.tenant, e.id),
        promised AS (INSERT INTO erasures (tenant, event_id, reached, due_at, last_pass)
            SELECT tenant, id, %6$L, $3, false FROM gone ON CONFLICT DO NOTHING)
        SELECT (SELECT count(*) FROM gone), last.tenant, last.id FROM (SELECT) AS one
        LEFT JOIN (SELECT tenant, id FROM due ORDER BY tenant DESC, id DESC LIMIT 1) AS last ON true',
        'events_' || given, deliveries, looked_at, most, postrider_keeps_payload('events', given, dead_until),
        '00000000-0000-0000-0000-000000000000')
        INTO removed, last_tenant, last_id USING after_tenant, after_id, now_ms;
    IF last_id IS NULL THEN
        EXECUTE format('UPDATE partitions SET kept_look_at = (SELECT $1 FROM %I WHERE payload_gone IS NULL LIMIT 1)
            WHERE suffix = $2', 'events_' || given) USING now_ms + 3600000, given;
    END IF;
END $$;
