//! Ranges of keys, and which of them contain a key.
//!
//! A treap in the order of (start, end), where each node also knows the furthest end below it: a
//! search leaves out every subtree that ends before the key, and everything that starts after it.
//! Finding m of n ranges visits O(log n) nodes for each of them at worst, and far fewer when they
//! lie together. Priorities are a hash of a counter, so the shape depends on no input and the
//! expected depth is logarithmic whatever the order of insertion.
//!
//! Sources: Seidel and Aragon, "Randomized Search Trees" (1996); Cormen et al., "Introduction to
//! Algorithms", chapter 14 (interval trees).

use bytes::Bytes;
use std::cmp::Ordering;

/// Where a range ends. The order of the variants is the order of ends.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum End {
    /// Before this key.
    Before(Bytes),
    /// Nowhere.
    Never,
}

impl End {
    fn is_after(&self, key: &[u8]) -> bool {
        match self {
            End::Before(end) => key < &end[..],
            End::Never => true,
        }
    }
}

/// A set of distinct ranges, each with a value.
#[derive(Debug)]
pub(super) struct Intervals<V> {
    root: Link<V>,
    created: u64,
}

type Link<V> = Option<Box<Node<V>>>;

#[derive(Debug)]
struct Node<V> {
    start: Bytes,
    end: End,
    value: V,
    /// The furthest end of this node and all below it.
    reach: End,
    priority: u64,
    left: Link<V>,
    right: Link<V>,
}

impl<V> Node<V> {
    fn cmp(&self, start: &[u8], end: &End) -> Ordering {
        start.cmp(&self.start[..]).then_with(|| end.cmp(&self.end))
    }

    fn update(&mut self) {
        let below = [&self.left, &self.right].into_iter().flatten().map(|node| &node.reach);
        let reach = below.chain([&self.end]).max().expect("the node itself");
        if *reach != self.reach {
            self.reach = reach.clone();
        }
    }
}

impl<V> Intervals<V> {
    pub(super) fn new() -> Intervals<V> {
        Intervals { root: None, created: 0 }
    }

    /// The value of a range, if it is there.
    pub(super) fn get_mut(&mut self, start: &[u8], end: &End) -> Option<&mut V> {
        let mut node = self.root.as_mut()?;
        loop {
            node = match node.cmp(start, end) {
                Ordering::Equal => return Some(&mut node.value),
                Ordering::Less => node.left.as_mut()?,
                Ordering::Greater => node.right.as_mut()?,
            };
        }
    }

    /// Adds a range. Panics: if it is there already.
    pub(super) fn insert(&mut self, start: Bytes, end: End, value: V) {
        self.created += 1;
        let priority = mix(self.created);
        let (smaller, larger) = split(self.root.take(), &start, &end);
        let reach = end.clone();
        let node = Node { start, end, value, reach, priority, left: None, right: None };
        self.root = merge(merge(smaller, Some(Box::new(node))), larger);
    }

    /// Removes a range and hands back its value.
    pub(super) fn remove(&mut self, start: &[u8], end: &End) -> Option<V> {
        remove(&mut self.root, start, end)
    }

    /// Calls `found` with the value of each range that contains `key`.
    pub(super) fn stab(&self, key: &[u8], found: &mut impl FnMut(&V)) {
        stab(&self.root, key, found);
    }
}

fn stab<V>(link: &Link<V>, key: &[u8], found: &mut impl FnMut(&V)) {
    let mut link = link;
    while let Some(node) = link {
        if !node.reach.is_after(key) {
            return;
        }
        stab(&node.left, key, found);
        if key < &node.start[..] {
            return; // And so do all on the right.
        }
        if node.end.is_after(key) {
            found(&node.value);
        }
        link = &node.right;
    }
}

