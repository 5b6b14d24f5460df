//! A TCP link between a program and PostgreSQL that can hang, be cut, or swallow answers.

use std::{
    future, io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{
        TcpListener, TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    sync::watch,
    task::{JoinHandle, JoinSet},
};
use url::Url;

/// What a link does with the bytes that it receives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Passes them on.
    Open,
    /// Passes them on after this time, as to a database that is far away: half of a round trip.
    Slow(Duration),
    /// Holds them back until the link is open again: a network partition.
    Hanging,
    /// Resets every connection, old and new.
    Cut,
    /// Passes them on until a connection sends a `COMMIT`. The commit reaches the database, but no answer returns on that
    /// connection any more, whatever state the link has later.
    Unheard,
}

/// A link, listening on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    to: watch::Sender<SocketAddr>,
    link: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Starts an open link to `to`.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let link = watch::Sender::new(Link::Open);
        let to = watch::Sender::new(to);
        let accepting = tokio::spawn(accept(listener, to.subscribe(), link.subscribe()));
        Self { address, to, link, accepting }
    }

    /// Starts a link to the PostgreSQL at `url`, on this machine. Returns it with the URL that leads through it.
    pub async fn before(url: &str) -> (Self, String) {
        let mut url: Url = url.parse().expect("a URL");
        let link = Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, url.port().unwrap_or(5432)))).await;
        url.set_host(Some("127.0.0.1")).expect("an address");
        url.set_port(Some(link.port())).expect("a port");
        (link, url.into())
    }

    /// The port on which the link listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Resets all connections, and leads new ones to another server: a failover.
    pub fn lead_to(&self, to: SocketAddr) {
        self.to.send_replace(to);
    }

    /// Changes the state of the link.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, to: watch::Receiver<SocketAddr>, link: watch::Receiver<Link>) {
    // Dropped with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(pass(client, to.clone(), link.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(mut client: TcpStream, mut to: watch::Receiver<SocketAddr>, mut link: watch::Receiver<Link>) {
    let address = *to.borrow_and_update();
    if let Ok(mut server) = connect(address, &mut link).await {
        // As PostgreSQL does: Nagle's algorithm would delay both ends.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let _ = (client.set_zero_linger(), server.set_zero_linger());
        // Borrowed halves: dropping an owned one closes its direction in order, but a cut connection
        // must be reset.
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let unheard = AtomicBool::new(false);
        let ended = tokio::select! {
            ended = pump(From::Program(&unheard), from_client, to_server, link.clone()) => ended,
            ended = pump(From::Database(&unheard), from_server, to_client, link.clone()) => ended,
            () = is_cut(&mut link) => Err(io::ErrorKind::ConnectionReset.into()),
            _ = to.changed() => Err(io::ErrorKind::ConnectionReset.into()),
        };
        drop(ended);
    } else {
        let _ = client.set_zero_linger();
    }
}

async fn connect(to: SocketAddr, link: &mut watch::Receiver<Link>) -> io::Result<TcpStream> {
    opened(link).await?;
    TcpStream::connect(to).await
}

/// The direction of the bytes, and whether the connection now swallows the database's answers.
#[derive(Clone, Copy, Debug)]
enum From<'a> {
    Program(&'a AtomicBool),
    Database(&'a AtomicBool),
}

async fn pump(
    whose: From<'_>,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await;
        // A hanging link passes on neither bytes nor the end of a stream.
        opened(&mut link).await?;
        let slow = *link.borrow();
        if let Link::Slow(by) = slow {
            tokio::time::sleep(by).await;
        }
        let said = &buffer[..*length.as_ref().unwrap_or(&0)];
        match whose {
            From::Program(unheard) if *link.borrow() == Link::Unheard && asks_for_commit(said) => {
                unheard.store(true, Ordering::SeqCst);
            }
            From::Database(unheard) if unheard.load(Ordering::SeqCst) => future::pending().await,
            From::Program(_) | From::Database(_) => {}
        }
        match length? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}

fn asks_for_commit(said: &[u8]) -> bool {
    const COMMIT: &[u8] = b"COMMIT";
    said.windows(COMMIT.len()).any(|word| word == COMMIT)
}

/// Waits while the link hangs.
async fn opened(link: &mut watch::Receiver<Link>) -> io::Result<()> {
    match link.wait_for(|link| *link != Link::Hanging).await.map(|link| *link) {
        Ok(Link::Open | Link::Slow(_) | Link::Unheard) => Ok(()),
        Ok(_) | Err(_) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

async fn is_cut(link: &mut watch::Receiver<Link>) {
    // Dropping the proxy cuts its links.
    let _ = link.wait_for(|link| *link == Link::Cut).await;
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, timeout};

    use super::*;

    async fn pair() -> (Proxy, TcpStream, TcpStream) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start(listener.local_addr().unwrap()).await;
        let mut near = TcpStream::connect(proxy.address).await.unwrap();
        near.write_all(b"a").await.unwrap();
        let (mut far, _) = listener.accept().await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'a');
        (proxy, near, far)
    }

    #[tokio::test]
    async fn a_slow_link_delays_each_way() {
        const EACH_WAY: Duration = Duration::from_millis(30);
        let (proxy, mut near, mut far) = pair().await;
        proxy.set(Link::Slow(EACH_WAY));
        let began = Instant::now();
        near.write_all(b"b").await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'b');
        assert!(began.elapsed() >= EACH_WAY);
        far.write_all(b"c").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'c');
        assert!(began.elapsed() >= 2 * EACH_WAY);
    }

    #[tokio::test]
    async fn a_hanging_link_holds_bytes_back_until_it_is_open() {
        let (proxy, mut near, mut far) = pair().await;
        proxy.set(Link::Hanging);
        near.write_all(b"b").await.unwrap();
        assert!(timeout(Duration::from_millis(100), far.read_u8()).await.is_err());
        proxy.set(Link::Open);
        assert_eq!(far.read_u8().await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn the_answer_to_a_commit_is_swallowed() {
        let (proxy, mut near, mut far) = pair().await;
        proxy.set(Link::Unheard);
        far.write_all(b"b").await.unwrap();
        assert_eq!(near.read_u8().await.unwrap(), b'b');
        near.write_all(b"COMMIT").await.unwrap();
        let mut asked = [0; 6];
        far.read_exact(&mut asked).await.unwrap();
        assert_eq!(&asked, b"COMMIT");
        far.write_all(b"c").await.unwrap();
        proxy.set(Link::Open);
        assert!(timeout(Duration::from_millis(100), near.read_u8()).await.is_err());
    }

    #[tokio::test]
    async fn a_link_to_another_server_resets_old_connections_and_leads_new_ones_there() {
        let (proxy, mut near, _far) = pair().await;
        let other = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        proxy.lead_to(other.local_addr().unwrap());
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let mut near = TcpStream::connect(proxy.address).await.unwrap();
        near.write_all(b"b").await.unwrap();
        let (mut far, _) = other.accept().await.unwrap();
        assert_eq!(far.read_u8().await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn a_cut_link_resets_both_ends() {
        let (proxy, mut near, mut far) = pair().await;
        proxy.set(Link::Cut);
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(far.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
