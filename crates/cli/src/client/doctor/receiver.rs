//! Checks of the way from this machine to a receiver. They send no request.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use postrider_core::target::TargetPolicy;
use postrider_core::{AddressPolicy, Clock as _, SystemClock, TargetUrl, Timestamp, chain};
use postrider_delivery::resolve::Resolve as _;
use postrider_delivery::{Certificate, Client, Config, DnsResolver, Examined};
use serde_json::Value;

use super::{Check, Finding};
use crate::client::output::cell;

/// How long before its end a certificate is worth a warning.
const SOON: Duration = Duration::from_hours(14 * 24);
/// How many names of a certificate are shown, and the most characters of a text that the receiver chose.
const NAMES: usize = 10;
const MAX_TEXT: usize = 100;

pub(super) async fn checks(url: &str) -> Vec<Check> {
    let url: TargetUrl = match url.parse() {
        Ok(url) => url,
        Err(error) => return vec![Check::new("url", Finding::Failed, chain(&error).to_string())],
    };
    let mut checks = Vec::new();
    let addresses = if let Some(address) = url.ip() {
        vec![address]
    } else {
        let (check, addresses) = resolved(url.host()).await;
        checks.push(check);
        addresses
    };
    if addresses.is_empty() {
        return checks;
    }
    checks.push(of_rules(&addresses));
    match client() {
        Ok(client) => checks.extend(of_connection(&url, &client.examine(&url).await)),
        Err(error) => checks.push(Check::new("connection", Finding::Failed, error)),
    }
    checks
}

async fn resolved(host: &str) -> (Check, Vec<IpAddr>) {
    let began = Instant::now();
    match DnsResolver::new(Vec::new()).resolve(host).await {
        Ok(addresses) => {
            let list: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
            let detail = format!("{host} is at {}, found in {}", list.join(", "), millis(began.elapsed()));
            (Check::new("name", Finding::Fine, detail), addresses)
        }
        Err(error) => {
            let detail = format!("{host}: {}", chain(&error));
            (Check::new("name", Finding::Failed, detail), Vec::new())
        }
    }
}

/// Judges the addresses by the rules that apply unless a server allows more, which only the server knows.
fn of_rules(addresses: &[IpAddr]) -> Check {
    let rules = AddressPolicy::public_only();
    let forbidden = addresses.iter().filter_map(|address| rules.judge(*address).err());
    let forbidden: Vec<_> =
        forbidden.map(|forbidden| format!("{} ({})", forbidden.address(), forbidden.range())).collect();
    if forbidden.is_empty() {
        return Check::new("address", Finding::Fine, "each address is public, and allowed");
    }
    let list = forbidden.join(", ");
    let detail =
        format!("not public: {list}; a server delivers there only if POSTRIDER_ALLOW_NETS allows it");
    Check::new("address", Finding::Warning, detail)
}

/// A client that connects to any address, as other programs of this machine do.
fn client() -> Result<Client, String> {
    let nets = ["0.0.0.0/0", "::/0"].map(str::parse).into_iter().collect::<Result<_, _>>();
    let addresses = AddressPolicy::public_only().allowing(nets.map_err(|error| format!("{error}"))?);
    let targets = TargetPolicy { addresses, https_only: false };
    Client::new(Config { targets, ..Config::default() }).map_err(|error| chain(&error).to_string())
}

fn of_connection(url: &TargetUrl, examined: &Examined) -> Vec<Check> {
    let timings = &examined.trail.timings;
    let mut checks = Vec::new();
    let certificate = examined.certificates.first();
    let is_tls_failure = timings.tls.is_some();
    match (&examined.result, examined.trail.remote) {
        (Err(failure), _) if !is_tls_failure => {
            checks.push(Check::new("connection", Finding::Failed, failure.to_string()));
            return checks;
        }
        (_, remote) => {
            let remote = remote.map_or_else(|| url.host().to_owned(), |remote| remote.to_string());
            let took = millis(timings.connect.unwrap_or_default());
            checks.push(Check::new("connection", Finding::Fine, format!("{remote} accepted it in {took}")));
        }
    }
    if !url.is_https() {
        let detail = "plain HTTP: the network can read what is delivered; use https://";
        checks.push(Check::new("tls", Finding::Warning, detail));
        return checks;
    }
    checks.push(match &examined.result {
        Ok(()) => {
            let took = millis(timings.tls.unwrap_or_default());
            Check::new("tls", Finding::Fine, format!("the chain of certificates is valid, found in {took}"))
        }
        Err(failure) => Check::new("tls", Finding::Failed, failure.to_string()),
    });
    checks.extend(certificate.map(|Certificate { names, issuer, not_before, not_after, .. }| {
        of_certificate(names, issuer, (*not_before, *not_after), SystemClock.now())
    }));
    checks
}

/// Says what the receiver's own certificate is, whether it is trusted or not.
fn of_certificate(
    names: &[String],
    issuer: &str,
    (from, until): (Timestamp, Timestamp),
    now: Timestamp,
) -> Check {
    let names: Vec<_> = names.iter().take(NAMES).map(|name| shown(name)).collect();
    let names = if names.is_empty() { "no name".to_owned() } else { names.join(", ") };
    let left = until.since(now);
    let (finding, time) = if until <= now {
        (Finding::Failed, format!("it ended at {until}"))
    } else if from > now {
        (Finding::Failed, format!("it begins at {from}"))
    } else {
        let finding = if left < SOON { Finding::Warning } else { Finding::Fine };
        (finding, format!("it is valid for {} days, until {until}", left.as_secs() / 86_400))
    };
    let detail = format!("it is for {names}, issued by {}; {time}", shown(issuer));
    Check::new("certificate", finding, detail)
}

fn shown(text: &str) -> String {
    cell(&Value::from(text), MAX_TEXT)
}

fn millis(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forbidden_addresses_are_named_with_their_range() {
        let check = of_rules(&["93.184.216.34", "10.1.2.3"].map(|address| address.parse().unwrap()));
        assert_eq!(check.finding, Finding::Warning);
        assert!(check.detail.contains("10.1.2.3 (private") && !check.detail.contains("93.184"), "{check:?}");
        assert_eq!(of_rules(&["93.184.216.34".parse().unwrap()]).finding, Finding::Fine);
    }

    #[test]
    fn a_certificate_is_judged_by_its_time() {
        let now = Timestamp::from_seconds(1_700_000_000);
        let day = Duration::from_hours(24);
        for (from, until, finding) in [
            (now - day, now + 30 * day, Finding::Fine),
            (now - day, now + 3 * day, Finding::Warning),
            (now - 2 * day, now - day, Finding::Failed),
            (now + day, now + 30 * day, Finding::Failed),
        ] {
            let check = of_certificate(&["a.example\u{1b}".to_owned()], "CN=b", (from, until), now);
            assert_eq!(check.finding, finding, "{check:?}");
            assert!(check.detail.contains("a.example\u{fffd}, issued by CN=b"), "{check:?}");
        }
    }

    #[tokio::test]
    async fn a_closed_port_is_a_failure() {
        let checks = checks("http://127.0.0.1:1/").await;
        let found: Vec<_> = checks.iter().map(|check| (check.name, check.finding)).collect();
        assert_eq!(found, [("address", Finding::Warning), ("connection", Finding::Failed)]);
    }
}
