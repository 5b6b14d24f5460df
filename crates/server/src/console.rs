//! What the web console asks of this server: sessions, and calls of the API for them.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use axum::routing::get;
use bytes::Bytes;
use futures_util::future::{BoxFuture, FutureExt as _};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;
use postrider_api::Problem as ProblemBody;
use postrider_console::{Api, Entered, Session, SessionId, SessionRow, SignedIn, Token};
use postrider_core::key::{KeyHash, Scope};
use postrider_core::portal::Portal;
use postrider_core::{KeyId, ShownSetting, Timestamp};
use postrider_store::Store;
use postrider_store::audit::Auditor;
use postrider_store::sessions::{self, MAX_SESSIONS, SessionsOf};
use ring::digest::{SHA256, digest};
use tokio::time::{Instant, timeout};

use crate::address::{self, Peer};
use crate::audit::notify_operators;
use crate::auth::{self, Grant};
use crate::caller::Actor;
use crate::problem::Problem;
use crate::request_id;
use crate::state::ApiState;

/// How long a session lasts.
const SESSION: Duration = Duration::from_hours(12);

/// How many characters of a browser's name are kept.
const USER_AGENT: usize = 200;

/// The longest text that is compared with keys.
const LONGEST_KEY: usize = 500;

/// The routes of the console. `api` answers its calls.
pub(crate) fn routes(state: ApiState, api: Router) -> Router {
    postrider_console::routes(Arc::new(Pages { state, api: TowerToHyperService::new(api) }))
}

/// The way to the console from the root of an address of its own.
pub(crate) fn way_in() -> Router {
    Router::new().route("/", get(async || (StatusCode::SEE_OTHER, [(header::LOCATION, "console")])))
}

struct Pages {
    state: ApiState,
    api: TowerToHyperService<Router>,
}

impl Api for Pages {
    fn sign_in<'a>(
        &'a self,
        visitor: &'a Parts,
        key: &'a str,
    ) -> BoxFuture<'a, Result<SignedIn, ProblemBody>> {
        self.within(self.begin(visitor, key)).boxed()
    }

    fn session<'a>(
        &'a self,
        visitor: &'a Parts,
        token: &'a Token,
    ) -> BoxFuture<'a, Result<Option<Session>, ProblemBody>> {
        self.within(self.find(visitor, token)).boxed()
    }

    fn sessions<'a>(
        &'a self,
        _: &'a Parts,
        session: &'a Session,
    ) -> BoxFuture<'a, Result<Vec<SessionRow>, ProblemBody>> {
        self.within(self.list(session)).boxed()
    }

    fn revoke<'a>(
        &'a self,
        visitor: &'a Parts,
        session: &'a Session,
        id: SessionId,
    ) -> BoxFuture<'a, Result<bool, ProblemBody>> {
        self.within(self.end(visitor, session, id)).boxed()
    }

    fn call<'a>(
        &'a self,
        visitor: &'a Parts,
        session: &'a Session,
        request: Request<Bytes>,
    ) -> BoxFuture<'a, Response<Body>> {
        async move {
            let mut request = request.map(Body::from);
            // The grant and where the visitor comes from: limits and the audit trail concern the visitor.
            *request.extensions_mut() = session.grant.clone();
            if let Some(peer) = visitor.extensions.get::<Peer>() {
                request.extensions_mut().insert(*peer);
            }
            if let Some(peer) = visitor.extensions.get::<ConnectInfo<std::net::SocketAddr>>() {
                request.extensions_mut().insert(*peer);
            }
            for forwarded in visitor.headers.get_all("x-forwarded-for") {
                request.headers_mut().append("x-forwarded-for", forwarded.clone());
            }
            if let Some(id) = request_id::current().and_then(|id| id.parse().ok()) {
                request.headers_mut().insert(request_id::HEADER, id);
            }
            match self.api.call(request).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
        .boxed()
    }

    fn portal(&self, link: SessionId) -> BoxFuture<'_, Result<Option<Arc<Portal>>, ProblemBody>> {
        self.within(async move {
            let found = self.state.store.portal_link(&link.0).await?;
            Ok(found.map(|link| Arc::new(link.portal)))
        })
        .boxed()
    }

    fn enter<'a>(
        &'a self,
        visitor: &'a Parts,
        secret: &'a Token,
    ) -> BoxFuture<'a, Result<Option<Entered>, ProblemBody>> {
        self.within(self.begin_in_portal(visitor, secret)).boxed()
    }

    fn settings(&self) -> Vec<ShownSetting> {
        self.state.config.settings.clone()
    }

    fn now(&self) -> Timestamp {
        self.state.store.ids().clock().now()
    }
}

