//! Plugins: their names and versions, and what a subscriber chooses of one.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::merge_patch::merge;

/// The name of a plugin, unique in the deployment: 1 to 64 characters of `a-z`, `0-9`, `.`, `_` and `-`, beginning with a
/// letter or a digit.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginName(Box<str>);

/// The text is not the name of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 characters of a-z, 0-9, `.`, `_` and `-`, and begin with a letter or a digit")]
pub struct PluginNameError;

/// The version of a plugin, as its operator calls it: 1 to 64 characters of `A-Z`, `a-z`, `0-9`, `.`, `_`, `+` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginVersion(Box<str>);

/// The text is not the version of a plugin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have 1 to 64 characters of A-Z, a-z, 0-9, `.`, `_`, `+` and `-`")]
pub struct PluginVersionError;

/// The plugin that a subscriber has chosen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SelectedPlugin {
    /// Its name.
    pub name: PluginName,
    /// What it is configured to do for this subscriber.
    pub config: PluginConfig,
}

/// The configuration of a plugin: a JSON object of at most [`PluginConfig::MAX_BYTES`].
///
/// ```
/// use postrider_core::plugin::PluginConfig;
///
/// let config = PluginConfig::default().merged(serde_json::from_str(r#"{"fields": ["card"]}"#)?)?;
/// assert_eq!(config.to_json(), r#"{"fields":["card"]}"#);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct PluginConfig(Map<String, Value>);

/// The configuration is too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have at most {} bytes as JSON", PluginConfig::MAX_BYTES)]
pub struct PluginConfigError;

impl PluginName {
    /// Returns the name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginName {
    type Err = PluginNameError;

    fn from_str(text: &str) -> Result<Self, PluginNameError> {
        let is_word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let allowed = |byte: u8| is_word(byte) || matches!(byte, b'.' | b'_' | b'-');
        let is_name =
            text.len() <= 64 && text.bytes().next().is_some_and(is_word) && text.bytes().all(allowed);
        if is_name { Ok(Self(text.into())) } else { Err(PluginNameError) }
    }
}

impl PluginVersion {
    /// Returns the version as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for PluginVersion {
    type Err = PluginVersionError;

    fn from_str(text: &str) -> Result<Self, PluginVersionError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'+' | b'-');
        let is_version = (1..=64).contains(&text.len()) && text.bytes().all(allowed);
        if is_version { Ok(Self(text.into())) } else { Err(PluginVersionError) }
    }
}

impl PluginConfig {
    /// The most bytes of its JSON.
    pub const MAX_BYTES: usize = 4096;

    /// Returns the configuration as JSON.
    pub fn to_json(&self) -> String {
        // An object of JSON values always has a JSON form.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Merges changes into it (RFC 7396).
    ///
    /// # Errors
    /// Fails if the result would be too long.
    pub fn merged(self, changes: Map<String, Value>) -> Result<Self, PluginConfigError> {
        let mut merged = Value::Object(self.0);
        merge(&mut merged, Value::Object(changes));
        match merged {
            Value::Object(members) => members.try_into(),
            // An object with an object merged into it is one.
            _ => Err(PluginConfigError),
        }
    }
}

impl TryFrom<Map<String, Value>> for PluginConfig {
    type Error = PluginConfigError;

    fn try_from(members: Map<String, Value>) -> Result<Self, PluginConfigError> {
        let config = Self(members);
        if config.to_json().len() <= Self::MAX_BYTES { Ok(config) } else { Err(PluginConfigError) }
    }
}

impl From<PluginConfig> for Map<String, Value> {
    fn from(PluginConfig(members): PluginConfig) -> Self {
        members
    }
}

macro_rules! text {
    ($($name:ident $error:ident),+) => {$(
        impl TryFrom<String> for $name {
            type Error = $error;

            fn try_from(text: String) -> Result<Self, $error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from($name(text): $name) -> Self {
                text.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    )+};
}

text!(PluginName PluginNameError, PluginVersion PluginVersionError);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_versions_are_words() {
        let longest = "x".repeat(64);
        for name in ["a", "0", "redact", "a.b_c-1", &longest] {
            assert_eq!(name.parse::<PluginName>().unwrap().as_str(), name);
        }
        for name in ["", "A", ".", "-a", "a/b", "ä", "a b", &"x".repeat(65)] {
            assert_eq!(name.parse::<PluginName>(), Err(PluginNameError), "{name}");
        }
        for version in ["1", "v1.2.3-rc.1+build", &longest] {
            assert_eq!(version.parse::<PluginVersion>().unwrap().as_str(), version);
        }
        for version in ["", "1 2", "1\n", "ä", &"x".repeat(65)] {
            assert_eq!(version.parse::<PluginVersion>(), Err(PluginVersionError), "{version}");
        }
    }

    #[test]
    fn a_configuration_has_a_bounded_length() {
        let members = |length: usize| Map::from_iter([("a".to_owned(), Value::from("x".repeat(length)))]);
        let most = PluginConfig::MAX_BYTES - r#"{"a":""}"#.len();
        assert!(PluginConfig::try_from(members(most)).is_ok());
        assert_eq!(PluginConfig::try_from(members(most + 1)), Err(PluginConfigError));
        let merged = PluginConfig::default().merged(members(3)).unwrap();
        let removed = merged.merged(Map::from_iter([("a".to_owned(), Value::Null)])).unwrap();
        assert_eq!(removed, PluginConfig::default());
    }
}
