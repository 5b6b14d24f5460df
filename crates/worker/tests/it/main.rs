//! The worker against real receivers, on both databases: every guarantee of the design that it holds up.

#![allow(clippy::print_stdout, reason = "what was measured is worth reading")]

#[cfg(test)]
mod breaking;
#[cfg(test)]
mod changing;
#[cfg(test)]
mod delivering;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod lanes;
#[cfg(test)]
mod leases;
#[cfg(test)]
mod operating;
#[cfg(test)]
mod outage;
#[cfg(test)]
mod replaying;
#[cfg(test)]
mod retrying;
#[cfg(test)]
mod stage;
#[cfg(test)]
mod states;
#[cfg(test)]
mod stopping;
#[cfg(test)]
mod unheard;
#[cfg(test)]
mod waking;
