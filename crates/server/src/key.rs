//! The operator's key.

use std::fmt;
use std::str::FromStr;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;

const MIN_CHARACTERS: usize = 32;

/// The operator's key: at least 32 visible ASCII characters. This type holds only its hash.
///
/// ```
/// use postrider_server::AdminKey;
///
/// let key: AdminKey = "0123456789abcdef0123456789abcdef".parse()?;
/// assert_eq!(format!("{key:?}"), "AdminKey(…)");
/// assert!("too short".parse::<AdminKey>().is_err());
/// # Ok::<(), postrider_server::AdminKeyError>(())
/// ```
#[derive(Clone)]
pub struct AdminKey([u8; 32]);

/// The text is not a valid operator's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operator's key must have at least {MIN_CHARACTERS} characters, all of them visible ASCII")]
pub struct AdminKeyError;

impl AdminKey {
    /// Whether `given` is the key. The time it takes depends only on the length of `given`.
    pub(crate) fn admits(&self, given: &[u8]) -> bool {
        // Hashes have one length, so that the time of the comparison does not reveal the length of the key.
        hash(given).ct_eq(&self.0).into()
    }
}

impl FromStr for AdminKey {
    type Err = AdminKeyError;

    fn from_str(text: &str) -> Result<Self, AdminKeyError> {
        if text.len() < MIN_CHARACTERS || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(AdminKeyError);
        }
        Ok(Self(hash(text.as_bytes())))
    }
}

impl fmt::Debug for AdminKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminKey(…)")
    }
}

fn hash(text: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_key_is_admitted() {
        let key: AdminKey = "k".repeat(32).parse().unwrap();
        assert!(key.admits("k".repeat(32).as_bytes()));
        for other in ["", "k", &"k".repeat(31), &"k".repeat(33), &"K".repeat(32)] {
            assert!(!key.admits(other.as_bytes()), "{other}");
        }
        assert!("a key of thirty-two characters or more".parse::<AdminKey>().is_err(), "spaces");
    }
}
