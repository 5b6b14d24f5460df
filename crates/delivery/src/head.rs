//! The heads of HTTP/1.1 responses, as receivers really send them.
//!
//! The status decides about an attempt, whatever else a head has. hyper can skip most lines that are not headers, but not all
//! of them, and does not tell that it did. So a head with a flaw is rewritten before hyper reads it.

/// The longest head, and the most lines of headers that it may have.
const MAX_BYTES: usize = 64 * 1024;
const MAX_LINES: usize = 1000;
/// The longest head, and the most lines, that are passed on to hyper. Attempts record no more of them.
pub(crate) const KEPT_BYTES: usize = 15 * 1024;
pub(crate) const KEPT_LINES: usize = 100;
/// The longest reason phrase that is passed on.
const KEPT_REASON: usize = 256;
/// The most lines before the status line.
const MAX_WARNINGS: usize = 16;

/// What was wrong with a head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flaws {
    /// The number of lines that were left out.
    pub(crate) lines: usize,
    /// Whether the length of the body could not be read, so that the body was left out.
    pub(crate) length: bool,
    /// Whether there were more or longer headers than are recorded.
    pub(crate) cut: bool,
}

impl Flaws {
    /// Returns the note for the subscriber's owner.
    pub(crate) fn note(self) -> Option<String> {
        let lines = match self.lines {
            0 => None,
            1 => Some("a line of the response's head could not be read and was left out".to_owned()),
            lines => {
                Some(format!("{lines} lines of the response's head could not be read and were left out"))
            }
        };
        let length = self
            .length
            .then(|| "the response's Content-Length could not be read, so its body was left out".to_owned());
        let cut = self.cut.then(|| "the response has more headers than are kept".to_owned());
        let notes: Vec<_> = lines.into_iter().chain(length).chain(cut).collect();
        if notes.is_empty() { None } else { Some(notes.join("; ")) }
    }
}

/// What [`read`] found at the beginning of some bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Not yet all of a head.
    Incomplete,
    /// A head of this length that hyper reads as it is, or that it must reject: it is too long, or not HTTP.
    AsIs {
        /// The number of its bytes.
        length: usize,
        /// Whether another head follows, since the response was informational.
        more: bool,
    },
    /// A head of this length that is to be replaced.
    Flawed { length: usize, more: bool, head: Vec<u8>, flaws: Flaws },
}

/// Reads the head of a response.
pub(crate) fn read(bytes: &[u8]) -> Found {
    let as_is = Found::AsIs { length: bytes.len(), more: false };
    let mut lines = Lines { rest: bytes, taken: 0 };
    let mut flaws = Flaws::default();
    let status = loop {
        let Some(line) = lines.next() else {
            // Nothing that is not a status line is waited for longer than it can be one.
            let may_be = could_become_status(lines.rest) || could_become_warning(lines.rest);
            return if may_be && bytes.len() <= MAX_BYTES { Found::Incomplete } else { as_is };
        };
        if let Some(status) = Status::parse(line) {
            break status;
        }
        if !line.is_empty() {
            flaws.lines += 1;
            if !is_warning(line) || flaws.lines > MAX_WARNINGS {
                return as_is;
            }
        }
    };
    let mut fields = Fields::default();
    loop {
        let Some(line) = lines.next() else {
            return if bytes.len() <= MAX_BYTES { Found::Incomplete } else { as_is };
        };
        if line.is_empty() {
            break;
        }
        fields.add(line);
        if fields.lines > MAX_LINES {
            return as_is;
        }
    }
    let length = lines.taken;
    if length > MAX_BYTES {
        return as_is;
    }
    flaws.lines += fields.left_out;
    flaws.length = fields.has_bad_length();
    flaws.cut = fields.kept.len() > KEPT_LINES || length > KEPT_BYTES;
    let more = status.is_informational();
    if flaws == Flaws::default() && status.is_plain && !fields.rewritten {
        return Found::AsIs { length, more };
    }
    Found::Flawed { length, more, head: fields.write(&status, flaws), flaws }
}

/// Lines that end with LF, without that and a CR before it.
struct Lines<'a> {
    rest: &'a [u8],
    taken: usize,
}

impl<'a> Lines<'a> {
    fn next(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|byte| *byte == b'\n')?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = rest.get(1..).unwrap_or_default();
        self.taken += end + 1;
        Some(line.strip_suffix(b"\r").unwrap_or(line))
    }
}

const HTTP: &[u8] = b"HTTP/1.";

/// Returns whether these bytes may be the beginning of a status line, so that it is worth waiting for the rest.
fn could_become_status(bytes: &[u8]) -> bool {
    let common = bytes.len().min(HTTP.len());
    // An empty line may precede it.
    bytes == b"\r" || bytes[..common].eq_ignore_ascii_case(&HTTP[..common])
}

