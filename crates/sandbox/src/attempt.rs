//! The result of an attempt at a sandbox, as if it had been a request.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, StatusCode};
use postrider_core::ErrorKind;
use postrider_core::script::Ending;
use postrider_delivery::{BodyNote, Failure, Response, Sent, Timings, Trail};
use tokio::time::{Instant, sleep_until};

use crate::receive::Reply;

/// Waits as long as a reply asks for, until `deadline` at the latest, and returns what the attempt that began at `started` has
/// come to.
pub async fn sent(reply: Reply, started: Instant, deadline: Instant) -> Sent {
    let answers_at = Instant::now() + reply.delay;
    sleep_until(answers_at.min(deadline)).await;
    let first_byte = Some(started.elapsed());
    let result = if answers_at >= deadline {
        Err(Failure::of_receiver(ErrorKind::TimeoutHeaders))
    } else if reply.ending == Ending::Reset {
        Err(Failure::of_receiver(ErrorKind::Reset))
    } else {
        Ok(response(&reply))
    };
    let body = result.is_ok().then_some(Duration::ZERO);
    let timings = Timings { first_byte, body, ..Timings::default() };
    Sent { duration: started.elapsed(), result, trail: Trail { timings, ..Trail::default() } }
}

fn response(reply: &Reply) -> Response {
    let mut headers = HeaderMap::new();
    for (name, value) in &reply.headers {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(*name, value);
        }
    }
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(Reply::CONTENT_TYPE));
    headers.insert(CONTENT_LENGTH, HeaderValue::from(reply.body.len()));
    let whole = Bytes::from(reply.body.clone());
    let (body, note) = match reply.ending {
        Ending::Cut => (whole.slice(..whole.len() / 2), Some(BodyNote::Broken)),
        _ => (whole, None),
    };
    let status = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::OK);
    Response::received(status, &headers, body, note)
}

#[cfg(test)]
mod tests {
    use postrider_core::script::Script;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn an_answer_is_what_the_client_would_have_returned() {
        let script = json!([{"status": 503, "retry_after": 7}, "reset", "cut", {"delay": "1m"}]);
        let script = Script::try_from(&script).unwrap();
        let now = Instant::now();
        let attempt = async |number| {
            let deadline = now + Duration::from_secs(if number == 4 { 0 } else { 30 });
            sent(Reply::of(&script.step(number)), now, deadline).await.result
        };
        let busy = attempt(1).await.unwrap();
        let asked = busy.retry_delay(postrider_core::Timestamp::from_seconds(0));
        assert_eq!((busy.status, asked), (503, Some(Duration::from_secs(7))));
        assert_eq!(attempt(2).await.unwrap_err().kind, ErrorKind::Reset);
        let cut = attempt(3).await.unwrap();
        assert_eq!((cut.status, cut.note), (200, Some(BodyNote::Broken)));
        assert_eq!(attempt(4).await.unwrap_err().kind, ErrorKind::TimeoutHeaders);
    }
}
