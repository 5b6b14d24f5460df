//! Status lines and headers, valid and invalid.

use std::time::Duration;

use postrider_core::{ErrorKind, Timestamp};

use crate::receiver::Receiver;
use crate::setup::*;

#[tokio::test]
async fn the_request_is_a_plain_post() {
    let receiver = Receiver::answering("HTTP/1.1 204 No Content\r\n\r\n").await;
    let response = response(long_timeout(), &receiver.url("/hook?q=1")).await;
    assert!(response.is_success());
    assert_eq!((response.status, response.body.len(), response.note), (204, 0, None));
    let requests = receiver.requests();
    assert_eq!(requests.len(), 1);
    assert!(requests[0].head.starts_with("POST /hook?q=1 HTTP/1.1\r\n"), "{}", requests[0].head);
    assert_eq!(requests[0].header("host"), Some(receiver.address.to_string().as_str()));
    assert_eq!(requests[0].header("accept-encoding"), None);
    assert_eq!(requests[0].body, b"{\"a\":1}");
}

#[tokio::test]
async fn only_2xx_is_a_success() {
    for (line, success) in [
        ("200 OK", true),
        ("202 Accepted", true),
        ("299 Unassigned", true),
        ("304 Not Modified", false),
        ("400 Bad Request", false),
        ("410 Gone", false),
        ("500 Internal Server Error", false),
        ("999 Lost", false),
    ] {
        let receiver = Receiver::answering(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n")).await;
        let sent = send(long_timeout(), &receiver.url("/")).await;
        assert_eq!(sent.is_success(), success, "{line}");
        assert_eq!(sent.verdict().error_kind(), (!success).then_some(ErrorKind::Status), "{line}");
        let response = sent.result.unwrap();
        assert_eq!(response.status.to_string(), line[..3]);
        assert_eq!(response.is_gone(), line.starts_with("410"));
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let elsewhere = Receiver::answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    for status in [301, 302, 303, 307, 308] {
        let location = elsewhere.url("/secret");
        let receiver = Receiver::answering(format!(
            "HTTP/1.1 {status} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        let sent = send(long_timeout(), &receiver.url("/")).await;
        assert_eq!(sent.verdict().error_kind(), Some(ErrorKind::Status));
        let response = sent.result.unwrap();
        assert_eq!(response.status, status);
        assert!(response.headers.iter().any(|(name, value)| name == "location" && *value == location));
    }
    assert_eq!(elsewhere.accepted(), 0);
}

#[tokio::test]
async fn retry_after_counts_on_429_and_503_only() {
    let now = Timestamp::from_seconds(784_111_777);
    for (status, value, delay) in [
        (429, "120", Some(120)),
        (503, "Sun, 06 Nov 1994 08:50:37 GMT", Some(60)),
        (503, "999999", Some(3600)),
        (429, "-5", None),
        (429, "1e400", None),
        (503, "soon", None),
        (500, "120", None),
        (200, "120", None),
    ] {
        let receiver = Receiver::answering(format!(
            "HTTP/1.1 {status} X\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
        ))
        .await;
        let response = response(long_timeout(), &receiver.url("/")).await;
        assert_eq!(response.retry_delay(now), delay.map(Duration::from_secs), "{status} {value}");
    }
}

#[tokio::test]
async fn informational_responses_are_skipped() {
    let receiver = Receiver::answering(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    )
    .await;
    let response = response(long_timeout(), &receiver.url("/")).await;
    assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]));
}

#[tokio::test]
async fn endless_informational_responses_end_at_the_deadline() {
    for pause in [Duration::ZERO, Duration::from_millis(20)] {
        let receiver = Receiver::start(move |mut connection| async move {
            connection.request().await;
            connection
                .repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n".repeat(20).as_bytes(), pause)
                .await;
        })
        .await;
        let sent = send(config(), &receiver.url("/")).await;
        assert_ended_at_the_deadline(&sent);
        assert_eq!(sent.verdict().error_kind(), Some(ErrorKind::TimeoutHeaders));
        receiver.all_ended().await;
    }
}

#[tokio::test]
async fn switching_protocols_is_a_failure() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection
            .write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: ws\r\nConnection: upgrade\r\n\r\n")
            .await;
        connection.hang().await;
    })
    .await;
    assert_eq!(failure(long_timeout(), &receiver.url("/")).await.kind, ErrorKind::Protocol);
    receiver.all_ended().await;
}

