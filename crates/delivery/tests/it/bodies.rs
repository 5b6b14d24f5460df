//! Response bodies: too long, endless, incomplete, malformed, compressed.

use std::time::Duration;

use postrider_core::ErrorKind;
use postrider_delivery::{BodyNote, Config};

use crate::receiver::Receiver;
use crate::setup::*;

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";

fn with_length(status: u16, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {status} X\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()
}

#[tokio::test]
async fn a_body_is_recorded_up_to_the_limit() {
    for (length, truncated) in
        [(0, false), (1, false), (4999, false), (5000, false), (5001, true), (100_000, true)]
    {
        let body = vec![b'z'; length];
        let receiver = Receiver::answering(with_length(200, &body)).await;
        let response = response(long_timeout(), &receiver.url("/")).await;
        assert_eq!(
            (response.body.len(), response.truncated, response.note),
            (length.min(5000), truncated, None),
            "{length}"
        );
        assert!(response.is_success());
    }
    let receiver = Receiver::answering(with_length(200, b"abc")).await;
    let response = response(Config { response_limit: 0, ..long_timeout() }, &receiver.url("/")).await;
    assert_eq!((response.body.len(), response.truncated), (0, true));
}

#[tokio::test]
async fn a_fast_endless_body_is_cut_at_the_limit() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(CHUNKED).await;
        let chunk = [b"4000\r\n", &[b'z'; 0x4000][..], b"\r\n"].concat();
        connection.repeat(&chunk, Duration::ZERO).await;
    })
    .await;
    let sent = send(long_timeout(), &receiver.url("/")).await;
    assert!(sent.duration < SLACK, "{:?}", sent.duration);
    let response = sent.result.unwrap();
    assert_eq!(
        (response.status, response.body.len(), response.truncated, response.note),
        (200, 5000, true, None)
    );
    receiver.all_ended().await;
    // The sockets' buffers take some bytes that the client never reads.
    assert!(receiver.sent() < 32 * 1024 * 1024, "{} bytes were accepted", receiver.sent());
}

#[tokio::test]
async fn a_trickling_endless_body_ends_at_the_deadline() {
    for (status, success) in [(200, true), (500, false)] {
        let receiver = Receiver::start(move |mut connection| async move {
            connection.request().await;
            let head = format!("HTTP/1.1 {status} X\r\nTransfer-Encoding: chunked\r\n\r\n");
            let _ = connection.write(head.as_bytes()).await;
            connection.repeat(b"1\r\nz\r\n", Duration::from_millis(10)).await;
        })
        .await;
        let sent = send(config(), &receiver.url("/")).await;
        assert_ended_at_the_deadline(&sent);
        assert_eq!(sent.is_success(), success);
        assert_eq!(sent.verdict().error_kind(), (!success).then_some(ErrorKind::Status));
        let response = sent.result.unwrap();
        assert_eq!((response.truncated, response.note), (false, Some(BodyNote::TimedOut)));
        assert!(!response.body.is_empty() && response.body.len() < 200, "{}", response.body.len());
        receiver.all_ended().await;
    }
}

