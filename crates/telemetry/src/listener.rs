//! The telemetry address: `/metrics`, `/healthz` and `/readyz`.

use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use serde_json::json;
use tokio::sync::Mutex;

pub use self::serve::{CONNECTIONS, GRACE, serve, serve_up_to};
use crate::prometheus::{CONTENT_TYPE, PrometheusHandle};

mod serve;

/// How long [`Readiness::check`] reuses the result of the probe, so that frequent checks do not load the database.
pub const MAX_AGE: Duration = Duration::from_millis(250);

/// The result of a probe: ready, or a reason that contains neither addresses nor secrets.
pub type Probed = Result<(), String>;

type Condition = dyn Fn() -> Probed + Send;
type Probe = dyn Fn() -> Pin<Box<dyn Future<Output = Probed> + Send>> + Send + Sync;

/// Checks with a probe, within a time limit, whether this process can do its work.
///
/// ```
/// use postrider_telemetry::Readiness;
/// use std::time::Duration;
///
/// let readiness = Readiness::new(Duration::from_secs(2), || async { Err("the database is unavailable".to_owned()) });
/// ```
#[derive(Clone)]
pub struct Readiness {
    probe: Arc<Probe>,
    limit: Duration,
    stopping: Arc<AtomicBool>,
    conditions: Arc<StdMutex<Vec<Box<Condition>>>>,
    last: Arc<Mutex<Option<(Instant, Probed)>>>,
}

impl Readiness {
    /// Creates the check from a probe and its time limit. A probe that takes longer counts as not ready.
    ///
    /// `/readyz` needs no key and shows the reason of a failure, so it must contain neither addresses nor secrets.
    pub fn new<P, F>(limit: Duration, probe: P) -> Self
    where
        P: Fn() -> F + Send + Sync + 'static,
        F: Future<Output = Probed> + Send + 'static,
    {
        Self {
            probe: Arc::new(move || Box::pin(probe())),
            limit,
            stopping: Arc::default(),
            conditions: Arc::default(),
            last: Arc::default(),
        }
    }

    /// Creates a check that is always ready.
    pub fn always() -> Self {
        Self::new(Duration::from_secs(1), || async { Ok(()) })
    }

    /// From now on this process is not ready, as it is about to stop. Applies to all clones.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
    }

    /// Adds a condition that is checked each time before the probe. Applies to all clones.
    pub fn require(&self, condition: impl Fn() -> Probed + Send + 'static) {
        self.conditions().push(Box::new(condition));
    }

    fn conditions(&self) -> MutexGuard<'_, Vec<Box<Condition>>> {
        self.conditions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs the probe, or returns its last result if that is younger than [`MAX_AGE`].
    ///
    /// # Errors
    /// Fails with the reason why this process cannot do its work.
    pub async fn check(&self) -> Probed {
        if self.stopping.load(Ordering::SeqCst) {
            return Err("stopping".to_owned());
        }
        self.conditions().iter().try_for_each(|condition| condition())?;
        let mut last = self.last.lock().await;
        if let Some((at, probed)) = &*last
            && at.elapsed() < MAX_AGE
        {
            return probed.clone();
        }
        let probed = match tokio::time::timeout(self.limit, (self.probe)()).await {
            Ok(probed) => probed,
            Err(_) => Err(format!("no answer within {:?}", self.limit)),
        };
        *last = Some((Instant::now(), probed.clone()));
        probed
    }
}

impl fmt::Debug for Readiness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readiness").field("limit", &self.limit).finish_non_exhaustive()
    }
}

/// Returns the routes `/metrics`, `/healthz` and `/readyz`.
pub fn routes(handle: PrometheusHandle, readiness: Readiness) -> Router {
    health_routes(readiness).route("/metrics", get(metrics).with_state(handle))
}

/// Returns the routes `/healthz` and `/readyz`, which the server has on its API address too.
pub fn health_routes(readiness: Readiness) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz).with_state(readiness))
}

async fn metrics(State(handle): State<PrometheusHandle>) -> Response {
    ([(header::CONTENT_TYPE, CONTENT_TYPE)], handle.render()).into_response()
}

async fn healthz() -> Json<serde_json::Value> {
    Json(json!({ "status": "ok" }))
}

async fn readyz(State(readiness): State<Readiness>) -> Response {
    match readiness.check().await {
        Ok(()) => Json(json!({ "status": "ready" })).into_response(),
        Err(reason) => {
            let body = Json(json!({ "status": "unready", "reason": reason }));
            (StatusCode::SERVICE_UNAVAILABLE, body).into_response()
        }
    }
}
