//! Filters: expressions that say whether a subscriber gets an event.

use cel::common::types::CelBool;
use postrider_core::Expression;

use crate::check::Purpose;
use crate::error::{Failed, Reason, Rejected};
use crate::program::Program;
use crate::shape::Gives;
use crate::subject::Subject;

/// A compiled filter.
#[derive(Debug)]
pub struct Filter(Program);

impl Filter {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Fails if the expression is not CEL, exceeds the [bounds](crate), or cannot give a boolean.
    pub fn compile(expression: &Expression) -> Result<Self, Rejected> {
        let (program, outermost) = Program::compile(expression, Purpose::Filter)?;
        match outermost.gives {
            Gives::Boolean | Gives::Unknown => Ok(Self(program)),
            Gives::Map | Gives::Other => Err(outermost.rejected(Reason::NotBoolean)),
        }
    }

    /// Evaluates the filter for an event.
    ///
    /// # Errors
    /// Fails if the event lacks what the filter asks for, or has it in another type.
    pub fn matches(&self, subject: &Subject) -> Result<bool, Failed> {
        self.0.evaluate(subject, |value| {
            value.downcast_ref::<CelBool>().map(|value| *value.inner()).ok_or(Failed::NotBoolean)
        })
    }
}
