//! What finds credentials: the environment, profiles, web identities, containers, instances.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use reqsign_aws_v4::{Credential, DefaultCredentialProvider, RequestSigner, StaticCredentialProvider};
use reqsign_core::{Context, Error, ErrorKind, FileRead, HttpSend, OsEnv, Signer};

use crate::connection::Http;

/// How long a service that gives credentials may take. Outside AWS nothing answers at its address.
const LONGEST_ANSWER: Duration = Duration::from_secs(3);

/// The most bytes of an answer or a file with credentials.
const LARGEST: usize = 256 * 1024;

/// Signs requests to SQS in a region, and finds new credentials when the old ones expire. Programs that are named in a profile
/// (`credential_process`) are not run.
pub(crate) fn signer(http: &Http, region: &str, keys: Option<(&str, &str)>) -> Signer<Credential> {
    let context = Context::new().with_env(OsEnv).with_file_read(Files).with_http_send(Sender(http.clone()));
    let signer = RequestSigner::new("sqs", region);
    match keys {
        Some((id, secret)) => Signer::new(context, StaticCredentialProvider::new(id, secret), signer),
        None => Signer::new(context, DefaultCredentialProvider::new(), signer),
    }
}

#[derive(Debug)]
struct Files;

impl FileRead for Files {
    async fn file_read(&self, path: &str) -> reqsign_core::Result<Vec<u8>> {
        let failed = |error: std::io::Error| {
            Error::new(ErrorKind::ConfigInvalid, "cannot read a file").with_source(error)
        };
        if tokio::fs::metadata(path).await.map_err(failed)?.len() > LARGEST as u64 {
            return Err(Error::new(ErrorKind::ConfigInvalid, "a file with credentials is too long"));
        }
        tokio::fs::read(path).await.map_err(failed)
    }
}

#[derive(Debug)]
struct Sender(Http);

impl HttpSend for Sender {
    async fn http_send(&self, request: http::Request<Bytes>) -> reqsign_core::Result<http::Response<Bytes>> {
        let failed = |text: &'static str| Error::new(ErrorKind::Unexpected, text);
        let sending = async {
            let answer = self.0.request(request.map(Full::new)).await;
            let (head, body) = answer.map_err(|error| failed("no answer").with_source(error))?.into_parts();
            let body = Limited::new(body, LARGEST).collect().await;
            let body = body.map_err(|_| failed("an answer broke off or is too long"))?;
            Ok(http::Response::from_parts(head, body.to_bytes()))
        };
        tokio::time::timeout(LONGEST_ANSWER, sending).await.map_err(|_| failed("no answer in time"))?
    }
}
