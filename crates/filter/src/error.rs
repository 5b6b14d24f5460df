//! Why an expression was rejected, or could not be evaluated.

use std::fmt;

use cel::ExecutionError;

/// An expression is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{position}{reason}")]
pub struct Rejected {
    /// Where in the text the reason is.
    pub position: Position,
    /// Why.
    pub reason: Reason,
}

/// A place in the text of an expression.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Position {
    /// A character of it. Both numbers begin with 1.
    At {
        /// The line.
        line: usize,
        /// The character in the line.
        column: usize,
    },
    /// The whole of it.
    Whole,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At { line, column } => write!(f, "line {line}, column {column}: "),
            Self::Whole => Ok(()),
        }
    }
}

/// Why an expression is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Reason {
    /// It is not CEL. The text is the parser's.
    #[error("{0}")]
    Syntax(String),
    /// It has too many parts.
    #[error("the expression has more than {} nodes", crate::limits::MAX_NODES)]
    TooLarge,
    /// It nests too deeply.
    #[error("the expression nests more than {} levels deep", crate::limits::MAX_DEPTH)]
    TooDeep,
    /// It uses a name that does not exist.
    #[error("there is no `{0}`: use `event`, `data`, or the variable of a loop")]
    UnknownName(String),
    /// It calls a function that does not exist, or in a way that does not exist.
    #[error("there is no function `{0}` with these arguments")]
    UnknownFunction(String),
    /// A pattern is not written out.
    #[error("the pattern of `matches` must be a literal text")]
    PatternNotLiteral,
    /// A pattern is not one.
    #[error("the pattern of `matches` is invalid or too large: {0}")]
    Pattern(String),
    /// A loop is inside a loop.
    #[error("a loop must not be inside another one")]
    NestedLoop,
    /// Something is built in each turn of a loop.
    #[error("a loop must not build lists, maps or texts")]
    Building,
    /// A loop goes over a map that the expression itself makes, which has no order.
    #[error("a loop must not go over a map that the expression makes, since such a map has no order")]
    UnorderedLoop,
    /// A list is searched in each turn of a loop.
    #[error("inside a loop, `in` takes only a list of literals")]
    Searching,
    /// A variable has the name of something else.
    #[error("a loop's variable must not be called `{0}`")]
    Shadowing(String),
    /// It has something that events do not have.
    #[error("{0} are not supported")]
    Unsupported(&'static str),
    /// It is a filter and cannot give a boolean.
    #[error("a filter must give true or false")]
    NotBoolean,
    /// It is a projection and cannot give a map.
    #[error("a projection must give a map with `data`, and `headers` if it likes: {{\"data\": …}}")]
    NotMap,
    /// The library failed on it.
    #[error("the expression cannot be compiled")]
    Internal,
}

impl Reason {
    pub(crate) fn whole(self) -> Rejected {
        Rejected { position: Position::Whole, reason: self }
    }
}

/// An expression could not be evaluated for an event. The message shows nothing of the event.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Failed {
    /// The event has no such member.
    #[error("the event has no `{0}`; ask with has() before")]
    NoSuchKey(String),
    /// Values are of types that do not go together.
    #[error("{0}")]
    Types(String),
    /// A value that does not depend on a loop is too large for one, or could not be evaluated.
    #[error(
        "what a loop compares with must be a number, a boolean or a text of at most {} bytes",
        crate::limits::MAX_HOISTED
    )]
    Hoisted,
    /// The event is too large for its filters: their loops and comparisons would take too long.
    #[error("the event is too large for what is asked of it: its loops and comparisons take too many steps")]
    TooMuch,
    /// A calculation went wrong: an overflow, a division by zero, an index past the end.
    #[error("a calculation failed: an overflow, a division by zero, or an index past the end of a list")]
    Arithmetic,
    /// A filter did not give a boolean.
    #[error("the filter gave neither true nor false")]
    NotBoolean,
    /// A projection did not give a map with `data`.
    #[error("the projection gave no map with `data` in it")]
    NotMap,
    /// A value of a projection has no JSON form.
    #[error("the projection gave a value that JSON lacks")]
    NotJson,
    /// A header of a projection is not text.
    #[error("a header of the projection is not text")]
    Header,
    /// A projection gave too much.
    #[error("the projection gave more than {0} bytes")]
    TooLong(usize),
    /// The library failed.
    #[error("the expression could not be evaluated")]
    Internal,
}

impl Failed {
    /// Not `From`, which would make a type of the library a part of this crate's interface.
    pub(crate) fn of(error: ExecutionError) -> Self {
        match error {
            ExecutionError::NoSuchKey(key) => Self::NoSuchKey(key.as_str().to_owned()),
            ExecutionError::UndeclaredReference(name) if name.starts_with('@') => Self::Hoisted,
            ExecutionError::NoSuchOverload(overload) => Self::Types(format!(
                "`{}` does not apply to {}",
                overload.function(),
                overload.argument_types().join(" and ")
            )),
            ExecutionError::UnexpectedType { got, want } => {
                Self::Types(format!("got {got} instead of {want}"))
            }
            ExecutionError::UnsupportedBinaryOperator(operator, ..) => {
                Self::Types(format!("`{operator}` does not apply to these types"))
            }
            ExecutionError::DivisionByZero(_)
            | ExecutionError::RemainderByZero(_)
            | ExecutionError::Overflow(..)
            | ExecutionError::IndexOutOfBounds(_) => Self::Arithmetic,
            ExecutionError::FunctionError { function, .. } => {
                Self::Types(format!("`{function}` failed for this value"))
            }
            _ => Self::Internal,
        }
    }
}
