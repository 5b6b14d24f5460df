//! A job as a message.

use std::borrow::Cow;
use std::time::Duration;

use postrider_queue::{JobId, LaneId, NewJob};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The longest message that is read. Ours have some hundred bytes.
const LONGEST: usize = 8 * 1024;

/// The longest trace context that is sent: a `traceparent` has 55 characters.
const LONGEST_TRACE: usize = 256;

#[derive(Serialize, Deserialize)]
struct Message<'a> {
    job: Uuid,
    lane: Uuid,
    owner: Cow<'a, str>,
    subject: Uuid,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<Cow<'a, str>>,
}

/// The message of a job. `None` if SQS would not take it, or this module not read it.
pub(crate) fn write(job: &NewJob) -> Option<String> {
    let message = Message {
        job: job.id.0,
        lane: job.lane.0,
        owner: Cow::Borrowed(&job.owner),
        subject: job.subject,
        trace: job.trace.as_deref().filter(|trace| trace.len() <= LONGEST_TRACE).map(Cow::Borrowed),
    };
    serde_json::to_string(&message).ok().filter(|text| text.len() <= LONGEST && text.chars().all(is_allowed))
}

/// The job of a message. `None` if it is no message of ours.
pub(crate) fn read(text: &str) -> Option<NewJob> {
    if text.len() > LONGEST {
        return None;
    }
    let message: Message<'_> = serde_json::from_str(text).ok()?;
    Some(NewJob {
        id: JobId(message.job),
        lane: LaneId(message.lane),
        owner: message.owner.into_owned(),
        subject: message.subject,
        delay: Duration::ZERO,
        trace: message.trace.map(Cow::into_owned).filter(|trace| trace.len() <= LONGEST_TRACE),
    })
}

/// The characters that a message may have (Amazon SQS API reference, `SendMessage`).
fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(owner: &str) -> NewJob {
        NewJob::now(JobId(Uuid::from_u128(1)), LaneId(Uuid::from_u128(2)), owner, Uuid::from_u128(3))
    }

    #[test]
    fn a_message_is_the_job_that_was_written() {
        let mut job = job("acme \"&\" \u{1}");
        job.trace = Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned());
        assert_eq!(read(&write(&job).unwrap()), Some(job));
    }

    #[test]
    fn what_sqs_would_not_take_is_not_written() {
        assert_eq!(write(&job("\u{fffe}")), None);
        assert_eq!(write(&job(&"o".repeat(LONGEST))), None);
    }

    #[test]
    fn what_is_no_message_is_not_read() {
        for text in ["", "{}", "null", "{\"job\":1}", &"[".repeat(LONGEST), &" ".repeat(LONGEST + 1)] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
