//! A TCP link between a program and PostgreSQL that can hang, be cut, or keep answers to itself.

use std::{
    future, io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
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

/// What a link does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Passes it on.
    Open,
    /// Keeps it until it is open again: a partition, as both ends see it.
    Hanging,
    /// Resets every connection, old and new.
    Cut,
    /// Passes it on, until a connection asks for a `COMMIT`. That gets through; nothing comes back any more on that
    /// connection, whatever the link does later, and nobody is told.
    Unheard,
}

/// A link, listening on a free port of 127.0.0.1.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// A link to `to` that is open.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let link = watch::Sender::new(Link::Open);
        let accepting = tokio::spawn(accept(listener, to, link.subscribe()));
        Self { address, link, accepting }
    }

    /// A link to the PostgreSQL at `url`, on this machine, and the URL that leads there through it.
    pub async fn before(url: &str) -> (Self, String) {
        let mut url: Url = url.parse().expect("a URL");
        let link = Self::start(SocketAddr::from((Ipv4Addr::LOCALHOST, url.port().unwrap_or(5432)))).await;
        url.set_host(Some("127.0.0.1")).expect("an address");
        url.set_port(Some(link.port())).expect("a port");
        (link, url.into())
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Does from now on as `link` says.
    pub fn set(&self, link: Link) {
        self.link.send_replace(link);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, to: SocketAddr, link: watch::Receiver<Link>) {
    // Dropped with this task.
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(pass(client, to, link.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn pass(mut client: TcpStream, to: SocketAddr, mut link: watch::Receiver<Link>) {
    if let Ok(mut server) = connect(to, &mut link).await {
        // PostgreSQL's own way; Nagle's algorithm would slow both ends.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let _ = (client.set_zero_linger(), server.set_zero_linger());
        // Borrowed halves: an owned one closes its direction in order when it is dropped, and what is
        // cut must be reset.
        let (from_client, to_client) = client.split();
        let (from_server, to_server) = server.split();
        let unheard = AtomicBool::new(false);
        let ended = tokio::select! {
            ended = pump(From::Program(&unheard), from_client, to_server, link.clone()) => ended,
            ended = pump(From::Database(&unheard), from_server, to_client, link.clone()) => ended,
            () = is_cut(&mut link) => Err(io::ErrorKind::ConnectionReset.into()),
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

/// Whose words these are, and whether the database's answers are kept from the program by now.
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
        // Neither bytes nor an end get through a link that hangs.
        opened(&mut link).await?;
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
        Ok(Link::Open | Link::Unheard) => Ok(()),
        Ok(_) | Err(_) => Err(io::ErrorKind::ConnectionReset.into()),
    }
}

async fn is_cut(link: &mut watch::Receiver<Link>) {
    // A proxy that is gone has cut its links.
    let _ = link.wait_for(|link| *link == Link::Cut).await;
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

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
    async fn a_hanging_link_keeps_what_comes_until_it_is_open() {
        let (proxy, mut near, mut far) = pair().await;
        proxy.set(Link::Hanging);
        near.write_all(b"b").await.unwrap();
        assert!(timeout(Duration::from_millis(100), far.read_u8()).await.is_err());
        proxy.set(Link::Open);
        assert_eq!(far.read_u8().await.unwrap(), b'b');
    }

    #[tokio::test]
    async fn what_comes_of_a_commit_is_not_heard_of() {
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
    async fn a_cut_link_resets_both_ends() {
        let (proxy, mut near, mut far) = pair().await;
        proxy.set(Link::Cut);
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(far.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
