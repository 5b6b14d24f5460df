//! Signing and verifying requests.
//!
//! Every request has two signatures over the exact bytes of the body:
//!
//! - `X-Agent-Signature`: `sha256=` and the hexadecimal HMAC-SHA256 of the body. The key is the text of the newest
//!   secret, prefix included. It does not cover the time, so it does not protect a receiver from replayed requests.
//! - `webhook-signature`, with `webhook-id` and `webhook-timestamp` ([Standard Webhooks] 1.0.0): for each secret, newest
//!   first, `v1,` and the base64 of the HMAC-SHA256 of `id.timestamp.body`; or, for a `whsk_` secret, `v1a,` and the
//!   base64 of the Ed25519 signature of the same.
//!
//! A `whsk_` secret is the key of `X-Agent-Signature` as well, because an HMAC does not reveal its key. A receiver that
//! has only the public key verifies `webhook-signature`.
//!
//! [Standard Webhooks]: https://www.standardwebhooks.com
//!
//! # For receivers
//!
//! Verify the raw body before parsing it, and remember ids to drop duplicates:
//!
//! ```
//! use postrider_core::signing::{VerifyError, Verifier, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP};
//! use postrider_core::{Clock, SystemClock};
//!
//! # use postrider_core::{Secret, signing::sign};
//! # let body = br#"{"event":"order.created"}"#;
//! # let time = SystemClock.now().seconds();
//! # let signature = sign(&Secret::parse("client-secret")?, "evt_1", time, body);
//! # let received = [
//! #     (WEBHOOK_ID, "evt_1".to_owned()),
//! #     (WEBHOOK_TIMESTAMP, time.to_string()),
//! #     (WEBHOOK_SIGNATURE, signature),
//! # ];
//! # let header = |name: &str| received.iter().find(|(n, _)| *n == name).map(|(_, value)| value.as_str());
//! let verifier = Verifier::new("client-secret")?;
//! // With the `http` crate: `|name| headers.get(name)?.to_str().ok()`.
//! let verified = verifier.verify(header, body, SystemClock.now())?;
//! assert_eq!(verified.id, "evt_1");
//!
//! let error = verifier.verify(header, b"another body", SystemClock.now()).unwrap_err();
//! assert_eq!(error, VerifyError::NoMatch);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod diagnosis;
mod verifier;

/// Returns the SHA-256 of bytes.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::signature::Ed25519KeyPair;

pub use diagnosis::Diagnosis;
pub use verifier::{DEFAULT_TOLERANCE, Verified, Verifier, VerifyError, verify};

use crate::Secret;
use crate::secret::Key;

/// The name of the header with the signature over the body alone, in lower case.
pub const X_AGENT_SIGNATURE: &str = "x-agent-signature";
/// The name of the header with the event's id, the same on every attempt.
pub const WEBHOOK_ID: &str = "webhook-id";
/// The name of the header with the attempt's time, in Unix seconds.
pub const WEBHOOK_TIMESTAMP: &str = "webhook-timestamp";
/// The name of the header with the signatures over id, timestamp and body.
pub const WEBHOOK_SIGNATURE: &str = "webhook-signature";

/// The version of HMAC-SHA256 signatures.
const V1: &str = "v1";
/// The version of Ed25519 signatures.
const V1A: &str = "v1a";
/// The prefix of `X-Agent-Signature`.
const SHA256: &str = "sha256=";
/// The greatest length of a signature with its version and the space before it: ` v1a,` and 64 bytes in base64.
const LONGEST: usize = 5 + 88;

