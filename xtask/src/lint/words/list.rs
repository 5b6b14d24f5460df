//! The words that the repository does not use, with their replacements. Only this file and `docs/STYLE.md` may contain
//! them.

/// A refused word or phrase.
#[derive(Debug)]
pub(super) struct Refused {
    /// A phrase also matches across line breaks, and in identifiers with underscores for its spaces.
    pub(super) text: &'static str,
    pub(super) instead: &'static str,
}

const fn refused(text: &'static str, instead: &'static str) -> Refused {
    Refused { text, instead }
}

pub(super) const LIST: &[Refused] = &[
    refused("design §", "the rule itself, or a link to a document of this repository"),
    refused("ailing", "failing"),
    refused("patience", "breaker policy (`BreakerPolicy`); for a wait in a test: deadline"),
    refused("record_well", "fast path (`record_fast`)"),
    refused("forgive", "reset"),
    refused("unwanted", "draining, or: deliveries of an inactive subscriber"),
    refused("howfared", "tally, or the verdict on the attempt"),
    refused("what went well", "successful attempts, or the fast path"),
    refused("is mended", "is fixed"),
    refused("as it must be", "ok, or the condition that holds"),
    refused("whoever", "the actor: the caller, the operator, anyone who"),
    refused("turned away", "rejected"),
    refused("are told", "are notified, are logged or are counted, with the actor as the subject"),
    refused("nobody asks", "what does not happen: no request, no query"),
    refused("meanwhile, nothing was written", "the statement was rolled back, and what follows"),
];
