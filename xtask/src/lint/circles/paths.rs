//! The paths (`crate::a::B`, `super::c`) that a piece of Rust names.

use proc_macro2::{Delimiter, Group, TokenStream, TokenTree};

use crate::lint::source::is_test;

/// A path, and the line on which it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) segments: Vec<String>,
    pub(super) line: usize,
}

impl Named {
    /// Returns whether the path is a glob: `a::*`.
    pub(super) fn is_glob(&self) -> bool {
        self.segments.last().is_some_and(|last| last == "*")
    }
}

/// Returns every path of at least two segments in `use` trees, bodies and macros, except for test code.
pub(super) fn of(tokens: TokenStream) -> Vec<Named> {
    let mut found = Vec::new();
    collect(&without_tests(tokens), &mut found);
    found
}

/// Removes the items with a test attribute, each up to its `;` or the end of its body.
fn without_tests(tokens: TokenStream) -> Vec<TokenTree> {
    let mut kept = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        let attribute = match tokens.peek() {
            Some(TokenTree::Group(group))
                if is_punct(&token, '#') && group.delimiter() == Delimiter::Bracket =>
            {
                Some(group.stream())
            }
            _ => None,
        };
        if attribute.is_some_and(|attribute| is_test(&attribute)) {
            for skipped in tokens.by_ref() {
                let is_body =
                    matches!(&skipped, TokenTree::Group(group) if group.delimiter() == Delimiter::Brace);
                if is_body || is_punct(&skipped, ';') {
                    break;
                }
            }
        } else {
            kept.push(token);
        }
    }
    kept
}

fn collect(tokens: &[TokenTree], found: &mut Vec<Named>) {
    let mut index = 0;
    while index < tokens.len() {
        match &tokens[index] {
            TokenTree::Ident(_) => index = path(tokens, index, found),
            TokenTree::Group(group) => {
                if !is_visibility(tokens, index, group) {
                    collect(&without_tests(group.stream()), found);
                }
                index += 1;
            }
            _ => index += 1,
        }
    }
}

/// Reads the path that starts at `start`, with its tree. Returns the index after it.
fn path(tokens: &[TokenTree], start: usize, found: &mut Vec<Named>) -> usize {
    let line = tokens[start].span().start().line;
    let mut segments = vec![tokens[start].to_string()];
    let mut index = start + 1;
    while is_separator(tokens, index) {
        index += 2;
        match tokens.get(index) {
            Some(TokenTree::Ident(ident)) => segments.push(ident.to_string()),
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                tree(&segments, group, found);
                return index + 1;
            }
            Some(star) if is_punct(star, '*') => segments.push("*".to_owned()),
            // Generics (`Vec::<u8>`): their paths are read separately.
            _ => break,
        }
        index += 1;
    }
    if segments.len() > 1 {
        found.push(Named { segments, line });
    }
    index
}

/// The branches of `prefix::{a, b::c}`.
fn tree(prefix: &[String], group: &Group, found: &mut Vec<Named>) {
    let tokens: Vec<TokenTree> = group.stream().into_iter().collect();
    for branch in tokens.split(|token| is_punct(token, ',')).filter(|branch| !branch.is_empty()) {
        let mut inner = Vec::new();
        path(branch, 0, &mut inner);
        if inner.is_empty() {
            // A single name (`self` among them), maybe with `as`.
            let line = branch[0].span().start().line;
            inner.push(Named { segments: vec![branch[0].to_string()], line });
        }
        for mut named in inner {
            named.segments.splice(0..0, prefix.iter().cloned());
            if named.segments.last().is_some_and(|last| last == "self") {
                named.segments.pop();
            }
            found.push(named);
        }
    }
}

/// The path in `pub(in crate::a)` is no use of `a`.
fn is_visibility(tokens: &[TokenTree], index: usize, group: &Group) -> bool {
    group.delimiter() == Delimiter::Parenthesis
        && index > 0
        && matches!(&tokens[index - 1], TokenTree::Ident(ident) if *ident == "pub")
}

fn is_separator(tokens: &[TokenTree], index: usize) -> bool {
    [index, index + 1].iter().all(|index| tokens.get(*index).is_some_and(|token| is_punct(token, ':')))
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}
