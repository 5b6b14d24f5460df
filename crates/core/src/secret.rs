//! Signing secrets.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use ring::signature::{Ed25519KeyPair, KeyPair};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::Random;

/// The prefix of a symmetric key (Standard Webhooks).
const SYMMETRIC: &str = "whsec_";
/// The prefix of an Ed25519 private key (Standard Webhooks).
const ASYMMETRIC: &str = "whsk_";
/// The prefix of an Ed25519 public key (Standard Webhooks).
const PUBLIC: &str = "whpk_";

/// The number of random bytes in a generated secret.
const GENERATED_BYTES: usize = 24;
/// The lengths of a `whsec_` key that Standard Webhooks 1.0.0 allows, in bytes.
const SYMMETRIC_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// The length of a secret's text, in characters.
const CHARACTERS: std::ops::RangeInclusive<usize> = 8..=256;
const SEED_BYTES: usize = 32;

/// A subscriber's signing secret.
///
/// Its prefix decides how it signs:
///
/// | text | signs with |
/// |---|---|
/// | `whsec_` and the base64 of 24 to 64 bytes | HMAC-SHA256 under those bytes (`v1`) |
/// | `whsk_` and the base64 of an Ed25519 seed (32 bytes), or of seed and public key (64 bytes) | Ed25519 (`v1a`) |
/// | any other 8 to 256 characters, none of them a control character | HMAC-SHA256 under their UTF-8 (`v1`) |
///
/// Base64 uses the standard alphabet, with or without padding. A text with one of the prefixes and anything else after it
/// is rejected.
///
/// `Debug` does not show the secret, and it does not serialise; [`expose`](Self::expose) is the only way to its text.
/// Clones share one copy, which is overwritten when the last of them is dropped.
///
/// ```
/// use postrider_core::{Secret, SystemRandom};
///
/// let made = Secret::generate(&SystemRandom);
/// assert!(made.expose().starts_with("whsec_"));
/// assert_eq!(format!("{made:?}"), "Secret(…)");
///
/// let chosen = Secret::parse("correct horse battery")?;
/// assert_eq!(chosen.expose(), "correct horse battery");
/// assert!(Secret::parse("short").is_err());
/// # Ok::<(), postrider_core::secret::SecretError>(())
/// ```
///
/// ```compile_fail
/// # use postrider_core::Secret;
/// # let secret = Secret::parse("correct horse battery").unwrap();
/// println!("{secret}");
/// ```
#[derive(Clone)]
pub struct Secret(Arc<Inner>);

struct Inner {
    text: Zeroizing<String>,
    key: Key,
}

/// The key of `webhook-signature`.
pub(crate) enum Key {
    /// The bytes of the text.
    Text,
    /// The decoded bytes after `whsec_`.
    Symmetric(Zeroizing<Vec<u8>>),
    /// The key pair of a `whsk_` secret. ring does not overwrite it when it is dropped.
    Asymmetric(Arc<Ed25519KeyPair>),
}

/// Why a text is not a secret. The message contains nothing of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The text has too few or too many characters.
    #[error("a secret must have 8 to 256 characters, got {0}")]
    Length(usize),
    /// The text contains a line break, tab, NUL or another control character.
    #[error("a secret must not contain line breaks or other control characters")]
    Control,
    /// The part after `whsec_` or `whsk_` is not base64.
    #[error("`{0}` must be followed by standard base64")]
    Base64(&'static str),
    /// The key after `whsec_` is too short or too long.
    #[error("`whsec_` must be followed by the base64 of 24 to 64 bytes, got {0} bytes")]
    SymmetricLength(usize),
    /// The key after `whsk_` has the wrong length.
    #[error(
        "`whsk_` must be followed by the base64 of an Ed25519 seed (32 bytes) or of seed and public key (64 bytes), got {0} bytes"
    )]
    AsymmetricLength(usize),
    /// The public key in a 64-byte `whsk_` secret does not belong to its seed.
    #[error("the public key in this `whsk_` secret does not belong to its seed")]
    KeyPair,
    /// The text is a public key, which cannot sign.
    #[error("a `whpk_` public key cannot sign; give the `whsk_` key that belongs to it")]
    PublicKey,
    /// The part after `whpk_` is not a public key. Only a [`Verifier`](crate::signing::Verifier) accepts public keys.
    #[error("`whpk_` must be followed by the standard base64 of 32 bytes")]
    MalformedPublicKey,
    /// A [`Verifier`](crate::signing::Verifier) was given no secret.
    #[error("at least one secret is required")]
    None,
}

