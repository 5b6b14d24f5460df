//! Secrets, signatures, sealed data and custom headers.

use postrider_core::header::{MAX_HEADERS, MAX_TOTAL};
use postrider_core::keyring::{Purpose, SealContext};
use postrider_core::signing::{Signer, Verifier, sign};
use postrider_core::{CustomHeaders, Keyring, Random, Secret, SubscriberId, TenantId, Timestamp};

const NOW: i64 = 1_700_000_000;

/// An accepted secret is stored unchanged, never shown by `Debug`, and its signatures verify. The error of a rejected one
/// does not contain it.
pub fn secret(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let secret = match Secret::parse(text) {
        Ok(secret) => secret,
        Err(error) => {
            let shown = format!("{error} {error:?}");
            // A text that is very short, or made of the message's own characters, can occur in the message by chance.
            let by_chance = text.chars().count() < 8 || text.contains([' ', '`', '"', '(', ')']);
            assert!(by_chance || !shown.contains(text), "{shown}");
            return;
        }
    };
    assert_eq!(secret.expose(), text);
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    let signature = sign(&secret, "evt_1", NOW, data);
    assert_eq!(signature.starts_with("v1a,"), secret.public_key().is_some());
    let header = headers("evt_1", "1700000000", &signature);
    let now = Timestamp::from_seconds(NOW);
    let verified =
        Verifier::from(&secret).verify(&header, data, now).expect("a secret verifies its own signature");
    assert_eq!((verified.id.as_str(), verified.timestamp), ("evt_1", now));
    assert!(
        Verifier::from(&secret).verify(&header, b"another body", now).is_err() || data == b"another body"
    );
    if let Some(public) = secret.public_key() {
        assert!(Verifier::new(&public).expect("a public key").verify(&header, data, now).is_ok());
    }
}

/// Only requests that were signed verify. Line breaks separate secret, id, timestamp, signatures and body.
pub fn verifier(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let mut parts = text.splitn(5, '\n');
    let mut part = || parts.next().unwrap_or_default();
    let (secret, id, timestamp, signatures, body) = (part(), part(), part(), part(), part());
    let now = Timestamp::from_seconds(NOW);

    // A signature that verifies equals the one that signing makes.
    let theirs = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").expect("a secret");
    let verifier = Verifier::from(&theirs);
    let header = headers(id, timestamp, signatures);
    if verifier
        .verify(&header, body.as_bytes(), now)
        .is_ok_and(|sent| sent.timestamp.seconds().to_string() == timestamp)
    {
        let signature = sign(&theirs, id, timestamp.parse().expect("seconds"), body.as_bytes());
        let bare = signature.trim_end_matches('=');
        assert!(signatures.split_ascii_whitespace().any(|given| given.starts_with(bare)), "a forgery");
    }
    if verifier.verify_agent(signatures, body.as_bytes()).is_ok() {
        let signature = Signer::new(&theirs, &[]).agent_signature(body.as_bytes());
        assert!(signatures.eq_ignore_ascii_case(&signature), "a forgery");
    }

    let Ok(known) = Verifier::new(secret) else { return };
    if let Ok(verified) = known.verify(&header, body.as_bytes(), now) {
        assert_eq!(verified.id, id);
        assert!(verified.timestamp.seconds().abs_diff(NOW) <= 300);
        assert!(!id.is_empty() && !id.contains('.'));
    }
    // A valid signature is found before others.
    let Ok(secret) = Secret::parse(secret) else { return };
    if !id.is_empty() && !id.contains('.') {
        let both = format!("{} {signatures}", sign(&secret, id, NOW, body.as_bytes()));
        assert!(known.verify(headers(id, "1700000000", &both), body.as_bytes(), now).is_ok());
    }
}

fn headers<'h>(id: &'h str, timestamp: &'h str, signatures: &'h str) -> impl Fn(&str) -> Option<&'h str> {
    move |name| match name {
        "webhook-id" => Some(id),
        "webhook-timestamp" => Some(timestamp),
        "webhook-signature" => Some(signatures),
        _ => None,
    }
}

