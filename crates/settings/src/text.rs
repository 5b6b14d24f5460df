//! Text that does not print.

use std::error::Error;
use std::fmt;
use std::str::FromStr;

use zeroize::Zeroizing;

use crate::SettingsError;

/// The text of a setting that is or contains a secret. It has no `Display`, and its `Debug` shows nothing of it.
///
/// Parsing it from an argument never fails, because clap prints what it cannot parse. The group that has the setting
/// checks it later.
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

    /// The trimmed text of the setting `name`, or an error that says with `hint` what to set it to.
    pub(crate) fn required<'a>(
        text: Option<&'a Self>,
        name: &'static str,
        hint: &'static str,
    ) -> Result<&'a str, SettingsError> {
        text.and_then(Self::trimmed).ok_or(SettingsError::Missing { name, hint })
    }

    /// The setting `name`, parsed.
    pub(crate) fn parse<T: FromStr<Err: Error + Send + Sync + 'static>>(
        text: Option<&Self>,
        name: &'static str,
        hint: &'static str,
    ) -> Result<T, SettingsError> {
        Self::required(text, name, hint)?.parse().map_err(|error| SettingsError::refused(name, error))
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
