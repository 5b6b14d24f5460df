//! The example receiver, over a socket, with requests like those of deliveries.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use postrider_core::policy::RequestMethod;
use postrider_core::signing::{Signer, Verifier};
use postrider_core::{
    AgentId, Clock as _, CustomHeaders, EventType, IdGenerator, Secret, SystemClock, SystemRandom, Timestamp,
};
use postrider_delivery::{Encoded, Request, Webhook};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::notifier::local_client;

#[path = "../../examples/receiver.rs"]
mod receiver;

const BODY: &[u8] =
    br#"{"event":"order.created","timestamp":1700000000,"agent_id":"default","data":{"n":1}}"#;

#[tokio::test]
async fn the_example_accepts_signed_requests_and_acts_once() {
    let (secret, previous) = (Secret::generate(&SystemRandom), Secret::parse("client-secret").unwrap());
    let verifier = Verifier::new(secret.expose()).unwrap();
    let acted = Arc::new(Mutex::new(Vec::<Value>::new()));
    let act = Arc::clone(&acted);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/webhooks", listener.local_addr().unwrap());
    let app = receiver::app(
        verifier,
        Arc::new(SystemClock),
        Arc::new(move |event| act.lock().unwrap().push(event)),
    );
    tokio::spawn(axum::serve(listener, app).into_future());

    let client = local_client();
    let request = |signer: &Signer, id, at: Timestamp, body: &'static [u8]| -> Request {
        let webhook = Webhook {
            method: RequestMethod::Post,
            event_id: id,
            event_type: &"order.created".parse::<EventType>().unwrap(),
            agent_id: &AgentId::default(),
            body: Encoded::plain(body),
            content_type: "application/json",
            content_headers: &[],
            timestamp: at,
            signer,
            headers: &CustomHeaders::default(),
            traceparent: None,
        };
        webhook.request(url.parse().unwrap(), None).unwrap()
    };
    let send = async |request: Request| {
        let response = client.send(request).await.result.unwrap();
        (response.status, String::from_utf8(response.body.to_vec()).unwrap())
    };

    let ids = IdGenerator::system();
    let (first, second) = (ids.next(), ids.next());
    let now = SystemClock.now();
    let good = Signer::new(&secret, &[]);
    // During a rotation both secrets sign.
    let rotated = Signer::new(&previous, std::slice::from_ref(&secret));
    assert_eq!(send(request(&good, first, now, BODY)).await.0, 204);
    assert_eq!(send(request(&good, first, now, BODY)).await.0, 204, "a repeat");
    assert_eq!(send(request(&rotated, second, now, BODY)).await.0, 204);
    assert_eq!(acted.lock().unwrap().len(), 2);
    assert_eq!(acted.lock().unwrap()[0]["data"], json!({ "n": 1 }));

    let mut forged = request(&good, ids.next(), now, BODY);
    forged.body = BODY.to_ascii_uppercase().into();
    let mut unsigned = request(&good, ids.next(), now, BODY);
    unsigned.headers.remove("webhook-signature");
    let old = Timestamp::from_seconds(now.seconds() - 3600);
    let early = now + Duration::from_hours(1);
    for (request, what) in [
        (forged, "another body"),
        (unsigned, "no signature"),
        (request(&Signer::new(&previous, &[]), ids.next(), now, BODY), "another secret"),
        (request(&good, ids.next(), old, BODY), "old"),
        (request(&good, ids.next(), early, BODY), "early"),
    ] {
        let (status, text) = send(request).await;
        assert_eq!(status, 401, "{what}");
        assert!(!text.is_empty() && !text.contains(secret.expose()), "{what}: {text}");
    }
    assert_eq!(send(request(&good, ids.next(), now, b"not JSON")).await.0, 400);
    assert_eq!(acted.lock().unwrap().len(), 2);
}
