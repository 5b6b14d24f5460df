//! The URL of the queues on SQS.

use std::fmt;

use url::Url;

/// The longest name of a queue.
const LONGEST_NAME: usize = 80;

/// The URL of the queues on SQS: `sqs://region/queue`.
///
/// | parameter | meaning |
/// |---|---|
/// | `fifo` | the FIFO queue for ordered subscribers, by default the queue's name and `.fifo`; `none` keeps their jobs in the database |
/// | `account` | the account that owns the queues, if it is another one |
/// | `endpoint` | where SQS is, such as a VPC endpoint: an `http` or `https` URL without a path |
///
/// ```
/// use postrider_queue_sqs::SqsUrl;
///
/// assert!(SqsUrl::parse("sqs://eu-west-1/postrider?account=123456789012").is_ok());
/// assert!(SqsUrl::parse("sqs://eu-west-1").is_err());
/// assert!(SqsUrl::parse("sqs://eu-west-1/postrider?fifo=postrider").is_err(), "names of FIFO queues end in .fifo");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsUrl {
    pub(crate) region: String,
    pub(crate) queue: String,
    pub(crate) fifo: Option<String>,
    pub(crate) account: Option<String>,
    /// Without a path.
    pub(crate) endpoint: String,
    printable: String,
}

/// Why a URL is not that of queues on SQS.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SqsUrlError {
    /// It is no URL.
    #[error("it is not a URL such as sqs://eu-west-1/postrider")]
    Malformed(#[source] url::ParseError),
    /// It names no region, or something else in its place.
    #[error("its host must be a region, such as eu-west-1, without user, password and port")]
    Region,
    /// Its path is not the name of a standard queue.
    #[error("its path must be the name of a standard queue: 1 to 80 letters, digits, - or _")]
    Queue,
    /// It has a parameter that does not exist here.
    #[error("unknown parameter {0:?}; the parameters are fifo, account and endpoint")]
    Unknown(String),
    /// A parameter has a value that is out of bounds.
    #[error("the value of the parameter {0:?} is malformed")]
    Value(&'static str),
}

impl SqsUrl {
    /// Reads a URL.
    ///
    /// # Errors
    /// Fails if it is not of the form above.
    pub fn parse(text: &str) -> Result<Self, SqsUrlError> {
        let url = Url::parse(text).map_err(SqsUrlError::Malformed)?;
        let is_region = |host: &&str| {
            (1..=40).contains(&host.len())
                && host.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        };
        let bare = url.username().is_empty() && url.password().is_none() && url.port().is_none();
        let region = url.host_str().filter(is_region).filter(|_| bare && url.scheme() == "sqs");
        let region = region.ok_or(SqsUrlError::Region)?.to_owned();
        let queue = url.path().trim_start_matches('/').to_owned();
        if !is_name(&queue) {
            return Err(SqsUrlError::Queue);
        }
        let mut fifo = Some(format!("{queue}.fifo"));
        let mut account = None;
        let domain = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let mut endpoint = format!("https://sqs.{region}.{domain}");
        for (name, value) in url.query_pairs() {
            match &*name {
                "fifo" if value == "none" => fifo = None,
                "fifo" if value.strip_suffix(".fifo").is_some_and(is_name) => fifo = Some(value.into_owned()),
                "fifo" => return Err(SqsUrlError::Value("fifo")),
                "account" if value.len() == 12 && value.bytes().all(|byte| byte.is_ascii_digit()) => {
                    account = Some(value.into_owned());
                }
                "account" => return Err(SqsUrlError::Value("account")),
                "endpoint" => endpoint = base_of(&value).ok_or(SqsUrlError::Value("endpoint"))?,
                other => return Err(SqsUrlError::Unknown(other.to_owned())),
            }
        }
        Ok(Self { region, queue, fifo, account, endpoint, printable: url.into() })
    }
}

fn is_name(text: &str) -> bool {
    (1..=LONGEST_NAME - ".fifo".len()).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
}

/// A URL without anything after its port.
fn base_of(text: &str) -> Option<String> {
    let url = Url::parse(text).ok()?;
    let bare = matches!(url.scheme(), "http" | "https")
        && url.username().is_empty()
        && url.password().is_none()
        && url.path() == "/"
        && url.query().is_none()
        && url.fragment().is_none();
    bare.then(|| url.as_str().trim_end_matches('/').to_owned())
}

impl fmt::Display for SqsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.printable)
    }
}
