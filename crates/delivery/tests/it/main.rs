//! Attempts against all kinds of receivers, over real sockets.

#![allow(clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod answers;
mod auth;
mod bodies;
mod connections;
mod crowd;
mod dns;
mod dns_server;
mod h2_receiver;
mod http2;
mod logs;
mod nginx;
mod odd_answers;
mod proxies;
mod receiver;
mod setup;
mod socks_server;
mod targets;
mod texts;
mod timeouts;
mod tls;
mod unprocessed;
mod webhooks;
