//! Answers as receivers really send them: the status line counts, and what cannot be read of the rest is left out.

use bytes::Bytes;
use postrider_core::ErrorKind;

use crate::receiver::Receiver;
use crate::setup::*;

const GOOD: &str = "X-Good: yes\r\nContent-Length: 2\r\n\r\nok";

/// Every answer is sent in one piece and byte by byte, and twice on one connection.
#[tokio::test]
async fn what_cannot_be_read_is_left_out_and_noted() {
    for (head, left_out) in [
        ("HTTP/1.1 200 OK\r\nX-A : 1\r\n", 0),
        ("HTTP/1.1 200 OK\r\nX-A: 1\r\n two\r\n\tthree\r\n", 0),
        ("HTTP/1.1 200 OK\r\n X-A: 1\r\n", 1),
        ("HTTP/1.1 200 OK\r\nX A: 1\r\n", 1),
        ("HTTP/1.1 200 OK\r\nno colon\r\n", 1),
        ("HTTP/1.1 200 OK\r\n: no name\r\n", 1),
        ("HTTP/1.1 200 OK\r\nX-É: 1\r\n", 1),
        ("HTTP/1.1 200 OK\r\nX-A: a\x01b\r\nX-B: a\0b\r\nX-C: a\rb\r\nX-D: a\x7fb\r\n", 4),
        ("HTTP/1.1 200 OK\r\n<br />\n<b>Warning</b>:  $x in <b>x.php</b> on line <b>3</b><br />\n", 2),
        ("HTTP/1.1 200 OK\r\nPHP Warning:  Undefined variable $x in /x.php on line 3\r\n", 1),
        ("PHP Warning:  Undefined variable $x in /x.php on line 3\nHTTP/1.1 200 OK\r\n", 1),
        ("HTTP/1.1  200\r\n", 0),
        ("HTTP/1.1 200 O\x01K\n", 0),
        ("\r\nHTTP/1.1 100 Continue\r\nodd\r\n\r\nHTTP/1.2 200 OK\r\n", 1),
    ] {
        for in_pieces in [false, true] {
            let answer = format!("{head}{GOOD}").into_bytes();
            let receiver = Receiver::start(move |mut connection| {
                let answer = answer.clone();
                async move {
                    while connection.request().await.is_some() {
                        for piece in answer.chunks(if in_pieces { 1 } else { answer.len() }) {
                            let _ = connection.write(piece).await;
                        }
                    }
                }
            })
            .await;
            let client = client(long_timeout());
            for _ in 0..2 {
                let sent = client.send(post(&receiver.url("/"))).await;
                let response = sent.result.unwrap_or_else(|failure| panic!("{head:?}: {failure}"));
                assert_eq!((response.status, &response.body[..]), (200, &b"ok"[..]), "{head:?}");
                assert!(response.headers.contains(&("x-good".to_owned(), Bytes::from("yes"))), "{head:?}");
                let note = match left_out {
                    0 => None,
                    1 => Some("a line of the response's head could not be read and was left out".to_owned()),
                    many => Some(format!(
                        "{many} lines of the response's head could not be read and were left out"
                    )),
                };
                assert_eq!(sent.trail.note, note, "{head:?}");
            }
            assert_eq!(receiver.accepted(), 1, "{head:?}");
        }
    }
}

#[tokio::test]
async fn folded_and_spaced_headers_are_recorded() {
    let receiver = Receiver::answering(format!("HTTP/1.1 200 OK\r\nX-A : 1\r\n two\r\n{GOOD}")).await;
    let headers = response(long_timeout(), &receiver.url("/")).await.headers;
    assert!(headers.contains(&("x-a".to_owned(), Bytes::from("1 two"))), "{headers:?}");
}

#[tokio::test]
async fn a_body_of_unreadable_length_is_left_out() {
    for length in ["ten", "-2", "99999999999999999999999", "2\r\nContent-Length: 3"] {
        let receiver =
            Receiver::answering(format!("HTTP/1.1 201 Created\r\nContent-Length: {length}\r\n\r\nok")).await;
        let sent = send(long_timeout(), &receiver.url("/")).await;
        assert!(sent.duration < SLACK);
        let note = "the response's Content-Length could not be read, so its body was left out";
        assert_eq!(sent.trail.note.as_deref(), Some(note));
        let response = sent.result.unwrap();
        assert_eq!((response.status, response.body.len()), (201, 0), "{length}");
        receiver.all_ended().await;
    }
}

#[tokio::test]
async fn a_thousand_lines_and_64_kib_are_read() {
    let many = "X: y\r\n".repeat(998);
    let long = format!("X-Long: {}\r\n", "y".repeat(64 * 1024 - 100));
    for head in [many, long] {
        let receiver = Receiver::answering(format!("HTTP/1.1 200 OK\r\n{head}{GOOD}")).await;
        let client = client(long_timeout());
        for _ in 0..2 {
            let sent = client.send(post(&receiver.url("/"))).await;
            assert_eq!(sent.trail.note.as_deref(), Some("the response has more headers than are kept"));
            let response = sent.result.unwrap();
            assert_eq!(response.body, "ok");
            assert!(response.headers.len() <= 100);
        }
        assert_eq!(receiver.accepted(), 1);
    }
}

#[tokio::test]
async fn a_failure_status_with_an_odd_head_stays_a_failure() {
    let receiver = Receiver::answering(format!("HTTP/1.1 500 Oops\r\nodd\r\n{GOOD}")).await;
    let sent = send(long_timeout(), &receiver.url("/")).await;
    assert_eq!(sent.verdict().error_kind(), Some(ErrorKind::Status));
    assert!(sent.trail.note.is_some());
}
