//! What is asked of parts of an expression.

use cel::IdedExpr;
use cel::common::ast::{CallExpr, EntryExpr, Expr, LiteralValue, operators};

/// The names of types, which expressions compare with what `type()` gives.
const TYPES: [&str; 9] = ["bool", "int", "uint", "double", "string", "list", "map", "null_type", "type"];

/// The variable in which the library collects the result of a loop.
pub(crate) const ACCUMULATOR: &str = "@result";

/// The variables of every expression.
pub(crate) const VARIABLES: [&str; 2] = ["event", "data"];

pub(crate) fn is_type(name: &str) -> bool {
    TYPES.contains(&name)
}

pub(crate) fn is_accumulator(expr: &IdedExpr) -> bool {
    matches!(&expr.expr, Expr::Ident(name) if name == ACCUMULATOR)
}

pub(crate) fn is_literal(expr: &IdedExpr) -> bool {
    matches!(expr.expr, Expr::Literal(_))
}

/// The text of a literal.
pub(crate) fn literal_text(expr: &IdedExpr) -> Option<&str> {
    match &expr.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// Whether an expression uses one of these names.
pub(crate) fn uses(expr: &IdedExpr, names: &[&str]) -> bool {
    if let Expr::Ident(name) = &expr.expr {
        return names.contains(&name.as_str());
    }
    children(expr).into_iter().any(|child| uses(child, names))
}

/// Whether an expression has a loop.
pub(crate) fn has_loop(expr: &IdedExpr) -> bool {
    matches!(expr.expr, Expr::Comprehension(_)) || children(expr).into_iter().any(has_loop)
}

/// Whether an expression makes a map.
pub(crate) fn makes_map(expr: &IdedExpr) -> bool {
    matches!(expr.expr, Expr::Map(_)) || children(expr).into_iter().any(makes_map)
}

/// The parts of an expression.
pub(crate) fn children(expr: &IdedExpr) -> Vec<&IdedExpr> {
    match &expr.expr {
        Expr::Call(CallExpr { target, args, .. }) => target.iter().map(AsRef::as_ref).chain(args).collect(),
        Expr::Select(select) => vec![&select.operand],
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Struct(of) => of.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Comprehension(of) => {
            vec![&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result]
        }
        Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => Vec::new(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// What an expression may give, as far as its outermost operation tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Gives {
    Boolean,
    Map,
    Other,
    Unknown,
}

pub(crate) fn gives(expr: &IdedExpr) -> Gives {
    match &expr.expr {
        Expr::Literal(LiteralValue::Boolean(_)) => Gives::Boolean,
        Expr::Literal(_) | Expr::List(_) => Gives::Other,
        Expr::Map(_) | Expr::Struct(_) => Gives::Map,
        Expr::Ident(name) if VARIABLES.contains(&name.as_str()) => Gives::Map,
        Expr::Ident(name) if is_type(name) => Gives::Other,
        Expr::Select(select) if select.test => Gives::Boolean,
        // The members of `event` are texts, a number and a list.
        Expr::Select(select) if matches!(&select.operand.expr, Expr::Ident(name) if name == "event") => {
            Gives::Other
        }
        Expr::Select(_) | Expr::Ident(_) | Expr::Unspecified => Gives::Unknown,
        Expr::Comprehension(of) => match &of.accu_init.expr {
            Expr::List(_) => Gives::Other,
            // `exists_one` counts, and compares the count with one.
            _ => Gives::Boolean,
        },
        Expr::Call(call) => of_call(call),
    }
}

fn of_call(call: &CallExpr) -> Gives {
    match (call.func_name.as_str(), call.args.as_slice()) {
        (operators::CONDITIONAL, [_, one, other]) => match (gives(one), gives(other)) {
            (one, other) if one == other => one,
            (Gives::Unknown, known) | (known, Gives::Unknown) => known,
            _ => Gives::Other,
        },
        (operators::INDEX, _) => Gives::Unknown,
        (
            operators::ADD
            | operators::SUBSTRACT
            | operators::MULTIPLY
            | operators::DIVIDE
            | operators::MODULO
            | operators::NEGATE
            | "size"
            | "int"
            | "uint"
            | "double"
            | "string"
            | "type",
            _,
        ) => Gives::Other,
        ("dyn", [of]) => gives(of),
        _ => Gives::Boolean,
    }
}
