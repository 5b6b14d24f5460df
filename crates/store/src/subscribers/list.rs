//! Listing subscribers.

use std::cmp::Reverse;

use postrider_core::{EventPattern, EventType, Id, SubscriberId, TenantId, id};
use postrider_database::sql::{column, query_all, query_one};
use postrider_database::{Batch, Column, Dialect, Kind};
use sea_orm::{ConnectionTrait, FromQueryResult as _, IdenStatic as _, Iterable as _, Value};
use uuid::Uuid;

use super::subscriber::Subscriber;
use crate::entity::subscribers;
use crate::page::{MOST_EXAMINED, Page, PageRequest};
use crate::{Store, StoreError};

/// Selects subscribers. A subscriber must match every field that is not `None`.
#[derive(Clone, Debug, Default)]
pub struct SubscriberFilter {
    /// One of these.
    pub ids: Option<Vec<SubscriberId>>,
    /// One of its patterns matches this event type.
    pub event_type: Option<EventType>,
    /// Whether it is active.
    pub active: Option<bool>,
    /// Whether it has failed since its last success.
    pub failing: Option<bool>,
    /// Its URL contains this text.
    pub url: Option<String>,
}

impl Store {
    /// Returns a page of the tenant's subscribers, newest first.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn subscribers(
        &self,
        tenant: &TenantId,
        page: PageRequest<id::Subscriber>,
    ) -> Result<Page<Subscriber, id::Subscriber>, StoreError> {
        self.find_subscribers(tenant, &SubscriberFilter::default(), page).await
    }

    /// Returns a page of the tenant's subscribers that match a filter, newest first. It examines a bounded number of
    /// subscribers, so it may end before it is full, and be empty, although another page follows.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn find_subscribers(
        &self,
        tenant: &TenantId,
        filter: &SubscriberFilter,
        page: PageRequest<id::Subscriber>,
    ) -> Result<Page<Subscriber, id::Subscriber>, StoreError> {
        let reads = self.database.reads();
        let mut query = Query { values: Vec::new(), dialect: self.database.dialect() };
        let tenant_value = query.value(tenant.as_str());
        let before = query.value(page.before.map_or(Uuid::max(), Id::uuid));
        let among = query.among(filter.ids.as_deref());
        // A range of one tenant, in the order of the index that leads with the tenant: otherwise PostgreSQL may walk over the
        // subscribers of all tenants.
        let candidates = format!(
            "FROM subscribers WHERE tenant BETWEEN {tenant_value} AND {tenant_value} AND id < {before}{among} \
            ORDER BY tenant DESC, id DESC"
        );
        let own_values = query.values.clone();
        let matches = query.matches(filter);
        let sql = format!(
            "SELECT id FROM (SELECT tenant, id, active, url {candidates} LIMIT {MOST_EXAMINED}) AS examined \
            WHERE true{matches} ORDER BY tenant DESC, id DESC LIMIT {}",
            page.rows()
        );
        let rows = query_all(&reads, sql, query.values).await?;
        let found = rows.iter().map(|row| Ok(SubscriberId::from_uuid(column(row, "id")?)));
        let found = Page::cut(found.collect::<Result<Vec<_>, StoreError>>()?, page.limit, |id| *id);
        let mut next = found.next;
        if next.is_none() && !matches.is_empty() {
            let sql = format!("SELECT id {candidates} LIMIT 1 OFFSET {}", MOST_EXAMINED - 1);
            let last = query_one(&reads, sql, own_values).await?;
            next = last.map(|row| column(&row, "id")).transpose()?.map(SubscriberId::from_uuid);
        }
        let rows = read_rows(&reads, &found.items).await?;
        Ok(Page { items: self.read_subscribers(rows).await?, next })
    }
}

/// Reads the rows of these subscribers, newest first, each looked up by itself.
async fn read_rows(
    connection: &impl ConnectionTrait,
    ids: &[SubscriberId],
) -> Result<Vec<subscribers::Model>, StoreError> {
    const SUBSCRIBER: &[Column] = &[Column::new("id", Kind::Uuid)];
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut input = Batch::new(SUBSCRIBER);
    for id in ids {
        input.push([id.uuid().into()]);
    }
    let columns: Vec<_> =
        subscribers::Column::iter().map(|column| format!("subscribers.{}", column.as_str())).collect();
    let subscriber = Dialect::of(connection).look_up("subscribers", "subscribers.id = input.id");
    let sql = format!("SELECT {} FROM input {subscriber}", columns.join(", "));
    let rows = input.query(connection, &sql, []).await?;
    let rows = rows.iter().map(|row| subscribers::Model::from_query_result(row, ""));
    let mut rows = rows.collect::<Result<Vec<_>, _>>()?;
    rows.sort_unstable_by_key(|row| Reverse(row.id));
    Ok(rows)
}

/// The values of a statement that is put together.
struct Query {
    values: Vec<Value>,
    dialect: Dialect,
}

impl Query {
    /// Adds a value, and returns its place.
    fn value(&mut self, value: impl Into<Value>) -> String {
        self.values.push(value.into());
        format!("${}", self.values.len())
    }

    fn list<V: Into<Value>>(&mut self, values: impl Iterator<Item = V>) -> String {
        values.map(|value| self.value(value)).collect::<Vec<_>>().join(", ")
    }

    fn among(&mut self, ids: Option<&[SubscriberId]>) -> String {
        match ids {
            None => String::new(),
            Some([]) => " AND false".to_owned(),
            Some(ids) => format!(" AND id IN ({})", self.list(ids.iter().map(|id| id.uuid()))),
        }
    }

    /// What an examined row must match. Each table is looked up row by row, whatever PostgreSQL knows of its size.
    fn matches(&mut self, filter: &SubscriberFilter) -> String {
        let mut matches = Vec::new();
        if let Some(active) = filter.active {
            matches.push(format!("active = {}", self.value(active)));
        }
        if let Some(failing) = filter.failing {
            let failures =
                "coalesce((SELECT failures FROM health WHERE health.subscriber_id = examined.id LIMIT 1), 0)";
            matches.push(format!("({failures} > 0) = {}", self.value(failing)));
        }
        if let Some(url) = &filter.url {
            let position = if self.dialect == Dialect::Postgres { "strpos" } else { "instr" };
            matches.push(format!("{position}(url, {}) > 0", self.value(url.as_str())));
        }
        if let Some(event_type) = &filter.event_type {
            let patterns: Vec<_> = event_type.matching_patterns().collect();
            let patterns = self.list(patterns.iter().map(EventPattern::as_str));
            let has = |table: &str| {
                format!(
                    "(SELECT 1 FROM {table} WHERE {table}.subscriber_id = examined.id AND pattern IN ({patterns}) LIMIT 1) \
                    IS NOT NULL"
                )
            };
            matches.push(format!("({} OR {})", has("subscriptions"), has("channel_subscriptions")));
        }
        if matches.is_empty() { String::new() } else { format!(" AND {}", matches.join(" AND ")) }
    }
}
