//! Hiding all but the end of a value.

use serde_json::value::RawValue;

/// Masks all but the last `keep` characters of a value. Returns `None` if there is nothing to mask. A value that is
/// neither text nor a number is masked as a whole.
pub(super) fn masked(json: &str, keep: usize) -> Option<Box<RawValue>> {
    const WHOLE: &str = "****";
    let plain = match json.as_bytes().first()? {
        b'n' => return None,
        b'"' => serde_json::from_str::<String>(json).ok(),
        b'-' | b'0'..=b'9' => Some(json.to_owned()),
        _ => None,
    };
    let masked = match plain {
        None => WHOLE.to_owned(),
        Some(plain) if plain.is_empty() => return None,
        Some(plain) => {
            let length = plain.chars().count();
            let hidden = if length > keep { length - keep } else { length };
            plain.chars().enumerate().map(|(place, shown)| if place < hidden { '*' } else { shown }).collect()
        }
    };
    serde_json::value::to_raw_value(&masked).ok()
}
