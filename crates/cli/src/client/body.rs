//! JSON bodies from the command line: `-d` and `--set`.

use std::fs::File;
use std::io::{self, Read};

use postrider_core::json::{Document, Pointer};
use postrider_program::StartError;
use serde_json::value::RawValue;

use crate::status::usage;

/// The most bytes of a body, that of the largest request body that a server can be set to accept.
pub(crate) const MAX_BODY: u64 = 64 * 1024 * 1024;

/// Returns the bytes that an argument stands for: those of a file (`@file`), of standard input (`-`), or its own.
pub(crate) fn given(text: &str) -> Result<Vec<u8>, StartError> {
    match text.strip_prefix('@') {
        Some(path) => {
            let failed = |error| usage(format!("cannot read {path}: {error}"));
            bounded(File::open(path).map_err(failed)?, path)
        }
        None if text == "-" => bounded(io::stdin().lock(), "standard input"),
        None => Ok(text.as_bytes().to_vec()),
    }
}

/// Returns JSON that an argument stands for, as it is written.
pub(crate) fn json(text: &str) -> Result<Box<RawValue>, StartError> {
    serde_json::from_slice(&given(text)?).map_err(|error| {
        let hint = if text.starts_with(['{', '[', '@', '-']) {
            ""
        } else {
            "; give a file as @file, standard input as -"
        };
        usage(format!("the data is not JSON: {error}{hint}"))
    })
}

/// Opens JSON to change it in places.
pub(crate) fn document(json: &str) -> Result<Document, StartError> {
    Document::open(json).ok_or_else(|| usage("the data must be a JSON object or array".to_owned()))
}

/// Applies `/pointer=value` to a document. The value is JSON, or text if it is no JSON.
pub(crate) fn set(document: &mut Document, assignment: &str) -> Result<(), StartError> {
    let wrong = |reason: &dyn std::fmt::Display| usage(format!("--set {assignment}: {reason}"));
    let (place, value) = assignment.split_once('=').ok_or_else(|| wrong(&"expected /pointer=value"))?;
    let place: Pointer = place.parse().map_err(|error| wrong(&error))?;
    let value = serde_json::from_str(value).or_else(|_| serde_json::value::to_raw_value(value))?;
    document.put(&place, &value).map_err(|error| wrong(&error))
}

fn bounded(from: impl Read, name: &str) -> Result<Vec<u8>, StartError> {
    let mut bytes = Vec::new();
    let read = from.take(MAX_BODY + 1).read_to_end(&mut bytes);
    read.map_err(|error| usage(format!("cannot read {name}: {error}")))?;
    if bytes.len() as u64 > MAX_BODY {
        return Err(usage(format!("{name} has more than {MAX_BODY} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_set_as_json_or_as_text() {
        let mut data = document(r#"{"total": 9.50, "items": [1]}"#).unwrap();
        for assignment in ["/id=7", "/name=a b", "/note=\"7\"", "/items/0=null", "/new/deep=true"] {
            set(&mut data, assignment).unwrap();
        }
        let expected = r#"{"total":9.50,"items":[null],"id":7,"name":"a b","note":"7","new":{"deep":true}}"#;
        assert_eq!(data.to_string(), expected);
        for wrong in ["/total", "total=1", "/total/x=1", "/items/9=1"] {
            assert!(set(&mut data, wrong).is_err(), "{wrong}");
        }
        assert!(document("1").is_err() && json("{").is_err() && json("@/no/such/file").is_err());
    }
}
