//! A referee in the database. It records who claimed which job and when, who ended that claim, when subscribers became
//! active, and what was deleted.
//!
//! On PostgreSQL each program connects with a role of its own, so that a trigger knows who acts; on SQLite there is one
//! program. What the trigger writes is part of the transaction that it watches, so the two commit together or not at all.

use sea_orm::{ConnectionTrait as _, DatabaseConnection, DbBackend};

use crate::incident::Who;

const POSTGRES: &str = "
CREATE TABLE chaos_claims (
    token uuid NOT NULL, job uuid NOT NULL, delivery uuid NOT NULL, claimed_by text NOT NULL, claimed_at bigint NOT NULL,
    ended text, ended_by text, ended_at bigint, PRIMARY KEY (token, job)
);
CREATE FUNCTION chaos_referee() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    now bigint := (extract(epoch FROM statement_timestamp()) * 1000)::bigint;
BEGIN
    IF OLD.lease_token IS NOT NULL AND (TG_OP = 'DELETE' OR NEW.lease_token IS DISTINCT FROM OLD.lease_token) THEN
        UPDATE chaos_claims SET ended_by = session_user, ended_at = now, ended = CASE
            WHEN TG_OP = 'DELETE' THEN CASE
                WHEN EXISTS (SELECT 1 FROM scheduled_jobs WHERE lane = OLD.lane AND id = OLD.id) THEN 'retried' ELSE 'finished' END
            WHEN NEW.lease_token IS NOT NULL OR NEW.rescues > OLD.rescues THEN 'rescued'
            WHEN NEW.available_at <= now THEN 'released'
            ELSE 'retried' END
        WHERE token = OLD.lease_token AND job = OLD.id;
    END IF;
    IF TG_OP = 'UPDATE' AND NEW.lease_token IS NOT NULL AND NEW.lease_token IS DISTINCT FROM OLD.lease_token THEN
        INSERT INTO chaos_claims VALUES (NEW.lease_token, NEW.id, NEW.subject, session_user, now);
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_referee AFTER UPDATE OR DELETE ON jobs FOR EACH ROW EXECUTE FUNCTION chaos_referee();
CREATE TABLE chaos_activations (subscriber uuid NOT NULL, at bigint NOT NULL);
CREATE FUNCTION chaos_activation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_activations VALUES (NEW.id, (extract(epoch FROM statement_timestamp()) * 1000)::bigint);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_activation AFTER UPDATE ON subscribers FOR EACH ROW
    WHEN (NEW.active AND NOT OLD.active) EXECUTE FUNCTION chaos_activation();
CREATE TABLE chaos_deleted (
    delivery uuid PRIMARY KEY, event uuid NOT NULL, subscriber uuid NOT NULL, status smallint NOT NULL,
    attempts integer NOT NULL
);
CREATE FUNCTION chaos_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO chaos_deleted VALUES
        (OLD.id, (left(OLD.id::text, 31) || '00000')::uuid, OLD.subscriber_id, OLD.status, OLD.attempts);
    RETURN NULL;
END $$;
CREATE TRIGGER chaos_deletion AFTER DELETE ON deliveries FOR EACH ROW EXECUTE FUNCTION chaos_deletion();";

const SQLITE: &str = "
CREATE TABLE chaos_claims (
    token blob NOT NULL, job blob NOT NULL, delivery blob NOT NULL, claimed_by text NOT NULL, claimed_at bigint NOT NULL,
    ended text, ended_by text, ended_at bigint, PRIMARY KEY (token, job)
);
CREATE TRIGGER chaos_lost AFTER UPDATE ON jobs WHEN OLD.lease_token IS NOT NULL AND NEW.lease_token IS NOT OLD.lease_token BEGIN
    UPDATE chaos_claims SET ended_by = 'whole', ended_at = {now}, ended = CASE
        WHEN NEW.lease_token IS NOT NULL OR NEW.rescues > OLD.rescues THEN 'rescued'
        WHEN NEW.available_at <= {now} THEN 'released'
        ELSE 'retried' END
    WHERE token = OLD.lease_token AND job = OLD.id;
END;
CREATE TRIGGER chaos_finished AFTER DELETE ON jobs WHEN OLD.lease_token IS NOT NULL BEGIN
    UPDATE chaos_claims SET ended_by = 'whole', ended_at = {now}, ended = CASE
        WHEN EXISTS (SELECT 1 FROM scheduled_jobs WHERE lane = OLD.lane AND id = OLD.id) THEN 'retried' ELSE 'finished' END
    WHERE token = OLD.lease_token AND job = OLD.id;
END;
CREATE TRIGGER chaos_claimed AFTER UPDATE ON jobs WHEN NEW.lease_token IS NOT NULL AND NEW.lease_token IS NOT OLD.lease_token BEGIN
    INSERT INTO chaos_claims VALUES (NEW.lease_token, NEW.id, NEW.subject, 'whole', {now}, NULL, NULL, NULL);
END;
CREATE TABLE chaos_activations (subscriber blob NOT NULL, at bigint NOT NULL);
CREATE TRIGGER chaos_activation AFTER UPDATE ON subscribers WHEN NEW.active AND NOT OLD.active BEGIN
    INSERT INTO chaos_activations VALUES (NEW.id, {now});
END;
CREATE TABLE chaos_deleted (
    delivery blob PRIMARY KEY, event blob NOT NULL, subscriber blob NOT NULL, status smallint NOT NULL,
    attempts integer NOT NULL
);
CREATE TRIGGER chaos_deletion AFTER DELETE ON deliveries BEGIN
    INSERT INTO chaos_deleted VALUES
        (OLD.id, unhex(substr(hex(OLD.id), 1, 27) || '00000'), OLD.subscriber_id, OLD.status, OLD.attempts);
END;";

/// Counts claims that another program ended in any way except by rescuing the job, which must not happen.
pub(crate) const TRESPASSES: &str = "SELECT count(*) FROM chaos_claims WHERE ended IN ('finished', 'released', 'retried') AND ended_by <> claimed_by";

/// All claims. A claim's time is that of its statement: its holder loads the delivery afterwards.
pub(crate) const CLAIMS: &str = "SELECT delivery, claimed_at, ended, ended_at FROM chaos_claims";

/// When inactive subscribers became active. The time is that of the statement: no one can see the change earlier.
pub(crate) const ACTIVATIONS: &str = "SELECT subscriber, at FROM chaos_activations ORDER BY at";

/// All deleted deliveries, as they were when they were deleted.
pub(crate) const DELETED: &str = "SELECT delivery, event, subscriber, status FROM chaos_deleted";

/// The role with which a program connects to the database.
pub(crate) fn role(who: Who) -> String {
    who.to_string().replace('-', "_")
}

/// Installs the triggers; the schema must exist.
pub(crate) async fn watch(database: &DatabaseConnection) {
    let triggers = match database.get_database_backend() {
        DbBackend::Sqlite => SQLITE.replace("{now}", "CAST(unixepoch('subsec') * 1000 AS INTEGER)"),
        _ => POSTGRES.to_owned(),
    };
    execute(database, &triggers).await;
}

async fn execute(database: &DatabaseConnection, sql: &str) {
    database.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}
