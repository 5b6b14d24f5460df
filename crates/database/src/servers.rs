//! The PostgreSQL servers that a URL names.

use std::borrow::Cow;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use percent_encoding::percent_decode_str;
use sea_orm::SqlxError;
use sea_orm::sqlx::ConnectOptions as _;
use sea_orm::sqlx::postgres::{PgConnectOptions, PgSslMode};
use url::Url;

/// The parameter that selects a server among several.
const TARGET: &str = "target_session_attrs";

/// Trusts the certificate authorities of the operating system, and checks the server's name.
const SYSTEM_ROOTS: (&str, &str) = ("sslrootcert", "system");

/// The parameters that sqlx understands. It would log the values of others, which may be secrets.
const UNDERSTOOD: &[&str] = &[
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "dbname",
    "user",
    "password",
    "application_name",
    "options",
];

/// Why a text is not the URL of a PostgreSQL or SQLite database. Shows nothing of the text, which may have a password
/// anywhere if it is misspelt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatabaseUrlError {
    /// It does not start with the name of a database.
    #[error("a database URL starts with postgres://, postgresql:// or sqlite://")]
    Scheme,
    /// A host or port is invalid, or a character would have to be encoded.
    #[error(
        "the host or port is invalid: expected host:port, or [address]:port for IPv6; in the user and password write % / ? @ : as %25 %2F %3F %40 %3A"
    )]
    Authority,
    /// The bytes that are encoded with percent signs are not UTF-8.
    #[error(
        "the bytes that are encoded with percent signs must be UTF-8; a percent sign itself is written %25"
    )]
    Encoding,
    /// The numbers of hosts and ports differ.
    #[error("the parameter port needs one port, or as many as there are hosts")]
    Ports,
    /// A parameter has no name or no value.
    #[error("expected parameters as name=value, separated by &, after the name of the database")]
    Parameters,
    /// The value of a parameter is invalid.
    #[error("the parameter {name} is invalid: expected {expected}")]
    Parameter {
        /// The parameter.
        name: &'static str,
        /// The valid values.
        expected: &'static str,
    },
}

/// The servers that a URL names, in order, and how to log in to each.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Servers {
    hosts: Vec<Host>,
    /// Parameters for sqlx, which are the same for all hosts.
    parameters: Vec<(String, String)>,
    database: Option<String>,
    system_roots: bool,
    /// How many parameters are not understood.
    ignored: usize,
    /// The server that is wanted.
    pub(crate) wanted: Wanted,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Host {
    /// A name, an address without brackets, or the folder of a socket. `None`: sqlx's default.
    name: Option<String>,
    port: Option<u16>,
}

/// Which server to use (PostgreSQL's manual, §34.1.2, `target_session_attrs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The first one that can be reached.
    Any,
    /// The first one that accepts writes.
    Writable,
    /// The first one that is not a standby.
    Primary,
}

impl Servers {
    /// How to connect to each server, in order.
    pub(crate) fn options(&self) -> Result<Vec<PgConnectOptions>, SqlxError> {
        if self.ignored > 0 {
            tracing::warn!(count = self.ignored, "parameters of the database URL are unknown and ignored");
        }
        let roots = self.system_roots.then(system_roots).transpose()?;
        self.hosts.iter().map(|host| self.options_of(host, roots.as_deref())).collect()
    }

    fn options_of(&self, host: &Host, roots: Option<&str>) -> Result<PgConnectOptions, SqlxError> {
        let port = host.port.map(|port| port.to_string());
        let name = host.name.as_ref().map(|name| ("host", name));
        let own = name.into_iter().chain(port.as_ref().map(|port| ("port", port)));
        let shared = self.parameters.iter().map(|(name, value)| (name.as_str(), value));
        // Its text is in no error: `Servers` has validated it.
        let url = Url::parse_with_params("postgres:/", own.chain(shared)).map_err(configuration)?;
        // PgBouncer refuses `extra_float_digits`, and values are sent as bytes.
        let options = PgConnectOptions::from_url(&url)?.extra_float_digits(None).disable_statement_logging();
        Ok(match roots {
            Some(roots) => {
                options.ssl_mode(PgSslMode::VerifyFull).ssl_root_cert_from_pem(roots.as_bytes().to_vec())
            }
            None => options,
        })
    }
}

fn configuration(error: impl std::error::Error + Send + Sync + 'static) -> SqlxError {
    SqlxError::Configuration(error.into())
}

/// The certificate authorities of the operating system as PEM.
fn system_roots() -> Result<String, SqlxError> {
    let found = rustls_native_certs::load_native_certs();
    if found.certs.is_empty() {
        return Err(SqlxError::Configuration(
            "sslrootcert=system: the operating system has no certificate authorities".into(),
        ));
    }
    Ok(found.certs.iter().map(|certificate| pem("CERTIFICATE", certificate)).collect())
}

/// RFC 7468, §2.
fn pem(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    format!("-----BEGIN {label}-----\n{text}\n-----END {label}-----\n")
}

impl FromStr for Servers {
    type Err = DatabaseUrlError;

