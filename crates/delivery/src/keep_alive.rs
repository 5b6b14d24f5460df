//! How long a receiver keeps an idle connection, as it says in `Keep-Alive: timeout=5`.

use std::time::Duration;

use http::HeaderMap;

/// What to leave of the announced time, so that a request does not arrive while the receiver closes the connection.
const MARGIN: Duration = Duration::from_secs(1);

/// Returns how long to keep a connection after a response with these headers; `None` if the receiver does not say.
pub(crate) fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("keep-alive")?.to_str().ok()?;
    let seconds = value.split(',').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("timeout").then(|| value.parse::<u32>().ok())?
    })?;
    let announced = Duration::from_secs(seconds.into());
    Some(announced.saturating_sub(MARGIN).max(announced / 2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn of(value: &[u8]) -> Option<u128> {
        let mut headers = HeaderMap::new();
        headers.insert("keep-alive", HeaderValue::from_bytes(value).ok()?);
        keep_alive(&headers).map(|keep| keep.as_millis())
    }

    #[test]
    fn the_announced_time_is_kept_with_a_margin() {
        for (value, millis) in [
            ("timeout=5", Some(4000)),
            ("timeout=5, max=100", Some(4000)),
            ("max=100,Timeout = \"20\"", Some(19_000)),
            ("timeout=2", Some(1000)),
            ("timeout=1", Some(500)),
            ("timeout=0", Some(0)),
            ("timeout=-1", None),
            ("timeout=99999999999", None),
            ("timeout", None),
            ("5", None),
            ("", None),
        ] {
            assert_eq!(of(value.as_bytes()), millis, "{value}");
        }
    }

    proptest! {
        #[test]
        fn any_value_is_read_without_a_panic(value in proptest::collection::vec(any::<u8>(), 0..40)) {
            let _ = of(&value);
        }
    }
}
