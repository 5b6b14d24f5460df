//! What can be set of a server.

use std::time::Duration;

use crate::{AdminKey, Shedding};

/// How the API is served.
#[derive(Clone, Debug)]
pub struct Config {
    /// Who may call it.
    pub admin_key: AdminKey,
    /// The largest request body, in bytes; 1 KiB to 64 MiB.
    pub body_limit: usize,
    /// How long a request may take, its body and all waiting included; 1 s to 5 min.
    pub request_timeout: Duration,
    /// How many requests are worked on at once; more of them wait. At least 1.
    pub requests: usize,
    /// How many connections are open at once; more of them wait to be accepted. At least 1.
    pub connections: usize,
    /// How long requests in flight may take to finish at shutdown; at most 1 h.
    pub grace: Duration,
    /// When events are turned away with 503; by default never.
    pub shedding: Shedding,
}

/// A value of [`Config`] that makes no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server's {name} must be {range}")]
pub struct ConfigError {
    /// Which value.
    pub name: &'static str,
    /// What it may be.
    pub range: &'static str,
}

impl Config {
    /// The defaults: bodies up to 1 MiB, 30 s for a request, 512 requests at once on up to 4096
    /// connections, 30 s of grace.
    pub fn new(admin_key: AdminKey) -> Self {
        Self {
            admin_key,
            body_limit: 1024 * 1024,
            request_timeout: Duration::from_secs(30),
            requests: 512,
            connections: 4096,
            grace: Duration::from_secs(30),
            shedding: Shedding::default(),
        }
    }

    /// Sees that every value makes sense.
    ///
    /// # Errors
    /// Names the first that does not.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let timeouts = Duration::from_secs(1)..=Duration::from_mins(5);
        let ages = Duration::from_secs(1)..=Duration::from_hours(24);
        let latencies = Duration::from_millis(1)..=Duration::from_mins(1);
        let Shedding { queue_age, latency } = self.shedding;
        for (holds, name, range) in [
            ((1024..=64 * 1024 * 1024).contains(&self.body_limit), "body limit", "1 KiB to 64 MiB"),
            (timeouts.contains(&self.request_timeout), "request timeout", "1 s to 5 min"),
            ((1..=1_000_000).contains(&self.requests), "number of requests at once", "1 to 1000000"),
            ((1..=1_000_000).contains(&self.connections), "number of connections", "1 to 1000000"),
            (self.grace <= Duration::from_hours(1), "shutdown grace", "at most 1 h"),
            (queue_age.is_none_or(|age| ages.contains(&age)), "queue age for shedding", "1 s to 24 h"),
            (latency.is_none_or(|time| latencies.contains(&time)), "latency for shedding", "1 ms to 1 min"),
        ] {
            if !holds {
                return Err(ConfigError { name, range });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nonsense_is_refused() {
        let good = Config::new("k".repeat(32).parse().unwrap());
        assert_eq!(good.validate(), Ok(()));
        let name = |config: Config| config.validate().map_err(|error| error.name);
        assert_eq!(name(Config { body_limit: 0, ..good.clone() }), Err("body limit"));
        assert_eq!(name(Config { request_timeout: Duration::ZERO, ..good.clone() }), Err("request timeout"));
        assert_eq!(name(Config { requests: 0, ..good.clone() }), Err("number of requests at once"));
        assert_eq!(name(Config { connections: 0, ..good.clone() }), Err("number of connections"));
        let shedding = Shedding { queue_age: Some(Duration::ZERO), latency: None };
        assert_eq!(name(Config { shedding, ..good.clone() }), Err("queue age for shedding"));
        let shedding = Shedding { queue_age: None, latency: Some(Duration::from_hours(1)) };
        assert_eq!(name(Config { shedding, ..good.clone() }), Err("latency for shedding"));
        assert_eq!(name(Config { grace: Duration::from_hours(2), ..good }), Err("shutdown grace"));
    }
}
