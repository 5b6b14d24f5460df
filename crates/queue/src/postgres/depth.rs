//! Counting jobs, at a cost that is bounded however many there are.

use postrider_database::sql::{Part, Template, query_all};
use postrider_database::{Database, DatabaseError, Dialect};

use crate::job::Depth;
use crate::tables::{self, STATES};

static DEPTH: Template = Template::new(include_str!("depth.sql"), &[LIMIT, STATES]);

/// Up to how many jobs of a state are counted. Above that the statement returns PostgreSQL's own estimate, which vacuum
/// and analyze update; autovacuum looks once a minute (PostgreSQL's manual, §53.11).
const LIMIT: &[Part] = &[("counted", "10000")];

pub(super) async fn depth(database: &Database) -> Result<Depth, DatabaseError> {
    tables::depth(&query_all(database.connection(), DEPTH.on(Dialect::Postgres), []).await?)
}
