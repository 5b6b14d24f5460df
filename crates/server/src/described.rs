//! `/openapi.json`: the description of the API, with the event types of the deployment as its webhooks.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use postrider_core::chain;
use postrider_store::StoreError;
use postrider_store::event_types::TypesOf;
use serde_json::Value;

use crate::event_types;
use crate::state::ApiState;

#[derive(Clone)]
struct Description {
    state: ApiState,
    /// Without event types.
    plain: Bytes,
    /// With those of the deployment, and the count of changes when they were read.
    full: Arc<Mutex<Option<(i64, Bytes)>>>,
}

/// The route, which needs no key. Types of tenants are not shown.
pub(crate) fn routes(state: ApiState, description: String) -> Router {
    let description = Description { state, plain: description.into(), full: Arc::default() };
    Router::new().route("/openapi.json", get(described)).with_state(description)
}

async fn described(State(description): State<Description>) -> Response {
    let document = description.current().await.unwrap_or_else(|error| {
        tracing::debug!(error = %chain(&error), "event types not read; the description is shown without them");
        description.plain.clone()
    });
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], document).into_response()
}

impl Description {
    async fn current(&self) -> Result<Bytes, StoreError> {
        let changes = self.state.types.changes();
        if changes == 0 {
            return Ok(self.plain.clone());
        }
        let full = || self.full.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((as_of, document)) = &*full()
            && *as_of >= changes
        {
            return Ok(document.clone());
        }
        let types = self.state.store.event_types(&TypesOf::Deployment).await?;
        let document = self.with(event_types::webhooks(types));
        *full() = Some((changes, document.clone()));
        Ok(document)
    }

    /// The description with more webhooks.
    fn with(&self, webhooks: Value) -> Bytes {
        // The server has written it itself.
        let Ok(mut document) = serde_json::from_slice::<Value>(&self.plain) else {
            return self.plain.clone();
        };
        if let (Some(present), Value::Object(more)) = (document["webhooks"].as_object_mut(), webhooks) {
            for (name, webhook) in more {
                present.entry(name).or_insert(webhook);
            }
        }
        document.to_string().into()
    }
}
