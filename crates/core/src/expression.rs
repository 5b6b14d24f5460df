//! The text of an expression in the [Common Expression Language](https://cel.dev) (CEL).
//!
//! This crate only bounds the text. `postrider-filter` compiles and evaluates it.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::signing::sha256;

/// The text of an expression: 1 to 4,096 bytes without NUL.
///
/// ```
/// use postrider_core::Expression;
///
/// let filter: Expression = "data.total > 100".parse()?;
/// assert_eq!(filter.id(), "data.total > 100".parse::<Expression>()?.id());
/// assert!("".parse::<Expression>().is_err());
/// # Ok::<(), postrider_core::expression::ExpressionError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression(Arc<str>);

/// Stands for the text of an expression: the first 16 bytes of its SHA-256. A changed text has another id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExpressionId(Uuid);

/// A text is no expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// It is empty or too long.
    #[error("an expression must have 1 to {} bytes", Expression::MAX_LENGTH)]
    Length,
    /// It has a NUL character.
    #[error("an expression must not have NUL characters")]
    Nul,
}

impl Expression {
    /// The most bytes of an expression.
    pub const MAX_LENGTH: usize = 4096;

    /// Returns the text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns what stands for the text.
    pub fn id(&self) -> ExpressionId {
        ExpressionId::of(self.0.as_bytes())
    }
}

impl ExpressionId {
    /// What stands for a text.
    pub fn of(text: &[u8]) -> Self {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&sha256(text)[..16]);
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the id as it is stored.
    pub fn uuid(self) -> Uuid {
        self.0
    }

    /// Restores an id from its stored form.
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

/// Prints 32 hexadecimal digits.
impl fmt::Display for ExpressionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.simple().fmt(f)
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        if !(1..=Self::MAX_LENGTH).contains(&text.len()) {
            return Err(ExpressionError::Length);
        }
        // PostgreSQL's text type cannot hold it.
        if text.contains('\0') { Err(ExpressionError::Nul) } else { Ok(Self(text.into())) }
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, ExpressionError> {
        text.parse()
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.0.as_ref().to_owned()
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_length_is_bounded() {
        assert_eq!("".parse::<Expression>(), Err(ExpressionError::Length));
        assert!("x".repeat(4096).parse::<Expression>().is_ok());
        assert_eq!("x".repeat(4097).parse::<Expression>(), Err(ExpressionError::Length));
        assert_eq!("x\0".parse::<Expression>(), Err(ExpressionError::Nul));
    }

    #[test]
    fn another_text_has_another_id() {
        let id = |text: &str| text.parse::<Expression>().map(|expression| expression.id());
        assert_ne!(id("a"), id("a "));
    }
}
