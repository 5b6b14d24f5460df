//! Redis as the queue, and its faults.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use fastrand::Rng;
use postrider_testkit::redis::{Keeps, RedisCluster, RedisServer};
use tokio_util::sync::CancellationToken;

use crate::{
    incident::{Chronicle, Fault},
    moment::{self, wait},
};

/// How long a replica may take to stand in for its master, and a master that is back to be a replica with all data.
const FAILOVER: Duration = Duration::from_secs(30);

/// What holds the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// One Redis.
    One(Keeps),
    /// A cluster of three masters and a replica of each.
    Cluster,
}

/// The Redis that holds the queue.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Mutex<Servers>>);

enum Servers {
    One(RedisServer),
    Cluster(RedisCluster),
}

impl Queue {
    /// Starts Redis. `None` if there is none.
    pub(crate) fn start(place: Where) -> Option<Self> {
        let servers = match place {
            Where::One(keeps) => Servers::One(RedisServer::start(keeps)?),
            Where::Cluster => Servers::Cluster(RedisCluster::start_with(1)?),
        };
        Some(Self(Arc::new(Mutex::new(servers))))
    }

    pub(crate) fn url(&self) -> String {
        self.with(|servers| match servers {
            Servers::One(redis) => redis.url(),
            // Each master has some partitions.
            Servers::Cluster(cluster) => format!("{}&partitions=6", cluster.url()),
        })
    }

    /// Kills and restarts Redis, or a master of the cluster, until `stop`.
    pub(crate) async fn torment(self, mut rng: Rng, chronicle: Arc<Chronicle>, stop: CancellationToken) {
        loop {
            wait(Duration::from_millis(rng.u64(1000..6000)), &stop).await;
            if stop.is_cancelled() {
                return;
            }
            let from = moment::now();
            let (dice, down) = (rng.usize(..), Duration::from_millis(rng.u64(..3000)));
            let (queue, stopped) = (self.clone(), stop.clone());
            let tormented = tokio::task::spawn_blocking(move || {
                queue.with(|servers| match servers {
                    Servers::One(redis) => {
                        redis.kill();
                        sleep_until(Instant::now() + down, &stopped);
                        redis.restart();
                    }
                    Servers::Cluster(cluster) => fail_over(cluster, dice),
                });
            });
            tormented.await.expect("a Redis that starts again");
            chronicle.note(Fault::Queue, None, from);
        }
    }

    fn with<T>(&self, act: impl FnOnce(&mut Servers) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn sleep_until(end: Instant, stop: &CancellationToken) {
    while Instant::now() < end && !stop.is_cancelled() {
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Kills a master, waits until its replica stands in for it, and starts it again.
fn fail_over(cluster: &mut RedisCluster, dice: usize) {
    let nodes = cluster.nodes();
    let is_master = |node: &RedisServer| node.cli(&["ROLE"]).starts_with("master");
    let masters: Vec<usize> = (0..nodes.len()).filter(|place| is_master(&nodes[*place])).collect();
    let killed = masters[dice % masters.len()];
    nodes[killed].kill();
    eventually("a failover", || {
        let masters = (0..nodes.len()).filter(|place| *place != killed && is_master(&nodes[*place])).count();
        masters == 3 && (0..nodes.len()).filter(|place| *place != killed).all(|place| is_whole(&nodes[place]))
    });
    nodes[killed].restart();
    // The next one to be killed must have a replica.
    eventually("a replica", || {
        let link = nodes[killed].cli(&["INFO", "replication"]);
        link.contains("role:slave") && link.contains("master_link_status:up")
    });
    eventually("a cluster", || nodes.iter().all(is_whole));
}

fn is_whole(node: &RedisServer) -> bool {
    node.cli(&["CLUSTER", "INFO"]).contains("cluster_state:ok")
}

fn eventually(what: &str, holds: impl Fn() -> bool) {
    let end = Instant::now() + FAILOVER;
    while !holds() {
        assert!(Instant::now() < end, "no {what} within {FAILOVER:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
