//! Encryption of stored secrets, which must not be readable from the database or its backups.

#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::digest;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::{Random, TenantId};

const KEY_BYTES: usize = 32;
/// The version of the layout; the first byte of all sealed data.
const VERSION: u8 = 1;
const KEY_ID: usize = 4;
const NONCE_AT: usize = 1 + KEY_ID;
/// The length of version, key id and nonce. The ciphertext and the tag follow.
const HEAD: usize = NONCE_AT + NONCE_LEN;

/// The keys that encrypt secrets before they are stored, such as those of subscribers, with AES-256-GCM.
///
/// The first key seals; every key opens. To rotate, put a new key in front, seal everything again
/// ([`reseal`](Self::reseal), `postrider rekey`), and then remove the old key.
///
/// Sealed data consists of a version (1 byte), the key's id (4), a random nonce (12), the ciphertext and the tag (16). It
/// opens only in the [`SealContext`] in which it was sealed, so copying it to another row gains
/// nothing. A key may seal 2^32 times before the risk of a repeated nonce becomes too high (NIST SP 800-38D, §8.3);
/// each change of a subscriber's secret or headers seals once or twice.
///
/// ```
/// use postrider_core::keyring::{Keyring, Purpose, SealContext};
/// use postrider_core::{IdGenerator, SystemRandom, TenantId};
///
/// let keyring = Keyring::parse(&Keyring::generate_key(&SystemRandom))?;
/// let tenant = TenantId::default();
/// let id = IdGenerator::system().next_uuid();
/// let context = SealContext { tenant: &tenant, id, purpose: Purpose::Secret };
///
/// let sealed = keyring.seal(&SystemRandom, &context, b"client-secret")?;
/// assert_eq!(*keyring.open(&context, &sealed)?, b"client-secret");
///
/// let other = SealContext { purpose: Purpose::Headers, ..context };
/// assert!(keyring.open(&other, &sealed).is_err());
/// # Ok::<(), postrider_core::keyring::KeyringError>(())
/// ```
#[derive(Clone)]
pub struct Keyring {
    current: SealingKey,
    former: Vec<SealingKey>,
}

#[derive(Clone)]
struct SealingKey {
    id: KeyId,
    key: LessSafeKey,
}

/// Identifies a key of a [`Keyring`] without revealing it: the first bytes of a hash.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyId([u8; KEY_ID]);

/// What sealed data belongs to. It opens only in the same context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SealContext<'a> {
    /// The tenant that owns the data.
    pub tenant: &'a TenantId,
    /// The id of what the data belongs to, such as a subscriber.
    pub id: Uuid,
    /// Which of its values it is.
    pub purpose: Purpose,
}

/// Which value is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// The signing secret.
    Secret,
    /// A replaced signing secret, which still signs during the overlap of a rotation.
    PreviousSecret,
    /// Signing secrets that were replaced before that one, and still sign.
    OlderSecrets,
    /// The subscriber's own headers.
    Headers,
    /// How Postrider authenticates to the subscriber's receiver.
    Auth,
    /// The answer to a request.
    Answer,
    /// The URL of a tenant's egress proxy.
    EgressProxy,
}

