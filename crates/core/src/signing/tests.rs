//! The vectors of `tests/vectors/signing.json`, and properties of all other signatures.

use std::time::Duration;

use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::secret::SecretError;
use crate::{SystemRandom, Timestamp};

#[derive(Deserialize)]
struct Vectors {
    hmac: Vec<Vector>,
    ed25519: Vec<Vector>,
}

#[derive(Deserialize)]
struct Vector {
    #[serde(alias = "secret_key")]
    secret: String,
    public_key: Option<String>,
    body_base64: String,
    agent_signature: Option<String>,
    webhook_id: String,
    webhook_timestamp: i64,
    webhook_signature: String,
}

impl Vector {
    fn body(&self) -> Vec<u8> {
        STANDARD.decode(&self.body_base64).unwrap()
    }

    fn verify_with(&self, secret: &str) -> Result<Verified, VerifyError> {
        let now = Timestamp::from_seconds(self.webhook_timestamp);
        let request = Request::new(&self.webhook_id, self.webhook_timestamp, &self.webhook_signature);
        request.verify(&Verifier::new(secret).unwrap(), &self.body(), now)
    }
}

fn vectors() -> Vectors {
    serde_json::from_str(include_str!("../../tests/vectors/signing.json")).unwrap()
}

/// The three headers of a request.
#[derive(Clone)]
struct Request {
    id: Option<String>,
    timestamp: Option<String>,
    signature: Option<String>,
}

impl Request {
    fn new(id: &str, seconds: i64, signature: &str) -> Self {
        Self { id: Some(id.into()), timestamp: Some(seconds.to_string()), signature: Some(signature.into()) }
    }

    fn at(mut self, timestamp: &str) -> Self {
        self.timestamp = Some(timestamp.into());
        self
    }

    fn with_signature(mut self, signature: impl Into<String>) -> Self {
        self.signature = Some(signature.into());
        self
    }

    fn verify(&self, verifier: &Verifier, body: &[u8], now: Timestamp) -> Result<Verified, VerifyError> {
        let header = |name: &str| match name {
            "webhook-id" => self.id.as_deref(),
            "webhook-timestamp" => self.timestamp.as_deref(),
            "webhook-signature" => self.signature.as_deref(),
            _ => None,
        };
        verifier.verify(header, body, now)
    }
}

const NOW: Timestamp = Timestamp::from_seconds(1_700_000_000);
const BODY: &[u8] = br#"{"event":"order.created"}"#;

fn secret(text: &str) -> Secret {
    Secret::parse(text).unwrap()
}

fn signed(text: &str) -> Request {
    let seconds = NOW.seconds();
    Request::new("evt_1", seconds, &sign(&secret(text), "evt_1", seconds, BODY))
}

#[test]
fn the_hmac_vectors_are_signed_and_verified() {
    let vectors = vectors().hmac;
    assert_eq!(vectors.len(), 20);
    for vector in vectors {
        let signer = Signer::new(&secret(&vector.secret), &[]);
        let agent = vector.agent_signature.as_deref().unwrap();
        assert_eq!(signer.agent_signature(&vector.body()), agent);
        let made = signer.webhook_signature(&vector.webhook_id, vector.webhook_timestamp, &vector.body());
        assert_eq!(made, vector.webhook_signature);

        assert_eq!(vector.verify_with(&vector.secret).unwrap().id, vector.webhook_id);
        assert_eq!(vector.verify_with("another-secret"), Err(VerifyError::NoMatch));
        let verifier = Verifier::new(&vector.secret).unwrap();
        assert_eq!(verifier.verify_agent(agent, &vector.body()), Ok(()));
        assert_eq!(verifier.verify_agent(agent, b"{}"), Err(VerifyError::NoMatch));
    }
}

#[test]
fn the_ed25519_vectors_are_signed_and_verified() {
    let vectors = vectors().ed25519;
    assert!(vectors.len() >= 2);
    for vector in vectors {
        let public_key = vector.public_key.as_deref().unwrap();
        let secret = secret(&vector.secret);
        assert_eq!(secret.public_key().as_deref(), Some(public_key));
        let made = sign(&secret, &vector.webhook_id, vector.webhook_timestamp, &vector.body());
        assert_eq!(made, vector.webhook_signature);

        for key in [&vector.secret, public_key] {
            assert_eq!(vector.verify_with(key).unwrap().id, vector.webhook_id);
        }
        let seed = STANDARD.decode(&vector.secret["whsk_".len()..]).unwrap();
        let short = format!("whsk_{}", STANDARD.encode(&seed[..32]));
        assert_eq!(sign(&self::secret(&short), "a", 1, b""), sign(&secret, "a", 1, b""));
    }
}

