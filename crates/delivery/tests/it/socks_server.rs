//! A SOCKS 5 proxy for the tests.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

pub(crate) struct SocksServer {
    pub(crate) address: SocketAddr,
    targets: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

type Credentials = Option<(&'static str, &'static str)>;

impl SocksServer {
    /// Starts a proxy that requires these credentials, or takes any. All names are 127.0.0.1 to it.
    pub(crate) async fn start(credentials: Credentials) -> Self {
        Self::at((Ipv4Addr::LOCALHOST, 0).into(), credentials).await
    }

    pub(crate) async fn at(address: SocketAddr, credentials: Credentials) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let targets = Arc::<Mutex<Vec<String>>>::default();
        let asked = targets.clone();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let asked = asked.clone();
                connections.spawn(async move { drop(serve(stream, credentials, &asked).await) });
            }
        });
        Self { address, targets, _task: task }
    }

    /// Returns what it was asked to connect to.
    pub(crate) fn targets(&self) -> Vec<String> {
        self.targets.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: TcpStream,
    credentials: Credentials,
    targets: &Mutex<Vec<String>>,
) -> io::Result<()> {
    assert_eq!(stream.read_u8().await?, 5);
    let mut methods = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut methods).await?;
    if let Some((user, password)) = credentials {
        assert!(methods.contains(&2));
        stream.write_all(&[5, 2]).await?;
        assert_eq!(stream.read_u8().await?, 1);
        let given = (text(&mut stream).await?, text(&mut stream).await?);
        let right = given == (user.to_owned(), password.to_owned());
        stream.write_all(&[1, u8::from(!right)]).await?;
        if !right {
            return Ok(());
        }
    } else {
        stream.write_all(&[5, 0]).await?;
    }
    let mut head = [0; 4];
    stream.read_exact(&mut head).await?;
    let (host, ip): (String, IpAddr) = match head {
        [5, 1, 0, 1] => {
            let ip = Ipv4Addr::from(stream.read_u32().await?);
            (ip.to_string(), ip.into())
        }
        [5, 1, 0, 4] => {
            let ip = Ipv6Addr::from(stream.read_u128().await?);
            (format!("[{ip}]"), ip.into())
        }
        [5, 1, 0, 3] => (text(&mut stream).await?, Ipv4Addr::LOCALHOST.into()),
        other => panic!("{other:?}"),
    };
    let port = stream.read_u16().await?;
    targets.lock().unwrap().push(format!("{host}:{port}"));
    match TcpStream::connect((ip, port)).await {
        Ok(mut onward) => {
            // The address that it connects from may be a name.
            stream.write_all(b"\x05\x00\x00\x03\x05proxy\x00\x01").await?;
            copy_bidirectional(&mut stream, &mut onward).await?;
        }
        Err(_) => stream.write_all(&[5, 5, 0, 1, 0, 0, 0, 0, 0, 0]).await?,
    }
    Ok(())
}

async fn text(stream: &mut TcpStream) -> io::Result<String> {
    let mut bytes = vec![0; stream.read_u8().await?.into()];
    stream.read_exact(&mut bytes).await?;
    Ok(String::from_utf8(bytes).unwrap())
}
