//! Is there an order of the operations that a single copy could have shown?
//!
//! A history is *linearizable* if each operation can be given one moment between its invocation and
//! its return so that, taken in the order of those moments, every output is what the [`Model`]
//! gives. Deciding it is NP-complete (Gibbons and Korach, 1997), so the search is built to end: it
//! has a [`Budget`], and its verdict has three words.
//!
//! ```text
//! history --parts--> plan --search--> Holds | Violated | Undecided      (explain: a minimal core)
//!          plan.rs          search.rs  memo.rs                           minimise.rs
//! ```
//!
//! *Idea.* Wing and Gong: try every operation that may come next, and undo it if it leads nowhere.
//! Lowe: remember the configurations (what is done, state) that led nowhere; and do an operation
//! only when one has to be done, *just in time* for its return. On top of these:
//!
//! * **Parts.** Objects that no operation connects are checked one by one (locality; Herlihy and
//!   Wing, theorem 1).
//! * **Reads at once.** An operation that never changes anything is done as soon as it fits, for
//!   good: it takes nothing away from any order that does it later. (One that merely changes
//!   nothing *here* does not qualify: a second write of 1 may be needed after a write of 2.)
//! * **Unknown outcomes are counted, not listed.** They have no deadline, so of equal ones the
//!   earliest stands for all; and one is used only if the very next operation comes out different
//!   for it, since otherwise the order without it is as good.
//! * **Less used is better.** A configuration is dropped if a dead end is known that is equal but
//!   for having used fewer operations of unknown outcome.
//!
//! *Guaranteed.* `Holds` and `Violated` are exact; `Violated` names the shortest prefix of the
//! history which has no order. `Undecided` says how far every way was followed. The same history
//! takes the same steps everywhere; no clock is read.
//!
//! *Bounds.* [`Budget`]; at most [`CONCURRENT_MAX`] operations in flight in one part.
//!
//! Sources: Wing and Gong, "Testing and Verifying Concurrent Objects", 1993; Lowe, "Testing for
//! Linearizability", 2017, sections 3 to 5; Horn and Kroening, "Faster linearizability checking via
//! P-compositionality", 2015.

mod intern;
mod memo;
mod minimise;
mod plan;
mod search;

use crate::history::{History, OpId, Operation, Outcome};
use plan::Plan;
use search::{End, Search};
use std::fmt;
use std::hash::Hash;

pub use minimise::{Explanation, explain};

/// At most so many operations with a known outcome may be in flight at one time in one part. More
/// are [`Why::Concurrency`].
pub const CONCURRENT_MAX: usize = 64 * 16;

/// A sequential object: what one copy, asked one thing at a time, answers.
pub trait Model {
    /// What the object remembers.
    type State: Clone + Eq + Hash;
    /// What it can be asked.
    type Input: Clone + Eq + Hash;
    /// What it answers.
    type Output: Clone + Eq;

    /// The state before anything happened.
    fn initial(&self) -> Self::State;

    /// The state after `input` was answered with `output`, or `None` if this state does not give
    /// that output. Without an output, any will do: then it must be `Some`.
    fn step(
        &self,
        state: &Self::State,
        input: &Self::Input,
        output: Option<&Self::Output>,
    ) -> Option<Self::State>;

    /// What a state holds outside itself, for the budget. Unit: bytes.
    fn heap_bytes(&self, _state: &Self::State) -> usize {
        0
    }

    /// True if the operation, where it gives this output, never changes any state; without an
    /// output, if it never does, whatever it gives. `false` is always right, and slower.
    fn is_read(&self, _input: &Self::Input, _output: Option<&Self::Output>) -> bool {
        false
    }

    /// Numbers the part of the object that each operation concerns. Parts must be independent: no
    /// operation of one may change what an operation of another does.
    fn parts(&self, inputs: &[&Self::Input]) -> Vec<usize> {
        vec![0; inputs.len()]
    }

    /// An operation in words, for people.
    fn show(&self, input: &Self::Input, outcome: &Outcome<Self::Output>) -> String;
}

/// The history of a model's operations.
pub type HistoryOf<M> = History<<M as Model>::Input, <M as Model>::Output>;

/// What a search may cost.
pub struct Budget<'a> {
    /// Transitions tried, about 10 to 100 ns each with small states.
    pub steps: u64,
    /// Memory of the search, estimated from the sizes of its tables. Unit: bytes.
    pub bytes: u64,
    /// Asked every few thousand steps; true ends the search.
    pub cancel: &'a mut dyn FnMut() -> bool,
}

impl fmt::Debug for Budget<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Budget {{ steps: {}, bytes: {} }}", self.steps, self.bytes)
    }
}

/// Steps of [`check`]'s default: some minutes.
pub const STEPS_DEFAULT: u64 = 10_000_000_000;
/// Memory of the default. Unit: bytes.
pub const BYTES_DEFAULT: u64 = 2 << 30;

/// The answer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Verdict {
    /// There is an order.
    Holds,
    /// There is none.
    Violated(Violation),
    /// The budget was spent first.
    Undecided(Undecided),
}

/// The shortest prefix of a part that has no order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Violation {
    /// All operations of the part that were invoked before `stuck` returned and did not fail, in
    /// order of invocation.
    pub prefix: Vec<OpId>,
    /// The operation that can not be done in time, whatever was done before. Everything that
    /// returned before it can be explained.
    pub stuck: OpId,
}

/// How far the search got.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Undecided {
    /// Operations with an output, in parts that were decided, or in the longest prefix of one that
    /// was not for which an order is known.
    pub covered: usize,
    /// Operations with an output in all.
    pub of: usize,
    /// What ran out.
    pub why: Why,
}