    /// Parses what follows `postgres://`.
    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let end = text.find(['/', '?']).unwrap_or(text.len());
        let (authority, rest) = text.split_at(end);
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        // What looks like a path is the rest of a password with a slash in it.
        if path.contains('@') {
            return Err(DatabaseUrlError::Authority);
        }
        let (login, hosts) =
            authority.rsplit_once('@').map_or((None, authority), |(login, hosts)| (Some(login), hosts));
        let mut servers = Self {
            hosts: hosts.split(',').map(Host::from_str).collect::<Result<_, _>>()?,
            parameters: Vec::new(),
            database: None,
            system_roots: false,
            ignored: 0,
            wanted: Wanted::Any,
        };
        if servers.hosts.len() > 1 {
            // All statements write sooner or later, so a standby is of no use.
            servers.wanted = Wanted::Writable;
        }
        if let Some(login) = login {
            let (user, password) =
                login.split_once(':').map_or((login, None), |(user, password)| (user, Some(password)));
            if !user.is_empty() {
                servers.parameters.push(("user".to_owned(), decoded(user)?));
            }
            if let Some(password) = password {
                servers.parameters.push(("password".to_owned(), decoded(password)?));
            }
        }
        let database = path.trim_start_matches('/');
        if !database.is_empty() {
            servers.set("dbname", &decoded(database)?)?;
        }
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').ok_or(DatabaseUrlError::Parameters)?;
            let ignored = servers.ignored;
            servers.set(&form_decoded(name)?, &form_decoded(value)?)?;
            // What looks like an unknown parameter is the rest of a password with a question mark in it.
            if login.is_none() && servers.ignored > ignored && pair.contains('@') {
                return Err(DatabaseUrlError::Authority);
            }
        }
        Ok(servers)
    }
}

impl Servers {
    fn set(&mut self, name: &str, value: &str) -> Result<(), DatabaseUrlError> {
        let refused = |name, expected| Err(DatabaseUrlError::Parameter { name, expected });
        match name {
            "host" | "hostaddr" => {
                let hosts: Vec<_> = value.split(',').map(bare).collect();
                if name == "hostaddr" && hosts.iter().any(|host| host.parse::<IpAddr>().is_err()) {
                    return refused("hostaddr", "an IP address");
                }
                let ports: Vec<_> = self.hosts.iter().map(|host| host.port).collect();
                let port = |place: usize| ports.get(place).or(ports.first()).copied().flatten();
                let hosts = hosts.into_iter().enumerate();
                self.hosts = hosts
                    .map(|(place, name)| Host { name: Some(name.to_owned()), port: port(place) })
                    .collect();
                if self.hosts.len() > 1 && self.wanted == Wanted::Any {
                    self.wanted = Wanted::Writable;
                }
            }
            "port" => {
                let ports = value.split(',').map(str::parse).collect::<Result<Vec<u16>, _>>();
                let Ok(ports) = ports else { return refused("port", "a number up to 65535") };
                if ports.len() != 1 && ports.len() != self.hosts.len() {
                    return Err(DatabaseUrlError::Ports);
                }
                for (host, port) in self.hosts.iter_mut().zip(ports.iter().cycle()) {
                    host.port = Some(*port);
                }
            }
            TARGET => {
                self.wanted = match value {
                    "any" => Wanted::Any,
                    "read-write" => Wanted::Writable,
                    "primary" => Wanted::Primary,
                    _ => return refused(TARGET, "read-write, primary or any, as Postrider writes"),
                }
            }
            "sslmode" | "ssl-mode"
                if !["disable", "allow", "prefer", "require", "verify-ca", "verify-full"]
                    .contains(&value.to_ascii_lowercase().as_str()) =>
            {
                return refused("sslmode", "disable, allow, prefer, require, verify-ca or verify-full");
            }
            "statement-cache-capacity" if value.parse::<usize>().is_err() => {
                return refused("statement-cache-capacity", "a whole number");
            }
            _ if (name, value) == SYSTEM_ROOTS => self.system_roots = true,
            _ if UNDERSTOOD.contains(&name) || name.starts_with("options[") && name.ends_with(']') => {
                if name == "dbname" {
                    self.database = Some(value.to_owned());
                }
                self.parameters.push((name.to_owned(), value.to_owned()));
            }
            _ => self.ignored += 1,
        }
        Ok(())
    }
}

impl FromStr for Host {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (address, port) = rest.split_once(']').ok_or(DatabaseUrlError::Authority)?;
                // Without the zone of a link-local address, such as `%eth0`.
                let plain = address.split('%').next().unwrap_or(address);
                plain.parse::<std::net::Ipv6Addr>().map_err(|_| DatabaseUrlError::Authority)?;
                let port = if port.is_empty() {
                    None
                } else {
                    Some(port.strip_prefix(':').ok_or(DatabaseUrlError::Authority)?)
                };
                (decoded(address)?, port)
            }
            None => match text.split_once(':') {
                Some((name, port)) => (decoded(name)?, Some(port)),
                None => (decoded(text)?, None),
            },
        };
        let port = match port {
            None | Some("") => None,
            Some(port) => Some(port.parse().map_err(|_| DatabaseUrlError::Authority)?),
        };
        Ok(Self { name: Some(name).filter(|name| !name.is_empty()), port })
    }
}

/// An IPv6 address without its brackets.
fn bare(name: &str) -> &str {
    name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name)
}

/// Decodes percent signs. One that is not followed by two hexadecimal digits stands for itself.
fn decoded(text: &str) -> Result<String, DatabaseUrlError> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| DatabaseUrlError::Encoding)?;
    Ok(decoded.into_owned())
}

/// Decodes the name or value of a parameter, where a plus sign stands for a space.
fn form_decoded(text: &str) -> Result<String, DatabaseUrlError> {
    let spaced = if text.contains('+') { Cow::from(text.replace('+', " ")) } else { text.into() };
    decoded(&spaced)
}

/// Hosts and database, without user, password and parameters.
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, host) in self.hosts.iter().enumerate() {
            f.write_str(if place == 0 { "" } else { "," })?;
            match host.name.as_deref() {
                Some(name) if name.contains(':') => write!(f, "[{name}]")?,
                name => f.write_str(&name.unwrap_or("localhost").replace('/', "%2F"))?,
            }
            if let Some(port) = host.port {
                write!(f, ":{port}")?;
            }
        }
        if let Some(database) = &self.database {
            write!(f, "/{database}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
