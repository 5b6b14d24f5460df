INSERT INTO events (tenant, id, event_type, agent_id, envelope, subscribers_found, dispatched_at, jobs_created)
    SELECT tenant, id, event_type, agent_id, envelope, subscribers_found, dispatched_at, jobs_created FROM old_events
    ORDER BY tenant, id;
INSERT INTO deliveries (tenant, id, event_id, subscriber_id, event_type, status, attempts, round_start, job_id,
        next_attempt_at, response_status, error_kind, dead_reason, died_at, created_at, ended_at)
    SELECT tenant, id, event_id, subscriber_id, event_type, status, attempts, round_start, job_id,
        next_attempt_at, response_status, error_kind, dead_reason, died_at, created_at, ended_at FROM old_deliveries
    ORDER BY tenant, id;
INSERT INTO attempts (tenant, delivery_id, id, number, started_at, duration_us, response_status, response_headers,
        response_body, response_truncated, error_kind, error_detail)
    SELECT tenant, delivery_id, id, number, started_at, duration_us, response_status, response_headers,
        response_body, response_truncated, error_kind, error_detail FROM old_attempts
    ORDER BY tenant, delivery_id, id;
INSERT INTO partitions (starts_at, ends_at, suffix, converted)
    SELECT 0, CAST(unixepoch('subsec') * 1000 AS INTEGER) + 1, 'converted', true
    WHERE EXISTS (SELECT 1 FROM old_events) OR EXISTS (SELECT 1 FROM old_deliveries);
DROP TABLE old_events;
DROP TABLE old_deliveries;
DROP TABLE old_attempts;
