//! Why a subscriber gets an event or not: for simulations, and for explaining what became of an event.

use postrider_api::simulate::{FilterResultView, MatchReason};
use postrider_core::{Channels, EventId, EventPattern, EventType, Expression, chain};
use postrider_filter::{Filter, Subject};

/// The event type of test events. They go to one subscriber, whatever it and others match.
pub(crate) const TEST_EVENT: &str = "postrider.test";

/// What decides about an event, beside the filter.
#[derive(Clone, Copy)]
pub(crate) struct Criteria<'a> {
    pub(crate) active: bool,
    pub(crate) events: &'a [EventPattern],
    pub(crate) channels: Option<&'a Channels>,
}

impl Criteria<'_> {
    /// Why an event does not match; [`MatchReason::Matched`] if only a filter can decide otherwise.
    pub(crate) fn reason(&self, event_type: &EventType, channels: Option<&Channels>) -> MatchReason {
        let in_channel = match (channels, self.channels) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(event), Some(wanted)) => event.share_one(wanted),
        };
        if !self.active {
            MatchReason::Inactive
        } else if !self.events.iter().any(|pattern| pattern.matches(event_type)) {
            MatchReason::Pattern
        } else if !in_channel {
            MatchReason::Channel
        } else {
            MatchReason::Matched
        }
    }
}

/// What filters ask of a stored event, or why it cannot be read.
pub(crate) fn subject(id: EventId, channels: Option<&Channels>, envelope: &[u8]) -> Result<Subject, String> {
    Subject::of_envelope(id, channels, envelope).map_err(|error| chain(&error).to_string())
}

/// What a filter says of an event. One that fails lets the event pass.
pub(crate) fn filtered(filter: &Expression, subject: &Result<Subject, String>) -> FilterResultView {
    let ask = || {
        let filter = Filter::compile(filter).map_err(|error| error.to_string())?;
        let subject = subject.as_ref().map_err(String::clone)?;
        filter.matches(subject).map_err(|error| error.to_string())
    };
    match ask() {
        Ok(result) => FilterResultView { result: Some(result), error: None },
        Err(error) => FilterResultView { result: None, error: Some(error) },
    }
}
