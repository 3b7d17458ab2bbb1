//! Transactions: compare, check, then carry out.
//!
//! **Order.** First all comparisons of the branches taken are evaluated, nested ones included,
//! on the state before the transaction; this fixes the path. Then every operation on the path is
//! checked against that same state; the first failure refuses the transaction as a whole. Only
//! then the operations run, in order, each seeing the writes before it, all at one revision.
//!
//! ```text
//!   Txn { if A: [put, Txn { if B: .. else: .. }] else: [..] }      path, outermost first: A, B
//! ```
//!
//! **Bounds.** A transaction is one step of every replica, and its answer is built as a whole. So
//! what its comparisons and ranges visit and answer is bounded, as counted on the state before it:
//! by [`TXN_VISITS_MAX`] and [`TXN_ANSWER_BYTES_MAX`]. Beyond either it is refused, by all replicas
//! alike; etcd has no such bound. What it deletes is not counted: deletes must always be possible.
//!
//! Source: etcd `server/etcdserver/txn/txn.go` (`compareToPath`, `checkTxn`, `executeTxn`).

use super::write::{Write, weight};
use super::{
    Compare, KeyValue, Keys, KvError, Mutant, Op, Operand, Outcome, Range, Relation, Store, Txn,
};
use std::cmp::Ordering;

/// Keys that the comparisons and ranges of one transaction may visit, about half a second of them.
pub const TXN_VISITS_MAX: u64 = 1_000_000;

/// What the pairs in the answer of one transaction may weigh, at [`super::VERSION_BYTES`] beside
/// key and value. Unit: bytes.
pub const TXN_ANSWER_BYTES_MAX: u64 = 256 << 20;

/// The branches taken, outermost first, in the order in which the transactions are met.
type Path<'a> = std::slice::Iter<'a, bool>;

impl Txn {
    /// True if no branch writes: then it needs no place in the log.
    pub fn is_read_only(&self) -> bool {
        self.success.iter().chain(&self.failure).all(|op| match op {
            Op::Range(_) => true,
            Op::Put(_) | Op::DeleteRange(_) => false,
            Op::Txn(txn) => txn.is_read_only(),
        })
    }

    fn branch(&self, succeeded: bool) -> &[Op] {
        if succeeded { &self.success } else { &self.failure }
    }
}

/// What is left of the bounds of one transaction.
struct Room {
    visits: u64,
    bytes: u64,
}

impl Room {
    fn visit(&mut self, keys: u64) -> Result<(), KvError> {
        self.visits = self.visits.checked_sub(keys).ok_or(KvError::TooLarge)?;
        Ok(())
    }

    fn answer(&mut self, kv: &KeyValue, keys_only: bool) -> Result<(), KvError> {
        let unsent = if keys_only { kv.value.len() as u64 } else { 0 };
        self.bytes = self.bytes.checked_sub(weight(kv) - unsent).ok_or(KvError::TooLarge)?;
        Ok(())
    }
}

impl Store {
    /// Evaluates a transaction that does not write.
    ///
    /// Errors as for the ranges in it, and [`KvError::TooLarge`]. Panics: if it is not
    /// [`Txn::is_read_only`].
    pub fn read(&self, txn: &Txn) -> Result<Outcome, KvError> {
        assert!(txn.is_read_only(), "writes go through the log");
        self.clone().apply_txn(txn)
    }

    pub(super) fn apply_txn(&mut self, txn: &Txn) -> Result<Outcome, KvError> {
        let mut path = Vec::new();
        let mut room = Room { visits: TXN_VISITS_MAX, bytes: TXN_ANSWER_BYTES_MAX };
        self.choose(txn, &mut path, &mut room)?;
        if let Err(refusal) = self.check_txn(txn, &mut path.iter(), &mut room) {
            if self.planted(Mutant::PartialTxn) {
                self.run(&mut Write::default(), txn, &mut path.iter());
            }
            return Err(refusal);
        }
        Ok(self.run(&mut Write::default(), txn, &mut path.iter()))
    }

