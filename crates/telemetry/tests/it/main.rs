//! Telemetry as a program uses it: the listener over a socket, and the setup of a process.

#[cfg(test)]
mod listener;
#[cfg(test)]
mod setup;
