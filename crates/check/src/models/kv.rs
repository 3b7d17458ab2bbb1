//! Keys with texts that can be replaced and grown: the object of Porcupine's `kv` histories.
//!
//! Keys are independent, so the state of a part is the text of one key; before anything happened it
//! is empty.

use super::number_keys;
use crate::history::Outcome;
use crate::linear::Model;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is asked.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "f")]
pub enum KvInput {
    /// The text of a key.
    Get {
        /// Which.
        key: Arc<str>,
    },
    /// Let the text be this.
    Put {
        /// Of which key.
        key: Arc<str>,
        /// The text.
        value: Arc<str>,
    },
    /// Let this follow what is there.
    Append {
        /// To which key.
        key: Arc<str>,
        /// What follows.
        value: Arc<str>,
    },
}

impl KvInput {
    /// The key that it concerns.
    pub fn key(&self) -> &Arc<str> {
        match self {
            KvInput::Get { key } | KvInput::Put { key, .. } | KvInput::Append { key, .. } => key,
        }
    }
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum KvOutput {
    /// To a get.
    Text(Arc<str>),
    /// To the others.
    Done,
}

/// The texts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Kv;

impl Model for Kv {
    type State = Arc<str>;
    type Input = KvInput;
    type Output = KvOutput;

    fn initial(&self) -> Arc<str> {
        "".into()
    }

    fn step(
        &self,
        state: &Arc<str>,
        input: &KvInput,
        output: Option<&KvOutput>,
    ) -> Option<Arc<str>> {
        match (input, output) {
            (KvInput::Get { .. }, None) => Some(state.clone()),
            (KvInput::Get { .. }, Some(KvOutput::Text(seen))) => {
                (seen == state).then(|| state.clone())
            }
            (KvInput::Put { value, .. }, None | Some(KvOutput::Done)) => Some(value.clone()),
            (KvInput::Append { value, .. }, None | Some(KvOutput::Done)) => {
                Some([&**state, &**value].concat().into())
            }
            _ => None, // an answer to another question
        }
    }

    fn heap_bytes(&self, state: &Arc<str>) -> usize {
        state.len() + 16
    }

    fn is_read(&self, input: &KvInput, _: Option<&KvOutput>) -> bool {
        matches!(input, KvInput::Get { .. })
    }

    fn parts(&self, inputs: &[&KvInput]) -> Vec<usize> {
        number_keys(inputs.iter().map(|input| input.key()))
    }

    fn show(&self, input: &KvInput, outcome: &Outcome<KvOutput>) -> String {
        let asked = match input {
            KvInput::Get { key } => format!("get {key}"),
            KvInput::Put { key, value } => format!("put {key} {value:?}"),
            KvInput::Append { key, value } => format!("append {key} {value:?}"),
        };
        match outcome {
            Outcome::Ok(KvOutput::Text(text)) => format!("{asked} -> {text:?}"),
            Outcome::Ok(KvOutput::Done) => asked,
            Outcome::Failed => format!("{asked}: failed"),
            Outcome::Unknown => format!("{asked}: unknown"),
        }
    }
}
