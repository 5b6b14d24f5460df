use super::*;
use proptest::prelude::*;

fn rewritten(head: &str) -> (String, Flaws) {
    match read(head.as_bytes()) {
        Found::Flawed { length, head: written, flaws, .. } => {
            assert_eq!(length, head.len());
            (String::from_utf8(written).unwrap(), flaws)
        }
        other => panic!("{head:?}: {other:?}"),
    }
}

#[test]
fn a_plain_head_stays_as_it_is() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0 404\r\nX:y\r\n\r\n",
        "HTTP/1.1 200 Tr\u{e8}s bien\nX:\ty \n\n",
        "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    ] {
        let bytes = [head.as_bytes(), b"rest"].concat();
        assert_eq!(read(&bytes), Found::AsIs { length: head.len(), more: false }, "{head:?}");
        for end in 0..head.len() {
            assert_eq!(read(&bytes[..end]), Found::Incomplete, "{head:?} {end}");
        }
    }
}

#[test]
fn what_is_not_http_is_not_waited_for() {
    for bytes in ["SSH-2.0-x", "<html>", "HTTQ", "HTTP/1.1 20 OK\r\n", "HTTP/2.0 200\r\n", "\r\nx", "PHX"] {
        assert!(matches!(read(bytes.as_bytes()), Found::AsIs { .. }), "{bytes:?}");
    }
    assert_eq!(read(b"HTTP/1.1 2"), Found::Incomplete);
    assert_eq!(read(b"PHP Warning: x in"), Found::Incomplete);
    assert!(matches!(read(format!("HTTP/1.1 {}", "x".repeat(MAX_BYTES)).as_bytes()), Found::AsIs { .. }));
    assert!(matches!(read("PHP Warning\n".repeat(17).as_bytes()), Found::AsIs { .. }));
}

#[test]
fn lines_that_cannot_be_read_are_left_out() {
    let (head, flaws) = rewritten(
        "PHP Warning:  x in y on line 3\nHTTP/1.1  200 O\u{1}K\r\nX A: 1\r\n more\r\nX-B : 2\r\nno colon\r\nX-C: a\rb\r\n\
         : d\r\nX-E: e\r\n\tf\r\nX-G: a\0b\r\n\r\n",
    );
    assert_eq!(head, "HTTP/1.1 200 OK\r\nX-B: 2\r\nX-E: e f\r\n\r\n");
    assert_eq!(flaws, Flaws { lines: 7, ..Flaws::default() });
    assert_eq!(flaws.note().unwrap(), "7 lines of the response's head could not be read and were left out");
    // These are as good as any other.
    let (head, flaws) = rewritten("http/1.2 204\r\nX : y\r\n\r\n");
    assert_eq!((head.as_str(), flaws.note()), ("HTTP/1.1 204\r\nX: y\r\n\r\n", None));
}

#[test]
fn a_length_that_cannot_be_read_leaves_the_body_out() {
    for length in
        ["ten", "-1", "", "99999999999999999999999", "18446744073709551615", "1, 2", "1\r\nContent-Length: 2"]
    {
        let head =
            format!("HTTP/1.1 200 OK\r\nX: y\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n");
        let (head, flaws) = rewritten(&head);
        assert_eq!(head, "HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\nX: y\r\n\r\n");
        assert_eq!(flaws, Flaws { length: true, ..Flaws::default() });
    }
}

#[test]
fn headers_beyond_what_is_kept_are_left_out_and_framing_is_not() {
    let lines = |count: usize, length: usize| format!("X: {}\r\n", "y".repeat(length)).repeat(count);
    for (many, kept) in [(lines(998, 1), 99), (lines(60, 1000), 15), (lines(1, 60_000), 0)] {
        let (head, flaws) = rewritten(&format!("HTTP/1.1 200 OK\r\n{many}Content-Length: 2\r\n\r\n"));
        assert!(head.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n") && head.len() <= KEPT_BYTES);
        assert_eq!((head.matches("X: ").count(), flaws), (kept, Flaws { cut: true, ..Flaws::default() }));
    }
    let too_many = format!("HTTP/1.1 200 OK\r\n{}\r\n", lines(1001, 1));
    assert!(matches!(read(too_many.as_bytes()), Found::AsIs { .. }));
    let long_reason = format!("HTTP/1.1 200 {}\r\n\r\n", "y".repeat(20_000));
    assert_eq!(rewritten(&long_reason).0.len(), 16 + KEPT_REASON);
}

#[test]
fn informational_responses_are_followed_by_another() {
    let more =
        |head: &[u8]| matches!(read(head), Found::AsIs { more: true, .. } | Found::Flawed { more: true, .. });
    assert!(more(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n") && more(b"HTTP/1.1 100\r\nbad\r\n\r\n"));
    assert!(!more(b"HTTP/1.1 101 Switching\r\n\r\n") && !more(b"HTTP/1.1 200\r\n\r\n"));
}

fn line() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        "[a-zA-Z-]{1,9} ?: ?[ -~]{0,9}".prop_map(String::into_bytes),
        "[Cc]ontent-[Ll]ength: ?[0-9a, ]{0,4}".prop_map(String::into_bytes),
        "[ \t][ -~]{0,9}".prop_map(String::into_bytes),
        "(PHP Warning|<br />|HTTP/1\\.1|http/1\\.9)? ?[0-9]{0,4} ?[ -~]{0,5}".prop_map(String::into_bytes),
        proptest::collection::vec(any::<u8>(), 0..12),
    ]
}

fn head() -> impl Strategy<Value = Vec<u8>> {
    let ending = prop_oneof![Just(&b"\r\n"[..]), Just(&b"\n"[..])];
    let lines = proptest::collection::vec((line(), ending), 0..12);
    ("HTTP/1\\.[012] {1,2}[1-9][0-9]{2}( [ -~]{0,5})?\r\n", lines).prop_map(|(status, lines)| {
        let lines = lines.into_iter().flat_map(|(line, ending)| [line, ending.to_vec()].concat());
        [status.into_bytes(), lines.collect(), b"\r\n\r\n".to_vec()].concat()
    })
}

proptest! {
    #[test]
    fn whatever_is_read_is_http(bytes in head()) {
        let (head, status) = match read(&bytes) {
            Found::Flawed { head, .. } => (head, &bytes),
            Found::AsIs { length, .. } => (bytes[..length].to_vec(), &bytes),
            Found::Incomplete => panic!("there is an empty line"),
        };
        let mut headers = vec![httparse::EMPTY_HEADER; MAX_LINES];
        let mut response = httparse::Response::new(&mut headers);
        let parsed = response.parse(&head);
        prop_assert!(matches!(parsed, Ok(httparse::Status::Complete(_))), "{parsed:?}: {:?}", head.escape_ascii());
        let code = std::str::from_utf8(status).ok().and_then(|text| text.split_whitespace().nth(1)).map(str::to_owned);
        prop_assert!(code.is_none_or(|code| code == response.code.unwrap().to_string()));
    }

    #[test]
    fn a_rewritten_head_has_no_flaw(bytes in head()) {
        if let Found::Flawed { head, more, .. } = read(&bytes) {
            prop_assert_eq!(read(&head), Found::AsIs { length: head.len(), more });
        }
    }

    #[test]
    fn any_bytes_are_read(bytes: Vec<u8>) {
        let _ = read(&bytes);
    }
}
