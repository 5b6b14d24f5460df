//! Printing an error with its causes.

use std::error::Error;
use std::fmt;

/// Prints `error` and each of its causes on one line, as in `cannot connect: connection refused`.
///
/// In this workspace the `Display` of an error never repeats its `source`, so every log line and message prints errors
/// through this function.
///
/// ```
/// use postrider_core::chain;
///
/// let error = "seven".parse::<u32>().unwrap_err();
/// assert_eq!(chain(&error).to_string(), "invalid digit found in string");
/// ```
pub fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl fmt::Display + fmt::Debug + 'a {
    Chain(error)
}

#[derive(Debug)]
struct Chain<'a>(&'a (dyn Error + 'static));

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut last = self.0.to_string();
        f.write_str(&last)?;
        let mut next = self.0.source();
        while let Some(cause) = next {
            next = cause.source();
            let text = cause.to_string();
            // Errors of other crates may print their source themselves; SeaORM's do.
            if !last.ends_with(&text) {
                write!(f, ": {text}")?;
                last = text;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the batch was not written")]
    struct Outer(#[source] Middle);

    /// Prints its source, as some crates do.
    #[derive(Debug, thiserror::Error)]
    #[error("the statement failed: {0}")]
    struct Middle(#[source] std::num::ParseIntError);

    #[test]
    fn each_cause_is_printed_once() {
        let source = "x".parse::<u8>().expect_err("not a number");
        let error = Outer(Middle(source));
        assert_eq!(
            chain(&error).to_string(),
            "the batch was not written: the statement failed: invalid digit found in string"
        );
    }
}
