//! Heads of crowded lanes: where their ready jobs begin.
//!
//! A removed job stays in the index until no snapshot is left that could see it. Beside a dump or a forgotten
//! transaction, a claim that began at the start of its lane would pass over all jobs that were removed since then. So the
//! row of a lane through which many jobs have passed says where to begin.
//!
//! Claims move the head (`claim.sql`). A claim takes the first ready jobs of a lane, so there are none before the last
//! that it took, except those that it could not see: of transactions that had not ended. The first claim after they have,
//! usually the next one, sees them and still begins at the old head. It moves the head to the sighting, or to where it got,
//! if it did not get that far. Transactions get their ids before their jobs get numbers (`enqueue.rs`), so none is missed. A
//! sighting counts only if the lane's row did not change between the statement's snapshot and its lock; a job that is given
//! back moves the head back.
//!
//! A transaction that takes longer than a second is not waited for. From time to time [`Heads::tidy`] therefore searches
//! a lane from its start, which also shows whether it is still crowded. Ordered lanes have no heads, as a job that is found
//! late would be out of order, nor have retries, which are few.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use postrider_database::sql::{Part, Template, column, execute, query_all, query_one};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::ConnectionTrait;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::tables::PRIORITIES;

/// Rules for the claim.
pub(super) const HEADS: &[Part] = &[
    // After how many jobs a lane counts as crowded.
    ("crowd", "1000"),
    ("head_settled", "(next_head > head AND (next_xid <= oldest_xid OR next_head_at < now - 1000))"),
];

static CROWDED: &str = "SELECT id, head FROM lanes WHERE crowded ORDER BY id LIMIT 1000";
static WHOLE_LANE: Template = Template::new(include_str!("whole_lane.sql"), &[PRIORITIES]);

/// The time between two searches of a lane from its start: this, or so many times what the last one took.
const SEARCH: Duration = Duration::from_secs(10);
const SEARCH_PAUSE: u32 = 50;

/// A lane whose start is found this fast is not crowded any more.
const FAST: Duration = Duration::from_millis(2);

/// When to search crowded lanes from their starts.
#[derive(Debug, Default)]
pub(super) struct Heads {
    search_at: Mutex<HashMap<Uuid, Instant>>,
}

impl Heads {
    /// Searches the crowded lanes whose time has come.
    pub(super) async fn tidy(&self, connection: &impl ConnectionTrait) -> Result<(), DatabaseError> {
        let mut search_at = self.search_at.lock().await;
        let rows = query_all(connection, CROWDED, []).await?;
        let crowded: HashMap<Uuid, i64> = rows
            .iter()
            .map(|row| Ok((column(row, "id")?, column(row, "head")?)))
            .collect::<Result<_, DatabaseError>>()?;
        search_at.retain(|lane, _| crowded.contains_key(lane));
        let now = Instant::now();
        for (lane, head) in crowded {
            let at = search_at.entry(lane).or_insert(now + SEARCH);
            if *at <= now {
                let pause = search(connection, lane, head).await?;
                *at = Instant::now() + pause;
            }
        }
        Ok(())
    }
}

/// Searches a lane from its start. Returns how long not to do that again.
async fn search(connection: &impl ConnectionTrait, lane: Uuid, head: i64) -> Result<Duration, DatabaseError> {
    let sql = WHOLE_LANE.on(Dialect::Postgres);
    let Some(row) = query_one(connection, sql, [lane.into()]).await? else { return Ok(SEARCH) };
    let took = Duration::from_micros(u64::try_from(column::<i64>(&row, "took")?).unwrap_or(0));
    let first: Option<i64> = column(&row, "seq")?;
    if took < FAST {
        let sql =
            "UPDATE lanes SET crowded = false, passed = 0, head = 0, next_head = 0 WHERE id = $1 AND crowded";
        execute(connection, sql, [lane.into()]).await?;
    } else if let Some(first) = first.filter(|first| *first < head) {
        let sql = "UPDATE lanes SET head = LEAST(head, $2), next_head = LEAST(next_head, $2) WHERE id = $1 AND crowded";
        execute(connection, sql, [lane.into(), first.into()]).await?;
    }
    Ok(SEARCH.max(took * SEARCH_PAUSE))
}
