//! A value of a history that came from a file: what Jepsen's and our own formats can say.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::sync::Arc;

/// A value.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(untagged)]
pub enum Value {
    /// Nothing there.
    #[default]
    Nil,
    /// A number.
    Number(i64),
    /// A text.
    Text(Arc<str>),
}

impl Value {
    /// True if there is nothing.
    pub fn is_nil(&self) -> bool {
        *self == Value::Nil
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Nil => f.write_str("nil"),
            Value::Number(number) => write!(f, "{number}"),
            Value::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Value::Number(number)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Value::Text(text.into())
    }
}
