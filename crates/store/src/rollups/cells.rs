//! The rows of `rollups`: to which rows an entry of a delta is added, and how rows are read and written.
//!
//! | rows of | minutes | hours | days |
//! |---|---|---|---|
//! | a tenant | yes | yes | yes |
//! | an event type | yes | yes | yes |
//! | a subscriber | within the rows of hours | yes | yes |
//! | an event type of a subscriber | | | yes |
//!
//! Most subscribers have few deliveries, so a row for each of their minutes would cost as much as the deliveries.

use std::collections::BTreeMap;

use postrider_database::sql::column;
use postrider_database::{Batch, Column, DatabaseError, Dialect, Kind, Transaction};
use sea_orm::QueryResult;
use uuid::Uuid;

use super::clock::HOUR;
use super::counted::{Counted, Counts};
use super::span::Span;
use super::tally::Tally;
use crate::StoreError;

/// The subscriber and the event type in the keys of rows that add up all of them. No real one has these values.
pub(crate) const ALL_SUBSCRIBERS: Uuid = Uuid::nil();
pub(crate) const ALL_EVENT_TYPES: &str = "";

/// The most rows that one statement reads or writes.
const ROWS_AT_ONCE: usize = 2_000;

/// The key of a row. Rows are written in its order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct CellKey {
    pub(super) tenant: String,
    pub(super) subscriber: Uuid,
    pub(super) event_type: String,
    pub(super) span: Span,
    /// The first minute.
    pub(super) start: i64,
}

/// What a row counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// All of its span.
    Whole(Counted),
    /// Each minute of an hour, by its place.
    ByMinute(BTreeMap<u8, Counted>),
}

impl Content {
    const fn empty(span: Span) -> Self {
        match span {
            Span::SubscriberHour => Self::ByMinute(BTreeMap::new()),
            _ => Self::Whole(Counted { counts: Counts::of([0; 5]), tally: Tally::NONE }),
        }
    }

    fn add(&mut self, minute: i64, counted: &Counted) {
        match self {
            Self::Whole(whole) => whole.merge(counted),
            Self::ByMinute(minutes) => {
                let place = u8::try_from(minute.rem_euclid(HOUR)).unwrap_or(0);
                minutes.entry(place).or_default().merge(counted);
            }
        }
    }

    /// Adds what another row counts. What belongs to no minute goes to the first one.
    pub(super) fn merge(&mut self, other: &Self) {
        match (self, other) {
            (Self::ByMinute(minutes), Self::ByMinute(others)) => {
                for (place, counted) in others {
                    minutes.entry(*place).or_default().merge(counted);
                }
            }
            (this, Self::Whole(counted)) => this.add(0, counted),
            (Self::Whole(whole), Self::ByMinute(others)) => {
                for counted in others.values() {
                    whole.merge(counted);
                }
            }
        }
    }

    /// Reads a row. `None` if its bytes are not in their form.
    ///
    /// Hours of subscribers that were counted before this form existed are whole. They belong to their first minute.
    pub(super) fn read(row: &QueryResult) -> Result<Option<Self>, StoreError> {
        let count = |name| column::<i64>(row, name);
        let counts =
            [count("created")?, count("succeeded")?, count("dead")?, count("cancelled")?, count("spent")?];
        let Some(tally) = Tally::from_bytes(&column::<Vec<u8>>(row, "counts")?) else { return Ok(None) };
        let mut whole = Counted { counts: Counts::of(counts), tally };
        let Some(bytes) = column::<Option<Vec<u8>>>(row, "minutes")? else {
            return Ok(Some(Self::Whole(whole)));
        };
        let (mut minutes, mut rest) = (BTreeMap::new(), &bytes[..]);
        while let Some((&place, after)) = rest.split_first() {
            rest = after;
            let Some(counted) = Counted::read(&mut rest) else { return Ok(None) };
            whole.counts.subtract(counted.counts);
            minutes.insert(place, counted);
        }
        let mut content = Self::ByMinute(minutes);
        if whole != Counted::default() {
            content.add(0, &whole);
        }
        Ok(Some(content))
    }

    /// What the row counts, each with its minute in the row.
    pub(super) fn into_parts(self) -> Vec<(i64, Counted)> {
        match self {
            Self::Whole(whole) => vec![(0, whole)],
            Self::ByMinute(minutes) => {
                minutes.into_iter().map(|(place, counted)| (i64::from(place), counted)).collect()
            }
        }
    }

