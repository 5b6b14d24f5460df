//! JSON Pointers ([RFC 6901](https://www.rfc-editor.org/rfc/rfc6901)): `/card/number`, `/items/0`.

use std::fmt;
use std::str::FromStr;

/// Names a value inside a JSON document: a `/` before each step, `~1` for a `/` and `~0` for a `~` inside a step. Empty
/// text is the whole document. `-` is the place past an array's end.
///
/// ```
/// use postrider_core::json::Pointer;
///
/// let pointer: Pointer = "/a~1b/0".parse()?;
/// assert_eq!(pointer.steps(), ["a/b", "0"]);
/// assert!("card".parse::<Pointer>().is_err());
/// # Ok::<(), postrider_core::json::PointerError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Pointer(Vec<String>);

/// Why a text is not a JSON Pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PointerError {
    /// The text does not begin with `/`.
    #[error("a JSON Pointer begins with `/`, as in `/card/number`")]
    Slash,
    /// A `~` is followed by neither `0` nor `1`.
    #[error("in a JSON Pointer `~` is written `~0`, and `/` inside a key `~1`")]
    Tilde,
    /// The pointer has more than [`Pointer::MAX_STEPS`] steps.
    #[error("a JSON Pointer has at most {} steps", Pointer::MAX_STEPS)]
    TooDeep,
}

impl Pointer {
    /// The most steps of a pointer: the depth to which an event's data may nest.
    pub const MAX_STEPS: usize = crate::EventData::MAX_DEPTH;

    /// Returns the keys and indexes of the path.
    pub fn steps(&self) -> &[String] {
        &self.0
    }

    /// Returns whether the pointer is the whole document.
    pub fn is_whole(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the place of `key` in the object that holds this place; of the whole document, a key of it.
    ///
    /// ```
    /// use postrider_core::json::Pointer;
    ///
    /// let pointer: Pointer = "/contact/mail".parse()?;
    /// assert_eq!(pointer.sibling("email").to_string(), "/contact/email");
    /// # Ok::<(), postrider_core::json::PointerError>(())
    /// ```
    #[must_use]
    pub fn sibling(&self, key: &str) -> Self {
        let parent = self.0.split_last().map_or(&[][..], |(_, parent)| parent);
        Self(parent.iter().cloned().chain([key.to_owned()]).collect())
    }

    /// Returns the array index that a step names: digits without a leading zero (RFC 6901, §4).
    pub fn index(step: &str) -> Option<usize> {
        let canonical =
            step == "0" || (!step.starts_with('0') && step.bytes().all(|byte| byte.is_ascii_digit()));
        if canonical { step.parse().ok() } else { None }
    }

    /// Returns whether `other` is the same place or inside it.
    pub fn holds(&self, other: &Self) -> bool {
        other.0.starts_with(&self.0)
    }
}

impl FromStr for Pointer {
    type Err = PointerError;

    fn from_str(text: &str) -> Result<Self, PointerError> {
        if text.is_empty() {
            return Ok(Self(Vec::new()));
        }
        let steps = text.strip_prefix('/').ok_or(PointerError::Slash)?;
        let steps: Vec<String> = steps.split('/').map(unescape).collect::<Result<_, _>>()?;
        if steps.len() > Self::MAX_STEPS { Err(PointerError::TooDeep) } else { Ok(Self(steps)) }
    }
}

fn unescape(step: &str) -> Result<String, PointerError> {
    let mut plain = String::with_capacity(step.len());
    let mut characters = step.chars();
    while let Some(character) = characters.next() {
        plain.push(match character {
            '~' => match characters.next() {
                Some('0') => '~',
                Some('1') => '/',
                _ => return Err(PointerError::Tilde),
            },
            other => other,
        });
    }
    Ok(plain)
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|step| write!(f, "/{}", step.replace('~', "~0").replace('/', "~1")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_examples_of_rfc_6901_parse() {
        for (text, steps) in [
            ("", &[][..]),
            ("/foo", &["foo"]),
            ("/foo/0", &["foo", "0"]),
            ("/", &[""]),
            ("/a~1b", &["a/b"]),
            ("/c%d", &["c%d"]),
            ("/ ", &[" "]),
            ("/m~0n", &["m~n"]),
            ("/~01", &["~1"]),
        ] {
            assert_eq!(text.parse::<Pointer>().unwrap().steps(), steps, "{text}");
        }
        assert_eq!("foo".parse::<Pointer>(), Err(PointerError::Slash));
        assert_eq!("/a~".parse::<Pointer>(), Err(PointerError::Tilde));
        assert_eq!("/a~2".parse::<Pointer>(), Err(PointerError::Tilde));
        assert_eq!("/a".repeat(101).parse::<Pointer>(), Err(PointerError::TooDeep));
    }

    #[test]
    fn an_index_has_one_canonical_form() {
        for (step, expected) in
            [("0", Some(0)), ("10", Some(10)), ("01", None), ("", None), ("-1", None), ("+1", None)]
        {
            assert_eq!(Pointer::index(step), expected, "{step}");
        }
    }

    proptest! {
        #[test]
        fn a_printed_pointer_parses_to_itself(steps in prop::collection::vec("[a~/0-2é]{0,4}", 0..5)) {
            let pointer = Pointer(steps);
            prop_assert_eq!(pointer.to_string().parse::<Pointer>(), Ok(pointer));
        }
    }
}
