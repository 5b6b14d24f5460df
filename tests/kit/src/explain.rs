//! The plans that PostgreSQL really used, and what is wrong with them.
//!
//! [`Plans::of`] lets PostgreSQL report the plan of each statement that it runs (its module `auto_explain`), as a notice
//! to the connection that ran it. So the plans are those of the program's own statements, connections and settings, with
//! the generic plans that it keeps. The server's user must be a superuser, as that of `cargo xtask test` is.
//!
//! A plan is at fault if its cost grows with the size of a table of [`LARGE`]:
//!
//! - it reads such a table sequentially or by a bitmap;
//! - it reads the whole of an index of it, without a condition on the index's first column, and without a `LIMIT` right
//!   above that ends the scan (it does not if the scan has a filter): a sequential scan by another name, which PostgreSQL
//!   prefers when `enable_seqscan` is off. From version 18 on, a condition on the second column will do: PostgreSQL looks it
//!   up for each value of the first, and plans that only if it knows of few;
//! - it compares whole rows to end an index scan, which PostgreSQL 15 ends by the first column alone;
//! - it checks `column = ANY (…)` for a column of the index after the scan. PostgreSQL may leave such a condition on any but
//!   the first column out of the scan, and does where both seem to cost the same, as for a table that was empty when it was
//!   analysed;
//! - it sorts what it reads from such a table: the input of a sort is a scan of one, with nothing in between but nodes
//!   that pass rows on. Sorting the rows of a common table expression or of the statement's own input is no fault, since
//!   their number is bounded by the call.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{ConnectionTrait as _, DbBackend, Statement};
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

use crate::TestDatabase;

/// The tables that grow without bound, or with the number of subscribers.
pub const LARGE: [&str; 31] = [
    "jobs",
    "outbox",
    "taken_jobs",
    "scheduled_jobs",
    "claims",
    "deliveries",
    "events",
    "attempts",
    "lanes",
    "subscribers",
    "subscriptions",
    "channel_subscriptions",
    "rollups",
    "rollup_deltas",
    "health",
    "tenants",
    "api_keys",
    "audit",
    "request_keys",
    "subscriber_counts",
    "owner_notices",
    "subscriber_versions",
    "replays",
    "replay_rows",
    "tail_rows",
    "sandboxes",
    "sandbox_requests",
    "listeners",
    "handovers",
    "sessions",
    "portal_links",
];

/// Nodes that pass on the rows of the node below, in its order.
const PASSING: [&str; 8] =
    ["LockRows", "Limit", "Result", "Append", "Gather", "Materialize", "Memoize", "Subquery Scan"];

/// What [`Plans`] adds to the nodes of index scans: the columns of which one must have a condition, with spaces in between.
const FIRST_COLUMN: &str = "First Column";

/// And this: all columns of the index.
const COLUMNS: &str = "Columns";

/// Where sqlx logs the notices of PostgreSQL.
const NOTICES: &str = "sqlx::postgres::notice";

/// Collects the plans of all statements that run on this thread, on connections made after [`Plans::of`].
///
/// The test must run on a single thread: `#[tokio::test]` without a flavour.
#[derive(Debug)]
pub struct Plans {
    notices: Arc<Mutex<Vec<String>>>,
    /// By the index's name.
    indexes: HashMap<String, Index>,
    _subscriber: DefaultGuard,
}

