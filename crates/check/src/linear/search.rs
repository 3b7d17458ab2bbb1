//! The search itself: depth first, with undo.
//!
//! A configuration stands *just before a return* `at`: everything that returned earlier is done,
//! and of those in flight a few are done early (`done`, by slot). From there:
//!
//! ```text
//! settle    do the reads that fit; pass every return whose operation is done
//! know      a dead end, or tried already: go back                                   (memo.rs)
//! branch    the operation that returns next; others in flight, by deadline;
//!           then one of unknown outcome of each class
//! ```
//!
//! A branch on an unknown outcome must matter at once: `before` keeps the state in which it had not
//! happened, and a next operation that comes out equal there is skipped. That order is tried
//! without the unknown one, which leaves more for later. Nothing is lost by it: a configuration so
//! skipped is no better than one that is tried.

use super::intern::Interner;
use super::memo::{Key, Memo};
use super::plan::{Op, Plan};
use super::{Budget, Model, Why};
use crate::hash::Table;
use crate::history::OpId;

/// No state: the output does not fit, or there is no state to compare with.
const NONE: u32 = u32::MAX;

/// The caller is asked, and memory is weighed, once in so many configurations.
const CONFIGURATIONS_PER_LOOK: u64 = 1 << 10;

/// What came out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// There is an order.
    Holds,
    /// No order passes the return of number `at`.
    Stuck { at: usize },
    /// Not known; `covered` returns were passed on the best way.
    Spent { covered: usize, why: Why },
}

/// Which of the orders that get to one return is wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Wish {
    /// The longest of those met.
    Longest,
    /// The first: unknown outcomes are tried last, so it uses few of them.
    First,
}

/// An order that gets to one return, if somebody wants it.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) target: u32,
    pub(super) wish: Wish,
    pub(super) order: Vec<OpId>,
}

struct Frame<const W: usize> {
    key: Key<W>,
    cursor: u32,
    /// Length of the path before this configuration was entered.
    path_from: u32,
    /// The class that was used to get here, or `NONE`.
    class: u32,
    /// The state without it, as long as it has not mattered, or `NONE`.
    before: u32,
}

/// One search over one plan.
pub(super) struct Search<'a, 'b, M: Model, const W: usize> {
    model: &'a M,
    plan: &'a Plan<'a, M>,
    budget: Budget<'b>,
    states: Interner<M::State>,
    next: Table<u64, u32>,
    memo: Memo<W>,
    used: Vec<u32>,
    used_classes: Vec<u32>,
    path: Vec<u32>,
    frames: Vec<Frame<W>>,
    steps: u64,
    reached: u32,
}

impl<'a, 'b, M: Model, const W: usize> Search<'a, 'b, M, W> {
    pub(super) fn new(model: &'a M, plan: &'a Plan<'a, M>, budget: Budget<'b>) -> Self {
        Search {
            model,
            plan,
            budget,
            states: Interner::new(),
            next: Table::default(),
            memo: Memo::new(),
            used: vec![0; plan.classes.len()],
            used_classes: Vec::new(),
            path: Vec::new(),
            frames: Vec::new(),
            steps: 0,
            reached: 0,
        }
    }

    /// Searches; gives the end, the steps, and the bytes.
    pub(super) fn run(mut self, mut track: Option<&mut Track>) -> (End, u64, u64) {
        let initial = self.model.initial();
        let state = self.intern(initial);
        let key = Key { at: 0, state, done: [0; W] };
        let mut rounds = 0_u64;
        let mut is_over = self.enter(key, NONE, NONE, &mut track);
        while !is_over {
            rounds += 1;
            if let Some(why) = self.spent(rounds) {
                let end = End::Spent { covered: self.reached as usize, why };
                return (end, self.steps, self.bytes());
            }
            if self.frames.is_empty() {
                let end = End::Stuck { at: self.reached as usize };
                return (end, self.steps, self.bytes());
            }
            is_over = self.advance(&mut track);
        }
        (End::Holds, self.steps, self.bytes())
    }

    fn spent(&mut self, rounds: u64) -> Option<Why> {
        if self.steps >= self.budget.steps {
            return Some(Why::Steps);
        }
        if !rounds.is_multiple_of(CONFIGURATIONS_PER_LOOK) {
            return None;
        }
        if self.bytes() > self.budget.bytes {
            return Some(Why::Memory);
        }
        (self.budget.cancel)().then_some(Why::Cancelled)
    }

    fn bytes(&self) -> u64 {
        let frames = self.frames.capacity() * size_of::<Frame<W>>() + self.path.capacity() * 4;
        let next = self.next.capacity() * 17;
        self.memo.bytes() + self.states.bytes() + (frames + next) as u64
    }

    fn intern(&mut self, state: M::State) -> u32 {
        let heap_bytes = self.model.heap_bytes(&state);
        self.states.number(state, heap_bytes)
    }