#[test]
fn all_secrets_sign_the_newest_first() {
    let vectors = vectors();
    let (symmetric, asymmetric) = (secret(&vectors.hmac[1].secret), secret(&vectors.ed25519[0].secret));
    let chosen = secret("client-secret");
    let secrets = [asymmetric.clone(), symmetric, chosen, asymmetric];
    let signer = Signer::new(&secrets[0], &secrets[1..]);

    let each: Vec<String> = secrets.iter().map(|secret| sign(secret, "evt_1", 1, BODY)).collect();
    assert_eq!(signer.webhook_signature("evt_1", 1, BODY), each.join(" "));
    let agent = signer.agent_signature(BODY);
    assert_eq!(Verifier::from(&secrets[0]).verify_agent(&agent, BODY), Ok(()));
    assert_eq!(Verifier::from(&secrets[1]).verify_agent(&agent, BODY), Err(VerifyError::NoMatch));
}

#[test]
fn any_secret_of_a_rotation_verifies() {
    let request = signed("client-secret");
    let either = Verifier::any(["new-client-secret", "client-secret"]).unwrap();
    assert!(request.verify(&either, BODY, NOW).is_ok());
    let sole = Verifier::new("new-client-secret").unwrap();
    assert_eq!(request.verify(&sole, BODY, NOW), Err(VerifyError::NoMatch));

    let both = Signer::new(&secret("new-client-secret"), &[secret("client-secret")]);
    let request = request.with_signature(both.webhook_signature("evt_1", NOW.seconds(), BODY));
    for text in ["new-client-secret", "client-secret"] {
        assert!(request.verify(&Verifier::new(text).unwrap(), BODY, NOW).is_ok());
    }
}

#[test]
fn a_verifier_requires_a_secret_or_public_key() {
    let none: [&str; 0] = [];
    assert_eq!(Verifier::any(none).unwrap_err(), SecretError::None);
    assert_eq!(Verifier::new("short").unwrap_err(), SecretError::Length(5));
    for text in ["whpk_", "whpk_AAAA", "whpk_not base64"] {
        assert_eq!(Verifier::new(text).unwrap_err(), SecretError::MalformedPublicKey, "{text}");
    }
}

#[test]
fn a_public_key_verifies_no_agent_signature() {
    let pair = secret(&vectors().ed25519[0].secret);
    let agent = Signer::new(&pair, &[]).agent_signature(BODY);
    assert_eq!(Verifier::from(&pair).verify_agent(&agent, BODY), Ok(()));
    let public = Verifier::new(&pair.public_key().unwrap()).unwrap();
    assert_eq!(public.verify_agent(&agent, BODY), Err(VerifyError::NoMatch));
}

#[test]
fn each_header_is_required() {
    let verifier = Verifier::new("client-secret").unwrap();
    let request = signed("client-secret");
    let good = Verified { id: "evt_1".into(), timestamp: NOW };
    assert_eq!(request.verify(&verifier, BODY, NOW), Ok(good));
    for (request, name) in [
        (Request { id: None, ..request.clone() }, WEBHOOK_ID),
        (Request { timestamp: None, ..request.clone() }, WEBHOOK_TIMESTAMP),
        (Request { signature: None, ..request.clone() }, WEBHOOK_SIGNATURE),
    ] {
        assert_eq!(request.verify(&verifier, BODY, NOW), Err(VerifyError::MissingHeader(name)));
    }
}