/// The beginnings of what PHP writes before anything else if it is told to show its warnings.
const WARNINGS: [&[u8]; 7] =
    [b"PHP ", b"<br", b"<b>", b"Warning: ", b"Notice: ", b"Deprecated: ", b"Fatal error: "];

fn is_warning(line: &[u8]) -> bool {
    WARNINGS.iter().any(|warning| line.starts_with(warning))
}

fn could_become_warning(bytes: &[u8]) -> bool {
    WARNINGS.iter().any(|warning| {
        let common = bytes.len().min(warning.len());
        bytes[..common] == warning[..common]
    })
}

/// A status line.
struct Status<'a> {
    minor: u8,
    code: &'a [u8],
    reason: &'a [u8],
    /// Whether hyper reads it as it is.
    is_plain: bool,
}

impl<'a> Status<'a> {
    fn parse(line: &'a [u8]) -> Option<Self> {
        let (http, rest) = line.split_at_checked(HTTP.len())?;
        let (&minor, rest) = rest.split_first()?;
        if !http.eq_ignore_ascii_case(HTTP) || !minor.is_ascii_digit() {
            return None;
        }
        let spaces = rest.iter().take_while(|byte| **byte == b' ').count();
        let (code, reason) = rest.get(spaces..)?.split_at_checked(3)?;
        let separated = matches!(reason.first(), None | Some(b' '));
        let valid = matches!(code, [b'1'..=b'9', b'0'..=b'9', b'0'..=b'9']);
        if spaces == 0 || !separated || !valid {
            return None;
        }
        let is_plain = http == HTTP
            && minor <= b'1'
            && spaces == 1
            && reason.len() <= KEPT_REASON
            && reason.iter().all(|byte| is_text(*byte));
        Some(Self { minor: minor.min(b'1'), code, reason, is_plain })
    }

    /// Returns whether another response follows (RFC 9110, §15.2). 101 is the last one on its connection.
    fn is_informational(&self) -> bool {
        self.code.first() == Some(&b'1') && self.code != b"101"
    }
}

/// Returns whether a byte may be part of a value (RFC 9110, §5.5).
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Returns whether a byte may be part of a name (RFC 9110, §5.6.2).
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// The headers of a head.
#[derive(Default)]
struct Fields<'a> {
    kept: Vec<(&'a [u8], Vec<&'a [u8]>)>,
    lines: usize,
    left_out: usize,
    /// Whether a line was kept otherwise than it was sent.
    rewritten: bool,
    /// Whether the last line was left out, and so is what continues it.
    in_left_out: bool,
}

impl<'a> Fields<'a> {
    fn add(&mut self, line: &'a [u8]) {
        self.lines += 1;
        let added = if matches!(line.first(), Some(b' ' | b'\t')) {
            self.fold(line.trim_ascii())
        } else {
            self.add_field(line)
        };
        self.in_left_out = added.is_none();
        self.left_out += usize::from(added.is_none());
    }

    /// A line that continues the one before it (RFC 9112, §5.2).
    fn fold(&mut self, more: &'a [u8]) -> Option<()> {
        if self.in_left_out || !more.iter().all(|byte| is_text(*byte)) {
            return None;
        }
        self.kept.last_mut()?.1.push(more);
        self.rewritten = true;
        Some(())
    }

    fn add_field(&mut self, line: &'a [u8]) -> Option<()> {
        let colon = line.iter().position(|byte| *byte == b':')?;
        let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
        let valid = !name.is_empty() && name.iter().all(|byte| is_token(*byte));
        if !valid || !value.iter().all(|byte| is_text(*byte)) {
            return None;
        }
        self.rewritten |= name.len() < colon;
        self.kept.push((name, vec![value]));
        Some(())
    }

