//! Access tokens of OAuth 2.0 client credentials (RFC 6749, §4.4), obtained once for all attempts that need the same one.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT};
use http::{HeaderMap, HeaderValue};
use postrider_core::ErrorKind;
use postrider_core::auth::{ClientAuth, OAuth2};
use postrider_core::signing::sha256;
use serde::Deserialize;
use tokio::time::Instant;
use url::form_urlencoded;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::generations::Generations;
use crate::headers::{AGENT, basic, sensitive};
use crate::response::Response;

/// The number of clients whose tokens are remembered: half as many for certain.
const CLIENTS: usize = 2048;
/// The number of bytes of a token endpoint's answer.
pub(crate) const ANSWER: usize = 64 * 1024;
/// The greatest length of a token. It has to fit into a header.
const MAX_TOKEN: usize = 16 * 1024;
/// How long a token is used if its endpoint does not say, and at most.
const DEFAULT_LIFE: Duration = Duration::from_mins(5);
const MAX_LIFE: Duration = Duration::from_hours(24);
/// How long before its end a token is no longer used, so that it is still valid when it arrives: at most a quarter of its
/// life.
const MARGIN: Duration = Duration::from_secs(30);
/// How long those that need the same token share a failure instead of asking again.
const FAILED_FOR: Duration = Duration::from_secs(1);

/// The tokens of one client of the HTTP.
pub(crate) struct Tokens(Mutex<Generations<[u8; 32], Arc<Client>>>);

/// A client of an authorization server. Who holds the lock asks for a token; all others wait.
#[derive(Default)]
struct Client(tokio::sync::Mutex<State>);

#[derive(Default)]
struct State {
    token: Option<Token>,
    /// The number of tokens so far.
    tokens: u64,
    /// Whether the last token was discarded because the receiver rejected it.
    discarded: bool,
    failed: Option<(Instant, Failure)>,
}

#[derive(Clone)]
struct Token {
    header: HeaderValue,
    until: Instant,
    number: u64,
    /// Whether it replaced one that the receiver had rejected, and has not been accepted yet.
    replaces_rejected: bool,
}

/// A token for one attempt.
pub(crate) struct Granted {
    pub(crate) header: HeaderValue,
    number: u64,
    replaces_rejected: bool,
    client: Arc<Client>,
}

/// The successful answer of a token endpoint (RFC 6749, §5.1).
#[derive(Deserialize)]
struct Answer {
    access_token: Zeroizing<String>,
    token_type: Option<String>,
    expires_in: Option<Seconds>,
}

/// Some servers send the number as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum Seconds {
    Number(f64),
    Text(String),
}

/// The error of a token endpoint (RFC 6749, §5.2).
#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
}

impl Tokens {
    pub(crate) fn new() -> Self {
        Self(Mutex::new(Generations::new(CLIENTS / 2)))
    }

    /// Returns the token that is known, or asks for one with `ask`.
    pub(crate) async fn get(
        &self,
        oauth: &OAuth2,
        tls: Option<[u8; 32]>,
        ask: impl AsyncFnOnce() -> Result<Response, Failure>,
    ) -> Result<Granted, Failure> {
        let client = self.client(key(oauth, tls));
        let mut state = client.0.lock().await;
        let now = Instant::now();
        if let Some(token) = state.token.as_ref().filter(|token| now < token.until) {
            return Ok(granted(token, &client));
        }
        if let Some((until, failure)) = &state.failed
            && now < *until
        {
            return Err(failure.clone());
        }
        let obtained = match ask().await {
            Ok(response) => read(&response),
            Err(failure) => Err(Failure::of_token_endpoint(failure)),
        };
        match obtained {
            Ok((header, life)) => {
                state.tokens += 1;
                let until = Instant::now() + life.saturating_sub(MARGIN.min(life / 4));
                let replaces_rejected = std::mem::take(&mut state.discarded);
                let token = Token { header, until, number: state.tokens, replaces_rejected };
                state.failed = None;
                state.token = Some(token.clone());
                Ok(granted(&token, &client))
            }
            Err(failure) => {
                if failure.local.is_none() {
                    state.failed = Some((Instant::now() + FAILED_FOR, failure.clone()));
                }
                Err(failure)
            }
        }
    }

    fn client(&self, key: [u8; 32]) -> Arc<Client> {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        clients.get(&key).unwrap_or_else(|| {
            let client = Arc::new(Client::default());
            clients.insert(key, client.clone());
            client
        })
    }
}

