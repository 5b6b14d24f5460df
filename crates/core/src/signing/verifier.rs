//! Verification of signatures, for receivers.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_PAD_INDIFFERENT;
use ring::hmac;
use ring::signature::{ED25519, KeyPair, UnparsedPublicKey};
use subtle::ConstantTimeEq;

use super::{
    Message, SHA256, SigningKey, V1, V1A, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, agent_key,
};
use crate::secret::{SecretError, public_key_bytes};
use crate::{Secret, Timestamp};

/// The default difference allowed between a request's timestamp and the receiver's clock.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_mins(5);

/// The number of signatures to check per header. Limits the work that a sender can cause.
const MAX_SIGNATURES: usize = 32;
const HMAC_BYTES: usize = 32;
const ED25519_BYTES: usize = 64;

/// Verifies requests, for receivers. The [module](super) has an example.
///
/// A request is valid if any of its signatures was made with any of the verifier's secrets, and its timestamp is within
/// the tolerance. Signatures are compared in constant time.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<VerifyingKey>,
    tolerance: Duration,
}

#[derive(Clone)]
struct VerifyingKey {
    webhook: WebhookKey,
    /// The key of `X-Agent-Signature`; `None` for a public key.
    agent: Option<hmac::Key>,
}

#[derive(Clone)]
enum WebhookKey {
    Hmac(hmac::Key),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
}

/// A verified request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The `webhook-id`. It is the same on every attempt, so a receiver can recognise duplicates.
    pub id: String,
    /// The time of the attempt by the sender's clock, in whole seconds.
    pub timestamp: Timestamp,
}

/// Why a request is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// A header is missing, or is not text.
    #[error("the header `{0}` is missing")]
    MissingHeader(&'static str),
    /// `webhook-id` is empty or contains a full stop, which would make the signed message ambiguous.
    #[error("`webhook-id` is empty or contains a full stop")]
    MalformedId,
    /// `webhook-timestamp` is not a number of Unix seconds.
    #[error("`webhook-timestamp` must be a time in Unix seconds")]
    MalformedTimestamp,
    /// The timestamp is older than the tolerance allows.
    #[error("`webhook-timestamp` is too old: the request may be a replay, or a clock may be wrong")]
    TooOld,
    /// The timestamp is further in the future than the tolerance allows.
    #[error("`webhook-timestamp` is in the future: the sender's or the receiver's clock may be wrong")]
    TooNew,
    /// The header contains no well-formed signature.
    #[error("the signature header contains no well-formed signature")]
    MalformedSignature,
    /// No signature was made with one of the secrets over this request.
    #[error("no signature matches: check the secret, and verify the raw body exactly as received")]
    NoMatch,
}

impl Verifier {
    /// Makes a verifier with one secret, as the sender shows it: `whsec_…`, `whsk_…`, `whpk_…` (a public key), or any other
    /// text.
    ///
    /// # Errors
    /// Fails if the text is neither a secret nor a public key.
    pub fn new(secret_text: &str) -> Result<Self, SecretError> {
        Self::any([secret_text])
    }

