//! What a claim reads beside the jobs that it takes.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::sync::OnceLock;

use sea_orm::QueryResult;

use crate::job::{JobId, LaneId};

/// What a claim reads from other tables, in the same round trip, as the statement's snapshot shows them: about each job that
/// it takes, and once about each of their lanes.
#[derive(Debug)]
pub struct Join {
    about_jobs: Reads,
    about_lanes: Reads,
    /// The claim's statement with both.
    statement: OnceLock<String>,
}

/// Columns to read, and the joins that they need.
#[derive(Debug)]
pub struct Reads {
    /// Names and expressions. No column may have the name of another, or of one that a claim returns itself.
    pub columns: Vec<(&'static str, String)>,
    /// `JOIN …`, which must keep each row.
    pub joins: String,
}

/// The rows that a claim read beside its jobs.
#[derive(Debug, Default)]
pub struct Joined {
    /// About each job.
    pub jobs: HashMap<JobId, QueryResult>,
    /// About the lane of each job.
    pub lanes: HashMap<LaneId, QueryResult>,
}

impl Join {
    /// For `about_jobs`, the jobs are the table `taken` with the columns `id`, `lane`, `owner` and `subject`. For
    /// `about_lanes`, the lanes are the table `looked` with the columns `id` and `owner`; `tally.jobs > 0` holds for those of
    /// which jobs are taken, and only those need be read.
    pub fn new(about_jobs: Reads, about_lanes: Reads) -> Self {
        Self { about_jobs, about_lanes, statement: OnceLock::new() }
    }

    /// Fills in the places that the statement of a claim leaves for it.
    pub(crate) fn fill(&self, statement: &str) -> &str {
        self.statement.get_or_init(|| {
            let parts = [("job", &self.about_jobs), ("lane", &self.about_lanes)];
            parts.into_iter().fold(statement.to_owned(), |statement, (of, reads)| {
                let (mut nulls, mut columns) = (String::new(), String::new());
                for (name, expression) in &reads.columns {
                    // Writing to a string does not fail. The type of a NULL is that of the other rows' column.
                    let _ = write!(nulls, ", NULL AS {name}");
                    let _ = write!(columns, ", {expression} AS {name}");
                }
                statement
                    .replace(&format!("/* no {of} columns */"), &nulls)
                    .replace(&format!("/* {of} columns */"), &columns)
                    .replace(&format!("/* {of} joins */"), &format!(" {}", reads.joins))
            })
        })
    }
}
