//! Version vectors with dots: which of two values replaces the other, and which are *siblings*.
//!
//! **Problem.** A value is kept by several nodes, and each of them takes writes, of many clients,
//! without asking the others. A write replaces what its client had read. What was written
//! concurrently must be kept, side by side, until somebody who has read both writes again.
//!
//! **Idea.** Each write gets a *dot*: the node that took it, and a number of that node. A *context*
//! is a vector that says up to which number each node's writes are known. A client reads values and
//! a context, and gives the context back with its write: whatever the context covers is replaced.
//!
//! ```text
//!   n1:  write a, knowing nothing      {a: n1.1}             context [n1:1]
//!        write b, knowing nothing      {a: n1.1, b: n1.2}    context [n1:2]   siblings
//!        write c, knowing [n1:2]       {c: n1.3}             context [n1:3]   replaces both
//! ```
//!
//! The dot is what a plain version vector lacks: there, the second write above would be stamped
//! `[n1:2]`, which is greater than `[n1:1]`, and `a` would be lost although its writer and that of
//! `b` knew nothing of each other.
//!
//! **Guarantees.** *No lost sibling*: a value disappears only where a write is known whose client
//! had read it. *No false conflict*: a value that such a write has replaced is nowhere shown beside
//! it. *Convergence*: merging is commutative, associative and idempotent.
//!
//! **Bounds.** A node refuses a write that would leave more than [`SIBLINGS_MAX`] values: its
//! client must read and give back the context first. By merging there can be as many for each node.
//! A context grows with the number of nodes, not of clients.
//!
//! **Sources.** Parker et al., "Detection of Mutual Inconsistency in Distributed Systems" (1983),
//! for version vectors; Preguiça, Baquero, Almeida, Fonte and Gonçalves, "Dotted Version Vectors"
//! (2010).

use quorate_core::NodeId;
use std::collections::BTreeMap;
use std::fmt;

/// Values that a node keeps side by side when it takes a write.
pub const SIBLINGS_MAX: usize = 64;

/// The name of a write: which node took it, and the how-manieth of that node it was.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Dot {
    /// Who took it.
    pub node: NodeId,
    /// Counted from 1.
    pub counter: u64,
}

/// Which writes are known: of each node, all up to a number.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Context {
    known: BTreeMap<NodeId, u64>,
}

impl Context {
    /// True if that write is known.
    pub fn covers(&self, dot: Dot) -> bool {
        dot.counter <= self.last(dot.node)
    }

    fn last(&self, node: NodeId) -> u64 {
        self.known.get(&node).copied().unwrap_or(0)
    }

    fn join(&mut self, other: &Context) {
        for (node, counter) in &other.known {
            let own = self.known.entry(*node).or_default();
            *own = (*own).max(*counter);
        }
    }
}

/// Why a write was not taken. Definite.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// It would be one sibling too many: read, and write with the context that was read.
    TooManySiblings,
    /// The context knows of writes which this node should have taken, and did not.
    ContextFromTheFuture {
        /// Numbered by so much more than was given here.
        ahead: u64,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::TooManySiblings => write!(
                f,
                "{SIBLINGS_MAX} values are kept side by side; read them, and write with the context"
            ),
            Refusal::ContextFromTheFuture { ahead } => write!(
                f,
                "the context knows {ahead} writes of this node that it never took; read again, and \
                 if it remains, the node has lost its state: give it a new name"
            ),
        }
    }
}

impl std::error::Error for Refusal {}

/// The values of one key at one node, with what is known of their writes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Siblings<T> {
    values: BTreeMap<Dot, T>,
    context: Context,
}

impl<T> Default for Siblings<T> {
    fn default() -> Self {
        Siblings { values: BTreeMap::new(), context: Context::default() }
    }
}

impl<T: Clone> Siblings<T> {
    /// The values, each with the name of its write.
    pub fn values(&self) -> impl Iterator<Item = (Dot, &T)> {
        self.values.iter().map(|(dot, value)| (*dot, value))
    }

    /// What a client gives back with the write that shall replace what it has read.
    pub fn context(&self) -> &Context {
        &self.context
    }

    /// Node `at` takes a write of a client that had read `read`.
    ///
    /// Errors: see [`Refusal`]; nothing has changed then.
    pub fn write(&mut self, at: NodeId, read: &Context, value: T) -> Result<Dot, Refusal> {
        let last = self.context.last(at);
        if read.last(at) > last {
            return Err(Refusal::ContextFromTheFuture { ahead: read.last(at) - last });
        }
        let remaining = self.values.keys().filter(|dot| !read.covers(**dot)).count();
        if remaining >= SIBLINGS_MAX {
            return Err(Refusal::TooManySiblings);
        }
        let counter = last.checked_add(1).expect("nobody counts so far");
        let dot = Dot { node: at, counter };
        self.values.retain(|dot, _| !read.covers(*dot));
        self.values.insert(dot, value);
        self.context.join(read);
        self.context.known.insert(at, counter);
        Ok(dot)
    }

    /// Learns what another node knows.
    pub fn merge(&mut self, other: &Siblings<T>) {
        // What the other knows of and no longer has, it has seen replaced.
        self.values.retain(|dot, _| other.values.contains_key(dot) || !other.context.covers(*dot));
        for (dot, value) in &other.values {
            if !self.context.covers(*dot) {
                self.values.insert(*dot, value.clone());
            }
        }
        self.context.join(&other.context);
    }

