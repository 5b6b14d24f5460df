//! Why a signature does not match. It tries the mistakes that receivers and senders make most often.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{
    Signer, Verifier, VerifyError, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, X_AGENT_SIGNATURE,
};
use crate::json::layout::{compact, pretty};
use crate::{Secret, Timestamp};

const PREFIX: &str = "whsec_";

/// Why a signature does not match.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// A word for programs.
    pub reason: &'static str,
    /// What is wrong and what to do, for people.
    pub detail: String,
}

impl Diagnosis {
    /// Explains the error of a request that [`Verifier::verify`] or [`Verifier::verify_agent`] refused at `now`. `header`
    /// looks a header up by its lower-case name.
    pub fn of<'h>(
        error: VerifyError,
        secrets: &[&str],
        header: impl Fn(&str) -> Option<&'h str> + Copy,
        body: &[u8],
        now: Timestamp,
    ) -> Self {
        match error {
            VerifyError::NoMatch | VerifyError::MalformedSignature => diagnose(secrets, header, body),
            VerifyError::TooOld | VerifyError::TooNew => {
                let sent =
                    header(WEBHOOK_TIMESTAMP).and_then(|text| text.parse::<i64>().ok()).unwrap_or_default();
                let apart = now.seconds().abs_diff(sent);
                let detail =
                    format!("{error}; it is {apart} s apart from the clock: {sent} and {}", now.seconds());
                diagnosis("clock", detail)
            }
            VerifyError::MalformedTimestamp => diagnosis("clock", error.to_string()),
            error => diagnosis("header", error.to_string()),
        }
    }
}

fn diagnosis(reason: &'static str, detail: impl Into<String>) -> Diagnosis {
    Diagnosis { reason, detail: detail.into() }
}

/// Returns why none of the signatures of a request matches. `header` looks a header up by its lower-case name.
fn diagnose<'h>(secrets: &[&str], header: impl Fn(&str) -> Option<&'h str> + Copy, body: &[u8]) -> Diagnosis {
    let Some(signatures) = header(WEBHOOK_SIGNATURE) else {
        return without_time(secrets, header(X_AGENT_SIGNATURE).unwrap_or_default(), body);
    };
    if let Some(found) = malformed(signatures) {
        return found;
    }
    let matches = |secret: &str, body: &[u8]| {
        let seconds = header(WEBHOOK_TIMESTAMP).and_then(|text| text.parse().ok()).unwrap_or_default();
        let verifier = Verifier::new(secret);
        verifier.is_ok_and(|verifier| verifier.verify(header, body, Timestamp::from_seconds(seconds)).is_ok())
    };
    for secret in secrets {
        if let Some((name, _)) = laid_out(body).iter().find(|(_, body)| matches(secret, body)) {
            return changed(name);
        }
        if secret.strip_prefix(PREFIX).is_some_and(|rest| matches(rest, body))
            || signs_as_text(secret, header, body)
        {
            return diagnosis(
                "base64_not_decoded",
                "the signature was made with the text of the secret; decode the base64 after `whsec_`, and sign with those bytes",
            );
        }
        if !secret.starts_with("wh") && matches(&format!("{PREFIX}{secret}"), body) {
            return diagnosis(
                "secret_prefix",
                "the secret lacks its beginning, `whsec_`; give it as the subscriber shows it",
            );
        }
        if parts(signatures).any(|part| Some(part) == hmac(secret, body).as_deref()) {
            return diagnosis(
                "body_alone",
                "the signature covers the body alone; sign `webhook-id`.`webhook-timestamp`.body, with full stops between",
            );
        }
    }
    diagnosis(
        "secret_or_body",
        "no signature matches: the secret is that of another subscriber or was rotated, or the id, the time or the body was \
        changed; verify the raw body as it was received",
    )
}

fn without_time(secrets: &[&str], signature: &str, body: &[u8]) -> Diagnosis {
    let matches = |secret: &str, body: &[u8]| {
        Verifier::new(secret).is_ok_and(|verifier| verifier.verify_agent(signature, body).is_ok())
    };
    for secret in secrets {
        if let Some((name, _)) = laid_out(body).iter().find(|(_, body)| matches(secret, body)) {
            return changed(name);
        }
    }
    diagnosis(
        "secret_or_body",
        "X-Agent-Signature does not match: it is `sha256=` and the hexadecimal HMAC-SHA256 of the raw body, under the whole text \
        of the newest secret",
    )
}

fn changed(layout: &str) -> Diagnosis {
    diagnosis(
        "body_changed",
        format!(
            "the signature matches the body {layout}: something has parsed the body and written it again; verify the raw bytes"
        ),
    )
}

/// Returns what is wrong with the form of a header, if that is it.
fn malformed(signatures: &str) -> Option<Diagnosis> {
    if signatures.starts_with("sha256=") {
        return Some(diagnosis(
            "header",
            "webhook-signature holds the value of X-Agent-Signature; the two are different headers",
        ));
    }
    let is_hex = |part: &str| part.len() == 64 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    if parts(signatures).any(is_hex) {
        return Some(diagnosis(
            "hexadecimal",
            "the signature is hexadecimal; webhook-signature has base64 after `v1,`",
        ));
    }
    let has_version = signatures.split(' ').any(|part| part.starts_with("v1,") || part.starts_with("v1a,"));
    (!has_version).then(|| {
        diagnosis(
            "header",
            "webhook-signature must have signatures such as `v1,` and base64, separated by spaces",
        )
    })
}

