//! The ids under which the queue knows subscribers and jobs.

use postrider_core::{JobId, SubscriberId};
use postrider_queue::LaneId;

/// The lane of a subscriber's jobs.
pub fn lane_of(subscriber: SubscriberId) -> LaneId {
    LaneId(subscriber.uuid())
}

/// A job's id in the queue.
pub fn queued(job: JobId) -> postrider_queue::JobId {
    postrider_queue::JobId(job.uuid())
}
