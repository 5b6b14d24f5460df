//! The names that applications give to their subscribers.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::SubscriberId;

/// What an id of a subscriber begins with, and a uid never does.
const ID_PREFIX: &str = "sub_";

/// A name that an application gives to a subscriber, unique within its tenant: 1 to 128 characters of `A-Z`, `a-z`, `0-9`,
/// `.`, `_` and `-`, not beginning with `sub_`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SubscriberUid(Box<str>);

/// The text is not a uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 128 characters of A-Z, a-z, 0-9, `.`, `_` and `-`, and not begin with `sub_`")]
pub struct SubscriberUidError;

impl SubscriberUid {
    /// Returns the uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SubscriberUid {
    type Err = SubscriberUidError;

    fn from_str(text: &str) -> Result<Self, SubscriberUidError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        let is_uid = (1..=128).contains(&text.len()) && text.bytes().all(allowed);
        if is_uid && !text.starts_with(ID_PREFIX) { Ok(Self(text.into())) } else { Err(SubscriberUidError) }
    }
}

impl TryFrom<String> for SubscriberUid {
    type Error = SubscriberUidError;

    fn try_from(text: String) -> Result<Self, SubscriberUidError> {
        text.parse()
    }
}

impl From<SubscriberUid> for String {
    fn from(SubscriberUid(text): SubscriberUid) -> Self {
        text.into()
    }
}

impl fmt::Display for SubscriberUid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a subscriber of a tenant: by its id, or by the uid that it has at the moment.
///
/// ```
/// use postrider_core::subscriber::SubscriberRef;
///
/// assert!(matches!("billing-eu".parse(), Ok(SubscriberRef::Uid(_))));
/// assert!(matches!("sub_01h455vb4pex5vsknk084sn02q".parse(), Ok(SubscriberRef::Id(_))));
/// assert!("sub_short".parse::<SubscriberRef>().is_err());
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SubscriberRef {
    /// Its id.
    Id(SubscriberId),
    /// Its uid.
    Uid(SubscriberUid),
}

/// The text is neither an id of a subscriber nor a uid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be a subscriber's id, `sub_…`, or its uid")]
pub struct SubscriberRefError;

impl FromStr for SubscriberRef {
    type Err = SubscriberRefError;

    fn from_str(text: &str) -> Result<Self, SubscriberRefError> {
        if text.starts_with(ID_PREFIX) {
            text.parse().map(Self::Id).map_err(|_| SubscriberRefError)
        } else {
            text.parse().map(Self::Uid).map_err(|_| SubscriberRefError)
        }
    }
}

impl TryFrom<String> for SubscriberRef {
    type Error = SubscriberRefError;

    fn try_from(text: String) -> Result<Self, SubscriberRefError> {
        text.parse()
    }
}

impl From<SubscriberRef> for String {
    fn from(named: SubscriberRef) -> Self {
        named.to_string()
    }
}

impl From<SubscriberId> for SubscriberRef {
    fn from(id: SubscriberId) -> Self {
        Self::Id(id)
    }
}

impl fmt::Display for SubscriberRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Uid(uid) => uid.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uid_cannot_be_taken_for_an_id() {
        let longest = "x".repeat(128);
        for uid in ["a", "A.b_c-9", "sub", "sub-1", "SUB_1", "_", &longest] {
            assert_eq!(uid.parse::<SubscriberUid>().unwrap().as_str(), uid);
        }
        let too_long = "x".repeat(129);
        for text in ["", "sub_", "sub_01h455vb4pex5vsknk084sn02q", "a b", "a/b", "ä", "a\0", &too_long] {
            assert_eq!(text.parse::<SubscriberUid>(), Err(SubscriberUidError), "{text:?}");
        }
    }

    #[test]
    fn a_malformed_id_is_not_a_uid() {
        assert_eq!("sub_1".parse::<SubscriberRef>(), Err(SubscriberRefError));
        assert_eq!("evt/1".parse::<SubscriberRef>(), Err(SubscriberRefError));
    }
}
