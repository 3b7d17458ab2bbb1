//! An ordered map that is copied in O(1): a B+tree whose nodes are shared until one side writes.
//!
//! **Problem.** Readers, the checkpoint thread and streaming ranges want the store as it was at
//! one moment while commands go on being applied. Copying a map of a million keys for each of
//! them is out of the question, and a lock would make the writer wait for the slowest reader.
//!
//! **Idea.** Nodes hang on [`Arc`]s. A clone of the tree shares the root. A write walks down with
//! [`Arc::make_mut`], which copies a node only while somebody else still holds it; so a tree
//! nobody else looks at is changed in place, and a shared one pays one copy of each node on the
//! path, once. Inner nodes know how many entries lie below each child, so the rank of a key, the
//! number of keys in a range and the n-th entry cost O(log n).
//!
//! ```text
//!   Inner   keys      [      g      |      p      ]        all of child i  <  keys[i]
//!           children  [ a 3 |    g 2    |   p 3   ]        keys[i]  <=  all of child i + 1
//!                        |        |          |
//!   Leaf              (a b d)   (g k)     (p q z)
//! ```
//!
//! **Guarantees.** A clone never changes by writes to its origin. No leaf is empty. Nodes which
//! removals made small are merged with a neighbour; a node that appends split off at the right
//! end may be small, so that ascending input leaves full nodes behind.
//!
//! Sources: Comer, "The Ubiquitous B-Tree" (1979); Rodeh, "B-trees, Shadowing, and Clones" (2008)
//! for copying the path; subtree sizes as in Cormen et al., "Introduction to Algorithms",
//! chapter 14 (order statistics).

mod build;
mod walk;

pub use build::Builder;
pub use walk::{Ascend, Descend};

use std::borrow::Borrow;
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Entries of a leaf at most: a compromise between short copies of shared leaves and few nodes.
const LEAF_MAX: usize = 32;

/// Children of an inner node at most.
const INNER_MAX: usize = 32;

/// A node below a quarter of its room looks for a neighbour to merge with.
const FILL_MIN: usize = 8;

/// A map from `K` to `V` in the order of `K`, cloned in O(1).
pub struct Tree<K, V> {
    root: Option<Child<K, V>>,
}

/// A node with the number of entries at and below it.
struct Child<K, V> {
    len: usize,
    node: Arc<Node<K, V>>,
}

#[derive(Clone)]
enum Node<K, V> {
    Leaf(Vec<(K, V)>),
    Inner(Inner<K, V>),
}

#[derive(Clone)]
struct Inner<K, V> {
    keys: Vec<K>,
    children: Vec<Child<K, V>>,
}

/// Whether a node lies on the right edge of the tree: only there a full node is split by
/// opening an empty one, since elsewhere descending input would leave one entry per node.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Edge {
    Right,
    Inside,
}

enum Inserted<K, V> {
    Replaced(V),
    Added,
    Split(K, Child<K, V>),
}

impl<K, V> Tree<K, V> {
    /// A tree without entries; does not allocate.
    pub const fn new() -> Tree<K, V> {
        Tree { root: None }
    }

    /// Number of entries, in O(1).
    pub fn len(&self) -> usize {
        self.root.as_ref().map_or(0, |root| root.len)
    }

    /// True if there are no entries.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// The entry with `rank` smaller ones before it; `None` if there are not that many.
    pub fn nth(&self, rank: usize) -> Option<(&K, &V)> {
        let root = self.root.as_ref().filter(|root| rank < root.len)?;
        let (mut node, mut rank) = (&*root.node, rank);
        loop {
            match node {
                Node::Leaf(entries) => return entries.get(rank).map(|(key, value)| (key, value)),
                Node::Inner(inner) => {
                    let (slot, rest) = inner.seek(rank);
                    (node, rank) = (&inner.children[slot].node, rest);
                }
            }
        }
    }

    /// The smallest entry.
    pub fn first(&self) -> Option<(&K, &V)> {
        self.nth(0)
    }

    /// The largest entry.
    pub fn last(&self) -> Option<(&K, &V)> {
        self.nth(self.len().checked_sub(1)?)
    }

