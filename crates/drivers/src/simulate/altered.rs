//! For tests: JSON that somebody has altered.

use proptest::prelude::*;
use serde_json::{Value, json};

/// Every place in a JSON value where something else can stand.
pub(super) fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    found.push(at.to_owned());
    match value {
        Value::Array(items) => {
            for (place, item) in items.iter().enumerate() {
                places(item, &format!("{at}/{place}"), found);
            }
        }
        Value::Object(fields) => {
            for (name, item) in fields {
                places(item, &format!("{at}/{name}"), found);
            }
        }
        _ => {}
    }
}

pub(super) fn anything() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<u64>().prop_map(|number| json!(number)),
        (0..6u64).prop_map(|number| json!(number)),
        Just(json!(u64::MAX)),
        any::<i64>().prop_map(|number| json!(number)),
        ".{0,9}".prop_map(|text| json!(text)),
        Just(json!([])),
        Just(json!({"a": 1})),
    ]
}
