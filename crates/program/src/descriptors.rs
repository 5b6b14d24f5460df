//! File descriptors: how many the system allows, and bounds that fit.

use std::num::NonZeroU32;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Something that takes file descriptors, up to a bound.
#[derive(Clone, Copy, Debug)]
pub struct Bounded {
    /// What is bounded, for the log.
    pub name: &'static str,
    /// The bound.
    pub most: u32,
    /// The number of descriptors that each takes.
    pub each: u32,
}

impl Bounded {
    /// The connections of an API.
    pub fn connections(most: usize) -> Self {
        Self { name: "connections", most: u32::try_from(most).unwrap_or(u32::MAX), each: 1 }
    }

    /// Attempts in flight at once: each has a connection, or leaves an idle one.
    pub const fn attempts(most: NonZeroU32) -> Self {
        Self { name: "POSTRIDER_CONCURRENCY", most: most.get(), each: 2 }
    }
}

/// What a program has open besides: files, pipes, sockets of listeners, of the resolver and of exporters.
const OTHERS: u32 = 48;

/// As many connections to the telemetry address there are in any case: a scraper and some probes.
const LEAST_TELEMETRY: u32 = 4;

/// Returns bounds, and a number of connections to the telemetry address, for which there are file descriptors apart from
/// those for this many database connections. Raises the soft limit of the process if that is enough; if not, lowers all
/// bounds in proportion, and logs a warning.
pub(crate) fn fit<const N: usize>(
    database_connections: u32,
    bounds: [Bounded; N],
    telemetry: u32,
) -> ([u32; N], u32) {
    let kept = u64::from(OTHERS) + u64::from(database_connections);
    let taken = bounds.iter().map(|bound| u64::from(bound.most) * u64::from(bound.each));
    let wanted = taken.sum::<u64>() + u64::from(telemetry);
    let allowed = raise_to(kept + wanted);
    let room = allowed.saturating_sub(kept);
    if room >= wanted {
        return (bounds.map(|bound| bound.most), telemetry);
    }
    let fitting = bounds.map(|bound| share(bound.most, room, wanted));
    let lowered =
        bounds.iter().zip(fitting).map(|(bound, fits)| format!("{}: {} -> {fits}", bound.name, bound.most));
    tracing::warn!(
        allowed,
        wanted = kept + wanted,
        lowered = lowered.collect::<Vec<_>>().join(", "),
        "too few file descriptors; bounds were lowered"
    );
    (fitting, share(telemetry, room, wanted).max(telemetry.min(LEAST_TELEMETRY)))
}

/// The part of `most` that fits if there is room for `room` of `wanted` descriptors; one at least.
fn share(most: u32, room: u64, wanted: u64) -> u32 {
    let part = u128::from(most) * u128::from(room) / u128::from(wanted.max(1));
    u32::try_from(part).unwrap_or(most).clamp(1, most.max(1))
}

/// Raises the soft limit to `wanted`, or as far as the hard limit allows. Returns the limit.
fn raise_to(wanted: u64) -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let soft = limit.current.unwrap_or(u64::MAX);
    let raised = wanted.min(limit.maximum.unwrap_or(u64::MAX));
    if soft >= raised {
        return soft;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: Some(raised), ..limit }) {
        Ok(()) => raised,
        Err(_) => soft,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_shared_in_proportion() {
        assert_eq!(share(4096, 208, 4160), 204);
        assert_eq!(share(64, 208, 4160), 3);
        assert_eq!(share(512, 0, 1088), 1);
    }
}
