//! How receivers are authenticated to: validated, changed and shown.

use axum::http::StatusCode;
use postrider_api::Moment;
use postrider_api::subscriber::{AuthView, Change};
use postrider_core::auth::{AuthFields, AuthKind, Credentials};
use postrider_core::merge_patch::merge;
use postrider_core::{ErrorKind, ReceiverAuth, Timestamp};
use postrider_delivery::{Client, ClientTlsError};
use postrider_store::StoreError;
use postrider_store::subscribers::{Changing, NewAuth, ShownAuth};
use serde_json::{Map, Value};

use crate::extract::parse;
use crate::problem::{Errors, Problem};

/// The authentication of a new subscriber.
pub(super) fn new(
    fields: AuthFields,
    targets: &Client,
    now: Timestamp,
    errors: &mut Errors,
) -> Option<NewAuth> {
    let auth = ReceiverAuth::try_from(fields);
    let auth = auth.map_err(|error| errors.add(&format!("auth.{}", error.field), &error.reason)).ok()?;
    let mut refused = |error: ClientTlsError| errors.add(&format!("auth.{}", error.field), &error.reason);
    let tls = targets.client_tls(&auth).map_err(&mut refused).ok()?;
    if let Some(tls) = &tls {
        tls.valid_at(now).map_err(&mut refused).ok()?;
    }
    Some(NewAuth { auth, expires_at: tls.and_then(|tls| tls.expires_at()) })
}

/// A change to an authentication.
pub(super) struct AuthChange {
    /// The new authentication.
    pub(super) new: Change<NewAuth>,
    /// Whether the caller knows the secrets that a host of theirs would get.
    pub(super) is_repeated: bool,
}

/// The authentication after a change.
pub(super) fn changed(
    present: &Changing<'_>,
    change: Change<Map<String, Value>>,
    keep_secrets: bool,
    targets: &Client,
    now: Timestamp,
    errors: &mut Errors,
) -> Result<AuthChange, Problem> {
    let changes = match change {
        Change::Keep => return Ok(AuthChange { new: Change::Keep, is_repeated: !present.has_auth }),
        Change::Reset => return Ok(AuthChange { new: Change::Reset, is_repeated: true }),
        Change::Set(changes) => changes,
    };
    let before = opened(present)?;
    let mut merged = match &before {
        Some(before) => serde_json::to_value(before.fields()).map_err(|_| Problem::internal())?,
        None => Value::Object(Map::new()),
    };
    if let (Some(before), Some(kind)) = (&before, changes.get("type").and_then(Value::as_str))
        && kind != before.kind().as_str()
    {
        // The other fields of another type mean nothing.
        let ca = before.ca().map(|ca| ("ca".to_owned(), ca.into()));
        merged = Value::Object(ca.into_iter().collect());
    }
    let given: Vec<String> =
        changes.iter().filter(|(_, value)| !value.is_null()).map(|(name, _)| name.clone()).collect();
    merge(&mut merged, Value::Object(changes));
    let fields: AuthFields = parse(merged.to_string().as_bytes(), "auth")?;
    let secret = AuthFields::secret_of(fields.kind);
    let is_repeated = secret.is_none_or(|secret| given.iter().any(|name| name == secret));
    let new = new(fields, targets, now, errors);
    if let Some(new) = &new
        && !is_repeated
        && !keep_secrets
        && moves(before.as_ref(), &new.auth)
    {
        errors.add(
            "auth.token_url",
            "moves to another host: repeat `client_secret`, or set `keep_secrets` to true",
        );
    }
    // If there is no new one, `errors` has the reason.
    Ok(AuthChange { new: new.map_or(Change::Keep, Change::Set), is_repeated })
}

/// Refuses a token endpoint at a forbidden address. A name that does not resolve is accepted, since it may resolve later.
pub(super) async fn check_target(auth: &ReceiverAuth, targets: &Client) -> Result<(), Problem> {
    let Credentials::OAuth2(oauth) = auth.credentials() else { return Ok(()) };
    match targets.check(&oauth.token_url).await {
        Err(failure) if failure.kind == ErrorKind::Blocked => Err(Problem::field("auth.token_url", &failure)),
        _ => Ok(()),
    }
}

/// Refuses the new token endpoint of a change at a forbidden address. What is wrong with its URL is found later.
pub(super) async fn check_new_target(
    change: &Change<Map<String, Value>>,
    targets: &Client,
) -> Result<(), Problem> {
    let Change::Set(changes) = change else { return Ok(()) };
    let url = changes.get("token_url").and_then(Value::as_str).map(str::parse);
    let Some(Ok(url)) = url else { return Ok(()) };
    match targets.check(&url).await {
        Err(failure) if failure.kind == ErrorKind::Blocked => Err(Problem::field("auth.token_url", &failure)),
        _ => Ok(()),
    }
}

/// The authentication, as the API shows it.
pub(super) fn view(shown: ShownAuth) -> AuthView {
    let Some(fields) = shown.fields else { return AuthView::default() };
    let [certificate_sha256, ca_sha256] = [fields.certificate.as_deref(), fields.ca.as_deref()]
        .map(|pem| pem.and_then(postrider_delivery::client_tls::fingerprint).map(hex::encode));
    AuthView {
        kind: Some(fields.kind),
        client_auth: (fields.kind == AuthKind::OAuth2).then(|| fields.client_auth.unwrap_or_default()),
        username: fields.username,
        token_url: fields.token_url,
        client_id: fields.client_id,
        scope: fields.scope,
        audience: fields.audience,
        certificate_sha256,
        ca_sha256,
        expires_at: shown.expires_at.map(Moment),
    }
}

/// Whether the client's secret would go to another host.
fn moves(before: Option<&ReceiverAuth>, after: &ReceiverAuth) -> bool {
    let endpoint = |auth: &ReceiverAuth| match auth.credentials() {
        Credentials::OAuth2(oauth) => Some(oauth.token_url.host().to_owned()),
        _ => None,
    };
    match (before.and_then(endpoint), endpoint(after)) {
        (Some(before), Some(after)) => before != after,
        _ => false,
    }
}

fn opened(present: &Changing<'_>) -> Result<Option<ReceiverAuth>, Problem> {
    present.auth().map_err(|error| match error {
        StoreError::Keyring(_) => Problem::new(
            StatusCode::CONFLICT,
            "the present `auth` cannot be decrypted with the server's keys; remove it with `\"auth\": null` first",
        ),
        error => error.into(),
    })
}
