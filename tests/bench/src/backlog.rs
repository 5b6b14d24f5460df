//! Rows that exist before a run: a long history, and waiting jobs.
//!
//! PostgreSQL generates them in the shape in which the programs would have written them.

use sea_orm::DatabaseConnection;

use crate::statements::{self, execute};

/// The number of lanes that hold the waiting jobs.
const LANES: u32 = 1000;
/// The number of lanes that are above their rate.
const ABOVE_THEIR_RATE: u32 = 20 * LANES;
/// The number of lanes without limits.
const OPEN_LANES: u32 = 300;
/// The id of lane `n`.
const LANE: &str = "('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid";
/// Rows per statement.
const CHUNK: u32 = 500_000;

/// Defines a function that makes a UUIDv7 from `at`, in milliseconds, and random bits.
const UUID: &str = "CREATE OR REPLACE FUNCTION bench_uuid(at bigint) RETURNS uuid LANGUAGE sql VOLATILE AS $$ \
    SELECT (lpad(to_hex(at), 12, '0') || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid $$; \
    CREATE OR REPLACE FUNCTION bench_event(at bigint) RETURNS uuid LANGUAGE sql VOLATILE AS $$ \
    SELECT (left(bench_uuid(at)::text, 31) || '00000')::uuid $$; \
    CREATE OR REPLACE FUNCTION bench_delivery(event uuid, number int) RETURNS uuid LANGUAGE sql IMMUTABLE AS $$ \
    SELECT (left(event::text, 31) || lpad(to_hex(number), 5, '0'))::uuid $$; \
    SELECT postrider_add_partition((extract(epoch FROM now()) * 1000)::bigint - day * 86400000, 86400000) \
    FROM generate_series(-1, 1) AS day";

/// Fills the pages of past deliveries as full as they are once their deliveries have ended.
const DENSE: &str = "DO $$ DECLARE past text; BEGIN \
        FOR past IN SELECT suffix FROM partitions WHERE ends_at <= (extract(epoch FROM now()) * 1000)::bigint LOOP \
            EXECUTE format('ALTER TABLE %I SET (fillfactor = 55)', 'deliveries_' || past); \
        END LOOP; \
    END $$";

/// Writes succeeded deliveries, ten for each event, each with its attempt, of the last `days` days before today. The response
/// has the header `content-length: 0`.
pub(crate) async fn history(database: &DatabaseConnection, deliveries: u32, days: u32) {
    execute(database, UUID).await;
    let partitions = format!(
        "SELECT postrider_add_partition({NOW} - day * 86400000, 86400000) FROM generate_series(0::bigint, {days}) AS day"
    );
    execute(database, &partitions).await;
    execute(database, DENSE).await;
    execute(database, "SET synchronous_commit = off").await;
    for done in (0..deliveries).step_by(CHUNK as usize) {
        let count = CHUNK.min(deliveries - done);
        let day =
            days - u32::try_from(u64::from(done) * u64::from(days) / u64::from(deliveries)).unwrap_or(0);
        let (events, subscribers) = (count / 10, 1000);
        execute(
            database,
            &format!(
                "WITH moments AS MATERIALIZED ( \
                    SELECT ({NOW} / 86400000 - {day}) * 86400000 + 1000 + n * 10 / 200 AS at, n FROM generate_series(1, {events}) AS n \
                ), new_events AS MATERIALIZED (SELECT bench_event(at) AS id, at, n FROM moments), written AS ( \
                    INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
                    SELECT id, 'default', 'old.event', 'default', \
                        convert_to('{{\"event\":\"old.event\",\"timestamp\":1700000000,\"agent_id\":\"default\",\"data\":{{\"pad\":\"' || repeat('x', 400) || '\"}}}}', 'UTF8'), 10, at \
                    FROM new_events \
                ), new_deliveries AS MATERIALIZED ( \
                    SELECT bench_delivery(id, k) AS id, at, \
                        ('00000000-0000-7000-9000-' || lpad(to_hex((n * 10 + k) % {subscribers}), 12, '0'))::uuid AS subscriber \
                    FROM new_events, generate_series(1, 10) AS k \
                ) \
                INSERT INTO deliveries (id, tenant, subscriber_id, event_type, status, attempts, round_start, job_id, response_status, created_at, ended_at, \
                    first_started_at, first_duration_us, first_status, first_response) \
                SELECT id, 'default', subscriber, 'old.event', 1, 1, 0, gen_random_uuid(), 200, at, at + 10, at + 5, 5000, 200, '\\x010001050130'::bytea \
                FROM new_deliveries"
            ),
        )
        .await;
    }
    execute(database, "VACUUM ANALYZE events").await;
    execute(database, "VACUUM ANALYZE deliveries").await;
    execute(database, "VACUUM ANALYZE attempts").await;
    execute(database, "SET synchronous_commit = on").await;
}

