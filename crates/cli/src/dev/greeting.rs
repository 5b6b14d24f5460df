//! What `dev` prints once it runs.

use std::path::Path;

use serde_json::json;

use crate::say::say;

/// Prints how to use the API.
pub(super) fn print(url: &str, key: &str, console: Option<&str>, data: &Path) {
    let console =
        console.map_or_else(String::new, |url| format!("\n  console  {url} (sign in with the key)"));
    say(format_args!(
        "Postrider is running at {url}, with its data in {}. Press Ctrl-C to stop it.

  API      {url}/docs
  key      {key}{console}

Dispatch an event:

  curl -s {url}/v1/events -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{\"event\":\"order.created\",\"data\":{{\"order\":1}}}}'

Each subscriber receives the events whose type matches. Subscribe a receiver on this machine, then dispatch again:

  curl -s {url}/v1/subscribers -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' -d '{{\"url\":\"http://127.0.0.1:9000/\",\"events\":[\"order.*\"]}}'
",
        data.display()
    ));
}

/// Prints where the API and the console are, and the key, as one line of JSON.
pub(super) fn for_programs(url: &str, key: &str, console: Option<&str>) {
    say(format_args!("{}", json!({"url": url, "key": key, "console": console})));
}
