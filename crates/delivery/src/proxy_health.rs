//! Which egress proxies cannot be reached. While one cannot, a single attempt tries it, and the others do not wait for it.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use postrider_core::ProxyUrl;
use tokio::time::Instant;

/// How long nobody tries a proxy that could not be reached.
const PAUSE: Duration = Duration::from_secs(1);
/// How many proxies are remembered.
const MOST: usize = 1_000;

/// The proxies that could not be reached.
#[derive(Debug, Default)]
pub(crate) struct ProxyHealth(Mutex<HashMap<ProxyUrl, Down>>);

#[derive(Debug)]
struct Down {
    until: Instant,
    /// Whether an attempt tries it.
    tried: bool,
}

/// The right to try a proxy. Dropping it says nothing about the proxy.
#[derive(Debug)]
pub(crate) struct Trial<'a> {
    health: &'a ProxyHealth,
    proxy: &'a ProxyUrl,
    /// Whether the proxy could not be reached the last time.
    doubtful: bool,
}

impl ProxyHealth {
    /// Returns the right to try a proxy; `None` if it could not be reached a moment ago, or is being tried.
    pub(crate) fn trial<'a>(&'a self, proxy: &'a ProxyUrl) -> Option<Trial<'a>> {
        let mut down = self.down();
        let doubtful = match down.get_mut(proxy) {
            None => false,
            Some(down) if down.tried || Instant::now() < down.until => return None,
            Some(down) => {
                down.tried = true;
                true
            }
        };
        Some(Trial { health: self, proxy, doubtful })
    }

    /// Takes note that a proxy could not be reached.
    pub(crate) fn failed(&self, proxy: &ProxyUrl) {
        let mut down = self.down();
        if down.len() >= MOST {
            // Those proxies are tried again, and the ones that fail are noted again.
            down.clear();
        }
        down.insert(proxy.clone(), Down { until: Instant::now() + PAUSE, tried: false });
    }

    fn down(&self) -> MutexGuard<'_, HashMap<ProxyUrl, Down>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Trial<'_> {
    /// Takes note that the proxy was reached.
    pub(crate) fn reached(self) {
        if self.doubtful {
            self.health.down().remove(self.proxy);
        }
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.doubtful
            && let Some(down) = self.health.down().get_mut(self.proxy)
        {
            down.tried = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn one_attempt_at_a_time_tries_a_proxy_that_was_down() {
        let (health, proxy) = (ProxyHealth::default(), "socks5://a".parse().unwrap());
        let other = "socks5://b".parse().unwrap();
        let (one, two) = (health.trial(&proxy), health.trial(&proxy));
        assert!(one.is_some() && two.is_some());
        health.failed(&proxy);
        assert!(health.trial(&proxy).is_none() && health.trial(&other).is_some());
        tokio::time::advance(PAUSE).await;
        let trial = health.trial(&proxy);
        assert!(trial.is_some() && health.trial(&proxy).is_none());
        drop(trial);
        let trial = health.trial(&proxy).unwrap();
        trial.reached();
        let (one, two) = (health.trial(&proxy), health.trial(&proxy));
        assert!(one.is_some() && two.is_some());
    }
}