#[test]
fn the_tolerance_applies_in_both_directions_in_whole_seconds() {
    let request = signed("client-secret");
    let verify = |verifier: Verifier, now| request.verify(&verifier, BODY, now).map(|_| ());
    let usual = || Verifier::new("client-secret").unwrap();
    let (minutes, milli) = (Duration::from_mins(5), Duration::from_millis(1));
    assert_eq!(verify(usual(), NOW + minutes), Ok(()));
    // The timestamp is in whole seconds, so the request may have been sent up to a second later.
    assert_eq!(verify(usual(), NOW + minutes + Duration::from_millis(999)), Ok(()));
    assert_eq!(verify(usual(), NOW + minutes + Duration::from_secs(1)), Err(VerifyError::TooOld));
    assert_eq!(verify(usual(), NOW - minutes), Ok(()));
    assert_eq!(verify(usual(), NOW - minutes - milli), Err(VerifyError::TooNew));

    let strict = || usual().tolerance(Duration::ZERO);
    assert_eq!(verify(strict(), NOW), Ok(()));
    assert_eq!(verify(strict(), NOW + Duration::from_secs(1)), Err(VerifyError::TooOld));
    let lax = usual().tolerance(Duration::MAX);
    assert_eq!(verify(lax, Timestamp::from_millis(i64::MAX)), Ok(()));
}

#[test]
fn malformed_ids_and_timestamps_have_distinct_errors() {
    let verifier = Verifier::new("client-secret").unwrap();
    for text in
        ["", "+1700000000", "-1", "1700000000.0", " 1700000000", "1.7e9", "0x1", "9223372036854775808", "१"]
    {
        let error = signed("client-secret").at(text).verify(&verifier, BODY, NOW).unwrap_err();
        assert_eq!(error, VerifyError::MalformedTimestamp, "{text}");
    }
    let error = signed("client-secret").at(&i64::MAX.to_string()).verify(&verifier, BODY, NOW).unwrap_err();
    assert_eq!(error, VerifyError::TooNew);
    // The signature covers the timestamp's text, and this is another text for the same number.
    let error = signed("client-secret").at("01700000000").verify(&verifier, BODY, NOW).unwrap_err();
    assert_eq!(error, VerifyError::NoMatch);

    // A signature for the id `evt.1700000000` would also be one for the id `evt` with a body that an attacker chose.
    let signature = sign(&secret("client-secret"), "evt.1700000000", 5, BODY);
    for id in ["", "evt.1700000000"] {
        let request = Request::new(id, 5, &signature);
        let error = request.verify(&verifier, BODY, Timestamp::from_seconds(5)).unwrap_err();
        assert_eq!(error, VerifyError::MalformedId);
    }
}

#[test]
fn other_signatures_in_the_header_are_ignored() {
    let verifier = Verifier::new("client-secret").unwrap();
    let request = signed("client-secret");
    let good = request.signature.clone().unwrap();
    let zeros = format!("v1,{}", STANDARD.encode([0; 32]));
    let asymmetric = format!("v1a,{}", STANDARD.encode([0; 64]));
    for header in [
        format!("{zeros} {good}"),
        format!("{good} {zeros}"),
        format!("v2,whatever {asymmetric} v1,??? v1 , {good}"),
        format!("  {good}  "),
        good.trim_end_matches('=').to_owned(),
        format!("{} {good}", vec![zeros.clone(); 31].join(" ")),
    ] {
        assert!(request.clone().with_signature(&header).verify(&verifier, BODY, NOW).is_ok(), "{header}");
    }
    for (header, error) in [
        (zeros.clone(), VerifyError::NoMatch),
        (asymmetric, VerifyError::NoMatch),
        (format!("{} {good}", vec![zeros; 32].join(" ")), VerifyError::NoMatch),
        (String::new(), VerifyError::MalformedSignature),
        (" ".into(), VerifyError::MalformedSignature),
        ("v1".into(), VerifyError::MalformedSignature),
        ("v1,".into(), VerifyError::MalformedSignature),
        (good.replace("v1,", "v2,"), VerifyError::MalformedSignature),
        (good.replace("v1,", "V1,"), VerifyError::MalformedSignature),
        (good.replace("v1,", ""), VerifyError::MalformedSignature),
        (good.replace("v1,", "v1a,"), VerifyError::MalformedSignature),
        (format!("v1,{}", STANDARD.encode([0; 31])), VerifyError::MalformedSignature),
        (format!("v1,{}", STANDARD.encode([0; 33])), VerifyError::MalformedSignature),
        (format!("v1,{}", "A".repeat(100_000)), VerifyError::MalformedSignature),
    ] {
        let request = request.clone().with_signature(&header);
        assert_eq!(request.verify(&verifier, BODY, NOW), Err(error), "{header:.120}");
    }
}

