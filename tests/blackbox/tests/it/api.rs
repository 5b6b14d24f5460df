//! The API through the real server, over PostgreSQL.

mod dead_letters;
mod deliveries;
mod events;
mod formats;
mod open;
mod subscribers;