/// What ended a search early.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Why {
    /// [`Budget::steps`].
    Steps,
    /// [`Budget::bytes`].
    Memory,
    /// [`Budget::cancel`].
    Cancelled,
    /// More than [`CONCURRENT_MAX`] operations in flight at one time.
    Concurrency,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Why::Steps => "the budget of steps is spent",
            Why::Memory => "the budget of memory is spent",
            Why::Cancelled => "it was cancelled",
            Why::Concurrency => "too many operations are in flight at one time",
        })
    }
}

/// A verdict, and what it took.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Report {
    /// The answer.
    pub verdict: Verdict,
    /// Parts of the history that were independent of each other.
    pub parts: usize,
    /// Steps taken.
    pub steps: u64,
    /// Most memory that one search held. Unit: bytes.
    pub bytes: u64,
}

/// Checks a history with the default budget.
pub fn check<M: Model>(model: &M, history: &HistoryOf<M>) -> Report {
    let mut never = || false;
    let budget = Budget { steps: STEPS_DEFAULT, bytes: BYTES_DEFAULT, cancel: &mut never };
    check_within(model, history, budget)
}

/// Checks a history. Small parts come first; a part that is too hard does not keep the others from
/// being decided, and a violation in any of them decides all.
pub fn check_within<M: Model>(model: &M, history: &HistoryOf<M>, budget: Budget<'_>) -> Report {
    let parts = split(model, history.operations());
    let of = parts.iter().map(|part| outputs(history, part)).sum();
    let mut report = Report { verdict: Verdict::Holds, parts: parts.len(), steps: 0, bytes: 0 };
    let mut covered = 0;
    let mut why = None;
    for (at, part) in parts.iter().enumerate() {
        let share = (budget.steps - report.steps) / (parts.len() - at) as u64;
        let limits = Budget { steps: share, bytes: budget.bytes, cancel: &mut *budget.cancel };
        let outcome = search_part(model, history, part, limits);
        report.steps += outcome.steps.min(share);
        report.bytes = report.bytes.max(outcome.bytes);
        match outcome.end {
            End::Holds => covered += outputs(history, part),
            End::Stuck { at } => {
                let (prefix, stuck) = (outcome.prefix(history, part, at), outcome.returns[at]);
                report.verdict = Verdict::Violated(Violation { prefix, stuck });
                return report;
            }
            End::Spent { covered: some, why: what } => {
                covered += some;
                why = Some(what);
            }
        }
    }
    if let Some(why) = why {
        report.verdict = Verdict::Undecided(Undecided { covered, of, why });
    }
    report
}

fn outputs<I, O>(history: &History<I, O>, part: &[OpId]) -> usize {
    let has_output = |id: &&OpId| history.operation(**id).deadline().is_some();
    part.iter().filter(has_output).count()
}

/// The operations that count, part by part, small parts first.
fn split<M: Model>(model: &M, operations: &[Operation<M::Input, M::Output>]) -> Vec<Vec<OpId>> {
    let counts = |operation: &Operation<M::Input, M::Output>| match operation.outcome {
        Outcome::Ok(_) => true,
        Outcome::Failed => false,
        Outcome::Unknown => !model.is_read(&operation.input, None),
    };
    let ids: Vec<OpId> =
        (0..operations.len()).map(OpId).filter(|id| counts(&operations[id.0])).collect();
    let inputs: Vec<&M::Input> = ids.iter().map(|id| &operations[id.0].input).collect();
    let numbers = model.parts(&inputs);
    assert_eq!(numbers.len(), ids.len(), "each operation is of one part");
    let count = numbers.iter().max().map_or(0, |most| most + 1);
    let mut parts: Vec<Vec<OpId>> = vec![Vec::new(); count];
    for (id, number) in ids.into_iter().zip(numbers) {
        parts[number].push(id);
    }
    parts.retain(|part| !part.is_empty());
    parts.sort_by_key(Vec::len);
    parts
}

/// How the search of one part ended.
struct PartEnd {
    end: End,
    returns: Vec<OpId>,
    steps: u64,
    bytes: u64,
}

impl PartEnd {
    /// What was invoked before the return of number `at`.
    fn prefix<I, O>(&self, history: &History<I, O>, part: &[OpId], at: usize) -> Vec<OpId> {
        let end = history.operation(self.returns[at]).deadline().expect("it returned");
        part.iter().copied().filter(|id| history.operation(*id).invoked < end).collect()
    }
}

fn search_part<M: Model>(
    model: &M,
    history: &HistoryOf<M>,
    part: &[OpId],
    budget: Budget<'_>,
) -> PartEnd {
    let entries = part.iter().map(|id| plan::Entry::of(history, *id)).collect();
    let plan = Plan::new(model, entries);
    let returns = plan.returned();
    let (end, steps, bytes) = run(model, &plan, budget, None);
    PartEnd { end, returns, steps, bytes }
}

/// Runs a search over as few words as the widest moment of the plan needs.
fn run<M: Model>(
    model: &M,
    plan: &Plan<'_, M>,
    budget: Budget<'_>,
    track: Option<&mut search::Track>,
) -> (End, u64, u64) {
    match plan.slots {
        0..=64 => Search::<M, 1>::new(model, plan, budget).run(track),
        65..=128 => Search::<M, 2>::new(model, plan, budget).run(track),
        129..=CONCURRENT_MAX => Search::<M, 16>::new(model, plan, budget).run(track),
        _ => (End::Spent { covered: 0, why: Why::Concurrency }, 0, 0),
    }
}
