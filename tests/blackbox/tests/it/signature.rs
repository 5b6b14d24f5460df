//! The signatures of a request, checked by means of their own: nothing here is Postrider's.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use postrider_testkit::receiver::ReceivedRequest;
use ring::hmac;

/// Checks `X-Agent-Signature` under the newest secret, and that `webhook-signature` has one signature for each secret,
/// newest first.
pub(crate) fn verify(request: &ReceivedRequest, secrets: &[&str]) {
    let newest = hmac::Key::new(hmac::HMAC_SHA256, secrets[0].as_bytes());
    let expected = format!("sha256={}", hex::encode(hmac::sign(&newest, &request.body)));
    assert_eq!(request.header("X-Agent-Signature"), Some(expected.as_str()));

    let (id, timestamp) = (header(request, "webhook-id"), header(request, "webhook-timestamp"));
    let message = [id.as_bytes(), b".", timestamp.as_bytes(), b".", &request.body].concat();
    let expected: Vec<_> = secrets
        .iter()
        .map(|secret| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, &webhook_key(secret));
            format!("v1,{}", STANDARD.encode(hmac::sign(&key, &message)))
        })
        .collect();
    assert_eq!(header(request, "webhook-signature"), expected.join(" "));
}

/// A header that has to be there, once.
pub(crate) fn header<'a>(request: &'a ReceivedRequest, name: &str) -> &'a str {
    let count = request.headers.iter().filter(|(given, _)| given.eq_ignore_ascii_case(name)).count();
    assert_eq!(count, 1, "{name} in {:?}", request.headers);
    request.header(name).expect("a header that is text")
}

/// Standard Webhooks 1.0.0: the decoded rest of a `whsec_` secret, or the bytes of any other.
fn webhook_key(secret: &str) -> Vec<u8> {
    match secret.strip_prefix("whsec_") {
        Some(rest) => STANDARD.decode(rest).expect("base64 after whsec_"),
        None => secret.as_bytes().to_vec(),
    }
}