impl Pages {
    /// Bounds the time that `work` may take.
    async fn within<T>(&self, work: impl Future<Output = Result<T, Problem>>) -> Result<T, ProblemBody> {
        let done = timeout(self.state.config.request_timeout, work).await;
        let failed = |problem: Problem| {
            let mut body = problem.into_body();
            body.request_id = request_id::current();
            body
        };
        done.unwrap_or_else(|_| Err(Problem::unavailable())).map_err(failed)
    }

    async fn begin(&self, visitor: &Parts, key: &str) -> Result<SignedIn, Problem> {
        let state = &self.state;
        let key = key.trim();
        if key.is_empty() {
            return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "enter an API key"));
        }
        // As a request to the API shows it, so that wrong keys are counted and refused in the same way.
        let shown = HeaderValue::try_from(format!("Bearer {key}")).ok();
        let shown =
            shown.filter(|_| key.len() <= LONGEST_KEY).unwrap_or(HeaderValue::from_static("Bearer -"));
        let mut headers = HeaderMap::new();
        for forwarded in visitor.headers.get_all("x-forwarded-for") {
            headers.append("x-forwarded-for", forwarded.clone());
        }
        headers.insert(header::AUTHORIZATION, shown);
        let mut extensions = Extensions::new();
        visitor.extensions.get::<Peer>().map(|peer| extensions.insert(*peer));
        visitor.extensions.get::<ConnectInfo<std::net::SocketAddr>>().map(|peer| extensions.insert(*peer));
        let actor = match auth::actor(state, &headers, &extensions).await {
            Ok(actor) => actor,
            Err(problem) => {
                state.counts.without_key.increment(1);
                return Err(problem);
            }
        };
        auth::within_limits(state, &actor, &headers, &extensions)?;

        let (token, session) = self.new_session(visitor, SESSION);
        let session = sessions::Session {
            key: key_of(&actor),
            key_hash: KeyHash::of(key.as_bytes()),
            tenant: actor.tenant().cloned(),
            ..session
        };
        self.audited(&actor, visitor, async |store| store.create_session(&session).await).await?;
        Ok(SignedIn { token, expires_at: session.expires_at })
    }

    /// Begins a session of the portal with a link.
    async fn begin_in_portal(&self, visitor: &Parts, secret: &Token) -> Result<Option<Entered>, Problem> {
        let link = self.state.store.portal_link(&crate::portal::id_of(secret.expose())).await?;
        let Some(link) = link else { return Ok(None) };
        let portal = Arc::new(link.portal.clone());
        let (token, session) = self.new_session(visitor, link.session_ttl);
        let session = sessions::Session {
            key: link.key,
            key_hash: link.key_hash,
            tenant: Some(link.tenant.clone()),
            portal: Some(link.portal.clone()),
            ..session
        };
        let grant = Grant {
            session: session.id,
            key: session.key,
            hash: session.key_hash,
            read_at: Instant::now(),
            portal: Some((link.tenant.clone(), Arc::clone(&portal))),
        };
        // The key that made the link may have gone.
        let actor = match auth::of_session(&self.state, &grant).await {
            Ok(actor) => actor,
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => return Ok(None),
            Err(problem) => return Err(problem),
        };
        let using = async |store: &Store| store.use_portal_link(&link, &session).await;
        let is_used = self.audited(&actor, visitor, using).await?;
        Ok(is_used.then_some((SignedIn { token, expires_at: session.expires_at }, portal)))
    }

    /// A session of nobody yet, and its token.
    fn new_session(&self, visitor: &Parts, ttl: Duration) -> (Token, sessions::Session) {
        let mut bytes = [0; 32];
        self.state.store.ids().random().fill(&mut bytes);
        let token = Token::new(bytes);
        let now = self.now();
        let user_agent =
            visitor.headers.get(header::USER_AGENT).map(HeaderValue::as_bytes).unwrap_or_default();
        let user_agent = String::from_utf8_lossy(user_agent);
        let session = sessions::Session {
            id: id_of(&token).0,
            key: None,
            key_hash: KeyHash::of(b""),
            tenant: None,
            created_at: now,
            last_seen_at: now,
            expires_at: now + ttl,
            address: self.address(visitor),
            user_agent: user_agent.chars().filter(|c| !c.is_control()).take(USER_AGENT).collect(),
            portal: None,
        };
        (token, session)
    }

    async fn find(&self, visitor: &Parts, token: &Token) -> Result<Option<Session>, Problem> {
        let (id, read_at) = (id_of(token), Instant::now());
        let Some(found) = self.state.store.session(&id.0).await? else { return Ok(None) };
        let portal = found.portal.map(Arc::new);
        let in_portal = found.tenant.zip(portal.clone());
        let grant = Grant { session: id.0, key: found.key, hash: found.key_hash, read_at, portal: in_portal };
        let actor = match auth::of_session(&self.state, &grant).await {
            Ok(actor) => actor,
            Err(problem) if problem.status() == StatusCode::UNAUTHORIZED => return Ok(None),
            Err(problem) => return Err(problem),
        };
        let limits = actor.limits().filter(|limits| !limits.networks.is_empty());
        if limits.is_some_and(|limits| !limits.allow_address(self.address(visitor))) {
            return Ok(None);
        }
        let mut extensions = Extensions::new();
        extensions.insert(grant);
        Ok(Some(Session {
            id,
            key_name: actor.name(),
            key: found.key,
            tenant: actor.tenant().cloned(),
            scopes: actor.scopes(),
            expires_at: found.expires_at,
            portal,
            grant: extensions,
        }))
    }

    async fn list(&self, session: &Session) -> Result<Vec<SessionRow>, Problem> {
        let limit = u16::try_from(MAX_SESSIONS).unwrap_or(u16::MAX);
        let found = self.state.store.sessions(seen_by(session), limit).await?;
        let rows = found.into_iter().map(|found| SessionRow {
            id: SessionId(found.id),
            key: found.key,
            created_at: found.created_at,
            last_seen_at: found.last_seen_at,
            expires_at: found.expires_at,
            address: found.address,
            user_agent: found.user_agent,
        });
        Ok(rows.collect())
    }

    async fn end(&self, visitor: &Parts, session: &Session, id: SessionId) -> Result<bool, Problem> {
        let grant = session.grant.get::<Grant>().ok_or_else(Problem::internal)?;
        let actor = auth::of_session(&self.state, grant).await?;
        let of = seen_by(session);
        self.audited(&actor, visitor, async |store| store.revoke_session(of, &id.0).await).await
    }

    /// Changes something that is written to the audit trail.
    async fn audited<T>(
        &self,
        actor: &Actor,
        visitor: &Parts,
        change: impl AsyncFnOnce(&Store) -> Result<T, postrider_store::StoreError>,
    ) -> Result<T, Problem> {
        let auditor = Auditor::new(actor.id(), actor.name(), self.address(visitor), request_id::current());
        let auditor = Arc::new(auditor);
        let changed = change(&self.state.store.audited(Arc::clone(&auditor))).await?;
        notify_operators(&self.state, auditor.take_written()).await;
        Ok(changed)
    }

    fn address(&self, visitor: &Parts) -> Option<std::net::IpAddr> {
        address::of(&visitor.extensions, &visitor.headers, &self.state.config.trusted_proxies)
    }
}

fn id_of(token: &Token) -> SessionId {
    let hash = digest(&SHA256, token.expose());
    // SHA-256 has 32 bytes.
    SessionId(hash.as_ref().try_into().unwrap_or_default())
}

fn key_of(actor: &Actor) -> Option<KeyId> {
    match actor {
        Actor::Key(known) => Some(known.key.id),
        // A guest has no key to show.
        Actor::Environment | Actor::Guest(_) => None,
    }
}

/// The sessions that a session may see and end.
fn seen_by(session: &Session) -> SessionsOf<'_> {
    match &session.tenant {
        _ if !session.may(Scope::KeysManage) => SessionsOf::Key(session.key),
        Some(tenant) => SessionsOf::Tenant(tenant),
        None => SessionsOf::Everyone,
    }
}
