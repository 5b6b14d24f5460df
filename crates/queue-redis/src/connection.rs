//! The connection to one server or to a cluster.

use std::time::Duration;

use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::cluster::ClusterClient;
use redis::cluster_async::ClusterConnection;
use redis::{Client, Cmd, FromRedisValue, RedisError, RedisResult};

use crate::arguments::Arguments;
use crate::functions::{Function, LIBRARY};
use crate::partition::Partition;
use crate::url::RedisUrl;

/// How long to wait for a connection.
const CONNECTING: Duration = Duration::from_secs(2);

/// How long to wait for an answer. Callers who answer requests within five seconds can try once.
const ANSWERING: Duration = Duration::from_secs(4);

/// A connection that all clones share, and that connects again by itself.
#[derive(Clone)]
pub(crate) enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Connection {
    pub(crate) async fn open(url: &RedisUrl) -> RedisResult<Self> {
        if url.is_encrypted && rustls::crypto::CryptoProvider::get_default().is_none() {
            // The client takes the one of the process. The error is that another thread has set it in between.
            let _ = rustls::crypto::ring::default_provider().install_default();
        }
        let Some(first) = url.nodes.first().filter(|_| !url.is_cluster) else {
            let client = ClusterClient::builder(url.nodes.iter().map(String::as_str))
                .connection_timeout(CONNECTING)
                .response_timeout(ANSWERING)
                .overall_response_timeout(Some(ANSWERING))
                .retries(3)
                .build()?;
            return Ok(Self::Cluster(client.get_async_connection().await?));
        };
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(CONNECTING))
            .set_response_timeout(Some(ANSWERING))
            .set_number_of_retries(1)
            .set_max_delay(Duration::from_millis(200));
        Ok(Self::Single(ConnectionManager::new_with_config(Client::open(first.as_str())?, config).await?))
    }

    pub(crate) async fn query<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<T> {
        match self.clone() {
            Self::Single(mut connection) => command.query_async(&mut connection).await,
            Self::Cluster(mut connection) => command.query_async(&mut connection).await,
        }
    }

    /// Calls a function. Loads the library first if Redis does not have it: it is new, or was restarted without its data.
    pub(crate) async fn call<T: FromRedisValue>(
        &self,
        function: Function,
        partition: &Partition,
        arguments: &Arguments,
    ) -> RedisResult<T> {
        let mut command = redis::cmd("FCALL");
        command.arg(function.name()).arg(partition.keys.len());
        for key in &partition.keys {
            command.arg(key);
        }
        arguments.add_to(&mut command);
        match self.query(&command).await {
            Err(error) if is_unknown(&error) => {
                self.load().await?;
                self.query(&command).await
            }
            answered => answered,
        }
    }

    /// Loads the library of this version, on all nodes.
    pub(crate) async fn load(&self) -> RedisResult<()> {
        let loaded = self.query(redis::cmd("FUNCTION").arg("LOAD").arg(&LIBRARY.code)).await;
        loaded.or_else(|error| if is_known(&error) { Ok(()) } else { Err(error) })
    }
}

/// Redis has the library already.
fn is_known(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("already exists"))
}

fn is_unknown(error: &RedisError) -> bool {
    error.to_string().contains("Function not found")
}