    /// Evaluates the comparisons and notes the branches.
    fn choose(&self, txn: &Txn, path: &mut Vec<bool>, room: &mut Room) -> Result<(), KvError> {
        for compare in &txn.compare {
            room.visit(self.count_living(&compare.keys))?;
        }
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        path.push(succeeded);
        for op in txn.branch(succeeded) {
            if let Op::Txn(inner) = op {
                self.choose(inner, path, room)?;
            }
        }
        Ok(())
    }

    fn count_living(&self, keys: &Keys) -> u64 {
        let (lower, upper) = keys.bounds();
        self.live.count(lower, upper) as u64
    }

    /// Whether every key of the range satisfies the comparison.
    fn holds(&self, compare: &Compare) -> bool {
        let (lower, upper) = compare.keys.bounds();
        let mut pairs = self.live.range(lower, upper).map(|(_, living)| &living.kv);
        if pairs.len() == 0 {
            let missing = KeyValue::default();
            return !matches!(compare.operand, Operand::Value(_)) && compare.holds_for(&missing);
        }
        if self.planted(Mutant::CompareAny) {
            return pairs.any(|kv| compare.holds_for(kv));
        }
        pairs.all(|kv| compare.holds_for(kv))
    }

    fn check_txn(&self, txn: &Txn, path: &mut Path<'_>, room: &mut Room) -> Result<(), KvError> {
        for op in txn.branch(next_branch(path)) {
            match op {
                Op::Range(range) => {
                    self.check_revision(range.revision)?;
                    self.check_room(range, room)?;
                }
                Op::Put(put) => {
                    self.check_present(put)?;
                    self.check_lease(put)?;
                }
                Op::DeleteRange(_) => {}
                Op::Txn(inner) => self.check_txn(inner, path, room)?,
            }
        }
        Ok(())
    }

    /// Whether there is room for what a range, whose revision was checked, visits and answers.
    fn check_room(&self, range: &Range, room: &mut Room) -> Result<(), KvError> {
        room.visit(self.visited_by(range))?;
        if range.count_only {
            return Ok(());
        }
        self.find(range).kvs.iter().try_for_each(|kv| room.answer(kv, range.keys_only))
    }

    fn run(&mut self, write: &mut Write, txn: &Txn, path: &mut Path<'_>) -> Outcome {
        let mut succeeded = next_branch(path);
        if self.planted(Mutant::CompareAfterWrites) {
            succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        }
        let ops = txn.branch(succeeded);
        let mut outcomes = Vec::with_capacity(ops.len());
        for op in ops {
            outcomes.push(match op {
                Op::Range(range) => Outcome::Range(self.find(range)),
                Op::Put(put) => self.put(write, put),
                Op::DeleteRange(delete) => self.delete_range(write, delete),
                Op::Txn(inner) => self.run(write, inner, path),
            });
        }
        Outcome::Txn { succeeded, outcomes }
    }
}

impl Compare {
    fn holds_for(&self, kv: &KeyValue) -> bool {
        let revision = |stored: u64, given: i64| i128::from(stored).cmp(&i128::from(given));
        let order = match &self.operand {
            Operand::Version(given) => revision(kv.version, *given),
            Operand::Create(given) => revision(kv.create_revision.0, *given),
            Operand::Mod(given) => revision(kv.mod_revision.0, *given),
            Operand::Value(given) => kv.value.cmp(given),
            Operand::Lease(given) => kv.lease.cmp(given),
        };
        match self.relation {
            Relation::Equal => order == Ordering::Equal,
            Relation::NotEqual => order != Ordering::Equal,
            Relation::Greater => order == Ordering::Greater,
            Relation::Less => order == Ordering::Less,
        }
    }
}

fn next_branch(path: &mut Path<'_>) -> bool {
    *path.next().expect("the path has one branch for each transaction on it")
}
