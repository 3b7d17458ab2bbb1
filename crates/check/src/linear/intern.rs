//! States by number: each distinct state is kept once, and compared by its number afterwards.

use crate::hash::{Folding, fold};
use std::hash::{Hash, Hasher};

const NONE: u32 = u32::MAX;

/// The states that a search has met.
pub(super) struct Interner<S> {
    states: Vec<S>,
    links: Vec<(u64, u32)>, // hash of the state, next of the same head
    heads: Vec<u32>,
    heap_bytes: u64,
}

impl<S: Hash + Eq> Interner<S> {
    pub(super) fn new() -> Self {
        Interner { states: Vec::new(), links: Vec::new(), heads: vec![NONE; 64], heap_bytes: 0 }
    }

    /// The number of a state; `heap_bytes` is what it holds outside itself.
    pub(super) fn number(&mut self, state: S, heap_bytes: usize) -> u32 {
        let mut hasher = Folding::default();
        state.hash(&mut hasher);
        let hash = hasher.finish();
        let head = self.place(hash);
        let mut link = self.heads[head];
        while link != NONE {
            let (other, next) = self.links[link as usize];
            if other == hash && self.states[link as usize] == state {
                return link;
            }
            link = next;
        }
        let number = self.states.len() as u32;
        self.links.push((hash, self.heads[head]));
        self.heads[head] = number;
        self.states.push(state);
        self.heap_bytes += heap_bytes as u64;
        if self.states.len() > self.heads.len() {
            self.grow();
        }
        number
    }

    /// The state of a number.
    pub(super) fn state(&self, number: u32) -> &S {
        &self.states[number as usize]
    }

    /// How much memory it holds.
    pub(super) fn bytes(&self) -> u64 {
        let each = self.states.capacity() * size_of::<S>() + self.links.capacity() * 16;
        (each + self.heads.capacity() * 4) as u64 + self.heap_bytes
    }

    fn place(&self, hash: u64) -> usize {
        (fold(hash, 0) as usize) & (self.heads.len() - 1)
    }

    fn grow(&mut self) {
        self.heads = vec![NONE; self.heads.len() * 4];
        for at in 0..self.links.len() {
            let head = self.place(self.links[at].0);
            self.links[at].1 = self.heads[head];
            self.heads[head] = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_states_have_one_number_and_others_have_others() {
        let mut interner = Interner::new();
        let first: Vec<u32> = (0..1000).map(|state: u64| interner.number(state, 0)).collect();
        let again: Vec<u32> = (0..1000).map(|state: u64| interner.number(state, 0)).collect();
        assert_eq!(first, again);
        assert_eq!(first, (0..1000).collect::<Vec<u32>>());
        assert_eq!(*interner.state(17), 17);
    }
}
