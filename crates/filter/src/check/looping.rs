//! Loops: `exists`, `all`, `exists_one`, `map` and `filter`, which the parser has expanded.

use cel::IdedExpr;
use cel::common::ast::Expr;

use super::Checker;
use crate::error::{Reason, Rejected};
use crate::program::hoisted_name;
use crate::shape::{ACCUMULATOR, VARIABLES, has_loop, is_type, makes_map, uses};

impl Checker<'_> {
    pub(super) fn comprehension(&mut self, expr: IdedExpr, depth: usize) -> Result<IdedExpr, Rejected> {
        if self.variable.is_some() {
            return Err(self.rejected(&expr, Reason::NestedLoop));
        }
        let IdedExpr { id, expr: Expr::Comprehension(mut of) } = expr else { return Ok(expr) };
        let whole = IdedExpr { id, expr: Expr::Unspecified };
        if of.iter_var2.is_some() {
            return Err(self.rejected(&whole, Reason::Unsupported("loops with two variables")));
        }
        if VARIABLES.contains(&of.iter_var.as_str()) || is_type(&of.iter_var) {
            return Err(self.rejected(&whole, Reason::Shadowing(of.iter_var.clone())));
        }
        if makes_map(&of.iter_range) {
            return Err(self.rejected(&whole, Reason::UnorderedLoop));
        }
        of.iter_range = self.expr(std::mem::take(&mut of.iter_range), depth + 1)?;
        of.accu_init = self.expr(std::mem::take(&mut of.accu_init), depth + 1)?;
        self.variable = Some(of.iter_var.clone());
        let parts = [&mut of.loop_cond, &mut of.loop_step, &mut of.result];
        let checked = parts.into_iter().try_for_each(|part| {
            *part = self.expr(std::mem::take(part), depth + 1)?;
            Ok(())
        });
        self.variable = None;
        checked?;
        Ok(IdedExpr { id, expr: Expr::Comprehension(of) })
    }

    /// Whether a part of a loop asks for data, and for nothing that changes from turn to turn.
    pub(super) fn is_invariant(&self, expr: &IdedExpr) -> bool {
        let variable = self.variable.as_deref().unwrap_or_default();
        uses(expr, &VARIABLES) && !uses(expr, &[variable, ACCUMULATOR])
    }

    /// Takes a part out of a loop, to be evaluated once before it.
    pub(super) fn hoist(&mut self, expr: IdedExpr, depth: usize) -> Result<IdedExpr, Rejected> {
        if has_loop(&expr) {
            return Err(self.rejected(&expr, Reason::NestedLoop));
        }
        let id = expr.id;
        // It was counted as a part of the loop.
        self.nodes -= 1;
        let variable = self.variable.take();
        let checked = self.expr(expr, depth);
        self.variable = variable;
        let name = hoisted_name(self.hoisted.len());
        self.hoisted.push(checked?);
        Ok(IdedExpr { id, expr: Expr::Ident(name) })
    }
}