    /// Panics: if a value is kept of whose write nothing is known.
    pub fn invariants(&self) {
        let known = self.values.keys().all(|dot| self.context.covers(*dot));
        assert!(known, "a value that the context does not cover");
    }
}

#[cfg(test)]
mod tests {
    use super::super::causality::{Dice, TRACES};
    use super::*;

    const N1: NodeId = NodeId(1);

    fn shown(siblings: &Siblings<usize>) -> u64 {
        siblings.values().fold(0, |set, (_, write)| set | 1 << write)
    }

    /// The picture above.
    #[test]
    fn who_has_read_both_replaces_both() {
        let mut siblings = Siblings::default();
        siblings.write(N1, &Context::default(), 0).expect("taken");
        siblings.write(N1, &Context::default(), 1).expect("taken");
        assert_eq!(shown(&siblings), 0b11, "neither knew of the other");
        let read = siblings.context().clone();
        siblings.write(N1, &read, 2).expect("taken");
        assert_eq!(shown(&siblings), 0b100);
    }

    /// What a version vector per node concludes: the second write is greater, and the first lost.
    #[test]
    fn without_the_dot_a_sibling_would_be_lost() {
        let mut siblings = Siblings::default();
        siblings.write(N1, &Context::default(), 0).expect("taken");
        let first = siblings.context().clone();
        siblings.write(N1, &Context::default(), 1).expect("taken");
        let second = siblings.context();
        assert!(first.last(N1) < second.last(N1));
        assert_eq!(siblings.values().count(), 2);
    }

    #[test]
    fn one_sibling_too_many_is_refused_and_so_is_a_context_from_nowhere() {
        let mut siblings = Siblings::default();
        for write in 0..SIBLINGS_MAX {
            siblings.write(N1, &Context::default(), write).expect("there is room");
        }
        let refused = siblings.write(N1, &Context::default(), 99);
        assert_eq!(refused, Err(Refusal::TooManySiblings));
        let read = siblings.context().clone();
        siblings.write(N1, &read, 99).expect("it replaces them");
        let mut elsewhere = Siblings::default();
        let refused = elsewhere.write(N1, &read, 1);
        assert_eq!(refused, Err(Refusal::ContextFromTheFuture { ahead: SIBLINGS_MAX as u64 }));
        siblings.invariants();
    }

    /// What truly happened: of each write, the writes that its client knew of.
    #[derive(Default)]
    struct Truth {
        past: Vec<u64>,
    }

    impl Truth {
        /// Of the writes that are known, those which no other known write has replaced.
        fn current(&self, known: u64) -> u64 {
            let of = |write: &usize| known >> write & 1 == 1;
            let replaced = (0..self.past.len()).filter(of).fold(0, |set, w| set | self.past[w]);
            known & !replaced
        }
    }

    struct Place {
        siblings: Siblings<usize>,
        /// The writes that it has heard of.
        known: u64,
    }

    #[test]
    fn no_sibling_is_lost_and_no_conflict_is_false() {
        let mut conflicts = 0_u64;
        for seed in 0..TRACES {
            let mut dice = Dice(seed ^ 0x5eed);
            let nodes = 2 + dice.below(2) as usize;
            let place = || Place { siblings: Siblings::default(), known: 0 };
            let mut places: Vec<Place> = (0..nodes).map(|_| place()).collect();
            let mut clients = vec![(Context::default(), 0_u64); 3];
            let mut truth = Truth::default();
            for _ in 0..24 {
                let at = dice.below(nodes as u64) as usize;
                let client = dice.below(3) as usize;
                match dice.below(3) {
                    0 => {
                        clients[client] = (places[at].siblings.context().clone(), places[at].known);
                    }
                    1 => {
                        let (context, known) = &clients[client];
                        let write = truth.past.len();
                        let place = &mut places[at];
                        let name = NodeId(at as u64 + 1);
                        place.siblings.write(name, context, write).expect("few writes");
                        truth.past.push(*known);
                        place.known |= known | 1 << write;
                    }
                    _ => {
                        let from = dice.below(nodes as u64) as usize;
                        let (siblings, known) = (places[from].siblings.clone(), places[from].known);
                        places[at].siblings.merge(&siblings);
                        places[at].known |= known;
                    }
                }
                let place = &places[at];
                place.siblings.invariants();
                assert_eq!(shown(&place.siblings), truth.current(place.known), "seed {seed}");
                conflicts += u64::from(place.siblings.values().count() > 1);
            }
        }
        assert!(conflicts > 0, "nothing was ever written concurrently");
    }

    #[test]
    fn merging_is_commutative_associative_and_idempotent() {
        for seed in 0..1_000 {
            let mut dice = Dice(seed);
            let mut places = vec![Siblings::default(); 3];
            for write in 0..12 {
                let at = dice.below(3) as usize;
                let read = match dice.below(2) {
                    0 => Context::default(),
                    _ => places[at].context().clone(),
                };
                places[at].write(NodeId(at as u64 + 1), &read, write).expect("few writes");
                let from = places[dice.below(3) as usize].clone();
                places[at].merge(&from);
            }
            let merged = |order: [usize; 4]| {
                let mut all = places[order[0]].clone();
                order[1..].iter().for_each(|place| all.merge(&places[*place]));
                all
            };
            let all = merged([0, 1, 2, 2]);
            assert_eq!(merged([2, 0, 1, 0]), all, "seed {seed}");
            let mut pair = places[1].clone();
            pair.merge(&places[2]);
            let mut other = places[0].clone();
            other.merge(&pair);
            assert_eq!(other, all, "seed {seed}");
        }
    }
}