    fn lengths(&self) -> impl Iterator<Item = &'a [u8]> {
        let lengths = self.kept.iter().filter(|(name, _)| name.eq_ignore_ascii_case(b"content-length"));
        lengths
            .flat_map(|(_, values)| values.iter().copied())
            .flat_map(|value| value.split(|byte| *byte == b','))
    }

    /// Returns whether the values of `Content-Length` are not one number. `Transfer-Encoding` overrides them (RFC 9112, §6.3).
    fn has_bad_length(&self) -> bool {
        if self.kept.iter().any(|(name, _)| name.eq_ignore_ascii_case(b"transfer-encoding")) {
            return false;
        }
        let mut numbers = self.lengths().map(|value| {
            let digits = std::str::from_utf8(value.trim_ascii()).ok()?;
            let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            // hyper reserves the two greatest numbers.
            is_number.then(|| digits.parse::<u64>().ok()).flatten().filter(|number| *number < u64::MAX - 1)
        });
        let Some(first) = numbers.next() else { return false };
        first.is_none() || numbers.any(|number| number != first)
    }

    /// Writes a head that hyper accepts. Without a length, the body would go on until the receiver closes the connection.
    fn write(&self, status: &Status<'_>, flaws: Flaws) -> Vec<u8> {
        let mut head = Vec::with_capacity(1024);
        head.extend_from_slice(HTTP);
        head.push(status.minor);
        head.push(b' ');
        head.extend_from_slice(status.code);
        head.extend(status.reason.iter().take(KEPT_REASON).filter(|byte| is_text(**byte)));
        head.extend_from_slice(b"\r\n");
        let mut lines = 0;
        if flaws.length {
            head.extend_from_slice(b"content-length: 0\r\nconnection: close\r\n");
            lines += 2;
        }
        // If not all fit, those come first on which the connection and the next attempt depend.
        let (first, others): (Vec<_>, Vec<_>) =
            self.kept.iter().partition(|(name, _)| flaws.cut && matters(name));
        for (name, values) in first.into_iter().chain(others) {
            if flaws.length && FRAMING.iter().any(|known| name.eq_ignore_ascii_case(known)) {
                continue;
            }
            let bytes = name.len() + values.iter().map(|value| value.len() + 1).sum::<usize>() + 3;
            if lines == KEPT_LINES || head.len() + bytes + 2 > KEPT_BYTES {
                continue;
            }
            lines += 1;
            head.extend_from_slice(name);
            head.extend_from_slice(b": ");
            head.extend_from_slice(&values.join(&b' '));
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

/// Headers that say how long the body and the connection are.
const FRAMING: [&[u8]; 2] = [b"content-length", b"connection"];

fn matters(name: &[u8]) -> bool {
    let others: [&[u8]; 3] = [b"transfer-encoding", b"keep-alive", b"retry-after"];
    FRAMING.iter().chain(&others).any(|known| name.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
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
        for bytes in ["SSH-2.0-x", "<html>", "HTTQ", "HTTP/1.1 20 OK\r\n", "HTTP/2.0 200\r\n", "\r\nx", "PHX"]
        {
            assert!(matches!(read(bytes.as_bytes()), Found::AsIs { .. }), "{bytes:?}");
        }
        assert_eq!(read(b"HTTP/1.1 2"), Found::Incomplete);
        assert_eq!(read(b"PHP Warning: x in"), Found::Incomplete);
        assert!(matches!(read(&[&b"HTTP/1.1 "[..], &[b'x'; MAX_BYTES]].concat()), Found::AsIs { .. }));
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
        assert_eq!(
            flaws.note().unwrap(),
            "7 lines of the response's head could not be read and were left out"
        );
        // These are as good as any other.
        let (head, flaws) = rewritten("http/1.2 204\r\nX : y\r\n\r\n");
        assert_eq!((head.as_str(), flaws.note()), ("HTTP/1.1 204\r\nX: y\r\n\r\n", None));
    }

    #[test]
    fn a_length_that_cannot_be_read_leaves_the_body_out() {
        for length in [
            "ten",
            "-1",
            "",
            "99999999999999999999999",
            "18446744073709551615",
            "1, 2",
            "1\r\nContent-Length: 2",
        ] {
            let head = format!(
                "HTTP/1.1 200 OK\r\nX: y\r\nConnection: keep-alive\r\nContent-Length: {length}\r\n\r\n"
            );
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
        let more = |head: &[u8]| {
            matches!(read(head), Found::AsIs { more: true, .. } | Found::Flawed { more: true, .. })
        };
        assert!(more(b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n") && more(b"HTTP/1.1 100\r\nbad\r\n\r\n"));
        assert!(!more(b"HTTP/1.1 101 Switching\r\n\r\n") && !more(b"HTTP/1.1 200\r\n\r\n"));
    }

    fn line() -> impl Strategy<Value = Vec<u8>> {
        prop_oneof![
            "[a-zA-Z-]{1,9} ?: ?[ -~]{0,9}".prop_map(String::into_bytes),
            "[Cc]ontent-[Ll]ength: ?[0-9a, ]{0,4}".prop_map(String::into_bytes),
            "[ \t][ -~]{0,9}".prop_map(String::into_bytes),
            "(PHP Warning|<br />|HTTP/1\\.1|http/1\\.9)? ?[0-9]{0,4} ?[ -~]{0,5}"
                .prop_map(String::into_bytes),
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
}
