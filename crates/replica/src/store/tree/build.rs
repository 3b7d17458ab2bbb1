//! Building a tree from ascending entries.

use super::{Child, INNER_MAX, Inner, LEAF_MAX, Tree};

/// Makes a tree of full nodes from ascending entries, in O(1) amortized per entry.
pub struct Builder<K, V> {
    leaf: Vec<(K, V)>,
    levels: Vec<Level<K, V>>,
}

/// The rightmost inner node under construction at one height.
struct Level<K, V> {
    first: K,
    inner: Inner<K, V>,
}

impl<K, V> Builder<K, V> {
    /// A builder of an empty tree.
    pub fn new() -> Builder<K, V> {
        Builder { leaf: Vec::new(), levels: Vec::new() }
    }
}

impl<K: Clone + Ord, V> Builder<K, V> {
    /// Adds the next entry. Panics: if its key is not larger than the one before.
    pub fn push(&mut self, key: K, value: V) {
        if let Some((last, _)) = self.leaf.last() {
            assert!(*last < key, "bulk input must ascend");
        }
        if self.leaf.len() == LEAF_MAX {
            self.flush_leaf();
        }
        if self.leaf.capacity() == 0 {
            self.leaf.reserve_exact(LEAF_MAX);
        }
        self.leaf.push((key, value));
    }

    /// The tree of all entries pushed.
    pub fn finish(mut self) -> Tree<K, V> {
        if self.leaf.is_empty() {
            return Tree::new();
        }
        self.leaf.shrink_to_fit();
        self.flush_leaf();
        let mut height = 0;
        loop {
            let top = height + 1 == self.levels.len();
            let level = &mut self.levels[height];
            if top && level.inner.children.len() == 1 {
                return Tree { root: level.inner.children.pop() };
            }
            self.flush_inner(height);
            height += 1;
        }
    }

    fn flush_leaf(&mut self) {
        let entries = std::mem::take(&mut self.leaf);
        self.add(0, entries[0].0.clone(), Child::leaf(entries));
    }

    /// Hangs a finished node below the rightmost one of `height`.
    fn add(&mut self, height: usize, first: K, child: Child<K, V>) {
        if height == self.levels.len() {
            let inner = Inner { keys: Vec::new(), children: Vec::new() };
            self.levels.push(Level { first: first.clone(), inner });
        }
        if self.levels[height].inner.children.len() == INNER_MAX {
            self.flush_inner(height);
        }
        let level = &mut self.levels[height];
        if level.inner.children.is_empty() {
            level.first = first;
        } else {
            level.inner.keys.push(first);
        }
        level.inner.children.push(child);
    }

    fn flush_inner(&mut self, height: usize) {
        let level = &mut self.levels[height];
        let empty = Inner { keys: Vec::new(), children: Vec::new() };
        let inner = std::mem::replace(&mut level.inner, empty);
        let first = level.first.clone();
        self.add(height + 1, first, Child::inner(inner));
    }
}

impl<K, V> Default for Builder<K, V> {
    fn default() -> Builder<K, V> {
        Builder::new()
    }
}
