//! Where the queue is.

use std::fmt;
use std::num::NonZeroU16;

use url::Url;

/// More partitions than this only cost round trips.
const MOST_PARTITIONS: u16 = 1024;

/// The URL of a queue on Redis:
///
/// - `redis://[user:password@]host[:port][/database]` for one server, `rediss://…` for one with TLS;
/// - `redis+cluster://…` and `rediss+cluster://…` for a cluster, of which the URL names one node.
///
/// | parameter | meaning |
/// |---|---|
/// | `prefix` | the beginning of all keys and of the channel for wake-ups, 1 to 64 letters, digits, `.`, `_`, `:` or `-`; `postrider` by default |
/// | `partitions` | over how many partitions lanes are spread, 1 to 1024; 1 by default |
/// | `node` | another node of the cluster, as `host:port`; may be given several times |
///
/// It does not print its password.
///
/// ```
/// use postrider_queue_redis::RedisUrl;
///
/// let url = RedisUrl::parse("redis+cluster://:secret@10.0.0.1:6379?node=10.0.0.2:6379&partitions=32").unwrap();
/// assert_eq!(url.to_string(), "redis+cluster://10.0.0.1:6379?node=10.0.0.2:6379&partitions=32");
/// assert!(RedisUrl::parse("redis://localhost?partitons=32").is_err());
/// ```
#[derive(Clone)]
pub struct RedisUrl {
    /// The nodes, as the Redis client takes them.
    pub(crate) nodes: Vec<String>,
    pub(crate) is_cluster: bool,
    pub(crate) is_encrypted: bool,
    pub(crate) prefix: String,
    pub(crate) partitions: NonZeroU16,
    /// Without the user and the password.
    printable: String,
}

/// Why a URL is not that of a queue on Redis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RedisUrlError {
    /// It is no URL.
    #[error("it is not a URL such as redis://localhost:6379/0")]
    Malformed(#[source] url::ParseError),
    /// It has another scheme.
    #[error("its scheme is none of redis, rediss, redis+cluster and rediss+cluster")]
    Scheme,
    /// It names no host.
    #[error("it names no host")]
    Host,
    /// The database is no number, or a cluster is asked for one. A cluster has one database only.
    #[error("the path must be the number of a database, and a cluster takes none")]
    Database,
    /// It has a parameter that does not exist here.
    #[error("unknown parameter {0:?}; the parameters are prefix, partitions and, for a cluster, node")]
    Unknown(String),
    /// A parameter has a value that is out of bounds.
    #[error("the value of the parameter {0:?} is out of bounds")]
    Value(&'static str),
}

impl RedisUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Fails if it is none of the forms above.
    pub fn parse(text: &str) -> Result<Self, RedisUrlError> {
        let url = Url::parse(text).map_err(RedisUrlError::Malformed)?;
        let (is_cluster, scheme) = match url.scheme() {
            "redis" => (false, "redis"),
            "rediss" => (false, "rediss"),
            "redis+cluster" => (true, "redis"),
            "rediss+cluster" => (true, "rediss"),
            _ => return Err(RedisUrlError::Scheme),
        };
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or(RedisUrlError::Host)?;
        let database = url.path().trim_start_matches('/');
        if !database.is_empty() && (is_cluster || database.parse::<u16>().is_err()) {
            return Err(RedisUrlError::Database);
        }
        let mut account = String::new();
        if !url.username().is_empty() || url.password().is_some() {
            account = format!("{}:{}@", url.username(), url.password().unwrap_or_default());
        }
        let node = |address: &str| format!("{scheme}://{account}{address}/{database}");
        let mut nodes = vec![node(&format!("{host}:{}", url.port().unwrap_or(6379)))];
        let mut prefix = "postrider".to_owned();
        let mut partitions = NonZeroU16::MIN;
        for (name, value) in url.query_pairs() {
            match &*name {
                "prefix" if is_prefix(&value) => prefix = value.into_owned(),
                "prefix" => return Err(RedisUrlError::Value("prefix")),
                "partitions" => {
                    let number =
                        value.parse().ok().filter(|number: &NonZeroU16| number.get() <= MOST_PARTITIONS);
                    partitions = number.ok_or(RedisUrlError::Value("partitions"))?;
                }
                "node" if is_cluster => {
                    let address = value
                        .rsplit_once(':')
                        .filter(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok());
                    address.ok_or(RedisUrlError::Value("node"))?;
                    nodes.push(node(&value));
                }
                other => return Err(RedisUrlError::Unknown(other.to_owned())),
            }
        }
        let mut bare = url.clone();
        // Both fail only for URLs without a host.
        let _ = bare.set_username("");
        let _ = bare.set_password(None);
        Ok(Self {
            nodes,
            is_cluster,
            is_encrypted: scheme == "rediss",
            prefix,
            partitions,
            printable: bare.into(),
        })
    }
}

fn is_prefix(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._:-".contains(&byte))
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.printable)
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RedisUrl").field(&self.printable).finish()
    }
}
