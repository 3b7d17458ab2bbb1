//! Many independent objects of one kind, each under a key: Jepsen's `independent` workloads.

use super::{Value, number_keys};
use crate::history::Outcome;
use crate::linear::Model;
use serde::{Deserialize, Serialize};

/// An operation on the object under a key.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct On<I> {
    /// Which object; [`Value::Nil`] if there is but one.
    #[serde(default, skip_serializing_if = "Value::is_nil")]
    pub key: Value,
    /// What is asked of it.
    #[serde(flatten)]
    pub input: I,
}

/// Objects under keys. The state of a part is that of one object, since parts are keys.
#[derive(Clone, Debug, Default)]
pub struct Keyed<M>(pub M);

impl<M: Model> Model for Keyed<M> {
    type State = M::State;
    type Input = On<M::Input>;
    type Output = M::Output;

    fn initial(&self) -> M::State {
        self.0.initial()
    }

    fn step(
        &self,
        state: &M::State,
        on: &On<M::Input>,
        output: Option<&M::Output>,
    ) -> Option<M::State> {
        self.0.step(state, &on.input, output)
    }

    fn heap_bytes(&self, state: &M::State) -> usize {
        self.0.heap_bytes(state)
    }

    fn is_read(&self, on: &On<M::Input>, output: Option<&M::Output>) -> bool {
        self.0.is_read(&on.input, output)
    }

    fn parts(&self, inputs: &[&On<M::Input>]) -> Vec<usize> {
        number_keys(inputs.iter().map(|on| &on.key))
    }

    fn show(&self, on: &On<M::Input>, outcome: &Outcome<M::Output>) -> String {
        let shown = self.0.show(&on.input, outcome);
        if on.key.is_nil() { shown } else { format!("[{}] {shown}", on.key) }
    }
}
