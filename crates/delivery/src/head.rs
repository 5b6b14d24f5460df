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

/// How PHP's warnings begin, which it may print before the headers.
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
mod tests;
