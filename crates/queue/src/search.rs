//! Searching for lanes with ready jobs: a walk from lane to lane, a page at a time.
//!
//! The walk is a loose index scan (PostgreSQL's wiki, "Loose indexscan"): a recursive query that looks up the next lane
//! after the last in the index of jobs, so that a lane with a million jobs costs as much as one with a single job. From a
//! shut lane it continues with the next lane that is not shut, so that any number of paused lanes between two open ones
//! costs as much as one.

use std::time::Duration;

use postrider_database::sql::{Part, Template, column, query_all};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::{ConnectionTrait, Value};
use uuid::Uuid;

use crate::job::LaneId;
use crate::tables::{LANE_RULES, LANES_ON_POSTGRES, LANES_ON_SQLITE, WALK, WITHHELD, duration};
use crate::turns::{Left, Page};

static ON_POSTGRES: Template =
    Template::new(include_str!("search.sql"), &[WALK, LANES_ON_POSTGRES, LANE_RULES, WITHHELD, RULES_HERE]);
static ON_SQLITE: Template =
    Template::new(include_str!("search.sql"), &[WALK, LANES_ON_SQLITE, LANE_RULES, WITHHELD, RULES_HERE]);

const RULES_HERE: &[Part] = &[("moment", "{now}")];

/// How many lanes a page has.
const PAGE: i64 = 512;

/// Reads the page after a lane.
pub(crate) async fn search(connection: &impl ConnectionTrait, after: Uuid) -> Result<Page, DatabaseError> {
    let dialect = Dialect::of(connection);
    let statement = match dialect {
        Dialect::Postgres => &ON_POSTGRES,
        Dialect::Sqlite => &ON_SQLITE,
    };
    let values: [Value; 3] = [after.into(), PAGE.into(), Uuid::max().into()];
    let mut page = Page::default();
    let (mut steps, mut last) = (0, Uuid::nil());
    for row in &query_all(connection, statement.on(dialect), values).await? {
        let closed_for: Option<i64> = column(row, "closed_for")?;
        let Some(lane) = column::<Option<Uuid>>(row, "lane")? else {
            page.opens_in = closed_for.map(duration);
            continue;
        };
        let step: i32 = column(row, "step")?;
        if step > steps {
            (steps, last) = (step, lane);
        }
        if column(row, "worth_looking")? {
            page.lanes.push((
                LaneId(lane),
                column(row, "owner")?,
                closed_for.map_or(Duration::ZERO, duration),
            ));
        }
    }
    if i64::from(steps) >= PAGE {
        page.next = last;
    }
    Ok(page)
}

/// How many pages one claim reads before it returns without a job.
const PAGES: u32 = 4;

/// The searches of one claim.
#[derive(Debug, Default)]
pub(crate) struct Searches {
    pages: u32,
    round_ended: bool,
}

impl Searches {
    pub(crate) fn note(&mut self, round_ended: bool) {
        self.pages += 1;
        self.round_ended |= round_ended;
    }

    /// Returns whether a claim that found nothing may return: there is nothing, or its next call continues.
    pub(crate) fn are_enough(&self, left: Left) -> bool {
        left.contended || self.pages >= PAGES || self.round_ended && !left.unvisited
    }
}