impl Plans {
    /// Lets `database` report plans to all connections that are made from now on.
    pub async fn of(database: &TestDatabase) -> Self {
        let connection = database.connection();
        let settings = [
            "session_preload_libraries = 'auto_explain'",
            "auto_explain.log_min_duration = 0",
            "auto_explain.log_format = 'json'",
            "auto_explain.log_level = 'notice'",
        ];
        let name = Statement::from_string(DbBackend::Postgres, "SELECT current_database() AS name");
        let row = connection.query_one_raw(name).await.unwrap().unwrap();
        let name: String = row.try_get("", "name").unwrap();
        for setting in settings {
            let alter = format!(r#"ALTER DATABASE "{name}" SET {setting}"#);
            connection.execute_unprepared(&alter).await.unwrap();
        }
        let indexes = "SELECT index.relname::text AS index, string_agg(attname, ' ') AS columns, string_agg(attname, ' ') FILTER ( \
                WHERE attnum <= CASE WHEN current_setting('server_version_num')::int >= 180000 THEN 2 ELSE 1 END \
            ) AS first FROM pg_index \
            JOIN pg_class AS index ON index.oid = indexrelid JOIN pg_attribute ON attrelid = indexrelid \
            GROUP BY index.relname";
        let indexes = Statement::from_string(DbBackend::Postgres, indexes);
        let rows = connection.query_all_raw(indexes).await.unwrap();
        let index = |row: &sea_orm::QueryResult| {
            let first = row.try_get("", "first").unwrap();
            (row.try_get("", "index").unwrap(), Index { first, columns: row.try_get("", "columns").unwrap() })
        };
        let indexes = rows.iter().map(index).collect();
        let notices = Arc::default();
        let subscriber = Notices(Arc::clone(&notices));
        Self { notices, indexes, _subscriber: tracing::subscriber::set_default(subscriber) }
    }

    /// The plans of the statements that ran since the last call.
    pub fn take(&self) -> Vec<Plan> {
        let notices = std::mem::take(&mut *self.notices.lock().unwrap_or_else(PoisonError::into_inner));
        notices.iter().filter_map(|notice| Plan::parse(notice, &self.indexes)).collect()
    }
}

/// Names of columns, with spaces in between.
#[derive(Debug)]
struct Index {
    /// The first column, and the second one where PostgreSQL can skip the first.
    first: String,
    columns: String,
}

/// The plan of one statement. Its `Display` is an outline: one line a node.
#[derive(Debug)]
pub struct Plan {
    /// The statement.
    pub query: String,
    root: Value,
}

impl Plan {
    /// Reads a notice of `auto_explain`: `duration: … plan:` and the plan as JSON.
    fn parse(notice: &str, indexes: &HashMap<String, Index>) -> Option<Self> {
        let json = notice.split_once("plan:")?.1;
        let mut plan: Value = serde_json::from_str(json).ok()?;
        note_columns(&mut plan["Plan"], indexes);
        Some(Self { query: plan["Query Text"].as_str()?.to_owned(), root: plan["Plan"].take() })
    }

    /// What makes the plan's cost grow with the size of a large table; empty if nothing does.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        find_faults(&self.root, false, &mut faults);
        faults
    }
}

/// Adds the columns of its index to each index scan.
fn note_columns(node: &mut Value, indexes: &HashMap<String, Index>) {
    if let Some(index) = node["Index Name"].as_str().and_then(|index| indexes.get(index)) {
        node[FIRST_COLUMN] = index.first.as_str().into();
        node[COLUMNS] = index.columns.as_str().into();
    }
    for child in node.get_mut("Plans").and_then(Value::as_array_mut).into_iter().flatten() {
        note_columns(child, indexes);
    }
}

/// Returns whether an index scan has a condition on the first column of its index.
fn is_looked_up(node: &Value) -> bool {
    let first = node[FIRST_COLUMN].as_str().unwrap_or_default();
    let condition = node["Index Cond"].as_str().unwrap_or_default();
    let mut words = condition.split(|at: char| !at.is_alphanumeric() && at != '_');
    words.any(|word| first.split(' ').any(|column| column == word))
}

/// Returns whether a comparison of whole rows is to end an index scan. PostgreSQL 15 ends it by the first column alone.
fn has_row_as_upper_bound(node: &Value) -> bool {
    let condition = node["Index Cond"].as_str().unwrap_or_default();
    ["<= ROW(", "< ROW("].into_iter().any(|bound| condition.contains(bound))
}

