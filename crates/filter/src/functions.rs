//! The functions that expressions are rewritten to, because the library's own are slow, or wrong for JSON.

use std::any::Any;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::types::{CelBool, CelString, DYN_TYPE, STRING_TYPE, Type};
use cel::common::value::{CowVal, StaticVal, Val};
use cel::{Env, ExecutionError};
use regex::{Regex, RegexBuilder};

use crate::json::equal;

/// Whether two values are equal.
pub(crate) const EQUAL: &str = "@equal";
/// Whether a value is a map with this key, or a list with this index. Of anything else it is false, and no error.
pub(crate) const HAS: &str = "@has";
/// Whether a text fits a compiled pattern.
pub(crate) const FITS: &str = "@fits";

/// How large a compiled pattern may be.
const PATTERN_SIZE: usize = 64 * 1024;

static PATTERN: Type = Type::new_unspecified_type("pattern");

/// The functions of all expressions.
pub(crate) fn environment() -> Arc<Env> {
    static ENVIRONMENT: LazyLock<Arc<Env>> = LazyLock::new(|| {
        let mut env = Env::default().with_optional_support(false).with_stdlib();
        // They cannot fail: no other function has these names.
        let added = [
            env.add_overload(EQUAL, "equal", vec![DYN_TYPE, DYN_TYPE], is_equal),
            env.add_overload(HAS, "has", vec![DYN_TYPE, DYN_TYPE], has),
            env.add_overload(FITS, "fits", vec![STRING_TYPE, PATTERN.to_owned()], fits),
        ];
        debug_assert!(added.iter().all(Result::is_ok));
        Arc::new(env)
    });
    Arc::clone(&ENVIRONMENT)
}

#[allow(clippy::needless_pass_by_value, reason = "the library calls it")]
fn is_equal<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [one, other] = arguments.as_slice() else { return Err(ExecutionError::missing_argument_or_target()) };
    Ok(boolean(equal(one.as_ref(), other.as_ref())))
}

#[allow(clippy::needless_pass_by_value, reason = "the library calls it")]
fn has<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [value, key] = arguments.as_slice() else { return Err(ExecutionError::missing_argument_or_target()) };
    Ok(boolean(value.as_indexer().is_some_and(|value| value.get(key.as_ref()).is_ok())))
}

#[allow(clippy::needless_pass_by_value, reason = "the library calls it")]
fn fits<'b, 'v>(arguments: Vec<CowVal<'b, 'v>>) -> Result<CowVal<'b, 'v>, ExecutionError> {
    let [text, pattern] = arguments.as_slice() else {
        return Err(ExecutionError::missing_argument_or_target());
    };
    match (text.downcast_ref::<CelString<'_>>(), pattern.downcast_ref::<Pattern>()) {
        (Some(text), Some(Pattern(pattern))) => Ok(boolean(pattern.is_match(text.inner()))),
        _ => Err(ExecutionError::missing_argument_or_target()),
    }
}

fn boolean<'b, 'v>(value: bool) -> CowVal<'b, 'v> {
    CowVal::owned(CelBool::from(value))
}

/// A compiled pattern.
#[derive(Clone)]
pub(crate) struct Pattern(Arc<Regex>);

impl Pattern {
    /// Compiles a pattern. It matches in time that is linear in the text, as all of the crate `regex` do.
    pub(crate) fn compile(pattern: &str) -> Result<Self, regex::Error> {
        let mut builder = RegexBuilder::new(pattern);
        let regex = builder.size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).nest_limit(32).build()?;
        Ok(Self(Arc::new(regex)))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pattern").field(&self.0.as_str()).finish()
    }
}

impl Val for Pattern {
    fn get_type(&self) -> &Type {
        &PATTERN
    }

    fn cel_type() -> &'static Type {
        &PATTERN
    }

    fn clone_as_boxed<'v>(&self) -> Box<dyn Val + 'v> {
        Box::new(self.clone())
    }

    fn as_any(&self) -> Option<&dyn Any> {
        Some(self)
    }
}

impl StaticVal for Pattern {}
