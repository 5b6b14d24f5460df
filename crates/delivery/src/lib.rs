//! One webhook attempt over HTTP: guarded connector, one deadline, capped response.
//!
//! [`Client::send`] makes one POST to a URL that a stranger chose and says what came of it. Whatever
//! the receiver does, an attempt ends by its deadline, keeps no more of the answer than the limit,
//! and connects to no address that the [`TargetPolicy`](postrider_core::target::TargetPolicy)
//! forbids. It does not retry, sign or store: [`Webhook`] builds the headers, the worker does the rest.
//!
//! ```no_run
//! use postrider_delivery::{Client, Config, Request};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(Config::default())?;
//! let request = Request {
//!     url: "https://example.com/hook".parse()?,
//!     headers: http::HeaderMap::new(),
//!     body: "{}".into(),
//!     timeout: None,
//! };
//! let outcome = client.send(request).await;
//! match outcome.result {
//!     Ok(response) if response.is_success() => println!("delivered in {:?}", outcome.duration),
//!     Ok(response) => println!("refused with {}", response.status),
//!     Err(failure) => println!("{}: {failure}", failure.kind),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`client`] | the client, its requests and their outcomes |
//! | [`config`] | what can be set, and what is refused |
//! | [`response`] | the receiver's answer, cut to its limit |
//! | [`failure`] | why an attempt ended without an answer |
//! | [`resolve`] | names to addresses |
//! | [`proxy`] | the egress proxy |
//! | [`webhook`] | the headers of a webhook |
//! | [`mod@retry_after`] | how long a receiver asks to be left alone |

pub mod client;
pub mod config;
mod connector;
pub mod failure;
mod progress;
pub mod proxy;
pub mod resolve;
pub mod response;
pub mod retry_after;
mod tls;
pub mod webhook;

pub use client::{Client, Request, Sent};
pub use config::{Config, ConfigError};
pub use failure::Failure;
pub use proxy::{ProxyUrl, ProxyUrlError};
pub use resolve::{Resolve, ResolveError, SystemResolver};
pub use response::{BodyNote, Response};
pub use retry_after::{RetryAfter, retry_after};
pub use webhook::Webhook;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
