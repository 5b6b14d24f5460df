//! A client of SOCKS 5 (RFC 1928), with user names and passwords (RFC 1929).
//!
//! `hyper-util` has one, too, but its messages have room for 262 bytes in all, and a name may have 253, a user name and a
//! password 255 each.

use std::io;
use std::net::IpAddr;

use postrider_core::proxy_url::ProxyCredentials;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::origin::Target;

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const USER_AND_PASSWORD: u8 = 2;
const CONNECT: u8 = 1;
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Why a proxy made no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SocksError {
    #[error("the connection to the proxy failed")]
    Io(#[from] io::Error),
    #[error("the proxy does not speak SOCKS 5")]
    Protocol,
    #[error("the proxy asks for another kind of authentication (method {0})")]
    Method(u8),
    #[error("the proxy rejects the user name or password")]
    Rejected,
    #[error("the target cannot be named to the proxy")]
    Target,
    #[error("the proxy did not connect (reply {0})")]
    Refused(u8),
}

/// Asks the proxy at the other end of `stream` to connect to `target`. Afterwards the stream leads there.
pub(crate) async fn connect(
    mut stream: TcpStream,
    target: &Target,
    credentials: Option<&ProxyCredentials>,
) -> Result<TcpStream, SocksError> {
    let request = request(target)?;
    // A proxy that knows the caller by its address may want no password.
    let methods: &[u8] = match credentials {
        Some(_) => &[VERSION, 2, NO_AUTHENTICATION, USER_AND_PASSWORD],
        None => &[VERSION, 1, NO_AUTHENTICATION],
    };
    stream.write_all(methods).await?;
    match (read(&mut stream).await?, credentials) {
        ([VERSION, NO_AUTHENTICATION], _) => {}
        ([VERSION, USER_AND_PASSWORD], Some(credentials)) => authenticate(&mut stream, credentials).await?,
        ([VERSION, method], _) => return Err(SocksError::Method(method)),
        _ => return Err(SocksError::Protocol),
    }
    stream.write_all(&request).await?;
    let kind = match read(&mut stream).await? {
        [VERSION, 0, _, kind] => kind,
        [VERSION, reply, ..] => return Err(SocksError::Refused(reply)),
        _ => return Err(SocksError::Protocol),
    };
    // The address that the proxy connects from, which is of no use, has to be read.
    let length = match kind {
        IPV4 => 4,
        IPV6 => 16,
        NAME => stream.read_u8().await?.into(),
        _ => return Err(SocksError::Protocol),
    };
    stream.read_exact(&mut vec![0; length + 2]).await?;
    Ok(stream)
}

async fn authenticate(
    stream: &mut TcpStream,
    ProxyCredentials { user, password }: &ProxyCredentials,
) -> Result<(), SocksError> {
    let length = |text: &[u8]| u8::try_from(text.len()).map_err(|_| SocksError::Rejected);
    let message = [&[1, length(user)?], &user[..], &[length(password)?], &password[..]].concat();
    stream.write_all(&message).await?;
    match read(stream).await? {
        [1, 0] => Ok(()),
        [1, _] => Err(SocksError::Rejected),
        _ => Err(SocksError::Protocol),
    }
}

fn request(target: &Target) -> Result<Vec<u8>, SocksError> {
    let mut request = vec![VERSION, CONNECT, 0];
    let port = match target {
        Target::Address(address) => {
            match address.ip() {
                IpAddr::V4(ip) => request.extend([&[IPV4], &ip.octets()[..]].concat()),
                IpAddr::V6(ip) => request.extend([&[IPV6], &ip.octets()[..]].concat()),
            }
            address.port()
        }
        Target::Name(name, port) => {
            let length = u8::try_from(name.len()).map_err(|_| SocksError::Target)?;
            request.extend([&[NAME, length], name.as_bytes()].concat());
            *port
        }
    };
    request.extend(port.to_be_bytes());
    Ok(request)
}

async fn read<const BYTES: usize>(stream: &mut TcpStream) -> Result<[u8; BYTES], SocksError> {
    let mut bytes = [0; BYTES];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}
