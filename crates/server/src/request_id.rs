//! The id of a request, by which callers, logs and traces name it.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use postrider_core::IdGenerator;
use postrider_core::id::RequestId;

/// The header that carries it, in requests and in answers.
pub(crate) const HEADER: HeaderName = HeaderName::from_static("x-request-id");

/// The longest id of a caller that is kept.
const LONGEST: usize = 128;

tokio::task_local! {
    static CURRENT: HeaderValue;
}

/// Returns the caller's id if it is well-formed (1 to 128 characters of `A-Z`, `a-z`, `0-9`, `-`, `_`, `.`, `:`), or a new one.
pub(crate) fn of(headers: &HeaderMap, ids: &IdGenerator) -> HeaderValue {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(byte);
    let given = headers
        .get(HEADER)
        .filter(|given| (1..=LONGEST).contains(&given.len()) && given.as_bytes().iter().all(is_allowed));
    given.cloned().unwrap_or_else(|| {
        let id: RequestId = ids.next();
        // An id has only characters that a header may have.
        HeaderValue::try_from(id.to_string()).unwrap_or(HeaderValue::from_static("unknown"))
    })
}

/// Runs the work on a request, whose id is `id`.
pub(crate) async fn within<T>(id: HeaderValue, work: impl Future<Output = T>) -> T {
    CURRENT.scope(id, work).await
}

/// Returns the id of the request on which this task works.
pub(crate) fn current() -> Option<String> {
    CURRENT.try_with(|id| id.to_str().ok().map(str::to_owned)).ok().flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_callers_id_is_kept_if_it_is_well_formed() {
        let ids = IdGenerator::system();
        let named = |given: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert(HEADER, HeaderValue::from_bytes(given).unwrap());
            of(&headers, &ids)
        };
        let longest = "x".repeat(LONGEST);
        for kept in ["a", "7f3.A_b-c:d", &longest] {
            assert_eq!(named(kept.as_bytes()), kept);
        }
        for replaced in ["", "a b", "a\tb", &format!("{longest}x"), "\u{e9}"] {
            assert!(named(replaced.as_bytes()).to_str().unwrap().starts_with("req_"), "{replaced}");
        }
        assert_ne!(of(&HeaderMap::new(), &ids), of(&HeaderMap::new(), &ids));
    }
}
