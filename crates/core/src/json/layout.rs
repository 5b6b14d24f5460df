//! JSON text with a new layout and the same tokens: numbers keep their digits, and keys their order.

/// Returns valid JSON with indentation.
pub fn pretty(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let mut depth = 0_usize;
    let mut tokens = Tokens { rest: json }.peekable();
    while let Some(token) = tokens.next() {
        match token {
            "{" | "[" => {
                out.push_str(token);
                if let Some(end) = tokens.next_if(|next| matches!(*next, "}" | "]")) {
                    out.push_str(end);
                } else {
                    depth += 1;
                    new_line(&mut out, depth);
                }
            }
            "}" | "]" => {
                depth = depth.saturating_sub(1);
                new_line(&mut out, depth);
                out.push_str(token);
            }
            "," => {
                out.push(',');
                new_line(&mut out, depth);
            }
            ":" => out.push_str(": "),
            token => out.push_str(token),
        }
    }
    out
}

/// Returns valid JSON without white space between its tokens, but with these texts after commas and colons.
pub fn compact(json: &str, after_comma: &str, after_colon: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for token in (Tokens { rest: json }) {
        out.push_str(token);
        match token {
            "," => out.push_str(after_comma),
            ":" => out.push_str(after_colon),
            _ => {}
        }
    }
    out
}

fn new_line(out: &mut String, depth: usize) {
    out.push('\n');
    (0..depth).for_each(|_| out.push_str("  "));
}

/// The tokens of valid JSON: punctuation, strings with their quotes, and other values.
struct Tokens<'a> {
    rest: &'a str,
}

impl<'a> Iterator for Tokens<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_ascii_start();
        let first = rest.chars().next()?;
        let end = match first {
            '"' => string(rest),
            '{' | '}' | '[' | ']' | ',' | ':' => 1,
            _ => {
                let ends = |c: char| c.is_ascii_whitespace() || "{}[],:\"".contains(c);
                rest.find(ends).unwrap_or(rest.len())
            }
        };
        let (token, rest) = rest.split_at_checked(end.max(1)).unwrap_or((rest, ""));
        self.rest = rest;
        Some(token)
    }
}

/// Returns the length of the string at the beginning of a text, with its quotes.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (place, character) in text.char_indices().skip(1) {
        match character {
            '"' if !escaped => return place + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "{ \"a\\\"}\": [1e400 , -0.10,{},[ ]], \"b\":{\"ü\":\"x, y\"},\"c\":null }";

    #[test]
    fn tokens_stay_as_they_are() {
        assert_eq!(compact(TEXT, "", ""), r#"{"a\"}":[1e400,-0.10,{},[]],"b":{"ü":"x, y"},"c":null}"#);
        let shown = pretty(TEXT);
        assert_eq!(
            shown,
            "{\n  \"a\\\"}\": [\n    1e400,\n    -0.10,\n    {},\n    []\n  ],\n  \"b\": {\n    \"ü\": \"x, y\"\n  },\n  \"c\": null\n}"
        );
        assert_eq!(compact(&shown, "", ""), compact(TEXT, "", ""));
        for broken in ["", "\"", "{\"a", "é", "]]]", "\\"] {
            let _ = (pretty(broken), compact(broken, " ", " "));
        }
    }
}
