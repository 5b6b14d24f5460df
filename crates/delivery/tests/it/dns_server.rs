//! A name server for the tests, over UDP and TCP on 127.0.0.1.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::JoinSet;

/// How the server answers questions about a name.
#[derive(Clone, Debug)]
pub(crate) enum Says {
    /// These addresses, with this TTL in seconds.
    Addresses(Vec<IpAddr>, u32),
    /// The same, but over UDP only that the answer does not fit.
    OverTcp(Vec<IpAddr>),
    /// The same, but nothing at all to questions for IPv6 addresses.
    OnlyV4(Vec<IpAddr>),
    /// An error code (RFC 1035, §4.1.1).
    Error(u8),
    Nothing,
}

pub(crate) const SERVER_FAILURE: u8 = 2;
pub(crate) const NO_SUCH_NAME: u8 = 3;
pub(crate) const REFUSED: u8 = 5;

pub(crate) struct DnsServer {
    pub(crate) address: SocketAddr,
    says: Arc<Mutex<State>>,
    _tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    by_name: HashMap<String, Says>,
    otherwise: Option<Says>,
    asked: HashMap<String, usize>,
}

impl DnsServer {
    /// Starts a server that knows no name.
    pub(crate) async fn start() -> Self {
        // A port that is free for both.
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (udp, tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let says = Arc::<Mutex<State>>::default();
        let mut tasks = JoinSet::new();
        let known = says.clone();
        tasks.spawn(async move {
            let mut buffer = [0; 1500];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                if let Some(answer) = answer(&known, &buffer[..length], false) {
                    let _ = udp.send_to(&answer, from).await;
                }
            }
        });
        let known = says.clone();
        tasks.spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                let known = known.clone();
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut query = vec![0; length.into()];
                        stream.read_exact(&mut query).await.unwrap();
                        if let Some(answer) = answer(&known, &query, true) {
                            let length = u16::try_from(answer.len()).unwrap().to_be_bytes();
                            stream.write_all(&[&length[..], &answer].concat()).await.unwrap();
                        }
                    }
                });
            }
        });
        Self { address, says, _tasks: tasks }
    }

    /// Sets what it says about a name, with the final dot left out.
    pub(crate) fn set(&self, name: &str, says: Says) {
        self.says.lock().unwrap().by_name.insert(name.to_owned(), says);
    }

    pub(crate) fn addresses(&self, name: &str, addresses: &[&str], ttl: u32) {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        self.set(name, Says::Addresses(addresses, ttl));
    }

    /// Sets what it says about everything, whatever was set before; `None` undoes that.
    pub(crate) fn set_all(&self, says: Option<Says>) {
        self.says.lock().unwrap().otherwise = says;
    }

    /// Returns how often it was asked for the IPv4 addresses of a name.
    pub(crate) fn asked(&self, name: &str) -> usize {
        self.says.lock().unwrap().asked.get(name).copied().unwrap_or(0)
    }
}

fn answer(known: &Mutex<State>, query: &[u8], tcp: bool) -> Option<Vec<u8>> {
    let (mut name, mut at) = (String::new(), 12);
    while let length @ 1.. = usize::from(*query.get(at)?) {
        if !name.is_empty() {
            name.push('.');
        }
        name.push_str(&String::from_utf8_lossy(query.get(at + 1..at + 1 + length)?));
        at += 1 + length;
    }
    let question = query.get(12..at + 5)?;
    let kind = *query.get(at + 2)?;
    let says = {
        let mut known = known.lock().unwrap();
        if kind == 1 {
            *known.asked.entry(name.clone()).or_default() += 1;
        }
        let said = known.by_name.get(&name).cloned().unwrap_or(Says::Error(NO_SUCH_NAME));
        known.otherwise.clone().unwrap_or(said)
    };
    let (code, addresses, ttl) = match says {
        Says::Nothing => return None,
        Says::OnlyV4(_) if kind == 28 => return None,
        Says::Error(code) => (code, Vec::new(), 0),
        Says::Addresses(addresses, ttl) => (0, addresses, ttl),
        Says::OnlyV4(addresses) | Says::OverTcp(addresses) if tcp || kind != 28 => (0, addresses, 60),
        Says::OverTcp(_) | Says::OnlyV4(_) => (0, Vec::new(), 0),
    };
    let truncated = !tcp && matches!(known.lock().unwrap().by_name.get(&name), Some(Says::OverTcp(_)));
    let mut records = Vec::new();
    let mut count = 0_u8;
    for address in addresses.iter().filter(|_| !truncated) {
        let bytes = match (address, kind) {
            (IpAddr::V4(address), 1) => address.octets().to_vec(),
            (IpAddr::V6(address), 28) => address.octets().to_vec(),
            _ => continue,
        };
        records.extend([0xc0, 12, 0, kind, 0, 1]);
        records.extend(ttl.to_be_bytes());
        records.extend([0, u8::try_from(bytes.len()).unwrap()]);
        records.extend(bytes);
        count += 1;
    }
    let mut answer = query[..2].to_vec();
    answer.extend([if truncated { 0x83 } else { 0x81 }, 0x80 | code, 0, 1, 0, count, 0, 0, 0, 0]);
    answer.extend(question);
    answer.extend(records);
    Some(answer)
}
