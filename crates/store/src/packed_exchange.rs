//! An exchange in few bytes, as `deliveries.first_exchange` and `attempts.exchange` hold it. Whether the request was sent
//! again is apart.
//!
//! | bytes | |
//! |---|---|
//! | 1 | the version of the format |
//! | 1 | which kind of address follows: 0 for none, 4 or 6 |
//! | 0, 6 or 18 | the address and the port |
//! | 5 numbers | for each phase, 0 if it was not entered, otherwise 1 more than its microseconds |
//! | text | the method, which is empty for POST |
//! | text | the URL |
//! | 32 | the SHA-256 of the body |
//! | number | how many headers follow |
//! | each header | its name: a number, odd for one of [`NAMES`], otherwise twice the length of the name that follows; then a number that says what its value is (`MASKED` and the others), and the value |
//! | text | the note, which is empty for none |
//! | 0 or 25 | a byte that says that more follows, the fingerprint of the secret, the version of the policy |
//! | 0 or 16 | the version of the transform |
//!
//! A text is its length and its bytes.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use postrider_core::{DeliveryId, ExpressionId, Timestamp};
use uuid::Uuid;

use crate::encoding::{read_bytes, read_number, write_bytes, write_number};
use crate::exchange::{Exchange, Phases, SentRequest, SentValue, Versions};

const FORMAT: u8 = 1;

/// Names that most requests have. Their places are stored, so the list only grows; and as the release before must be able
/// to read what this one writes, a new name needs a new version of the format.
const NAMES: [&str; 9] = [
    "content-type",
    "user-agent",
    "x-agent-signature",
    "x-agent-id",
    "x-event-type",
    "webhook-id",
    "webhook-timestamp",
    "webhook-signature",
    "traceparent",
];
/// Values that most requests have, as above.
const VALUES: [&str; 2] = ["application/json", "AI-Agent-Webhook/1.0"];

const POST: &str = "POST";

/// Precedes the versions of secret and policy.
const VERSIONS: u8 = 1;
/// How many bytes the version of a transform has.
const TRANSFORM: usize = 16;

/// The value is masked.
const MASKED: u64 = 0;
/// The value is the id of the delivery's event.
const EVENT_ID: u64 = 1;
/// The value is the second in which the attempt began.
const SECOND: u64 = 2;
/// The value is a `traceparent` (W3C Trace Context, §3.2), of which 26 bytes follow.
const TRACE: u64 = 3;
/// From here on, even numbers are the places of [`VALUES`], and odd ones the lengths of the values that follow.
const OTHERS: u64 = 4;

/// Packs the exchange of an attempt at `delivery` that began at `started_at`.
pub(crate) fn pack(exchange: &Exchange, delivery: DeliveryId, started_at: Timestamp) -> Vec<u8> {
    let Exchange { request, remote, phases, resent: _, note } = exchange;
    let mut bytes = Vec::with_capacity(192);
    bytes.push(FORMAT);
    match remote {
        None => bytes.push(0),
        Some(remote) => {
            match remote.ip() {
                IpAddr::V4(address) => {
                    bytes.push(4);
                    bytes.extend_from_slice(&address.octets());
                }
                IpAddr::V6(address) => {
                    bytes.push(6);
                    bytes.extend_from_slice(&address.octets());
                }
            }
            bytes.extend_from_slice(&remote.port().to_be_bytes());
        }
    }
    let Phases { resolve, connect, tls, first_byte, body } = phases;
    for phase in [resolve, connect, tls, first_byte, body] {
        let micros = phase.map_or(0, |phase| u64::try_from(phase.as_micros()).unwrap_or(u64::MAX - 1) + 1);
        write_number(&mut bytes, micros);
    }
    let method = if request.method == POST { "" } else { &request.method };
    write_bytes(&mut bytes, method.as_bytes());
    write_bytes(&mut bytes, request.url.as_bytes());
    bytes.extend_from_slice(&request.body_sha256);
    write_number(&mut bytes, request.headers.len() as u64);
    let derived = Derived::of(delivery, started_at);
    for (name, value) in &request.headers {
        if let Some(place) = NAMES.iter().position(|known| known == name) {
            write_number(&mut bytes, place as u64 * 2 + 1);
        } else {
            write_number(&mut bytes, name.len() as u64 * 2);
            bytes.extend_from_slice(name.as_bytes());
        }
        derived.write(&mut bytes, value);
    }
    write_bytes(&mut bytes, note.as_deref().unwrap_or_default().as_bytes());
    if let Some(Versions { secret, policy }) = request.versions {
        bytes.push(VERSIONS);
        bytes.extend_from_slice(&secret);
        bytes.extend_from_slice(policy.uuid().as_bytes());
    }
    if let Some(transform) = request.transform {
        bytes.extend_from_slice(transform.uuid().as_bytes());
    }
    bytes
}