    /// All entries, ascending.
    pub fn iter(&self) -> Ascend<'_, K, V> {
        self.ascend(0, self.len())
    }

    /// The value of `key`.
    pub fn get<Q>(&self, key: &Q) -> Option<&V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get_entry(key).map(|(_, value)| value)
    }

    /// The stored key equal to `key`, with its value.
    pub fn get_entry<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut node = &*self.root.as_ref()?.node;
        loop {
            match node {
                Node::Inner(inner) => node = &inner.children[inner.slot(key)].node,
                Node::Leaf(entries) => {
                    let (key, value) = &entries[find(entries, key).ok()?];
                    return Some((key, value));
                }
            }
        }
    }

    /// The largest entry whose key is at most `key`.
    pub fn floor<Q>(&self, key: &Q) -> Option<(&K, &V)>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.nth(self.rank_after(key).checked_sub(1)?)
    }

    /// How many keys are smaller than `key`.
    pub fn rank<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.rank_by(key, |stored| stored < key)
    }

    /// Number of keys between two bounds, in O(log n).
    pub fn count<Q>(&self, lower: Bound<&Q>, upper: Bound<&Q>) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (start, end) = self.ranks(lower, upper);
        end.saturating_sub(start)
    }

    /// The entries between two bounds, smallest key first; empty if the bounds are reversed.
    pub fn range<Q>(&self, lower: Bound<&Q>, upper: Bound<&Q>) -> Ascend<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (start, end) = self.ranks(lower, upper);
        self.ascend(start, end)
    }

    /// The entries between two bounds, largest key first; empty if the bounds are reversed.
    pub fn range_back<Q>(&self, lower: Bound<&Q>, upper: Bound<&Q>) -> Descend<'_, K, V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let (start, end) = self.ranks(lower, upper);
        self.descend(start, end)
    }

    fn ranks<Q>(&self, lower: Bound<&Q>, upper: Bound<&Q>) -> (usize, usize)
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let start = match lower {
            Bound::Included(key) => self.rank(key),
            Bound::Excluded(key) => self.rank_after(key),
            Bound::Unbounded => 0,
        };
        let end = match upper {
            Bound::Included(key) => self.rank_after(key),
            Bound::Excluded(key) => self.rank(key),
            Bound::Unbounded => self.len(),
        };
        (start, end)
    }

    /// How many keys are at most `key`.
    fn rank_after<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.rank_by(key, |stored| stored <= key)
    }

    fn rank_by<Q>(&self, key: &Q, before: impl Fn(&Q) -> bool) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let Some(root) = &self.root else { return 0 };
        let (mut node, mut rank) = (&*root.node, 0);
        loop {
            match node {
                Node::Inner(inner) => {
                    let slot = inner.slot(key);
                    rank += inner.children[..slot].iter().map(|child| child.len).sum::<usize>();
                    node = &inner.children[slot].node;
                }
                Node::Leaf(entries) => {
                    return rank + entries.partition_point(|(stored, _)| before(stored.borrow()));
                }
            }
        }
    }
}

impl<K: Clone + Ord, V: Clone> Tree<K, V> {
    /// The value of `key`, to be changed in place.
    ///
    /// Nodes on the path which a clone shares are copied, even if the key turns out to be absent.
    pub fn get_mut<Q>(&mut self, key: &Q) -> Option<&mut V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        let mut node = Arc::make_mut(&mut self.root.as_mut()?.node);
        loop {
            match node {
                Node::Inner(inner) => {
                    let slot = inner.slot(key);
                    node = Arc::make_mut(&mut inner.children[slot].node);
                }
                Node::Leaf(entries) => {
                    let at = find(entries, key).ok()?;
                    return Some(&mut entries[at].1);
                }
            }
        }
    }

    /// Sets the value of `key` and hands back the former one.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        let Some(root) = &mut self.root else {
            self.root = Some(Child::leaf(vec![(key, value)]));
            return None;
        };
        match root.insert(key, value, Edge::Right) {
            Inserted::Replaced(old) => return Some(old),
            Inserted::Added => {}
            Inserted::Split(key, right) => {
                let left = Child { len: root.len, node: Arc::clone(&root.node) };
                let inner = Inner { keys: vec![key], children: vec![left, right] };
                self.root = Some(Child::inner(inner));
            }
        }
        None
    }

    /// Removes `key` and hands back its value; copies nothing if the key is absent.
    pub fn remove<Q>(&mut self, key: &Q) -> Option<V>
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.get(key)?;
        let root = self.root.as_mut().expect("a tree that has the key has a root");
        let value = root.remove(key);
        if root.len == 0 {
            self.root = None;
            return Some(value);
        }
        while let Node::Inner(inner) = &*root.node {
            if inner.children.len() > 1 {
                break;
            }
            *root = inner.children[0].clone();
        }
        Some(value)
    }

    /// Builds a tree from ascending entries in O(n). Panics: if the keys do not ascend.
    pub fn from_sorted(entries: impl IntoIterator<Item = (K, V)>) -> Tree<K, V> {
        let mut builder = Builder::new();
        for (key, value) in entries {
            builder.push(key, value);
        }
        builder.finish()
    }
}

