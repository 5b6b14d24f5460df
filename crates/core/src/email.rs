//! Addresses of mail.

use std::fmt;
use std::str::FromStr;

/// An address that mail can be sent to: `local@host`, without a display name, comments or quotes.
///
/// ```
/// use postrider_core::EmailAddress;
///
/// assert_eq!("ops+hooks@example.com".parse::<EmailAddress>()?.as_str(), "ops+hooks@example.com");
/// for text in ["ops", "@example.com", "ops@", "a b@example.com", "Ops <ops@example.com>", "a@b@c", "a@b,c@d"] {
///     assert!(text.parse::<EmailAddress>().is_err(), "{text}");
/// }
/// # Ok::<(), postrider_core::email::EmailAddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmailAddress(String);

/// The text is not an address of mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected an address such as ops@example.com: letters, digits, dots and characters of !#$%&'*+-/=?^_`{{|}}~ before the @, a host name after it, at most 254 characters"
)]
pub struct EmailAddressError;

/// The greatest lengths (RFC 5321, §4.5.3.1).
const MAX_LENGTH: usize = 254;
const MAX_LOCAL: usize = 64;

impl EmailAddress {
    /// Returns the address as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EmailAddress {
    type Err = EmailAddressError;

    /// Accepts dot-strings (RFC 5321, §4.1.2) at host names.
    fn from_str(text: &str) -> Result<Self, EmailAddressError> {
        let (local, host) = text.split_once('@').ok_or(EmailAddressError)?;
        let is_atom = |atom: &str| {
            !atom.is_empty()
                && atom.chars().all(|c| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(c))
        };
        let is_label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        let is_valid = text.len() <= MAX_LENGTH
            && local.len() <= MAX_LOCAL
            && local.split('.').all(is_atom)
            && host.split('.').all(is_label);
        if is_valid { Ok(Self(text.to_owned())) } else { Err(EmailAddressError) }
    }
}

impl fmt::Display for EmailAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