/// Reads the packed exchange of an attempt at `delivery` that began at `started_at`. `None` if the bytes are not one, or in
/// a format that a newer version wrote.
pub(crate) fn unpack(
    mut bytes: &[u8],
    resent: bool,
    delivery: DeliveryId,
    started_at: Timestamp,
) -> Option<Exchange> {
    let rest = &mut bytes;
    let [FORMAT, address] = *read_array(rest)? else { return None };
    let ip: Option<IpAddr> = match address {
        0 => None,
        4 => Some(IpAddr::from(*read_array::<4>(rest)?)),
        6 => Some(IpAddr::from(*read_array::<16>(rest)?)),
        _ => return None,
    };
    let remote = match ip {
        None => None,
        Some(ip) => Some(SocketAddr::new(ip, u16::from_be_bytes(*read_array(rest)?))),
    };
    let mut phases = [None; 5];
    for phase in &mut phases {
        *phase = read_number(rest)?.checked_sub(1).map(Duration::from_micros);
    }
    let [resolve, connect, tls, first_byte, body] = phases;
    let method = read_text(rest)?;
    let url = read_text(rest)?;
    let body_sha256 = *read_array(rest)?;
    let derived = Derived::of(delivery, started_at);
    let mut headers = Vec::new();
    for _ in 0..read_number(rest)? {
        let number = read_number(rest)?;
        let half = usize::try_from(number / 2).ok()?;
        let name = if number % 2 == 1 {
            (*NAMES.get(half)?).to_owned()
        } else {
            let (name, after) = rest.split_at_checked(half)?;
            *rest = after;
            std::str::from_utf8(name).ok()?.to_owned()
        };
        headers.push((name, derived.read(rest)?));
    }
    let note = Some(read_text(rest)?).filter(|note| !note.is_empty());
    // A transform alone has no byte before it.
    let versions = if rest.is_empty() || rest.len() == TRANSFORM {
        None
    } else {
        let ([VERSIONS], secret) = (*read_array(rest)?, *read_array(rest)?) else { return None };
        let policy = ExpressionId::from_uuid(Uuid::from_bytes(*read_array(rest)?));
        Some(Versions { secret, policy })
    };
    let transform = if rest.is_empty() { None } else { Some(Uuid::from_bytes(*read_array(rest)?)) };
    let transform = transform.map(ExpressionId::from_uuid);
    let method = if method.is_empty() { POST.to_owned() } else { method };
    Some(Exchange {
        request: SentRequest { method, url, headers, body_sha256, transform, versions },
        remote,
        phases: Phases { resolve, connect, tls, first_byte, body },
        resent,
        note,
    })
}

/// Values that the rest of the row implies.
struct Derived {
    event_id: String,
    second: String,
}

impl Derived {
    fn of(delivery: DeliveryId, started_at: Timestamp) -> Self {
        Self { event_id: delivery.event().to_string(), second: started_at.seconds().to_string() }
    }

    fn write(&self, bytes: &mut Vec<u8>, value: &SentValue) {
        let SentValue::Shown(value) = value else { return write_number(bytes, MASKED) };
        if *value == self.event_id {
            write_number(bytes, EVENT_ID);
        } else if *value == self.second {
            write_number(bytes, SECOND);
        } else if let Some(trace) = packed_trace(value) {
            write_number(bytes, TRACE);
            bytes.extend_from_slice(&trace);
        } else if let Some(place) = VALUES.iter().position(|known| known == value) {
            write_number(bytes, OTHERS + place as u64 * 2);
        } else {
            write_number(bytes, OTHERS + 1 + value.len() as u64 * 2);
            bytes.extend_from_slice(value.as_bytes());
        }
    }

    fn read(&self, bytes: &mut &[u8]) -> Option<SentValue> {
        let shown = match read_number(bytes)? {
            MASKED => return Some(SentValue::Masked),
            EVENT_ID => self.event_id.clone(),
            SECOND => self.second.clone(),
            TRACE => unpacked_trace(read_array(bytes)?),
            other => {
                let half = usize::try_from((other - OTHERS) / 2).ok()?;
                if (other - OTHERS).is_multiple_of(2) {
                    (*VALUES.get(half)?).to_owned()
                } else {
                    let (value, after) = bytes.split_at_checked(half)?;
                    *bytes = after;
                    std::str::from_utf8(value).ok()?.to_owned()
                }
            }
        };
        Some(SentValue::Shown(shown))
    }
}

/// The bytes of `vv-tttttttttttttttttttttttttttttttt-ssssssssssssssss-ff`, if a text has that form.
fn packed_trace(text: &str) -> Option<[u8; 26]> {
    let mut packed = [0; 26];
    let digits = text.split('-').map(str::as_bytes).collect::<Vec<_>>();
    let [version, trace, span, flags] = digits[..] else { return None };
    if (version.len(), trace.len(), span.len(), flags.len()) != (2, 32, 16, 2) {
        return None;
    }
    let mut pairs = [version, trace, span, flags].into_iter().flat_map(|part| part.chunks_exact(2));
    for byte in &mut packed {
        let pair = pairs.next()?;
        // Upper case is not allowed, and would not be given back.
        let digit = |digit: u8| char::from(digit).to_digit(16).filter(|_| !digit.is_ascii_uppercase());
        let value = digit(pair[0])? * 16 + digit(pair[1])?;
        *byte = u8::try_from(value).ok()?;
    }
    Some(packed)
}

