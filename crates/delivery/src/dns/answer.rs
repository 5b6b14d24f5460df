//! What is learnt about a name.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

/// What name servers say about a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Its addresses, and how long they are valid.
    Found(Vec<IpAddr>, Duration),
    /// It has none, or does not exist.
    Nothing(Option<Duration>),
}

/// Why nothing is known about a name.
#[derive(Clone, Debug)]
pub(super) enum NoAnswer {
    /// No server answered in time.
    Silent,
    /// The servers could not be reached, or could not say.
    Failed(Arc<io::Error>),
    /// This machine lacks what a query needs.
    Local(Arc<io::Error>),
    /// It is no name of a host.
    NoName,
}
