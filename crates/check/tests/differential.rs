//! The checker against a second one that shares no idea with it: every order, tried one by one.
//!
//! Small random histories of a real object, some of them spoilt, are judged by both. Then the
//! checker itself is spoilt, in each way that somebody once got wrong, and the same comparison must
//! notice: a test that lets a mutant live proves nothing about the original.

mod support;

use proptest::prelude::*;
use quorate_check::history::{History, OpId, Operation, Outcome, Stamp};
use quorate_check::linear::{self, Budget, HistoryOf, Model, Verdict, Violation};
use quorate_check::models::Value;
use quorate_check::models::keyed::On;
use quorate_check::models::kv::Kv;
use quorate_check::models::lock::Lock;
use quorate_check::models::queue::Queue;
use quorate_check::models::register::{RegisterInput, RegisterOutput};
use quorate_check::models::set::Set;
use std::cell::Cell;
use std::hash::{Hash, Hasher};
use support::subjects::{Cas, cas};
use support::{Subject, choices, history_of, naive, runner, story};

fn sub_history<I: Clone, O: Clone>(history: &History<I, O>, ids: &[OpId]) -> History<I, O> {
    History::new(ids.iter().map(|id| history.operation(*id).clone()).collect())
}

/// What is said about a violation must be true as well.
fn assert_explained<M: Subject>(model: &M, history: &HistoryOf<M>, violation: &Violation) {
    let prefix = sub_history(history, &violation.prefix);
    assert!(!naive(model, &prefix), "the prefix is no violation");
    let mut never = || false;
    let budget = Budget { steps: 1 << 20, bytes: 1 << 26, cancel: &mut never };
    let explanation = linear::explain(model, history, violation, budget);
    let core = &explanation.core;
    assert!(explanation.is_minimal && core.contains(&violation.stuck));
    assert!(!naive(model, &sub_history(history, core)), "the core is no violation");
    assert!(!explanation.order.contains(&violation.stuck), "the stuck one is in the order");
    for released in core.iter().filter(|id| **id != violation.stuck) {
        let weakened = |id: &OpId| {
            let mut operation = history.operation(*id).clone();
            if !core.contains(id) || id == released {
                operation.outcome = Outcome::Unknown;
            }
            operation
        };
        let operations = violation.prefix.iter().map(weakened).collect();
        assert!(naive(model, &History::new(operations)), "{released} could be released");
    }
}

fn compare<M: Subject>(model: &M, cases: u32) {
    let seen = Cell::new((0, 0));
    let result = runner(cases).run(&choices(), |choices| {
        let history = history_of(model, &choices);
        let holds = naive(model, &history);
        let (violated, held) = seen.get();
        seen.set((violated + u32::from(!holds), held + u32::from(holds)));
        match linear::check(model, &history).verdict {
            Verdict::Holds => prop_assert!(holds, "{}", story(model, &history)),
            Verdict::Violated(violation) => {
                prop_assert!(!holds, "{}", story(model, &history));
                assert_explained(model, &history, &violation);
            }
            Verdict::Undecided(_) => prop_assert!(false, "small histories are decided"),
        }
        Ok(())
    });
    result.expect("both checkers agree");
    let (violated, held) = seen.get();
    assert!(violated * 30 > cases && held * 30 > cases, "{violated} violated, {held} held");
}

#[test]
fn registers_agree() {
    compare(&cas(), 3000);
}

#[test]
fn texts_agree() {
    compare(&Kv, 2000);
}

#[test]
fn queues_agree() {
    compare(&Queue::default(), 2000);
}

#[test]
fn sets_agree() {
    compare(&Set::default(), 2000);
}

#[test]
fn locks_agree() {
    compare(&Lock, 2000);
}