/// Returns the column of its index that a scan compares with an array although it does not look it up.
fn left_out(node: &Value) -> Option<&str> {
    let filter = node["Filter"].as_str().unwrap_or_default();
    let columns = node[COLUMNS].as_str().unwrap_or_default().split(' ').filter(|column| !column.is_empty());
    columns.into_iter().find(|column| filter.contains(&format!("({column} = ANY")))
}

/// `bounded`: a `LIMIT` ends the scan.
fn find_faults(node: &Value, bounded: bool, faults: &mut Vec<String>) {
    let kind = kind_of(node);
    if let Some(table) = large_table(node) {
        match kind {
            "Seq Scan" | "Sample Scan" => faults.push(format!("a sequential scan of {table}")),
            "Bitmap Heap Scan" => faults.push(format!("a bitmap scan of {table}")),
            "Index Scan" | "Index Only Scan"
                if !(is_looked_up(node) || bounded && node.get("Filter").is_none()) =>
            {
                let index = node["Index Name"].as_str().unwrap_or_default();
                faults.push(format!("a scan of the whole index {index} of {table}"));
            }
            _ => {}
        }
        if has_row_as_upper_bound(node) {
            faults.push(format!("a scan of {table} that ends by the first column of its index only"));
        }
        if let Some(column) = left_out(node) {
            faults.push(format!("a scan of {table} that does not look up {column}"));
        }
    }
    for child in children(node) {
        if matches!(kind, "Sort" | "Incremental Sort")
            && let Some(table) = scanned_below(child)
        {
            faults.push(format!("a sort of {table}"));
        }
        let is_input = child["Parent Relationship"] == "Outer";
        let bounded = is_input && (kind == "Limit" || bounded && PASSING.contains(&kind));
        find_faults(child, bounded, faults);
    }
}

/// The large table whose rows this node passes on, if it is a scan of one.
fn scanned_below(node: &Value) -> Option<&str> {
    if kind_of(node).ends_with("Scan") && kind_of(node) != "Subquery Scan" {
        return large_table(node);
    }
    let is_passing = PASSING.contains(&kind_of(node));
    children(node)
        .filter(|child| {
            is_passing
                && matches!(child["Parent Relationship"].as_str(), Some("Outer" | "Member" | "Subquery"))
        })
        .find_map(scanned_below)
}

fn kind_of(node: &Value) -> &str {
    node["Node Type"].as_str().unwrap_or_default()
}

/// The table that a node reads if it is a large one, or a partition of one.
fn large_table(node: &Value) -> Option<&str> {
    let name = node["Relation Name"].as_str()?;
    let is_partition =
        |rest: &str| rest.starts_with(|first: char| first.is_ascii_digit()) || rest == "converted";
    LARGE.into_iter().find(|table| {
        let rest = name.strip_prefix(table);
        rest.is_some_and(|rest| rest.is_empty() || rest.strip_prefix('_').is_some_and(is_partition))
    })
}

fn children(node: &Value) -> impl Iterator<Item = &Value> {
    node["Plans"].as_array().into_iter().flatten()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        outline(&self.root, 0, f)
    }
}

fn outline(node: &Value, depth: usize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let text = |name: &str| node[name].as_str().unwrap_or_default().to_owned();
    let name = text("Subplan Name");
    let name = if name.is_empty() { name } else { format!("{name}: ") };
    write!(f, "{:depth$}{name}{} {} {}", "", kind_of(node), text("Relation Name"), text("Index Name"))?;
    match text("Index Cond") {
        condition if condition.is_empty() => writeln!(f)?,
        condition => writeln!(f, " {condition}")?,
    }
    children(node).try_for_each(|child| outline(child, depth + 2, f))
}

/// Notes PostgreSQL's notices, and nothing else.
struct Notices(Arc<Mutex<Vec<String>>>);

impl Subscriber for Notices {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == NOTICES
    }

    fn event(&self, event: &Event<'_>) {
        let mut message = Message::default();
        event.record(&mut message);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(message.0);
    }

    fn new_span(&self, _span: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _span: &Id, _values: &Record<'_>) {}
    fn record_follows_from(&self, _span: &Id, _follows: &Id) {}
    fn enter(&self, _span: &Id) {}
    fn exit(&self, _span: &Id) {}
}

