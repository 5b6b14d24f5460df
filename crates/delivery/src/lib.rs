//! One webhook attempt over HTTP: guarded connector, one deadline, capped response.
//!
//! [`Client::send`] makes one request to a URL that a stranger chose. Whatever the receiver does, the attempt ends by its
//! deadline, reads no more of the response than the limit, and connects to no address that the
//! [`TargetPolicy`](postrider_core::target::TargetPolicy) forbids. [`Webhook`] builds and signs the headers. Retrying
//! and recording are the worker's part.
//!
//! ```no_run
//! use postrider_core::policy::RequestMethod;
//! use postrider_delivery::{Client, Config, Request};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let client = Client::new(Config::default())?;
//! let request = Request {
//!     method: RequestMethod::Post,
//!     url: "https://example.com/hook".parse()?,
//!     headers: http::HeaderMap::new(),
//!     body: "{}".into(),
//!     timeout: None,
//!     auth: None,
//!     proxy: None,
//! };
//! let sent = client.send(request).await;
//! match sent.result {
//!     Ok(response) if response.is_success() => println!("delivered in {:?}", sent.duration),
//!     Ok(response) => println!("rejected with {}", response.status),
//!     Err(failure) => println!("{}: {failure}", failure.kind),
//! }
//! # Ok(())
//! # }
//! ```
//!
//! | module | contents |
//! |---|---|
//! | [`client`] | the client, its requests and their results |
//! | [`config`], [`bounds`] | the client's configuration, and the values that it may have |
//! | [`webhook`] | the headers of a webhook request |
//! | [`encoding`] | the body as it is signed and sent |
//! | [`response`] | the receiver's response, cut to its limits |
//! | [`failure`] | why an attempt got no response |
//! | [`client_tls`] | client certificates and private authorities |
//! | [`examine`] | what a connection shows, for a person who looks for a fault |
//! | [`progress`] | how long the phases of an attempt took |
//! | [`local`] | what this machine lacks |
//! | [`resolve`], [`dns`] | name resolution, and the resolver that is used unless another one is given |
//! | [`mod@retry_after`] | when the receiver asks for the next attempt |

pub mod bounds;
mod cause;
pub mod client;
pub mod client_tls;
pub mod config;
mod connection;
mod connector;
pub mod dns;
pub mod encoding;
pub mod examine;
pub mod failure;
mod generations;
mod h2_settings;
mod habits;
mod head;
mod headers;
mod keep_alive;
pub mod local;
mod origin;
mod pool;
pub mod progress;
mod proxy;
mod proxy_health;
mod resend;
pub mod resolve;
pub mod response;
pub mod retry_after;
mod socks;
mod stream;
mod tls;
mod token;
pub mod webhook;

pub use client::{Client, Request, Sent, Trail};
pub use client_tls::{ClientTls, ClientTlsError, ClientTlsReason};
pub use config::{Config, ConfigError};
pub use dns::DnsResolver;
pub use encoding::Encoded;
pub use examine::{Certificate, Examined};
pub use failure::Failure;
pub use local::LocalTrouble;
#[doc(no_inline)]
pub use postrider_core::{ProxyUrl, ProxyUrlError};
pub use progress::Timings;
pub use resolve::{Resolve, ResolveError};
pub use response::{BodyNote, Response};
pub use retry_after::{RetryAfter, retry_after};
pub use webhook::Webhook;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
