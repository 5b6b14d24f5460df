//! `postrider apply` and `postrider export`: a deployment as a file.

mod compare;
pub(crate) mod export;
mod file;
mod table;

use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use postrider_client::{Client, ClientError, Failure, encoded};
use postrider_program::StartError;
use postrider_settings::ClientArgs;
use serde_json::value::to_raw_value;
use serde_json::{Map, Value, json};

use self::compare::{Difference, differences, merge_patch};
use self::file::Desired;
use self::table::{TABLES, Table};
use crate::client::lists::all;
use crate::client::output::{Column, Format, OutputArgs, Printer, print_text};
use crate::client::progress::Progress;
use crate::connection::{client, failed, given};

const COLUMNS: &[Column] = &[Column { name: "name", path: "/name" }];

#[derive(Debug, clap::Args)]
#[command(after_help = "Example: postrider apply -f postrider.toml --dry-run")]
pub(crate) struct Args {
    /// TOML file with tables event_types, tenants, subscribers and keys; - for standard input
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Also delete what the file does not have, of each table that it has; never tenants
    #[arg(long)]
    prune: bool,
    /// Print the differences, and change nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    api: ClientArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// What is deleted, and what is not.
struct Options<'a> {
    prune: bool,
    /// The key in use, which is needed for the rest.
    own_key: &'a str,
}

/// Something that has to be done.
struct Step {
    table: &'static Table,
    name: String,
    change: Change,
}

enum Change {
    Create(Map<String, Value>),
    Patch { id: String, patch: Map<String, Value>, differences: Vec<Difference> },
    Delete { id: String },
}

pub(crate) async fn run(args: Args) -> Result<(), StartError> {
    let desired = file::read(&args.file)?;
    let client = client(&args.api)?;
    let own_key = given(&args.api)?.key;
    let own_key = own_key.as_ref().map_or("", |key| key.as_str());
    let mut steps = Vec::new();
    let compared = Progress::counting("entries compared");
    for table in TABLES {
        let Some(items) = desired.get(table.name) else { continue };
        let options = Options { prune: args.prune, own_key };
        steps.extend(of_table(&client, table, items, &options, &compared).await?);
    }
    drop(compared);
    // What others refer to is made first, and deleted last.
    let (deletions, mut changes): (Vec<_>, Vec<_>) =
        steps.into_iter().partition(|step| matches!(step.change, Change::Delete { .. }));
    changes.extend(deletions.into_iter().rev());

    let mut printer = Printer::new(args.output, COLUMNS);
    let is_table = args.output.output == Format::Table;
    let progress = Progress::new("changes");
    for (number, step) in (1..).zip(&changes) {
        let made = if args.dry_run { None } else { make(&client, step).await? };
        progress.around(|| -> Result<(), StartError> {
            if is_table {
                print_text(shown(step, made.as_ref()))?;
            } else {
                printer.page(&[to_raw_value(&item(step, made.as_ref()))?])?;
            }
            Ok(())
        })?;
        progress.set(number, changes.len() as u64);
    }
    drop(progress);
    match (is_table, changes.is_empty()) {
        (true, true) => print_text("no changes")?,
        (true, false) => {}
        (false, _) => printer.end()?,
    }
    Ok(())
}

/// Returns what has to be done so that a table is as desired.
async fn of_table(
    client: &Client,
    table: &'static Table,
    items: &[Desired],
    options: &Options<'_>,
    compared: &Progress,
) -> Result<Vec<Step>, StartError> {
    let Options { prune, own_key } = *options;
    let mut steps = Vec::new();
    let listed = if table.is_found_in_list || prune { existing(client, table).await? } else { Vec::new() };
    for item in items {
        compared.add(1);
        let found = if table.is_found_in_list {
            listed.iter().find(|found| table.is_same(&item.fields, found)).cloned()
        } else {
            one(client, table, &item.name).await?
        };
        let change = match found {
            None => Change::Create(item.fields.clone()),
            Some(found) => {
                let differences = differences(table, &item.fields, &found);
                if differences.is_empty() {
                    continue;
                }
                let mut patch = merge_patch(&differences, &found);
                let along = table.with_changes.iter().filter_map(|name| item.fields.get_key_value(*name));
                patch.extend(along.map(|(name, value)| (name.clone(), value.clone())));
                Change::Patch { id: table.id_of(&found), patch, differences }
            }
        };
        steps.push(Step { table, name: item.name.clone(), change });
    }
    if prune && table.is_pruned {
        let surplus =
            listed.iter().filter(|found| !items.iter().any(|item| table.is_same(&item.fields, found)));
        let surplus = surplus.filter(|found| !is_key(own_key, &table.id_of(found)));
        steps.extend(surplus.map(|found| Step {
            table,
            name: table.name_of(found),
            change: Change::Delete { id: table.id_of(found) },
        }));
    }
    Ok(steps)
}

