//! The requests of a sandbox.

use postrider_core::script::Step;
use postrider_core::{SandboxId, TenantId, Timestamp};
use postrider_database::DatabaseError;
use postrider_database::sql::{column, execute, query_all, query_one};
use sea_orm::{QueryResult, Value};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::MAX_REQUESTS;
use crate::row::parse;
use crate::{Store, StoreError};

/// The most bytes of a body that are kept.
pub const MAX_BODY: usize = 64 * 1024;

/// Who sends to a sandbox.
#[derive(Clone, Copy, Debug)]
pub enum TakingSandbox<'a> {
    /// A delivery of this tenant, to this URL.
    Delivery(&'a TenantId, &'a str),
    /// Anyone who knows the URL.
    Anybody,
}

/// What becomes of a request to a sandbox.
#[derive(Clone, Debug)]
pub enum TakenRequest {
    /// There is no such sandbox.
    Missing,
    /// It has expired, or has received all the requests that it takes.
    Over,
    /// It is answered.
    Taken {
        /// The tenant that owns the sandbox.
        tenant: TenantId,
        /// The sandbox.
        sandbox: SandboxId,
        /// Its URL.
        url: String,
        /// The number of the request, from 1.
        number: u32,
        /// The answer.
        step: Step,
    },
}

/// A signature of a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxSignature {
    /// The header that holds it, in lower case.
    pub header: String,
    /// Whether it was made with the subscriber's secret over this request.
    pub valid: bool,
    /// A word for why it was not.
    #[serde(default)]
    pub reason: Option<String>,
    /// What is wrong, for people.
    #[serde(default)]
    pub detail: Option<String>,
}

/// A request to be kept.
#[derive(Clone, Debug)]
pub struct NewSandboxRequest<'a> {
    /// Its number.
    pub number: u32,
    /// Its method.
    pub method: &'a str,
    /// Its headers, with names in lower case.
    pub headers: &'a [(String, String)],
    /// Its body.
    pub body: &'a [u8],
    /// Its signatures.
    pub signatures: &'a [SandboxSignature],
    /// The answer.
    pub step: Step,
}

/// A request that a sandbox has received.
#[derive(Clone, Debug)]
pub struct SandboxRequest {
    /// Its number, from 1.
    pub number: u32,
    /// When it arrived.
    pub received_at: Timestamp,
    /// Its method.
    pub method: String,
    /// Its headers, with names in lower case.
    pub headers: Vec<(String, String)>,
    /// The first [`MAX_BODY`] bytes of its body.
    pub body: Vec<u8>,
    /// The bytes of its body.
    pub body_size: u64,
    /// Its signatures.
    pub signatures: Vec<SandboxSignature>,
    /// The answer.
    pub step: Step,
}

impl SandboxRequest {
    /// Returns the value of a header, whose name is in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str())
    }
}

impl Store {
    /// Takes a request to the sandbox with this token: numbers it, and says how to answer.
    ///
    /// # Errors
    /// Fails if the database is unavailable. The request may have been numbered all the same.
    pub async fn take_sandbox_request(
        &self,
        token: &str,
        from: TakingSandbox<'_>,
    ) -> Result<TakenRequest, StoreError> {
        let now = self.database.dialect().now();
        let mut values: Vec<Value> = vec![token.into()];
        let owned = match from {
            TakingSandbox::Delivery(tenant, url) => {
                values.extend([tenant.as_str().into(), url.into()]);
                " AND tenant = $2 AND url = $3"
            }
            TakingSandbox::Anybody => "",
        };
        let sql = format!(
            "UPDATE sandboxes SET received = received + 1 \
            WHERE token = $1{owned} AND expires_at > {now} AND received < {MAX_REQUESTS} \
            RETURNING tenant, id, url, script, received"
        );
        let connection = self.database.connection();
        let Some(row) = query_one(connection, sql, values.clone()).await? else {
            let sql = format!("SELECT 1 AS one FROM sandboxes WHERE token = $1{owned}");
            let is_over = query_one(connection, sql, values).await?.is_some();
            return Ok(if is_over { TakenRequest::Over } else { TakenRequest::Missing });
        };
        let sandbox = SandboxId::from_uuid(column(&row, "id")?);
        let tenant: String = column(&row, "tenant")?;
        let script: postrider_core::script::Script = json(&row, "sandboxes", "script", &sandbox.to_string())?;
        let number = u32::try_from(column::<i64>(&row, "received")?).unwrap_or(u32::MAX);
        Ok(TakenRequest::Taken {
            tenant: parse(&tenant, "sandboxes", "tenant", sandbox)?,
            sandbox,
            url: column(&row, "url")?,
            number,
            step: script.step(u64::from(number)),
        })
    }

