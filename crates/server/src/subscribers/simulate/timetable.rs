//! When the attempts of a delivery are made, in virtual time.

use std::time::Duration;

use postrider_api::simulate::{SimulatedAttemptView, SimulatedEndView};
use postrider_core::policy::AttemptTimeout;
use postrider_core::script::{Ending, Script, Step};
use postrider_core::{DeadReason, DeliveryStatus, ErrorKind, Policy, Random, RetryPolicy};
use serde_json::Value;

/// The attempts of a delivery, and how it ends. Without a script all attempts fail at once, and the end is left open.
pub(super) fn timetable(
    policy: &Policy,
    request_timeout: Duration,
    script: Option<&Script>,
) -> (Vec<SimulatedAttemptView>, Option<SimulatedEndView>) {
    let timeout = policy.timeout().map_or(request_timeout, AttemptTimeout::duration);
    let policy = policy.retry(&RetryPolicy::default());
    let mut attempts = Vec::new();
    let mut after = Duration::ZERO;
    let mut end = None;
    for number in 1..=policy.max_attempts() {
        let step = script.map(|script| script.step(u64::from(number)));
        let error = step.as_ref().and_then(|step| error(step, timeout));
        attempts.push(SimulatedAttemptView {
            number,
            after_seconds: after.as_secs_f64(),
            answer: step.as_ref().map(Value::from),
            error,
        });
        let mut retry_after = None;
        if let Some(step) = step {
            after += step.delay.min(timeout);
            let dead_reason = match error {
                None => None,
                Some(ErrorKind::Status) if step.status == 410 => Some(DeadReason::Gone),
                Some(_) => Some(DeadReason::AttemptsUsedUp),
            };
            let status = if error.is_none() { DeliveryStatus::Succeeded } else { DeliveryStatus::Dead };
            // If no attempt follows, it is the end.
            end = Some(SimulatedEndView { status, dead_reason, after_seconds: after.as_secs_f64() });
            if error.is_none() || dead_reason == Some(DeadReason::Gone) {
                break;
            }
            let asks = error == Some(ErrorKind::Status) && matches!(step.status, 429 | 503);
            retry_after =
                step.retry_after.filter(|_| asks).map(|seconds| Duration::from_secs(seconds.into()));
        }
        let Some(delay) = policy.delay_after(number, retry_after, &Nothing) else { break };
        after += delay;
    }
    (attempts, end)
}

/// Why an attempt fails that is answered so.
fn error(step: &Step, timeout: Duration) -> Option<ErrorKind> {
    if step.delay >= timeout {
        Some(ErrorKind::TimeoutHeaders)
    } else if step.ending == Ending::Reset {
        Some(ErrorKind::Reset)
    } else {
        (!(200..300).contains(&step.status)).then_some(ErrorKind::Status)
    }
}

/// Chance that adds nothing.
#[derive(Debug)]
struct Nothing;

impl Random for Nothing {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}