impl<K, V> Child<K, V> {
    fn leaf(entries: Vec<(K, V)>) -> Child<K, V> {
        Child { len: entries.len(), node: Arc::new(Node::Leaf(entries)) }
    }

    fn inner(inner: Inner<K, V>) -> Child<K, V> {
        Child { len: inner.len(), node: Arc::new(Node::Inner(inner)) }
    }

    /// Entries of a leaf or children of an inner node.
    fn fill(&self) -> usize {
        match &*self.node {
            Node::Leaf(entries) => entries.len(),
            Node::Inner(inner) => inner.children.len(),
        }
    }
}

impl<K: Clone + Ord, V: Clone> Child<K, V> {
    fn insert(&mut self, key: K, value: V, edge: Edge) -> Inserted<K, V> {
        let inserted = match Arc::make_mut(&mut self.node) {
            Node::Leaf(entries) => insert_in_leaf(entries, key, value, edge),
            Node::Inner(inner) => inner.insert(key, value, edge),
        };
        match &inserted {
            Inserted::Replaced(_) => {}
            Inserted::Added => self.len += 1,
            Inserted::Split(_, right) => self.len = self.len + 1 - right.len,
        }
        inserted
    }

    /// Panics: if the key is absent.
    fn remove<Q>(&mut self, key: &Q) -> V
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.len -= 1;
        match Arc::make_mut(&mut self.node) {
            Node::Leaf(entries) => {
                let at = find(entries, key).expect("the caller has seen the key");
                entries.remove(at).1
            }
            Node::Inner(inner) => {
                let slot = inner.slot(key);
                let value = inner.children[slot].remove(key);
                inner.mend(slot);
                value
            }
        }
    }

    /// Takes over the entries of the right neighbour; gives back the larger half of them as a
    /// new right neighbour if one node cannot hold all.
    fn absorb(&mut self, separator: K, right: Child<K, V>) -> Option<(K, Child<K, V>)> {
        let total = self.len + right.len;
        let rest = match (Arc::make_mut(&mut self.node), Arc::unwrap_or_clone(right.node)) {
            (Node::Leaf(left), Node::Leaf(mut right)) => {
                left.append(&mut right);
                (left.len() > LEAF_MAX).then(|| {
                    let half = left.split_off(left.len() / 2);
                    (half[0].0.clone(), Child::leaf(half))
                })
            }
            (Node::Inner(left), Node::Inner(mut right)) => {
                left.keys.push(separator);
                left.keys.append(&mut right.keys);
                left.children.append(&mut right.children);
                let half = left.children.len() / 2;
                (left.children.len() > INNER_MAX).then(|| left.split_off(half))
            }
            _ => unreachable!("neighbours have the same height"),
        };
        self.len = total - rest.as_ref().map_or(0, |(_, child)| child.len);
        rest
    }
}

impl<K, V> Inner<K, V> {
    fn len(&self) -> usize {
        self.children.iter().map(|child| child.len).sum()
    }

