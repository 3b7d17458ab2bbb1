//! Why a history has no order, with as few operations as possible.
//!
//! *Problem.* A prefix of a hundred operations is no explanation. Deleting operations while the
//! rest is still violated goes wrong: without the write of 3, a read of 3 is a violation, and a
//! wrong one. *Idea.* An operation is not deleted but *released*: its outcome becomes unknown, so
//! that the order may use it at any time after its invocation, or not at all. Released operations
//! allow more orders than before, so what is still violated is violated *because of the others*.
//! Chunks are released first, then single operations (Zeller and Hildebrandt's delta debugging).
//!
//! *Guaranteed.* The core alone is a violated history, and stays one whatever the released
//! operations did. If `is_minimal`, no further operation of it can be released.
//!
//! *Bounds.* One budget for all trials; each trial may take so many times the steps of the search
//! that found the violation, and one that takes more counts as not violated.
//!
//! Source: Zeller and Hildebrandt, "Simplifying and Isolating Failure-Inducing Input", 2002.

use super::plan::{Entry, Plan};
use super::search::{End, Track, Wish};
use super::{Budget, HistoryOf, Model, Violation, run};
use crate::history::OpId;

/// A trial may take so many times the steps of the first search.
const TRIAL_FACTOR: u64 = 16;
/// And always so many.
const TRIAL_STEPS_MIN: u64 = 100_000;

/// The story of a violation.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// Operations that contradict each other, in order of invocation: a violated history by
    /// themselves. The last return among them is that of [`Violation::stuck`].
    pub core: Vec<OpId>,
    /// Others that an order of the core makes use of.
    pub helpers: Vec<OpId>,
    /// An order of core and helpers that gets as far as the stuck operation.
    pub core_order: Vec<OpId>,
    /// The longest order of the whole prefix that does.
    pub order: Vec<OpId>,
    /// False if the budget was spent before everything was tried.
    pub is_minimal: bool,
    /// Steps taken.
    pub steps: u64,
}

struct Reducer<'a, 'b, M: Model> {
    model: &'a M,
    history: &'a HistoryOf<M>,
    prefix: &'a [OpId],
    is_released: Vec<bool>,
    budget: Budget<'b>,
    trial_steps: u64,
    steps: u64,
    is_complete: bool,
}

/// Reduces a violation to its core. The history must be the one that was checked.
pub fn explain<M: Model>(
    model: &M,
    history: &HistoryOf<M>,
    violation: &Violation,
    budget: Budget<'_>,
) -> Explanation {
    let mut reducer = Reducer {
        model,
        history,
        prefix: &violation.prefix,
        is_released: vec![false; violation.prefix.len()],
        trial_steps: budget.steps,
        budget,
        steps: 0,
        is_complete: true,
    };
    let order = reducer.order(violation.stuck, Wish::Longest);
    reducer.trial_steps = (reducer.steps * TRIAL_FACTOR).max(TRIAL_STEPS_MIN);
    let mut size = violation.prefix.len();
    while size > 0 {
        let has_released = reducer.pass(size, violation.stuck);
        if size > 1 || !has_released {
            size /= 2;
        }
    }
    let core: Vec<OpId> = reducer.kept().collect();
    let core_order = reducer.order(violation.stuck, Wish::First);
    let helpers = core_order.iter().copied().filter(|id| !core.contains(id)).collect();
    let (is_minimal, steps) = (reducer.is_complete, reducer.steps);
    Explanation { core, helpers, core_order, order, is_minimal, steps }
}

impl<'a, M: Model> Reducer<'a, '_, M> {
    fn kept(&self) -> impl Iterator<Item = OpId> {
        let pairs = self.prefix.iter().zip(&self.is_released);
        pairs.filter(|(_, is_released)| !**is_released).map(|(id, _)| *id)
    }

    /// Tries to release each chunk of `size`; true if one was.
    fn pass(&mut self, size: usize, stuck: OpId) -> bool {
        let mut has_released = false;
        for from in (0..self.prefix.len()).step_by(size) {
            let chunk = from..(from + size).min(self.prefix.len());
            let held: Vec<usize> =
                chunk.filter(|at| !self.is_released[*at] && self.prefix[*at] != stuck).collect();
            if held.is_empty() {
                continue;
            }
            held.iter().for_each(|at| self.is_released[*at] = true);
            if self.is_violated() {
                has_released = true;
            } else {
                held.iter().for_each(|at| self.is_released[*at] = false);
            }
        }
        has_released
    }

    fn plan(&self) -> Plan<'a, M> {
        let (model, history) = (self.model, self.history);
        let entries = self.prefix.iter().zip(&self.is_released);
        let entries = entries.filter_map(|(id, is_released)| {
            let entry = Entry::of(history, *id);
            if !is_released {
                return Some(entry);
            }
            (!model.is_read(entry.input, None)).then(|| entry.optional())
        });
        Plan::new(model, entries.collect())
    }

    fn is_violated(&mut self) -> bool {
        let end = self.search(None);
        self.is_complete &= !matches!(end, End::Spent { .. });
        matches!(end, End::Stuck { .. })
    }

    fn search(&mut self, track: Option<&mut Track>) -> End {
        let left = self.budget.steps.saturating_sub(self.steps);
        let plan = self.plan();
        let limits = Budget {
            steps: left.min(self.trial_steps),
            bytes: self.budget.bytes,
            cancel: &mut *self.budget.cancel,
        };
        let (end, steps, _) = run(self.model, &plan, limits, track);
        self.steps += steps;
        end
    }

    /// An order that gets to where `stuck` should return.
    fn order(&mut self, stuck: OpId, wish: Wish) -> Vec<OpId> {
        let returned = self.plan().returned();
        let target = returned.iter().position(|id| *id == stuck).unwrap_or_default();
        let mut track = Track { target: target as u32, wish, order: Vec::new() };
        self.search(Some(&mut track));
        track.order
    }
}
