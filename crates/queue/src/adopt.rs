//! Taking jobs over from another queue: the same on both databases.

use std::collections::HashSet;

use postrider_database::sql::column;
use postrider_database::{Batch, Column, DatabaseError, Dialect, Kind};
use sea_orm::ConnectionTrait;

use crate::job::{JobId, NewJob};

const PLACE: &[Column] = &[Column::new("id", Kind::Uuid), Column::new("lane", Kind::Uuid)];

/// Jobs are found by their lanes. This reads all jobs of these lanes, which only a refill or a move may do.
const MISSING: &str = "SELECT input.id FROM input
     WHERE NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.lane = input.lane AND jobs.id = input.id)
         AND NOT EXISTS (SELECT 1 FROM scheduled_jobs WHERE scheduled_jobs.lane = input.lane AND scheduled_jobs.id = input.id)";

/// Jobs that nobody has claimed, like [`MISSING`].
const REMOVE_ON_POSTGRES: [&str; 3] = [
    "DELETE FROM jobs USING input WHERE jobs.lane = input.lane AND jobs.id = input.id AND jobs.lease_token IS NULL",
    "DELETE FROM scheduled_jobs USING input WHERE scheduled_jobs.lane = input.lane AND scheduled_jobs.id = input.id",
    "DELETE FROM taken_jobs USING input WHERE taken_jobs.id = input.id",
];
const REMOVE_ON_SQLITE: [&str; 3] = [
    "DELETE FROM jobs WHERE (lane, id) IN (SELECT lane, id FROM input) AND lease_token IS NULL",
    "DELETE FROM scheduled_jobs WHERE (lane, id) IN (SELECT lane, id FROM input)",
    "DELETE FROM taken_jobs WHERE id IN (SELECT id FROM input)",
];

/// Which of these jobs the tables do not have.
pub(crate) async fn missing(
    connection: &impl ConnectionTrait,
    jobs: &[NewJob],
) -> Result<HashSet<JobId>, DatabaseError> {
    let rows = places(jobs).query(connection, MISSING, []).await?;
    rows.iter().map(|row| Ok(JobId(column(row, "id")?))).collect()
}

/// Removes jobs from the tables that another queue has by now.
pub(crate) async fn out_of_tables(
    connection: &impl ConnectionTrait,
    jobs: &[NewJob],
) -> Result<(), DatabaseError> {
    let statements = match Dialect::of(connection) {
        Dialect::Postgres => REMOVE_ON_POSTGRES,
        Dialect::Sqlite => REMOVE_ON_SQLITE,
    };
    for statement in statements {
        places(jobs).execute(connection, statement, []).await?;
    }
    Ok(())
}

fn places(jobs: &[NewJob]) -> Batch {
    let mut input = Batch::new(PLACE);
    for job in jobs {
        input.push([job.id.0.into(), job.lane.0.into()]);
    }
    input
}
