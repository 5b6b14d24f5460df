//! How name servers are reached: one UDP socket for each query, and TCP for answers that do not fit.

use std::future::Future;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, ProtocolConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::{
    DnsUdpSocket, RuntimeProvider, TokioHandle, TokioRuntimeProvider, TokioTime,
};
use hickory_resolver::net::tcp::TcpClientStream;
use hickory_resolver::net::udp::UdpClientStream;
use hickory_resolver::net::xfer::DnsExchange;
use hickory_resolver::{ConnectionProvider, PoolContext};
use tokio::io::ReadBuf;
use tokio::net::UdpSocket;

/// How long a name server may take to answer a query before the next one is asked, or the same one again.
pub(super) const SERVER_TIMEOUT: Duration = Duration::from_millis(1500);

/// tokio's sockets, of which those for UDP are connected.
#[derive(Clone, Default)]
pub(super) struct Sockets(Io);

impl ConnectionProvider for Sockets {
    type Conn = DnsExchange<Io>;
    type FutureConn = Pin<Box<dyn Future<Output = Result<Self::Conn, NetError>> + Send>>;
    type RuntimeProvider = Io;

    fn new_connection(
        &self,
        ip: IpAddr,
        config: &ConnectionConfig,
        context: &PoolContext,
    ) -> Result<Self::FutureConn, NetError> {
        let (server, io) = (SocketAddr::new(ip, config.port), self.0.clone());
        Ok(match config.protocol {
            ProtocolConfig::Udp => Box::pin(async move {
                // The caller asks again if it gets no answer. The library would do so beside the first query, with one more
                // socket each time; the descriptors of an attempt are counted with two.
                let stream = UdpClientStream::builder(server, io).with_max_retries(0);
                Ok(stream.with_timeout(Some(SERVER_TIMEOUT)).exchange())
            }),
            ProtocolConfig::Tcp => {
                let most = Some(context.options.max_active_requests);
                Box::pin(TcpClientStream::exchange(server, None, SERVER_TIMEOUT, most, io))
            }
        })
    }

    fn runtime_provider(&self) -> &Io {
        &self.0
    }
}

#[derive(Clone, Default)]
pub(super) struct Io(TokioRuntimeProvider);

impl RuntimeProvider for Io {
    type Handle = TokioHandle;
    type Timer = TokioTime;
    type Udp = Connected;
    type Tcp = <TokioRuntimeProvider as RuntimeProvider>::Tcp;

    fn create_handle(&self) -> TokioHandle {
        self.0.create_handle()
    }

    fn connect_tcp(
        &self,
        server: SocketAddr,
        local: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Pin<Box<dyn Future<Output = io::Result<Self::Tcp>> + Send>> {
        self.0.connect_tcp(server, local, timeout)
    }

    fn bind_udp(
        &self,
        local: SocketAddr,
        server: SocketAddr,
    ) -> Pin<Box<dyn Future<Output = io::Result<Connected>> + Send>> {
        Box::pin(async move {
            let socket = UdpSocket::bind(local).await?;
            socket.connect(server).await?;
            Ok(Connected { socket, server })
        })
    }
}

/// A socket that receives from one server only, and learns if nothing listens there.
pub(super) struct Connected {
    socket: UdpSocket,
    server: SocketAddr,
}

impl DnsUdpSocket for Connected {
    type Time = TokioTime;

    fn poll_recv_from(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<(usize, SocketAddr)>> {
        let mut buffer = ReadBuf::new(buffer);
        ready!(self.socket.poll_recv(context, &mut buffer))?;
        Poll::Ready(Ok((buffer.filled().len(), self.server)))
    }

    fn poll_send_to(
        &self,
        context: &mut Context<'_>,
        bytes: &[u8],
        _: SocketAddr,
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_send(context, bytes)
    }
}
