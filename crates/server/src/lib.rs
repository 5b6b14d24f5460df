//! The HTTP API of Postrider: events in, subscribers, deliveries and their attempts, statistics.
//!
//! [`Server::bind`] takes an address, [`Server::serve`] answers until it is told to stop and lets
//! requests in flight finish. [`router`] is the API alone, for an application that serves it itself.
//!
//! Every path under `/v1` wants the operator's key ([`AdminKey`]) and acts for one tenant. Every
//! error is a problem document (RFC 9457) whose `errors` name the fields that are wrong, and of a
//! request that is refused nothing is stored. `/openapi.json` describes it all and `/docs` shows it.
//!
//! | module | what it holds |
//! |---|---|
//! | `events`, `subscribers`, `deliveries`, `dead_letters`, `stats` | a resource each: routes, requests, answers |
//! | `auth`, `extract`, `limits`, `observe` | what every request goes through |
//! | `problem` | errors as they are answered |
//! | `openapi`, `docs` | the description, for programs and for people |
//! | `server`, `router`, `state` | putting it together |

mod auth;
mod config;
mod dead_letters;
mod deliveries;
mod docs;
mod events;
mod extract;
mod limits;
mod moment;
mod observe;
mod openapi;
mod page;
mod pressure;
mod problem;
mod router;
mod server;
mod state;
mod stats;
mod subscribers;

pub use auth::{AdminKey, AdminKeyError};
pub use config::{Config, ConfigError};
pub use pressure::Shedding;
pub use router::router;
pub use server::{BindError, Server};
pub use state::Parts;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
