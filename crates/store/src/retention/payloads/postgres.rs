//! Copying partitions without their payloads, step by step. The functions are in
//! `migrations/src/m0015_expiring_payloads`.

use postrider_database::DatabaseError;
use postrider_database::sql::{column, query_all, query_one};
use uuid::Uuid;

use super::{Limits, PayloadStep, Stays, Sweep};
use crate::retention::postgres::{ended, run};
use crate::{Store, StoreError};

/// The partitions whose payloads are old enough to go, oldest first, and whether they have gone but for those of dead letters.
const DUE: &str = "SELECT suffix, stripped FROM partitions \
    WHERE ends_at <= $1 AND (NOT stripped OR kept_look_at <= (extract(epoch FROM clock_timestamp()) * 1000)::bigint) \
    ORDER BY stripped, ends_at";

/// Copies that nobody goes on with: the partition is gone, or its payloads are to be kept for longer.
const ABANDONED: &str = "SELECT strippings.suffix FROM strippings \
    LEFT JOIN partitions ON partitions.suffix = strippings.suffix AND partitions.ends_at <= $1 \
    WHERE partitions.suffix IS NULL";

pub(super) async fn step(
    store: &Store,
    limits: Option<Limits>,
    sweep: &mut Sweep,
) -> Result<Option<PayloadStep>, StoreError> {
    match next(store, limits, sweep).await {
        Ok(step) => Ok(step),
        // The functions give way to others.
        Err(error) if error.is_unavailable() => Ok(Some(PayloadStep::GaveWay)),
        Err(error) => Err(error.into()),
    }
}

async fn next(
    store: &Store,
    limits: Option<Limits>,
    sweep: &mut Sweep,
) -> Result<Option<PayloadStep>, DatabaseError> {
    let reads = store.database.reads();
    let before = limits.map_or(i64::MIN, |limits| limits.before.millis());
    if !sweep.tidied {
        for row in &query_all(&reads, ABANDONED, [before.into()]).await? {
            let suffix: String = column(row, "suffix")?;
            run(store, "SELECT postrider_strip_abandon($1)::text AS done", vec![suffix.into()]).await?;
        }
        sweep.tidied = true;
    }
    let Some(limits) = limits else { return Ok(None) };
    for row in &query_all(&reads, DUE, [before.into()]).await? {
        let suffix: String = column(row, "suffix")?;
        if sweep.done.contains(&suffix) {
            continue;
        }
        if column(row, "stripped")? {
            return look_at_kept(store, limits, suffix, sweep).await.map(Some);
        }
        let sql = "SELECT postrider_strip_step($1, $2, $3) AS done";
        let values = vec![suffix.as_str().into(), before.into(), limits.dead_until.into()];
        match &*run(store, sql, values).await? {
            "more" => return Ok(Some(PayloadStep::Taken)),
            "busy" => return Ok(Some(PayloadStep::GaveWay)),
            "stripped" => {
                sweep.done.insert(suffix.clone());
                return Ok(Some(PayloadStep::Removed(suffix)));
            }
            "pending" => {
                sweep.done.insert(suffix.clone());
                return Ok(Some(PayloadStep::Stays(suffix, Stays::Pending)));
            }
            _ => {
                sweep.done.insert(suffix);
            }
        }
    }
    Ok(None)
}

/// Looks at the next payloads that dead letters have kept in a stripped partition.
async fn look_at_kept(
    store: &Store,
    limits: Limits,
    suffix: String,
    sweep: &mut Sweep,
) -> Result<PayloadStep, DatabaseError> {
    let after = sweep.kept.take().filter(|(own, _)| *own == suffix);
    let (tenant, id) = after.map_or_else(|| (String::new(), Uuid::nil()), |(_, key)| key);
    let sql = "SELECT removed, last_tenant, last_id FROM postrider_strip_kept($1, $2, $3, $4)";
    let values = [suffix.as_str().into(), limits.dead_until.into(), tenant.into(), id.into()];
    let transaction = store.database.begin().await?;
    let found = query_one(&transaction, sql, values).await;
    let Some(row) = ended(transaction, found).await? else { return Ok(PayloadStep::GaveWay) };
    let Some(removed) = column::<Option<i64>>(&row, "removed")? else { return Ok(PayloadStep::GaveWay) };
    let (last_tenant, last_id): (Option<String>, Option<Uuid>) =
        (column(&row, "last_tenant")?, column(&row, "last_id")?);
    match last_tenant.zip(last_id) {
        Some(key) => sweep.kept = Some((suffix, key)),
        None => {
            sweep.done.insert(suffix);
        }
    }
    Ok(if removed > 0 { PayloadStep::Events(removed.unsigned_abs()) } else { PayloadStep::Taken })
}
