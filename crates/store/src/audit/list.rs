//! Listing the audit trail, and removing what is old.

use std::time::{Duration, Instant};

use postrider_core::{AuditId, Id, TenantId, Timestamp, id};
use postrider_database::sql::{column, execute, query_all, query_one};
use postrider_database::{DatabaseError, Dialect};
use sea_orm::{QueryResult, Value};
use uuid::Uuid;

use super::AuditEntry;
use crate::page::{MOST_EXAMINED, Page, PageRequest, first_at};
use crate::row::parse;
use crate::{Store, StoreError};

/// The most rows that one statement removes, and how long one call removes rows.
const REMOVED_AT_ONCE: i64 = 2_000;
const RUN: Duration = Duration::from_secs(3);

const COLUMNS: &str = "tenant, id, created_at, actor, actor_name, address, request_id, action, target, before_change, after_change";

/// Selects rows of the audit trail.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Only what this tenant had done to it. `None`: everything.
    pub tenant: Option<TenantId>,
    /// Only what this actor did.
    pub actor: Option<String>,
    /// Only this action.
    pub action: Option<String>,
    /// Only what was done to this.
    pub target: Option<String>,
    /// Only from this moment on.
    pub since: Option<Timestamp>,
    /// Only before this moment.
    pub until: Option<Timestamp>,
}

impl Store {
    /// Returns a page of the audit trail, newest first. A filter that matches few rows may end a page before it is full.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn audit_entries(
        &self,
        filter: &AuditFilter,
        page: PageRequest<id::Audit>,
    ) -> Result<Page<AuditEntry, id::Audit>, StoreError> {
        let until = filter.until.map_or(Uuid::max(), first_at);
        let before = page.before.map_or(Uuid::max(), Id::uuid).min(until);
        let mut values: Vec<Value> = vec![before.into(), filter.since.map_or(Uuid::nil(), first_at).into()];
        let mut equal = |column: &str, value: &str| {
            values.push(value.into());
            format!(" AND {column} = ${}", values.len())
        };
        let tenant =
            filter.tenant.as_ref().map_or_else(String::new, |tenant| equal("tenant", tenant.as_str()));
        let candidates = format!("FROM audit WHERE id < $1 AND id >= $2{tenant} ORDER BY id DESC");
        let own = 2 + usize::from(filter.tenant.is_some());
        let filters: String =
            [("actor", &filter.actor), ("action", &filter.action), ("target", &filter.target)]
                .into_iter()
                .filter_map(|(column, value)| Some(equal(column, value.as_deref()?)))
                .collect();
        let (limit, reads) = (page.rows(), self.database.reads());
        let sql = format!(
            "SELECT {COLUMNS} FROM (SELECT {COLUMNS} {candidates} LIMIT {MOST_EXAMINED}) AS examined \
            WHERE true{filters} ORDER BY id DESC LIMIT {limit}"
        );
        let candidate_values = values[..own].to_vec();
        let rows = query_all(&reads, sql, values).await?;
        let entries = rows.iter().map(read).collect::<Result<_, _>>()?;
        let page = Page::cut(entries, page.limit, |entry: &AuditEntry| entry.id);
        if page.next.is_some() || filters.is_empty() {
            return Ok(page);
        }
        let sql = format!("SELECT id {candidates} LIMIT 1 OFFSET {}", MOST_EXAMINED - 1);
        let last = query_one(&reads, sql, candidate_values).await?;
        let next = last.map(|row| column(&row, "id").map(AuditId::from_uuid)).transpose()?;
        Ok(Page { next, ..page })
    }

    /// Removes rows of the audit trail from before this moment, in batches, for a few seconds at most. Returns how many.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn remove_old_audit(&self, before: Timestamp) -> Result<u64, StoreError> {
        let (place, of, lock) = match self.database.dialect() {
            Dialect::Postgres => ("ctid", "= ANY (ARRAY", " FOR UPDATE SKIP LOCKED"),
            Dialect::Sqlite => ("rowid", "IN (", ""),
        };
        let old =
            format!("SELECT {place} FROM audit WHERE id < $1 ORDER BY id LIMIT {REMOVED_AT_ONCE}{lock}");
        let sql = format!("DELETE FROM audit WHERE {place} {of}({old}))");
        let until = Instant::now() + RUN;
        let mut removed = 0;
        loop {
            let gone = execute(self.database.connection(), sql.as_str(), [first_at(before).into()]).await?;
            removed += gone;
            if gone < REMOVED_AT_ONCE.unsigned_abs() || Instant::now() >= until {
                return Ok(removed);
            }
        }
    }
}

fn read(row: &QueryResult) -> Result<AuditEntry, StoreError> {
    let id = AuditId::from_uuid(column(row, "id")?);
    let tenant: String = column(row, "tenant")?;
    let json = |name: &'static str| -> Result<serde_json::Value, StoreError> {
        let text: Option<String> = column(row, name)?;
        let parsed = text.map(|text| serde_json::from_str(&text)).transpose();
        let parsed =
            parsed.map_err(|error| DatabaseError::inconsistent("audit", name, id, error.to_string()))?;
        Ok(parsed.unwrap_or_default())
    };
    Ok(AuditEntry {
        id,
        tenant: parse(&tenant, "audit", "tenant", id)?,
        at: Timestamp::from_millis(column(row, "created_at")?),
        actor: column(row, "actor")?,
        actor_name: column(row, "actor_name")?,
        address: column(row, "address")?,
        request_id: column(row, "request_id")?,
        action: column(row, "action")?,
        target: column(row, "target")?,
        before: json("before_change")?,
        after: json("after_change")?,
    })
}
