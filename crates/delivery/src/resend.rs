//! Whether a request that got no answer is sent again within its attempt.
//!
//! A receiver says of some requests that it has not processed them. Sending such a request again repeats nothing. Of
//! others nobody knows: a receiver may close an idle connection while a request is on its way, and a client cannot tell
//! that from a receiver that fails while it works.

use h2::Reason;

use crate::cause::{cause, is_closed};

/// What may be done with a request that got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resend {
    /// The receiver has not processed the request: send it on another connection. This repeats nothing.
    Unprocessed,
    /// As above, and the receiver asks for HTTP/1.1.
    OverHttp1,
    /// The receiver may have processed the request, but more likely has closed a connection that it considered idle:
    /// send it once more, on a new connection.
    MaybeProcessed,
    /// The request has failed.
    No,
}

/// A request that got no answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Unanswered {
    pub(crate) reason: EndReason,
    pub(crate) http2: bool,
    /// Whether the connection had answered an earlier request.
    pub(crate) reused: bool,
    /// Whether bytes have arrived since the request was sent. HTTP/2 connections are shared, so there they say nothing.
    pub(crate) received: bool,
}

/// Why a request got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndReason {
    /// Nothing of the request was sent, because its connection was closing.
    Unsent,
    /// The receiver ended the connection before this request (GOAWAY), or refused it (`REFUSED_STREAM`): it has processed
    /// no part of it (RFC 9113, §8.7).
    Refused,
    /// The receiver requires HTTP/1.1 (`HTTP_1_1_REQUIRED`; RFC 9113, §7).
    Http1Required,
    /// The connection was closed or lost.
    Closed,
    /// Anything else: the receiver answered with something that is not HTTP, or reset the request.
    Failed,
}

/// How often one attempt sends a request that was not processed.
const MAX_UNPROCESSED: u32 = 20;

impl EndReason {
    /// Translates an error of the HTTP client. `unsent` says that it handed the request back.
    pub(crate) fn of(error: &hyper::Error, http2: bool, unsent: bool) -> Self {
        if unsent {
            return Self::Unsent;
        }
        if let Some(error) = cause::<h2::Error>(error) {
            // h2 gives this error of the receiver's to requests above the GOAWAY's last stream only.
            let refused = error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM);
            return match (error.is_remote(), error.reason()) {
                (true, Some(Reason::HTTP_1_1_REQUIRED)) => Self::Http1Required,
                (true, _) if refused => Self::Refused,
                _ if error.is_io() => Self::Closed,
                _ => Self::Failed,
            };
        }
        if http2 && error.is_user() {
            // The request waited for a stream when its connection ended (hyper drops it without handing it back). Its
            // body was not sent, so it cannot have been processed.
            return Self::Unsent;
        }
        if is_closed(error) { Self::Closed } else { Self::Failed }
    }
}

impl Resend {
    pub(crate) fn of(request: Unanswered) -> Self {
        let Unanswered { reason, http2, reused, received } = request;
        match reason {
            EndReason::Refused => Self::Unprocessed,
            EndReason::Http1Required => Self::OverHttp1,
            // A new connection that closes at once is a failure of the receiver, unless HTTP/2 has ended it.
            EndReason::Unsent if reused || http2 => Self::Unprocessed,
            EndReason::Closed if reused && (http2 || !received) => Self::MaybeProcessed,
            EndReason::Unsent | EndReason::Closed | EndReason::Failed => Self::No,
        }
    }
}

/// What an attempt has sent again so far.
#[derive(Debug, Default)]
pub(crate) struct Resends {
    unprocessed: u32,
    /// Whether a request was sent again that the receiver may have processed.
    pub(crate) repeated: bool,
}

impl Resends {
    /// Counts a request that got no answer, and returns whether it may be sent again.
    pub(crate) fn allow(&mut self, resend: Resend) -> bool {
        match resend {
            Resend::Unprocessed | Resend::OverHttp1 => {
                self.unprocessed += 1;
                self.unprocessed <= MAX_UNPROCESSED
            }
            Resend::MaybeProcessed => !std::mem::replace(&mut self.repeated, true),
            Resend::No => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> impl Iterator<Item = Unanswered> {
        use EndReason::{Closed, Failed, Http1Required, Refused, Unsent};
        let flags = [false, true];
        [Unsent, Refused, Http1Required, Closed, Failed].into_iter().flat_map(move |reason| {
            flags.into_iter().flat_map(move |http2| {
                flags.into_iter().flat_map(move |reused| {
                    flags.into_iter().map(move |received| Unanswered { reason, http2, reused, received })
                })
            })
        })
    }

    #[test]
    fn only_what_the_receiver_did_not_process_is_sent_again_without_a_record() {
        for request in all() {
            let unprocessed = matches!(Resend::of(request), Resend::Unprocessed | Resend::OverHttp1);
            let proven = match request.reason {
                EndReason::Refused | EndReason::Http1Required | EndReason::Unsent => true,
                EndReason::Closed | EndReason::Failed => false,
            };
            assert!(proven || !unprocessed, "{request:?}");
        }
    }

    #[test]
    fn a_new_connection_that_closes_is_a_failure() {
        for request in all().filter(|request| !request.reused && !request.http2) {
            let failed = !matches!(request.reason, EndReason::Refused | EndReason::Http1Required);
            assert!(!failed || Resend::of(request) == Resend::No, "{request:?}");
        }
    }

    #[test]
    fn a_begun_answer_is_never_asked_for_again() {
        for request in all().filter(|request| request.received && !request.http2) {
            assert_ne!(Resend::of(request), Resend::MaybeProcessed, "{request:?}");
        }
    }

    #[test]
    fn sending_again_ends() {
        let mut resends = Resends::default();
        assert!((0..MAX_UNPROCESSED).all(|_| resends.allow(Resend::Unprocessed)) && !resends.repeated);
        assert!(!resends.allow(Resend::OverHttp1));
        assert!(resends.allow(Resend::MaybeProcessed) && resends.repeated);
        assert!(!resends.allow(Resend::MaybeProcessed));
        assert!(!resends.allow(Resend::No));
    }
}
