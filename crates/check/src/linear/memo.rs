//! Configurations that are known to lead nowhere, or are being tried.
//!
//! A configuration is (next return, operations done early, state, operations of unknown outcome
//! that were used). The first three are the key. Under one key stands a list of what was used; a
//! new configuration is known if one of the list used nothing that it did not use itself, because
//! what is left over can only help.
//!
//! ```text
//! heads[hash]  ->  entry -> entry -> ...      chains through `next`, all keys of one hash
//!                    `used` lies in `counts`: pairs (class, how many), only those above 0
//! ```
//!
//! Bound: the caller adds up [`Memo::bytes`] and stops.

use crate::hash::fold;

/// No entry.
const NONE: u32 = u32::MAX;

/// What must be equal.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Key<const W: usize> {
    pub(super) at: u32,
    pub(super) state: u32,
    pub(super) done: [u64; W],
}

impl<const W: usize> Key<W> {
    fn hash(&self) -> u64 {
        let first = fold(0x51, u64::from(self.at) << 32 | u64::from(self.state));
        self.done.iter().fold(first, |hash, word| fold(hash, *word))
    }
}

struct Entry<const W: usize> {
    key: Key<W>,
    next: u32,
    used_from: u32,
    used_count: u32,
}

/// The table.
pub(super) struct Memo<const W: usize> {
    heads: Vec<u32>,
    entries: Vec<Entry<W>>,
    counts: Vec<(u32, u32)>,
}

impl<const W: usize> Memo<W> {
    pub(super) fn new() -> Self {
        Memo { heads: vec![NONE; 64], entries: Vec::new(), counts: Vec::new() }
    }

    /// How much memory it holds.
    pub(super) fn bytes(&self) -> u64 {
        let entries = self.entries.capacity() * size_of::<Entry<W>>();
        (entries + self.heads.capacity() * 4 + self.counts.capacity() * 8) as u64
    }

    /// Adds a configuration and says whether it was new. `used` counts by class; `classes` are
    /// those that are not 0.
    pub(super) fn insert(&mut self, key: Key<W>, used: &[u32], classes: &[u32]) -> bool {
        let head = self.place(&key);
        let mut link = self.heads[head];
        while link != NONE {
            let entry = &self.entries[link as usize];
            if entry.key == key && self.used_no_more(entry, used) {
                return false;
            }
            link = entry.next;
        }
        let used_from = self.counts.len() as u32;
        self.counts.extend(classes.iter().map(|class| (*class, used[*class as usize])));
        let (next, used_count) = (self.heads[head], classes.len() as u32);
        self.heads[head] = self.entries.len() as u32;
        self.entries.push(Entry { key, next, used_from, used_count });
        if self.entries.len() > self.heads.len() {
            self.grow();
        }
        true
    }

    fn used_no_more(&self, entry: &Entry<W>, used: &[u32]) -> bool {
        let from = entry.used_from as usize;
        let counts = &self.counts[from..from + entry.used_count as usize];
        counts.iter().all(|(class, count)| *count <= used[*class as usize])
    }

    fn place(&self, key: &Key<W>) -> usize {
        (key.hash() as usize) & (self.heads.len() - 1)
    }

    fn grow(&mut self) {
        self.heads = vec![NONE; self.heads.len() * 4];
        for at in 0..self.entries.len() {
            let head = self.place(&self.entries[at].key);
            self.entries[at].next = self.heads[head];
            self.heads[head] = at as u32;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(at: u32, state: u32, done: u64) -> Key<1> {
        Key { at, state, done: [done] }
    }

    #[test]
    fn each_part_of_the_key_counts() {
        let mut memo = Memo::new();
        for key in [key(0, 0, 0), key(1, 0, 0), key(0, 1, 0), key(0, 0, 1)] {
            assert!(memo.insert(key, &[], &[]));
            assert!(!memo.insert(key, &[], &[]));
        }
    }

    #[test]
    fn who_used_more_is_known_and_who_used_less_is_new() {
        let mut memo = Memo::new();
        assert!(memo.insert(key(0, 0, 0), &[1, 0], &[0]));
        assert!(!memo.insert(key(0, 0, 0), &[1, 1], &[1, 0]), "it used one more");
        assert!(memo.insert(key(0, 0, 0), &[0, 3], &[1]), "it used something else");
        assert!(memo.insert(key(0, 0, 0), &[0, 0], &[]), "it used nothing");
        assert!(!memo.insert(key(0, 0, 0), &[0, 1], &[1]));
    }

    #[test]
    fn nothing_is_forgotten_while_it_grows() {
        let mut memo = Memo::new();
        for at in 0..5000 {
            assert!(memo.insert(key(at, at % 7, u64::from(at) << 20), &[], &[]));
        }
        for at in 0..5000 {
            assert!(!memo.insert(key(at, at % 7, u64::from(at) << 20), &[], &[]));
        }
        assert!(memo.bytes() > 5000 * 16);
    }
}
