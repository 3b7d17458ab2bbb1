//! Locks: one holder at a time, and a fencing token that grows with each grant.
//!
//! An acquisition that is answered with "busy" is a read: somebody else held the lock then. A token
//! may be left out by services that give none; one of an acquisition of unknown outcome was never
//! seen, and the next is then above the last one that was.

use super::number_keys;
use crate::history::Outcome;
use crate::linear::Model;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// What is asked.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "f")]
pub enum LockInput {
    /// Let `holder` have it.
    Acquire {
        /// Which lock.
        lock: Arc<str>,
        /// For whom.
        holder: Arc<str>,
    },
    /// Let `holder` have it no longer.
    Release {
        /// Which lock.
        lock: Arc<str>,
        /// Whose.
        holder: Arc<str>,
    },
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LockOutput {
    /// The lock is the holder's now, with this token.
    Acquired(Option<u64>),
    /// Somebody else has it.
    Busy,
    /// It was the holder's, and is free now.
    Released,
    /// It was not the holder's.
    NotHeld,
}

/// Who holds a lock, and the newest token that was seen.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Held {
    /// Who.
    pub holder: Option<Arc<str>>,
    /// The newest token.
    pub token: u64,
}

/// Locks that begin free.
#[derive(Clone, Copy, Debug, Default)]
pub struct Lock;

impl Model for Lock {
    type State = Held;
    type Input = LockInput;
    type Output = LockOutput;

    fn initial(&self) -> Held {
        Held::default()
    }

    fn step(&self, state: &Held, input: &LockInput, output: Option<&LockOutput>) -> Option<Held> {
        let is_free = state.holder.is_none();
        match input {
            LockInput::Acquire { holder, .. } => {
                let token = match output {
                    Some(LockOutput::Acquired(token)) if is_free => *token,
                    Some(LockOutput::Busy) if !is_free => return Some(state.clone()),
                    None if is_free => None,
                    None => return Some(state.clone()),
                    Some(_) => return None,
                };
                let grows = token.is_none_or(|token| token > state.token);
                let token = token.unwrap_or(state.token);
                grows.then(|| Held { holder: Some(holder.clone()), token })
            }
            LockInput::Release { holder, .. } => {
                let is_holder = state.holder.as_ref() == Some(holder);
                let says = match output {
                    Some(LockOutput::Released) => true,
                    Some(LockOutput::NotHeld) => false,
                    Some(_) => return None,
                    None => is_holder,
                };
                let free = || Held { holder: None, token: state.token };
                (says == is_holder).then(|| if is_holder { free() } else { state.clone() })
            }
        }
    }

    fn is_read(&self, _: &LockInput, output: Option<&LockOutput>) -> bool {
        matches!(output, Some(LockOutput::Busy | LockOutput::NotHeld))
    }

    fn parts(&self, inputs: &[&LockInput]) -> Vec<usize> {
        number_keys(inputs.iter().map(|input| match input {
            LockInput::Acquire { lock, .. } | LockInput::Release { lock, .. } => lock,
        }))
    }

    fn show(&self, input: &LockInput, outcome: &Outcome<LockOutput>) -> String {
        let asked = match input {
            LockInput::Acquire { lock, holder } => format!("acquire {lock} for {holder}"),
            LockInput::Release { lock, holder } => format!("release {lock} of {holder}"),
        };
        match outcome {
            Outcome::Ok(LockOutput::Acquired(Some(token))) => format!("{asked} -> token {token}"),
            Outcome::Ok(LockOutput::Acquired(None) | LockOutput::Released) => asked,
            Outcome::Ok(LockOutput::Busy) => format!("{asked}: busy"),
            Outcome::Ok(LockOutput::NotHeld) => format!("{asked}: not held"),
            Outcome::Failed => format!("{asked}: failed"),
            Outcome::Unknown => format!("{asked}: unknown"),
        }
    }
}
