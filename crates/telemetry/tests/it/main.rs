//! What a program sees of telemetry: the listener over a socket, and the one set-up of a process.

#[cfg(test)]
mod listener;
#[cfg(test)]
mod setup;
