//! What becomes of a claimed job, on its way from the attempt to the recorder.

use postrider_core::ErrorKind;
use postrider_queue::{Finish, Lease};
use postrider_store::attempt::{End, Outcome};
use postrider_telemetry::context::TraceParent;
use tokio::sync::mpsc;

/// What becomes of a claimed job.
#[derive(Debug)]
pub(crate) enum Completion {
    /// The job's delivery has an outcome to record.
    Delivery {
        outcome: Box<Outcome>,
        /// The context of the attempt's span, if traces are exported.
        trace: Option<TraceParent>,
    },
    /// The job is finished without an outcome.
    Job { lease: Lease, finish: Finish },
}

impl Completion {
    pub(crate) fn lease(&self) -> Lease {
        match self {
            Self::Delivery { outcome, .. } => outcome.lease,
            Self::Job { lease, .. } => *lease,
        }
    }

    /// Returns whether a request succeeded.
    pub(crate) fn has_succeeded(&self) -> bool {
        matches!(self, Self::Delivery { outcome, .. } if outcome.attempt.is_some() && outcome.end == End::Succeeded)
    }

    /// Returns whether a request has timed out; `None` if there was none.
    pub(crate) fn has_timed_out(&self) -> Option<bool> {
        use ErrorKind::{TimeoutConnect, TimeoutDns, TimeoutHeaders, TimeoutTls};
        let Self::Delivery { outcome, .. } = self else { return None };
        let kind = outcome.attempt.as_ref()?.verdict.error_kind();
        Some(matches!(kind, Some(TimeoutDns | TimeoutConnect | TimeoutTls | TimeoutHeaders)))
    }

    pub(crate) fn trace(&self) -> Option<TraceParent> {
        match self {
            Self::Delivery { trace, .. } => *trace,
            Self::Job { .. } => None,
        }
    }
}

/// Sends completions to the recorder. The channel is bounded: a slow database holds back claiming through it.
#[derive(Clone, Debug)]
pub(crate) struct Completions(mpsc::Sender<Completion>);

impl Completions {
    /// Creates a channel with room for this many completions.
    pub(crate) fn channel(room: usize) -> (Self, mpsc::Receiver<Completion>) {
        let (sender, receiver) = mpsc::channel(room);
        (Self(sender), receiver)
    }

    pub(crate) async fn send(&self, completion: Completion) {
        if self.0.send(completion).await.is_err() {
            // The job's lease expires, and another worker rescues it. The engine, which aborted the recorder, has
            // logged that.
            tracing::debug!("outcome lost because the recorder has stopped");
        }
    }
}
