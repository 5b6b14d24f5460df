//! The audit trail: written by the store, listed here, and sent to operators as events.

use std::sync::Arc;

use axum::Json;
use axum::extract::{FromRequestParts, State};
use axum::http::request::Parts;
use postrider_api::Moment;
use postrider_api::audit::{AuditEntryView, AuditList, AuditQuery};
use postrider_core::key::Scope;
use postrider_core::{AgentId, EventData, TenantId, chain};
use postrider_dispatch::NewEvent;
use postrider_store::Store;
use postrider_store::audit::{AuditEntry, AuditFilter, Auditor};
use utoipa_axum::routes;

use crate::caller::Caller;
use crate::extract::Parameters;
use crate::needs::Needs;
use crate::page;
use crate::problem::Problem;
use crate::routes::Routes;
use crate::state::ApiState;

pub(crate) fn routes(routes: Routes) -> Routes {
    routes.add(Needs::scope(Scope::AuditRead).on_deployment(), routes!(list))
}

/// The store, for a handler that changes something or shows a secret. What it does is written to the audit trail.
pub(crate) struct Audited(pub(crate) Store);

impl FromRequestParts<ApiState> for Audited {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, Problem> {
        let Some(auditor) = parts.extensions.get::<Arc<Auditor>>() else {
            tracing::error!("a route changes something without an auditor");
            return Err(Problem::internal());
        };
        Ok(Self(state.store.audited(Arc::clone(auditor))))
    }
}

fn view(entry: AuditEntry) -> AuditEntryView {
    AuditEntryView {
        id: entry.id,
        at: entry.at.into(),
        tenant: entry.tenant,
        actor: entry.actor,
        actor_name: entry.actor_name,
        address: entry.address,
        request_id: entry.request_id,
        action: entry.action,
        target: entry.target,
        before: entry.before,
        after: entry.after,
    }
}

/// List the audit trail
///
/// Who changed what, and who read a secret, newest first. An operator who names no tenant gets everything; what concerns
/// tenants and the keys of operators is in the trail of the tenant `operator`.
#[utoipa::path(
    get, path = "/v1/audit", operation_id = "list_audit", tag = "audit", params(AuditQuery),
    responses((status = 200, description = "A page of the audit trail.", body = AuditList))
)]
async fn list(
    State(state): State<ApiState>,
    caller: Caller,
    Parameters(query): Parameters<AuditQuery>,
) -> Result<Json<AuditList>, Problem> {
    let filter = AuditFilter {
        tenant: caller.one_tenant.then(|| caller.tenant.clone()),
        actor: query.actor,
        action: query.action.map(|action| action.as_str().to_owned()),
        target: query.target,
        since: query.since.map(|Moment(since)| since),
        until: query.until.map(|Moment(until)| until),
    };
    let entries = state.store.audit_entries(&filter, page::request(query.limit, query.cursor)).await?;
    Ok(Json(page::list(entries, view)))
}

/// Dispatches an event for each row that a request has written, if someone has subscribed to it. A crash in between loses the
/// events; the rows stay.
pub(crate) async fn notify_operators(state: &ApiState, entries: Vec<AuditEntry>) {
    let events: Vec<_> = entries.into_iter().filter_map(event).collect();
    let asked: Vec<_> = events.iter().map(|event| (TenantId::operator(), event.event_type.clone())).collect();
    let found = match state.store.subscribers_of(&state.store.database().reads(), &asked).await {
        Ok(found) => found,
        Err(error) => {
            tracing::warn!(error = %chain(&error), "events of the audit trail not dispatched");
            return;
        }
    };
    let wanted = events.into_iter().zip(found);
    let wanted = wanted.filter(|(_, few)| few.as_ref().is_none_or(|few| !few.is_empty()));
    let wanted: Vec<_> = wanted.map(|(event, _)| event).collect();
    if wanted.is_empty() {
        return;
    }
    for result in state.dispatcher.dispatch_batch(wanted).await {
        if let Err(error) = result {
            tracing::warn!(error = %chain(&error), "event of the audit trail not dispatched");
        }
    }
}

fn event(entry: AuditEntry) -> Option<NewEvent> {
    let event_type = format!("audit.{}", entry.action);
    let made = || -> Result<NewEvent, Box<dyn std::error::Error>> {
        let data = serde_json::to_value(view(entry))?;
        Ok(NewEvent {
            tenant: TenantId::operator(),
            agent_id: Some("postrider".parse::<AgentId>()?),
            data: EventData::from_value(&data)?,
            ..NewEvent::new(&event_type, &data)?
        })
    };
    match made() {
        Ok(event) => Some(event),
        Err(error) => {
            tracing::error!(error = %chain(&*error), "event of the audit trail could not be made");
            None
        }
    }
}
