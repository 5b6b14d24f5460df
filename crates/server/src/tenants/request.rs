//! Validation of a new tenant, and of changes to one.

use std::collections::BTreeMap;
use std::time::Duration;

use postrider_api::subscriber::Change;
use postrider_api::tenant::{TenantChangeRequest, TenantRequest, TenantRetentionRequest};
use postrider_core::{Metadata, ProxyUrl};
use postrider_store::tenants::{EgressProxy, NewTenant, Tenant, TenantRetention};

use crate::problem::{Errors, Problem};

const MAX_NAME: usize = 200;

/// The new tenant, or a problem that names every invalid field.
pub(super) fn new_tenant(request: TenantRequest) -> Result<NewTenant, Problem> {
    let mut errors = Errors::default();
    let id = errors.require("id", request.id).and_then(|id| errors.check("id", id.parse()));
    let name = name(request.name.unwrap_or_default(), &mut errors);
    let metadata = errors.check("metadata", Metadata::try_from(request.metadata.unwrap_or_default()));
    let mut retention = TenantRetention::default();
    retain(&mut retention, request.retention.unwrap_or_default(), &mut errors);
    let egress_proxy =
        request.egress_proxy.map_or(Some(None), |text| egress_proxy(&text, &mut errors).map(Some));
    let new = (|| {
        let (id, name, metadata, egress_proxy) = (id?, name?, metadata?, egress_proxy?);
        Some(NewTenant { id, name, metadata, retention, egress_proxy })
    })();
    errors.finish(new)
}

/// Changes a tenant, or returns a problem that names every invalid field.
pub(super) fn change(tenant: &mut Tenant, request: TenantChangeRequest) -> Result<(), Problem> {
    let mut errors = Errors::default();
    match request.name {
        Change::Keep => {}
        Change::Reset => tenant.name = String::new(),
        Change::Set(text) => tenant.name = name(text, &mut errors).unwrap_or_default(),
    }
    match request.metadata {
        Change::Keep => {}
        Change::Reset => tenant.metadata = Metadata::default(),
        Change::Set(changes) => merge(&mut tenant.metadata, changes, &mut errors),
    }
    match request.only_registered_types {
        Change::Keep => {}
        Change::Reset => errors.add("only_registered_types", "must be true or false"),
        Change::Set(only) => tenant.only_registered = only,
    }
    match request.active {
        Change::Keep => {}
        Change::Reset => errors.add("active", "must be true or false"),
        Change::Set(active) => tenant.active = active,
    }
    match request.retention {
        Change::Keep => {}
        Change::Reset => tenant.retention = TenantRetention::default(),
        Change::Set(changes) => retain(&mut tenant.retention, changes, &mut errors),
    }
    match request.egress_proxy {
        Change::Keep => {}
        Change::Reset => tenant.egress_proxy = None,
        Change::Set(text) => {
            tenant.egress_proxy = egress_proxy(&text, &mut errors).map(EgressProxy::Url);
        }
    }
    errors.finish(Some(()))
}

fn egress_proxy(text: &str, errors: &mut Errors) -> Option<ProxyUrl> {
    if ProxyUrl::is_masked(text) {
        errors.add("egress_proxy", "must contain the user name and password, not their mask");
        return None;
    }
    errors.check("egress_proxy", text.parse())
}

fn name(name: String, errors: &mut Errors) -> Option<String> {
    if name.chars().count() > MAX_NAME {
        errors.add("name", &format!("must have at most {MAX_NAME} characters"));
        return None;
    }
    Some(name)
}

fn merge(metadata: &mut Metadata, changes: BTreeMap<String, Option<String>>, errors: &mut Errors) {
    let merged = std::mem::take(metadata).merged(changes);
    *metadata = errors.check("metadata", merged).unwrap_or_default();
}

fn retain(retention: &mut TenantRetention, changes: TenantRetentionRequest, errors: &mut Errors) {
    let TenantRetentionRequest { history, payloads, dead } = changes;
    for (field, change, age) in [
        ("retention.history", history, &mut retention.history),
        ("retention.payloads", payloads, &mut retention.payloads),
        ("retention.dead", dead, &mut retention.dead),
    ] {
        match change {
            Change::Keep => {}
            Change::Reset => *age = None,
            Change::Set(text) => *age = errors.check(field, parse_age(&text)),
        }
    }
}

/// Parses an age such as `30d` or `12h`.
fn parse_age(text: &str) -> Result<Duration, String> {
    let bounds = TenantRetention::AGE;
    match humantime::parse_duration(text) {
        Ok(age) if bounds.contains(&age) => Ok(age),
        Ok(_) => Err("must be 1h to 36500d".to_owned()),
        Err(error) => Err(format!("{error}; write for example 30d or 12h, or null for no limit of its own")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_a_time_of_an_hour_at_least() {
        assert_eq!(parse_age("30d"), Ok(Duration::from_hours(30 * 24)));
        assert_eq!(parse_age("36500d").map(|age| age.as_secs()), Ok(36_500 * 24 * 60 * 60));
        for wrong in ["", "30", "59m", "36501d", "forever", "-1d"] {
            assert!(parse_age(wrong).is_err(), "{wrong}");
        }
    }
}
