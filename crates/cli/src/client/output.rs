//! What the client commands print: data on standard output, in the format that the user wants.

use std::io::{self, BufWriter, IsTerminal as _, Stdout, Write};

use postrider_core::json::layout::pretty;
use serde_json::Value;
use serde_json::value::RawValue;
use tabwriter::{Alignment, TabWriter};

/// The most characters of a cell in a list, unless it is uncut.
const MAX_CELL: usize = 80;

/// How to print data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// For people
    Table,
    /// One JSON document, as the API returns it; an array for a list
    Json,
    /// One JSON document on each line
    Jsonl,
    /// The ids alone, one on each line
    Id,
}

#[derive(Clone, Copy, Debug, clap::Args)]
#[command(next_help_heading = "Output")]
pub(crate) struct OutputArgs {
    /// Format of what the command prints
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(crate) output: Format,
}

/// A column of a table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Column {
    pub(crate) name: &'static str,
    /// Where the value is in an item: a JSON Pointer.
    pub(crate) path: &'static str,
}

/// Prints items in one format.
pub(crate) struct Printer {
    format: Format,
    colours: bool,
    columns: &'static [Column],
    out: BufWriter<Stdout>,
    printed: usize,
    /// The most characters of a cell in a list.
    most: usize,
}

impl Printer {
    /// Prints items with these columns in a list. The first column has the id.
    pub(crate) fn new(args: OutputArgs, columns: &'static [Column]) -> Self {
        let out = io::stdout();
        let colours = out.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { format: args.output, colours, columns, out: BufWriter::new(out), printed: 0, most: MAX_CELL }
    }

    /// Prints the cells of lists as long as they are.
    pub(crate) fn uncut(self) -> Self {
        Self { most: usize::MAX, ..self }
    }

    /// Prints a page of a list.
    pub(crate) fn page(&mut self, items: &[Box<RawValue>]) -> io::Result<()> {
        if self.format == Format::Table {
            let is_first = self.printed == 0;
            self.printed += items.len();
            return if items.is_empty() { Ok(()) } else { self.table(items, is_first) };
        }
        for item in items {
            let separator = if self.printed == 0 { "[\n" } else { ",\n" };
            self.printed += 1;
            match self.format {
                Format::Json => write!(self.out, "{separator}{}", pretty(item.get()))?,
                Format::Jsonl | Format::Table => writeln!(self.out, "{item}")?,
                Format::Id => writeln!(self.out, "{}", self.id(&value(item.get())))?,
            }
        }
        Ok(())
    }

    /// Ends a list.
    pub(crate) fn end(&mut self) -> io::Result<()> {
        match (self.format, self.printed) {
            (Format::Json, 0) => writeln!(self.out, "[]")?,
            (Format::Json, _) => writeln!(self.out, "\n]")?,
            (Format::Table, 0) => eprint_line("none found"),
            _ => {}
        }
        self.out.flush()
    }

    /// Prints one item with all its fields.
    pub(crate) fn item(&mut self, json: &str) -> io::Result<()> {
        match self.format {
            Format::Json => writeln!(self.out, "{}", pretty(json))?,
            Format::Jsonl => writeln!(self.out, "{json}")?,
            Format::Id => writeln!(self.out, "{}", self.id(&value(json)))?,
            Format::Table => {
                let mut table = aligned(Vec::new());
                if let Value::Object(fields) = value(json) {
                    for (name, value) in &fields {
                        writeln!(table, "{}\t{}", self.bold(name), self.coloured(&cell(value, usize::MAX)))?;
                    }
                } else {
                    writeln!(table, "{json}")?;
                }
                self.finish(table)?;
            }
        }
        self.out.flush()
    }

    /// Prints text as it is.
    pub(crate) fn text(&mut self, text: &[u8]) -> io::Result<()> {
        self.out.write_all(text)?;
        if !text.ends_with(b"\n") {
            self.out.write_all(b"\n")?;
        }
        self.out.flush()
    }

    fn table(&mut self, items: &[Box<RawValue>], with_head: bool) -> io::Result<()> {
        let mut table = aligned(Vec::new());
        if with_head {
            let names = self.columns.iter().map(|column| self.bold(&column.name.to_uppercase()));
            writeln!(table, "{}", names.collect::<Vec<_>>().join("\t"))?;
        }
        for item in items {
            let item = value(item.get());
            let at = |column: &Column| {
                item.pointer(column.path).map_or_else(|| "-".to_owned(), |value| cell(value, self.most))
            };
            let cells = self.columns.iter().map(|column| self.coloured(&at(column)));
            writeln!(table, "{}", cells.collect::<Vec<_>>().join("\t"))?;
        }
        self.finish(table)?;
        self.out.flush()
    }

    fn finish(&mut self, table: TabWriter<Vec<u8>>) -> io::Result<()> {
        let table = table.into_inner().map_err(|error| io::Error::other(error.to_string()))?;
        self.out.write_all(&table)
    }

    fn id(&self, item: &Value) -> String {
        let own = self.columns.first().and_then(|column| item.pointer(column.path));
        own.or_else(|| item.get("id"))
            .or_else(|| item.get("name"))
            .map_or_else(String::new, |id| cell(id, usize::MAX))
    }

    fn bold(&self, text: &str) -> String {
        if self.colours { format!("\u{1b}[1m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    /// Colours what stands for success and failure.
    fn coloured(&self, text: &str) -> String {
        let colour = match text {
            "succeeded" | "matched" | "ok" => "32",
            "dead" | "failed" => "31",
            "pending" | "warning" => "33",
            _ => return text.to_owned(),
        };
        if self.colours { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// Prints a line for the person who runs the command.
#[allow(clippy::print_stderr, reason = "standard error is for what is no data")]
pub(crate) fn eprint_line(text: impl std::fmt::Display) {
    // It may be closed.
    let _ = writeln!(io::stderr(), "{text}");
}

/// Prints data that has no other format.
pub(crate) fn print_text(text: impl std::fmt::Display) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()
}

/// A table whose cells are separated by tabs.
fn aligned(out: Vec<u8>) -> TabWriter<Vec<u8>> {
    TabWriter::new(out).ansi(true).padding(2).alignment(Alignment::Left)
}

fn value(json: &str) -> Value {
    serde_json::from_str(json).unwrap_or_default()
}

/// Returns a value as one line of at most so many characters, without any that could control the terminal.
pub(crate) fn cell(value: &Value, most: usize) -> String {
    let text = match value {
        Value::Null => return "-".to_owned(),
        Value::String(text) if text.is_empty() => return "-".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) if !items.is_empty() && items.iter().all(Value::is_string) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    };
    visible(&text, most)
}

/// Returns a text without characters that could control the terminal, and not longer than this.
fn visible(text: &str, most: usize) -> String {
    let mut characters = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c });
    let mut shown: String = characters.by_ref().take(most).collect();
    if characters.next().is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_one_harmless_line() {
        for (value, shown) in [
            (json!(null), "-"),
            (json!(""), "-"),
            (json!(true), "true"),
            (json!(["a", "b"]), "a,b"),
            (json!([]), "[]"),
            (json!({"a": 1}), "{\"a\":1}"),
            (json!("a\u{1b}[31m\tb\n"), "a\u{fffd}[31m…"),
        ] {
            assert_eq!(cell(&value, 7), shown, "{value}");
        }
    }
}
