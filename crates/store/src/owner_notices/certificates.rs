//! Notices about certificates that expire.

use postrider_core::subscriber::NoticeKind;
use postrider_core::{SubscriberId, TenantId, Timestamp};
use postrider_database::Dialect;
use postrider_database::sql::{column, query_all};
use serde_json::json;

use super::{Outbox, RaisedNotice, channels};
use crate::row::{parse, target};
use crate::subscribers::stored::read_notify;
use crate::{Store, StoreError};

impl Store {
    /// Writes notices about certificates that expire within two weeks, about `max` subscribers at most. With `with_email`,
    /// also those that are sent as mail. Returns what was written.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The notices may have been written all the same.
    pub async fn raise_certificates(
        &self,
        with_email: bool,
        max: u32,
    ) -> Result<Vec<RaisedNotice>, StoreError> {
        let dialect = self.database.dialect();
        let now = dialect.now();
        let due = format!("SELECT id FROM subscribers WHERE auth_warn_at <= {now} ORDER BY auth_warn_at");
        if query_all(&self.database.reads(), format!("{due} LIMIT 1"), []).await?.is_empty() {
            return Ok(Vec::new());
        }
        let transaction = self.database.begin().await?;
        let lock = match dialect {
            Dialect::Postgres => "FOR NO KEY UPDATE SKIP LOCKED",
            Dialect::Sqlite => "",
        };
        let named = match dialect {
            Dialect::Postgres => format!("id = ANY (ARRAY({due} LIMIT {max} {lock}))"),
            Dialect::Sqlite => format!("id IN ({due} LIMIT {max})"),
        };
        let sql = format!(
            "UPDATE subscribers SET auth_warn_at = NULL WHERE {named} \
             RETURNING id, tenant, uid, url, active, auth_expires_at, notify_url, notify_email"
        );
        let mut outbox = Outbox::new(&self.ids);
        let mut raised = Vec::new();
        for row in &query_all(&transaction, sql, []).await? {
            let id = SubscriberId::from_uuid(column(row, "id")?);
            let expires_at = column::<Option<i64>>(row, "auth_expires_at")?.map(Timestamp::from_millis);
            let Some(expires_at) = expires_at.filter(|_| column(row, "active").unwrap_or(true)) else {
                continue;
            };
            let tenant: TenantId = parse(&column::<String>(row, "tenant")?, "subscribers", "tenant", id)?;
            let (notify_url, notify_email): (Option<String>, Option<String>) =
                (column(row, "notify_url")?, column(row, "notify_email")?);
            let notify = read_notify(notify_url.as_deref(), notify_email.as_deref(), id)?;
            let kind = NoticeKind::CertificateExpiring;
            let data = json!({
                "subscriber_id": id,
                "uid": column::<Option<String>>(row, "uid")?,
                "url": target(&column::<String>(row, "url")?, id)?.redacted(),
                "stage": kind.as_str(),
                "expires_at": expires_at.rfc3339(),
            });
            for channel in channels(&tenant, &notify, with_email) {
                outbox.push(&tenant, id, channel, kind, &data.to_string());
            }
            raised.push(RaisedNotice { tenant, subscriber: id, kind });
        }
        outbox.write(&transaction).await?;
        transaction.commit().await?;
        Ok(raised)
    }
}
