//! What is refused before it is replicated: pure checks of a request against limits.
//!
//! The checks run once, where the request enters; a command in the log is taken as admitted.
//!
//! **Op budget.** A transaction costs the largest of its three lists; a nested one may cost what
//! is left over. Beside that, nesting is bounded by [`DEPTH_MAX`], so recursion is.
//!
//! **Duplicate keys.** On no path through a transaction may a key be put twice, or be put and
//! deleted, in whatever order and at whatever depth. Two branches of one transaction exclude
//! each other and may write the same key; deleting twice is harmless. etcd means the same (its
//! API says "it is not allowed to modify the same key several times within one txn") but has two
//! holes, both closed here because every version of a key then has a revision of its own, which
//! watchers and historical reads rely on:
//! * a put in one nested transaction and a delete of its key in a later sibling pass there;
//! * a delete to the end of the key space (`range_end` = `"\0"`) overlaps nothing there.
//!
//! Source: etcd `server/etcdserver/api/v3rpc/key.go` (`checkTxnRequest`, `checkIntervals`).

use super::codec::DEPTH_MAX;
use super::lease::LEASE_TTL_MAX;
use super::{
    Command, Compare, DeleteRange, Keys, Op, Operand, Put, Range, SortOrder, SortTarget, Txn,
};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;

/// What a request may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The op budget of a transaction. etcd's default: 128.
    pub txn_ops_max: usize,
    /// Keys, values and operands of one request together, in bytes. etcd's default: 1.5 MiB.
    pub request_bytes_max: usize,
}

/// Why a request is refused; definite, nothing has happened. Displays as etcd's message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Invalid {
    /// An operation or comparison without a key.
    KeyNotProvided,
    /// `ignore_value` together with a value.
    ValueProvided,
    /// `ignore_lease` together with a lease.
    LeaseProvided,
    /// The op budget is exceeded, or the nesting too deep.
    TooManyOps,
    /// A key would be written twice.
    DuplicateKey,
    /// A number that names no sort order or target.
    InvalidSortOption,
    /// An operation of no kind, which only the wire format can express.
    EmptyOp,
    /// More than [`Limits::request_bytes_max`].
    RequestTooLarge,
    /// A lease of more than [`LEASE_TTL_MAX`].
    LeaseTtlTooLarge,
}

impl Default for Limits {
    /// etcd's defaults.
    fn default() -> Limits {
        Limits { txn_ops_max: 128, request_bytes_max: 3 << 19 }
    }
}

impl Limits {
    /// Checks a command for the log.
    pub fn admit(&self, command: &Command) -> Result<(), Invalid> {
        match command {
            Command::Put(put) => {
                check_put(put)?;
                self.check_bytes(put_bytes(put))
            }
            Command::DeleteRange(delete) => {
                check_keys(&delete.keys)?;
                self.check_bytes(keys_bytes(&delete.keys))
            }
            Command::Txn(txn) => self.admit_txn(txn),
            Command::LeaseGrant { ttl, .. } if *ttl > LEASE_TTL_MAX => {
                Err(Invalid::LeaseTtlTooLarge)
            }
            Command::Compact { .. }
            | Command::Alarm(_)
            | Command::Auth(_)
            | Command::Limit(_)
            | Command::LeaseGrant { .. }
            | Command::LeaseRevoke { .. }
            | Command::LeaseExpire { .. }
            | Command::LeaseCountdown { .. } => Ok(()),
        }
    }

    /// Checks a transaction, be it for the log or a read-only one.
    pub fn admit_txn(&self, txn: &Txn) -> Result<(), Invalid> {
        check_txn(txn, self.txn_ops_max, 0)?;
        written(&txn.success)?;
        written(&txn.failure)?;
        self.check_bytes(txn_bytes(txn))
    }

    /// Checks a range.
    pub fn admit_range(&self, range: &Range) -> Result<(), Invalid> {
        check_keys(&range.keys)?;
        self.check_bytes(keys_bytes(&range.keys))
    }

    fn check_bytes(&self, bytes: usize) -> Result<(), Invalid> {
        if bytes > self.request_bytes_max { Err(Invalid::RequestTooLarge) } else { Ok(()) }
    }
}

