//! Validation of a new key, and of changes to one.

use std::fmt::Display;
use std::str::FromStr;

use ipnet::IpNet;
use postrider_api::FieldError;
use postrider_api::Moment;
use postrider_api::key::{KeyChangeRequest, KeyLimitsRequest, KeyRequest, KeyTenant};
use postrider_api::subscriber::Change;
use postrider_core::key::{Excess, KeyLimits, KeyRate, Powers, Preset, Scope, Scopes};
use postrider_store::keys::ApiKey;

use crate::caller::Caller;
use crate::problem::{Errors, Problem};

const MAX_NAME: usize = 200;

/// The new key's name and powers, or a problem that names every invalid field.
pub(super) fn new_key(request: KeyRequest, caller: &Caller) -> Result<(String, Powers), Problem> {
    let mut errors = Errors::default();
    let name = errors.require("name", request.name).and_then(|text| name(text, &mut errors));
    let tenant = match request.tenant {
        Some(text) => errors.check("tenant", text.parse()),
        None if caller.one_tenant => Some(KeyTenant::Of(caller.tenant.clone())),
        None => {
            errors.add("tenant", "is required: the name of a tenant, or `*` for an operator's key");
            None
        }
    };
    let tenant = tenant.map(|tenant| match tenant {
        KeyTenant::All => None,
        KeyTenant::Of(tenant) => Some(tenant),
    });
    let scopes = errors.require("scopes", request.scopes);
    let is_operator = matches!(tenant, Some(None));
    let scopes = scopes.and_then(|words| scopes_of(&words, is_operator, &mut errors));
    let mut limits = KeyLimits::default();
    limit(&mut limits, request.limits.unwrap_or_default(), &mut errors);
    let expires_at = request.expires_at.map(|Moment(at)| at);
    let new = (|| Some((name?, Powers { tenant: tenant?, scopes: scopes?, limits, expires_at })))();
    errors.finish(new)
}

/// Changes a key, or returns a problem that names every invalid field.
pub(super) fn change(key: &mut ApiKey, request: KeyChangeRequest) -> Result<(), Problem> {
    let mut errors = Errors::default();
    let is_operator = key.powers.tenant.is_none();
    match request.name {
        Change::Keep => {}
        Change::Reset => errors.add("name", "must not be null; omit it to keep the current value"),
        Change::Set(text) => key.name = name(text, &mut errors).unwrap_or_default(),
    }
    match request.scopes {
        Change::Keep => {}
        Change::Reset => errors.add("scopes", "must not be null; omit it to keep the current value"),
        Change::Set(words) => {
            key.powers.scopes = scopes_of(&words, is_operator, &mut errors).unwrap_or_default();
        }
    }
    match request.limits {
        Change::Keep => {}
        Change::Reset => key.powers.limits = KeyLimits::default(),
        Change::Set(changes) => limit(&mut key.powers.limits, changes, &mut errors),
    }
    match request.expires_at {
        Change::Keep => {}
        Change::Reset => key.powers.expires_at = None,
        Change::Set(Moment(at)) => key.powers.expires_at = Some(at),
    }
    errors.finish(Some(()))
}

/// Refuses a key that is stronger than the caller's.
///
/// # Errors
/// 403, with the fields in which it is.
pub(super) fn no_stronger(powers: &Powers, caller: &Caller) -> Result<(), Problem> {
    let exceeded = powers.beyond(&caller.powers());
    if exceeded.is_empty() {
        return Ok(());
    }
    let field = |excess: &Excess| {
        let (field, message) = match excess {
            Excess::Tenant => ("tenant", "is not the tenant for which the request acts".to_owned()),
            Excess::Scope(scope) => {
                ("scopes", format!("`{scope}` is not among the scopes of the key that this request shows"))
            }
            Excess::EventTypes => ("limits.event_types", reaches_further()),
            Excess::Subscribers => ("limits.subscriber_ids", reaches_further()),
            Excess::Networks => ("limits.cidrs", reaches_further()),
            Excess::Rate => ("limits.requests_per_second", reaches_further()),
            Excess::Expiry => {
                ("expires_at", "is later than that of the key that this request shows".to_owned())
            }
        };
        FieldError { field: field.to_owned(), message }
    };
    Err(Problem::stronger(exceeded.iter().map(field).collect()))
}

fn reaches_further() -> String {
    "reaches further than the key that this request shows".to_owned()
}

fn name(text: String, errors: &mut Errors) -> Option<String> {
    let is_allowed = (1..=MAX_NAME).contains(&text.chars().count()) && !text.chars().any(char::is_control);
    if !is_allowed {
        errors
            .add("name", &format!("must have 1 to {MAX_NAME} characters, none of them a control character"));
        return None;
    }
    Some(text)
}

