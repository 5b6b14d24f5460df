//! Whether a Redis can hold a queue.

use std::fmt;

use redis::Value;

use crate::connection::Connection;
use crate::error::RedisQueueError;

/// What operators should know about a Redis that can hold the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Warning {
    /// It keeps nothing on disk.
    NothingOnDisk,
    /// It does not tell its settings, as some hosted ones do not.
    SettingsUnknown,
    /// It has no limit of its memory, so the operating system sets it.
    NoMemoryLimit,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NothingOnDisk => {
                "Redis keeps nothing on disk: after a restart the queue is empty and is filled again from the database; set appendonly yes"
            }
            Self::SettingsUnknown => {
                "Redis does not tell its settings (CONFIG GET): make sure that maxmemory-policy is noeviction and appendonly is yes"
            }
            Self::NoMemoryLimit => {
                "Redis has no maxmemory: when the machine's memory is full, the system ends Redis; set maxmemory"
            }
        })
    }
}

/// The first versions with functions.
const REDIS: u32 = 7;

pub(crate) async fn check(connection: &Connection) -> Result<Vec<Warning>, RedisQueueError> {
    let about: Value =
        connection.query(redis::cmd("INFO").arg("server")).await.map_err(RedisQueueError::Connect)?;
    for about in texts(about) {
        let version = field(&about, "redis_version").unwrap_or_default();
        // Valkey says 7.2 here, whatever its own version.
        let major = version.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < REDIS) {
            return Err(RedisQueueError::Version(version.to_owned()));
        }
    }
    let Some(policies) = setting(connection, "maxmemory-policy").await else {
        return Ok(vec![Warning::SettingsUnknown]);
    };
    if let Some(policy) = policies.iter().find(|policy| *policy != "noeviction") {
        return Err(RedisQueueError::Evicts(policy.clone()));
    }
    let mut warnings = Vec::new();
    let all = |values: Option<Vec<String>>, value: &str| {
        values.is_some_and(|all| all.iter().any(|one| one == value))
    };
    if all(setting(connection, "appendonly").await, "no") && all(setting(connection, "save").await, "") {
        warnings.push(Warning::NothingOnDisk);
    }
    if all(setting(connection, "maxmemory").await, "0") {
        warnings.push(Warning::NoMemoryLimit);
    }
    Ok(warnings)
}

/// A setting, as each node says it.
async fn setting(connection: &Connection, name: &str) -> Option<Vec<String>> {
    let answer: Value = connection.query(redis::cmd("CONFIG").arg("GET").arg(name)).await.ok()?;
    let mut values = Vec::new();
    collect(answer, name, &mut values);
    (!values.is_empty()).then_some(values)
}

/// Finds the values of a setting in the answers of one node or of several.
fn collect(answer: Value, name: &str, values: &mut Vec<String>) {
    match answer {
        Value::Array(items) => {
            let mut items = items.into_iter();
            while let Some(item) = items.next() {
                if matches!(&item, Value::Array(_) | Value::Map(_)) {
                    collect(item, name, values);
                } else if text(&item).as_deref() == Some(name)
                    && let Some(value) = items.next().as_ref().and_then(text)
                {
                    values.push(value);
                }
            }
        }
        Value::Map(pairs) => {
            for (key, value) in pairs {
                if text(&key).as_deref() == Some(name) {
                    values.extend(text(&value));
                } else {
                    collect(value, name, values);
                }
            }
        }
        _ => {}
    }
}

/// The texts in the answers of one node or of several.
fn texts(answer: Value) -> Vec<String> {
    match answer {
        Value::Array(items) => items.into_iter().flat_map(texts).collect(),
        Value::Map(pairs) => pairs.into_iter().flat_map(|(_, value)| texts(value)).collect(),
        other => text(&other).into_iter().collect(),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        _ => None,
    }
}

fn field<'a>(about: &'a str, name: &str) -> Option<&'a str> {
    about.lines().find_map(|line| line.trim_end().strip_prefix(name)?.strip_prefix(':'))
}
