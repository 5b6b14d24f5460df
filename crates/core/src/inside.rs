//! The URLs of receivers inside Postrider: sandboxes, and listeners that hand requests to another machine.
//!
//! A worker recognises them by their form, so that no other URL costs it a query, and asks the database whether there is
//! such a receiver.

use crate::{Random, TargetUrl};

/// A receiver inside Postrider that a URL may name, by its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InsideUrl<'a> {
    /// A sandbox: any base, `/sandbox/`, and a token.
    Sandbox(&'a str),
    /// A listener: a host that never resolves, and a token.
    Listener(&'a str),
}

/// What is before the token in the URL of a sandbox.
const SANDBOX: &str = "/sandbox/";
/// What is before the token in the URL of a listener. No name server knows the host (RFC 6761, section 6.4).
const LISTENER: &str = "https://listen.postrider.invalid/";
/// The hexadecimal digits of a token: 160 random bits.
const TOKEN: usize = 40;

impl<'a> InsideUrl<'a> {
    /// Returns the receiver that a URL may name; `None` if it has the form of none. Its query does not matter.
    pub fn of(url: &'a TargetUrl) -> Option<Self> {
        let text = url.redacted();
        if let Some(token) = text.strip_prefix(LISTENER) {
            return is_token(token).then_some(Self::Listener(token));
        }
        let (_, token) = text.rsplit_once(SANDBOX)?;
        is_token(token).then_some(Self::Sandbox(token))
    }
}

/// Makes a token.
pub fn new_token(random: &dyn Random) -> String {
    let mut bytes = [0; TOKEN / 2];
    random.fill(&mut bytes);
    hex::encode(bytes)
}

/// Returns whether a text has the form of a token.
pub fn is_token(text: &str) -> bool {
    text.len() == TOKEN && text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
}

/// Returns the URL of a sandbox below `base`, which has no slash at its end.
pub fn sandbox_url(base: &str, token: &str) -> String {
    format!("{base}{SANDBOX}{token}")
}

/// Returns the URL of a listener.
pub fn listener_url(token: &str) -> String {
    format!("{LISTENER}{token}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SystemRandom;

    #[test]
    fn only_urls_of_their_form_name_a_receiver() {
        let token = new_token(&SystemRandom);
        let url = |text: &str| TargetUrl::parse(text).unwrap();
        for base in ["http://127.0.0.1:8080", "https://hooks.example/a/b"] {
            let sandbox = url(&sandbox_url(base, &token));
            assert_eq!(InsideUrl::of(&sandbox), Some(InsideUrl::Sandbox(&token)));
        }
        assert_eq!(
            InsideUrl::of(&url(&format!("http://a/sandbox/{token}?x=1"))),
            Some(InsideUrl::Sandbox(&token))
        );
        assert_eq!(InsideUrl::of(&url(&listener_url(&token))), Some(InsideUrl::Listener(&token)));
        for other in [
            "https://a/sandbox/x".to_owned(),
            format!("https://a/{token}"),
            format!("https://a/sandbox/{token}/b"),
            format!("https://a/sandbox/{}", token.to_uppercase().replace(|c: char| c.is_ascii_digit(), "A")),
            format!("http://listen.postrider.invalid/{token}"),
            format!("https://listen.postrider.invalid/a/{token}"),
        ] {
            assert_eq!(InsideUrl::of(&url(&other)), None, "{other}");
        }
    }
}