    /// The child which holds `key` if any does.
    fn slot<Q>(&self, key: &Q) -> usize
    where
        K: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        self.keys.partition_point(|separator| separator.borrow() <= key)
    }

    /// The child with the entry of that rank, and the rank within it. Panics: if beyond the end.
    fn seek(&self, rank: usize) -> (usize, usize) {
        let mut rest = rank;
        for (slot, child) in self.children.iter().enumerate() {
            if rest < child.len {
                return (slot, rest);
            }
            rest -= child.len;
        }
        unreachable!("rank {rank} is beyond the {} entries of the node", self.len())
    }

    /// Moves the children from `at` on into a new node; the key between both comes with it.
    fn split_off(&mut self, at: usize) -> (K, Child<K, V>) {
        assert!(0 < at && at < self.children.len(), "both halves keep a child");
        let children = self.children.split_off(at);
        let keys = self.keys.split_off(at);
        let separator = self.keys.pop().expect("a key stands between two children");
        (separator, Child::inner(Inner { keys, children }))
    }
}

impl<K: Clone + Ord, V: Clone> Inner<K, V> {
    fn insert(&mut self, key: K, value: V, edge: Edge) -> Inserted<K, V> {
        let slot = self.slot(&key);
        let last = slot + 1 == self.children.len();
        let edge = if last { edge } else { Edge::Inside };
        let (separator, right) = match self.children[slot].insert(key, value, edge) {
            Inserted::Split(separator, right) => (separator, right),
            done => return done,
        };
        self.keys.insert(slot, separator);
        self.children.insert(slot + 1, right);
        let count = self.children.len();
        if count <= INNER_MAX {
            return Inserted::Added;
        }
        let at = if edge == Edge::Right { count - 1 } else { count / 2 };
        let (separator, right) = self.split_off(at);
        Inserted::Split(separator, right)
    }

    /// Restores the fill of a child from which an entry was removed.
    fn mend(&mut self, slot: usize) {
        if self.children[slot].len == 0 {
            self.children.remove(slot);
            if !self.keys.is_empty() {
                self.keys.remove(slot.saturating_sub(1));
            }
            return;
        }
        if self.children[slot].fill() >= FILL_MIN || self.children.len() == 1 {
            return;
        }
        let left = slot.saturating_sub(1);
        let right = self.children.remove(left + 1);
        let separator = self.keys.remove(left);
        if let Some((separator, right)) = self.children[left].absorb(separator, right) {
            self.keys.insert(left, separator);
            self.children.insert(left + 1, right);
        }
    }
}

// Derived clones would demand that keys and values can be cloned, which sharing does not need.
impl<K, V> Clone for Tree<K, V> {
    fn clone(&self) -> Tree<K, V> {
        Tree { root: self.root.clone() }
    }
}

impl<K, V> Clone for Child<K, V> {
    fn clone(&self) -> Child<K, V> {
        Child { len: self.len, node: Arc::clone(&self.node) }
    }
}

impl<K, V> Default for Tree<K, V> {
    fn default() -> Tree<K, V> {
        Tree::new()
    }
}

impl<K: fmt::Debug, V: fmt::Debug> fmt::Debug for Tree<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl<K: PartialEq, V: PartialEq> PartialEq for Tree<K, V> {
    fn eq(&self, other: &Tree<K, V>) -> bool {
        self.len() == other.len() && self.iter().eq(other.iter())
    }
}

impl<K: Eq, V: Eq> Eq for Tree<K, V> {}

fn find<K: Borrow<Q>, V, Q: Ord + ?Sized>(entries: &[(K, V)], key: &Q) -> Result<usize, usize> {
    entries.binary_search_by(|(stored, _)| stored.borrow().cmp(key))
}

fn insert_in_leaf<K: Clone + Ord, V>(
    entries: &mut Vec<(K, V)>,
    key: K,
    value: V,
    edge: Edge,
) -> Inserted<K, V> {
    let at = match find(entries, &key) {
        Ok(at) => return Inserted::Replaced(std::mem::replace(&mut entries[at].1, value)),
        Err(at) => at,
    };
    let len = entries.len();
    if len < LEAF_MAX {
        make_room(entries);
        entries.insert(at, (key, value));
        return Inserted::Added;
    }
    let half = if edge == Edge::Right && at == len { len } else { len / 2 };
    let mut right = entries.split_off(half);
    if at <= half && half < len {
        entries.insert(at, (key, value));
    } else {
        make_room(&mut right);
        right.insert(at - half, (key, value));
    }
    Inserted::Split(right[0].0.clone(), Child::leaf(right))
}