/// A spoilt checker: true if it says that the history holds.
type Mutant = (&'static str, fn(&HistoryOf<Cas>) -> bool);
type CasOperation = Operation<On<RegisterInput<Value>>, RegisterOutput<Value>>;

fn holds<M: Model>(model: &M, history: &HistoryOf<M>) -> bool {
    linear::check(model, history).verdict == Verdict::Holds
}

/// Checks the operations after something was done to them.
fn after(history: &HistoryOf<Cas>, change: fn(&mut Vec<CasOperation>)) -> bool {
    let mut operations = history.operations().to_vec();
    change(&mut operations);
    holds(&cas(), &History::new(operations))
}

/// A state that looks like every other to whoever compares it.
#[derive(Clone)]
struct Blur(Value);

impl PartialEq for Blur {
    fn eq(&self, _: &Blur) -> bool {
        true
    }
}

impl Eq for Blur {}

impl Hash for Blur {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A register whose states look alike.
struct Blurred;

impl Model for Blurred {
    type State = Blur;
    type Input = On<RegisterInput<Value>>;
    type Output = RegisterOutput<Value>;

    fn initial(&self) -> Blur {
        Blur(cas().initial())
    }

    fn step(&self, state: &Blur, on: &Self::Input, output: Option<&Self::Output>) -> Option<Blur> {
        cas().step(&state.0, on, output).map(Blur)
    }

    fn parts(&self, inputs: &[&Self::Input]) -> Vec<usize> {
        cas().parts(inputs)
    }

    fn show(&self, on: &Self::Input, outcome: &Outcome<Self::Output>) -> String {
        cas().show(on, outcome)
    }
}

/// A register that is wrong about its parts or its reads.
struct Wrong {
    parts: fn(usize) -> usize,
    is_read: fn(&RegisterInput<Value>, Option<&RegisterOutput<Value>>) -> bool,
}

impl Model for Wrong {
    type State = Value;
    type Input = On<RegisterInput<Value>>;
    type Output = RegisterOutput<Value>;

    fn initial(&self) -> Value {
        cas().initial()
    }

    fn step(
        &self,
        state: &Value,
        on: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Value> {
        cas().step(state, on, output)
    }

    fn is_read(&self, on: &Self::Input, output: Option<&Self::Output>) -> bool {
        (self.is_read)(&on.input, output)
    }

    fn parts(&self, inputs: &[&Self::Input]) -> Vec<usize> {
        cas().parts(inputs).into_iter().map(self.parts).collect()
    }

    fn show(&self, on: &Self::Input, outcome: &Outcome<Self::Output>) -> String {
        cas().show(on, outcome)
    }
}

/// The first operation that began after another had ended now overlaps it.
fn swap_two_events(operations: &mut [CasOperation]) {
    for later in 1..operations.len() {
        let begin = operations[later].invoked;
        let before = operations[..later].iter_mut().filter(|op| op.deadline().is_some());
        let last = before.filter(|op| op.returned < Some(begin)).max_by_key(|op| op.returned);
        let Some(last) = last else { continue };
        let end = last.returned.replace(begin);
        operations[later].invoked = end.expect("it had ended");
        return;
    }
}

const MUTANTS: &[Mutant] = &[
    ("two events change places", |history| {
        after(history, |operations| swap_two_events(operations))
    }),
    ("unknown is taken for failed", |history| {
        after(history, |operations| {
            let unknown = operations.iter_mut().filter(|op| op.outcome == Outcome::Unknown);
            unknown.for_each(|op| op.outcome = Outcome::Failed);
        })
    }),
    ("failed is taken for unknown", |history| {
        after(history, |operations| {
            let failed = operations.iter_mut().filter(|op| op.outcome == Outcome::Failed);
            failed.for_each(|op| op.outcome = Outcome::Unknown);
        })
    }),
    ("one read is dropped", |history| {
        after(history, |operations| {
            let read = operations.iter().position(|op| op.input.input == RegisterInput::Read);
            read.map(|at| operations.remove(at));
        })
    }),
    ("one write is dropped", |history| {
        after(history, |operations| {
            let is_write = |op: &CasOperation| matches!(op.input.input, RegisterInput::Write(_));
            let write = operations.iter().position(is_write);
            write.map(|at| operations.remove(at));
        })
    }),
    ("one key is ignored", |history| {
        after(history, |operations| operations.retain(|op| op.input.key != Value::from("b")))
    }),
    ("it stops at the first part", |history| {
        after(history, |operations| {
            let first = operations.first().map(|op| op.input.key.clone());
            operations.retain(|op| Some(&op.input.key) == first.as_ref());
        })
    }),
    ("the last operation is not looked at", |history| {
        after(history, |operations| {
            operations.pop();
        })
    }),
    ("time is ignored", |history| {
        after(history, |operations| {
            for (at, operation) in operations.iter_mut().enumerate() {
                operation.returned = operation.returned.map(|_| Stamp(1000 + at as u64));
            }
        })
    }),
    ("states are not compared", |history| holds(&Blurred, history)),
    ("all keys are one object", |history| {
        holds(&Wrong { parts: |_| 0, is_read: |_, _| false }, history)
    }),
    ("a write that changes nothing here is done at once", |history| {
        holds(&Wrong { parts: |part| part, is_read: |_, output| output.is_some() }, history)
    }),
    ("writes of unknown outcome are thought to be reads", |history| {
        holds(&Wrong { parts: |part| part, is_read: |_, output| output.is_none() }, history)
    }),
];

#[test]
fn every_mutant_of_the_checker_is_caught() {
    for (name, mutant) in MUTANTS {
        let result = runner(3000).run(&choices(), |choices| {
            let history = history_of(&cas(), &choices);
            prop_assert_eq!(mutant(&history), naive(&cas(), &history));
            Ok(())
        });
        assert!(result.is_err(), "nobody noticed: {name}");
    }
}
