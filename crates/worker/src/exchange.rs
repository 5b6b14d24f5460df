//! What an attempt sent, as it is recorded: without secrets.

use http::header::AUTHORIZATION;
use postrider_core::signing::sha256;
use postrider_delivery::{Request, Timings, Trail};
use postrider_store::exchange::{Exchange, Phases, SentRequest, SentValue};

/// Describes a request. Values that are marked sensitive are left out: signatures, and the subscriber's own headers. So is the
/// `Authorization` that the client adds.
pub(crate) fn request(request: &Request) -> SentRequest {
    let authorizes = request.auth.as_ref().is_some_and(|auth| auth.kind().sets_authorization());
    let authorization = authorizes.then(|| (AUTHORIZATION.as_str().to_owned(), SentValue::Masked));
    let own = request.headers.iter().filter(|(name, _)| !authorizes || *name != AUTHORIZATION);
    let headers = own.map(|(name, value)| {
        let value = match value.to_str() {
            Ok(text) if !value.is_sensitive() => SentValue::Shown(text.to_owned()),
            _ => SentValue::Masked,
        };
        (name.as_str().to_owned(), value)
    });
    SentRequest {
        method: request.method.as_str().to_owned(),
        url: request.url.masked(),
        headers: headers.chain(authorization).collect(),
        body_sha256: sha256(&request.body),
        transform: None,
        versions: None,
    }
}

/// Describes the exchange of a request that was made.
pub(crate) fn of(request: SentRequest, trail: Trail) -> Exchange {
    let Timings { resolve, connect, tls, first_byte, body } = trail.timings;
    Exchange {
        request,
        remote: trail.remote,
        phases: Phases { resolve, connect, tls, first_byte, body },
        resent: trail.resent,
        note: trail.note,
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};
    use postrider_core::policy::RequestMethod;

    use super::*;

    #[test]
    fn secrets_are_masked() {
        let mut headers = HeaderMap::new();
        headers.insert("x-event-type", HeaderValue::from_static("order.created"));
        let mut secret = HeaderValue::from_static("s3cret");
        secret.set_sensitive(true);
        headers.insert("x-api-key", secret);
        let url = "https://example.com/hook?token=s3cret".parse().unwrap();
        let method = RequestMethod::Post;
        let (body, timeout) = ("{}".into(), None);
        let sent = request(&Request { method, url, headers, body, timeout, auth: None, proxy: None });
        assert!(!format!("{sent:?}").contains("s3cret"), "{sent:?}");
        assert_eq!(sent.headers[0].1, SentValue::Shown("order.created".to_owned()));
        assert_eq!(hex::encode(sent.body_sha256)[..8], *"44136fa3");
    }
}