/// Everything before (start, end), and everything after. Panics: if it is among them.
fn split<V>(link: Link<V>, start: &[u8], end: &End) -> (Link<V>, Link<V>) {
    let Some(mut node) = link else { return (None, None) };
    match node.cmp(start, end) {
        Ordering::Equal => panic!("a range is inserted once"),
        Ordering::Less => {
            let (smaller, larger) = split(node.left.take(), start, end);
            node.left = larger;
            node.update();
            (smaller, Some(node))
        }
        Ordering::Greater => {
            let (smaller, larger) = split(node.right.take(), start, end);
            node.right = smaller;
            node.update();
            (Some(node), larger)
        }
    }
}

/// Joins two trees of which the first lies wholly before the second.
fn merge<V>(smaller: Link<V>, larger: Link<V>) -> Link<V> {
    let (mut first, mut second) = match (smaller, larger) {
        (None, link) | (link, None) => return link,
        (Some(first), Some(second)) => (first, second),
    };
    if first.priority > second.priority {
        first.right = merge(first.right.take(), Some(second));
        first.update();
        Some(first)
    } else {
        second.left = merge(Some(first), second.left.take());
        second.update();
        Some(second)
    }
}

fn remove<V>(link: &mut Link<V>, start: &[u8], end: &End) -> Option<V> {
    let node = link.as_mut()?;
    let removed = match node.cmp(start, end) {
        Ordering::Less => remove(&mut node.left, start, end),
        Ordering::Greater => remove(&mut node.right, start, end),
        Ordering::Equal => {
            let node = link.take().expect("just seen");
            *link = merge(node.left, node.right);
            return Some(node.value);
        }
    };
    if removed.is_some() {
        node.update();
    }
    removed
}

/// The finalizer of SplitMix64.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::{End, Intervals, Link};
    use bytes::Bytes;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn depth<V>(link: &Link<V>) -> usize {
        link.as_ref().map_or(0, |node| 1 + depth(&node.left).max(depth(&node.right)))
    }

    fn end(byte: u8) -> End {
        if byte == 0 { End::Never } else { End::Before(Bytes::from(vec![byte])) }
    }

    proptest! {
        #[test]
        fn the_same_ranges_are_found_as_by_looking_at_all(
            steps in prop::collection::vec((any::<bool>(), 0u8..12, 0u8..12), 0..120),
        ) {
            let mut tree = Intervals::new();
            let mut all = BTreeMap::new();
            for (number, (insert, start, stop)) in steps.into_iter().enumerate() {
                let key = (Bytes::from(vec![start]), end(stop));
                if insert && !all.contains_key(&key) {
                    tree.insert(key.0.clone(), key.1.clone(), number);
                    all.insert(key, number);
                } else {
                    prop_assert_eq!(tree.remove(&key.0, &key.1), all.remove(&key));
                }
                for probe in 0u8..13 {
                    let mut found = Vec::new();
                    tree.stab(&[probe], &mut |value| found.push(*value));
                    let contains = |start: &Bytes, end: &End| {
                        start[..] <= [probe][..] && match end {
                            End::Before(end) => [probe][..] < end[..],
                            End::Never => true,
                        }
                    };
                    let naive: Vec<usize> = all
                        .iter()
                        .filter(|((start, end), _)| contains(start, end))
                        .map(|(_, value)| *value)
                        .collect();
                    prop_assert_eq!(found, naive);
                }
            }
        }
    }

    #[test]
    fn ascending_input_gives_no_list() {
        let mut tree = Intervals::new();
        for number in 0u32..10_000 {
            let key = Bytes::copy_from_slice(&number.to_be_bytes());
            let next = Bytes::copy_from_slice(&(number + 1).to_be_bytes());
            tree.insert(key, End::Before(next), number);
        }
        assert!(depth(&tree.root) < 60, "depth {}", depth(&tree.root));
        let mut found = Vec::new();
        tree.stab(&777u32.to_be_bytes(), &mut |value| found.push(*value));
        assert_eq!(found, [777]);
    }
}
