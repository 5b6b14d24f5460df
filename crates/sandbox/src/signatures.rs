//! Checking the signatures of a request, with the secrets of the subscribers that send to it.

use postrider_core::signing::{
    Diagnosis, Verifier, WEBHOOK_ID, WEBHOOK_SIGNATURE, WEBHOOK_TIMESTAMP, X_AGENT_SIGNATURE,
};
use postrider_core::{Secret, SubscriberId, TenantId, Timestamp};
use postrider_store::sandboxes::SandboxSignature;
use postrider_store::subscribers::SubscriberFilter;
use postrider_store::{PageRequest, Store, StoreError};

/// The most subscribers whose secrets are tried.
const MAX_SUBSCRIBERS: u16 = 10;
/// The most signatures of a request that are checked.
const MAX_SIGNATURES: usize = 20;

/// Returns the secrets that sign for these subscribers, newest first.
pub(crate) async fn secrets_of(
    store: &Store,
    tenant: &TenantId,
    subscribers: &[SubscriberId],
) -> Result<Vec<Secret>, StoreError> {
    let mut secrets = Vec::new();
    for id in subscribers {
        if let Some((secret, previous)) = store.secret(tenant, *id).await? {
            secrets.push(secret);
            secrets.extend(previous.into_iter().map(|previous| previous.secret));
        }
    }
    Ok(secrets)
}

/// Returns the secrets of the newest subscribers at a URL.
pub(crate) async fn secrets_at(
    store: &Store,
    tenant: &TenantId,
    url: &str,
) -> Result<Vec<Secret>, StoreError> {
    let filter = SubscriberFilter { url: Some(url.to_owned()), ..SubscriberFilter::default() };
    let page = PageRequest { limit: MAX_SUBSCRIBERS, before: None };
    let found = store.find_subscribers(tenant, &filter, page).await?;
    let ids: Vec<_> = found.items.iter().map(|subscriber| subscriber.id).collect();
    secrets_of(store, tenant, &ids).await
}

/// Checks every signature of a request: each part of `webhook-signature`, and `X-Agent-Signature`.
pub fn check(
    secrets: &[Secret],
    headers: &[(String, String)],
    body: &[u8],
    now: Timestamp,
) -> Vec<SandboxSignature> {
    let texts: Vec<&str> = secrets.iter().map(Secret::expose).collect();
    let verifier = Verifier::any(&texts).ok();
    let value = |name: &str| headers.iter().find(|(given, _)| given == name).map(|(_, value)| value.as_str());
    let given = value(WEBHOOK_SIGNATURE).unwrap_or_default();
    let parts: Vec<&str> = given.split_ascii_whitespace().take(MAX_SIGNATURES).collect();
    let agent = value(X_AGENT_SIGNATURE);
    if parts.is_empty() && agent.is_none() {
        let detail = "the request has no signature: neither `webhook-signature` nor `X-Agent-Signature`";
        return vec![invalid(WEBHOOK_SIGNATURE, "missing", detail.to_owned())];
    }
    let Some(verifier) = verifier else {
        let detail =
            "no subscriber has this sandbox's URL, so there is no secret to check the signature with";
        let names = parts.iter().map(|_| WEBHOOK_SIGNATURE).chain(agent.map(|_| X_AGENT_SIGNATURE));
        return names.map(|name| invalid(name, "no_secret", detail.to_owned())).collect();
    };
    let mut checked = Vec::with_capacity(parts.len() + 1);
    for part in parts {
        // One by one, so that a wrong one beside a right one is noticed.
        let header = |name: &str| match name {
            WEBHOOK_SIGNATURE => Some(part),
            WEBHOOK_ID | WEBHOOK_TIMESTAMP => value(name),
            _ => None,
        };
        checked.push(match verifier.verify(header, body, now) {
            Ok(_) => valid(WEBHOOK_SIGNATURE),
            Err(error) => {
                let Diagnosis { reason, detail } = Diagnosis::of(error, &texts, header, body, now);
                invalid(WEBHOOK_SIGNATURE, reason, detail)
            }
        });
    }
    if let Some(agent) = agent {
        let header = |name: &str| (name == X_AGENT_SIGNATURE).then_some(agent);
        checked.push(match verifier.verify_agent(agent, body) {
            Ok(()) => valid(X_AGENT_SIGNATURE),
            Err(error) => {
                let Diagnosis { reason, detail } = Diagnosis::of(error, &texts, header, body, now);
                invalid(X_AGENT_SIGNATURE, reason, detail)
            }
        });
    }
    checked
}

fn valid(header: &str) -> SandboxSignature {
    SandboxSignature { header: header.to_owned(), valid: true, reason: None, detail: None }
}

fn invalid(header: &str, reason: &str, detail: String) -> SandboxSignature {
    SandboxSignature {
        header: header.to_owned(),
        valid: false,
        reason: Some(reason.to_owned()),
        detail: Some(detail),
    }
}

#[cfg(test)]
mod tests {
    use postrider_core::signing::Signer;

    use super::*;

    const BODY: &[u8] = br#"{"event":"a.b"}"#;
    const NOW: i64 = 1_700_000_000;

    fn headers(signature: &str, agent: &str) -> Vec<(String, String)> {
        [
            (WEBHOOK_ID, "evt_1"),
            (WEBHOOK_TIMESTAMP, "1700000000"),
            (WEBHOOK_SIGNATURE, signature),
            (X_AGENT_SIGNATURE, agent),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect()
    }

    fn reasons(secrets: &[Secret], headers: &[(String, String)], body: &[u8]) -> Vec<Option<String>> {
        let now = Timestamp::from_seconds(NOW);
        check(secrets, headers, body, now).into_iter().map(|checked| checked.reason).collect()
    }

    #[test]
    fn every_signature_is_checked_and_explained() {
        let secret = Secret::parse("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let other = Secret::parse("another secret").unwrap();
        let asymmetric = Secret::parse("whsk_AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let signer = Signer::new(&secret, &[other.clone(), asymmetric.clone()]);
        let right = headers(&signer.webhook_signature("evt_1", NOW, BODY), &signer.agent_signature(BODY));
        let all = [secret.clone(), other.clone(), asymmetric];
        assert_eq!(reasons(&all, &right, BODY), vec![None; 4]);
        let found = reasons(std::slice::from_ref(&secret), &right, BODY);
        assert_eq!(
            found.iter().filter(|reason| reason.is_some()).count(),
            2,
            "those of the two other secrets"
        );
        let changed = Some("body_changed".to_owned());
        assert!(reasons(&all, &right, br#"{"event": "a.b"}"#).contains(&changed));
        assert_eq!(reasons(&all, &headers("", ""), BODY), [Some("missing".to_owned())]);
        assert_eq!(reasons(&[], &right, BODY)[0].as_deref(), Some("no_secret"));
    }
}
