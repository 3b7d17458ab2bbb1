//! Walking over the entries between two ranks.
//!
//! A walk holds, for each inner node on the path to its place, the children still to come. The
//! ranks say how many entries there are, so a walk needs no key to know its end.

use super::{Child, Node, Tree};
use std::slice;

/// Entries of a range, smallest key first.
pub struct Ascend<'a, K, V> {
    stack: Vec<slice::Iter<'a, Child<K, V>>>,
    leaf: slice::Iter<'a, (K, V)>,
    remaining: usize,
}

/// Entries of a range, largest key first.
pub struct Descend<'a, K, V> {
    stack: Vec<slice::Iter<'a, Child<K, V>>>,
    leaf: slice::Iter<'a, (K, V)>,
    remaining: usize,
}

impl<K, V> Tree<K, V> {
    /// Entries of rank `start..end`, ascending.
    pub(super) fn ascend(&self, start: usize, end: usize) -> Ascend<'_, K, V> {
        let remaining = end.saturating_sub(start);
        let mut walk = Ascend { stack: Vec::new(), leaf: [].iter(), remaining };
        let (Some(root), true) = (&self.root, remaining > 0) else { return walk };
        let (mut node, mut rank) = (&*root.node, start);
        while let Node::Inner(inner) = node {
            let (slot, rest) = inner.seek(rank);
            walk.stack.push(inner.children[slot + 1..].iter());
            (node, rank) = (&inner.children[slot].node, rest);
        }
        let Node::Leaf(entries) = node else { unreachable!("inner nodes were descended") };
        walk.leaf = entries[rank..].iter();
        walk
    }

    /// Entries of rank `start..end`, descending.
    pub(super) fn descend(&self, start: usize, end: usize) -> Descend<'_, K, V> {
        let remaining = end.saturating_sub(start);
        let mut walk = Descend { stack: Vec::new(), leaf: [].iter(), remaining };
        let (Some(root), true) = (&self.root, remaining > 0) else { return walk };
        let (mut node, mut rank) = (&*root.node, end - 1);
        while let Node::Inner(inner) = node {
            let (slot, rest) = inner.seek(rank);
            walk.stack.push(inner.children[..slot].iter());
            (node, rank) = (&inner.children[slot].node, rest);
        }
        let Node::Leaf(entries) = node else { unreachable!("inner nodes were descended") };
        walk.leaf = entries[..=rank].iter();
        walk
    }
}

impl<'a, K, V> Iterator for Ascend<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        self.remaining = self.remaining.checked_sub(1)?;
        loop {
            if let Some((key, value)) = self.leaf.next() {
                return Some((key, value));
            }
            let mut child = loop {
                match self.stack.last_mut()?.next() {
                    Some(child) => break child,
                    None => self.stack.pop(),
                };
            };
            while let Node::Inner(inner) = &*child.node {
                let mut below = inner.children.iter();
                child = below.next()?;
                self.stack.push(below);
            }
            if let Node::Leaf(entries) = &*child.node {
                self.leaf = entries.iter();
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<K, V> ExactSizeIterator for Ascend<'_, K, V> {}

impl<'a, K, V> Iterator for Descend<'a, K, V> {
    type Item = (&'a K, &'a V);

    fn next(&mut self) -> Option<(&'a K, &'a V)> {
        self.remaining = self.remaining.checked_sub(1)?;
        loop {
            if let Some((key, value)) = self.leaf.next_back() {
                return Some((key, value));
            }
            let mut child = loop {
                match self.stack.last_mut()?.next_back() {
                    Some(child) => break child,
                    None => self.stack.pop(),
                };
            };
            while let Node::Inner(inner) = &*child.node {
                let mut below = inner.children.iter();
                child = below.next_back()?;
                self.stack.push(below);
            }
            if let Node::Leaf(entries) = &*child.node {
                self.leaf = entries.iter();
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.remaining, Some(self.remaining))
    }
}

impl<K, V> ExactSizeIterator for Descend<'_, K, V> {}