#[test]
fn a_malformed_agent_signature_differs_from_a_wrong_one() {
    let verifier = Verifier::new("client-secret").unwrap();
    let good = Signer::new(&secret("client-secret"), &[]).agent_signature(BODY);
    for text in ["", "sha256=", "sha256=zz", &good[1..], &good[..good.len() - 2], &format!("{good}00")] {
        assert_eq!(verifier.verify_agent(text, BODY), Err(VerifyError::MalformedSignature), "{text}");
    }
    let zeros = format!("sha256={}", "00".repeat(32));
    assert_eq!(verifier.verify_agent(&zeros, BODY), Err(VerifyError::NoMatch));
}

#[test]
fn debug_shows_no_secret() {
    let signer = format!("{:?}", Signer::new(&secret("client-secret"), &[]));
    let verifier = format!("{:?}", Verifier::new("client-secret").unwrap());
    assert_eq!(signer, "Signer { secrets: 1, .. }");
    assert_eq!(verifier, "Verifier { secrets: 1, tolerance: 300s, .. }");
}

fn any_secret() -> impl Strategy<Value = Secret> {
    prop_oneof![
        Just(()).prop_map(|()| Secret::generate(&SystemRandom)),
        any::<[u8; 32]>().prop_map(|seed| secret(&format!("whsk_{}", STANDARD.encode(seed)))),
        "[ -~é✓]{8,40}".prop_filter_map("has a prefix", |text| Secret::parse(&text).ok()),
    ]
}

proptest! {
    #[test]
    fn only_the_signed_request_verifies(
        secrets in prop::collection::vec(any_secret(), 1..4),
        id in "[a-z0-9_]{1,32}", seconds in 0..4_000_000_000_i64, body: Vec<u8>,
        place: prop::sample::Index, bit in 0..8_u8,
    ) {
        let signer = Signer::new(&secrets[0], &secrets[1..]);
        let now = Timestamp::from_seconds(seconds);
        let request = Request::new(&id, seconds, &signer.webhook_signature(&id, seconds, &body));
        let agent = signer.agent_signature(&body);
        let all = Verifier::any(secrets.iter().map(Secret::expose)).unwrap();
        for secret in &secrets {
            let verified = request.verify(&Verifier::from(secret), &body, now);
            prop_assert_eq!(verified, Ok(Verified { id: id.clone(), timestamp: now }));
        }
        prop_assert_eq!(all.verify_agent(&agent, &body), Ok(()));

        let mut longer = body.clone();
        longer.push(0);
        prop_assert_eq!(request.verify(&all, &longer, now), Err(VerifyError::NoMatch));
        if !body.is_empty() {
            let mut changed = body.clone();
            changed[place.index(body.len())] ^= 1 << bit;
            prop_assert_eq!(request.verify(&all, &changed, now), Err(VerifyError::NoMatch));
            prop_assert_eq!(all.verify_agent(&agent, &changed), Err(VerifyError::NoMatch));
        }
        let mut other = id.clone().into_bytes();
        let place = place.index(other.len());
        other[place] = if other[place] == b'x' { b'y' } else { b'x' };
        let other = Request { id: String::from_utf8(other).ok(), ..request.clone() };
        prop_assert_eq!(other.verify(&all, &body, now), Err(VerifyError::NoMatch));
        prop_assert_eq!(request.clone().at(&(seconds + 1).to_string()).verify(&all, &body, now), Err(VerifyError::NoMatch));
        let stranger = Verifier::from(&Secret::generate(&SystemRandom));
        prop_assert_eq!(request.verify(&stranger, &body, now), Err(VerifyError::NoMatch));
    }

    #[test]
    fn hostile_headers_never_panic(id in ".{0,20}", timestamp in "[0-9]{0,22}|.{0,5}", header in ".{0,200}|(v1a?,[A-Za-z0-9+/=]{0,90} ?){0,5}") {
        let lax = Verifier::new("client-secret").unwrap().tolerance(Duration::MAX);
        prop_assert!(Request::new(&id, 0, &header).at(&timestamp).verify(&lax, BODY, NOW).is_err());
        prop_assert!(lax.verify_agent(&header, BODY).is_err());
    }
}