#[derive(Default)]
struct Message(String);

impl Visit for Message {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "message" {
            value.clone_into(&mut self.0);
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults(root: Value) -> Vec<String> {
        Plan { query: String::new(), root }.faults()
    }

    fn scan(kind: &str, table: &str) -> Value {
        let columns = json!({ "Relation Name": table, "Index Name": "i", FIRST_COLUMN: "lane" });
        let mut node = json!({ "Node Type": kind, "Parent Relationship": "Outer" });
        node.as_object_mut().unwrap().extend(columns.as_object().unwrap().clone());
        node
    }

    fn over(kind: &str, child: &Value) -> Value {
        json!({ "Node Type": kind, "Parent Relationship": "Outer", "Plans": [child] })
    }

    #[test]
    fn scans_of_whole_tables_are_faults() {
        assert_eq!(faults(scan("Seq Scan", "jobs")), ["a sequential scan of jobs"]);
        assert_eq!(faults(scan("Bitmap Heap Scan", "lanes")), ["a bitmap scan of lanes"]);
        assert_eq!(faults(scan("Index Scan", "events")), ["a scan of the whole index i of events"]);
        assert!(faults(scan("Seq Scan", "partitions")).is_empty());
    }

    #[test]
    fn a_condition_on_another_column_than_the_first_reads_the_whole_index() {
        let mut found = scan("Index Scan", "jobs");
        found["Index Cond"] = json!("(jobs.lane > walk.lane)");
        assert!(faults(found.clone()).is_empty());
        found["Index Cond"] = json!("(seq = $1)");
        assert_eq!(faults(found), ["a scan of the whole index i of jobs"]);
    }

    #[test]
    fn a_comparison_of_rows_does_not_end_a_scan() {
        let mut found = scan("Index Scan", "jobs");
        found["Index Cond"] = json!("(ROW(lane, seq) >= ROW(done.lane, done.seq))");
        assert!(faults(found.clone()).is_empty());
        found["Index Cond"] = json!("((lane = $1) AND (ROW(lane, seq) <= ROW(done.lane, done.seq)))");
        assert_eq!(faults(found), ["a scan of jobs that ends by the first column of its index only"]);
    }

    #[test]
    fn a_column_of_the_index_must_be_looked_up() {
        let mut found = scan("Index Scan", "jobs");
        found[COLUMNS] = json!("lane priority seq");
        found["Index Cond"] = json!("((lane = ANY (ARRAY[done.lane])) AND (seq >= done.seq))");
        found["Filter"] = json!("(NOT (id IS DISTINCT FROM done.id))");
        assert!(faults(found.clone()).is_empty());
        found["Filter"] =
            json!("((priority = ANY (ARRAY[done.priority])) AND (NOT (id IS DISTINCT FROM done.id)))");
        assert_eq!(faults(found), ["a scan of jobs that does not look up priority"]);
    }

    #[test]
    fn a_limit_right_above_bounds_a_scan() {
        assert!(faults(over("Limit", &scan("Index Scan", "jobs"))).is_empty());
        assert!(faults(over("Limit", &over("LockRows", &scan("Index Scan", "jobs")))).is_empty());
        assert!(!faults(over("Limit", &over("Aggregate", &scan("Index Scan", "jobs")))).is_empty());
    }

    #[test]
    fn a_sort_is_a_fault_if_it_reads_a_large_table() {
        let mut found = scan("Index Scan", "jobs");
        found["Index Cond"] = json!("(lane = $1)");
        assert_eq!(faults(over("Sort", &found)), ["a sort of jobs"]);
        assert_eq!(faults(over("Sort", &over("LockRows", &found))), ["a sort of jobs"]);
        assert!(faults(over("Sort", &over("Aggregate", &found))).is_empty());
        assert!(faults(over("Sort", &scan("CTE Scan", "held"))).is_empty());
    }
}
