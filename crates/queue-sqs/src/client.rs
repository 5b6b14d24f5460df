//! Signed requests to SQS, repeated while SQS is busy.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use reqsign_aws_v4::Credential;
use reqsign_core::Signer;
use reqsign_core::hash::hex_sha256;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::connection::{Http, connect};
use crate::credentials;
use crate::error::SqsError;
use crate::url::SqsUrl;

/// The most bytes of an answer: ten messages of 1 MiB, were they others than ours.
const LARGEST: usize = 12 * 1024 * 1024;

/// How long SQS may take, apart from the time that it was asked to wait.
const LONGEST_ANSWER: Duration = Duration::from_secs(5);

/// How long to wait before the same call is made again. It is made no more often than this.
const AGAIN: [Duration; 3] =
    [Duration::from_millis(100), Duration::from_millis(300), Duration::from_millis(900)];

/// Codes of errors that pass.
const BUSY: [&str; 6] = [
    "RequestThrottled",
    "ThrottlingException",
    "Throttling",
    "TooManyRequestsException",
    "KmsThrottled",
    "ServiceUnavailable",
];

#[derive(Clone)]
pub(crate) struct Client {
    http: Http,
    signer: Signer<Credential>,
    endpoint: String,
}

impl Client {
    pub(crate) fn new(url: &SqsUrl, keys: Option<(&str, &str)>) -> Result<Self, SqsError> {
        let http = connect(LONGEST_ANSWER).map_err(|error| SqsError::Unreachable(Box::new(error)))?;
        let signer = credentials::signer(&http, &url.region, keys);
        Ok(Self { http, signer, endpoint: format!("{}/", url.endpoint) })
    }

    /// Makes a call, again if SQS is busy.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        call: &'static str,
        arguments: &impl Serialize,
    ) -> Result<T, SqsError> {
        self.call_and_wait(call, arguments, Duration::ZERO).await
    }

    /// The same with a call that SQS was asked to answer within `waits`.
    pub(crate) async fn call_and_wait<T: DeserializeOwned>(
        &self,
        call: &'static str,
        arguments: &impl Serialize,
        waits: Duration,
    ) -> Result<T, SqsError> {
        let body = serde_json::to_vec(arguments).map_err(|error| SqsError::Answer(call, Box::new(error)))?;
        let body = Bytes::from(body);
        let longest = LONGEST_ANSWER + waits;
        let mut pauses = AGAIN.iter();
        loop {
            let made = tokio::time::timeout(longest, self.call_once(call, body.clone())).await;
            match made.unwrap_or(Err(SqsError::Slow(longest.as_secs()))) {
                Err(error) if error.passes() && !matches!(error, SqsError::Slow(_)) => {
                    let Some(pause) = pauses.next() else { return Err(error) };
                    tracing::debug!(call, %error, "SQS is asked again");
                    tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
                }
                Err(error) => return Err(error),
                Ok(answer) => {
                    // Some calls answer with nothing.
                    let answer = if answer.is_empty() { Bytes::from_static(b"{}") } else { answer };
                    return serde_json::from_slice(&answer)
                        .map_err(|error| SqsError::Answer(call, Box::new(error)));
                }
            }
        }
    }

    async fn call_once(&self, call: &'static str, body: Bytes) -> Result<Bytes, SqsError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(&self.endpoint)
            .header("content-type", "application/x-amz-json-1.0")
            .header("x-amz-target", format!("AmazonSQS.{call}"))
            .header("x-amz-content-sha256", hex_sha256(&body))
            .body(())
            .map_err(|error| SqsError::Unreachable(Box::new(error)))?;
        let (mut head, ()) = request.into_parts();
        self.signer.sign(&mut head, None).await.map_err(SqsError::Credentials)?;
        let answer = self.http.request(Request::from_parts(head, Full::new(body))).await;
        let answer = answer.map_err(|error| SqsError::Unreachable(Box::new(error)))?;
        let status = answer.status();
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        let body = body.map_err(SqsError::Unreachable)?.to_bytes();
        if status.is_success() { Ok(body) } else { Err(refusal(call, status, &body)) }
    }
}

/// Reads an error. Its code comes after the name of a namespace.
fn refusal(call: &'static str, status: StatusCode, body: &[u8]) -> SqsError {
    // Some servers name the text twice, in both ways.
    let problem: Value = serde_json::from_slice(body).unwrap_or_default();
    let text = |name: &str| problem.get(name).and_then(Value::as_str);
    let code = text("__type").unwrap_or_default().rsplit(['#', '.']).next().unwrap_or_default();
    let code: String = code.chars().filter(char::is_ascii_alphanumeric).take(80).collect();
    let message = text("message").or_else(|| text("Message")).unwrap_or_default();
    let passes =
        status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || BUSY.contains(&code.as_str());
    let code = if code.is_empty() { status.as_u16().to_string() } else { code };
    SqsError::Refused { call, code, message: message.chars().take(300).collect(), passes }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}