impl TryFrom<i32> for SortOrder {
    type Error = Invalid;

    /// From the number on the wire.
    fn try_from(number: i32) -> Result<SortOrder, Invalid> {
        match number {
            0 => Ok(SortOrder::None),
            1 => Ok(SortOrder::Ascend),
            2 => Ok(SortOrder::Descend),
            _ => Err(Invalid::InvalidSortOption),
        }
    }
}

impl TryFrom<i32> for SortTarget {
    type Error = Invalid;

    /// From the number on the wire.
    fn try_from(number: i32) -> Result<SortTarget, Invalid> {
        match number {
            0 => Ok(SortTarget::Key),
            1 => Ok(SortTarget::Version),
            2 => Ok(SortTarget::Create),
            3 => Ok(SortTarget::Mod),
            4 => Ok(SortTarget::Value),
            _ => Err(Invalid::InvalidSortOption),
        }
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Invalid::KeyNotProvided => "etcdserver: key is not provided",
            Invalid::ValueProvided => "etcdserver: value is provided",
            Invalid::LeaseProvided => "etcdserver: lease is provided",
            Invalid::TooManyOps => "etcdserver: too many operations in txn request",
            Invalid::DuplicateKey => "etcdserver: duplicate key given in txn request",
            Invalid::InvalidSortOption => "etcdserver: invalid sort option",
            Invalid::EmptyOp => "etcdserver: key not found",
            Invalid::RequestTooLarge => "etcdserver: request is too large",
            Invalid::LeaseTtlTooLarge => "etcdserver: too large lease TTL",
        })
    }
}

impl std::error::Error for Invalid {}

fn check_keys(keys: &Keys) -> Result<(), Invalid> {
    if keys.key.is_empty() { Err(Invalid::KeyNotProvided) } else { Ok(()) }
}

fn check_put(put: &Put) -> Result<(), Invalid> {
    if put.key.is_empty() {
        return Err(Invalid::KeyNotProvided);
    }
    if put.ignore_value && !put.value.is_empty() {
        return Err(Invalid::ValueProvided);
    }
    if put.ignore_lease && put.lease != 0 {
        return Err(Invalid::LeaseProvided);
    }
    Ok(())
}

fn check_txn(txn: &Txn, budget: usize, depth: usize) -> Result<(), Invalid> {
    let cost = txn.compare.len().max(txn.success.len()).max(txn.failure.len());
    if cost > budget || depth >= DEPTH_MAX {
        return Err(Invalid::TooManyOps);
    }
    for compare in &txn.compare {
        check_keys(&compare.keys)?;
    }
    for op in txn.success.iter().chain(&txn.failure) {
        match op {
            Op::Range(range) => check_keys(&range.keys)?,
            Op::Put(put) => check_put(put)?,
            Op::DeleteRange(delete) => check_keys(&delete.keys)?,
            Op::Txn(inner) => check_txn(inner, budget - cost, depth + 1)?,
        }
    }
    Ok(())
}

/// What some path through a list of operations may write.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Intervals,
}

/// Disjoint intervals by their start; the end is exclusive, `None` is the end of the key space.
#[derive(Default)]
struct Intervals(BTreeMap<Vec<u8>, Option<Vec<u8>>>);

/// Collects the writes of operations that all run. Errors: if two of them meet in a key.
fn written(ops: &[Op]) -> Result<Written<'_>, Invalid> {
    let mut all = Written::default();
    for op in ops {
        let one = match op {
            Op::Range(_) => continue,
            Op::Put(put) => Written { puts: [&put.key[..]].into(), ..Written::default() },
            Op::DeleteRange(delete) => Written::of_delete(delete),
            Op::Txn(txn) => written(&txn.success)?.join(written(&txn.failure)?),
        };
        if all.meets(&one) {
            return Err(Invalid::DuplicateKey);
        }
        all = all.join(one);
    }
    Ok(all)
}