    /// Makes a verifier that accepts a signature by any of several secrets, for the overlap of a rotation.
    ///
    /// # Errors
    /// Fails if there is no secret, or one of them is neither a secret nor a public key.
    pub fn any<T: AsRef<str>>(secret_texts: impl IntoIterator<Item = T>) -> Result<Self, SecretError> {
        let keys: Vec<_> = secret_texts
            .into_iter()
            .map(|text| VerifyingKey::parse(text.as_ref()))
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(SecretError::None);
        }
        Ok(Self { keys, tolerance: DEFAULT_TOLERANCE })
    }

    /// Sets the difference allowed between a request's timestamp and the receiver's clock, in either direction. The
    /// default is [`DEFAULT_TOLERANCE`]. Both times are compared in whole seconds.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Verifies a request by `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    ///
    /// `header` looks a header up by its lower-case name. `body` is the raw body, before any parsing. Signatures of
    /// unknown versions are ignored, and so are all after the thirty-second.
    ///
    /// # Errors
    /// Fails if the request is not valid. Answer 400 or 401, and do not act on the body.
    pub fn verify<'h>(
        &self,
        header: impl Fn(&str) -> Option<&'h str>,
        body: &[u8],
        now: Timestamp,
    ) -> Result<Verified, VerifyError> {
        let required = |name: &'static str| header(name).ok_or(VerifyError::MissingHeader(name));
        let id = required(WEBHOOK_ID)?;
        let timestamp_text = required(WEBHOOK_TIMESTAMP)?;
        let signatures = required(WEBHOOK_SIGNATURE)?;
        if id.is_empty() || id.contains('.') {
            return Err(VerifyError::MalformedId);
        }
        let timestamp = parse_timestamp(timestamp_text)?;
        self.check_time(timestamp, now)?;
        // The signed message contains the timestamp's text, not its parsed value.
        self.check_signatures(signatures, &Message { head: format!("{id}.{timestamp_text}."), body })?;
        Ok(Verified { id: id.to_owned(), timestamp })
    }

    /// Verifies a body by the value of `X-Agent-Signature`. A public key (`whpk_…`) cannot verify it.
    ///
    /// This signature does not cover the time: unlike [`verify`](Self::verify), this method does not detect replays.
    ///
    /// # Errors
    /// Fails with [`VerifyError::MalformedSignature`] or [`VerifyError::NoMatch`].
    pub fn verify_agent(&self, signature_header: &str, body: &[u8]) -> Result<(), VerifyError> {
        let mut signature = [0; HMAC_BYTES];
        signature_header
            .strip_prefix(SHA256)
            .and_then(|digits| hex::decode_to_slice(digits, &mut signature).ok())
            .ok_or(VerifyError::MalformedSignature)?;
        let mut keys = self.keys.iter().filter_map(|key| key.agent.as_ref());
        let matches = keys.any(|key| hmac::verify(key, body, &signature).is_ok());
        matches.then_some(()).ok_or(VerifyError::NoMatch)
    }

    fn check_time(&self, sent: Timestamp, now: Timestamp) -> Result<(), VerifyError> {
        let now = Timestamp::from_seconds(now.seconds());
        if now.since(sent) > self.tolerance {
            Err(VerifyError::TooOld)
        } else if sent.since(now) > self.tolerance {
            Err(VerifyError::TooNew)
        } else {
            Ok(())
        }
    }

    fn check_signatures(&self, header: &str, message: &Message<'_>) -> Result<(), VerifyError> {
        let signatures: Vec<Signature> =
            header.split_ascii_whitespace().filter_map(Signature::parse).take(MAX_SIGNATURES).collect();
        if signatures.is_empty() {
            return Err(VerifyError::MalformedSignature);
        }
        let mut whole = None;
        for key in &self.keys {
            let matches = match &key.webhook {
                WebhookKey::Hmac(key) => {
                    let expected = message.hmac(key);
                    signatures.iter().any(|signature| {
                        matches!(signature, Signature::Hmac(given) if given.ct_eq(expected.as_ref()).into())
                    })
                }
                WebhookKey::Ed25519(key) => signatures.iter().any(|signature| {
                    let Signature::Ed25519(given) = signature else { return false };
                    let whole: &Vec<u8> = whole.get_or_insert_with(|| message.whole());
                    key.verify(whole, given).is_ok()
                }),
            };
            if matches {
                return Ok(());
            }
        }
        Err(VerifyError::NoMatch)
    }
}

/// Verifies one request with one secret. For many requests, several secrets or public keys, use a [`Verifier`].
///
/// # Errors
/// Fails as [`Verifier::verify`] does.
pub fn verify<'h>(
    secret: &Secret,
    header: impl Fn(&str) -> Option<&'h str>,
    body: &[u8],
    now: Timestamp,
) -> Result<Verified, VerifyError> {
    Verifier::from(secret).verify(header, body, now)
}

impl From<&Secret> for Verifier {
    fn from(secret: &Secret) -> Self {
        Self { keys: vec![VerifyingKey::new(secret)], tolerance: DEFAULT_TOLERANCE }
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("secrets", &self.keys.len())
            .field("tolerance", &self.tolerance)
            .finish_non_exhaustive()
    }
}

impl VerifyingKey {
    fn parse(text: &str) -> Result<Self, SecretError> {
        match public_key_bytes(text) {
            Some(bytes) => Ok(Self { webhook: WebhookKey::ed25519(&bytes?), agent: None }),
            None => Ok(Self::new(&Secret::parse(text)?)),
        }
    }

    fn new(secret: &Secret) -> Self {
        let webhook = match SigningKey::new(secret) {
            SigningKey::Hmac(key) => WebhookKey::Hmac(key),
            SigningKey::Ed25519(pair) => WebhookKey::ed25519(pair.public_key().as_ref()),
        };
        Self { webhook, agent: Some(agent_key(secret)) }
    }
}

impl WebhookKey {
    fn ed25519(public: &[u8]) -> Self {
        Self::Ed25519(UnparsedPublicKey::new(&ED25519, public.to_vec()))
    }
}

/// A well-formed signature of a known version.
enum Signature {
    Hmac([u8; HMAC_BYTES]),
    Ed25519([u8; ED25519_BYTES]),
}

impl Signature {
    fn parse(text: &str) -> Option<Self> {
        match text.split_once(',')? {
            (V1, encoded) => decode(encoded).map(Self::Hmac),
            (V1A, encoded) => decode(encoded).map(Self::Ed25519),
            _ => None,
        }
    }
}

fn decode<const BYTES: usize>(encoded: &str) -> Option<[u8; BYTES]> {
    // Longer than any signature, so that a signature that is too long decodes and is then rejected by its length.
    let mut bytes = [0; ED25519_BYTES + 3];
    let length = STANDARD_PAD_INDIFFERENT.decode_slice(encoded, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}

/// Parses digits only. Other notations of a number (`+1`, ` 1`, `1e9`) are not what a sender writes.
fn parse_timestamp(text: &str) -> Result<Timestamp, VerifyError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::MalformedTimestamp);
    }
    text.parse().map(Timestamp::from_seconds).map_err(|_| VerifyError::MalformedTimestamp)
}
