//! Functions and operators.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, operators};

use super::Checker;
use super::presence::call;
use crate::error::{Reason, Rejected};
use crate::functions::{EQUAL, FITS, Pattern};
use crate::program::pattern_name;
use crate::shape::{is_accumulator, is_literal, literal_text};

/// The operators, with the number of their operands.
const OPERATORS: [(&str, usize); 19] = [
    (operators::CONDITIONAL, 3),
    (operators::LOGICAL_AND, 2),
    (operators::LOGICAL_OR, 2),
    (operators::LOGICAL_NOT, 1),
    (operators::NOT_STRICTLY_FALSE, 1),
    (operators::ADD, 2),
    (operators::SUBSTRACT, 2),
    (operators::MULTIPLY, 2),
    (operators::DIVIDE, 2),
    (operators::MODULO, 2),
    (operators::EQUALS, 2),
    (operators::NOT_EQUALS, 2),
    (operators::GREATER, 2),
    (operators::GREATER_EQUALS, 2),
    (operators::LESS, 2),
    (operators::LESS_EQUALS, 2),
    (operators::NEGATE, 1),
    (operators::INDEX, 2),
    (operators::IN, 2),
];

/// The functions, with the number of their arguments. All of them can also be called on their first argument, but the last
/// seven.
const FUNCTIONS: [(&str, usize); 5] =
    [("size", 1), ("contains", 2), ("startsWith", 2), ("endsWith", 2), ("matches", 2)];
const CONVERSIONS: [&str; 7] = ["int", "uint", "double", "string", "bool", "type", "dyn"];

impl Checker<'_> {
    pub(super) fn call(&mut self, expr: IdedExpr, depth: usize) -> Result<IdedExpr, Rejected> {
        let whole = IdedExpr { id: expr.id, expr: Expr::Unspecified };
        let IdedExpr { id, expr: Expr::Call(CallExpr { func_name, target, args }) } = expr else {
            return Ok(expr);
        };
        let name = func_name.as_str();
        let given = args.len() + usize::from(target.is_some());
        let is_operator = OPERATORS.contains(&(name, given)) && target.is_none();
        let is_method = FUNCTIONS.contains(&(name, given));
        let is_conversion = CONVERSIONS.contains(&name) && given == 1 && target.is_none();
        // `size` alone can also be called as a function.
        let is_known = is_operator
            || is_conversion
            || (is_method && (target.is_some() || matches!(name, "size" | "matches")));
        if !is_known {
            return Err(self.rejected(&whole, Reason::UnknownFunction(func_name)));
        }
        let mut arguments: Vec<IdedExpr> = target.into_iter().map(|target| *target).collect();
        let is_method = !arguments.is_empty();
        arguments.extend(args);
        if name == "matches" {
            return self.matches(&whole, arguments, depth);
        }
        if self.variable.is_some() {
            self.check_in_loop(&whole, name, &arguments)?;
        }
        let mut checked = Vec::with_capacity(arguments.len());
        let builds_result = name == operators::ADD && arguments.first().is_some_and(is_accumulator);
        for (place, argument) in arguments.into_iter().enumerate() {
            let is_list = matches!(argument.expr, Expr::List(_));
            let is_machinery = (builds_result || name == operators::IN) && place == 1 && is_list;
            checked.push(if is_machinery {
                self.list(argument, depth)?
            } else {
                self.expr(argument, depth + 1)?
            });
        }
        Ok(match name {
            operators::EQUALS if needs_own(&checked) => call(EQUAL, checked),
            operators::NOT_EQUALS if needs_own(&checked) => {
                call(operators::LOGICAL_NOT, vec![call(EQUAL, checked)])
            }
            _ => {
                let target = if is_method { Some(Box::new(checked.remove(0))) } else { None };
                IdedExpr { id, expr: Expr::Call(CallExpr { func_name, target, args: checked }) }
            }
        })
    }

    /// Compiles the pattern of `matches`.
    fn matches(
        &mut self,
        whole: &IdedExpr,
        mut arguments: Vec<IdedExpr>,
        depth: usize,
    ) -> Result<IdedExpr, Rejected> {
        let (Some(pattern), Some(text)) = (arguments.pop(), arguments.pop()) else {
            return Err(self.rejected(whole, Reason::UnknownFunction("matches".to_owned())));
        };
        let literal =
            literal_text(&pattern).ok_or_else(|| self.rejected(&pattern, Reason::PatternNotLiteral))?;
        let compiled = Pattern::compile(literal).map_err(|error| {
            let message = error.to_string();
            let message = message.lines().last().unwrap_or_default().chars().take(200).collect();
            self.rejected(&pattern, Reason::Pattern(message))
        })?;
        let name = Expr::Ident(pattern_name(self.patterns.len()));
        self.patterns.push(compiled);
        let text = self.expr(text, depth + 1)?;
        Ok(call(FITS, vec![text, IdedExpr { id: pattern.id, expr: name }]))
    }

    /// Refuses what would make each turn of a loop cost as much as the event is large.
    fn check_in_loop(&self, whole: &IdedExpr, name: &str, arguments: &[IdedExpr]) -> Result<(), Rejected> {
        match (name, arguments) {
            (operators::IN, [_, list]) => match &list.expr {
                Expr::List(list) if list.elements.iter().all(is_literal) => Ok(()),
                _ => Err(self.rejected(whole, Reason::Searching)),
            },
            (operators::ADD, operands) if operands.iter().any(gives_text) => {
                Err(self.rejected(whole, Reason::Building))
            }
            _ => Ok(()),
        }
    }
}

fn gives_text(expr: &IdedExpr) -> bool {
    literal_text(expr).is_some() || matches!(&expr.expr, Expr::Call(call) if call.func_name == "string")
}

/// Whether the library might compare a list or map of its own with one from JSON. It cannot if one side is a literal.
fn needs_own(operands: &[IdedExpr]) -> bool {
    !operands.iter().any(is_literal)
}
