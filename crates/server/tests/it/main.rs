//! The API as a client sees it, over SQLite, on a socket.

#[cfg(test)]
mod abandoned;
#[cfg(test)]
mod api;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod away;
#[cfg(test)]
mod bad_input;
#[cfg(test)]
mod breaker;
#[cfg(test)]
mod changes;
#[cfg(test)]
mod dead_letters;
#[cfg(test)]
mod deliveries;
#[cfg(test)]
mod description;
#[cfg(test)]
mod erasure;
#[cfg(test)]
mod event_types;
#[cfg(test)]
mod events;
#[cfg(test)]
mod examples;
#[cfg(test)]
mod explain;
#[cfg(test)]
mod expressions;
#[cfg(test)]
mod keys;
#[cfg(test)]
mod limits_of_keys;
#[cfg(test)]
mod matrix;
#[cfg(test)]
mod named;
#[cfg(test)]
mod once;
#[cfg(test)]
mod plugins;
#[cfg(test)]
mod pressure;
#[cfg(test)]
mod queue;
#[cfg(test)]
mod receiver_auth;
#[cfg(test)]
mod replays;
#[cfg(test)]
mod sandboxes;
#[cfg(test)]
mod series;
#[cfg(test)]
mod server;
#[cfg(test)]
mod simulate;
#[cfg(test)]
mod subscribers;
#[cfg(test)]
mod tail;
#[cfg(test)]
mod tenants;
