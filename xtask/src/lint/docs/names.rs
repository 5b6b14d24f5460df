//! Checks the names in code spans: `Type`, `Type::method`, `function()`, `some_name`.

use super::{index::Index, page::Page};

/// Names that no source of this repository has, and their origins.
const FOREIGN: &[(&str, &str)] = &[
    ("Uuid::now_v7", "of the crate uuid; clippy.toml forbids it"),
    ("incompatible_msrv", "a lint of clippy"),
    ("to_timestamp", "a function of PostgreSQL"),
    ("date_trunc", "a function of PostgreSQL"),
    ("convert_from", "a function of PostgreSQL"),
    ("pg_locks", "a view of PostgreSQL"),
    ("xact_start", "a column of PostgreSQL's pg_stat_activity"),
    ("synchronous_standby_names", "a setting of PostgreSQL"),
    ("WALSync", "a wait event of PostgreSQL"),
    ("max_prepared_statements", "a setting of PgBouncer"),
    ("search_path", "a setting of PostgreSQL"),
    ("IPAddressDeny", "a setting of systemd units"),
    ("LimitNOFILE", "a setting of systemd units"),
    ("x_bucket", "a series of a Prometheus histogram x"),
    ("x_count", "a series of a Prometheus histogram x"),
    ("x_sum", "a series of a Prometheus histogram x"),
    ("process_virtual_memory_bytes", "a metric that Prometheus libraries report for every process"),
    ("process_virtual_memory_max_bytes", "a metric that Prometheus libraries report for every process"),
    ("OTEL_EXPORTER_OTLP_HEADERS", "a variable that the OpenTelemetry SDK reads"),
    ("OTEL_RESOURCE_ATTRIBUTES", "a variable that the OpenTelemetry SDK reads"),
    ("parentbased_always_on", "a sampler of OpenTelemetry"),
    ("MessageRetentionPeriod", "an attribute of queues on SQS"),
    ("DelaySeconds", "an attribute of queues on SQS"),
    ("VisibilityTimeout", "an attribute of queues on SQS"),
    ("ReceiveMessageWaitTimeSeconds", "an attribute of queues on SQS"),
    ("RedrivePolicy", "an attribute of queues on SQS"),
    ("FifoThroughputLimit", "an attribute of queues on SQS"),
    ("DeduplicationScope", "an attribute of queues on SQS"),
    ("AWS_SESSION_TOKEN", "a variable that reqsign reads"),
];

/// Returns the names on a page that no source has.
pub(super) fn violations(path: &str, page: &Page, index: &Index) -> Vec<String> {
    let spans = page.spans.iter().filter_map(|span| Some((span.line, missing(&span.text, index)?)));
    let in_blocks = page.blocks.iter().filter(|block| block.language.starts_with("rust")).flat_map(|block| {
        let lines = block.text.lines().enumerate();
        lines.flat_map(move |(offset, line)| {
            let found = associated(line).filter_map(|name| missing(name, index));
            found.map(move |problem| (block.line + offset, problem)).collect::<Vec<_>>()
        })
    });
    spans.chain(in_blocks).map(|(line, problem)| format!("{path}:{line}: {problem}")).collect()
}

/// Returns what is wrong with a span, if it names something that does not exist.
fn missing(span: &str, index: &Index) -> Option<String> {
    let name = Name::of(span)?;
    if FOREIGN.iter().any(|(foreign, _)| span == *foreign || name.segments[0] == *foreign) {
        return None;
    }
    let last = name.segments[name.segments.len() - 1];
    let exists = match name.segments.as_slice() {
        [single] if name.is_call => index.has_function(single) || index.knows(single),
        [single] if is_type(single) => index.names(single),
        [single] => index.knows(single),
        [.., owner, member] => {
            // An item of another library is known if the code names both parts.
            let of_others = || (is_package(owner) || index.names(owner)) && index.names(member);
            index.has_member(owner, member).unwrap_or_else(of_others)
        }
        [] => true,
    };
    (!exists).then(|| match name.segments.as_slice() {
        [.., owner, _] if index.has_member(owner, "").is_some() => {
            format!("`{span}` does not exist: {owner} has no `{last}`")
        }
        _ => format!("`{span}` does not exist: no source has this name"),
    })
}