impl Secret {
    /// Parses a secret.
    ///
    /// # Errors
    /// Fails if the text is not one of the forms above.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        // Checked before decoding, so that the work is bounded.
        let characters = text.chars().take(*CHARACTERS.end() + 1).count();
        if !CHARACTERS.contains(&characters) {
            return Err(SecretError::Length(text.chars().count()));
        }
        if text.chars().any(char::is_control) {
            return Err(SecretError::Control);
        }
        let key = if let Some(rest) = text.strip_prefix(SYMMETRIC) {
            symmetric(rest)?
        } else if let Some(rest) = text.strip_prefix(ASYMMETRIC) {
            Key::Asymmetric(Arc::new(key_pair(rest)?))
        } else if text.starts_with(PUBLIC) {
            return Err(SecretError::PublicKey);
        } else {
            Key::Text
        };
        Ok(Self::new(Zeroizing::new(text.to_owned()), key))
    }

    /// Generates a `whsec_` secret from 24 random bytes.
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new(vec![0; GENERATED_BYTES]);
        random.fill(&mut bytes);
        // With the full capacity, because growing would leave a copy in memory.
        let mut text =
            Zeroizing::new(String::with_capacity(SYMMETRIC.len() + GENERATED_BYTES.div_ceil(3) * 4));
        text.push_str(SYMMETRIC);
        STANDARD.encode_string(bytes.as_slice(), &mut text);
        Self::new(text, Key::Symmetric(bytes))
    }

    /// Returns the text of the secret. Only for signing, sealing, and showing it to its owner.
    pub fn expose(&self) -> &str {
        &self.0.text
    }

    /// Returns the public key (`whpk_…`) with which receivers verify; `None` unless this is a `whsk_` secret.
    pub fn public_key(&self) -> Option<String> {
        match self.key() {
            Key::Asymmetric(pair) => Some(format!("{PUBLIC}{}", STANDARD.encode(pair.public_key()))),
            Key::Text | Key::Symmetric(_) => None,
        }
    }

    pub(crate) fn key(&self) -> &Key {
        &self.0.key
    }

    fn new(text: Zeroizing<String>, key: Key) -> Self {
        Self(Arc::new(Inner { text, key }))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Compares the texts in constant time.
impl PartialEq for Secret {
    fn eq(&self, other: &Self) -> bool {
        self.expose().as_bytes().ct_eq(other.expose().as_bytes()).into()
    }
}

impl Eq for Secret {}

/// Decodes a `whpk_…` public key; `None` if the text has another prefix.
pub(crate) fn public_key_bytes(text: &str) -> Option<Result<[u8; 32], SecretError>> {
    let rest = text.strip_prefix(PUBLIC)?;
    let mut bytes = [0; 33];
    Some(match STANDARD_PAD_INDIFFERENT.decode_slice(rest, &mut bytes) {
        Ok(32) => bytes[..32].try_into().map_err(|_| SecretError::MalformedPublicKey),
        _ => Err(SecretError::MalformedPublicKey),
    })
}

fn symmetric(rest: &str) -> Result<Key, SecretError> {
    let bytes = decode(SYMMETRIC, rest)?;
    if !SYMMETRIC_BYTES.contains(&bytes.len()) {
        return Err(SecretError::SymmetricLength(bytes.len()));
    }
    Ok(Key::Symmetric(bytes))
}

fn key_pair(rest: &str) -> Result<Ed25519KeyPair, SecretError> {
    let bytes = decode(ASYMMETRIC, rest)?;
    let wrong_length = SecretError::AsymmetricLength(bytes.len());
    match bytes.split_at_checked(SEED_BYTES) {
        Some((seed, [])) => Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| wrong_length),
        Some((seed, public)) if public.len() == SEED_BYTES => {
            Ed25519KeyPair::from_seed_and_public_key(seed, public).map_err(|_| SecretError::KeyPair)
        }
        _ => Err(wrong_length),
    }
}

