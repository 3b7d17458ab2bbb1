//! The keys of a role, as intervals.
//!
//! Permissions overlap and touch each other; what a request needs may be covered by several of
//! them, and by several roles. So each role keeps the *union* of what it may read and of what it
//! may write, as disjoint intervals in ascending order, and a range is covered if one can walk
//! from its beginning to its end without leaving the intervals of the user's roles.
//!
//! A range whose end does not lie behind its beginning holds no key. It is judged as its first
//! key, so that nothing is allowed by being written the wrong way round.

use super::{Access, Keys, Permission};
use bytes::Bytes;

/// Where an interval ends, exclusive. None: nowhere.
type End = Option<Bytes>;

/// What the permissions of one role come to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Rights {
    read: Intervals,
    write: Intervals,
}

/// Disjoint, ascending, not touching.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
struct Intervals(Vec<(Bytes, End)>);

/// What is asked of rights.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Deed {
    /// To learn something of keys.
    Read,
    /// To change them.
    Write,
}

impl Rights {
    /// The union of `permissions`, which ascend by their first key.
    pub(super) fn of(permissions: &[Permission]) -> Rights {
        let union = |without: Access| {
            let mut intervals = Intervals::default();
            for Permission { keys, access } in permissions {
                if *access != without {
                    intervals.push(keys.key.clone(), end_of(keys));
                }
            }
            intervals
        };
        Rights { read: union(Access::Write), write: union(Access::Read) }
    }

    /// Where the interval ends that `key` lies in. None if it lies in none.
    fn reach(&self, deed: Deed, key: &[u8]) -> Option<&End> {
        let intervals = match deed {
            Deed::Read => &self.read.0,
            Deed::Write => &self.write.0,
        };
        let after = intervals.partition_point(|(start, _)| &start[..] <= key);
        let (_, end) = intervals[..after].last()?;
        end.as_ref().is_none_or(|end| key < &end[..]).then_some(end)
    }
}

impl Intervals {
    /// Adds an interval that begins no earlier than the last one.
    fn push(&mut self, start: Bytes, end: End) {
        if let Some((_, last)) = self.0.last_mut() {
            let touches = last.as_ref().is_none_or(|last| start <= *last);
            if touches {
                *last = last.take().zip(end).map(|(last, end)| last.max(end));
                return;
            }
        }
        self.0.push((start, end));
    }
}

/// Where the keys end. A single key ends before its successor, which is it and a zero byte.
fn end_of(keys: &Keys) -> End {
    match &keys.range_end[..] {
        [0] => None,
        end if end > &keys.key[..] => Some(keys.range_end.clone()),
        _ => Some(Bytes::from([&keys.key[..], &[0]].concat())),
    }
}

/// True if several rights together cover every key of a range, or the first key of an empty one.
pub(super) fn cover(rights: &[&Rights], deed: Deed, keys: &Keys) -> bool {
    let is_point = keys.range_end.is_empty();
    if is_point {
        return rights.iter().any(|rights| rights.reach(deed, &keys.key).is_some());
    }
    let wanted = end_of(keys);
    let mut at = &keys.key[..];
    loop {
        let reached = rights.iter().filter_map(|rights| rights.reach(deed, at));
        // None, which is no end at all, is the furthest.
        let furthest = reached.max_by(|a, b| match (a, b) {
            (Some(a), Some(b)) => a.cmp(b),
            (a, b) => a.is_none().cmp(&b.is_none()),
        });
        match (furthest, &wanted) {
            (None, _) => return false,
            (Some(None), _) => return true,
            (Some(Some(end)), Some(wanted)) if end >= wanted => return true,
            (Some(Some(end)), _) => at = end,
        }
    }
}