/// The signatures of a header, without their versions.
fn parts(signatures: &str) -> impl Iterator<Item = &str> {
    signatures.split(' ').map(|part| part.split_once(',').map_or(part, |(_, signature)| signature))
}

/// Whether a signature was made over the right message with the whole text of a `whsec_` secret as the key.
fn signs_as_text<'h>(secret: &str, header: impl Fn(&str) -> Option<&'h str>, body: &[u8]) -> bool {
    let [Some(id), Some(time), Some(signatures)] =
        [WEBHOOK_ID, WEBHOOK_TIMESTAMP, WEBHOOK_SIGNATURE].map(header)
    else {
        return false;
    };
    let message = [format!("{id}.{time}.").as_bytes(), body].concat();
    let expected = hmac(secret, &message);
    secret.starts_with(PREFIX) && parts(signatures).any(|part| Some(part) == expected.as_deref())
}

/// Returns the base64 of the HMAC-SHA256 of a message under the whole text of a secret.
fn hmac(secret: &str, message: &[u8]) -> Option<String> {
    let secret = Secret::parse(secret).ok()?;
    let text = Signer::new(&secret, &[]).agent_signature(message);
    Some(STANDARD.encode(hex::decode(text.strip_prefix("sha256=")?).ok()?))
}

/// Returns the body as libraries and editors write it, with the name of each layout.
fn laid_out(body: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let mut layouts = vec![("with a line break at its end", [body, b"\n"].concat())];
    if let Some(shorter) = body.strip_suffix(b"\n") {
        let shorter = shorter.strip_suffix(b"\r").unwrap_or(shorter);
        layouts.push(("without the line break at its end", shorter.to_vec()));
    }
    if let Ok(text) = std::str::from_utf8(body)
        && let Ok(parsed) = serde_json::from_str::<Value>(text)
    {
        layouts.push(("without white space", compact(text, "", "").into_bytes()));
        layouts.push(("with a space after commas and colons", compact(text, " ", " ").into_bytes()));
        layouts.push(("with a space after colons", compact(text, "", " ").into_bytes()));
        layouts.push(("with indentation", pretty(text).into_bytes()));
        layouts.push(("with its keys in alphabetical order", parsed.to_string().into_bytes()));
    }
    layouts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signing::sign;

    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const SENT: &str = r#"{"b":1.50,"a":[1,2]}"#;

    fn reason(secrets: &[&str], signature: &str, body: &str) -> &'static str {
        let header = |name: &str| match name {
            WEBHOOK_ID => Some("evt_1"),
            WEBHOOK_TIMESTAMP => Some("1700000000"),
            WEBHOOK_SIGNATURE => Some(signature),
            _ => None,
        };
        diagnose(secrets, header, body.as_bytes()).reason
    }

    fn signed(secret: &str, body: &str) -> String {
        sign(&Secret::parse(secret).unwrap(), "evt_1", 1_700_000_000, body.as_bytes())
    }

    #[test]
    fn each_mistake_is_recognised() {
        let right = signed(SECRET, SENT);
        let text = SECRET.trim_start_matches(PREFIX);
        let hex_of_right = hex::encode(STANDARD.decode(right.trim_start_matches("v1,")).unwrap());
        let message = format!("evt_1.1700000000.{SENT}");
        for (expected, secret, signature, body) in [
            ("body_changed", SECRET, right.clone(), "{\"b\": 1.50, \"a\": [1, 2]}"),
            ("body_changed", SECRET, right.clone(), "{\"b\":1.50,\"a\":[1,2]}\n"),
            ("body_changed", SECRET, signed(SECRET, &compact(SENT, " ", " ")), SENT),
            ("body_changed", SECRET, signed(SECRET, &pretty(SENT)), SENT),
            ("body_changed", SECRET, signed(SECRET, r#"{"a":[1,2],"b":1.5}"#), SENT),
            ("base64_not_decoded", SECRET, signed(text, SENT), SENT),
            ("base64_not_decoded", SECRET, format!("v1,{}", hmac(SECRET, message.as_bytes()).unwrap()), SENT),
            ("secret_prefix", text, right.clone(), SENT),
            ("body_alone", SECRET, format!("v1,{}", hmac(SECRET, SENT.as_bytes()).unwrap()), SENT),
            ("hexadecimal", SECRET, format!("v1,{hex_of_right}"), SENT),
            ("header", SECRET, format!("sha256={hex_of_right}"), SENT),
            ("header", SECRET, "nonsense".to_owned(), SENT),
            ("secret_or_body", "another secret", right.clone(), SENT),
            ("secret_or_body", SECRET, right.clone(), "{\"b\":1.51,\"a\":[1,2]}"),
        ] {
            assert_eq!(reason(&[secret], &signature, body), expected, "{signature} {body}");
        }
    }
}
