//! The web console: pages over the HTTP API, rendered on the server.
//!
//! [`routes`] makes its routes, all of them below `/console`. What they show comes from an [`Api`], which a server implements
//! by calling its own API in the process, so that scopes, tenants, limits and the audit trail are those of the session's key.
//!
//! | module | what it holds |
//! |---|---|
//! | `api` | what the console asks of its server |
//! | `guard` | headers of every response, and which writes are refused |
//! | `visit`, `call`, `failure` | one request of somebody who is signed in: its page, its calls, its errors |
//! | `links`, `query` | relative links, and the query string that is a page's state |
//! | `layout`, `parts`, `table`, `controls` | the frame of a page, and what pages and forms consist of |
//! | `json`, `chart`, `text` | JSON as it was stored, charts with their tables, numbers and times |
//! | `screens` | one module for each screen |
//! | `portal` | the pages for owners of subscribers |

mod api;
mod assets;
mod call;
mod chart;
mod controls;
mod failure;
mod form;
mod guard;
mod json;
mod layout;
mod links;
mod parts;
mod portal;
mod query;
mod screens;
mod table;
mod text;
mod visit;

pub use api::{Api, Entered, Session, SessionId, SessionRow, SignedIn, Token};
pub use screens::routes;