    /// The state after operation (or, counted on, class) `action`, or `NONE`.
    fn after(&mut self, state: u32, action: u32) -> u32 {
        self.steps += 1;
        let place = u64::from(state) << 32 | u64::from(action);
        if let Some(next) = self.next.get(&place) {
            return *next;
        }
        let from = self.states.state(state);
        let next = match self.plan.ops.get(action as usize) {
            Some(op) => self.model.step(from, op.input, Some(op.output)),
            None => {
                let class = &self.plan.classes[action as usize - self.plan.ops.len()];
                self.model.step(from, class.input, None)
            }
        };
        let next = next.map_or(NONE, |next| self.intern(next));
        self.next.insert(place, next);
        next
    }

    /// Takes a configuration as far as it goes without a choice, and puts it on the stack if it is
    /// new. True if the end of the history is reached.
    fn enter(
        &mut self,
        mut key: Key<W>,
        class: u32,
        mut before: u32,
        track: &mut Option<&mut Track>,
    ) -> bool {
        let plan = self.plan;
        let path_from = self.path.len() as u32 - u32::from(!self.frames.is_empty());
        loop {
            if key.at as usize == plan.returns.len() {
                return true;
            }
            let open = plan.open_at(key.at);
            for &op in open {
                let Op { slot, is_read, .. } = plan.ops[op as usize];
                let fits = is_read && !has(&key.done, slot);
                if fits && self.after(key.state, op) == key.state {
                    put(&mut key.done, slot);
                    self.path.push(op);
                    before = NONE;
                }
            }
            let slot = plan.ops[open[0] as usize].slot;
            if !has(&key.done, slot) {
                break;
            }
            take(&mut key.done, slot);
            key.at += 1;
            before = NONE;
        }
        self.reached = self.reached.max(key.at);
        if let Some(track) = track.as_deref_mut() {
            self.follow(key.at, track);
        }
        if self.memo.insert(key, &self.used, &self.used_classes) {
            self.frames.push(Frame { key, cursor: 0, path_from, class, before });
        } else {
            self.leave(path_from, class);
        }
        false
    }

    /// Undoes what led to a configuration.
    fn leave(&mut self, path_from: u32, class: u32) {
        self.path.truncate(path_from as usize);
        if class != NONE {
            self.used[class as usize] -= 1;
            if self.used[class as usize] == 0 {
                self.used_classes.pop();
            }
        }
    }

    /// Tries the next branch of the newest configuration, or goes back.
    fn advance(&mut self, track: &mut Option<&mut Track>) -> bool {
        let plan = self.plan;
        let frame = self.frames.last_mut().expect("it was looked at");
        let (key, before, cursor) = (frame.key, frame.before, frame.cursor as usize);
        frame.cursor += 1;
        let open = plan.open_at(key.at);
        if let Some(&op) = open.get(cursor) {
            let slot = plan.ops[op as usize].slot;
            if has(&key.done, slot) {
                return false;
            }
            let Some(state) = self.matters(key.state, before, op) else { return false };
            let mut done = key.done;
            put(&mut done, slot);
            self.path.push(op);
            return self.enter(Key { state, done, ..key }, NONE, NONE, track);
        }
        let class = cursor - open.len();
        let is_begun = |class: usize| plan.classes[class].members[0].1 <= key.at;
        if class >= plan.classes.len() || !is_begun(class) {
            let frame = self.frames.pop().expect("it was looked at");
            self.leave(frame.path_from, frame.class);
            return false;
        }
        let member = plan.classes[class].members.get(self.used[class] as usize);
        if member.is_none_or(|(_, from)| *from > key.at) {
            return false;
        }
        let action = (plan.ops.len() + class) as u32;
        let Some(state) = self.matters(key.state, before, action) else { return false };
        if state == key.state {
            return false; // an unknown outcome that changes nothing is kept for later
        }
        if self.used[class] == 0 {
            self.used_classes.push(class as u32);
        }
        self.used[class] += 1;
        self.path.push(action);
        self.enter(Key { state, ..key }, class as u32, key.state, track)
    }

    /// The state after `action`, unless it does not fit, or comes out the same without the unknown
    /// outcome before it.
    fn matters(&mut self, state: u32, before: u32, action: u32) -> Option<u32> {
        let next = self.after(state, action);
        if next == NONE {
            return None;
        }
        (before == NONE || self.after(before, action) != next).then_some(next)
    }

    fn follow(&self, at: u32, track: &mut Track) {
        let is_better = match track.wish {
            Wish::Longest => self.path.len() > track.order.len(),
            Wish::First => track.order.is_empty(),
        };
        if at != track.target || !is_better {
            return;
        }
        let mut seen = vec![0_usize; self.plan.classes.len()];
        let name = |action: &u32| match self.plan.ops.get(*action as usize) {
            Some(op) => op.id,
            None => {
                let class = *action as usize - self.plan.ops.len();
                seen[class] += 1;
                self.plan.classes[class].members[seen[class] - 1].0
            }
        };
        track.order = self.path.iter().map(name).collect();
    }
}

fn has<const W: usize>(done: &[u64; W], slot: u16) -> bool {
    done[usize::from(slot) / 64] >> (slot % 64) & 1 == 1
}

fn put<const W: usize>(done: &mut [u64; W], slot: u16) {
    done[usize::from(slot) / 64] |= 1 << (slot % 64);
}

fn take<const W: usize>(done: &mut [u64; W], slot: u16) {
    done[usize::from(slot) / 64] &= !(1 << (slot % 64));
}
