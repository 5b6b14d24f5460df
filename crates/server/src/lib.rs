//! The HTTP API of Postrider: it accepts events and serves subscribers, deliveries, attempts and statistics.
//!
//! [`Server::bind`] listens on an address. [`Server::serve`] answers until its shutdown future ends, and then lets
//! requests in flight finish. [`router`] is the API alone, for an application that serves it itself.
//!
//! Every path under `/v1` requires a key, the operator's ([`AdminKeys`]) or a stored one, and acts for one tenant. Every error is a problem
//! document (RFC 9457) whose `errors` name the invalid fields. A request that fails with 4xx stores nothing.
//! `/openapi.json` describes the API and `/docs` shows the description. The types of requests and responses are those
//! of `postrider_api`.
//!
//! | module | what it holds |
//! |---|---|
//! | `events`, `subscribers`, `deliveries`, `dead_letters`, `tenants`, `keys`, `audit`, `stats` | the handlers of one resource each |
//! | `sandboxes`, `listeners`, `receivers` | receivers inside Postrider |
//! | `needs`, `routes`, `auth`, `caller`, `extract`, `limits`, `pressure`, `observe`, `request_id` | what every request passes through |
//! | `known_keys`, `guesses`, `rate`, `address` | keys in use, wrong keys, requests per second, and who makes them |
//! | `counts` | metrics of keys |
//! | `console` | what the web console asks of this server, behind the feature `console` |
//! | `registry` | which tenants are registered, and which are being deleted |
//! | `problem` | errors |
//! | `openapi`, `webhook`, `docs` | the description, for programs and for people |
//! | `server`, `router`, `state`, `config`, `admin_key` | putting it together |
//! | [`views`] | stored rows as the API shows them |

mod address;
mod admin_key;
mod audit;
mod auth;
mod body;
mod caller;
mod config;
#[cfg(feature = "console")]
mod console;
mod counts;
mod created;
mod dead_letters;
mod deliveries;
mod described;
mod docs;
mod event_types;
mod events;
mod extract;
mod guesses;
mod keys;
mod known_keys;
mod known_types;
mod limits;
mod listeners;
mod matching;
mod named;
mod needs;
mod observe;
mod once;
mod openapi;
mod page;
mod places;
mod plugins;
mod portal;
mod pressure;
mod problem;
mod queue;
mod rate;
mod receivers;
mod registry;
mod replays;
mod request_id;
mod room;
mod router;
mod routes;
mod sandboxes;
mod server;
mod state;
mod stats;
mod subscribers;
mod tail;
mod tenants;
mod viewers;
pub mod views;
mod webhook;

pub use admin_key::{AdminKeys, AdminKeysError};
pub use config::{Config, ConfigError};
pub use places::Places;
pub use pressure::Shedding;
pub use router::{openapi_json, router};
pub use server::{BindError, Server};
pub use state::Parts;

/// Compiles the examples of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
