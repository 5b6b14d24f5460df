//! An expression that was accepted: compiled once, evaluated often.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use cel::common::types::{CelBool, CelDouble, CelInt, CelNull, CelString, CelUInt};
use cel::common::value::{CowVal, Val};
use cel::parser::Parser;
use cel::{Context, IdedExpr, Value};
use postrider_core::Expression;

use crate::check::{self, Checked, Purpose};
use crate::error::{Failed, Position, Reason, Rejected};
use crate::functions::Pattern;
use crate::limits::MAX_HOISTED;
use crate::subject::Subject;

/// The most words and signs of an expression: more than 200 nodes have. The parser calls itself once for each of some of them.
const MAX_TOKENS: usize = 600;

/// The stack of the thread that compiles.
const STACK: usize = 16 * 1024 * 1024;

/// How deeply parentheses may nest, which are no nodes.
const MAX_PARENTHESES: u16 = 32;

pub(crate) struct Program {
    expr: IdedExpr,
    nodes: u32,
    patterns: Vec<Pattern>,
    /// What loops compare with, evaluated once before them.
    hoisted: Vec<IdedExpr>,
}

/// The name of the variable for a pattern.
pub(crate) fn pattern_name(place: usize) -> String {
    format!("@pattern{place}")
}

/// The name of the variable for what is evaluated before a loop.
pub(crate) fn hoisted_name(place: usize) -> String {
    format!("@before{place}")
}

impl Program {
    pub(crate) fn compile(text: &Expression, purpose: Purpose) -> Result<(Self, check::Outermost), Rejected> {
        let text = text.as_str();
        if tokens(text) > MAX_TOKENS {
            return Err(Reason::TooLarge.whole());
        }
        // The parser takes more stack for each level than an async runtime's thread has for all. A panic of it ends there, too.
        std::thread::scope(|scope| {
            let compiling =
                std::thread::Builder::new().stack_size(STACK).spawn_scoped(scope, || parse(text, purpose));
            let compiled = compiling.ok().and_then(|compiling| compiling.join().ok());
            compiled.unwrap_or_else(|| Err(Reason::Internal.whole()))
        })
    }

    /// Evaluates the expression, and gives the result to `then`.
    pub(crate) fn evaluate<T>(
        &self,
        subject: &Subject,
        then: impl FnOnce(&dyn Val) -> Result<T, Failed>,
    ) -> Result<T, Failed> {
        let evaluate = || {
            let context = subject.context();
            if self.patterns.is_empty() && self.hoisted.is_empty() {
                return then(Value::resolve_val(&self.expr, context).map_err(Failed::of)?.as_ref());
            }
            let mut scope = context.new_inner_scope();
            for (place, pattern) in self.patterns.iter().enumerate() {
                scope.add_variable_as_val(pattern_name(place), Box::new(pattern.clone()));
            }
            for (place, hoisted) in self.hoisted.iter().enumerate() {
                // What fails or is too large stays unknown, and is an error only if a loop asks for it.
                if let Some(value) = small(hoisted, &scope) {
                    scope.add_variable_as_val(hoisted_name(place), value);
                }
            }
            then(Value::resolve_val(&self.expr, &scope).map_err(Failed::of)?.as_ref())
        };
        // The library panics where it believes that its parser gave nonsense.
        let evaluate = || catch_unwind(AssertUnwindSafe(evaluate)).unwrap_or(Err(Failed::Internal));
        subject.steps().within(self.nodes, evaluate).unwrap_or(Err(Failed::TooMuch))
    }
}

fn parse(text: &str, purpose: Purpose) -> Result<(Program, check::Outermost), Rejected> {
    let parser = Parser::new().max_recursion_depth(MAX_PARENTHESES).error_recovery_limit(4);
    let (expr, source) = parser.parse_with_source_info(text).map_err(|errors| {
        let first = errors.errors.into_iter().next();
        first.map_or(Reason::Internal.whole(), |error| {
            let (line, column) = error.pos;
            let position = match (usize::try_from(line), usize::try_from(column)) {
                (Ok(line), Ok(column)) if line > 0 => Position::At { line, column: column.max(1) },
                _ => Position::Whole,
            };
            Rejected { position, reason: Reason::Syntax(first_line(&error.msg)) }
        })
    })?;
    let Checked { expr, nodes, patterns, hoisted, outermost } = check::check(expr, &source, purpose)?;
    Ok((Program { expr, nodes, patterns, hoisted }, outermost))
}

/// The value of an expression, if it costs nothing to compare with it often.
fn small(expr: &IdedExpr, context: &Context<'_, 'static>) -> Option<Box<dyn Val + 'static>> {
    let value: CowVal<'_, 'static> = Value::resolve_val(expr, context).ok()?;
    let is_small = match value.downcast_ref::<CelString<'_>>() {
        Some(text) => text.inner().len() <= MAX_HOISTED,
        None => {
            value.downcast_ref::<CelBool>().is_some()
                || value.downcast_ref::<CelInt>().is_some()
                || value.downcast_ref::<CelUInt>().is_some()
                || value.downcast_ref::<CelDouble>().is_some()
                || value.downcast_ref::<CelNull>().is_some()
        }
    };
    is_small.then(|| value.into_owned())
}

/// Counts words, texts and signs. Of a text that is not closed every part counts.
fn tokens(text: &str) -> usize {
    let mut count = 0;
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            _ if character.is_whitespace() => continue,
            '"' | '\'' => {
                while let Some(next) = characters.next() {
                    match next {
                        '\\' => _ = characters.next(),
                        _ if next == character => break,
                        _ => {}
                    }
                }
            }
            _ if character.is_alphanumeric() || character == '_' => {
                while characters.next_if(|next| next.is_alphanumeric() || *next == '_').is_some() {}
            }
            _ => {}
        }
        count += 1;
    }
    count
}

/// The parser's message without its list of all tokens that would do.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.split(" expecting ").next().unwrap_or_default();
    line.chars().take(200).collect()
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").finish_non_exhaustive()
    }
}