/// Only sealed data opens, and only in its own context. The target opens the bytes themselves, seals and opens them, and
/// changes sealed data with them.
pub fn keyring(data: &[u8]) {
    let keyring = Keyring::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").expect("a key");
    let tenant = TenantId::default();
    let subscriber: SubscriberId = "sub_01h455vb4pex5vsknk084sn02q".parse().expect("an id");
    let context = SealContext { tenant: &tenant, id: subscriber.uuid(), purpose: Purpose::Secret };
    opens_what_sealing_gives(&keyring, &context, data);
    assert!(
        keyring.reseal(&Same, &context, data).is_ok_and(|sealed| sealed.is_none())
            == keyring.is_current(data)
    );

    let sealed = keyring.seal(&Same, &context, data).expect("sealed");
    assert_eq!(keyring.open(&context, &sealed).as_ref().map(|plain| plain.as_slice()), Ok(data));
    let elsewhere = SealContext { purpose: Purpose::Headers, ..context };
    assert!(keyring.open(&elsewhere, &sealed).is_err(), "opened for another purpose");

    let mut changed = keyring.seal(&Same, &context, b"client-secret").expect("sealed");
    let original = changed.clone();
    changed.iter_mut().zip(data).for_each(|(byte, mask)| *byte ^= mask);
    opens_what_sealing_gives(&keyring, &context, &changed);
    assert!(changed != original || keyring.open(&context, &changed).is_ok());
    let _ = crate::text(data).map(Keyring::parse);
}

/// Opens data; if it opens, sealing must give the same data. libFuzzer observes comparisons and can so find a valid tag.
fn opens_what_sealing_gives(keyring: &Keyring, context: &SealContext<'_>, sealed: &[u8]) {
    if let Ok(plain) = keyring.open(context, sealed) {
        let nonce = sealed.get(5..17).expect("version and key id, then the nonce");
        assert_eq!(keyring.seal(&Fixed(nonce), context, &plain).as_deref(), Ok(sealed), "a forgery");
    }
}

/// Returns the given bytes as random bytes.
struct Fixed<'a>(&'a [u8]);

impl Random for Fixed<'_> {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.copy_from_slice(self.0);
    }
}

/// Returns the same random bytes always, so that the fuzzer can reproduce a finding.
struct Same;

impl Random for Same {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(7);
    }
}

/// Accepted headers fit into a request, one line each, and survive storing. The input has lines of `name:value`.
pub fn custom_headers(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let given = text.split('\n').map(|line| line.split_once(':').unwrap_or((line, "")));
    match CustomHeaders::try_new(given.map(|(name, value)| (name.to_owned(), value.to_owned()))) {
        Ok(headers) => {
            hold(&headers);
            let stored = headers.to_bytes();
            assert_eq!(CustomHeaders::from_bytes(&stored).as_ref(), Ok(&headers));
        }
        Err(error) => assert!(error.to_string().len() < 1000, "an error is short for any input"),
    }
}

/// Headers parsed from storage follow the same rules, whatever was stored.
pub fn stored_headers(data: &[u8]) {
    if let Ok(headers) = CustomHeaders::from_bytes(data) {
        hold(&headers);
        assert_eq!(CustomHeaders::from_bytes(&headers.to_bytes()).as_ref(), Ok(&headers));
    }
}

fn hold(headers: &CustomHeaders) {
    assert!(headers.len() <= MAX_HEADERS);
    assert!(headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= MAX_TOTAL);
    let mut names: Vec<&str> = headers.names().collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), headers.len(), "names are unique");
    for (name, value) in headers.iter() {
        let parsed = http::HeaderName::from_bytes(name.as_bytes()).expect("a header's name");
        assert_eq!(parsed.as_str(), name, "names are in lower case");
        assert!(http::HeaderValue::from_str(value).is_ok());
        assert!(!value.contains(['\r', '\n', '\0']) && value.trim_matches([' ', '\t']) == value);
        let folded = name.replace('_', "-");
        assert!(
            !OWNED.contains(&folded.as_str())
                && !folded.starts_with("webhook-")
                && !folded.starts_with("x-agent-"),
            "{name} is not the subscriber's to set"
        );
    }
}

/// Names that a subscriber must not set, written independently of the list in `postrider-core`.
const OWNED: &[&str] = &[
    "host",
    "connection",
    "content-length",
    "transfer-encoding",
    "te",
    "trailer",
    "upgrade",
    "expect",
    "content-type",
    "user-agent",
    "accept-encoding",
    "traceparent",
    "x-event-type",
];
