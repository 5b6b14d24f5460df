//! How receivers are authenticated to: given, changed and shown.

use rcgen::{CertificateParams, KeyPair, date_time_ymd};
use serde_json::{Value, json};

use crate::api::{TestServer, fields};

const HOOK: &str = "http://127.0.0.1:9/hook";

fn subscriber(auth: &Value) -> Value {
    json!({"url": HOOK, "events": ["*"], "uid": "shop", "secret": "correct horse", "auth": auth})
}

fn basic() -> Value {
    json!({"type": "basic", "username": "postrider", "password": "swordfish"})
}

fn oauth2() -> Value {
    json!({
        "type": "oauth2", "token_url": "http://127.0.0.1:9/token", "client_id": "postrider", "client_secret": "swordfish",
        "scope": "events.write",
    })
}

/// A certificate that expires at the beginning of a year, and its key.
fn pem(year: i32) -> (String, String) {
    let mut params = CertificateParams::new(vec!["client.test".to_owned()]).unwrap();
    params.not_after = date_time_ymd(year, 1, 1);
    let key = KeyPair::generate().unwrap();
    (params.self_signed(&key).unwrap().pem(), key.serialize_pem())
}

#[tokio::test]
async fn secrets_are_shown_nowhere_and_null_takes_authentication_away() {
    let server = TestServer::start().await;
    let (certificate, key) = pem(4000);
    let mtls = json!({"type": "mtls", "certificate": certificate, "private_key": key});
    let tls = json!({"type": "tls", "ca": certificate});
    let secret_of_key = key.lines().nth(1).unwrap().to_owned();
    for (auth, expected) in [
        (basic(), json!({"type": "basic", "username": "postrider"})),
        (
            oauth2(),
            json!({
                "type": "oauth2", "token_url": "http://127.0.0.1:9/token", "client_id": "postrider",
                "client_auth": "client_secret_basic", "scope": "events.write",
            }),
        ),
        (mtls, json!({"type": "mtls", "expires_at": "4000-01-01T00:00:00.000Z"})),
        (tls, json!({"type": "tls", "expires_at": "4000-01-01T00:00:00.000Z"})),
    ] {
        let (status, created) = server.api.post("/v1/subscribers", &subscriber(&auth)).await;
        assert_eq!(status, 201, "{created}");
        let mut shown = created["auth"].clone();
        let certificate = shown.as_object_mut().unwrap().remove("certificate_sha256");
        let ca = shown.as_object_mut().unwrap().remove("ca_sha256");
        assert_eq!(certificate.is_some(), auth["type"] == "mtls");
        assert_eq!(ca.is_some(), auth["type"] == "tls");
        assert!(certificate.into_iter().chain(ca).all(|hash| hash.as_str().unwrap().len() == 64));
        assert_eq!(shown, expected);
        assert_eq!(server.api.get("/v1/subscribers/shop").await.1["auth"], created["auth"]);
        let (_, list) = server.api.get("/v1/subscribers").await;
        let (_, trail) = server.api.get("/v1/audit").await;
        assert!(trail["data"][0]["after"]["auth_fingerprint"].is_string(), "{trail}");
        let all = format!("{created}{list}{trail}");
        assert!(!all.contains("swordfish") && !all.contains(&secret_of_key), "{all}");
        let (status, removed) = server.api.patch("/v1/subscribers/shop", &json!({"auth": null})).await;
        assert_eq!((status, &removed["auth"]), (200, &Value::Null));
        assert_eq!(server.api.delete("/v1/subscribers/shop").await.0, 204);
    }
}

#[tokio::test]
async fn what_cannot_be_used_is_rejected_by_its_field() {
    let server = TestServer::start().await;
    let (certificate, key) = pem(4000);
    let (expired, expired_key) = pem(2020);
    let changed = |mut auth: Value, field: &str, value: Value| {
        auth[field] = value;
        auth
    };
    let mtls = |certificate: &str, key: &str| json!({"type": "mtls", "certificate": certificate, "private_key": key});
    for (auth, field) in [
        (json!({"username": "a"}), "auth.type"),
        (json!({"type": "digest"}), "auth.type"),
        (json!({"type": "basic", "username": "a", "password": "b", "realm": "c"}), "auth.realm"),
        (changed(basic(), "username", json!("a:b")), "auth.username"),
        (changed(basic(), "password", json!(null)), "auth.password"),
        (changed(basic(), "scope", json!("a")), "auth.scope"),
        (changed(oauth2(), "token_url", json!("http://10.0.0.1/token")), "auth.token_url"),
        (changed(oauth2(), "token_url", json!("nowhere")), "auth.token_url"),
        (changed(oauth2(), "client_auth", json!("none")), "auth.client_auth"),
        (mtls(&certificate, &expired_key), "auth.private_key"),
        (mtls("none", &key), "auth.certificate"),
        (mtls(&expired, &expired_key), "auth.certificate"),
        (json!({"type": "tls", "ca": "none"}), "auth.ca"),
    ] {
        let (status, problem) = server.api.post("/v1/subscribers", &subscriber(&auth)).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{auth}: {problem}");
        let put = json!({"url": HOOK, "events": ["*"], "auth": auth});
        let (status, problem) = server.api.put("/v1/subscribers/shop", &put).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{auth}: {problem}");
    }
    for (notify, field) in [
        (json!({"notify_url": "http://10.0.0.1/"}), "notify_url"),
        (json!({"notify_url": "mailto:a@b.example"}), "notify_url"),
        (json!({"notify_email": "nobody"}), "notify_email"),
    ] {
        let mut body = json!({"url": HOOK, "events": ["*"]});
        body.as_object_mut().unwrap().extend(notify.as_object().unwrap().clone());
        let (status, problem) = server.api.post("/v1/subscribers", &body).await;
        assert_eq!((status, fields(&problem)), (422, vec![field]), "{notify}: {problem}");
    }
    assert_eq!(server.api.get("/v1/subscribers").await.1["data"], json!([]));
}

