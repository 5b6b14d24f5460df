//! Reading the file.

use std::collections::BTreeMap;
use std::path::Path;

use postrider_program::StartError;
use serde_json::{Map, Value};

use super::table::{TABLES, Table};
use crate::client::body;
use crate::status::usage;

/// An entry of the file.
#[derive(Debug)]
pub(super) struct Desired {
    pub(super) name: String,
    pub(super) fields: Map<String, Value>,
}

/// Fields that may be written as JSON text, since TOML has no null.
const JSON: [&str; 2] = ["schema", "example"];

/// Returns the entries by table. A table that the file does not have is absent.
pub(super) fn read(path: &Path) -> Result<BTreeMap<&'static str, Vec<Desired>>, StartError> {
    let name = if path == Path::new("-") { "-".to_owned() } else { format!("@{}", path.display()) };
    let text =
        String::from_utf8(body::given(&name)?).map_err(|_| usage("the file is not UTF-8".to_owned()))?;
    parse(&text).map_err(|message| usage(format!("{}: {message}", path.display())))
}

fn parse(text: &str) -> Result<BTreeMap<&'static str, Vec<Desired>>, String> {
    let file: toml::Table = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
    let mut tables = BTreeMap::new();
    for (name, entries) in file {
        let table = TABLES.iter().find(|table| table.name == name);
        let table = table.ok_or_else(|| {
            let known: Vec<String> = TABLES.iter().map(|table| format!("[[{}]]", table.name)).collect();
            format!("unknown table {name}; the file has {}", known.join(", "))
        })?;
        let toml::Value::Array(entries) = entries else {
            return Err(format!("{name} must be a list of tables, [[{name}]]"));
        };
        let entries = entries.into_iter().enumerate().map(|(place, entry)| desired(table, place, entry));
        let entries = entries.collect::<Result<Vec<_>, _>>()?;
        let mut names = std::collections::BTreeSet::new();
        let key = |entry: &Desired| (entry.name.clone(), entry.fields.get("tenant").map(Value::to_string));
        if let Some(twice) = entries.iter().find(|entry| !names.insert(key(entry))) {
            return Err(format!("{} {} is in the file twice", table.name, twice.name));
        }
        tables.insert(table.name, entries);
    }
    Ok(tables)
}

fn desired(table: &Table, place: usize, entry: toml::Value) -> Result<Desired, String> {
    let Value::Object(mut fields) = json(entry) else {
        return Err(format!("{} must be a list of tables, [[{0}]]", table.name));
    };
    let name =
        fields.get(table.key).and_then(Value::as_str).filter(|name| !name.is_empty()).map(str::to_owned);
    let name = name.ok_or_else(|| format!("{} number {} has no `{}`", table.name, place + 1, table.key))?;
    for field in JSON {
        if let Some(Value::String(text)) = fields.get(field) {
            let parsed = serde_json::from_str(text)
                .map_err(|error| format!("{} {name}: {field}: {error}", table.name))?;
            fields.insert(field.to_owned(), parsed);
        }
    }
    Ok(Desired { name, fields })
}

/// Returns a value of TOML as JSON; a date and a time as text.
fn json(value: toml::Value) -> Value {
    match value {
        toml::Value::String(text) => text.into(),
        toml::Value::Integer(number) => number.into(),
        toml::Value::Float(number) => number.into(),
        toml::Value::Boolean(value) => value.into(),
        toml::Value::Datetime(moment) => moment.to_string().into(),
        toml::Value::Array(items) => items.into_iter().map(json).collect(),
        toml::Value::Table(fields) => fields.into_iter().map(|(name, value)| (name, json(value))).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn entries_have_the_fields_of_the_api() {
        let text = "[[subscribers]]\nuid = \"a\"\nevents = [\"order.*\"]\n[subscribers.policy]\nmax_attempts = 3\n\
            [[event_types]]\nname = \"order.created\"\nexample = '{\"note\": null}'\n[[keys]]\nname = \"k\"\n\
            expires_at = 2030-01-01T00:00:00Z";
        let tables = parse(text).unwrap();
        let fields = |table: &str| Value::Object(tables[table][0].fields.clone());
        let expected = json!({"uid": "a", "events": ["order.*"], "policy": {"max_attempts": 3}});
        assert_eq!(fields("subscribers"), expected);
        assert_eq!(fields("event_types")["example"], json!({"note": null}));
        assert_eq!(fields("keys")["expires_at"], "2030-01-01T00:00:00Z");
        assert!(!tables.contains_key("tenants"));
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_place() {
        for (text, part) in [
            ("x", "key"),
            ("[[subscriber]]\nuid = \"a\"", "unknown table subscriber"),
            ("[subscribers]\nuid = \"a\"", "[[subscribers]]"),
            ("subscribers = [1]", "[[subscribers]]"),
            ("[[subscribers]]\nurl = \"a\"", "number 1 has no `uid`"),
            ("[[tenants]]\nid = \"a\"\n[[tenants]]\nid = \"a\"", "twice"),
            ("[[event_types]]\nname = \"a\"\nschema = \"{\"", "schema"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
