//! The settings file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// The prefix of environment variables, in lower case; a file's key may have it or not.
const PREFIX: &str = "postrider_";

/// The content of a settings file.
#[derive(Debug, Default)]
pub(crate) struct File {
    /// Values by the names of their arguments, as they are written on a command line.
    pub(crate) values: BTreeMap<String, String>,
    /// The table `transforms`, unchanged.
    pub(crate) transforms: Option<toml::Value>,
}

/// What is wrong with a settings file. Never contains a value, which may be a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FileError {
    #[error("cannot read the settings file {}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the settings file {} is not valid TOML: {message}, line {line}", path.display())]
    Syntax { path: PathBuf, message: String, line: usize },
    #[error("unknown setting `{key}` in {}{hint}", path.display())]
    Unknown { path: PathBuf, key: String, hint: &'static str },
    #[error("setting `{key}` in {} must be a string, an integer, a Boolean, or a list of strings without commas", path.display())]
    Kind { path: PathBuf, key: String },
    #[error("setting `{key}` is set twice in {}", path.display())]
    Twice { path: PathBuf, key: String },
}

impl File {
    /// Reads the file `path`, whose keys must be in `known`.
    pub(crate) fn read(path: &Path, known: &BTreeSet<String>) -> Result<Self, FileError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| FileError::Read { path: path.to_owned(), source })?;
        Self::parse(&text, path, known)
    }

    fn parse(text: &str, path: &Path, known: &BTreeSet<String>) -> Result<Self, FileError> {
        // The parser's own message quotes the line, which may contain a secret.
        let table: toml::Table = toml::from_str(text).map_err(|error| FileError::Syntax {
            path: path.to_owned(),
            message: error.message().lines().next().unwrap_or_default().to_owned(),
            line: text
                .get(..error.span().map_or(0, |span| span.start))
                .map_or(1, |before| before.split('\n').count()),
        })?;
        let mut file = Self::default();
        for (key, value) in table {
            let path = || path.to_owned();
            let name = key.strip_prefix(PREFIX).unwrap_or(&key);
            if name == "transforms" {
                if file.transforms.replace(value).is_some() {
                    return Err(FileError::Twice { path: path(), key });
                }
                continue;
            }
            if !known.contains(name) {
                let otel = name.to_ascii_lowercase().starts_with("otel_");
                let hint = if otel { "; OpenTelemetry's settings are read from the environment" } else { "" };
                return Err(FileError::Unknown { path: path(), key, hint });
            }
            // An empty string or list counts as unset, as an empty variable does.
            match written(value) {
                None => return Err(FileError::Kind { path: path(), key }),
                Some(text) if text.is_empty() => {}
                Some(text) => {
                    if file.values.insert(name.to_owned(), text).is_some() {
                        return Err(FileError::Twice { path: path(), key });
                    }
                }
            }
        }
        Ok(file)
    }
}

/// Returns a value as it is written on a command line; `None` for a type that no setting has.
fn written(value: toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(yes) => Some(yes.to_string()),
        toml::Value::Array(items) => {
            let items: Option<Vec<_>> = items
                .into_iter()
                .map(|item| match item {
                    // The command line would split it at a comma.
                    toml::Value::String(text) if !text.contains(',') => Some(text),
                    _ => None,
                })
                .collect();
            Some(items?.join(","))
        }
        toml::Value::Float(_) | toml::Value::Datetime(_) | toml::Value::Table(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<File, String> {
        let known = ["listen", "max_attempts", "https_only", "retry_schedule", "admin_key"];
        let known = known.into_iter().map(str::to_owned).collect();
        File::parse(text, Path::new("/etc/postrider.toml"), &known).map_err(|error| error.to_string())
    }

    #[test]
    fn values_become_command_line_arguments() {
        let file = parse(
            r#"
            listen = "0.0.0.0:80"
            postrider_max_attempts = 3
            https_only = true
            retry_schedule = ["1s", "2m"]
            admin_key = ""
            [transforms.redact]
            fields = ["a"]
            "#,
        );
        let file = file.unwrap();
        let values: Vec<_> = file.values.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        let expected = [
            ("https_only", "true"),
            ("listen", "0.0.0.0:80"),
            ("max_attempts", "3"),
            ("retry_schedule", "1s,2m"),
        ];
        assert_eq!(values, expected);
        assert_eq!(file.transforms.unwrap()["redact"]["fields"][0].as_str(), Some("a"));
    }

    #[test]
    fn transforms_may_be_an_array_of_tables() {
        let file = parse("[[transforms]]\nname = 'a'\n[[transforms]]\nname = 'b'\n").unwrap();
        assert_eq!(file.transforms.unwrap().as_array().unwrap().len(), 2);
    }

    #[test]
    fn an_error_names_the_key_and_the_file() {
        for (text, message) in [
            ("listn = 'x'", "unknown setting `listn` in /etc/postrider.toml"),
            ("otel_service_name = 'x'", "OpenTelemetry's settings are read from the environment"),
            ("max_attempts = 1.5", "setting `max_attempts` in /etc/postrider.toml must be a string"),
            ("retry_schedule = [1, 2]", "setting `retry_schedule` in /etc/postrider.toml must be"),
            ("retry_schedule = ['1s,2s']", "setting `retry_schedule` in /etc/postrider.toml must be"),
            ("listen = 'a'\npostrider_listen = 'b'", "is set twice in /etc/postrider.toml"),
            ("listen = 'a'\n\nx x", "line 3"),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.contains(message), "{text}: {error}");
        }
    }

    #[test]
    fn an_error_does_not_show_the_secrets_of_the_file() {
        for text in
            ["admin_key = hunter2hunter2", "admin_key = \"hunter2hunter2\nx", "admin_key = 'hunter2' hunter2"]
        {
            let error = parse(text).unwrap_err();
            assert!(!error.contains("hunter2") && error.contains("/etc/postrider.toml"), "{error}");
        }
    }
}