impl<'a> Written<'a> {
    fn of_delete(delete: &DeleteRange) -> Written<'a> {
        let start = delete.keys.key.to_vec();
        let end = match &delete.keys.range_end[..] {
            // The successor of a key is the key and a zero byte.
            [] => Some([&start[..], &[0]].concat()),
            [0] => None,
            end => Some(end.to_vec()),
        };
        let mut written = Written::default();
        written.deletes.insert(start, end);
        written
    }

    /// True if both put one key, or one puts what the other deletes. Costs the smaller times the
    /// logarithm of the larger.
    fn meets(&self, other: &Written<'_>) -> bool {
        let (few, many) = by_size(&self.puts, &other.puts);
        few.iter().any(|key| many.contains(key))
            || self.deletes.meet(&other.puts)
            || other.deletes.meet(&self.puts)
    }

    /// The union; the larger set takes in the smaller one.
    fn join(mut self, mut other: Written<'a>) -> Written<'a> {
        if self.puts.len() < other.puts.len() {
            std::mem::swap(&mut self.puts, &mut other.puts);
        }
        if self.deletes.0.len() < other.deletes.0.len() {
            std::mem::swap(&mut self.deletes, &mut other.deletes);
        }
        self.puts.extend(other.puts);
        for (start, end) in other.deletes.0 {
            self.deletes.insert(start, end);
        }
        self
    }
}

impl Intervals {
    /// Adds an interval, merging those it touches; an empty or reversed one is nothing.
    fn insert(&mut self, start: Vec<u8>, end: Option<Vec<u8>>) {
        let (mut start, mut end) = (start, end);
        if end.as_ref().is_some_and(|end| *end <= start) {
            return;
        }
        while let Some((found, until)) = self.last_from(&end) {
            if until.as_ref().is_some_and(|until| *until < start) {
                break;
            }
            let (found, until) = (found.clone(), until.clone());
            self.0.remove(&found);
            start = start.min(found);
            end = end.zip(until).map(|(a, b)| a.max(b));
        }
        self.0.insert(start, end);
    }

    /// The last interval that starts at or before `end`.
    fn last_from(&self, end: &Option<Vec<u8>>) -> Option<(&Vec<u8>, &Option<Vec<u8>>)> {
        match end {
            Some(end) => self.0.range::<Vec<u8>, _>(..=end).next_back(),
            None => self.0.last_key_value(),
        }
    }

    fn contains(&self, key: &[u8]) -> bool {
        let bounds = (Bound::Unbounded, Bound::Included(key));
        let candidate = self.0.range::<[u8], _>(bounds).next_back();
        candidate.is_some_and(|(_, end)| end.as_ref().is_none_or(|end| key < &end[..]))
    }

    /// True if one of the keys lies in one of the intervals.
    fn meet(&self, keys: &BTreeSet<&[u8]>) -> bool {
        if keys.len() <= self.0.len() {
            return keys.iter().any(|key| self.contains(key));
        }
        self.0.iter().any(|(start, end)| {
            let first =
                keys.range::<[u8], _>((Bound::Included(&start[..]), Bound::Unbounded)).next();
            first.is_some_and(|key| end.as_ref().is_none_or(|end| **key < end[..]))
        })
    }
}

fn by_size<'s, 'a, 'b>(
    a: &'s BTreeSet<&'a [u8]>,
    b: &'s BTreeSet<&'b [u8]>,
) -> (&'s BTreeSet<&'s [u8]>, &'s BTreeSet<&'s [u8]>)
where
    'a: 's,
    'b: 's,
{
    if a.len() < b.len() { (a, b) } else { (b, a) }
}

fn keys_bytes(keys: &Keys) -> usize {
    keys.key.len() + keys.range_end.len()
}

fn put_bytes(put: &Put) -> usize {
    put.key.len() + put.value.len()
}

fn compare_bytes(compare: &Compare) -> usize {
    let operand = match &compare.operand {
        Operand::Value(value) => value.len(),
        _ => 0,
    };
    keys_bytes(&compare.keys) + operand
}

fn txn_bytes(txn: &Txn) -> usize {
    let compares: usize = txn.compare.iter().map(compare_bytes).sum();
    let ops = txn.success.iter().chain(&txn.failure).map(|op| match op {
        Op::Range(range) => keys_bytes(&range.keys),
        Op::Put(put) => put_bytes(put),
        Op::DeleteRange(delete) => keys_bytes(&delete.keys),
        Op::Txn(inner) => txn_bytes(inner),
    });
    compares + ops.sum::<usize>()
}
