//! Which URLs and addresses a delivery may go to.
//!
//! Strangers choose the URLs. [`TargetUrl`] is what a URL must look like, [`AddressPolicy`] which
//! addresses it may lead to, and [`TargetPolicy`] both as an operator configures them. The judgement
//! here is about text and numbers only; resolving names and connecting is `postrider-delivery`'s.

mod address;
mod url;

pub use address::{AddressPolicy, Forbidden};
pub use url::{TargetUrl, TargetUrlError};

/// What an operator lets deliveries go to.
///
/// ```
/// use postrider_core::target::{AddressPolicy, TargetPolicy, TargetRefused, TargetUrl};
///
/// let policy = TargetPolicy { addresses: AddressPolicy::public_only(), https_only: true };
/// let url = |text: &str| text.parse::<TargetUrl>().unwrap();
/// assert!(policy.check(&url("https://example.com/hook")).is_ok());
/// assert!(matches!(policy.check(&url("http://example.com/hook")), Err(TargetRefused::HttpsOnly)));
/// assert!(matches!(policy.check(&url("https://0x7f.1/hook")), Err(TargetRefused::Address(_))));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TargetPolicy {
    /// Which addresses a connection may be made to.
    pub addresses: AddressPolicy,
    /// Whether `http://` is refused.
    pub https_only: bool,
}

/// Why a URL is refused though it is well-formed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetRefused {
    /// It starts with `http://`.
    #[error("only https:// URLs are allowed here")]
    HttpsOnly,
    /// Its host is an address that deliveries may not go to.
    #[error(transparent)]
    Address(#[from] Forbidden),
}

impl TargetPolicy {
    /// Judges what can be judged without resolving a name.
    ///
    /// # Errors
    /// If the URL must be `https://` and is not, or its host is a forbidden address.
    pub fn check(&self, url: &TargetUrl) -> Result<(), TargetRefused> {
        if self.https_only && !url.is_https() {
            return Err(TargetRefused::HttpsOnly);
        }
        Ok(self.addresses.judge_literal(url)?)
    }
}
