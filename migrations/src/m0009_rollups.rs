//! One table of roll-ups, coarser by subscriber than by event type, and one of deltas.
//!
//! Converts all counts. Programs of the release before cannot run beside this schema: stop them first.

use sea_orm_migration::prelude::*;
use sea_orm_migration::sea_orm::{ConnectionTrait, DbBackend, Statement};

/// The migration that this module describes.
#[derive(Debug)]
pub(crate) struct Migration;

impl MigrationName for Migration {
    fn name(&self) -> &'static str {
        "m0009_rollups"
    }
}

#[allow(elided_lifetimes_in_paths, reason = "the trait elides the lifetime")]
#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let connection = manager.get_connection();
        let words = match connection.get_database_backend() {
            DbBackend::Postgres => POSTGRES_WORDS,
            _ => SQLITE_WORDS,
        };
        let on_this = |sql: &str| words.iter().fold(sql.to_owned(), |sql, (word, by)| sql.replace(word, by));
        crate::schema::apply(manager, &on_this(TABLES), POSTGRES).await?;
        connection.execute_unprepared(&on_this(ATTEMPTS)).await?;
        for rows in ROWS {
            connection.execute_unprepared(&on_this(&rows.counted())).await?;
        }
        convert_deltas(connection, &on_this(DELTAS)).await?;
        connection
            .execute_unprepared(
                "DROP TABLE old_rollups; DROP TABLE attempt_rollups; DROP TABLE attempt_deltas",
            )
            .await
            .map(drop)
    }
}

const POSTGRES_WORDS: &[(&str, &str)] = &[
    ("{now}", "(extract(epoch FROM statement_timestamp()) * 1000)::bigint"),
    ("{minute}", "(extract(epoch FROM statement_timestamp())::bigint / 60)"),
    ("{nil}", "'00000000-0000-0000-0000-000000000000'::uuid"),
    ("{empty}", "''::bytea"),
    ("{id}", "uuid_send(subscriber_id)"),
];
const SQLITE_WORDS: &[(&str, &str)] = &[
    ("{now}", "(CAST(unixepoch('subsec') * 1000 AS INTEGER))"),
    ("{minute}", "(unixepoch() / 60)"),
    ("{nil}", "zeroblob(16)"),
    ("{empty}", "x''"),
    ("{id}", "subscriber_id"),
];

const TABLES: &str = "
ALTER TABLE rollups RENAME TO old_rollups;

-- Counts by the minute in which a delivery was created or an attempt began. The subscriber is the nil id in rows that count
-- all of them, and the event type is empty in rows that count all of them.
CREATE TABLE rollups (
    tenant        text NOT NULL,
    subscriber_id {uuid} NOT NULL,
    event_type    text NOT NULL,
    -- 1 a minute, 2 an hour, 3 a day of UTC, 4 an hour of a subscriber, 0 all days that were removed.
    span          smallint NOT NULL,
    -- The first minute since the Unix epoch.
    start         bigint NOT NULL,
    created       bigint NOT NULL,
    succeeded     bigint NOT NULL,
    dead          bigint NOT NULL,
    cancelled     bigint NOT NULL,
    -- Attempts of the deliveries that have ended.
    spent         bigint NOT NULL,
    -- Attempts that began.
    attempts      bigint NOT NULL,
    -- Histograms and failures by kind; see `tally.rs` of the store.
    counts        {bytes} NOT NULL,
    -- An hour of a subscriber, minute by minute; see `cells.rs`.
    minutes       {bytes},
    PRIMARY KEY (tenant, subscriber_id, event_type, span, start)
);
-- Old rows are found by it. Partial, although the condition always holds: PostgreSQL cannot prove it for a look-up by the
-- key, and so does not choose this index for one. While the table is small, both look equally good to the planner.
CREATE INDEX rollups_by_age ON rollups (span, start) WHERE span >= 0;

-- What transactions have counted, in rows that no other transaction writes to; folded into `rollups` some seconds later.
CREATE TABLE rollup_deltas (
    seq        {sequence},
    tenant     text NOT NULL,
    entries    integer NOT NULL,
    written_at bigint NOT NULL DEFAULT {now},
    -- See `deltas.rs` of the store.
    counts     {bytes} NOT NULL
);
CREATE INDEX rollup_deltas_by_tenant ON rollup_deltas (tenant);
";

const POSTGRES: &str = "
ALTER INDEX rollups_pkey RENAME TO old_rollups_pkey;
ALTER INDEX rollups_pkey1 RENAME TO rollups_pkey;
-- Room for each row to be updated in place.
ALTER TABLE rollups SET (fillfactor = 60);
-- Rows are folded and removed in this order.
ALTER TABLE rollup_deltas ADD PRIMARY KEY (seq);
ALTER TABLE rollup_deltas SET (
    autovacuum_vacuum_scale_factor = 0,
    autovacuum_vacuum_threshold = 2000,
    autovacuum_analyze_scale_factor = 0,
    autovacuum_analyze_threshold = 50000
);
";