/// Reads scopes, and names that stand for several.
fn scopes_of(words: &[String], is_operator: bool, errors: &mut Errors) -> Option<Scopes> {
    let mut scopes = Scopes::NONE;
    let mut all_known = true;
    for (place, word) in words.iter().enumerate() {
        match (word.parse::<Scope>(), word.parse::<Preset>()) {
            (Ok(scope), _) => scopes = scopes.with(scope),
            (_, Ok(preset)) => scopes = scopes.and(preset.scopes()),
            (Err(scopes), Err(presets)) => {
                errors.add(&format!("scopes[{place}]"), &format!("{scopes}; or {presets}"));
                all_known = false;
            }
        }
    }
    if words.is_empty() {
        errors.add("scopes", "must have at least one scope");
        return None;
    }
    if let Some(scope) = scopes.iter().find(|scope| scope.is_for_operators() && !is_operator) {
        errors.add("scopes", &format!("`{scope}` is for operators' keys only, whose `tenant` is `*`"));
        return None;
    }
    all_known.then_some(scopes)
}

/// Changes limits, member by member.
fn limit(limits: &mut KeyLimits, changes: KeyLimitsRequest, errors: &mut Errors) {
    let KeyLimitsRequest { event_types, subscriber_ids, cidrs, requests_per_second, burst } = changes;
    list(&mut limits.event_types, event_types, "limits.event_types", errors, str::parse);
    list(&mut limits.subscribers, subscriber_ids, "limits.subscriber_ids", errors, str::parse);
    list(&mut limits.networks, cidrs, "limits.cidrs", errors, network);
    let before = limits.rate;
    let merged = |change: Change<u32>, before: Option<u32>| match change {
        Change::Keep => before,
        Change::Reset => None,
        Change::Set(value) => Some(value),
    };
    // A burst that follows from the rate goes on following it.
    let follows = before.is_some_and(|rate| rate.burst() == rate.per_second());
    let burst = merged(burst, before.filter(|_| !follows).map(KeyRate::burst));
    let per_second = merged(requests_per_second, before.map(KeyRate::per_second));
    limits.rate = match (per_second, burst) {
        (Some(per_second), burst) => {
            let field = if KeyRate::new(per_second, 1).is_err() {
                "limits.requests_per_second"
            } else {
                "limits.burst"
            };
            errors.check(field, KeyRate::new(per_second, burst.unwrap_or(per_second)))
        }
        (None, Some(_)) if before.is_none() => {
            errors.add("limits.burst", "has no meaning without `requests_per_second`");
            None
        }
        (None, _) => None,
    };
}

fn list<T: PartialEq, E: Display>(
    list: &mut Vec<T>,
    change: Change<Vec<String>>,
    field: &str,
    errors: &mut Errors,
    parse: impl Fn(&str) -> Result<T, E>,
) {
    let given = match change {
        Change::Keep => return,
        Change::Reset => Vec::new(),
        Change::Set(given) => given,
    };
    list.clear();
    if given.len() > KeyLimits::MOST {
        errors.add(field, &format!("must have at most {} entries", KeyLimits::MOST));
        return;
    }
    for (place, text) in given.iter().enumerate() {
        let entry = errors.check(&format!("{field}[{place}]"), parse(text));
        if let Some(entry) = entry.filter(|entry| !list.contains(entry)) {
            list.push(entry);
        }
    }
}

/// Reads a network, or an address alone.
fn network(text: &str) -> Result<IpNet, &'static str> {
    let address = || text.parse().ok().map(|address: std::net::IpAddr| IpNet::from(address.to_canonical()));
    let network = IpNet::from_str(text).ok().or_else(address);
    network.map(|network| network.trunc()).ok_or("must be a network such as 203.0.113.0/24, or an address")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limited(before: &KeyLimits, json: &str) -> Result<KeyLimits, Problem> {
        let (mut limits, mut errors) = (before.clone(), Errors::default());
        limit(&mut limits, serde_json::from_str(json).unwrap(), &mut errors);
        errors.finish(Some(limits))
    }

    #[test]
    fn a_burst_follows_the_rate_unless_it_is_given() {
        let rate = |limits: &KeyLimits| limits.rate.map(|rate| (rate.per_second(), rate.burst()));
        let ten = limited(&KeyLimits::default(), r#"{"requests_per_second":10}"#).unwrap();
        assert_eq!(rate(&ten), Some((10, 10)));
        assert_eq!(rate(&limited(&ten, r#"{"requests_per_second":20}"#).unwrap()), Some((20, 20)));
        let burst = limited(&ten, r#"{"burst":50}"#).unwrap();
        assert_eq!(rate(&burst), Some((10, 50)));
        assert_eq!(rate(&limited(&burst, r#"{"requests_per_second":20}"#).unwrap()), Some((20, 50)));
        assert_eq!(rate(&limited(&burst, r#"{"burst":null}"#).unwrap()), Some((10, 10)));
        assert_eq!(rate(&limited(&burst, r#"{"requests_per_second":null}"#).unwrap()), None);
        assert!(limited(&KeyLimits::default(), r#"{"burst":5}"#).is_err());
    }

    #[test]
    fn a_network_may_be_an_address() {
        let network = |text| network(text).map(|network| network.to_string());
        assert_eq!(network("203.0.113.7/24"), Ok("203.0.113.0/24".to_owned()));
        assert_eq!(network("203.0.113.7"), Ok("203.0.113.7/32".to_owned()));
        assert_eq!(network("2001:db8::/32"), Ok("2001:db8::/32".to_owned()));
        for wrong in ["", "203.0.113.0/33", "example.com", "10.0.0"] {
            assert!(network(wrong).is_err(), "{wrong}");
        }
    }
}
