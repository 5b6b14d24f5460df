//! A TCP link between a program and PostgreSQL that can hang or be cut.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
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

/// What a link does with what comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// Passes it on.
    Open,
    /// Keeps it until it is open again: a partition, as both ends see it.
    Hanging,
    /// Resets every connection, old and new.
    Cut,
}

/// A link, listening on a free port of 127.0.0.1.
#[derive(Debug)]
pub(crate) struct Proxy {
    address: SocketAddr,
    link: watch::Sender<Link>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    pub(crate) async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a free port");
        let address = listener.local_addr().expect("a bound address");
        let link = watch::Sender::new(Link::Open);
        let accepting = tokio::spawn(accept(listener, to, link.subscribe()));
        Self { address, link, accepting }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    pub(crate) fn set(&self, link: Link) {
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
        let ended = tokio::select! {
            ended = pump(from_client, to_server, link.clone()) => ended,
            ended = pump(from_server, to_client, link.clone()) => ended,
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

async fn pump(
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
    mut link: watch::Receiver<Link>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let length = from.read(&mut buffer).await;
        // Neither bytes nor an end get through a link that hangs.
        opened(&mut link).await?;
        match length? {
            0 => return Ok(()),
            length => to.write_all(&buffer[..length]).await?,
        }
    }
}

/// Waits while the link hangs.
async fn opened(link: &mut watch::Receiver<Link>) -> io::Result<()> {
    match link.wait_for(|link| *link != Link::Hanging).await.map(|link| *link) {
        Ok(Link::Open) => Ok(()),
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
    async fn a_cut_link_resets_both_ends() {
        let (proxy, mut near, mut far) = pair().await;
        proxy.set(Link::Cut);
        assert_eq!(near.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        assert_eq!(far.read_u8().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }
}