#[tokio::test]
async fn a_body_that_ends_early_is_noted() {
    for (status, rest) in [
        (200, &b"Content-Length: 100\r\n\r\nabc"[..]),
        (200, b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"),
        (500, b"Content-Length: 100\r\n\r\nabc"),
    ] {
        let receiver = Receiver::start(move |mut connection| async move {
            connection.request().await;
            let _ = connection.write(format!("HTTP/1.1 {status} X\r\n").as_bytes()).await;
            let _ = connection.write(rest).await;
        })
        .await;
        let response = response(long_timeout(), &receiver.url("/")).await;
        assert_eq!(
            (response.status, &response.body[..], response.note),
            (status, &b"abc"[..], Some(BodyNote::Broken))
        );
        assert_eq!(response.is_success(), status == 200);
    }
}

#[tokio::test]
async fn a_malformed_body_is_noted() {
    for chunks in ["3\r\nabcdef\r\n", "zz\r\nabc\r\n", "fffffffffffffffff\r\nabc", "3;ext\r\nabc\r\n-1\r\n"] {
        let receiver = Receiver::answering([CHUNKED, chunks.as_bytes()].concat()).await;
        let response = response(long_timeout(), &receiver.url("/")).await;
        assert!(response.is_success(), "{chunks:?}");
        assert_eq!(response.note, Some(BodyNote::Broken), "{chunks:?}");
        receiver.all_ended().await;
    }
}

#[tokio::test]
async fn endless_trailers_and_chunk_extensions_end_the_body() {
    for (start, endless) in [("0\r\n", "X-Trailer: y\r\n"), ("1;", "extension=value;")] {
        let receiver = Receiver::start(move |mut connection| async move {
            connection.request().await;
            let _ = connection.write(CHUNKED).await;
            let _ = connection.write(start.as_bytes()).await;
            connection.repeat(endless.repeat(100).as_bytes(), Duration::ZERO).await;
        })
        .await;
        let sent = send(long_timeout(), &receiver.url("/")).await;
        assert!(sent.duration < SLACK);
        assert_eq!(sent.result.unwrap().note, Some(BodyNote::Broken));
        receiver.all_ended().await;
    }
}

#[tokio::test]
async fn a_body_without_a_length_ends_with_its_connection() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.0 200 OK\r\n\r\nall of it").await;
    })
    .await;
    let response = response(long_timeout(), &receiver.url("/")).await;
    assert_eq!((&response.body[..], response.note), (&b"all of it"[..], None));
}

#[tokio::test]
async fn a_body_is_neither_decoded_nor_decompressed() {
    let bomb = [&b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03"[..], &[0xff; 64]].concat();
    for body in [&b"a\0b\0"[..], b"\xff\xfe\x80", "snow\u{2603}".as_bytes(), &bomb] {
        let mut answer_bytes =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", body.len())
                .into_bytes();
        answer_bytes.extend_from_slice(body);
        let receiver = Receiver::answering(answer_bytes).await;
        let response = response(long_timeout(), &receiver.url("/")).await;
        assert_eq!(response.body, body);
    }
}

/// A MiB of zeros in the deflate format (RFC 1951). It can be repeated: it ends on a byte and refers to nothing before.
fn deflated_mib() -> Vec<u8> {
    let start = [0xec, 0xc1, 0x31, 0x01, 0, 0, 0, 0xc2, 0xa0, 0xf5, 0x4f, 0x6d, 0x08, 0x5f, 0xa0];
    [&start[..], &[0; 1016], &[0x3e, 0x03, 0, 0, 0xff, 0xff]].concat()
}

/// A GiB of zeros compressed to a MiB, and 4 MiB of zeros that fit into the limit compressed.
#[tokio::test]
async fn a_gzip_bomb_is_not_decompressed() {
    for (mib, truncated) in [(1024, true), (4, false)] {
        let header = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03";
        let bomb = [&header[..], &deflated_mib().repeat(mib)].concat();
        let head =
            format!("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n", bomb.len());
        let receiver = Receiver::answering([head.as_bytes(), &bomb].concat()).await;
        let client = client(long_timeout());
        let sent = client.send(post(&receiver.url("/"))).await;
        assert!(sent.duration < SLACK, "{:?}", sent.duration);
        let response = sent.result.unwrap();
        assert_eq!((response.status, response.truncated, response.note), (200, truncated, None), "{mib}");
        assert!(response.body == bomb[..bomb.len().min(5000)], "byte for byte");
        assert!(response.headers.iter().any(|(name, value)| name == "content-encoding" && value == "gzip"));
        let request = &receiver.requests()[0];
        assert_eq!(
            (request.header("accept-encoding"), request.header("te")),
            (None, None),
            "the request offers no compression"
        );
    }
}
