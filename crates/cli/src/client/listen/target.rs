//! The target of `postrider listen`.

use std::net::Ipv4Addr;

use postrider_core::TargetUrl;
use postrider_program::StartError;

use crate::status::usage;

/// Returns the URL of a target: a port, `host:port`, or a URL; with another path, if one is given.
pub(super) fn target(text: &str, path: Option<&str>, allow_remote: bool) -> Result<TargetUrl, StartError> {
    let base = match text.parse::<u16>() {
        Ok(port) => format!("http://{}:{port}", Ipv4Addr::LOCALHOST),
        Err(_) if text.contains("://") => text.to_owned(),
        Err(_) => format!("http://{text}"),
    };
    let base = match path {
        Some(path) => format!("{}/{}", base.trim_end_matches('/'), path.trim_start_matches('/')),
        None => base,
    };
    let parse = |text: &str| TargetUrl::parse(text).map_err(|error| usage(format!("{text}: {error}")));
    let url = parse(&base)?;
    if url.host() == "localhost" {
        // Not every resolver knows the name.
        return parse(&base.replacen("localhost", &Ipv4Addr::LOCALHOST.to_string(), 1));
    }
    if !allow_remote && !url.ip().is_some_and(|ip| ip.is_loopback()) {
        return Err(usage(format!("{text}: is not on this machine; --allow-remote allows it all the same")));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_on_this_machine_unless_allowed() {
        let url =
            |text: &str, path, remote| target(text, path, remote).ok().map(|url| url.as_str().to_owned());
        for (text, path, expected) in [
            ("3000", None, "http://127.0.0.1:3000/"),
            ("3000", Some("/hooks"), "http://127.0.0.1:3000/hooks"),
            ("3000", Some("hooks"), "http://127.0.0.1:3000/hooks"),
            ("localhost:3000", None, "http://127.0.0.1:3000/"),
            ("http://localhost:3000/a", None, "http://127.0.0.1:3000/a"),
            ("[::1]:3000", None, "http://[::1]:3000/"),
            ("https://127.0.0.2/a", Some("/b"), "https://127.0.0.2/a/b"),
        ] {
            assert_eq!(url(text, path, false).as_deref(), Some(expected), "{text}");
        }
        for text in ["example.com:80", "https://192.168.1.1/", "70000", ""] {
            assert_eq!(url(text, None, false), None, "{text}");
        }
        assert!(url("https://example.com/a", None, true).is_some());
    }
}
