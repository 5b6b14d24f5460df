//! Serving the telemetry address, however many clients connect to it and wait.

use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// How many connections are open at once. The one that has waited longest is closed for the next.
pub const CONNECTIONS: usize = 64;

/// The time for requests in flight to finish after [`serve`] has been stopped.
pub const GRACE: Duration = Duration::from_secs(1);

/// How long a request's head may take to arrive, and how long a connection may be idle between requests.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a connection may last. A client that does not read its answer would keep it open.
const LIFETIME: Duration = Duration::from_hours(1);
/// The largest head of a request, in bytes.
const HEAD_LIMIT: usize = 32 * 1024;
/// The pause after the system had no file descriptors or memory for another connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Serves `router` until `shutdown` completes, then waits up to [`GRACE`] for requests in flight.
///
/// A scraper must get through even if other clients open connections and send nothing, so connections do not wait for a
/// place: the connection that has gone longest without a complete request is closed.
pub async fn serve(listener: TcpListener, router: Router, shutdown: impl Future<Output = ()>) {
    serve_up_to(CONNECTIONS, listener, router, shutdown).await;
}

/// Serves as [`serve`] does, with up to `connections` connections at once.
pub async fn serve_up_to(
    connections: usize,
    listener: TcpListener,
    router: Router,
    shutdown: impl Future<Output = ()>,
) {
    let mut shutdown = pin!(shutdown);
    let (stopping, stopped) = watch::channel(false);
    let mut open = JoinSet::new();
    let mut waiting = Waiting::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            Some(_) = open.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                if open.len() >= connections {
                    waiting.close_longest();
                    // The place is free once that connection's task has ended.
                    open.join_next().await;
                }
                let connection = waiting.add();
                open.spawn(serve_connection(stream, router.clone(), connection, stopped.clone()));
            }
            Err(error) if is_of_connection(&error) => {}
            Err(error) => {
                tracing::warn!(%error, "accept failed; retrying");
                // A descriptor of ours may be all that is missing.
                waiting.close_longest();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    let _ = stopping.send(true);
    // Dropping `open` closes the connections that are left after that.
    let _ = timeout(GRACE, async { while open.join_next().await.is_some() {} }).await;
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    state: Arc<Connection>,
    mut stopped: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT).max_buf_size(HEAD_LIMIT);
    let inner = TowerToHyperService::new(router);
    let state = &*state;
    let service = service_fn(move |request| {
        state.set_in_flight(true);
        let answer = inner.call(request);
        async move {
            let answer = answer.await;
            state.set_in_flight(false);
            answer
        }
    });
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = state.closed.notified() => return,
        () = sleep(LIFETIME) => return,
        // Its value must not be held during the last answer.
        () = async { drop(stopped.wait_for(|stopped| *stopped).await) } => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    // Not an error of the program: the client disconnected or did not speak HTTP.
    if let Err(error) = ended {
        tracing::debug!(%error, "connection failed");
    }
}

/// A connection, and whether it can be closed for another.
#[derive(Debug)]
struct Connection {
    in_flight: AtomicBool,
    since: Mutex<Instant>,
    closed: Notify,
}

impl Connection {
    fn set_in_flight(&self, is_in_flight: bool) {
        self.in_flight.store(is_in_flight, Ordering::Relaxed);
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Connections without a request come first, then the oldest request.
    fn order(&self) -> (bool, Instant) {
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        (self.in_flight.load(Ordering::Relaxed), since)
    }
}

/// The connections of a listener.
#[derive(Debug, Default)]
struct Waiting(Vec<Arc<Connection>>);

impl Waiting {
    fn add(&mut self) -> Arc<Connection> {
        // Ended connections have dropped theirs.
        self.0.retain(|connection| Arc::strong_count(connection) > 1);
        let connection = Arc::new(Connection {
            in_flight: AtomicBool::new(false),
            since: Mutex::new(Instant::now()),
            closed: Notify::new(),
        });
        self.0.push(Arc::clone(&connection));
        connection
    }

    /// Closes the connection that has gone longest without a complete request.
    fn close_longest(&mut self) {
        self.0.retain(|connection| Arc::strong_count(connection) > 1);
        let longest = self.0.iter().enumerate().min_by_key(|(_, connection)| connection.order());
        if let Some((place, _)) = longest {
            self.0.swap_remove(place).closed.notify_one();
        }
    }
}

/// Whether the error concerns only the connection that was being accepted.
fn is_of_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}
