//! The text of a key.

use std::fmt;

use ring::digest::{SHA256, digest};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::id::{Id, KeyId};
use crate::word::words;
use crate::{IdGenerator, Random};

words! {
    /// Whose key it is.
    KeyKind, "a kind of key" {
        /// A tenant's: it acts for that tenant only.
        Tenant = 0, "tenant";
        /// An operator's: it acts for every tenant.
        Operator = 1, "operator";
    }
}

impl KeyKind {
    const fn prefix(self) -> &'static str {
        match self {
            Self::Tenant => "prk_",
            Self::Operator => "pro_",
        }
    }
}

const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// How many base62 digits hold 256 random bits, and a CRC-32.
const SECRET: usize = 43;
const CHECKSUM: usize = 6;
/// The part of a typed id after its prefix.
const ID: usize = 26;
const PREFIX: usize = 4;
const LENGTH: usize = PREFIX + ID + 1 + SECRET + CHECKSUM;

/// A new key, whose text is to be shown once. `Debug` does not show it.
///
/// The text is `prk_<id>_<secret><checksum>`, or begins with `pro_` for an operator's key: 26 characters of the id, 43 base62
/// digits of 256 random bits, and 6 digits of the CRC-32 of all before them. Secret scanners can find it by its form.
///
/// ```
/// use postrider_core::key::{KeyHash, KeyKind, NewKey, PresentedKey};
/// use postrider_core::IdGenerator;
///
/// let new = NewKey::generate(KeyKind::Tenant, &IdGenerator::system());
/// assert!(new.expose().starts_with("prk_"));
/// assert_eq!(format!("{new:?}"), format!("NewKey({}, …)", new.id()));
///
/// let presented: PresentedKey = new.expose().parse()?;
/// assert_eq!(presented.id(), new.id());
/// assert!(new.hash().matches(&KeyHash::of(new.expose().as_bytes())));
/// # Ok::<(), postrider_core::key::PresentedKeyError>(())
/// ```
pub struct NewKey {
    id: KeyId,
    text: Zeroizing<String>,
}

impl NewKey {
    /// Makes a key with a new id.
    pub fn generate(kind: KeyKind, ids: &IdGenerator) -> Self {
        Self::with_id(kind, ids.next(), ids.random())
    }

    /// Makes a key with a new secret for an id that exists.
    pub fn with_id(kind: KeyKind, id: KeyId, random: &dyn Random) -> Self {
        let mut secret = Zeroizing::new([0; 32]);
        random.fill(secret.as_mut_slice());
        // With the full capacity, because growing would leave a copy in memory.
        let mut text = Zeroizing::new(String::with_capacity(LENGTH));
        let shown = id.to_string();
        text.push_str(kind.prefix());
        text.push_str(&shown[PREFIX..]);
        text.push('_');
        push_base62::<SECRET>(&mut text, &mut secret);
        let mut checksum = [0; 32];
        checksum[28..].copy_from_slice(&crc32fast::hash(text.as_bytes()).to_be_bytes());
        push_base62::<CHECKSUM>(&mut text, &mut checksum);
        Self { id, text }
    }

    /// Returns the id.
    pub fn id(&self) -> KeyId {
        self.id
    }

    /// Returns the text. Only for showing it to its owner, once.
    pub fn expose(&self) -> &str {
        &self.text
    }

    /// Returns the hash to store.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.text.as_bytes())
    }
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NewKey({}, …)", self.id)
    }
}

/// Appends a number, the most significant byte first, as exactly `DIGITS` base62 digits. Overwrites the number.
fn push_base62<const LENGTH: usize>(text: &mut String, number: &mut [u8; 32]) {
    let mut digits = Zeroizing::new([0_u8; LENGTH]);
    for digit in digits.iter_mut().rev() {
        let mut remainder = 0_u32;
        for byte in number.iter_mut() {
            let value = remainder << 8 | u32::from(*byte);
            #[allow(
                clippy::cast_possible_truncation,
                reason = "a remainder is below 62, so the quotient fits a byte"
            )]
            {
                *byte = (value / 62) as u8;
            }
            remainder = value % 62;
        }
        *digit = DIGITS[remainder as usize];
    }
    text.extend(digits.iter().map(|digit| char::from(*digit)));
}

/// What the text of a key says about itself. Whether it is right, only its hash tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PresentedKey {
    kind: KeyKind,
    id: KeyId,
}

/// Why a text is not a key. The message contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PresentedKeyError {
    /// The text does not begin as a key.
    #[error("a key begins with `prk_` or `pro_`")]
    Prefix,
    /// The text begins as a key, and its length, its characters or its checksum are wrong.
    #[error("the key is mistyped or incomplete: its checksum does not fit")]
    Mistyped,
}

impl PresentedKey {
    /// Returns whose key it is.
    pub fn kind(self) -> KeyKind {
        self.kind
    }

    /// Returns the id by which the key is stored.
    pub fn id(self) -> KeyId {
        self.id
    }
}

impl std::str::FromStr for PresentedKey {
    type Err = PresentedKeyError;