/// Grows by halves and never beyond a full leaf; doubling would waste a third of a copied leaf.
fn make_room<T>(entries: &mut Vec<T>) {
    let len = entries.len();
    if len == entries.capacity() {
        entries.reserve_exact((len / 2).max(2).min(LEAF_MAX - len));
    }
}

#[cfg(test)]
mod tests {
    use super::{Builder, FILL_MIN, INNER_MAX, LEAF_MAX, Node, Tree};
    use proptest::prelude::{Just, Strategy, any, prop_oneof, proptest};
    use std::collections::BTreeMap;
    use std::ops::Bound;

    /// Checks the shape of every node; answers with height and number of entries.
    fn check<V>(child: &super::Child<u16, V>, lower: Option<u16>, upper: Option<u16>) -> usize {
        let within = |key: u16| {
            lower.is_none_or(|lower| lower <= key) && upper.is_none_or(|upper| key < upper)
        };
        match &*child.node {
            Node::Leaf(entries) => {
                assert!(!entries.is_empty() && entries.len() <= LEAF_MAX, "fill of a leaf");
                assert!(entries.iter().all(|(key, _)| within(*key)), "keys between separators");
                assert!(entries.is_sorted_by(|a, b| a.0 < b.0), "order within a leaf");
                assert_eq!(child.len, entries.len());
                1
            }
            Node::Inner(inner) => {
                let count = inner.children.len();
                assert!(0 < count && count <= INNER_MAX, "fill of an inner node");
                assert_eq!(inner.keys.len() + 1, count, "a key between two children");
                assert_eq!(child.len, inner.len(), "sizes add up");
                let mut heights = (0..count).map(|slot| {
                    let lower = slot.checked_sub(1).map(|at| inner.keys[at]).or(lower);
                    let upper = inner.keys.get(slot).copied().or(upper);
                    check(&inner.children[slot], lower, upper)
                });
                let height = heights.next().expect("a child");
                assert!(heights.all(|other| other == height), "all leaves at one height");
                height + 1
            }
        }
    }

    fn agree(tree: &Tree<u16, u32>, map: &BTreeMap<u16, u32>) {
        if let Some(root) = &tree.root {
            check(root, None, None);
        }
        assert_eq!(tree.len(), map.len());
        assert!(tree.iter().eq(map.iter()));
        let back = tree.range_back::<u16>(Bound::Unbounded, Bound::Unbounded);
        assert!(back.eq(map.iter().rev()));
        assert_eq!(tree.first(), map.first_key_value());
        assert_eq!(tree.last(), map.last_key_value());
    }

    fn bound(kind: u8, key: u16) -> Bound<u16> {
        match kind % 3 {
            0 => Bound::Included(key),
            1 => Bound::Excluded(key),
            _ => Bound::Unbounded,
        }
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert(u16, u32),
        Remove(u16),
        RemoveRange(u16, u16),
        Change(u16),
        Freeze,
        Range(u8, u16, u8, u16),
        Floor(u16),
    }

    fn step() -> impl Strategy<Value = Step> {
        let key = || 0_u16..700;
        prop_oneof![
            8 => (key(), any::<u32>()).prop_map(|(key, value)| Step::Insert(key, value)),
            6 => key().prop_map(Step::Remove),
            1 => (key(), 0_u16..300).prop_map(|(key, len)| Step::RemoveRange(key, key + len)),
            2 => key().prop_map(Step::Change),
            1 => Just(Step::Freeze),
            3 => (any::<u8>(), key(), any::<u8>(), key())
                .prop_map(|(a, from, b, to)| Step::Range(a, from, b, to)),
            1 => key().prop_map(Step::Floor),
        ]
    }

