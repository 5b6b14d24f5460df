//! Replays: jobs that deliver again, or cancel, everything that matches a filter.

use crate::word::words;

words! {
    /// What a replay does, and to what.
    ReplayMode, "a mode" {
        /// Dead letters.
        Dead = 0, "dead";
        /// Every delivery that has ended, whatever its outcome.
        All = 1, "all";
        /// Events to active subscribers that match them now and have no delivery of them.
        Missed = 2, "missed";
        /// Pending deliveries, which are cancelled.
        Cancel = 3, "cancel";
    }
}

words! {
    /// How far a replay has come.
    ReplayStatus, "the status of a replay" {
        /// Its set is being collected.
        Collecting = 0, "collecting";
        /// Its set is complete, and is being processed.
        Running = 1, "running";
        /// Somebody has paused it.
        Paused = 2, "paused";
        /// All of its set was processed.
        Done = 3, "done";
        /// Somebody has cancelled it, or it has outlived the retention.
        Cancelled = 4, "cancelled";
    }
}

words! {
    /// Why a replay has passed over something of its set.
    ReplayFailure, "a reason" {
        /// The payload of the event was erased on request.
        PayloadErased = 0, "payload_erased";
        /// The payload of the event has expired.
        PayloadExpired = 1, "payload_expired";
        /// The delivery or its event does not exist any more.
        Removed = 2, "removed";
        /// The subscriber is not active, or was deleted.
        Inactive = 3, "inactive";
        /// It was delivered, requeued, cancelled or changed otherwise since the set was frozen.
        Changed = 4, "changed";
    }
}

impl ReplayStatus {
    /// Returns whether the replay has come to its end.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled)
    }
}
