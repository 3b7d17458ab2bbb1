//! One part of a history, laid out for the search: everything that does not depend on the order.
//!
//! ```text
//! op 0   |-----------|          returns, in order:  1  0  2
//! op 1      |--|                open[at], what may be done just before return `at`:
//! op 2            |----------|    at 0: 1 0     at 1: 0 2     at 2: 2
//! op 3         |- - - - - - -   of unknown outcome: class of its input, from return 1 on
//! slots  op 0: 0   op 1: 1   op 2: 1 (free again)
//! ```
//!
//! The operations in flight at one moment have different *slots*, which are used again: so the set
//! of those that are done early is a few bits, however long the history is.

use super::{CONCURRENT_MAX, Model};
use crate::hash::Table;
use crate::history::{History, OpId, Stamp};

/// An operation as the search sees it.
pub(super) struct Entry<'a, I, O> {
    pub(super) id: OpId,
    pub(super) input: &'a I,
    /// Output and deadline; `None` if the outcome is unknown.
    pub(super) answer: Option<(&'a O, Stamp)>,
    pub(super) invoked: Stamp,
}

impl<'a, I, O> Entry<'a, I, O> {
    pub(super) fn of(history: &'a History<I, O>, id: OpId) -> Self {
        let operation = history.operation(id);
        let answer = operation.outcome.output().zip(operation.deadline());
        Entry { id, input: &operation.input, answer, invoked: operation.invoked }
    }

    /// The same, as if the client had never heard of it.
    pub(super) fn optional(self) -> Self {
        Entry { answer: None, ..self }
    }
}

/// An operation with an output.
pub(super) struct Op<'a, M: Model> {
    pub(super) id: OpId,
    pub(super) input: &'a M::Input,
    pub(super) output: &'a M::Output,
    pub(super) slot: u16,
    pub(super) is_read: bool,
}

/// Equal operations of unknown outcome.
pub(super) struct Class<'a, M: Model> {
    pub(super) input: &'a M::Input,
    /// For each, in order of invocation: who it is, and from which return on it may be done.
    pub(super) members: Vec<(OpId, u32)>,
}

/// The layout.
pub(super) struct Plan<'a, M: Model> {
    /// Those with an output, in order of invocation.
    pub(super) ops: Vec<Op<'a, M>>,
    /// Places in `ops`, in order of return.
    pub(super) returns: Vec<u32>,
    /// `open[open_from[at]..open_from[at + 1]]`: places in `ops` of those in flight just before
    /// return `at`, the one that returns first, then as they will return.
    pub(super) open_from: Vec<u32>,
    pub(super) open: Vec<u32>,
    /// In order of their first member.
    pub(super) classes: Vec<Class<'a, M>>,
    /// How many slots are in use.
    pub(super) slots: usize,
}

impl<'a, M: Model> Plan<'a, M> {
    /// `entries` are in order of invocation.
    pub(super) fn new(model: &M, entries: Vec<Entry<'a, M::Input, M::Output>>) -> Self {
        let mut ops = Vec::new();
        let mut ends: Vec<(Stamp, u32)> = Vec::new();
        let mut begins: Vec<Stamp> = Vec::new();
        let mut optional = Vec::new();
        for entry in entries {
            let Entry { id, input, answer, invoked } = entry;
            let Some((output, deadline)) = answer else {
                optional.push((id, input, invoked));
                continue;
            };
            ends.push((deadline, ops.len() as u32));
            begins.push(invoked);
            let is_read = model.is_read(input, Some(output));
            ops.push(Op { id, input, output, slot: 0, is_read });
        }
        ends.sort_unstable();
        let mut plan = Plan {
            ops,
            returns: ends.iter().map(|(_, op)| *op).collect(),
            open_from: Vec::with_capacity(ends.len() + 1),
            open: Vec::new(),
            classes: classes::<M>(&optional, &ends),
            slots: 0,
        };
        plan.lay_out(&begins, &ends);
        plan
    }

    /// Slots, and who is in flight when.
    fn lay_out(&mut self, begins: &[Stamp], ends: &[(Stamp, u32)]) {
        let mut rank = vec![0_u32; ends.len()];
        for (at, (_, op)) in ends.iter().enumerate() {
            rank[*op as usize] = at as u32;
        }
        let mut free: Vec<u16> = Vec::new();
        let mut flying: Vec<u32> = Vec::new(); // ranks, ascending
        let mut next = 0;
        for (end, op) in ends {
            while next < begins.len() && begins[next] < *end {
                let at = flying.partition_point(|other| *other < rank[next]);
                flying.insert(at, rank[next]);
                let slot = free.pop().unwrap_or_else(|| {
                    self.slots += 1;
                    u16::try_from(self.slots - 1).unwrap_or(u16::MAX)
                });
                self.ops[next].slot = slot;
                next += 1;
            }
            if flying.len() > CONCURRENT_MAX {
                return; // more slots than any search takes; the rest would be large for nothing
            }
            self.open_from.push(self.open.len() as u32);
            self.open.extend(flying.iter().map(|rank| ends[*rank as usize].1));
            flying.remove(0);
            free.push(self.ops[*op as usize].slot);
        }
        self.open_from.push(self.open.len() as u32);
    }

    /// Who may be done just before return `at`.
    pub(super) fn open_at(&self, at: u32) -> &[u32] {
        let at = at as usize;
        &self.open[self.open_from[at] as usize..self.open_from[at + 1] as usize]
    }

    /// Those with an output, in order of return.
    pub(super) fn returned(&self) -> Vec<OpId> {
        self.returns.iter().map(|op| self.ops[*op as usize].id).collect()
    }
}

/// Equal inputs together; each may be done from the first return after its invocation on.
fn classes<'a, M: Model>(
    optional: &[(OpId, &'a M::Input, Stamp)],
    ends: &[(Stamp, u32)],
) -> Vec<Class<'a, M>> {
    let mut places: Table<&M::Input, usize> = Table::default();
    let mut classes: Vec<Class<'a, M>> = Vec::new();
    for (id, input, invoked) in optional {
        let from = ends.partition_point(|(end, _)| end < invoked) as u32;
        let place = *places.entry(*input).or_insert_with(|| {
            classes.push(Class { input, members: Vec::new() });
            classes.len() - 1
        });
        classes[place].members.push((*id, from));
    }
    classes
}
