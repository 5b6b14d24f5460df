//! The worker against real receivers, on both databases: the guarantees that it upholds.

#![allow(clippy::print_stdout, reason = "the tests print what they measure")]

#[cfg(test)]
mod breaker;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod delivering;
#[cfg(test)]
mod draining;
#[cfg(test)]
mod erasure;
#[cfg(test)]
mod fan_out;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod inside;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod local_trouble;
#[cfg(test)]
mod lost_replies;
#[cfg(test)]
mod operators;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod owner_notices;
#[cfg(test)]
mod payloads;
#[cfg(test)]
mod plugins;
#[cfg(test)]
mod replays;
#[cfg(test)]
mod requeuing;
#[cfg(test)]
mod retrying;
#[cfg(test)]
mod several;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod states;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod transforms;
#[cfg(test)]
mod waking;
