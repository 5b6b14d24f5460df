//! A response in few bytes, as `deliveries.first_response` holds it. Its status is apart.
//!
//! | bytes | |
//! |---|---|
//! | 1 | the version of the format |
//! | 1 | whether the body was longer than what follows |
//! | number | how many headers follow |
//! | each header | its name: a number, odd for one of [`NAMES`], otherwise twice the length of the name that follows; then its value, after its length |
//! | the rest | the body |

use bytes::Bytes;

use crate::attempt::Response;
use crate::encoding::{read_bytes, read_number, write_bytes, write_number};

const FORMAT: u8 = 1;

/// Names that many receivers send. Their places are stored, so the list only grows; and as the release before must be able
/// to read what this one writes, a new name needs a new version of the format.
const NAMES: [&str; 24] = [
    "date",
    "content-type",
    "content-length",
    "server",
    "connection",
    "cache-control",
    "vary",
    "via",
    "etag",
    "set-cookie",
    "x-request-id",
    "transfer-encoding",
    "strict-transport-security",
    "x-content-type-options",
    "x-frame-options",
    "x-powered-by",
    "access-control-allow-origin",
    "alt-svc",
    "cf-ray",
    "cf-cache-status",
    "x-amzn-requestid",
    "x-amzn-trace-id",
    "x-xss-protection",
    "referrer-policy",
];

/// Packs a response.
pub(crate) fn pack(response: &Response) -> Vec<u8> {
    let mut bytes = vec![FORMAT, u8::from(response.truncated)];
    write_number(&mut bytes, response.headers.len() as u64);
    for (name, value) in &response.headers {
        if let Some(place) = NAMES.iter().position(|known| known == name) {
            write_number(&mut bytes, place as u64 * 2 + 1);
        } else {
            write_number(&mut bytes, name.len() as u64 * 2);
            bytes.extend_from_slice(name.as_bytes());
        }
        write_bytes(&mut bytes, value);
    }
    bytes.extend_from_slice(&response.body);
    bytes
}

/// Reads a packed response with this status. `None` if the bytes are not one, or in a format that a newer version wrote.
pub(crate) fn unpack(status: u16, bytes: &[u8]) -> Option<Response> {
    let (&[FORMAT, truncated], mut rest) = bytes.split_first_chunk()? else { return None };
    let mut headers = Vec::new();
    for _ in 0..read_number(&mut rest)? {
        let number = read_number(&mut rest)?;
        let half = usize::try_from(number / 2).ok()?;
        let name = if number % 2 == 1 {
            (*NAMES.get(half)?).to_owned()
        } else {
            let (name, after) = rest.split_at_checked(half)?;
            rest = after;
            std::str::from_utf8(name).ok()?.to_owned()
        };
        headers.push((name, Bytes::copy_from_slice(read_bytes(&mut rest)?)));
    }
    Some(Response { status, headers, body: Bytes::copy_from_slice(rest), truncated: truncated != 0 })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> impl Strategy<Value = (String, Bytes)> {
        let name = prop_oneof![prop::sample::select(&NAMES[..]).prop_map(str::to_owned), "[a-z0-9-]{1,30}"];
        (name, prop::collection::vec(any::<u8>(), 0..300).prop_map(Bytes::from))
    }

    proptest! {
        #[test]
        fn a_response_survives_packing(
            headers in prop::collection::vec(header(), 0..20),
            body: Vec<u8>,
            truncated: bool,
        ) {
            let packed = pack(&Response { status: 204, headers: headers.clone(), body: body.clone().into(), truncated });
            let read = unpack(204, &packed).unwrap();
            prop_assert_eq!((read.status, read.headers, read.truncated), (204, headers, truncated));
            prop_assert_eq!(read.body, body);
        }

        #[test]
        fn other_bytes_are_rejected_or_read(bytes: Vec<u8>) {
            unpack(200, &bytes);
            let beginning: Vec<u8> = [FORMAT, 0].into_iter().chain(bytes).collect();
            unpack(200, &beginning);
        }
    }

    #[test]
    fn known_names_take_a_byte_and_newer_formats_are_rejected() {
        let headers = vec![("date".into(), Bytes::from_static(b"x")), ("abc".into(), Bytes::new())];
        let mut packed = pack(&Response { status: 200, headers, body: "ok".into(), truncated: true });
        assert_eq!(packed, *b"\x01\x01\x02\x01\x01x\x06abc\x00ok");
        packed[0] = 2;
        assert!(unpack(200, &packed).is_none());
    }
}
