//! Between rows and keys.

use postrider_core::key::{KeyHash, KeyKind, KeyLimits, Powers, Scopes};
use postrider_core::{KeyId, TenantId, Timestamp};
use postrider_database::DatabaseError;
use postrider_database::sql::{column, execute};
use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::ApiKey;
use crate::StoreError;
use crate::row::{parse, timestamp};

pub(super) const COLUMNS: &str = "id, tenant, name, hash, previous, scopes, limits, created_at, created_by, \
    expires_at, revoked_at, last_used_at";

pub(super) async fn insert(connection: &impl ConnectionTrait, key: &ApiKey) -> Result<(), StoreError> {
    let kind = if key.powers.tenant.is_some() { KeyKind::Tenant } else { KeyKind::Operator };
    let values: [Value; 11] = [
        key.id.uuid().into(),
        kind.code().into(),
        key.powers.tenant.as_ref().map(|tenant| tenant.as_str().to_owned()).into(),
        key.name.as_str().into(),
        key.hash.as_bytes().to_vec().into(),
        previous(key).into(),
        key.powers.scopes.to_string().into(),
        limits(&key.powers.limits).into(),
        key.created_at.millis().into(),
        key.created_by.as_str().into(),
        key.powers.expires_at.map(Timestamp::millis).into(),
    ];
    let sql = "INSERT INTO api_keys \
        (id, kind, tenant, name, hash, previous, scopes, limits, created_at, created_by, expires_at) \
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)";
    execute(connection, sql, values).await?;
    Ok(())
}

/// Writes what can change. The tenant never does.
pub(super) async fn update(connection: &impl ConnectionTrait, key: &ApiKey) -> Result<(), StoreError> {
    let values: [Value; 8] = [
        key.id.uuid().into(),
        key.name.as_str().into(),
        key.hash.as_bytes().to_vec().into(),
        previous(key).into(),
        key.powers.scopes.to_string().into(),
        limits(&key.powers.limits).into(),
        key.powers.expires_at.map(Timestamp::millis).into(),
        key.revoked_at.map(Timestamp::millis).into(),
    ];
    let sql = "UPDATE api_keys SET name = $2, hash = $3, previous = $4, scopes = $5, limits = $6, expires_at = $7, \
        revoked_at = $8 WHERE id = $1";
    execute(connection, sql, values).await?;
    Ok(())
}

pub(super) fn read(row: &QueryResult) -> Result<ApiKey, StoreError> {
    let id = KeyId::from_uuid(column(row, "id")?);
    let wrong =
        |name: &'static str, reason: String| DatabaseError::inconsistent("api_keys", name, id, reason);
    let tenant: Option<String> = column(row, "tenant")?;
    let tenant: Option<TenantId> =
        tenant.map(|tenant| parse(&tenant, "api_keys", "tenant", id)).transpose()?;
    let hash: Vec<u8> = column(row, "hash")?;
    let hash = KeyHash::from_bytes(&hash).ok_or_else(|| wrong("hash", "not 32 bytes".into()))?;
    let previous: String = column(row, "previous")?;
    let previous: Vec<(String, i64)> =
        serde_json::from_str(&previous).map_err(|error| wrong("previous", error.to_string()))?;
    let previous = previous.into_iter().map(|(digits, until)| {
        let hash = bytes(&digits).and_then(|bytes| KeyHash::from_bytes(&bytes));
        let hash = hash.ok_or_else(|| wrong("previous", "not 64 hexadecimal digits".into()))?;
        Ok::<_, StoreError>((hash, Timestamp::from_millis(until)))
    });
    let previous = previous.collect::<Result<_, _>>()?;
    let limits: String = column(row, "limits")?;
    let limits = serde_json::from_str(&limits).map_err(|error| wrong("limits", error.to_string()))?;
    let scopes: String = column(row, "scopes")?;
    Ok(ApiKey {
        id,
        name: column(row, "name")?,
        powers: Powers {
            tenant,
            scopes: Scopes::read(&scopes),
            limits,
            expires_at: timestamp(column(row, "expires_at")?),
        },
        created_at: Timestamp::from_millis(column(row, "created_at")?),
        created_by: column(row, "created_by")?,
        revoked_at: timestamp(column(row, "revoked_at")?),
        last_used_at: timestamp(column(row, "last_used_at")?),
        hash,
        previous,
    })
}

fn previous(key: &ApiKey) -> String {
    let digits =
        |hash: &KeyHash| hash.as_bytes().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    let previous: Vec<_> = key.previous.iter().map(|(hash, until)| (digits(hash), until.millis())).collect();
    // Texts and numbers: serialising them cannot fail.
    serde_json::to_string(&previous).unwrap_or_else(|_| "[]".to_owned())
}

fn limits(limits: &KeyLimits) -> String {
    // Texts, numbers and lists of them: serialising them cannot fail.
    serde_json::to_string(limits).unwrap_or_else(|_| "{}".to_owned())
}

/// The bytes of hexadecimal digits.
fn bytes(digits: &str) -> Option<Vec<u8>> {
    let pairs = digits.as_bytes().chunks(2);
    pairs.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()).collect()
}
