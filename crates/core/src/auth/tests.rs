//! Which fields each type has, and their bounds.

use super::*;

fn auth(json: &str) -> Result<ReceiverAuth, AuthError> {
    ReceiverAuth::try_from(serde_json::from_str::<AuthFields>(json).unwrap())
}

#[test]
fn each_type_has_its_own_fields() {
    for (json, invalid) in [
        (r#"{"type":"basic","username":"a","password":""}"#, None),
        (r#"{"type":"basic","username":"a","password":"b","ca":"PEM"}"#, None),
        (r#"{"type":"basic","username":"a"}"#, Some("password")),
        (r#"{"type":"basic","username":"","password":"b"}"#, Some("username")),
        (r#"{"type":"basic","username":"a:b","password":"b"}"#, Some("username")),
        (r#"{"type":"basic","username":"a","password":"b\n"}"#, Some("password")),
        (r#"{"type":"basic","username":"a","password":"b","scope":"c"}"#, Some("scope")),
        (r#"{"type":"tls","ca":"PEM"}"#, None),
        (r#"{"type":"tls"}"#, Some("ca")),
        (r#"{"type":"tls","ca":"PEM","certificate":"PEM"}"#, Some("certificate")),
        (r#"{"type":"mtls","certificate":"a\nb","private_key":"c"}"#, None),
        (r#"{"type":"mtls","certificate":"a"}"#, Some("private_key")),
        (r#"{"type":"mtls","private_key":"a"}"#, Some("certificate")),
        (r#"{"type":"oauth2","token_url":"https://a.example/t","client_id":"a","client_secret":"b"}"#, None),
        (
            r#"{"type":"oauth2","token_url":"ftp://a.example/t","client_id":"a","client_secret":"b"}"#,
            Some("token_url"),
        ),
        (r#"{"type":"oauth2","token_url":"https://a.example/t","client_id":"a"}"#, Some("client_secret")),
        (
            r#"{"type":"oauth2","token_url":"https://a.example/t","client_id":"a","client_secret":"b","scope":"c  d"}"#,
            Some("scope"),
        ),
    ] {
        assert_eq!(auth(json).err().map(|error| error.field), invalid, "{json}");
    }
    for json in
        [r#"{"type":"digest"}"#, r#"{"username":"a","password":"b"}"#, r#"{"type":"tls","other":1}"#, "[]"]
    {
        assert!(serde_json::from_str::<AuthFields>(json).is_err(), "{json}");
    }
}

#[test]
fn lengths_are_bounded() {
    let long = "a".repeat(SECRET + 1);
    let error = auth(&format!(r#"{{"type":"basic","username":"a","password":"{long}"}}"#)).unwrap_err();
    assert_eq!(error.to_string(), "password: must have 0 to 2048 bytes");
    let long = "a".repeat(PEM + 1);
    assert_eq!(auth(&format!(r#"{{"type":"tls","ca":"{long}"}}"#)).unwrap_err().field, "ca");
}

#[test]
fn what_is_sealed_is_read_again() {
    for json in [
        r#"{"type":"basic","username":"a","password":"b","ca":"PEM"}"#,
        r#"{"type":"oauth2","token_url":"https://a.example/t","client_id":"a","client_secret":"b","client_auth":"client_secret_post","scope":"c d","audience":"e"}"#,
        r#"{"type":"mtls","certificate":"a","private_key":"b"}"#,
        r#"{"type":"tls","ca":"PEM"}"#,
    ] {
        let auth = auth(json).unwrap();
        assert_eq!(std::str::from_utf8(&auth.to_bytes()).unwrap(), json);
        assert!(ReceiverAuth::from_bytes(json.as_bytes()).is_some_and(|read| read == auth), "{json}");
        let shown = serde_json::to_string(&auth.fields().without_secrets()).unwrap();
        let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
        let secret = AuthFields::secret_of(auth.kind());
        assert!(secret.is_none_or(|secret| json.contains(secret) && shown.get(secret).is_none()), "{shown}");
    }
    assert!(ReceiverAuth::from_bytes(b"{}").is_none());
}
