//! First in, first out.

use crate::history::Outcome;
use crate::linear::Model;
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::fmt::Display;
use std::hash::Hash;
use std::marker::PhantomData;

/// What is asked.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "f", content = "value")]
pub enum QueueInput<V> {
    /// Take this in.
    Enqueue(V),
    /// Give the oldest.
    Dequeue,
}

/// What is answered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum QueueOutput<V> {
    /// To an enqueue.
    Enqueued,
    /// To a dequeue; `None` if the queue was empty.
    Dequeued(Option<V>),
}

/// A queue that begins empty.
#[derive(Clone, Copy, Debug)]
pub struct Queue<V>(PhantomData<V>);

impl<V> Default for Queue<V> {
    fn default() -> Self {
        Queue(PhantomData)
    }
}

impl<V: Clone + Eq + Hash + Display> Model for Queue<V> {
    type State = VecDeque<V>;
    type Input = QueueInput<V>;
    type Output = QueueOutput<V>;

    fn initial(&self) -> VecDeque<V> {
        VecDeque::new()
    }

    fn step(
        &self,
        state: &VecDeque<V>,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<VecDeque<V>> {
        let mut next = state.clone();
        match (input, output) {
            (QueueInput::Enqueue(value), None | Some(QueueOutput::Enqueued)) => {
                next.push_back(value.clone());
            }
            (QueueInput::Dequeue, None) => {
                next.pop_front();
            }
            (QueueInput::Dequeue, Some(QueueOutput::Dequeued(seen))) => {
                if next.pop_front() != *seen {
                    return None;
                }
            }
            _ => return None, // an answer to another question
        }
        Some(next)
    }

    fn heap_bytes(&self, state: &VecDeque<V>) -> usize {
        state.capacity() * size_of::<V>()
    }

    fn is_read(&self, _: &Self::Input, output: Option<&Self::Output>) -> bool {
        matches!(output, Some(QueueOutput::Dequeued(None)))
    }

    fn show(&self, input: &Self::Input, outcome: &Outcome<Self::Output>) -> String {
        let asked = match input {
            QueueInput::Enqueue(value) => format!("enqueue {value}"),
            QueueInput::Dequeue => "dequeue".to_owned(),
        };
        match outcome {
            Outcome::Ok(QueueOutput::Enqueued) => asked,
            Outcome::Ok(QueueOutput::Dequeued(Some(value))) => format!("{asked} -> {value}"),
            Outcome::Ok(QueueOutput::Dequeued(None)) => format!("{asked} -> empty"),
            Outcome::Failed => format!("{asked}: failed"),
            Outcome::Unknown => format!("{asked}: unknown"),
        }
    }
}
