//! Random histories of real objects, and a checker that tries every order.

pub(crate) mod subjects;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use quorate_check::history::{ClientId, OpId, Operation, Outcome, Recorder};
use quorate_check::linear::{HistoryOf, Model};
use std::collections::BTreeMap;

/// More make the naive checker slow: 8 operations have 40,320 orders.
const OPERATIONS_MAX: usize = 8;
/// Random choices that make one history.
const CHOICES: usize = 120;

/// A model, how to ask it at random, and how to spoil an answer.
pub(crate) trait Subject: Model {
    /// What the operation concerns: the naive checker keeps one state for each.
    fn key(input: &Self::Input) -> String;
    /// A random question.
    fn ask(draw: &mut Draw<'_>) -> Self::Input;
    /// What the object answers.
    fn answer(&self, state: &Self::State, input: &Self::Input) -> Self::Output;
    /// What a broken one may answer.
    fn spoil(output: Self::Output, draw: &mut Draw<'_>) -> Self::Output;
}

/// Random numbers that proptest chose, and shrinks.
pub(crate) struct Draw<'a>(std::slice::Iter<'a, u8>);

impl Draw<'_> {
    /// From 0 on.
    pub(crate) fn below(&mut self, bound: u8) -> u8 {
        self.0.next().map_or(0, |byte| byte % bound)
    }

    /// A small value, so that values meet again.
    pub(crate) fn number(&mut self) -> i64 {
        i64::from(self.below(3))
    }

    /// A key.
    pub(crate) fn key(&mut self) -> &'static str {
        ["a", "a", "b"][usize::from(self.below(3))]
    }
}

struct Flight<M: Model> {
    id: OpId,
    input: M::Input,
    output: Option<M::Output>,
}

/// A history of a real object, in which answers may be spoilt.
pub(crate) fn history_of<M: Subject>(model: &M, choices: &[u8]) -> HistoryOf<M> {
    let mut draw = Draw(choices.iter());
    let mut recorder = Recorder::new();
    let mut states: BTreeMap<String, M::State> = BTreeMap::new();
    let mut clients: [Option<Flight<M>>; 3] = [None, None, None];
    while draw.0.len() > 0 {
        let client = usize::from(draw.below(3));
        let Some(mut flight) = clients[client].take() else {
            if recorder.operations().len() < OPERATIONS_MAX {
                let input = M::ask(&mut draw);
                let id = recorder.invoke(ClientId(client as u64), input.clone());
                clients[client] = Some(Flight { id, input, output: None });
            }
            continue;
        };
        match (draw.below(8), flight.output.take()) {
            (0, None) => recorder.returned(flight.id, Outcome::Failed),
            (0 | 1, _) => recorder.returned(flight.id, Outcome::Unknown),
            (2, Some(output)) => {
                let spoilt = M::spoil(output, &mut draw);
                recorder.returned(flight.id, Outcome::Ok(spoilt));
            }
            (_, Some(output)) => recorder.returned(flight.id, Outcome::Ok(output)),
            (_, None) => {
                let state = states.entry(M::key(&flight.input)).or_insert(model.initial());
                let output = model.answer(state, &flight.input);
                *state = model.step(state, &flight.input, Some(&output)).expect("its own answer");
                flight.output = Some(output);
                clients[client] = Some(flight);
            }
        }
    }
    recorder.history()
}

/// True if one of all orders is right.
pub(crate) fn naive<M: Subject>(model: &M, history: &HistoryOf<M>) -> bool {
    let operations: Vec<&Operation<M::Input, M::Output>> =
        history.operations().iter().filter(|op| op.outcome != Outcome::Failed).collect();
    let mut used = vec![false; operations.len()];
    try_all(model, &operations, &mut used, &BTreeMap::new())
}

fn try_all<M: Subject>(
    model: &M,
    operations: &[&Operation<M::Input, M::Output>],
    used: &mut [bool],
    states: &BTreeMap<String, M::State>,
) -> bool {
    let left = operations.iter().zip(used.iter()).filter(|(_, is_used)| !**is_used);
    let Some(deadline) = left.filter_map(|(op, _)| op.deadline()).min() else { return true };
    for at in 0..operations.len() {
        if used[at] || operations[at].invoked > deadline {
            continue;
        }
        let operation = operations[at];
        let key = M::key(&operation.input);
        let initial = model.initial();
        let state = states.get(&key).unwrap_or(&initial);
        let output = operation.outcome.output();
        let Some(next) = model.step(state, &operation.input, output) else { continue };
        let mut states = states.clone();
        states.insert(key, next);
        used[at] = true;
        if try_all(model, operations, used, &states) {
            return true;
        }
        used[at] = false;
    }
    false
}

/// The same cases in every run.
pub(crate) fn runner(cases: u32) -> TestRunner {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha))
}

/// What makes a history.
pub(crate) fn choices() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), CHOICES)
}

/// A history in words.
pub(crate) fn story<M: Model>(model: &M, history: &HistoryOf<M>) -> String {
    let line = |op: &Operation<M::Input, M::Output>| {
        let end = op.deadline().map_or(u64::MAX, |at| at.0);
        let shown = model.show(&op.input, &op.outcome);
        format!("{:>3} {end:>3} {} {shown}", op.invoked.0, op.client)
    };
    history.operations().iter().map(line).collect::<Vec<String>>().join("\n")
}