/// The roll-ups of attempts that are still stored. Hours of a subscriber are whole: their minutes are not known apart.
const ATTEMPTS: &str = "
INSERT INTO rollups (tenant, subscriber_id, event_type, span, start, created, succeeded, dead, cancelled, spent,
        attempts, counts)
    SELECT tenant, subscriber_id, event_type,
        CASE WHEN width = 1 THEN 1 WHEN width = 1440 THEN 3 WHEN subscriber_id = {nil} THEN 2 ELSE 4 END,
        start, 0, 0, 0, 0, 0, attempts, counts
    FROM attempt_rollups
    WHERE subscriber_id = {nil} OR width = 1440
        OR (width = 60 AND event_type = '' AND start >= {minute} - 16 * 1440);
";

/// Rows that count deliveries.
struct Rows {
    subscriber: &'static str,
    event_type: &'static str,
    span: u8,
    /// In minutes.
    width: u32,
    /// For how many days they are stored.
    days: u32,
}

const fn rows(subscriber: &'static str, event_type: &'static str, span: u8, width: u32, days: u32) -> Rows {
    Rows { subscriber, event_type, span, width, days }
}

/// Old counts are by the minute, the hour or the day, and the longer ones belong to their first minute. So an hour that was
/// counted as part of a day is counted at the beginning of that day.
const ROWS: [Rows; 9] = [
    rows("{nil}", "''", 1, 1, 3),
    rows("{nil}", "event_type", 1, 1, 3),
    rows("{nil}", "''", 2, 60, 62),
    rows("{nil}", "event_type", 2, 60, 62),
    rows("subscriber_id", "''", 4, 60, 16),
    rows("{nil}", "''", 3, 1440, 1_000_000),
    rows("{nil}", "event_type", 3, 1440, 1_000_000),
    rows("subscriber_id", "''", 3, 1440, 1_000_000),
    rows("subscriber_id", "event_type", 3, 1440, 1_000_000),
];

impl Rows {
    /// The statement that adds the counts of deliveries to them.
    fn counted(&self) -> String {
        let Self { subscriber, event_type, span, width, days } = self;
        format!(
            "INSERT INTO rollups (tenant, subscriber_id, event_type, span, start, created, succeeded, dead, cancelled,
                    spent, attempts, counts)
                SELECT tenant, {subscriber}, {event_type}, {span}, minute - ((minute % {width}) + {width}) % {width},
                    CAST(sum(created) AS bigint), CAST(sum(succeeded) AS bigint), CAST(sum(dead) AS bigint),
                    CAST(sum(cancelled) AS bigint), CAST(sum(spent) AS bigint), 0, {{empty}}
                FROM old_rollups WHERE minute >= {{minute}} - {days} * 1440 GROUP BY 1, 2, 3, 5
            ON CONFLICT (tenant, subscriber_id, event_type, span, start) DO UPDATE SET
                created = excluded.created, succeeded = excluded.succeeded, dead = excluded.dead,
                cancelled = excluded.cancelled, spent = excluded.spent"
        )
    }
}

const DELTAS: &str = "SELECT seq, tenant, {id} AS subscriber, event_type, minute, counts FROM attempt_deltas
    WHERE seq > $1 ORDER BY seq LIMIT 1000";

/// Converts the results of attempts that have not been folded.
async fn convert_deltas(connection: &impl ConnectionTrait, read: &str) -> Result<(), DbErr> {
    let backend = connection.get_database_backend();
    let write = "INSERT INTO rollup_deltas (tenant, entries, counts) VALUES ($1, 1, $2)";
    let mut last = 0_i64;
    loop {
        let page = Statement::from_sql_and_values(backend, read, [last.into()]);
        let rows = connection.query_all_raw(page).await?;
        if rows.is_empty() {
            return Ok(());
        }
        for row in rows {
            last = row.try_get("", "seq")?;
            let subscriber: Vec<u8> = row.try_get("", "subscriber")?;
            let event_type: String = row.try_get("", "event_type")?;
            let tally: Vec<u8> = row.try_get("", "counts")?;
            let delta = delta(&subscriber, &event_type, row.try_get("", "minute")?, &tally);
            let values = [row.try_get::<String>("", "tenant")?.into(), delta.into()];
            connection.execute_raw(Statement::from_sql_and_values(backend, write, values)).await?;
        }
    }
}

/// A delta with one entry, which counts no delivery; see `deltas.rs` of the store.
fn delta(subscriber: &[u8], event_type: &str, minute: i64, tally: &[u8]) -> Vec<u8> {
    let mut bytes = vec![1, 1];
    number(&mut bytes, event_type.len() as u64);
    bytes.extend_from_slice(event_type.as_bytes());
    number(&mut bytes, ((minute << 1) ^ (minute >> 63)).cast_unsigned());
    bytes.push(1);
    bytes.extend_from_slice(subscriber);
    bytes.extend_from_slice(&[0; 7]);
    number(&mut bytes, tally.len() as u64);
    bytes.extend_from_slice(tally);
    bytes
}

/// Appends a number as unsigned LEB128.
fn number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}