/// Why keys are invalid, or data cannot be sealed or opened. The message contains no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// There is no key.
    #[error("no key given; expected the base64 of 32 random bytes, such as `openssl rand -base64 32` prints")]
    Empty,
    /// The key at this position, counted from 1, is not base64.
    #[error("key {0} is not base64; expected the base64 of 32 bytes for each key, separated by commas")]
    Malformed(usize),
    /// A key has the wrong length.
    #[error(
        "key {place} has {bytes} bytes; expected the base64 of 32 bytes for each key, separated by commas"
    )]
    Length {
        /// The position of the key, counted from 1.
        place: usize,
        /// The number of bytes that it has.
        bytes: usize,
    },
    /// The key at this position occurs earlier in the list. (With a probability of 2^-32, only its id does.)
    #[error("key {0} occurs earlier in the list; remove it")]
    Repeated(usize),
    /// The plain text is longer than AES-GCM can seal.
    #[error("the data is too long to seal")]
    TooLong,
    /// The data is too short to be sealed data.
    #[error("the sealed data is truncated")]
    Truncated,
    /// The data was sealed by a later version of Postrider, or not at all.
    #[error("the sealed data has version {0}, which this version of Postrider cannot read")]
    Version(u8),
    /// The data was sealed with a key that is not in the keyring.
    #[error(
        "the data was sealed with key {0}, which is not in the keyring; add that key at the end of the list"
    )]
    UnknownKey(KeyId),
    /// The data was changed, or belongs to another tenant, object or purpose.
    #[error("the sealed data was changed, or belongs to another tenant, object or purpose")]
    Tampered,
}

impl Keyring {
    /// Parses a list of keys separated by commas, each the base64 of 32 bytes. White space around a key is ignored.
    ///
    /// # Errors
    /// Fails if there is no key, or a key is malformed or repeated. The error names its position, counted from 1.
    pub fn parse(text: &str) -> Result<Self, KeyringError> {
        if text.trim().is_empty() {
            return Err(KeyringError::Empty);
        }
        let mut keys: Vec<SealingKey> = Vec::new();
        for (place, text) in text.split(',').enumerate() {
            let place = place + 1;
            let key = SealingKey::parse(place, text.trim())?;
            if keys.iter().any(|other| other.id == key.id) {
                return Err(KeyringError::Repeated(place));
            }
            keys.push(key);
        }
        let mut keys = keys.into_iter();
        let current = keys.next().ok_or(KeyringError::Empty)?;
        Ok(Self { current, former: keys.collect() })
    }

    /// Generates a key, as [`parse`](Self::parse) reads it.
    pub fn generate_key(random: &dyn Random) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; KEY_BYTES]);
        random.fill(bytes.as_mut());
        Zeroizing::new(STANDARD.encode(bytes.as_ref()))
    }

    /// Seals `plain` with the first key.
    ///
    /// # Errors
    /// Fails with [`KeyringError::TooLong`] for more than 64 GiB.
    pub fn seal(
        &self,
        random: &dyn Random,
        context: &SealContext<'_>,
        plain: &[u8],
    ) -> Result<Vec<u8>, KeyringError> {
        let mut nonce = [0; NONCE_LEN];
        random.fill(&mut nonce);
        // With the full capacity, because the plain text is encrypted in place, and growing would leave a copy of it.
        let mut sealed = Vec::with_capacity(HEAD + plain.len() + AES_256_GCM.tag_len());
        sealed.push(VERSION);
        sealed.extend_from_slice(&self.current.id.0);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(plain);
        let nonce = Nonce::assume_unique_for_key(nonce);
        let tag = self
            .current
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(context.encode()), &mut sealed[HEAD..])
            .map_err(|_| KeyringError::TooLong)?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// Opens data that [`seal`](Self::seal) sealed in the same context, with the key that sealed it.
    ///
    /// # Errors
    /// Fails with [`KeyringError::Truncated`], [`Version`](KeyringError::Version),
    /// [`UnknownKey`](KeyringError::UnknownKey) or [`Tampered`](KeyringError::Tampered).
    pub fn open(&self, context: &SealContext<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, KeyringError> {
        let (head, ciphertext) = Head::split(sealed)?;
        let key = std::iter::once(&self.current)
            .chain(&self.former)
            .find(|key| key.id == head.key)
            .ok_or(KeyringError::UnknownKey(head.key))?;
        let mut plain = Zeroizing::new(ciphertext.to_vec());
        let nonce = Nonce::assume_unique_for_key(head.nonce);
        let length = key
            .key
            .open_in_place(nonce, Aad::from(context.encode()), &mut plain)
            .map_err(|_| KeyringError::Tampered)?
            .len();
        plain.truncate(length);
        Ok(plain)
    }

    /// Returns whether the first key sealed the data; `false` also for data that was never sealed.
    pub fn is_current(&self, sealed: &[u8]) -> bool {
        Head::split(sealed).is_ok_and(|(head, _)| head.key == self.current.id)
    }

    /// Seals data again with the first key; `None` if the first key had sealed it.
    ///
    /// # Errors
    /// Fails as [`open`](Self::open) does.
    pub fn reseal(
        &self,
        random: &dyn Random,
        context: &SealContext<'_>,
        sealed: &[u8],
    ) -> Result<Option<Vec<u8>>, KeyringError> {
        if self.is_current(sealed) {
            return Ok(None);
        }
        let plain = self.open(context, sealed)?;
        self.seal(random, context, &plain).map(Some)
    }
}

