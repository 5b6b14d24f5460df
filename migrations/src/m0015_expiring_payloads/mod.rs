//! Lets the payloads of an old partition go before the partition.
//!
//! | file | what it does |
//! |---|---|
//! | `copy.sql` | on PostgreSQL, what the copies of a partition's tables have, and how they are begun and abandoned |
//! | `step.sql` | on PostgreSQL, the next step towards a partition without payloads |
//! | `kept.sql` | on PostgreSQL, the payloads that dead letters have kept |

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
        for (shared, postgres) in [
            (SHARED, TABLES),
            ("", include_str!("copy.sql")),
            ("", include_str!("step.sql")),
            ("", include_str!("kept.sql")),
            ("", SETTINGS),
        ] {
            crate::schema::apply(manager, shared, postgres).await?;
        }
        Ok(())
    }
}

const SHARED: &str = "
-- Whether the payloads of the partition have expired.
ALTER TABLE partitions ADD COLUMN stripped boolean NOT NULL DEFAULT false;
-- When to look again at the payloads that its dead letters have kept. NULL if there are none.
ALTER TABLE partitions ADD COLUMN kept_look_at bigint;
";

const TABLES: &str = "
-- The partition that is being copied without its payloads, and how far that has come.
CREATE TABLE strippings (
    suffix         text PRIMARY KEY,
    -- The partition that the copies belong to: another one may be given the same name.
    original       oid NOT NULL,
    -- 0: looking for pending deliveries. 1 to 3: copying deliveries, attempts, events. 4: the copies are complete, apart from
    -- changes. 5: and PostgreSQL knows their statistics.
    place          smallint NOT NULL,
    -- The key of the last row that was looked at.
    reached_tenant text NOT NULL,
    reached_id     uuid NOT NULL,
    reached_then   uuid NOT NULL
);

-- The keys of rows of that partition that changed since its copies were begun. They are copied once more, and then the
-- notes go. Deleting a tenant needs them: the copies have its rows, too.
CREATE TABLE stripping_changes (
    number      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    suffix      text NOT NULL,
    of_tenant   text NOT NULL,
    delivery_id uuid,
    event_id    uuid
);

-- Roles that may use events may use these.
SELECT postrider_copy_grants('events', 'strippings'), postrider_copy_grants('events', 'stripping_changes');
";

/// The schema in which the tables are, whatever the caller's search path says. The functions give way to others instead of
/// making them wait behind them, and walk along keys, whatever the statistics say about a partition.
const SETTINGS: &str = "
DO $$
DECLARE
    called text;
BEGIN
    FOREACH called IN ARRAY ARRAY['postrider_note_change', 'postrider_strip_abandon', 'postrider_strip_step',
        'postrider_strip_kept'] LOOP
        EXECUTE format('ALTER FUNCTION %I SET search_path = %I, pg_temp', called, current_schema());
        CONTINUE WHEN called = 'postrider_note_change';
        EXECUTE format('ALTER FUNCTION %I SET lock_timeout = %L', called, '50ms');
        EXECUTE format('ALTER FUNCTION %I SET enable_seqscan = off', called);
        EXECUTE format('ALTER FUNCTION %I SET enable_hashjoin = off', called);
        EXECUTE format('ALTER FUNCTION %I SET enable_mergejoin = off', called);
    END LOOP;
END $$;
";
