//! Attempts against all kinds of receivers, over real sockets.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod answers;
mod bodies;
mod connections;
mod crowd;
mod http2;
mod logs;
mod proxies;
mod receiver;
mod setup;
mod targets;
mod texts;
mod timeouts;
mod tls;
mod webhooks;
