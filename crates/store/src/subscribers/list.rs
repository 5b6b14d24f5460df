//! Listing subscribers.

use postrider_core::{EventPattern, EventType, Id, SubscriberId, TenantId, id};
use postrider_database::Dialect;
use postrider_database::sql::{column, query_all, query_one};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect, Value};
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
        let mut query = subscribers::Entity::find().filter(subscribers::Column::Tenant.eq(tenant.as_str()));
        if let Some(before) = page.before {
            query = query.filter(subscribers::Column::Id.lt(before.uuid()));
        }
        let query = query.order_by_desc(subscribers::Column::Id).limit(page.rows());
        let rows = query.all(&self.database.reads()).await?;
        let items = self.read_subscribers(rows).await?;
        Ok(Page::cut(items, page.limit, |subscriber| subscriber.id))
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
        let candidates = format!(
            "FROM subscribers WHERE tenant = {tenant_value} AND id < {before}{among} ORDER BY id DESC"
        );
        let own_values = query.values.clone();
        let matches = query.matches(filter);
        let sql = format!(
            "SELECT id FROM (SELECT id, active, url {candidates} LIMIT {MOST_EXAMINED}) AS examined \
            WHERE true{matches} ORDER BY id DESC LIMIT {}",
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
        let rows = subscribers::Entity::find()
            .filter(subscribers::Column::Tenant.eq(tenant.as_str()))
            .filter(subscribers::Column::Id.is_in(found.items.iter().map(|id| id.uuid())))
            .order_by_desc(subscribers::Column::Id)
            .all(&reads)
            .await?;
        Ok(Page { items: self.read_subscribers(rows).await?, next })
    }
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
