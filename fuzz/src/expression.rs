//! Filters, projections and transforms.

use postrider_core::{Expression, Transform};
use postrider_filter::{Facts, Failed, Filter, Projection, Subject};

const DATA: &str =
    r#"{"a": {"y": 1}, "n": 5, "text": "x", "list": [{"n": 1, "y": "t"}, {"n": 2}], "null": null}"#;

fn subject(data: &str) -> Option<Subject> {
    let facts = Facts {
        id: "evt_01h455vb4pex5vsknk084sn02q",
        event_type: "order.paid",
        agent_id: "shop",
        timestamp: 1_700_000_000,
        channels: &["eu"],
    };
    Subject::new(&facts, data).ok()
}

/// An expression that is accepted can be evaluated, gives the same twice, and its library does not fail. The first line is the
/// expression, the rest data.
pub fn expression(data: &[u8]) {
    let Some(text) = crate::text(data) else { return };
    let (text, data) = text.split_once('\n').unwrap_or((text, DATA));
    let Ok(expression) = text.parse::<Expression>() else { return };
    let Some(subject) = subject(data).or_else(|| subject(DATA)) else { return };
    if let Ok(filter) = Filter::compile(&expression) {
        let first = filter.matches(&subject);
        assert_ne!(first, Err(Failed::Internal), "{text}");
        assert_eq!(first, filter.matches(&subject), "{text}");
    }
    if let Ok(projection) = Projection::compile(&expression) {
        let first = projection.project(&subject, 10_000);
        assert_ne!(first, Err(Failed::Internal), "{text}");
        assert_eq!(first, projection.project(&subject, 10_000), "{text}");
        if let Ok(projected) = first {
            assert!(projected.data.len() <= 10_000);
            serde_json::from_str::<serde_json::Value>(&projected.data).expect("JSON");
        }
    }
}

/// A transform that is accepted makes JSON of JSON, or fails, and its stored form is read as the same. The first line is the
/// transform, the rest data.
pub fn transform(data: &[u8]) {
    let Some((transform, data)) = crate::two_texts(data) else { return };
    let Ok(transform) = serde_json::from_str::<Transform>(transform) else { return };
    let stored = serde_json::to_string(&transform).expect("JSON");
    let again: Transform = serde_json::from_str(&stored).expect("the same");
    assert_eq!(again, transform);
    assert_eq!(again.version(), transform.version());
    let Transform::Steps(steps) = transform else { return };
    for data in [data, DATA] {
        if serde_json::from_str::<&serde_json::value::RawValue>(data).is_err() {
            continue;
        }
        if let Ok(changed) = steps.apply(data) {
            serde_json::from_str::<&serde_json::value::RawValue>(&changed).expect("JSON");
        }
    }
}