/// Writes dead letters of the last `days` days before today to the subscribers of the benchmark, one for each event, each with
/// three attempts that the receiver answered with 503.
pub(crate) async fn dead_letters(database: &DatabaseConnection, count: u32, days: u32) {
    let sql = format!(
        "WITH own AS MATERIALIZED ( \
            SELECT subscriber_id AS id, row_number() OVER (ORDER BY subscriber_id) - 1 AS place, count(*) OVER () AS subscribers \
            FROM subscriptions WHERE pattern = 'bench.event' \
        ), new AS MATERIALIZED ( \
            SELECT bench_event(at) AS event, at, own.id AS subscriber FROM ( \
                SELECT ({NOW} / 86400000 - {days} + n * {days} / {count}) * 86400000 + 2000 + n % 80000000 AS at, n \
                FROM generate_series(0::bigint, {count} - 1) AS n \
            ) AS moments JOIN own ON own.place = n % own.subscribers \
        ), written AS ( \
            INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
            SELECT event, 'default', 'dead.event', 'default', \
                convert_to('{{\"event\":\"dead.event\",\"timestamp\":1700000000,\"agent_id\":\"default\",\"data\":{{\"n\":1}}}}', 'UTF8'), 1, at \
            FROM new \
        ), delivered AS ( \
            INSERT INTO deliveries (id, tenant, subscriber_id, event_type, status, attempts, round_start, job_id, \
                response_status, error_kind, dead_reason, died_at, created_at, ended_at) \
            SELECT bench_delivery(event, 1), 'default', subscriber, 'dead.event', 2, 3, 0, gen_random_uuid(), \
                503, 0, 0, at + 600000, at, at + 600000 \
            FROM new \
        ) \
        INSERT INTO attempts (tenant, delivery_id, id, number, started_at, duration_us, response_status, response_truncated, \
            error_kind, error_detail) \
        SELECT 'default', bench_delivery(event, 1), bench_uuid(at + k * 200000), k, at + k * 200000, 5000, 503, false, \
            0, 'the receiver answered 503' \
        FROM new, generate_series(1, 3) AS k"
    );
    execute(database, &sql).await;
    for table in ["events", "deliveries", "attempts"] {
        execute(database, &format!("VACUUM ANALYZE {table}")).await;
    }
}

/// Drops the oldest day, as retention does. Returns whether it did: it gives way to others.
pub(crate) async fn drop_oldest_day(database: &DatabaseConnection) -> bool {
    let drop = format!(
        "SELECT (postrider_drop_partition(suffix, {NOW} - 86400000, {NOW}) = 'dropped')::int::float8 \
        FROM partitions ORDER BY ends_at LIMIT 1"
    );
    statements::attempt(database, &drop).await.is_some_and(|dropped| dropped > 0.0)
}

/// The state of the waiting jobs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Waiting<'a> {
    /// Half are due in an hour, and half wait in paused lanes.
    Later,
    /// All are ready, in the lane of the subscriber with this URL.
    InLine(&'a str),
    /// All are ready, in ten thousand lanes whose breakers have just opened.
    BehindBreakers,
    /// All are ready, in twenty thousand lanes that are above their rate for an hour.
    AboveTheirRate,
    /// All are ready, in the lanes that [`open_lanes`] made.
    InOpenLanes,
}