struct Name<'a> {
    segments: Vec<&'a str>,
    is_call: bool,
}

impl<'a> Name<'a> {
    /// Reads a span that is a name and nothing else. A single lower-case word may mean anything and is no name.
    fn of(span: &'a str) -> Option<Self> {
        let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
        let end = span.find(|character| !is_part(character)).unwrap_or(span.len());
        let (path, rest) = span.split_at(end);
        let is_call = rest.starts_with('(') && rest.ends_with(')');
        let is_name =
            rest.is_empty() || rest == "!" || is_call || rest.starts_with('<') && rest.ends_with('>');
        let segments: Vec<&str> = path.split("::").collect();
        let is_path = segments.iter().all(|segment| is_identifier(segment));
        let is_telling = segments.len() > 1 || is_call || path.contains('_') || is_type(path);
        // `get_` is the beginning of names.
        (is_name && is_path && is_telling && !path.ends_with('_')).then_some(Self { segments, is_call })
    }
}

fn is_identifier(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_') && !text.contains(':')
}

/// Returns whether a text is in `CamelCase`. Capitals alone are a type parameter, SQL or an acronym.
fn is_type(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.contains(|letter: char| letter.is_ascii_lowercase())
}

fn is_package(text: &str) -> bool {
    text.starts_with("postrider_") || matches!(text, "postrider" | "crate")
}

/// Returns every `Type::name` in a line of Rust.
fn associated(line: &str) -> impl Iterator<Item = &str> {
    let is_part = |character: char| character.is_ascii_alphanumeric() || matches!(character, '_' | ':');
    let words = line.split(move |character| !is_part(character)).map(|word| word.trim_matches(':'));
    words.filter(|word| word.contains("::") && is_type(word.rsplit("::").nth(1).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(text: &str) -> Vec<String> {
        let index = Index::of_files(&[
            (
                "crates/store/src/store.rs",
                "/// `Ghost::gone` and a_ghost_test are only mentioned.\n\
                 pub struct Store { field_one: u8 }\n\
                 impl Store { pub fn record(&self) { Instant::now(); \"subscriber_id\" } }\n\
                 pub enum Kind { Good, Bad }\n\
                 pub const MOST_LINES: u8 = 1;\n\
                 kinds! { EventId => \"evt\" }",
            ),
            ("migrations/a.sql", "create table lanes (rate_next_us bigint)"),
        ]);
        violations("a.md", &Page::of(text), &index)
    }

    #[test]
    fn existing_names_pass() {
        let names = "`Store` `Store::record` `Store::record(…)` `store::Store` `postrider_store::Store` `Kind::Good` \
                     `Store::field_one` `MOST_LINES` `store::MOST_LINES` `EventId` `record()` `Instant::now` \
                     `subscriber_id` `rate_next_us`";
        assert_eq!(found(names), Vec::<String>::new());
    }

    #[test]
    fn spans_without_a_name_pass() {
        let spans =
            "`held` `SELECT` `application/json` `Retry-After` `WHERE id = ?` `2xx` `--help` `$1` `T` `<h1>`";
        assert_eq!(found(spans), Vec::<String>::new());
    }

    #[test]
    fn unknown_names_are_found() {
        for (name, expected) in [
            ("Ghost", "no source has this name"),
            ("Ghost::gone", "no source has this name"),
            ("a_ghost_test", "no source has this name"),
            ("ghost()", "no source has this name"),
            ("Store::forget", "Store has no `forget`"),
            ("postrider_store::Store::forget()", "Store has no `forget`"),
            ("store::forget", "store has no `forget`"),
            ("Kind::Ugly", "Kind has no `Ugly`"),
        ] {
            assert_eq!(
                found(&format!("x\n`{name}`")),
                [format!("a.md:2: `{name}` does not exist: {expected}")]
            );
        }
    }

    #[test]
    fn unknown_names_in_examples_are_found() {
        let text =
            "```rust\nlet a = Store::open(&b)?;\nlet c = Store::record();\n```\n```sh\nStore::x\n```\n";
        assert_eq!(found(text), ["a.md:2: `Store::open` does not exist: Store has no `open`"]);
    }
}
