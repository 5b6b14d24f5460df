//! Selecting members, and asking whether they are there.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, Expr, LiteralValue, operators};
use cel::common::types::CelString;

use super::Checker;
use crate::error::Rejected;
use crate::functions::HAS;

impl Checker<'_> {
    pub(super) fn select(&mut self, expr: IdedExpr, depth: usize) -> Result<IdedExpr, Rejected> {
        let IdedExpr { id, expr: Expr::Select(mut select) } = expr else { return Ok(expr) };
        let operand = self.expr(*std::mem::take(&mut select.operand), depth + 1)?;
        if select.test {
            return Ok(is_there(&operand, key(&select.field)));
        }
        *select.operand = operand;
        Ok(IdedExpr { id, expr: Expr::Select(select) })
    }
}

/// Whether a value has a member, asked from the outermost value inwards: `has(data.a.b)` is false if there is no `data.a`, and if
/// it is null or a number.
fn is_there(operand: &IdedExpr, key: IdedExpr) -> IdedExpr {
    let has = call(HAS, vec![operand.clone(), key]);
    let outer = match &operand.expr {
        Expr::Select(select) => Some(is_there(&select.operand, self::key(&select.field))),
        Expr::Call(CallExpr { func_name, args, target: None }) if func_name == operators::INDEX => {
            match args.as_slice() {
                [of, index] if matches!(index.expr, Expr::Literal(_)) => Some(is_there(of, index.clone())),
                _ => None,
            }
        }
        _ => None,
    };
    match outer {
        Some(outer) => call(operators::LOGICAL_AND, vec![outer, has]),
        None => has,
    }
}

fn key(name: &str) -> IdedExpr {
    let text = LiteralValue::String(CelString::from(name.to_owned()));
    IdedExpr { id: 0, expr: Expr::Literal(text) }
}

pub(super) fn call(name: &str, args: Vec<IdedExpr>) -> IdedExpr {
    IdedExpr { id: 0, expr: Expr::Call(CallExpr { func_name: name.to_owned(), target: None, args }) }
}
