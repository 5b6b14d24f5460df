//! The headers of a webhook request, as received.

use postrider_core::policy::RequestMethod;
use postrider_core::signing::{Signer, Verifier};
use postrider_core::{AgentId, CustomHeaders, EventId, EventType, Secret, Timestamp};
use postrider_delivery::{Encoded, Webhook};

use crate::receiver::Receiver;
use crate::setup::*;

const BODY: &[u8] =
    br#"{"event":"ai.response","timestamp":1700000000,"agent_id":"my-agent","data":{"a":"\u0000"}}"#;

#[tokio::test]
async fn a_request_has_exactly_the_documented_headers() {
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let (event_type, agent_id): (EventType, AgentId) =
        ("ai.response".parse().unwrap(), "my-agent".parse().unwrap());
    let event_id: EventId = "evt_01h455vb4pex5vsknk084sn02q".parse().unwrap();
    let signer = Signer::new(&Secret::parse("client-secret").unwrap(), &[]);
    let custom = CustomHeaders::try_new([("X-Api-Key".to_owned(), "t0psecret".to_owned())]).unwrap();
    let webhook = Webhook {
        method: RequestMethod::Post,
        event_id,
        event_type: &event_type,
        agent_id: &agent_id,
        body: Encoded::plain(BODY),
        content_type: "application/json",
        content_headers: &[],
        timestamp: Timestamp::from_millis(1_700_000_007_999),
        signer: &signer,
        headers: &custom,
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
    };
    let printed = format!("{:?}", webhook.headers().unwrap());
    assert!(!printed.contains("t0psecret") && !printed.contains("v1,"), "{printed}");

    let request = webhook.request(receiver.url("/").parse().unwrap(), None).unwrap();
    assert!(client(long_timeout()).send(request).await.is_success());
    let request = receiver.requests().remove(0);
    assert_eq!(request.body, BODY);
    let signature = signer.webhook_signature("evt_01h455vb4pex5vsknk084sn02q", 1_700_000_007, BODY);
    let mut expected = vec![
        ("content-length", BODY.len().to_string()),
        ("content-type", "application/json".to_owned()),
        ("host", receiver.address.to_string()),
        ("traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        ("user-agent", "AI-Agent-Webhook/1.0".to_owned()),
        ("webhook-id", "evt_01h455vb4pex5vsknk084sn02q".to_owned()),
        ("webhook-signature", signature),
        ("webhook-timestamp", "1700000007".to_owned()),
        ("x-agent-id", "my-agent".to_owned()),
        ("x-agent-signature", signer.agent_signature(BODY)),
        ("x-api-key", "t0psecret".to_owned()),
        ("x-event-type", "ai.response".to_owned()),
    ];
    expected.sort_unstable();
    let mut lines: Vec<_> = request.head.lines().skip(1).filter_map(|line| line.split_once(": ")).collect();
    lines.sort_unstable();
    assert_eq!(lines, expected.iter().map(|(name, value)| (*name, value.as_str())).collect::<Vec<_>>());
}

/// During a rotation a receiver may have either secret; for a `whsk_` key it has the public key.
#[tokio::test]
async fn each_secret_of_a_rotation_verifies_the_request() {
    const ED25519: &str = "whsk_BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    const STANDARD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let secret = |text: &str| Secret::parse(text).unwrap();
    let public = secret(ED25519).public_key().unwrap();
    let receiver = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let (event_type, agent_id): (EventType, AgentId) =
        ("ai.response".parse().unwrap(), "my-agent".parse().unwrap());
    let now = Timestamp::from_seconds(1_700_000_007);
    for (newest, previous, versions, verifiers) in [
        (ED25519, STANDARD, ["v1a,", "v1,"], [public.as_str(), STANDARD]),
        (STANDARD, ED25519, ["v1,", "v1a,"], [STANDARD, public.as_str()]),
        ("client-secret", STANDARD, ["v1,", "v1,"], ["client-secret", STANDARD]),
    ] {
        let signer = Signer::new(&secret(newest), &[secret(previous)]);
        let webhook = Webhook {
            method: RequestMethod::Post,
            event_id: "evt_01h455vb4pex5vsknk084sn02q".parse().unwrap(),
            event_type: &event_type,
            agent_id: &agent_id,
            body: Encoded::plain(BODY),
            content_type: "application/json",
            content_headers: &[],
            timestamp: now,
            signer: &signer,
            headers: &CustomHeaders::default(),
            traceparent: None,
        };
        let request = webhook.request(receiver.url("/").parse().unwrap(), None).unwrap();
        assert!(client(long_timeout()).send(request).await.is_success());

        let request = receiver.requests().pop().unwrap();
        let lines: Vec<_> = request.head.lines().filter_map(|line| line.split_once(": ")).collect();
        let header = |name: &str| lines.iter().find(|(other, _)| *other == name).map(|(_, value)| *value);
        let signatures: Vec<&str> = header("webhook-signature").unwrap().split(' ').collect();
        assert_eq!(signatures.len(), 2, "newest first: {signatures:?}");
        for (signature, version) in signatures.iter().zip(versions) {
            assert!(signature.starts_with(version), "{signatures:?}");
        }
        for key in verifiers {
            let verified = Verifier::new(key).unwrap().verify(header, &request.body, now).unwrap();
            assert_eq!(verified.id, "evt_01h455vb4pex5vsknk084sn02q");
        }
        assert!(Verifier::new("another secret").unwrap().verify(header, &request.body, now).is_err());
        // Only the newest secret signs `X-Agent-Signature`.
        let agent = header("x-agent-signature").unwrap();
        assert!(Verifier::new(newest).unwrap().verify_agent(agent, &request.body).is_ok());
        assert!(Verifier::new(previous).unwrap().verify_agent(agent, &request.body).is_err());
    }
}