    /// The whole, and the bytes of the minutes if there are any.
    fn stored(&self) -> (Counted, Option<Vec<u8>>) {
        match self {
            Self::Whole(whole) => (whole.clone(), None),
            Self::ByMinute(minutes) => {
                let (mut sum, mut bytes) = (Counted::default(), Vec::new());
                for (place, counted) in minutes {
                    sum.merge(counted);
                    bytes.push(*place);
                    counted.write(&mut bytes);
                }
                (sum, Some(bytes))
            }
        }
    }
}

/// What is to be added to rows.
#[derive(Debug, Default)]
pub(super) struct Cells(BTreeMap<CellKey, Content>);

impl Cells {
    /// Adds what was counted of a subscriber, an event type and a minute to all rows that count it, except those that are
    /// too old to be stored.
    pub(super) fn count(
        &mut self,
        tenant: &str,
        (subscriber, event_type, minute): (Uuid, &str, i64),
        counted: &Counted,
        now: i64,
    ) {
        for (subscriber, event_type, spans) in [
            (ALL_SUBSCRIBERS, ALL_EVENT_TYPES, &[Span::Minute, Span::Hour, Span::Day][..]),
            (ALL_SUBSCRIBERS, event_type, &[Span::Minute, Span::Hour, Span::Day]),
            (subscriber, ALL_EVENT_TYPES, &[Span::SubscriberHour, Span::Day]),
            (subscriber, event_type, &[Span::Day]),
        ] {
            for &span in spans {
                let start = span.start_of(minute);
                if span == Span::Day || start >= now - span.retention() {
                    let (tenant, event_type) = (tenant.to_owned(), event_type.to_owned());
                    let key = CellKey { tenant, subscriber, event_type, span, start };
                    self.0.entry(key).or_insert_with(|| Content::empty(span)).add(minute, counted);
                }
            }
        }
    }

    /// Adds a row's content to a row.
    pub(super) fn add(&mut self, key: CellKey, content: &Content) {
        let empty = Content::empty(key.span);
        self.0.entry(key).or_insert(empty).merge(content);
    }

    /// Adds all to the rows in the database, whose only writer is the holder of the lock of folding. Returns how many rows
    /// could not be read, and were replaced.
    pub(super) async fn write(self, transaction: &Transaction) -> Result<u64, StoreError> {
        let mut unreadable = 0;
        let mut cells: Vec<_> = self.0.into_iter().collect();
        for cells in cells.chunks_mut(ROWS_AT_ONCE) {
            for row in existing(transaction, cells.iter().map(|(key, _)| key)).await? {
                let key = CellKey::read(&row)?;
                let Ok(place) = cells.binary_search_by(|(other, _)| other.cmp(&key)) else { continue };
                match Content::read(&row)? {
                    Some(content) => cells[place].1.merge(&content),
                    None => unreadable += 1,
                }
            }
            replace(transaction, cells).await?;
        }
        Ok(unreadable)
    }
}

impl CellKey {
    /// Reads the key of a row.
    pub(super) fn read(row: &QueryResult) -> Result<Self, StoreError> {
        let (subscriber, code) = (column(row, "subscriber_id")?, column::<i16>(row, "span")?);
        let span = Span::of(code).ok_or_else(|| {
            let reason = format!("{code} is not the code of a span");
            DatabaseError::inconsistent("rollups", "span", format!("of subscriber {subscriber}"), reason)
        })?;
        Ok(Self {
            tenant: column(row, "tenant")?,
            subscriber,
            event_type: column(row, "event_type")?,
            span,
            start: column(row, "start")?,
        })
    }
}

/// The columns of a row.
pub(super) const ROW: &str = "tenant, subscriber_id, event_type, span, start, \
    created, succeeded, dead, cancelled, spent, attempts, counts, minutes";

/// Reads those of these rows that exist.
async fn existing(
    transaction: &Transaction,
    keys: impl Iterator<Item = &CellKey>,
) -> Result<Vec<QueryResult>, StoreError> {
    let dialect = Dialect::of(transaction);
    let sql = format!("SELECT {} FROM input {}", columns_of("rollups"), look_up(dialect));
    Ok(batch(keys).query(transaction, &sql, []).await?)
}