fn unpacked_trace(packed: &[u8; 26]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(55);
    for (at, byte) in packed.iter().enumerate() {
        if matches!(at, 1 | 17 | 25) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

fn read_array<'a, const N: usize>(bytes: &mut &'a [u8]) -> Option<&'a [u8; N]> {
    let (array, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(array)
}

fn read_text(bytes: &mut &[u8]) -> Option<String> {
    Some(std::str::from_utf8(read_bytes(bytes)?).ok()?.to_owned())
}

#[cfg(test)]
mod tests {
    use postrider_core::{IdGenerator, id};
    use proptest::prelude::*;

    use super::*;

    const TRACEPARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn delivery() -> DeliveryId {
        IdGenerator::system().next::<id::Event>().delivery(1).unwrap()
    }

    fn value() -> impl Strategy<Value = SentValue> {
        prop_oneof![
            Just(SentValue::Masked),
            prop::sample::select(vec![VALUES[0], VALUES[1], TRACEPARENT, "1764300000", "00-", "a-b-c-d"])
                .prop_map(|value| SentValue::Shown(value.to_owned())),
            ".{0,40}".prop_map(SentValue::Shown),
        ]
    }

    fn header() -> impl Strategy<Value = (String, SentValue)> {
        let name = prop_oneof![prop::sample::select(&NAMES[..]).prop_map(str::to_owned), "[a-z0-9-]{1,30}"];
        (name, value())
    }

    prop_compose! {
        fn exchange()(
            method in "POST|PUT|GET",
            url in "https://[a-z.]{1,20}/[a-z]{0,20}",
            headers in prop::collection::vec(header(), 0..12),
            body_sha256: [u8; 32],
            transform: Option<u128>,
            versions: Option<([u8; 8], u128)>,
            remote: Option<(IpAddr, u16)>,
            phases: [Option<u32>; 5],
            resent: bool,
            note in proptest::option::of(".{1,20}"),
        ) -> Exchange {
            let [resolve, connect, tls, first_byte, body] =
                phases.map(|phase| phase.map(|micros| Duration::from_micros(micros.into())));
            Exchange {
                request: SentRequest {
                    method,
                    url,
                    headers,
                    body_sha256,
                    transform: transform.map(|number| ExpressionId::from_uuid(Uuid::from_u128(number))),
                    versions: versions.map(|(secret, policy)| Versions {
                        secret,
                        policy: ExpressionId::from_uuid(Uuid::from_u128(policy)),
                    }),
                },
                remote: remote.map(SocketAddr::from),
                phases: Phases { resolve, connect, tls, first_byte, body },
                resent,
                note,
            }
        }
    }

    proptest! {
        #[test]
        fn an_exchange_survives_packing(exchange in exchange()) {
            let (delivery, started_at) = (delivery(), Timestamp::from_seconds(1_764_300_000));
            let packed = pack(&exchange, delivery, started_at);
            prop_assert_eq!(unpack(&packed, exchange.resent, delivery, started_at), Some(exchange));
        }

        #[test]
        fn other_bytes_are_rejected_or_read(bytes: Vec<u8>, address in prop::sample::select(vec![0, 4, 6])) {
            let (delivery, started_at) = (delivery(), Timestamp::from_seconds(1_764_300_000));
            unpack(&bytes, false, delivery, started_at);
            let beginning: Vec<u8> = [FORMAT, address].into_iter().chain(bytes).collect();
            unpack(&beginning, false, delivery, started_at);
        }
    }

    #[test]
    fn a_usual_exchange_takes_few_bytes() {
        let (delivery, started_at) = (delivery(), Timestamp::from_seconds(1_764_300_000));
        let shown = |value: &str| SentValue::Shown(value.to_owned());
        let values = [
            shown(VALUES[0]),
            shown(VALUES[1]),
            SentValue::Masked,
            shown("billing"),
            shown("order.created"),
            shown(&delivery.event().to_string()),
            shown("1764300000"),
            SentValue::Masked,
            shown(TRACEPARENT),
        ];
        let exchange = Exchange {
            request: SentRequest {
                method: POST.to_owned(),
                url: "https://example.com/hooks/orders".to_owned(),
                headers: NAMES.map(str::to_owned).into_iter().zip(values).collect(),
                body_sha256: [7; 32],
                transform: None,
                versions: Some(Versions { secret: [3; 8], policy: ExpressionId::of(b"{}") }),
            },
            remote: Some("93.184.215.14:443".parse().unwrap()),
            phases: Phases { first_byte: Some(Duration::from_micros(900)), ..Phases::default() },
            resent: false,
            note: None,
        };
        assert_eq!(pack(&exchange, delivery, started_at).len(), 171);
    }
}