impl Granted {
    /// Takes note of whether the receiver rejected the token (401). A rejected token is discarded, unless it is the
    /// replacement of another rejected one: then the receiver rejects the client, and another token would not help.
    pub(crate) async fn answered(&self, rejected: bool) {
        if !rejected && !self.replaces_rejected {
            return;
        }
        let mut state = self.client.0.lock().await;
        let Some(token) = state.token.as_mut().filter(|token| token.number == self.number) else { return };
        if !rejected {
            token.replaces_rejected = false;
        } else if !token.replaces_rejected {
            state.token = None;
            state.discarded = true;
        }
    }
}

fn granted(token: &Token, client: &Arc<Client>) -> Granted {
    let Token { header, number, replaces_rejected, .. } = token.clone();
    Granted { header, number, replaces_rejected, client: client.clone() }
}

/// The headers and the body of a request for a token.
pub(crate) fn request(oauth: &OAuth2) -> Result<(HeaderMap, Bytes), Failure> {
    let unsendable = || Failure::new(ErrorKind::Auth, "the client's credentials cannot be sent over HTTP");
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, AGENT);
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("grant_type", "client_credentials");
    for (name, value) in [("scope", &oauth.scope), ("audience", &oauth.audience)] {
        if let Some(value) = value {
            form.append_pair(name, value);
        }
    }
    match oauth.client_auth {
        ClientAuth::Basic => {
            let encode = |text: &str| -> Zeroizing<String> {
                Zeroizing::new(form_urlencoded::byte_serialize(text.as_bytes()).collect())
            };
            let header = basic(&encode(&oauth.client_id), &encode(&oauth.client_secret));
            headers.insert(AUTHORIZATION, header.ok_or_else(unsendable)?);
        }
        ClientAuth::Post => {
            form.append_pair("client_id", &oauth.client_id);
            form.append_pair("client_secret", &oauth.client_secret);
        }
    }
    Ok((headers, form.finish().into()))
}

/// Reads the answer of a token endpoint: the `Authorization` of requests, and how long the token may be used.
fn read(response: &Response) -> Result<(HeaderValue, Duration), Failure> {
    if !response.is_success() {
        let known = serde_json::from_slice::<ErrorAnswer>(&response.body).ok();
        return Err(Failure::token_refused(
            response.status,
            known.and_then(|answer| known_error(&answer.error)),
        ));
    }
    let unusable = |text| Failure::new(ErrorKind::Auth, text);
    if response.truncated || response.note.is_some() {
        return Err(unusable("the token endpoint's answer is too long or incomplete"));
    }
    let answer: Answer = serde_json::from_slice(&response.body).map_err(|_| {
        unusable("the token endpoint's answer is not JSON with an `access_token` (RFC 6749, §5.1)")
    })?;
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(unusable("the token endpoint issued a token that is no bearer token (RFC 6750)"));
    }
    let token = &answer.access_token;
    if token.is_empty() || token.len() > MAX_TOKEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(unusable("the token endpoint issued a token that cannot be sent in a header"));
    }
    let seconds = match answer.expires_in {
        Some(Seconds::Number(seconds)) => Some(seconds),
        Some(Seconds::Text(text)) => text.parse().ok(),
        None => None,
    };
    let life = seconds.and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    let header = sensitive(&Zeroizing::new(format!("Bearer {}", token.as_str())))
        .ok_or_else(|| unusable("the token endpoint issued a token that cannot be sent in a header"))?;
    Ok((header, life.unwrap_or(DEFAULT_LIFE).min(MAX_LIFE)))
}

/// The codes of RFC 6749, §5.2. No other text of the endpoint is shown.
fn known_error(code: &str) -> Option<&'static str> {
    const KNOWN: [&str; 6] = [
        "invalid_request",
        "invalid_client",
        "invalid_grant",
        "unauthorized_client",
        "unsupported_grant_type",
        "invalid_scope",
    ];
    KNOWN.into_iter().find(|known| *known == code)
}

/// The hash of everything that decides which token is obtained.
fn key(oauth: &OAuth2, tls: Option<[u8; 32]>) -> [u8; 32] {
    let OAuth2 { token_url, client_id, client_secret, client_auth, scope, audience } = oauth;
    let optional = |text: &Option<String>| text.as_ref().map_or([0; 32], |text| sha256(text.as_bytes()));
    // Hashes of the same length, so that no two lists of texts have the same hash.
    let parts = [
        sha256(token_url.as_str().as_bytes()),
        sha256(client_id.as_bytes()),
        sha256(client_secret.as_bytes()),
        sha256(client_auth.as_str().as_bytes()),
        optional(scope),
        optional(audience),
        tls.unwrap_or_default(),
    ];
    sha256(&parts.concat())
}
