//! Channels: words that events and subscribers share.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// What separates the words of the text. No channel has it.
const SEPARATOR: char = ' ';

/// A set of 1 to 10 channels, each 1 to 128 characters of `A-Z`, `a-z`, `0-9`, `.`, `_`, `:`, `+` and `-`.
///
/// An event with channels goes to the subscribers that share one of them, and to those without channels.
///
/// ```
/// use postrider_core::Channels;
///
/// let channels = Channels::try_from(vec!["b".to_owned(), "a".to_owned(), "b".to_owned()])?;
/// assert_eq!(channels.iter().collect::<Vec<_>>(), ["a", "b"]);
/// assert!(Channels::try_from(Vec::new()).is_err());
/// # Ok::<(), postrider_core::channels::ChannelsError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Channels(Arc<str>);

/// These are not channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChannelsError {
    /// There are none, or too many.
    #[error("must have 1 to {} channels", Channels::MAX)]
    Count,
    /// One has a character that none has, or too many.
    #[error("a channel must have 1 to 128 characters of A-Z, a-z, 0-9, `.`, `_`, `:`, `+` and `-`")]
    Word,
}

impl Channels {
    /// The most channels of a set.
    pub const MAX: usize = 10;

    /// Returns the channels in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.split(SEPARATOR)
    }

    /// Returns the channels in their order, with spaces between them.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether both sets have a channel in common.
    pub fn share_one(&self, other: &Self) -> bool {
        self.iter().any(|channel| other.iter().any(|known| known == channel))
    }

    fn of<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self, ChannelsError> {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b':' | b'+' | b'-');
        let mut channels = BTreeSet::new();
        // Those given twice count, so that the work is bounded.
        for (place, word) in words.enumerate() {
            if place >= Self::MAX {
                return Err(ChannelsError::Count);
            }
            if !(1..=128).contains(&word.len()) || !word.bytes().all(allowed) {
                return Err(ChannelsError::Word);
            }
            channels.insert(word);
        }
        if channels.is_empty() {
            return Err(ChannelsError::Count);
        }
        Ok(Self(channels.into_iter().collect::<Vec<_>>().join(" ").into()))
    }
}

impl TryFrom<Vec<String>> for Channels {
    type Error = ChannelsError;

    fn try_from(words: Vec<String>) -> Result<Self, ChannelsError> {
        Self::of(words.iter().map(String::as_str))
    }
}

impl From<Channels> for Vec<String> {
    fn from(channels: Channels) -> Self {
        channels.iter().map(str::to_owned).collect()
    }
}

/// Reads what [`Channels::as_str`] has written.
impl FromStr for Channels {
    type Err = ChannelsError;

    fn from_str(text: &str) -> Result<Self, ChannelsError> {
        Self::of(text.split(SEPARATOR))
    }
}

impl fmt::Display for Channels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn channels(words: &[&str]) -> Result<Channels, ChannelsError> {
        words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>().try_into()
    }

    #[test]
    fn channels_are_a_set() {
        assert_eq!(channels(&["b", "a", "b"]), channels(&["a", "b"]));
        let stored = channels(&["room:1", "x+y-z", "A.b_c"]).unwrap();
        assert_eq!(stored.as_str().parse(), Ok(stored));
    }

    #[test]
    fn sets_share_whole_channels_only() {
        let [one, two, three] = [&["a", "b"][..], &["b", "c"], &["ab"]].map(|words| channels(words).unwrap());
        assert!(one.share_one(&two) && !one.share_one(&three));
    }

    #[test]
    fn invalid_channels_are_refused() {
        let longest = "x".repeat(128);
        assert!(channels(&[&longest]).is_ok() && channels(&["x"; Channels::MAX]).is_ok());
        let too_long = "x".repeat(129);
        for word in ["", " ", "a b", "a/b", "ä", "a\0", &too_long] {
            assert_eq!(channels(&["ok", word]), Err(ChannelsError::Word), "{word:?}");
        }
        assert_eq!(channels(&[]), Err(ChannelsError::Count));
        assert_eq!(channels(&["x"; Channels::MAX + 1]), Err(ChannelsError::Count));
    }
}
