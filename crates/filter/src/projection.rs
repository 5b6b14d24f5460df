//! Projections: expressions that make the data which a subscriber gets.

use cel::common::types::CelString;
use cel::common::value::Val;
use postrider_core::Expression;

use crate::check::Purpose;
use crate::error::{Failed, Reason, Rejected};
use crate::program::Program;
use crate::shape::Gives;
use crate::subject::Subject;
use crate::write::{members, to_json};

/// A compiled projection.
#[derive(Debug)]
pub struct Projection(Program);

/// What a projection gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Projected {
    /// The data in JSON. The members of objects are sorted by name, so that the same event gives the same bytes.
    pub data: String,
    /// Headers by name, in the order of their names. They are not checked.
    pub headers: Vec<(String, String)>,
}

impl Projection {
    /// Compiles an expression.
    ///
    /// # Errors
    /// Fails if the expression is not CEL, exceeds the [bounds](crate), or cannot give a map.
    pub fn compile(expression: &Expression) -> Result<Self, Rejected> {
        let (program, outermost) = Program::compile(expression, Purpose::Projection)?;
        match outermost.gives {
            Gives::Map | Gives::Unknown => Ok(Self(program)),
            Gives::Boolean | Gives::Other => Err(outermost.rejected(Reason::NotMap)),
        }
    }

    /// Evaluates the projection for an event: a map with `data` and, if it likes, `headers`. The data has at most `max` bytes.
    ///
    /// # Errors
    /// Fails if the event lacks what the projection asks for, or has it in another type, and if the result is not such a map
    /// or too long.
    pub fn project(&self, subject: &Subject, max: usize) -> Result<Projected, Failed> {
        self.0.evaluate(subject, |value| {
            let (mut data, mut headers) = (None, Vec::new());
            for (key, value) in members(value).ok_or(Failed::NotMap)? {
                match key {
                    "data" => data = Some(to_json(value, max)?),
                    "headers" => headers = texts(value)?,
                    _ => return Err(Failed::NotMap),
                }
            }
            Ok(Projected { data: data.ok_or(Failed::NotMap)?, headers })
        })
    }
}

/// The most headers of a projection.
const MAX_HEADERS: usize = 20;

fn texts(value: &dyn Val) -> Result<Vec<(String, String)>, Failed> {
    let members = members(value).ok_or(Failed::Header)?;
    if members.len() > MAX_HEADERS {
        return Err(Failed::Header);
    }
    let texts = members.into_iter().map(|(name, value)| {
        let text = value.downcast_ref::<CelString<'_>>().ok_or(Failed::Header)?;
        Ok((name.to_owned(), text.inner().to_owned()))
    });
    texts.collect()
}