#[tokio::test]
async fn a_response_that_is_not_http_is_a_failure() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.9\r\n",
        "<html>hello</html>\r\n\r\n",
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 2000 OK\r\n\r\n",
        "HTTP/3.7 200 OK\r\n\r\n",
        "HTTP/1.1 OK\r\n\r\n",
        "\0\0\0\0\0\0\0\0\r\n\r\n",
    ] {
        let receiver = Receiver::answering(garbage).await;
        assert_eq!(
            failure(long_timeout(), &receiver.url("/")).await.kind,
            ErrorKind::Protocol,
            "{garbage:?}"
        );
        receiver.all_ended().await;
    }
}

#[tokio::test]
async fn headers_over_a_limit_are_a_failure() {
    let long = format!("HTTP/1.1 200 OK\r\nX-Long: {}\r\nContent-Length: 0\r\n\r\n", "y".repeat(65 * 1024));
    let many = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(1000));
    let long_line = format!("HTTP/1.1 200 {}\r\n\r\n", "O".repeat(65 * 1024));
    for (what, answer) in [("long", long), ("many", many), ("line", long_line)] {
        let receiver = Receiver::answering(answer).await;
        let failure = failure(long_timeout(), &receiver.url("/")).await;
        assert_eq!(failure.kind, ErrorKind::Protocol, "{what}");
        receiver.all_ended().await;
    }
    let fits = format!("HTTP/1.1 200 OK\r\n{}Content-Length: 0\r\n\r\n", "X: y\r\n".repeat(999));
    let receiver = Receiver::answering(fits).await;
    assert_eq!(response(long_timeout(), &receiver.url("/")).await.headers.len(), 100);
}

#[tokio::test]
async fn endless_headers_end_at_their_limit() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nX-Endless: ").await;
        connection.repeat(&[b'y'; 1024], Duration::ZERO).await;
    })
    .await;
    assert_eq!(failure(long_timeout(), &receiver.url("/")).await.kind, ErrorKind::Protocol);
    receiver.all_ended().await;
}

#[tokio::test]
async fn header_values_may_contain_bytes_above_ascii() {
    let receiver =
        Receiver::answering(&b"HTTP/1.1 200 OK\r\nX-Odd: caf\xe9\r\nContent-Length: 0\r\n\r\n"[..]).await;
    let response = response(long_timeout(), &receiver.url("/")).await;
    assert!(
        response.headers.contains(&("x-odd".to_owned(), bytes::Bytes::from_static(b"caf\xe9"))),
        "{response:?}"
    );
}

#[tokio::test]
async fn closing_before_a_response_is_a_reset() {
    let silent = Receiver::start(|mut connection| async move {
        connection.request().await;
    })
    .await;
    assert_eq!(failure(long_timeout(), &silent.url("/")).await.kind, ErrorKind::Reset);
    assert_eq!(silent.requests().len(), 1, "a request that may have been read is not repeated");

    let rude = Receiver::start(|connection| async move { drop(connection) }).await;
    assert_eq!(failure(long_timeout(), &rude.url("/")).await.kind, ErrorKind::Reset);

    let halfway = Receiver::start(|mut connection| async move {
        connection.request().await;
        let _ = connection.write(b"HTTP/1.1 200 OK\r\nContent-Le").await;
    })
    .await;
    assert_eq!(failure(long_timeout(), &halfway.url("/")).await.kind, ErrorKind::Reset);
}

#[tokio::test]
async fn a_response_before_the_request_was_read_counts() {
    let receiver = Receiver::start(|mut connection| async move {
        connection.head().await;
        let _ = connection.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno").await;
        connection.hang().await;
    })
    .await;
    let mut request = post(&receiver.url("/"));
    request.body = vec![b'x'; 1024 * 1024].into();
    let response = client(long_timeout()).send(request).await.result.unwrap();
    assert_eq!((response.status, &response.body[..]), (413, &b"no"[..]));
}
