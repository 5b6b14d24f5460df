//! Verifies signatures: what a receiver does.

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

/// How far a request's timestamp may be from the receiver's clock, unless told otherwise.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_mins(5);

/// How many signatures of one header are looked at, so that a sender cannot buy work with a header.
const MAX_SIGNATURES: usize = 32;
const HMAC_BYTES: usize = 32;
const ED25519_BYTES: usize = 64;

/// Verifies requests, for receivers. The [module](super) has an example.
///
/// A request is good if any of its signatures is that of any of the verifier's secrets, and its
/// timestamp is near enough. Comparisons take the same time wherever they differ.
#[derive(Clone)]
pub struct Verifier {
    keys: Vec<VerifyingKey>,
    tolerance: Duration,
}

#[derive(Clone)]
struct VerifyingKey {
    webhook: WebhookKey,
    /// Of `X-Agent-Signature`; a public key has none.
    agent: Option<hmac::Key>,
}

#[derive(Clone)]
enum WebhookKey {
    Hmac(hmac::Key),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
}

/// A request that was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verified {
    /// The `webhook-id`: the same on every attempt, so a receiver that has seen it can drop the repeat.
    pub id: String,
    /// When the attempt was made, by the sender's clock; whole seconds.
    pub timestamp: Timestamp,
}

/// Why a request is not to be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// A header is not there, or is not text.
    #[error("the header `{0}` is missing")]
    MissingHeader(&'static str),
    /// `webhook-id` is empty or has a full stop, which would let parts of the message trade places.
    #[error("`webhook-id` is empty or contains a full stop")]
    MalformedId,
    /// `webhook-timestamp` is not Unix seconds.
    #[error("`webhook-timestamp` is not a time in Unix seconds")]
    MalformedTimestamp,
    /// Older than the tolerance allows.
    #[error("`webhook-timestamp` is too old: the request is a replay, or a clock is wrong")]
    TooOld,
    /// Further in the future than the tolerance allows.
    #[error("`webhook-timestamp` is in the future: the sender's or the receiver's clock is wrong")]
    TooNew,
    /// The header holds nothing that looks like a signature.
    #[error("the signature header holds no well-formed signature")]
    MalformedSignature,
    /// Signatures, and none of them by these secrets over this request.
    #[error(
        "no signature matches: the secret is another, or the body is not the one that was sent, byte for byte"
    )]
    NoMatch,
}

impl Verifier {
    /// A verifier with one secret as the sender shows it: `whsec_…`, `whsk_…`, `whpk_…` (a public key), or
    /// any other characters.
    ///
    /// # Errors
    /// If the text is neither a secret nor a public key.
    pub fn new(secret_text: &str) -> Result<Self, SecretError> {
        Self::any([secret_text])
    }

    /// A verifier with several secrets, of which any will do, for the time in which they are rotated.
    ///
    /// # Errors
    /// If there is none, or one of them is neither a secret nor a public key.
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

    /// Sets how far a timestamp may be from the receiver's clock, either way; [`DEFAULT_TOLERANCE`]
    /// otherwise. Both are compared in whole seconds.
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// Verifies a request by `webhook-id`, `webhook-timestamp` and `webhook-signature`.
    ///
    /// `header` looks a header up by its lower-case name. `body` is the body as it came, before any
    /// parsing. Signatures of unknown versions are passed over, and so is what comes after the
    /// thirty-second.
    ///
    /// # Errors
    /// Says what is missing or wrong; answer 401 or 400 and do not act on the body.
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
        // The timestamp goes into the message as it came, not as it was read.
        self.check_signatures(signatures, &Message { head: format!("{id}.{timestamp_text}."), body })?;
        Ok(Verified { id: id.to_owned(), timestamp })
    }

    /// Verifies a body by the value of `X-Agent-Signature`. A public key (`whpk_…`) verifies none of these.
    ///
    /// This signature covers no time: unlike [`verify`](Self::verify) it does not stop replays.
    ///
    /// # Errors
    /// [`VerifyError::MalformedSignature`] or [`VerifyError::NoMatch`].
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

/// Verifies one request with one secret; see [`Verifier`] for many of either, and for public keys.
///
/// # Errors
/// As [`Verifier::verify`].
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

/// One well-formed signature of a version that is known.
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
    // Room for more than fits any signature, so that a longer one is seen to be longer.
    let mut bytes = [0; ED25519_BYTES + 3];
    let length = STANDARD_PAD_INDIFFERENT.decode_slice(encoded, &mut bytes).ok()?;
    bytes[..length].try_into().ok()
}

/// Digits only: what reads as a number elsewhere (`+1`, ` 1`, `1e9`) is not what a sender writes.
fn parse_timestamp(text: &str) -> Result<Timestamp, VerifyError> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(VerifyError::MalformedTimestamp);
    }
    text.parse().map(Timestamp::from_seconds).map_err(|_| VerifyError::MalformedTimestamp)
}