    /// Keeps a request that was taken, unless its sandbox was deleted in between.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn keep_sandbox_request(
        &self,
        tenant: &TenantId,
        sandbox: SandboxId,
        request: NewSandboxRequest<'_>,
    ) -> Result<(), StoreError> {
        let text = |value: Result<String, serde_json::Error>| value.unwrap_or_else(|_| "null".to_owned());
        let now = self.database.dialect().now();
        let shown = request.body.get(..MAX_BODY).unwrap_or(request.body);
        let values: [Value; 9] = [
            tenant.as_str().into(),
            sandbox.uuid().into(),
            i64::from(request.number).into(),
            request.method.into(),
            text(serde_json::to_string(request.headers)).into(),
            shown.to_vec().into(),
            i64::try_from(request.body.len()).unwrap_or(i64::MAX).into(),
            text(serde_json::to_string(request.signatures)).into(),
            Json::from(&request.step).to_string().into(),
        ];
        let lock = match self.database.dialect() {
            postrider_database::Dialect::Postgres => " FOR KEY SHARE",
            postrider_database::Dialect::Sqlite => "",
        };
        let sql = format!(
            "INSERT INTO sandbox_requests \
                (tenant, sandbox_id, number, method, headers, body, body_size, signatures, answer, received_at) \
            SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, {now} \
            FROM (SELECT id FROM sandboxes WHERE tenant = $1 AND id = $2{lock}) AS present"
        );
        execute(self.database.connection(), sql, values).await?;
        Ok(())
    }

    /// Returns the requests of a sandbox after the one with this number, oldest first, up to `limit`.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn sandbox_requests(
        &self,
        tenant: &TenantId,
        sandbox: SandboxId,
        after: u32,
        limit: u32,
    ) -> Result<Vec<SandboxRequest>, StoreError> {
        let limit = limit.min(MAX_REQUESTS);
        let sql = format!(
            "SELECT number, received_at, method, headers, body, body_size, signatures, answer FROM sandbox_requests \
            WHERE tenant = $1 AND sandbox_id = $2 AND number > $3 ORDER BY tenant, sandbox_id, number LIMIT {limit}"
        );
        let values = [tenant.as_str().into(), sandbox.uuid().into(), i64::from(after).into()];
        let rows = query_all(&self.database.reads(), sql, values).await?;
        rows.iter().map(|row| read(row, sandbox)).collect()
    }

    /// Returns how many requests of a sandbox are kept.
    ///
    /// # Errors
    /// Fails if the database is unavailable.
    pub async fn count_sandbox_requests(
        &self,
        tenant: &TenantId,
        sandbox: SandboxId,
    ) -> Result<u32, StoreError> {
        let sql = "SELECT count(*) AS requests FROM sandbox_requests WHERE tenant = $1 AND sandbox_id = $2";
        let values = [tenant.as_str().into(), sandbox.uuid().into()];
        let row = query_one(&self.database.reads(), sql, values).await?;
        let count: i64 = row.map(|row| column(&row, "requests")).transpose()?.unwrap_or(0);
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }
}

fn read(row: &QueryResult, sandbox: SandboxId) -> Result<SandboxRequest, StoreError> {
    let number = column::<i64>(row, "number")?;
    let at = format!("{sandbox} {number}");
    let answer: Json = json(row, "sandbox_requests", "answer", &at)?;
    let step = Step::try_from(&answer);
    Ok(SandboxRequest {
        number: u32::try_from(number).unwrap_or(u32::MAX),
        received_at: Timestamp::from_millis(column(row, "received_at")?),
        method: column(row, "method")?,
        headers: json(row, "sandbox_requests", "headers", &at)?,
        body: column(row, "body")?,
        body_size: u64::try_from(column::<i64>(row, "body_size")?).unwrap_or(0),
        signatures: json(row, "sandbox_requests", "signatures", &at)?,
        step: step.map_err(|error| {
            DatabaseError::inconsistent("sandbox_requests", "answer", at, error.to_string())
        })?,
    })
}

fn json<T: serde::de::DeserializeOwned>(
    row: &QueryResult,
    table: &'static str,
    name: &'static str,
    at: &str,
) -> Result<T, StoreError> {
    let text: String = column(row, name)?;
    let parsed = serde_json::from_str(&text);
    parsed.map_err(|error| DatabaseError::inconsistent(table, name, at, error.to_string()).into())
}