/// Signs requests with a subscriber's secrets. Prepares the keys once.
///
/// ```
/// use postrider_core::Secret;
/// use postrider_core::signing::Signer;
///
/// let newest = Secret::parse("new-client-secret")?;
/// let previous = Secret::parse("client-secret")?;
/// let signer = Signer::new(&newest, &[previous]);
///
/// let body = br#"{"event":"ai.response"}"#;
/// assert!(signer.agent_signature(body).starts_with("sha256="));
/// let signatures = signer.webhook_signature("evt_01h455vb4pex5vsknk084sn000", 1_700_000_007, body);
/// assert_eq!(signatures.split(' ').count(), 2);
/// # Ok::<(), postrider_core::secret::SecretError>(())
/// ```
#[derive(Clone)]
pub struct Signer {
    agent: hmac::Key,
    webhook: Vec<SigningKey>,
}

#[derive(Clone)]
enum SigningKey {
    Hmac(hmac::Key),
    Ed25519(Arc<Ed25519KeyPair>),
}

impl Signer {
    /// Prepares the keys of the newest secret and of the replaced secrets that still sign, newest first.
    pub fn new(newest: &Secret, previous: &[Secret]) -> Self {
        let webhook = std::iter::once(newest).chain(previous).map(SigningKey::new).collect();
        Self { agent: agent_key(newest), webhook }
    }

    /// Returns the value of `X-Agent-Signature`: `sha256=` and hexadecimal digits. Only the newest secret signs.
    pub fn agent_signature(&self, body: &[u8]) -> String {
        format!("{SHA256}{}", hex::encode(hmac::sign(&self.agent, body)))
    }

    /// Returns the value of `webhook-signature`: one signature per secret, newest first, separated by spaces.
    ///
    /// `id` is the value of `webhook-id` and must not contain a full stop; `timestamp_seconds` is the value of
    /// `webhook-timestamp`, the attempt's time in Unix seconds.
    pub fn webhook_signature(&self, id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
        let message = Message { head: format!("{id}.{timestamp_seconds}."), body };
        // Ed25519 reads its message twice, so it needs one contiguous buffer; HMAC does not.
        let mut whole = None;
        let mut signatures = String::with_capacity(self.webhook.len() * LONGEST);
        for key in &self.webhook {
            if !signatures.is_empty() {
                signatures.push(' ');
            }
            match key {
                SigningKey::Hmac(key) => push_signature(&mut signatures, V1, message.hmac(key).as_ref()),
                SigningKey::Ed25519(pair) => {
                    let whole = whole.get_or_insert_with(|| message.whole());
                    push_signature(&mut signatures, V1A, pair.sign(whole).as_ref());
                }
            }
        }
        signatures
    }
}

/// Returns the value of `webhook-signature` for one secret. To sign many requests, use a [`Signer`].
pub fn sign(secret: &Secret, id: &str, timestamp_seconds: i64, body: &[u8]) -> String {
    Signer::new(secret, &[]).webhook_signature(id, timestamp_seconds, body)
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signer").field("secrets", &self.webhook.len()).finish_non_exhaustive()
    }
}

impl SigningKey {
    fn new(secret: &Secret) -> Self {
        match secret.key() {
            Key::Text => Self::Hmac(agent_key(secret)),
            Key::Symmetric(bytes) => Self::Hmac(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
            Key::Asymmetric(pair) => Self::Ed25519(pair.clone()),
        }
    }
}

/// Returns the key of `X-Agent-Signature`: the text of the secret.
fn agent_key(secret: &Secret) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, secret.expose().as_bytes())
}

/// The message that `webhook-signature` signs.
struct Message<'a> {
    /// `id.timestamp.`
    head: String,
    body: &'a [u8],
}

impl Message<'_> {
    fn hmac(&self, key: &hmac::Key) -> hmac::Tag {
        let mut context = hmac::Context::with_key(key);
        context.update(self.head.as_bytes());
        context.update(self.body);
        context.sign()
    }

    fn whole(&self) -> Vec<u8> {
        [self.head.as_bytes(), self.body].concat()
    }
}

fn push_signature(signatures: &mut String, version: &str, signature: &[u8]) {
    signatures.push_str(version);
    signatures.push(',');
    STANDARD.encode_string(signature, signatures);
}
