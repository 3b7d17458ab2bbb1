//! Elements that are there or not.
//!
//! As long as nobody reads the whole set, each element is a part of its own.

use super::number_keys;
use crate::history::Outcome;
use crate::linear::Model;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::fmt::Display;
use std::hash::Hash;
use std::marker::PhantomData;

/// What is asked.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "f", content = "value")]
pub enum SetInput<V> {
    /// Let it be there.
    Add(V),
    /// Let it not be there.
    Remove(V),
    /// Is it there?
    Contains(V),
    /// All of them.
    Read,
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[serde(bound(deserialize = "V: Deserialize<'de> + Ord"))]
pub enum SetOutput<V> {
    /// To an addition and a removal.
    Done,
    /// To the question whether it is there.
    Is(bool),
    /// To a read.
    All(BTreeSet<V>),
}

/// A set that begins empty.
#[derive(Clone, Copy, Debug)]
pub struct Set<V>(PhantomData<V>);

impl<V> Default for Set<V> {
    fn default() -> Self {
        Set(PhantomData)
    }
}

impl<V: Clone + Ord + Hash + Display> Model for Set<V> {
    type State = BTreeSet<V>;
    type Input = SetInput<V>;
    type Output = SetOutput<V>;

    fn initial(&self) -> BTreeSet<V> {
        BTreeSet::new()
    }

    fn step(
        &self,
        state: &BTreeSet<V>,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<BTreeSet<V>> {
        let mut next = state.clone();
        let fits = match (input, output) {
            (SetInput::Add(value), None | Some(SetOutput::Done)) => {
                next.insert(value.clone());
                true
            }
            (SetInput::Remove(value), None | Some(SetOutput::Done)) => {
                next.remove(value);
                true
            }
            (SetInput::Contains(value), Some(SetOutput::Is(seen))) => {
                state.contains(value) == *seen
            }
            (SetInput::Read, Some(SetOutput::All(seen))) => seen == state,
            (SetInput::Contains(_) | SetInput::Read, None) => true,
            _ => false, // an answer to another question
        };
        fits.then_some(next)
    }

    fn heap_bytes(&self, state: &BTreeSet<V>) -> usize {
        state.len() * size_of::<V>() * 2
    }

    fn is_read(&self, input: &Self::Input, _: Option<&Self::Output>) -> bool {
        matches!(input, SetInput::Contains(_) | SetInput::Read)
    }

    fn parts(&self, inputs: &[&Self::Input]) -> Vec<usize> {
        if inputs.iter().any(|input| matches!(input, SetInput::Read)) {
            return vec![0; inputs.len()];
        }
        number_keys(inputs.iter().map(|input| match input {
            SetInput::Add(value) | SetInput::Remove(value) | SetInput::Contains(value) => {
                Some(value)
            }
            SetInput::Read => None,
        }))
    }

    fn show(&self, input: &Self::Input, outcome: &Outcome<Self::Output>) -> String {
        let asked = match input {
            SetInput::Add(value) => format!("add {value}"),
            SetInput::Remove(value) => format!("remove {value}"),
            SetInput::Contains(value) => format!("contains {value}"),
            SetInput::Read => "read".to_owned(),
        };
        match outcome {
            Outcome::Ok(SetOutput::Done) => asked,
            Outcome::Ok(SetOutput::Is(is_there)) => format!("{asked} -> {is_there}"),
            Outcome::Ok(SetOutput::All(all)) => {
                let all: Vec<String> = all.iter().map(V::to_string).collect();
                format!("{asked} -> {{{}}}", all.join(" "))
            }
            Outcome::Failed => format!("{asked}: failed"),
            Outcome::Unknown => format!("{asked}: unknown"),
        }
    }
}
