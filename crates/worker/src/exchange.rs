//! What an attempt sent, as it is recorded: without secrets.

use postrider_core::signing::sha256;
use postrider_delivery::{Request, Timings, Trail};
use postrider_store::exchange::{Exchange, Phases, SentRequest, SentValue};

/// Describes a request. Values that are marked sensitive are left out: signatures, and the subscriber's own headers.
pub(crate) fn request(request: &Request) -> SentRequest {
    let headers = request.headers.iter().map(|(name, value)| {
        let value = match value.to_str() {
            Ok(text) if !value.is_sensitive() => SentValue::Shown(text.to_owned()),
            _ => SentValue::Masked,
        };
        (name.as_str().to_owned(), value)
    });
    SentRequest {
        method: "POST".to_owned(),
        url: request.url.masked(),
        headers: headers.collect(),
        body_sha256: sha256(&request.body),
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

    use super::*;

    #[test]
    fn secrets_are_masked() {
        let mut headers = HeaderMap::new();
        headers.insert("x-event-type", HeaderValue::from_static("order.created"));
        let mut secret = HeaderValue::from_static("s3cret");
        secret.set_sensitive(true);
        headers.insert("x-api-key", secret);
        let url = "https://example.com/hook?token=s3cret".parse().unwrap();
        let sent = request(&Request { url, headers, body: "{}".into(), timeout: None, proxy: None });
        assert!(!format!("{sent:?}").contains("s3cret"), "{sent:?}");
        assert_eq!(sent.headers[0].1, SentValue::Shown("order.created".to_owned()));
        assert_eq!(hex::encode(sent.body_sha256)[..8], *"44136fa3");
    }
}