    fn take(step: Step, tree: &mut Tree<u16, u32>, map: &mut BTreeMap<u16, u32>) {
        match step {
            Step::Insert(key, value) => assert_eq!(tree.insert(key, value), map.insert(key, value)),
            Step::Remove(key) => assert_eq!(tree.remove(&key), map.remove(&key)),
            Step::RemoveRange(from, to) => {
                for key in from..to {
                    assert_eq!(tree.remove(&key), map.remove(&key));
                }
            }
            Step::Change(key) => {
                let (left, right) = (tree.get_mut(&key), map.get_mut(&key));
                assert_eq!(left, right);
                if let (Some(left), Some(right)) = (left, right) {
                    (*left, *right) = (*left ^ 1, *right ^ 1);
                }
            }
            Step::Freeze => {}
            Step::Range(a, from, b, to) => {
                let (lower, upper) = (bound(a, from), bound(b, to));
                let inside = |key: &u16| {
                    let above = std::ops::RangeBounds::contains(&(lower, Bound::Unbounded), key);
                    above && std::ops::RangeBounds::contains(&(Bound::Unbounded, upper), key)
                };
                let wanted: Vec<_> = map.iter().filter(|(key, _)| inside(key)).collect();
                let (lower, upper) = (lower.as_ref(), upper.as_ref());
                assert_eq!(tree.count(lower, upper), wanted.len());
                assert_eq!(tree.range(lower, upper).collect::<Vec<_>>(), wanted);
                let back = tree.range_back(lower, upper);
                assert_eq!(back.len(), wanted.len());
                assert!(back.eq(wanted.iter().rev().copied()));
            }
            Step::Floor(key) => {
                assert_eq!(tree.floor(&key), map.range(..=key).next_back());
                let rank = map.range(..key).count();
                assert_eq!(tree.rank(&key), rank);
                assert_eq!(tree.nth(rank), map.range(key..).next());
                assert_eq!(tree.get(&key), map.get(&key));
            }
        }
    }

    proptest! {
        #[test]
        fn agrees_with_a_b_tree_map_and_clones_stay_frozen(
            filled in 0_u16..700,
            steps in proptest::collection::vec(step(), 1..400),
        ) {
            let mut map: BTreeMap<u16, u32> = (0..filled).map(|key| (key, 7)).collect();
            let mut tree = Tree::from_sorted(map.clone());
            let mut frozen = Vec::new();
            for step in steps {
                if let Step::Freeze = step {
                    frozen.push((tree.clone(), map.clone()));
                }
                take(step, &mut tree, &mut map);
            }
            agree(&tree, &map);
            for (tree, map) in &frozen {
                agree(tree, map);
            }
        }

        #[test]
        fn bulk_building_equals_inserting(len in 0_usize..5_000) {
            let map: BTreeMap<u16, u32> = (0..len as u16).map(|key| (key * 3, 1)).collect();
            let mut tree = Tree::from_sorted(map.clone());
            agree(&tree, &map);
            tree.insert(1, 2);
            prop_assert_len(&tree, map.len() + 1);
        }
    }

    fn prop_assert_len(tree: &Tree<u16, u32>, len: usize) {
        assert_eq!(tree.len(), len);
    }

    #[test]
    fn ascending_input_leaves_full_nodes_and_descending_input_half_full_ones() {
        let leaves = |tree: &Tree<u16, ()>| -> usize {
            fn count(child: &super::Child<u16, ()>) -> usize {
                match &*child.node {
                    Node::Leaf(_) => 1,
                    Node::Inner(inner) => inner.children.iter().map(count).sum(),
                }
            }
            tree.root.as_ref().map_or(0, count)
        };
        let (mut up, mut down) = (Tree::new(), Tree::new());
        for key in 0..10_000 {
            up.insert(key, ());
            down.insert(9_999 - key, ());
        }
        assert_eq!(leaves(&up), 10_000_usize.div_ceil(LEAF_MAX));
        assert!(leaves(&down) <= 2 * 10_000 / LEAF_MAX + 1);
    }

    #[test]
    fn removing_everything_but_a_few_leaves_few_nodes() {
        let mut tree = Tree::from_sorted((0_u16..20_000).map(|key| (key, ())));
        for key in (0..20_000).filter(|key| key % 100 != 0) {
            tree.remove(&key);
        }
        let Some(root) = &tree.root else { panic!("200 keys are left") };
        assert!(check(root, None, None) <= 3, "the tree shrinks in height");
        assert!(root.fill() <= 200 / FILL_MIN);
        for key in (0..20_000).step_by(100) {
            tree.remove(&key);
        }
        assert!(tree.root.is_none());
    }

    #[test]
    #[should_panic(expected = "bulk input must ascend")]
    fn bulk_input_out_of_order_is_a_programmers_mistake() {
        let mut builder = Builder::new();
        builder.push(2, ());
        builder.push(1, ());
    }
}