#[tokio::test]
async fn a_change_merges_and_needs_the_secret_where_it_goes_elsewhere() {
    let server = TestServer::start().await;
    assert_eq!(server.api.post("/v1/subscribers", &subscriber(&oauth2())).await.0, 201);
    let patch = async |body: Value| server.api.patch("/v1/subscribers/shop", &body).await;

    let (status, changed) = patch(json!({"auth": {"scope": null, "audience": "https://api.example"}})).await;
    assert_eq!(status, 200, "{changed}");
    assert_eq!(
        (&changed["auth"]["scope"], &changed["auth"]["audience"]),
        (&Value::Null, &json!("https://api.example"))
    );
    assert_eq!(changed["auth"]["client_id"], "postrider", "it stays");
    assert_eq!(
        patch(json!({"auth": {"token_url": "http://127.0.0.1:9/other"}})).await.0,
        200,
        "the same host"
    );
    let elsewhere = json!({"auth": {"token_url": "http://127.0.0.2:9/token"}});
    let (status, problem) = patch(elsewhere.clone()).await;
    assert_eq!((status, fields(&problem)), (422, vec!["auth.token_url"]), "{problem}");
    assert_eq!(patch(json!({"auth": elsewhere["auth"], "keep_secrets": true})).await.0, 200);
    let known = json!({"auth": {"token_url": "http://127.0.0.3:9/token", "client_secret": "tuna"}});
    assert_eq!(patch(known).await.0, 200);

    // The receiver's host gets the token.
    let there = |host: u8| json!({"url": format!("http://127.0.0.{host}:9/"), "secret": "correct horse"});
    let with = |mut body: Value, auth: Value| {
        body["auth"] = auth;
        body
    };
    for (body, status) in [
        (there(5), 422),
        (with(there(5), json!({"scope": "a"})), 422),
        (with(there(5), json!({"client_secret": "tuna"})), 200),
        (json!({"url": "http://127.0.0.6:9/", "keep_secrets": true}), 200),
        (with(there(7), Value::Null), 200),
        (there(8), 200),
    ] {
        let (answered, problem) = patch(body.clone()).await;
        assert_eq!(answered, status, "{body}: {problem}");
    }

    // Of another type only `ca` stays.
    let (certificate, key) = pem(4000);
    assert_eq!(patch(json!({"auth": {"type": "tls", "ca": certificate}})).await.0, 200);
    assert_eq!(patch(json!({"auth": basic()})).await.1["auth"]["type"], "basic");
    let mtls = json!({"type": "mtls", "certificate": certificate, "private_key": key});
    let (status, changed) = patch(json!({"auth": mtls})).await;
    assert_eq!(status, 200, "{changed}");
    assert!(changed["auth"]["ca_sha256"].is_string() && changed["auth"]["username"].is_null(), "{changed}");
    let (_, changed) = patch(json!({"auth": {"ca": null}})).await;
    assert!(changed["auth"]["ca_sha256"].is_null() && changed["auth"]["certificate_sha256"].is_string());

    let put = json!({"url": "http://127.0.0.8:9/", "events": ["*"]});
    let (status, replaced) = server.api.put("/v1/subscribers/shop", &put).await;
    assert_eq!((status, &replaced["auth"]), (200, &Value::Null), "a replacement without it has none");
}

#[tokio::test]
async fn a_simulation_masks_the_authorization() {
    let server = TestServer::start().await;
    let event = json!({"event": "a.b", "data": {}});
    for auth in [basic(), oauth2()] {
        assert_eq!(server.api.put("/v1/subscribers/shop", &subscriber(&auth)).await.0 / 100, 2);
        for body in [
            json!({"event": event, "subscriber_id": "shop"}),
            json!({"event": event, "subscriber": subscriber(&auth)}),
        ] {
            let (status, answer) = server.api.post("/v1/simulate", &body).await;
            assert_eq!(status, 200, "{answer}");
            let headers = answer["data"][0]["request"]["headers"].as_array().unwrap();
            assert!(headers.contains(&json!({"name": "authorization", "value": "***"})), "{answer}");
            assert!(!answer.to_string().contains("swordfish"));
        }
    }
}

#[tokio::test]
async fn notices_have_addresses() {
    let server = TestServer::start().await;
    let body = json!({
        "url": HOOK, "events": ["*"], "uid": "shop", "notify_url": "http://127.0.0.1:9/notices",
        "notify_email": "ops@example.com",
    });
    let (status, created) = server.api.post("/v1/subscribers", &body).await;
    assert_eq!(status, 201, "{created}");
    let both = |view: &Value| (view["notify_url"].clone(), view["notify_email"].clone());
    assert_eq!(both(&created), (json!("http://127.0.0.1:9/notices"), json!("ops@example.com")));
    let (_, changed) = server.api.patch("/v1/subscribers/shop", &json!({"notify_url": null})).await;
    assert_eq!(both(&changed), (Value::Null, json!("ops@example.com")));
    let change = json!({"notify_url": "http://127.0.0.1:9/other", "notify_email": null});
    let (_, changed) = server.api.patch("/v1/subscribers/shop", &change).await;
    assert_eq!(both(&changed), (json!("http://127.0.0.1:9/other"), Value::Null));
    let (_, trail) = server.api.get("/v1/audit").await;
    assert_eq!(trail["data"][0]["after"]["notify_url"], "http://127.0.0.1:9/other", "{trail}");
}
