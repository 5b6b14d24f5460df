//! Tenants: the owners of data.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// The name of a tenant: 1 to 64 characters of `a-z`, `0-9`, `-` and `_`. The default is `default`.
///
/// ```
/// use postrider_core::TenantId;
///
/// assert_eq!(TenantId::default().as_str(), "default");
/// assert!("acme-corp".parse::<TenantId>().is_ok());
/// assert!("Acme Corp".parse::<TenantId>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(Arc<str>);

/// The text is not the name of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tenant's name must have 1 to 64 characters of a-z, 0-9, `-` and `_`")]
pub struct TenantIdError;

impl TenantId {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the tenant that receives Postrider's own events, such as the deactivation of a subscriber.
    pub fn operator() -> Self {
        Self("operator".into())
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self("default".into())
    }
}

impl FromStr for TenantId {
    type Err = TenantIdError;

    fn from_str(text: &str) -> Result<Self, TenantIdError> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(TenantIdError)
        }
    }
}

impl TryFrom<String> for TenantId {
    type Error = TenantIdError;

    fn try_from(text: String) -> Result<Self, TenantIdError> {
        text.parse()
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.as_str().into()
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
