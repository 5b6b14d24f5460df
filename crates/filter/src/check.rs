//! The bounds of an expression, and what is rewritten in it.

mod call;
mod looping;
mod presence;

use cel::IdedExpr;
use cel::common::ast::{EntryExpr, Expr, IdedEntryExpr, ListExpr, SourceInfo};

use crate::error::{Position, Reason, Rejected};
use crate::functions::Pattern;
use crate::limits::{MAX_DEPTH, MAX_NODES};
use crate::shape::{ACCUMULATOR, Gives, VARIABLES, gives, is_type};

/// An expression that keeps the bounds, as it is to be evaluated.
pub(crate) struct Checked {
    pub(crate) expr: IdedExpr,
    pub(crate) nodes: u32,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) hoisted: Vec<IdedExpr>,
    pub(crate) outermost: Outermost,
}

/// The outermost operation of an expression.
pub(crate) struct Outermost {
    pub(crate) gives: Gives,
    position: Position,
}

impl Outermost {
    pub(crate) fn rejected(&self, reason: Reason) -> Rejected {
        Rejected { position: self.position, reason }
    }
}

/// What an expression is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    Filter,
    /// Its loops may build maps, which hold no more than the turns' own elements.
    Projection,
}

pub(crate) fn check(expr: IdedExpr, source: &SourceInfo, purpose: Purpose) -> Result<Checked, Rejected> {
    let mut checker =
        Checker { source, purpose, nodes: 0, patterns: Vec::new(), hoisted: Vec::new(), variable: None };
    let outermost = Outermost { gives: gives(&expr), position: checker.position(&expr) };
    let expr = checker.expr(expr, 1)?;
    let Checker { nodes, patterns, hoisted, .. } = checker;
    let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
    Ok(Checked { expr, nodes, patterns, hoisted, outermost })
}

struct Checker<'s> {
    source: &'s SourceInfo,
    purpose: Purpose,
    nodes: usize,
    patterns: Vec<Pattern>,
    hoisted: Vec<IdedExpr>,
    /// The variable of the loop that the present part is in.
    variable: Option<String>,
}

impl Checker<'_> {
    /// Checks and rewrites a part.
    fn expr(&mut self, expr: IdedExpr, depth: usize) -> Result<IdedExpr, Rejected> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(self.rejected(&expr, Reason::TooLarge));
        }
        if depth > MAX_DEPTH {
            return Err(self.rejected(&expr, Reason::TooDeep));
        }
        if self.variable.is_some() && self.is_invariant(&expr) {
            return self.hoist(expr, depth);
        }
        match expr.expr {
            Expr::Literal(_) => Ok(expr),
            Expr::Ident(ref name) => {
                if self.knows(name) {
                    Ok(expr)
                } else {
                    let reason = Reason::UnknownName(name.clone());
                    Err(self.rejected(&expr, reason))
                }
            }
            Expr::Select(_) => self.select(expr, depth),
            Expr::Call(_) => self.call(expr, depth),
            Expr::Comprehension(_) => self.comprehension(expr, depth),
            Expr::List(ref list) => {
                if self.variable.is_some() || !list.optional_indices.is_empty() {
                    return Err(self.rejected(&expr, Reason::Building));
                }
                self.list(expr, depth)
            }
            Expr::Map(_) => {
                if self.variable.is_some() && self.purpose == Purpose::Filter {
                    return Err(self.rejected(&expr, Reason::Building));
                }
                self.map(expr, depth)
            }
            Expr::Struct(_) => Err(self.rejected(&expr, Reason::Unsupported("messages"))),
            Expr::Unspecified => Err(self.rejected(&expr, Reason::Internal)),
        }
    }

    fn knows(&self, name: &str) -> bool {
        VARIABLES.contains(&name)
            || is_type(name)
            || self.variable.as_deref() == Some(name)
            || (self.variable.is_some() && name == ACCUMULATOR)
    }

    fn list(&mut self, expr: IdedExpr, depth: usize) -> Result<IdedExpr, Rejected> {
        let IdedExpr { id, expr: Expr::List(list) } = expr else { return Ok(expr) };
        let elements = list.elements.into_iter().map(|element| self.expr(element, depth + 1));
        let elements = elements.collect::<Result<_, _>>()?;
        Ok(IdedExpr { id, expr: Expr::List(ListExpr::new(elements)) })
    }

    fn map(&mut self, expr: IdedExpr, depth: usize) -> Result<IdedExpr, Rejected> {
        let IdedExpr { id, expr: Expr::Map(mut map) } = expr else { return Ok(expr) };
        let mut entries = Vec::with_capacity(map.entries.len());
        for IdedEntryExpr { id, expr } in std::mem::take(&mut map.entries) {
            let EntryExpr::MapEntry(mut entry) = expr else { return Err(Reason::Internal.whole()) };
            if entry.optional {
                return Err(self.rejected(&entry.key, Reason::Unsupported("optional values")));
            }
            entry.key = self.expr(entry.key, depth + 1)?;
            entry.value = self.expr(entry.value, depth + 1)?;
            entries.push(IdedEntryExpr { id, expr: EntryExpr::MapEntry(entry) });
        }
        map.entries = entries;
        Ok(IdedExpr { id, expr: Expr::Map(map) })
    }

    fn rejected(&self, expr: &IdedExpr, reason: Reason) -> Rejected {
        Rejected { position: self.position(expr), reason }
    }

    fn position(&self, expr: &IdedExpr) -> Position {
        let Some((start, _)) = self.source.offset_for(expr.id) else { return Position::Whole };
        let before: Vec<char> = self.source.source.chars().take(start as usize).collect();
        let line = 1 + before.iter().filter(|character| **character == '\n').count();
        let column = 1 + before.iter().rev().take_while(|character| **character != '\n').count();
        Position::At { line, column }
    }
}