/// Deletes rows.
pub(super) async fn delete(
    transaction: &Transaction,
    keys: impl Iterator<Item = &CellKey>,
) -> Result<(), StoreError> {
    // By their place, which is looked up one by one.
    let sql = match Dialect::of(transaction) {
        Dialect::Postgres => format!(
            "DELETE FROM rollups WHERE ctid = ANY (ARRAY( \
                SELECT place FROM input CROSS JOIN LATERAL ( \
                    SELECT ctid AS place FROM rollups WHERE {NAMED} LIMIT 1 \
                ) AS rollups))"
        ),
        Dialect::Sqlite => {
            let look_up = look_up(Dialect::Sqlite);
            format!("DELETE FROM rollups WHERE rowid IN (SELECT rollups.rowid FROM input {look_up})")
        }
    };
    batch(keys).execute(transaction, &sql, []).await?;
    Ok(())
}

/// The condition on the row that a key names.
const NAMED: &str = "rollups.tenant = input.tenant AND rollups.subscriber_id = input.subscriber_id \
    AND rollups.event_type = input.event_type AND rollups.span = input.span AND rollups.start = input.start";

fn look_up(dialect: Dialect) -> String {
    dialect.look_up("rollups", NAMED)
}

/// The columns of a row with the name of their table.
pub(super) fn columns_of(table: &str) -> String {
    ROW.split(", ").map(|name| format!("{table}.{name}")).collect::<Vec<_>>().join(", ")
}

/// Keys as the rows of a statement.
pub(super) fn batch<'a>(keys: impl Iterator<Item = &'a CellKey>) -> Batch {
    const KEY: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("subscriber_id", Kind::Uuid),
        Column::new("event_type", Kind::Text),
        Column::new("span", Kind::Small),
        Column::new("start", Kind::Big),
    ];
    let mut input = Batch::new(KEY);
    for key in keys {
        input.push([
            key.tenant.as_str().into(),
            key.subscriber.into(),
            key.event_type.as_str().into(),
            key.span.code().into(),
            key.start.into(),
        ]);
    }
    input
}

async fn replace(transaction: &Transaction, cells: &[(CellKey, Content)]) -> Result<(), StoreError> {
    const CELL: &[Column] = &[
        Column::new("tenant", Kind::Text),
        Column::new("subscriber_id", Kind::Uuid),
        Column::new("event_type", Kind::Text),
        Column::new("span", Kind::Small),
        Column::new("start", Kind::Big),
        Column::new("created", Kind::Big),
        Column::new("succeeded", Kind::Big),
        Column::new("dead", Kind::Big),
        Column::new("cancelled", Kind::Big),
        Column::new("spent", Kind::Big),
        Column::new("attempts", Kind::Big),
        Column::new("counts", Kind::Bytes),
        Column::nullable("minutes", Kind::Bytes),
    ];
    let mut input = Batch::new(CELL);
    for (key, content) in cells {
        let (whole, minutes) = content.stored();
        let [created, succeeded, dead, cancelled, spent] = whole.counts.values();
        // The tally of an hour by minutes is in its minutes.
        let tally = if minutes.is_some() { Vec::new() } else { whole.tally.to_bytes() };
        input.push([
            key.tenant.as_str().into(),
            key.subscriber.into(),
            key.event_type.as_str().into(),
            key.span.code().into(),
            key.start.into(),
            created.into(),
            succeeded.into(),
            dead.into(),
            cancelled.into(),
            spent.into(),
            i64::try_from(whole.tally.attempts()).unwrap_or(i64::MAX).into(),
            tally.into(),
            minutes.into(),
        ]);
    }
    let sql = format!(
        "INSERT INTO rollups ({ROW}) SELECT {ROW} FROM input WHERE true \
        ON CONFLICT (tenant, subscriber_id, event_type, span, start) DO UPDATE SET \
            created = excluded.created, succeeded = excluded.succeeded, dead = excluded.dead, \
            cancelled = excluded.cancelled, spent = excluded.spent, attempts = excluded.attempts, \
            counts = excluded.counts, minutes = excluded.minutes"
    );
    input.execute(transaction, &sql, []).await?;
    Ok(())
}
