//! Text that does not print.

use std::fmt;

use zeroize::Zeroizing;

/// A setting's text that is or contains a secret: it has no Display, and Debug shows nothing of it.
///
/// Reading it never fails, since clap shows what it cannot read; a group's `config()` judges it.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The text without surrounding white space, such as a line break copied along with a key; `None` if empty.
    pub(crate) fn trimmed(&self) -> Option<&str> {
        Some(self.0.trim()).filter(|text| !text.is_empty())
    }
}

impl From<String> for SecretText {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl From<&str> for SecretText {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(…)")
    }
}
