//! Secrets that were replaced and still sign, newest first.

use std::time::Duration;

use postrider_core::{Secret, Timestamp};
use zeroize::Zeroizing;

/// A secret that was replaced, and signs beside the present one for a while.
// No Debug: it holds a secret.
#[derive(Clone, PartialEq, Eq)]
pub struct PreviousSecret {
    /// The secret.
    pub secret: Secret,
    /// Until when it signs.
    pub until: Timestamp,
}

/// The most secrets that sign beside the present one.
pub const MAX_PREVIOUS: usize = 10;

/// What is left of `previous` after the present secret was replaced. Without an overlap none of them signs any more.
/// `None` if there would be too many.
pub(super) fn after_rotation(
    present: Option<Secret>,
    previous: Vec<PreviousSecret>,
    overlap: Duration,
    now: Timestamp,
) -> Option<Vec<PreviousSecret>> {
    // A secret that nobody can decrypt cannot sign.
    let Some(present) = present.filter(|_| !overlap.is_zero()) else { return Some(Vec::new()) };
    let mut all = vec![PreviousSecret { secret: present, until: now + overlap }];
    all.extend(previous.into_iter().filter(|previous| previous.until > now));
    (all.len() <= MAX_PREVIOUS).then_some(all)
}

/// Serialises secrets for sealing: a JSON array of `[secret, until]`.
pub(super) fn to_bytes(secrets: &[PreviousSecret]) -> Zeroizing<Vec<u8>> {
    let pairs: Vec<_> = secrets.iter().map(|one| (one.secret.expose(), one.until.millis())).collect();
    // With room for all, so that no copy is left behind while it grows. An array of strings and numbers always has a JSON form.
    let room = pairs.iter().map(|(secret, _)| 2 * secret.len() + 32).sum();
    let mut json = Zeroizing::new(Vec::with_capacity(room));
    let _ = serde_json::to_writer(&mut *json, &pairs);
    json
}

/// Reads the output of [`to_bytes`]. `None` if it is not that; the reason is left out, because it could reveal a secret.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Vec<PreviousSecret>> {
    let pairs: Vec<(Zeroizing<String>, i64)> = serde_json::from_slice(bytes).ok()?;
    let read = |(secret, until): &(Zeroizing<String>, i64)| {
        Some(PreviousSecret { secret: Secret::parse(secret).ok()?, until: Timestamp::from_millis(*until) })
    };
    pairs.iter().map(read).collect()
}
