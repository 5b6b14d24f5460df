//! Metadata: texts that applications note about something, by name.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Texts by name, of at most [`Metadata::MAX_BYTES`] bytes in all.
///
/// ```
/// use postrider_core::Metadata;
/// use std::collections::BTreeMap;
///
/// let noted = BTreeMap::from([("plan".to_owned(), "gold".to_owned())]);
/// let metadata = Metadata::try_from(noted)?;
/// assert_eq!(metadata.iter().next(), Some(("plan", "gold")));
/// assert!(Metadata::try_from(BTreeMap::from([("note".to_owned(), "x".repeat(5000))])).is_err());
/// # Ok::<(), postrider_core::metadata::MetadataError>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, String>", into = "BTreeMap<String, String>")]
pub struct Metadata(BTreeMap<String, String>);

/// The texts are too long.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must have at most {} bytes in all, names and texts together", Metadata::MAX_BYTES)]
pub struct MetadataError;

impl Metadata {
    /// The most bytes of names and texts together.
    pub const MAX_BYTES: usize = 4096;

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the names and texts, in the order of the names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, text)| (name.as_str(), text.as_str()))
    }

    /// Merges changes by name: a text replaces the one of that name, and `None` removes it (RFC 7396).
    ///
    /// # Errors
    /// Fails if the result would be too long.
    pub fn merged(
        self,
        changes: impl IntoIterator<Item = (String, Option<String>)>,
    ) -> Result<Self, MetadataError> {
        let Self(mut texts) = self;
        for (name, text) in changes {
            match text {
                Some(text) => texts.insert(name, text),
                None => texts.remove(&name),
            };
        }
        texts.try_into()
    }
}

impl TryFrom<BTreeMap<String, String>> for Metadata {
    type Error = MetadataError;

    fn try_from(texts: BTreeMap<String, String>) -> Result<Self, MetadataError> {
        let bytes: usize = texts.iter().map(|(name, text)| name.len() + text.len()).sum();
        if bytes <= Self::MAX_BYTES { Ok(Self(texts)) } else { Err(MetadataError) }
    }
}

impl From<Metadata> for BTreeMap<String, String> {
    fn from(Metadata(texts): Metadata) -> Self {
        texts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_merged_by_name() {
        let text = |text: &str| Some(text.to_owned());
        let all = Metadata::default().merged([("a".into(), text("1")), ("b".into(), text("2"))]).unwrap();
        let merged = all.merged([("a".into(), None), ("c".into(), text("3")), ("d".into(), None)]).unwrap();
        assert_eq!(merged.iter().collect::<Vec<_>>(), [("b", "2"), ("c", "3")]);
        let long = "x".repeat(Metadata::MAX_BYTES - 1);
        assert!(Metadata::default().merged([("n".into(), text(&long))]).is_ok());
        assert_eq!(merged.merged([("n".into(), text(&long))]), Err(MetadataError));
    }
}
