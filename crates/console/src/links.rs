//! Links that work below any path prefix: all of them are relative.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What a path segment need not encode.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~');

/// Where all of the console is.
pub(crate) const ROOT: &str = "/console";

/// The way from a page to the root of the console, such as `../` from `/console/events/evt_…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base(&'static str);

impl Base {
    /// The way from the page at `path`. A proxy may have removed a prefix from it.
    pub(crate) fn of(path: &str) -> Self {
        let below = path.strip_prefix(ROOT).unwrap_or_default();
        let depth = below.bytes().filter(|byte| *byte == b'/').count();
        Self(
            ["console/", "./", "../", "../../", "../../../", "../../../../"]
                .get(depth)
                .copied()
                .unwrap_or("./"),
        )
    }

    /// A relative link to a path below the root, such as `events?limit=10`.
    pub(crate) fn to(self, path: &str) -> String {
        format!("{}{path}", self.0)
    }

    pub(crate) fn as_str(self) -> &'static str {
        self.0
    }
}

/// Writes a text as one segment of a path.
pub(crate) fn segment(text: &str) -> String {
    // As a path, `.` and `..` mean something else.
    if text.bytes().all(|byte| byte == b'.') {
        "%2E".repeat(text.len())
    } else {
        utf8_percent_encode(text, SEGMENT).to_string()
    }
}

/// Returns a path below the root to which a form may send the browser; `None` for everything else.
pub(crate) fn safe(next: &str) -> Option<&str> {
    let path = next.split('?').next().unwrap_or_default();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./%~".contains(&byte);
    let is_below = !path.starts_with('/') && !path.split('/').any(|part| part.starts_with('.'));
    let is_text =
        next.len() <= 4096 && next.bytes().all(|byte| byte.is_ascii_graphic() && !b"\\#\"<>".contains(&byte));
    (path.bytes().all(is_plain) && is_below && is_text).then_some(next)
}

/// Returns a URL if a page may link to it.
pub(crate) fn linkable(url: &str) -> Option<&str> {
    (url.starts_with("https://") || url.starts_with("http://")).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_relative_to_the_page() {
        for (page, link) in [
            ("/console", "console/events"),
            ("/console/", "./events"),
            ("/console/events", "./events"),
            ("/console/events/evt_1", "../events"),
            ("/console/events/evt_1/erase", "../../events"),
        ] {
            assert_eq!(Base::of(page).to("events"), link, "{page}");
        }
    }

    #[test]
    fn only_paths_below_the_root_are_safe() {
        for good in
            ["", "events", "events/evt_1?limit=10&event=a.*", "deliveries?since=2026-01-01T00%3A00%3A00Z"]
        {
            assert_eq!(safe(good), Some(good));
        }
        for bad in [
            "/",
            "//evil.example",
            "https://evil.example",
            "javascript:alert(1)",
            "../../x",
            "events/../x",
            "a\\b",
            "a b",
            "x\r\ny",
            "a?b#c",
            "..",
        ] {
            assert_eq!(safe(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_segment_stays_one() {
        assert_eq!(segment("evt_1"), "evt_1");
        assert_eq!(segment("a/b?c"), "a%2Fb%3Fc");
        assert_eq!(segment(".."), "%2E%2E");
    }

    #[test]
    fn only_http_is_linked() {
        assert_eq!(linkable("https://example.com/"), Some("https://example.com/"));
        assert_eq!(linkable("javascript:alert(1)"), None);
        assert_eq!(linkable("HTTPS://x"), None);
    }
}
