//! JSON for people, from its stored bytes: digits, escapes, the order of members and duplicate names stay as they are.
//!
//! This is not a parser. It moves whitespace and marks tokens, and so shows whatever it is given, even if it is not JSON.

use maud::{Markup, PreEscaped, html};

/// How deep it indents. Deeper values stay on one column.
const DEEPEST: usize = 64;

/// The largest text that is indented and coloured; larger ones are shown as they are.
const LARGEST: usize = 256 * 1024;

/// A token of a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token<'a> {
    /// A string with its quotes; `true` if it names a member.
    Text(&'a str, bool),
    Open(&'a str),
    Close(&'a str),
    Comma,
    Colon,
    /// A number, a literal, or something else.
    Word(&'a str),
}

/// Shows a text, indented and coloured.
pub(crate) fn shown(text: &str) -> Markup {
    if text.len() > LARGEST {
        return html! { pre.json.wrap tabindex="0" { (text) } };
    }
    let mut written = String::with_capacity(text.len() * 2);
    layout(text, |piece, class| {
        let escaped = html! { (piece) };
        if class.is_empty() {
            written.push_str(&escaped.0);
        } else {
            written.push_str("<span class=");
            written.push_str(class);
            written.push('>');
            written.push_str(&escaped.0);
            written.push_str("</span>");
        }
    });
    html! { pre.json tabindex="0" { (PreEscaped(written)) } }
}

/// Returns a text, indented if it looks like an object or an array.
pub(crate) fn pretty_if_json(text: &str) -> String {
    if text.trim_start().starts_with(['{', '[']) { pretty(text) } else { text.to_owned() }
}

/// Returns a text, indented.
pub(crate) fn pretty(text: &str) -> String {
    let mut written = String::with_capacity(text.len() * 2);
    layout(text, |piece, _| written.push_str(piece));
    written
}

/// Writes pieces of text, each with the class of its token or none.
fn layout(text: &str, mut write: impl FnMut(&str, &str)) {
    let mut tokens = tokens(text).peekable();
    let mut depth = 0_usize;
    while let Some(token) = tokens.next() {
        match token {
            Token::Open(open) => {
                write(open, "");
                if let Some(Token::Close(close)) = tokens.peek().copied() {
                    tokens.next();
                    write(close, "");
                } else {
                    depth += 1;
                    line(depth, &mut write);
                }
            }
            Token::Close(close) => {
                depth = depth.saturating_sub(1);
                line(depth, &mut write);
                write(close, "");
            }
            Token::Comma => {
                write(",", "");
                line(depth, &mut write);
            }
            Token::Colon => write(": ", ""),
            Token::Text(text, true) => write(text, "k"),
            Token::Text(text, false) => write(text, "s"),
            Token::Word(word) => {
                let is_number = word.starts_with(|first: char| first == '-' || first.is_ascii_digit());
                write(word, if is_number { "n" } else { "w" });
                // Two words side by side are not JSON. They stay two.
                if matches!(tokens.peek(), Some(Token::Word(_))) {
                    write(" ", "");
                }
            }
        }
    }
}

fn line(depth: usize, write: &mut impl FnMut(&str, &str)) {
    write("\n", "");
    for _ in 0..depth.min(DEEPEST) {
        write("  ", "");
    }
}

/// Whether a character is whitespace in JSON.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r')
}

fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches(is_space);
        let first = rest.chars().next()?;
        let end = match first {
            '"' => string_end(rest),
            '{' | '[' | '}' | ']' | ',' | ':' => 1,
            _ => rest.find(|c| is_space(c) || "{}[],:\"".contains(c)).unwrap_or(rest.len()),
        };
        let (token, after) = rest.split_at(end);
        rest = after;
        Some(match first {
            '"' => Token::Text(token, after.trim_start_matches(is_space).starts_with(':')),
            '{' | '[' => Token::Open(token),
            '}' | ']' => Token::Close(token),
            ',' => Token::Comma,
            ':' => Token::Colon,
            _ => Token::Word(token),
        })
    })
}

/// Where the string at the beginning of a text ends.
fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (place, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return place + 1,
            _ => {}
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Removes whitespace outside of strings.
    fn bare(text: &str) -> String {
        let (mut kept, mut within, mut escaped) = (String::new(), false, false);
        for character in text.chars() {
            if within {
                kept.push(character);
                match character {
                    _ if escaped => escaped = false,
                    '\\' => escaped = true,
                    '"' => within = false,
                    _ => {}
                }
            } else if !is_space(character) {
                within = character == '"';
                kept.push(character);
            }
        }
        kept
    }

    #[test]
    fn stored_digits_order_and_duplicates_stay() {
        let text = r#"{"b":1.10,"a":12345678901234567890,"a":"\u00e9 \"x\"","e":[],"o":{ },"l":[true,null]}"#;
        let expected = "{\n  \"b\": 1.10,\n  \"a\": 12345678901234567890,\n  \"a\": \"\\u00e9 \\\"x\\\"\",\n  \"e\": [],\n  \"o\": {},\n  \"l\": [\n    true,\n    null\n  ]\n}";
        assert_eq!(pretty(text), expected);
    }

    #[test]
    fn markup_in_a_text_stays_text() {
        let html = shown(r#"{"<script>":"</pre><script>alert(1)</script>"}"#).0;
        assert!(!html.contains("<script"), "{html}");
        assert!(html.contains("<span class=k>&quot;&lt;script&gt;&quot;</span>"), "{html}");
    }

    #[test]
    fn depth_is_bounded() {
        let deep = "[".repeat(20_000);
        assert!(pretty(&deep).len() < 20_000 * (2 * DEEPEST + 4));
    }

    proptest! {
        #[test]
        fn removing_whitespace_gives_back_the_bytes(text in r#"([\{\}\[\],:"\\ \n\ta1-]|true|é|"x y")*"#) {
            prop_assert_eq!(bare(&pretty(&text)), bare(&text));
        }
    }
}