impl SealContext<'_> {
    /// Encodes each field with its length in front, so that no two contexts have the same encoding.
    fn encode(&self) -> Vec<u8> {
        let fields: [&[u8]; 4] = [
            b"postrider seal 1",
            self.tenant.as_str().as_bytes(),
            self.id.as_bytes(),
            self.purpose.label().as_bytes(),
        ];
        let mut encoded = Vec::with_capacity(fields.iter().map(|field| 8 + field.len()).sum());
        for field in fields {
            encoded.extend_from_slice(&(field.len() as u64).to_be_bytes());
            encoded.extend_from_slice(field);
        }
        encoded
    }
}

impl Purpose {
    /// Part of the authenticated context, so it must never change.
    fn label(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::PreviousSecret => "previous secret",
            Self::OlderSecrets => "older secrets",
            Self::Headers => "headers",
            Self::Auth => "auth",
            Self::Answer => "answer",
            Self::EgressProxy => "egress proxy",
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let former: Vec<KeyId> = self.former.iter().map(|key| key.id).collect();
        f.debug_struct("Keyring")
            .field("current", &self.current.id)
            .field("former", &former)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl SealingKey {
    fn parse(place: usize, text: &str) -> Result<Self, KeyringError> {
        // Drops the decoder's error, which would show a character of the key.
        let bytes = STANDARD_PAD_INDIFFERENT.decode(text).map_err(|_| KeyringError::Malformed(place))?;
        let bytes = Zeroizing::new(bytes);
        let key = UnboundKey::new(&AES_256_GCM, &bytes)
            .map_err(|_| KeyringError::Length { place, bytes: bytes.len() })?;
        Ok(Self { id: KeyId::of(&bytes), key: LessSafeKey::new(key) })
    }
}

impl KeyId {
    fn of(key: &[u8]) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(b"postrider key id\0");
        context.update(key);
        let mut id = [0; KEY_ID];
        id.iter_mut().zip(context.finish().as_ref()).for_each(|(to, from)| *to = *from);
        Self(id)
    }
}

/// The part before the ciphertext.
struct Head {
    key: KeyId,
    nonce: [u8; NONCE_LEN],
}

impl Head {
    fn split(sealed: &[u8]) -> Result<(Self, &[u8]), KeyringError> {
        let version = *sealed.first().ok_or(KeyringError::Truncated)?;
        if version != VERSION {
            return Err(KeyringError::Version(version));
        }
        let (head, ciphertext) = sealed.split_first_chunk::<HEAD>().ok_or(KeyringError::Truncated)?;
        if ciphertext.len() < AES_256_GCM.tag_len() {
            return Err(KeyringError::Truncated);
        }
        let mut key = [0; KEY_ID];
        key.copy_from_slice(&head[1..NONCE_AT]);
        let mut nonce = [0; NONCE_LEN];
        nonce.copy_from_slice(&head[NONCE_AT..]);
        Ok((Self { key: KeyId(key), nonce }, ciphertext))
    }
}
