//! What the console asks of its server.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::request::Parts;
use http::{Extensions, Request, Response};
use postrider_api::Problem;
use postrider_core::key::{Scope, Scopes};
use postrider_core::portal::Portal;
use postrider_core::{KeyId, ShownSetting, TenantId, Timestamp};
use zeroize::Zeroizing;

/// The server, as the console sees it. `visitor` is always the head of the request that a browser has sent.
pub trait Api: Send + Sync {
    /// Begins a session with a key.
    fn sign_in<'a>(&'a self, visitor: &'a Parts, key: &'a str) -> BoxFuture<'a, Result<SignedIn, Problem>>;

    /// Returns the session of a token; `None` if there is none, or its key is no longer valid.
    fn session<'a>(
        &'a self,
        visitor: &'a Parts,
        token: &'a Token,
    ) -> BoxFuture<'a, Result<Option<Session>, Problem>>;

    /// Returns the sessions that a session may see: those of its key or, with the scope `keys:manage`, those of all
    /// keys of its tenant, or of everyone if the key is an operator's. Newest first, at most 100.
    fn sessions<'a>(
        &'a self,
        visitor: &'a Parts,
        session: &'a Session,
    ) -> BoxFuture<'a, Result<Vec<SessionRow>, Problem>>;

    /// Ends a session: one of those that the session may see. Returns `false` if there
    /// is no such session.
    fn revoke<'a>(
        &'a self,
        visitor: &'a Parts,
        session: &'a Session,
        id: SessionId,
    ) -> BoxFuture<'a, Result<bool, Problem>>;

    /// Answers a request to the API as if it showed the session's key.
    fn call<'a>(
        &'a self,
        visitor: &'a Parts,
        session: &'a Session,
        request: Request<Bytes>,
    ) -> BoxFuture<'a, Response<Body>>;

    /// Returns the portal to which a link leads that still works.
    fn portal(&self, link: SessionId) -> BoxFuture<'_, Result<Option<Arc<Portal>>, Problem>>;

    /// Uses up the link to the portal with this secret, and begins a session there; `None` if it does not work any more.
    fn enter<'a>(
        &'a self,
        visitor: &'a Parts,
        secret: &'a Token,
    ) -> BoxFuture<'a, Result<Option<Entered>, Problem>>;

    /// Returns the settings of the server. Secrets are masked.
    fn settings(&self) -> Vec<ShownSetting>;

    /// The present moment.
    fn now(&self) -> Timestamp;
}

/// A session that has begun in the portal, and what it is.
pub type Entered = (SignedIn, Arc<Portal>);

/// A session that has begun.
#[derive(Debug)]
pub struct SignedIn {
    /// What the browser's cookie holds.
    pub token: Token,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// A session.
#[derive(Clone, Debug)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The name of its key.
    pub key_name: String,
    /// Its key; `None` for the key in the server's environment.
    pub key: Option<KeyId>,
    /// The tenant of its key; `None` if it is an operator's.
    pub tenant: Option<TenantId>,
    /// What it may do: no more than its key, and in the portal no more than the link allows.
    pub scopes: Scopes,
    /// When it ends.
    pub expires_at: Timestamp,
    /// What it is, if it is one in the portal.
    pub portal: Option<Arc<Portal>>,
    /// What the server keeps with it for [`Api::call`].
    pub grant: Extensions,
}

impl Session {
    /// Returns whether the session has a scope.
    pub fn may(&self, scope: Scope) -> bool {
        self.scopes.contains(scope)
    }

    /// Returns whether its key is an operator's.
    pub fn is_operator(&self) -> bool {
        self.tenant.is_none()
    }
}

/// A session in a list.
#[derive(Clone, Debug)]
pub struct SessionRow {
    /// Its id.
    pub id: SessionId,
    /// Its key; `None` for the key in the server's environment.
    pub key: Option<KeyId>,
    /// When it began.
    pub created_at: Timestamp,
    /// The minute in which it was last used.
    pub last_seen_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The address from which it began.
    pub address: Option<IpAddr>,
    /// The browser, as it calls itself.
    pub user_agent: String,
}

/// What names a session without giving access to it: the SHA-256 of its token. Written as 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SessionId(pub [u8; 32]);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for SessionId {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes).map_err(|_| NotOurs)?;
        Ok(Self(bytes))
    }
}

/// The secret of a session: 32 random bytes, written as 64 hexadecimal digits.
#[derive(Clone)]
pub struct Token(Zeroizing<[u8; 32]>);

/// The text is neither the id nor the token of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must be 64 hexadecimal digits")]
pub struct NotOurs;

impl Token {
    /// The token of these bytes.
    pub fn new(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// The bytes.
    pub fn expose(&self) -> &[u8; 32] {
        &self.0
    }

    /// The text for the cookie.
    pub fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(hex::encode(*self.0))
    }
}

impl FromStr for Token {
    type Err = NotOurs;

    fn from_str(text: &str) -> Result<Self, NotOurs> {
        let mut bytes = Zeroizing::new([0; 32]);
        hex::decode_to_slice(text, &mut *bytes).map_err(|_| NotOurs)?;
        Ok(Self(bytes))
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(***)")
    }
}
