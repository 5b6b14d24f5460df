//! What a test expects of the requests that a sandbox has received.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use postrider_core::signing::WEBHOOK_ID;
use postrider_store::sandboxes::SandboxRequest;

/// What a test expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expectation {
    /// Every signature of every request matches, and no request lacks one.
    Verified,
    /// No request has an earlier event than the request before it. Repeats of the same event are fine.
    Ordered,
    /// No event is sent again after a 2xx answer.
    Unique,
}

/// An expectation that does not hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The expectation.
    pub expectation: Expectation,
    /// The request that breaks it, and how.
    pub detail: String,
}

/// A word that is no expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected words of verified, ordered and unique, separated by commas")]
pub struct UnknownExpectation;

impl Expectation {
    /// Returns the word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Verified => "verified",
            Self::Ordered => "ordered",
            Self::Unique => "unique",
        }
    }

    /// Returns the first of these expectations that does not hold, in their order; `None` if all of them hold.
    pub fn first_broken(expected: &[Self], requests: &[SandboxRequest]) -> Option<Broken> {
        expected.iter().find_map(|expectation| {
            expectation.broken(requests).map(|detail| Broken { expectation: *expectation, detail })
        })
    }

    fn broken(self, requests: &[SandboxRequest]) -> Option<String> {
        match self {
            Self::Verified => requests.iter().find_map(unverified),
            Self::Ordered => requests.iter().zip(requests.iter().skip(1)).find_map(|(before, after)| {
                let (earlier, later) = (before.header(WEBHOOK_ID)?, after.header(WEBHOOK_ID)?);
                // Ids begin with the time at which they were made.
                (later < earlier).then(|| {
                    format!("request {} has {later}, which is earlier than {earlier} before it", after.number)
                })
            }),
            Self::Unique => {
                let mut done = HashSet::new();
                requests.iter().find_map(|request| {
                    let id = request.header(WEBHOOK_ID)?;
                    if done.contains(id) {
                        return Some(format!("request {} repeats {id} after a 2xx answer", request.number));
                    }
                    if (200..300).contains(&request.step.status)
                        && request.step.ending != postrider_core::script::Ending::Reset
                    {
                        done.insert(id);
                    }
                    None
                })
            }
        }
    }
}

fn unverified(request: &SandboxRequest) -> Option<String> {
    let wrong = request.signatures.iter().find(|signature| !signature.valid)?;
    let why = wrong.detail.as_deref().unwrap_or("it does not match");
    Some(format!("request {}: {}: {why}", request.number, wrong.header))
}

impl FromStr for Expectation {
    type Err = UnknownExpectation;

    fn from_str(text: &str) -> Result<Self, UnknownExpectation> {
        let all = [Self::Verified, Self::Ordered, Self::Unique];
        all.into_iter().find(|one| one.as_str() == text).ok_or(UnknownExpectation)
    }
}

impl fmt::Display for Expectation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use postrider_core::Timestamp;
    use postrider_core::script::Step;
    use postrider_store::sandboxes::SandboxSignature;

    use super::*;

    fn request(number: u32, id: &str, status: u16, valid: bool) -> SandboxRequest {
        let header = "webhook-signature".to_owned();
        let detail = (!valid).then(|| "wrong".to_owned());
        SandboxRequest {
            number,
            received_at: Timestamp::from_seconds(0),
            method: "POST".to_owned(),
            headers: vec![(WEBHOOK_ID.to_owned(), id.to_owned())],
            body: Vec::new(),
            body_size: 0,
            signatures: vec![SandboxSignature { header, valid, reason: None, detail }],
            step: Step::status(status),
        }
    }

    #[test]
    fn the_first_broken_expectation_is_named() {
        use Expectation::{Ordered, Unique, Verified};
        let all = [Verified, Ordered, Unique];
        let good = [request(1, "a", 503, true), request(2, "a", 200, true), request(3, "b", 200, true)];
        assert_eq!(Expectation::first_broken(&all, &good), None);
        let broken = |requests: &[SandboxRequest]| Expectation::first_broken(&all, requests).unwrap();
        let found = broken(&[request(1, "b", 200, true), request(2, "a", 200, false)]);
        assert_eq!((found.expectation, &*found.detail), (Verified, "request 2: webhook-signature: wrong"));
        assert_eq!(broken(&[request(1, "b", 200, true), request(2, "a", 200, true)]).expectation, Ordered);
        assert_eq!(broken(&[request(1, "a", 200, true), request(2, "a", 200, true)]).expectation, Unique);
    }
}
