//! The operator's key, from the environment.

use std::fmt;
use std::str::FromStr;

use postrider_core::key::KeyHash;

const MIN_CHARACTERS: usize = 32;

/// The operator's keys from the environment: none, one, or two while one replaces the other. Each has at least 32 visible
/// ASCII characters, and a comma separates them. This type holds only their hashes.
///
/// ```
/// use postrider_server::AdminKeys;
///
/// let keys: AdminKeys = "0123456789abcdef0123456789abcdef".parse()?;
/// assert_eq!(format!("{keys:?}"), "AdminKeys(1)");
/// assert!(AdminKeys::default().is_empty());
/// assert!("too short".parse::<AdminKeys>().is_err());
/// # Ok::<(), postrider_server::AdminKeysError>(())
/// ```
#[derive(Clone, Default)]
pub struct AdminKeys(Vec<KeyHash>);

/// The text is not one or two valid operator's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be one key, or the old and the new one separated by a comma; each must have at least {MIN_CHARACTERS} characters, all of \
    them visible ASCII"
)]
pub struct AdminKeysError;

impl AdminKeys {
    /// Returns whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a text with this hash is one of the keys. Compares with all of them in constant time.
    pub(crate) fn admit(&self, given: &KeyHash) -> bool {
        self.0.iter().fold(false, |found, key| key.matches(given) | found)
    }
}

impl FromStr for AdminKeys {
    type Err = AdminKeysError;

    fn from_str(text: &str) -> Result<Self, AdminKeysError> {
        let keys: Vec<&str> = text.split(',').map(str::trim).collect();
        let is_key =
            |key: &&str| key.len() >= MIN_CHARACTERS && key.bytes().all(|byte| byte.is_ascii_graphic());
        if keys.len() > 2 || !keys.iter().all(is_key) {
            return Err(AdminKeysError);
        }
        Ok(Self(keys.iter().map(|key| KeyHash::of(key.as_bytes())).collect()))
    }
}

impl fmt::Debug for AdminKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AdminKeys({})", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admits(keys: &AdminKeys, text: &str) -> bool {
        keys.admit(&KeyHash::of(text.as_bytes()))
    }

    #[test]
    fn only_the_exact_key_is_admitted() {
        let keys: AdminKeys = "k".repeat(32).parse().unwrap();
        assert!(admits(&keys, &"k".repeat(32)));
        for other in ["", "k", &"k".repeat(31), &"k".repeat(33), &"K".repeat(32)] {
            assert!(!admits(&keys, other), "{other}");
        }
        assert!("a key of thirty-two characters or more".parse::<AdminKeys>().is_err(), "spaces");
        assert!(!admits(&AdminKeys::default(), ""), "no key admits nobody");
    }

    #[test]
    fn the_old_and_the_new_key_are_admitted_during_a_rotation() {
        let (old, new) = ("o".repeat(32), "n".repeat(40));
        let keys: AdminKeys = format!("{old}, {new}").parse().unwrap();
        assert!(admits(&keys, &old) && admits(&keys, &new) && !admits(&keys, &format!("{old}, {new}")));
        for wrong in
            [format!("{old},"), format!(",{new}"), format!("{old},{new},{old}"), format!("{old},short")]
        {
            assert_eq!(wrong.parse::<AdminKeys>().err(), Some(AdminKeysError), "{wrong}");
        }
    }
}
