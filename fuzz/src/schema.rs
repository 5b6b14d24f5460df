//! JSON Schemas of event types.

use postrider_schema::Schema;
use serde_json::Value;

/// A schema that is accepted compares any data, and says the same twice. The first line is the schema, the rest data.
pub fn schema(data: &[u8]) {
    let Some((schema, data)) = crate::two_texts(data) else { return };
    let Ok(schema) = serde_json::from_str::<Value>(schema) else { return };
    let Ok(compiled) = Schema::compile(&schema) else { return };
    for data in [serde_json::from_str(data).unwrap_or(Value::Null), schema] {
        let found = compiled.mismatches(&data);
        assert!(found.len() <= 20);
        assert_eq!(found, compiled.mismatches(&data));
    }
}