/// Whether the id is that of the key with this text: `prk_` or `pro_`, the id without its prefix, and a secret.
fn is_key(text: &str, id: &str) -> bool {
    id.strip_prefix("key_").is_some_and(|id| text.split('_').nth(1) == Some(id))
}

/// Returns everything of a table that a file can describe.
async fn existing(client: &Client, table: &Table) -> Result<Vec<Value>, StartError> {
    let items = all(client, table.path).await?;
    let items = items.iter().map(|item| serde_json::from_str(item.get()));
    let items = items.collect::<Result<Vec<Value>, _>>()?;
    Ok(items.into_iter().filter(|item| table.is_managed(item)).collect())
}

/// Returns what [`existing`] does, or why the key may not read it.
async fn existing_or_refused(
    client: &Client,
    table: &Table,
) -> Result<Result<Vec<Value>, String>, StartError> {
    match client.get::<Value>(&format!("{}?limit=1", table.path)).await {
        Err(ClientError::Refused(problem)) if problem.status == 403 => Ok(Err(problem.detail)),
        Err(error) => Err(failed(error)),
        Ok(_) => existing(client, table).await.map(Ok),
    }
}

async fn one(client: &Client, table: &Table, name: &str) -> Result<Option<Value>, StartError> {
    match client.get::<Value>(&format!("{}/{}", table.path, encoded(name))).await {
        Ok(found) => Ok(Some(found).filter(|found| table.is_managed(found))),
        Err(error) if error.failure() == Failure::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// Does a step, and returns the answer, if there is one.
async fn make(client: &Client, step: &Step) -> Result<Option<Value>, StartError> {
    let path = |id: &str| format!("{}/{}", step.table.path, encoded(id));
    let (method, path, body) = match &step.change {
        Change::Create(fields) => (Method::POST, step.table.path.to_owned(), serde_json::to_vec(fields)?),
        Change::Patch { id, patch, .. } => (Method::PATCH, path(id), serde_json::to_vec(patch)?),
        Change::Delete { id } => (Method::DELETE, path(id), Vec::new()),
    };
    let answer = client.call(method, &path, Bytes::from(body)).await.map_err(|error| of_step(step, error))?;
    Ok(serde_json::from_slice(&answer.body).ok())
}

/// Adds to an error which entry of the file it is about.
fn of_step(step: &Step, error: ClientError) -> StartError {
    crate::client::output::eprint_line(format_args!("{} {}:", step.table.name, step.name));
    failed(error)
}

/// Returns a step for people. The key of a new API key is shown only now.
fn shown(step: &Step, made: Option<&Value>) -> String {
    let (sign, details) = match &step.change {
        Change::Create(_) => ('+', Vec::new()),
        Change::Patch { differences, .. } => {
            ('~', differences.iter().map(|difference| format!("\n    {difference}")).collect())
        }
        Change::Delete { .. } => ('-', Vec::new()),
    };
    let key = key_of(made).map(|key| format!("\n    key: {key}")).unwrap_or_default();
    format!("{sign} {} {}{}{key}", step.table.name, step.name, details.concat())
}

fn item(step: &Step, made: Option<&Value>) -> Value {
    let (action, fields) = match &step.change {
        Change::Create(_) => ("create", json!([])),
        Change::Patch { differences, .. } => {
            ("change", differences.iter().map(|difference| difference.field.clone()).collect())
        }
        Change::Delete { .. } => ("delete", json!([])),
    };
    let mut item = json!({"action": action, "table": step.table.name, "name": step.name, "fields": fields});
    if let Some(key) = key_of(made) {
        item["key"] = key.into();
    }
    item
}

fn key_of(made: Option<&Value>) -> Option<&str> {
    made?.get("key")?.as_str()
}
