//! `postrider export`: what exists, as a file for `apply`.

use postrider_program::StartError;
use postrider_settings::ClientArgs;
use serde_json::Value;

use super::existing_or_refused;
use super::table::{TABLES, Table};
use crate::client::output::{eprint_line, print_text};
use crate::connection::client;

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider export > postrider.toml")]
pub(crate) struct Args {
    #[command(flatten)]
    api: ClientArgs,
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let client = client(&args.api)?;
    let mut file = toml::Table::new();
    for table in TABLES {
        let entries = match existing_or_refused(&client, table).await? {
            Ok(entries) => entries,
            Err(reason) => {
                eprint_line(format_args!("{} are left out: {reason}", table.name));
                continue;
            }
        };
        let entries: Vec<toml::Value> = entries.iter().map(|entry| written(table, entry)).collect();
        if !entries.is_empty() {
            file.insert(table.name.to_owned(), toml::Value::Array(entries));
        }
    }
    eprint_line("secrets, headers, `auth` and subscribers without a uid are not exported");
    Ok(print_text(toml::to_string(&file)?.trim_end())?)
}

/// Returns an entry without what the API knows by itself and without what is empty.
fn written(table: &Table, entry: &Value) -> toml::Value {
    let fields = entry.as_object().into_iter().flatten();
    let kept = fields.filter(|(name, _)| !table.derived.contains(&name.as_str()));
    let written = kept.filter_map(|(name, value)| {
        // Any JSON: TOML has no null, and no empty part of it may be lost.
        let is_free = matches!(name.as_str(), "schema" | "example");
        let value = if is_free && !value.is_null() { Some(value.to_string().into()) } else { in_toml(value) };
        Some((name.clone(), value?))
    });
    toml::Value::Table(written.collect())
}

/// Returns a value in TOML; `None` if it is empty.
fn in_toml(value: &Value) -> Option<toml::Value> {
    match value {
        Value::Null => None,
        Value::String(text) if text.is_empty() => None,
        Value::Bool(value) => Some((*value).into()),
        Value::String(text) => Some(text.clone().into()),
        Value::Number(number) => Some(match number.as_i64() {
            Some(number) => number.into(),
            None => number.as_f64()?.into(),
        }),
        Value::Array(items) if items.is_empty() => None,
        Value::Object(fields) if fields.is_empty() => None,
        Value::Array(items) => Some(toml::Value::Array(items.iter().filter_map(in_toml).collect())),
        Value::Object(fields) => {
            let fields: toml::Table =
                fields.iter().filter_map(|(name, value)| Some((name.clone(), in_toml(value)?))).collect();
            (!fields.is_empty()).then_some(toml::Value::Table(fields))
        }
    }
}
