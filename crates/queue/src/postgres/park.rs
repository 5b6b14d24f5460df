//! Parking jobs of paused lanes, and making them ready again.

use std::sync::{Mutex, PoisonError};

use postrider_database::sql::{Part, Template, column, query_one};
use postrider_database::{Database, DatabaseError, Dialect};
use uuid::Uuid;

use crate::tables::{PARKING, STATES, count};

static PARK: Template = Template::new(include_str!("park.sql"), &[STEPS, PARKING, STATES]);
static UNPARK: Template = Template::new(include_str!("unpark.sql"), &[PARKING, STATES]);

/// How many lanes with ready jobs one call visits.
const STEPS: &[Part] = &[("lanes_at_once", "200")];

/// Visits the lanes with ready jobs in turn, some in each call, and parks the jobs of those that are paused.
#[derive(Debug, Default)]
pub(super) struct Parking {
    after: Mutex<Uuid>,
}

impl Parking {
    /// Returns how many jobs became ready.
    pub(super) async fn park(&self, database: &Database, max: u32) -> Result<u64, DatabaseError> {
        let connection = database.connection();
        let after = *self.after.lock().unwrap_or_else(PoisonError::into_inner);
        let parked =
            query_one(connection, PARK.on(Dialect::Postgres), [i64::from(max).into(), after.into()]).await?;
        let next = parked.map_or(Ok(None), |row| column(&row, "next"))?;
        *self.after.lock().unwrap_or_else(PoisonError::into_inner) = next.unwrap_or_default();
        let ready = query_one(connection, UNPARK.on(Dialect::Postgres), [i64::from(max).into()]).await?;
        ready.map_or(Ok(0), |row| count(&row, "jobs"))
    }
}
