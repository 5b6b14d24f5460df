//! The URLs and addresses that deliveries may go to.
//!
//! Strangers choose the URLs, so they must not reach an operator's internal network (SSRF). [`TargetUrl`] defines the
//! URLs that are valid, [`AddressPolicy`] the addresses that they may lead to, and [`TargetPolicy`] what an operator
//! allows. This module judges texts and addresses; `postrider-delivery` resolves names and connects.

mod address;
mod url;

pub use address::{AddressPolicy, Forbidden};
pub use url::{TargetUrl, TargetUrlError};

/// The targets that an operator allows.
///
/// ```
/// use postrider_core::target::{AddressPolicy, TargetPolicy, TargetRejected, TargetUrl};
///
/// let policy = TargetPolicy { addresses: AddressPolicy::public_only(), https_only: true };
/// let url = |text: &str| text.parse::<TargetUrl>().unwrap();
/// assert!(policy.check(&url("https://example.com/hook")).is_ok());
/// assert!(matches!(policy.check(&url("http://example.com/hook")), Err(TargetRejected::HttpsOnly)));
/// assert!(matches!(policy.check(&url("https://0x7f.1/hook")), Err(TargetRejected::Address(_))));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// The addresses that deliveries may connect to.
    pub addresses: AddressPolicy,
    /// Whether to reject `http://` URLs.
    pub https_only: bool,
}

/// Why the target policy rejects a valid URL.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetRejected {
    /// The URL starts with `http://`.
    #[error("the URL must start with https://; this deployment does not allow http://")]
    HttpsOnly,
    /// The host is a forbidden address.
    #[error(transparent)]
    Address(#[from] Forbidden),
}

impl TargetPolicy {
    /// Judges a URL without resolving its host.
    ///
    /// # Errors
    /// Fails if the URL is not `https://` although the policy requires it, or its host is a forbidden address.
    pub fn check(&self, url: &TargetUrl) -> Result<(), TargetRejected> {
        if self.https_only && !url.is_https() {
            return Err(TargetRejected::HttpsOnly);
        }
        Ok(self.addresses.judge_literal(url)?)
    }
}