/// Writes `count` waiting jobs.
pub(crate) async fn jobs(database: &DatabaseConnection, count: u32, waiting: Waiting<'_>) {
    execute(database, UUID).await;
    match waiting {
        Waiting::Later => {
            lanes(database, LANES).await;
            execute(database, &in_lanes("scheduled_jobs", count / 2, LANES, "3600000")).await;
            execute(database, &in_lanes("jobs", count / 2, LANES, "0")).await;
        }
        Waiting::BehindBreakers => {
            lanes(database, 10 * LANES).await;
            execute(database, &in_lanes("jobs", count, 10 * LANES, "0")).await;
        }
        Waiting::AboveTheirRate => {
            let sql = format!(
                "INSERT INTO lanes (id, owner, ordered, rate_interval_us, rate_burst, rate_next_us, running, paused_until, probing) \
                SELECT {LANE}, 'default', false, 3600000000, 1, ({NOW} + 3600000) * 1000, 0, 0, false \
                FROM generate_series(0, {ABOVE_THEIR_RATE} - 1) AS n"
            );
            execute(database, &sql).await;
            execute(database, &in_lanes("jobs", count, ABOVE_THEIR_RATE, "0")).await;
        }
        Waiting::InOpenLanes => execute(database, &in_lanes("jobs", count, OPEN_LANES, "0")).await,
        Waiting::InLine(url) => execute(database, &in_line(count, url)).await,
    }
    execute(database, "VACUUM ANALYZE jobs").await;
    execute(database, "VACUUM ANALYZE lanes").await;
    // In a real system these rows would have been written over hours: flush them so that the disk is idle during the run.
    execute(database, "CHECKPOINT").await;
}

const NOW: &str = "(extract(epoch FROM now()) * 1000)::bigint";

/// Makes lanes without limits. Returns a statement that locks the first two thirds of them.
pub(crate) async fn open_lanes(database: &DatabaseConnection) -> String {
    let sql = format!(
        "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing) \
        SELECT {LANE}, 'default', false, 0, 0, 0, false FROM generate_series(0, {OPEN_LANES} - 1) AS n"
    );
    execute(database, &sql).await;
    format!(
        "SELECT id FROM lanes WHERE id IN (SELECT {LANE} FROM generate_series(0, {OPEN_LANES} * 2 / 3 - 1) AS n) FOR UPDATE"
    )
}

/// Makes lanes that are paused for an hour; their breakers have just opened.
async fn lanes(database: &DatabaseConnection, count: u32) {
    let sql = format!(
        "INSERT INTO lanes (id, owner, ordered, rate_next_us, running, paused_until, probing, shut_until) \
        SELECT ('00000000-0000-7000-9000-' || lpad(to_hex(n % {count}), 12, '0'))::uuid, 'default', false, 0, 0, {NOW} + 3600000, true, {NOW} + 3600000 \
        FROM generate_series(1, {count}) AS n"
    );
    execute(database, &sql).await;
}

/// Jobs whose deliveries do not exist: no worker claims them during the benchmark.
fn in_lanes(table: &str, count: u32, lanes: u32, later: &str) -> String {
    format!(
        "INSERT INTO {table} (id, lane, owner, subject, priority, available_at, claims, rescues) \
        SELECT bench_uuid({NOW}), ('00000000-0000-7000-9000-' || lpad(to_hex(n % {lanes}), 12, '0'))::uuid, 'default', \
            gen_random_uuid(), 1, {NOW} + {later}, 1, 0 \
        FROM generate_series(1, {count}) AS n"
    )
}

/// How many of the deliveries belong to one event.
const PER_EVENT: u32 = 100_000;

/// Jobs with deliveries: workers do run them.
fn in_line(count: u32, url: &str) -> String {
    format!(
        "WITH event AS ( \
            INSERT INTO events (id, tenant, event_type, agent_id, envelope, subscribers_found, dispatched_at) \
            SELECT bench_event({NOW}), 'default', 'flood.event', 'default', \
                convert_to('{{\"event\":\"flood.event\",\"timestamp\":1700000000,\"agent_id\":\"default\",\"data\":{{}}}}', 'UTF8'), 1, {NOW} FROM generate_series(0, {count} / {PER_EVENT}) \
            RETURNING id \
        ), new AS MATERIALIZED ( \
            SELECT bench_delivery(event.id, 1 + n % {PER_EVENT}) AS delivery, bench_uuid({NOW}) AS job, subscribers.id AS subscriber \
            FROM subscribers, generate_series(0, {count} - 1) AS n \
                JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM event) AS event ON place = n / {PER_EVENT} \
            WHERE url = '{url}' \
        ), delivered AS ( \
            INSERT INTO deliveries (id, tenant, subscriber_id, event_type, status, attempts, round_start, job_id, created_at) \
            SELECT delivery, 'default', subscriber, 'flood.event', 0, 0, 0, job, {NOW} FROM new \
        ) \
        INSERT INTO jobs (id, lane, owner, subject, priority, available_at, claims, rescues) \
        SELECT job, subscriber, 'default', delivery, 0, {NOW}, 0, 0 FROM new"
    )
}
