//! Subscribers' signing secrets.

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_PAD_INDIFFERENT};
use ring::signature::{Ed25519KeyPair, KeyPair};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::Random;

/// Before the base64 of a symmetric key of Standard Webhooks.
const SYMMETRIC: &str = "whsec_";
/// Before the base64 of an Ed25519 private key.
const ASYMMETRIC: &str = "whsk_";
/// Before the base64 of an Ed25519 public key.
const PUBLIC: &str = "whpk_";

/// How many bytes a made secret's key has.
const MADE_BYTES: usize = 24;
/// Sizes of a `whsec_` key that Standard Webhooks 1.0.0 allows, in bytes.
const SYMMETRIC_BYTES: std::ops::RangeInclusive<usize> = 24..=64;
/// Sizes of a secret that the subscriber's owner chose, in characters.
const CHOSEN_CHARACTERS: std::ops::RangeInclusive<usize> = 8..=256;
const SEED_BYTES: usize = 32;

/// A subscriber's signing secret.
///
/// It is one of three things, told apart by how it starts:
///
/// | text | signs with |
/// |---|---|
/// | `whsec_` and the base64 of 24 to 64 bytes | HMAC-SHA256 under those bytes (`v1`) |
/// | `whsk_` and the base64 of an Ed25519 seed (32 bytes), or of seed and public key (64 bytes) | Ed25519 (`v1a`) |
/// | any other 8 to 256 characters, none of them a control character | HMAC-SHA256 under their UTF-8 (`v1`) |
///
/// Base64 is the standard alphabet, padded or not. A text that starts with one of the prefixes and
/// does not go on as it must is refused, never taken as characters.
///
/// The secret neither prints nor serialises; [`expose`](Self::expose) is the one way to its text, so
/// that every place that shows it can be found. Clones share one copy, and the text is wiped when the
/// last of them is dropped.
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

/// What `webhook-signature` is made with.
pub(crate) enum Key {
    /// The text's own bytes.
    Text,
    /// The decoded rest of a `whsec_`.
    Symmetric(Zeroizing<Vec<u8>>),
    /// The key pair of a `whsk_`. ring does not wipe it.
    Asymmetric(Arc<Ed25519KeyPair>),
}

/// Why a text is not a secret. Never repeats any of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Too few or too many characters.
    #[error("a secret has 8 to 256 characters, this one has {0}")]
    Length(usize),
    /// A line break, tab, NUL or another control character.
    #[error("a secret contains no line breaks or other control characters; was one copied along?")]
    Control,
    /// What follows `whsec_` or `whsk_` is not base64.
    #[error("after `{0}` a secret is standard base64")]
    Base64(&'static str),
    /// What follows `whsec_` is too short or too long.
    #[error("after `whsec_` a secret is the base64 of 24 to 64 bytes, this one is of {0}")]
    SymmetricLength(usize),
    /// What follows `whsk_` has not the length of a key.
    #[error(
        "after `whsk_` a secret is the base64 of an Ed25519 seed (32 bytes), or of seed and public key (64 bytes); this one is of {0} bytes"
    )]
    AsymmetricLength(usize),
    /// The two halves of a 64-byte `whsk_` do not belong together.
    #[error("the public key in this `whsk_` secret is not that of its seed")]
    KeyPair,
    /// A public key where a signing secret is needed.
    #[error("`whpk_` is a public key and cannot sign; give the `whsk_` key that belongs to it")]
    PublicKey,
    /// What follows `whpk_` is not a key. Only a [`Verifier`](crate::signing::Verifier) takes these.
    #[error("after `whpk_` a public key is the standard base64 of 32 bytes")]
    MalformedPublicKey,
    /// No secret where at least one is needed.
    #[error("at least one secret is needed")]
    None,
}

impl Secret {
    /// Takes a secret that somebody chose, or that was stored.
    ///
    /// # Errors
    /// Says what is wrong with it, and repeats nothing of it.
    pub fn parse(text: &str) -> Result<Self, SecretError> {
        // Before anything is decoded, so that the work is bounded.
        let characters = text.chars().take(*CHOSEN_CHARACTERS.end() + 1).count();
        if !CHOSEN_CHARACTERS.contains(&characters) {
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

    /// Makes a `whsec_` secret from 24 bytes of `random`.
    pub fn generate(random: &dyn Random) -> Self {
        let mut bytes = Zeroizing::new(vec![0; MADE_BYTES]);
        random.fill(&mut bytes);
        // Room for all of it, so that growing leaves no copy behind.
        let mut text = Zeroizing::new(String::with_capacity(SYMMETRIC.len() + MADE_BYTES.div_ceil(3) * 4));
        text.push_str(SYMMETRIC);
        STANDARD.encode_string(bytes.as_slice(), &mut text);
        Self::new(text, Key::Symmetric(bytes))
    }

    /// The secret as it is written. Only for signing, sealing, and showing it to its owner.
    pub fn expose(&self) -> &str {
        &self.0.text
    }

    /// The public key (`whpk_…`) that receivers verify with, when this is a `whsk_` secret.
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

/// The bytes of a `whpk_…`, or nothing if the text is no such thing.
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

/// The decoder's own error would repeat a character of the secret, so it goes no further.
fn decode(prefix: &'static str, rest: &str) -> Result<Zeroizing<Vec<u8>>, SecretError> {
    // Four characters hold three bytes; with this room the buffer never grows.
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
    fn accepts_what_the_contract_allows() {
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
            // Prefixes are lower case; this is an ordinary text.
            "WHSEC_not base64",
        ] {
            assert_eq!(Secret::parse(text).unwrap().expose(), text);
        }
    }

    #[test]
    fn refuses_the_rest_and_says_why() {
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
            // The URL-safe alphabet is another one.
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
    fn made_secrets_differ_and_are_accepted() {
        let made: Vec<Secret> = (0..100).map(|_| Secret::generate(&SystemRandom)).collect();
        for (place, secret) in made.iter().enumerate() {
            assert_eq!(secret.expose().len(), 38);
            assert_eq!(&Secret::parse(secret.expose()).unwrap(), secret);
            assert!(!made[..place].contains(secret));
        }
    }

    proptest! {
        #[test]
        fn any_text_is_taken_whole_or_refused_without_repeating_it(text in "\\PC{0,300}") {
            match Secret::parse(&text) {
                Ok(secret) => prop_assert_eq!(secret.expose(), text),
                Err(error) => {
                    let shown = format!("{error} {error:?}");
                    prop_assert!(text.chars().count() < 8 || !shown.contains(&text));
                }
            }
        }

        #[test]
        fn prefixed_noise_never_panics(prefix in "whsec_|whsk_|whpk_", rest in "[A-Za-z0-9+/=_-]{0,300}") {
            let _ = Secret::parse(&format!("{prefix}{rest}"));
            let _ = public_key_bytes(&format!("{prefix}{rest}"));
        }

        #[test]
        fn whsec_of_every_length(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let text = encoded("whsec_", &bytes);
            prop_assert_eq!(Secret::parse(&text).is_ok(), (24..=64).contains(&bytes.len()));
        }
    }
}