/// Decodes base64. Drops the decoder's error, which would show a character of the secret.
fn decode(prefix: &'static str, rest: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // Four characters hold three bytes, so this buffer never grows.
    let mut bytes = Zeroizing::new(vec![0; rest.len().div_ceil(4) * 3]);
    let length =
        STANDARD_PAD_INDIFFERENT.decode_slice(rest, &mut bytes).map_err(|_| SecretError::Base64(prefix))?;
    bytes.truncate(length);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;
    use proptest::prelude::*;

    const SEED: [u8; 32] = [7; 32];

    fn encoded(prefix: &str, bytes: &[u8]) -> String {
        format!("{prefix}{}", STANDARD.encode(bytes))
    }

    fn pair_bytes() -> Vec<u8> {
        let pair = Ed25519KeyPair::from_seed_unchecked(&SEED).unwrap();
        [&SEED, pair.public_key().as_ref()].concat()
    }

    #[test]
    fn valid_secrets_are_accepted_unchanged() {
        for text in [
            "client-secret",
            "s3crét ✓",
            "12345678",
            &"✓".repeat(256),
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            &encoded("whsec_", &[1; 25]),
            encoded("whsec_", &[1; 25]).trim_end_matches('='),
            &encoded("whsec_", &[1; 64]),
            &encoded("whsk_", &SEED),
            encoded("whsk_", &SEED).trim_end_matches('='),
            &encoded("whsk_", &pair_bytes()),
            // Prefixes are in lower case, so this is an ordinary text.
            "WHSEC_not base64",
        ] {
            assert_eq!(Secret::parse(text).unwrap().expose(), text);
        }
    }

    #[test]
    fn invalid_secrets_are_rejected_with_a_reason() {
        let mut mismatched = pair_bytes();
        mismatched[0] ^= 1;
        for (text, error) in [
            (String::new(), SecretError::Length(0)),
            ("1234567".into(), SecretError::Length(7)),
            ("✓".repeat(7), SecretError::Length(7)),
            ("x".repeat(257), SecretError::Length(257)),
            ("client-secret\n".into(), SecretError::Control),
            ("client\0secret".into(), SecretError::Control),
            ("client\u{85}secret".into(), SecretError::Control),
            ("whsec_not base64".into(), SecretError::Base64("whsec_")),
            // The URL-safe alphabet is not accepted.
            (format!("whsec_{}", "-_".repeat(16)), SecretError::Base64("whsec_")),
            ("whsec_AAAA".into(), SecretError::SymmetricLength(3)),
            (encoded("whsec_", &[1; 23]), SecretError::SymmetricLength(23)),
            (encoded("whsec_", &[1; 65]), SecretError::SymmetricLength(65)),
            ("whsk_not base64".into(), SecretError::Base64("whsk_")),
            (encoded("whsk_", &[1; 31]), SecretError::AsymmetricLength(31)),
            (encoded("whsk_", &[1; 33]), SecretError::AsymmetricLength(33)),
            (encoded("whsk_", &[1; 63]), SecretError::AsymmetricLength(63)),
            (encoded("whsk_", &mismatched), SecretError::KeyPair),
            (encoded("whpk_", &[1; 32]), SecretError::PublicKey),
        ] {
            assert_eq!(Secret::parse(&text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn both_forms_of_a_private_key_have_one_public_key() {
        let short = Secret::parse(&encoded("whsk_", &SEED)).unwrap().public_key();
        let long = Secret::parse(&encoded("whsk_", &pair_bytes())).unwrap().public_key();
        assert!(short.as_ref().is_some_and(|key| key.starts_with("whpk_")));
        assert_eq!(short, long);
        assert_eq!(Secret::parse("client-secret").unwrap().public_key(), None);
    }

    #[test]
    fn generated_secrets_are_valid_and_differ() {
        let made: Vec<Secret> = (0..100).map(|_| Secret::generate(&SystemRandom)).collect();
        for (place, secret) in made.iter().enumerate() {
            assert_eq!(secret.expose().len(), 38);
            assert_eq!(&Secret::parse(secret.expose()).unwrap(), secret);
            assert!(!made[..place].contains(secret));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_accepted_unchanged_or_rejected_without_showing_it(text in "\\PC{0,300}") {
            match Secret::parse(&text) {
                Ok(secret) => prop_assert_eq!(secret.expose(), text),
                Err(error) => {
                    let shown = format!("{error} {error:?}");
                    prop_assert!(text.chars().count() < 8 || !shown.contains(&text));
                }
            }
        }

        #[test]
        fn a_prefix_before_random_characters_never_panics(prefix in "whsec_|whsk_|whpk_", rest in "[A-Za-z0-9+/=_-]{0,300}") {
            let _ = Secret::parse(&format!("{prefix}{rest}"));
            let _ = public_key_bytes(&format!("{prefix}{rest}"));
        }

        #[test]
        fn a_whsec_key_has_24_to_64_bytes(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let text = encoded("whsec_", &bytes);
            prop_assert_eq!(Secret::parse(&text).is_ok(), (24..=64).contains(&bytes.len()));
        }
    }
}
