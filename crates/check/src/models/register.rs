//! One value that can be read, written, and compared and set.
//!
//! A plain register is a CAS register whose clients never ask for a compare-and-set.

use crate::history::Outcome;
use crate::linear::Model;
use serde::{Deserialize, Serialize};
use std::fmt::Display;
use std::hash::Hash;

/// What is asked.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "f", content = "value")]
pub enum RegisterInput<V> {
    /// The value, please.
    Read,
    /// Let it be this.
    Write(V),
    /// Let it be `to` if it is `from`.
    Cas {
        /// What it must be.
        from: V,
        /// What it shall be.
        to: V,
    },
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RegisterOutput<V> {
    /// To a read.
    Value(V),
    /// To a write.
    Written,
    /// To a compare-and-set: whether the value was `from`. An answer that says only that the
    /// operation failed, for whatever reason, is [`Outcome::Failed`] instead.
    Swapped(bool),
}

/// The register.
#[derive(Clone, Debug, Default)]
pub struct Register<V> {
    /// The value before anything happened.
    pub initial: V,
}

impl<V: Clone + Eq + Hash + Display> Model for Register<V> {
    type State = V;
    type Input = RegisterInput<V>;
    type Output = RegisterOutput<V>;

    fn initial(&self) -> V {
        self.initial.clone()
    }

    fn step(&self, state: &V, input: &Self::Input, output: Option<&Self::Output>) -> Option<V> {
        match (input, output) {
            (RegisterInput::Read, None) => Some(state.clone()),
            (RegisterInput::Read, Some(RegisterOutput::Value(seen))) => {
                (seen == state).then(|| state.clone())
            }
            (RegisterInput::Write(value), None | Some(RegisterOutput::Written)) => {
                Some(value.clone())
            }
            (RegisterInput::Cas { from, to }, None) => {
                Some(if state == from { to.clone() } else { state.clone() })
            }
            (RegisterInput::Cas { from, to }, Some(RegisterOutput::Swapped(is_swapped))) => {
                let next = if *is_swapped { to } else { state };
                (*is_swapped == (state == from)).then(|| next.clone())
            }
            _ => None, // an answer to another question
        }
    }

    fn is_read(&self, input: &Self::Input, output: Option<&Self::Output>) -> bool {
        match input {
            RegisterInput::Read => true,
            RegisterInput::Write(_) => false,
            RegisterInput::Cas { from, to } => {
                from == to || output == Some(&RegisterOutput::Swapped(false))
            }
        }
    }

    fn show(&self, input: &Self::Input, outcome: &Outcome<Self::Output>) -> String {
        let asked = match input {
            RegisterInput::Read => "read".to_owned(),
            RegisterInput::Write(value) => format!("write {value}"),
            RegisterInput::Cas { from, to } => format!("cas {from} -> {to}"),
        };
        match outcome {
            Outcome::Ok(RegisterOutput::Value(value)) => format!("{asked} -> {value}"),
            Outcome::Ok(RegisterOutput::Written) => asked,
            Outcome::Ok(RegisterOutput::Swapped(true)) => format!("{asked}: swapped"),
            Outcome::Ok(RegisterOutput::Swapped(false)) => format!("{asked}: refused"),
            Outcome::Failed => format!("{asked}: failed"),
            Outcome::Unknown => format!("{asked}: unknown"),
        }
    }
}