    fn from_str(text: &str) -> Result<Self, PresentedKeyError> {
        let kind = KeyKind::ALL.iter().copied().find(|kind| text.starts_with(kind.prefix()));
        let kind = kind.ok_or(PresentedKeyError::Prefix)?;
        let wrong = PresentedKeyError::Mistyped;
        let bytes = text.as_bytes();
        // All ASCII from here on, so every place is the boundary of a character.
        if bytes.len() != LENGTH || !bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_') {
            return Err(wrong);
        }
        let (signed, checksum) = text.split_at(LENGTH - CHECKSUM);
        let sum = checksum.bytes().try_fold(0_u64, |sum, byte| {
            let digit = DIGITS.iter().position(|digit| *digit == byte)?;
            Some(sum * 62 + digit as u64)
        });
        if sum != Some(u64::from(crc32fast::hash(signed.as_bytes()))) || bytes[PREFIX + ID] != b'_' {
            return Err(wrong);
        }
        let id = Id::from_suffix(&text[PREFIX..PREFIX + ID]).ok_or(wrong)?;
        Ok(Self { kind, id })
    }
}

/// The SHA-256 of a key's text. A key has 256 random bits, so its hash cannot be guessed and needs no salt.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// Hashes a text.
    pub fn of(text: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, text).as_ref());
        Self(hash)
    }

    /// Reads a stored hash; `None` if it has another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    /// Returns the bytes to store.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Compares two hashes in constant time.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Fixed([u8; 32]);

    impl Random for Fixed {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.copy_from_slice(&self.0[..bytes.len()]);
        }
    }

    fn made(kind: KeyKind, id: u128, secret: [u8; 32]) -> NewKey {
        NewKey::with_id(kind, Id::from_uuid(uuid::Uuid::from_u128(id)), &Fixed(secret))
    }

    #[test]
    fn the_text_of_a_key_is_fixed() {
        let key = made(KeyKind::Tenant, 7, [255; 32]);
        // If this changes, no key of the past is accepted any more.
        assert_eq!(
            key.expose(),
            "prk_00000000000000000000000007_yhjskwdA6OZ1AL1YmHWZWm8LLG7HjnuCA2j5rOw8Xp13YUZsR"
        );
        assert_eq!(key.expose().len(), LENGTH);
        let zero = made(KeyKind::Operator, 0, [0; 32]);
        assert!(zero.expose().starts_with(&format!("pro_{}_{}", "0".repeat(26), "0".repeat(43))));
    }

    #[test]
    fn a_text_that_does_not_begin_as_a_key_is_not_mistyped() {
        for text in ["", "operator-key-operator-key-operator-key", "prk", "PRK_", "sk_live_x"] {
            assert_eq!(text.parse::<PresentedKey>(), Err(PresentedKeyError::Prefix), "{text}");
        }
        for text in ["prk_", "pro_ü", &format!("prk_{}", "0".repeat(76)), &"prk_✓".repeat(10)] {
            assert_eq!(text.parse::<PresentedKey>(), Err(PresentedKeyError::Mistyped), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_key_reads_back(id: u128, secret: [u8; 32], operator: bool) {
            let kind = if operator { KeyKind::Operator } else { KeyKind::Tenant };
            let key = made(kind, id, secret);
            let presented: PresentedKey = key.expose().parse().unwrap();
            prop_assert_eq!((presented.kind(), presented.id()), (kind, key.id()));
            let printed = format!("{key:?}");
            prop_assert!(!printed.contains(&key.expose()[31..]));
        }

        #[test]
        fn one_wrong_character_is_found(id: u128, secret: [u8; 32], place in PREFIX..LENGTH, other in "[0-9A-Za-z_]") {
            let key = made(KeyKind::Tenant, id, secret);
            let mut text = key.expose().to_owned();
            prop_assume!(text[place..=place] != other);
            text.replace_range(place..=place, &other);
            prop_assert_eq!(text.parse::<PresentedKey>(), Err(PresentedKeyError::Mistyped));
        }

        #[test]
        fn two_swapped_characters_are_found(id: u128, secret: [u8; 32], place in PREFIX..LENGTH - 1) {
            let key = made(KeyKind::Tenant, id, secret);
            let mut bytes = key.expose().as_bytes().to_vec();
            prop_assume!(bytes[place] != bytes[place + 1]);
            bytes.swap(place, place + 1);
            let text = String::from_utf8(bytes).unwrap();
            prop_assert_eq!(text.parse::<PresentedKey>(), Err(PresentedKeyError::Mistyped));
        }

        #[test]
        fn any_text_is_read_or_refused(text in ".{0,100}", tail in "[0-9a-zA-Z_]{0,90}") {
            let _ = text.parse::<PresentedKey>();
            let _ = format!("prk_{tail}").parse::<PresentedKey>();
        }

        #[test]
        fn different_secrets_make_different_keys(first: [u8; 32], second: [u8; 32]) {
            prop_assume!(first != second);
            let keys = [first, second].map(|secret| made(KeyKind::Tenant, 1, secret));
            prop_assert_ne!(keys[0].expose(), keys[1].expose());
            prop_assert!(!keys[0].hash().matches(&keys[1].hash()));
        }
    }
}
