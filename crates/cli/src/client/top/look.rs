//! What `postrider top` knows at one moment.

use postrider_api::stats::StatsView;
use postrider_client::{Client, ClientError};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::lists::pages;

/// How many subscribers are looked at, the newest first.
const SUBSCRIBERS: u64 = 1000;
/// How many failing subscribers are kept.
const WORST: usize = 50;

/// A look at a deployment.
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) stats: StatsView,
    /// The subscribers that fail, those with the most failures first.
    pub(super) worst: Vec<Failing>,
}

/// A subscriber that fails.
#[derive(Deserialize)]
pub(super) struct Failing {
    pub(super) id: String,
    #[serde(default)]
    pub(super) uid: Option<String>,
    pub(super) url: String,
    pub(super) breaker: Breaker,
}

#[derive(Deserialize)]
pub(super) struct Breaker {
    pub(super) state: String,
    pub(super) failures: u64,
}

/// How many deliveries were made and ended per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rates {
    pub(super) created: f64,
    pub(super) succeeded: f64,
    pub(super) dead: f64,
}

impl Look {
    pub(super) async fn take(client: &Client) -> Result<Self, ClientError> {
        let stats = client.get("/v1/stats").await?;
        let mut worst = Vec::new();
        let failing = "/v1/subscribers?failing=true";
        pages(client, failing, SUBSCRIBERS, |page| {
            worst.extend(page.iter().filter_map(|item| serde_json::from_str::<Failing>(item.get()).ok()));
        })
        .await?;
        worst.sort_by_key(|item| std::cmp::Reverse(item.breaker.failures));
        worst.truncate(WORST);
        Ok(Self { at: Instant::now(), stats, worst })
    }

    /// Returns the rates since the look before.
    pub(super) fn rates(&self, before: &Self) -> Rates {
        let seconds = self.at.duration_since(before.at).as_secs_f64().max(0.001);
        let rate = |now: u64, then: u64| {
            let difference = u32::try_from(now.saturating_sub(then)).unwrap_or(u32::MAX);
            f64::from(difference) / seconds
        };
        let (now, then) = (&self.stats.deliveries, &before.stats.deliveries);
        Rates {
            created: rate(now.total, then.total),
            succeeded: rate(now.succeeded, then.succeeded),
            dead: rate(now.dead, then.dead),
        }
    }

    /// Returns the look as JSON.
    pub(super) fn item(&self, rates: Option<Rates>) -> Value {
        let rate = |of: fn(Rates) -> f64| rates.map(of);
        json!({
            "stats": self.stats,
            "per_second": {
                "created": rate(|rates| rates.created),
                "succeeded": rate(|rates| rates.succeeded),
                "dead": rate(|rates| rates.dead),
            },
            "failing": self.worst.iter().map(|worst| &worst.id).collect::<Vec<_>>(),
        })
    }
}
