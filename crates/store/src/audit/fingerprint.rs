//! Fingerprints, which the audit trail has in place of secrets.
//!
//! A fingerprint is the beginning of the SHA-256 of what is stored of a secret, which is encrypted with a random nonce, or of
//! the hash of a random key. So it shows whether the secret was replaced, and nothing can be guessed from it.

use postrider_core::key::KeyHash;

/// How many bytes a fingerprint has, two hexadecimal digits each.
const BYTES: usize = 8;

/// The fingerprint of what is stored of a secret.
pub(crate) fn fingerprint(stored: &[u8]) -> String {
    fingerprint_of(stored).iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// The bytes of a fingerprint.
pub(crate) fn fingerprint_of(stored: &[u8]) -> [u8; BYTES] {
    let mut bytes = [0; BYTES];
    bytes.copy_from_slice(&KeyHash::of(stored).as_bytes()[..BYTES]);
    bytes
}
