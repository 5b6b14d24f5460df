//! Checks of the connection to a server.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::Method;
use postrider_client::{Answer, Client, ClientError};
use postrider_core::{Clock as _, SystemClock, chain};

use super::{Check, Finding};
use crate::profiles::Profile;

/// A difference between the clocks that is worth a warning.
const SKEW: Duration = Duration::from_secs(30);
/// A difference at which receivers reject signatures.
const GREAT_SKEW: Duration = Duration::from_mins(5);

/// Reads that show which scopes a key has.
const READS: [(&str, &str); 9] = [
    ("events:read", "/v1/events?limit=1"),
    ("subscribers:read", "/v1/subscribers?limit=1"),
    ("deliveries:read", "/v1/deliveries?limit=1"),
    ("stats:read", "/v1/stats"),
    ("types:read", "/v1/event-types?limit=1"),
    ("keys:manage", "/v1/keys?limit=1"),
    ("audit:read", "/v1/audit?limit=1"),
    ("tenants:manage", "/v1/tenants?limit=1"),
    ("plugins:manage", "/v1/plugins"),
];

pub(super) async fn checks(client: &Client, profile: &Profile) -> Vec<Check> {
    let began = std::time::Instant::now();
    let healthy = get(client, "/healthz").await;
    let took = began.elapsed();
    let mut checks = vec![transport(&profile.url)];
    let answer = match healthy {
        Ok(answer) => {
            let detail = format!("{} answers in {:.1} ms", profile.url, took.as_secs_f64() * 1000.0);
            checks.push(Check::new("server", Finding::Fine, detail));
            answer
        }
        Err(error) => {
            checks.push(Check::new("server", Finding::Failed, chain(&error).to_string()));
            return checks;
        }
    };
    checks.push(match get(client, "/readyz").await {
        Ok(_) => Check::new("readiness", Finding::Fine, "the server is ready"),
        Err(_) => {
            Check::new("readiness", Finding::Failed, "the server is not ready; see /readyz and its log")
        }
    });
    checks.push(clock(&answer));
    checks.push(key(client, profile).await);
    checks
}

async fn get(client: &Client, path: &str) -> Result<Answer, ClientError> {
    client.call(Method::GET, path, Bytes::new()).await
}

fn transport(url: &str) -> Check {
    let host =
        url.parse::<http::Uri>().ok().and_then(|uri| uri.host().map(str::to_owned)).unwrap_or_default();
    let is_local = ["localhost", "127.0.0.1", "[::1]"].contains(&host.as_str());
    match (url.starts_with("https://"), is_local) {
        (true, _) => Check::new("transport", Finding::Fine, "TLS; the certificate is checked with each call"),
        (false, true) => Check::new("transport", Finding::Warning, "plain HTTP to this machine"),
        (false, false) => Check::new(
            "transport",
            Finding::Warning,
            "plain HTTP: the network can read the key; use https://",
        ),
    }
}

fn clock(answer: &Answer) -> Check {
    let date = answer.headers.get(http::header::DATE).and_then(|date| date.to_str().ok());
    let Some(theirs) = date.and_then(|date| httpdate::parse_http_date(date).ok()) else {
        return Check::new("clock", Finding::Warning, "the server's answers have no date");
    };
    let theirs = theirs.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
    // The header has whole seconds.
    let apart = Duration::from_secs(theirs.abs_diff(SystemClock.now().seconds().unsigned_abs()));
    let finding = match apart {
        apart if apart >= GREAT_SKEW => Finding::Failed,
        apart if apart >= SKEW => Finding::Warning,
        _ => Finding::Fine,
    };
    Check::new("clock", finding, format!("this machine and the server are {} s apart", apart.as_secs()))
}

async fn key(client: &Client, profile: &Profile) -> Check {
    if profile.key.is_none() {
        return Check::new(
            "key",
            Finding::Failed,
            "there is no key; run `postrider login`, or set POSTRIDER_KEY",
        );
    }
    let (mut may, mut may_not) = (Vec::new(), Vec::new());
    for (scope, path) in READS {
        match get(client, path).await {
            Ok(_) => may.push(scope),
            Err(ClientError::Refused(problem)) if problem.status == 403 => may_not.push(scope),
            Err(error) => return Check::new("key", Finding::Failed, chain(&error).to_string()),
        }
    }
    let list = |scopes: &[&str]| if scopes.is_empty() { "nothing".to_owned() } else { scopes.join(", ") };
    Check::new("key", Finding::Fine, format!("has {}; lacks {}", list(&may), list(&may_not)))
}
