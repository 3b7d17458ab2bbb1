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
//! Source: etcd `server/etcdserver/txn/txn.go` (`compareToPath`, `checkTxn`, `executeTxn`).

use super::write::Write;
use super::{Compare, KeyValue, KvError, Mutant, Op, Operand, Outcome, Relation, Store, Txn};
use std::cmp::Ordering;

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

impl Store {
    /// Evaluates a transaction that does not write.
    ///
    /// Errors as for the ranges in it. Panics: if it is not [`Txn::is_read_only`].
    pub fn read(&self, txn: &Txn) -> Result<Outcome, KvError> {
        assert!(txn.is_read_only(), "writes go through the log");
        self.clone().apply_txn(txn)
    }

    pub(super) fn apply_txn(&mut self, txn: &Txn) -> Result<Outcome, KvError> {
        let mut path = Vec::new();
        self.choose(txn, &mut path);
        if let Err(refusal) = self.check_txn(txn, &mut path.iter()) {
            if self.planted(Mutant::PartialTxn) {
                self.run(&mut Write::default(), txn, &mut path.iter());
            }
            return Err(refusal);
        }
        Ok(self.run(&mut Write::default(), txn, &mut path.iter()))
    }

    /// Evaluates the comparisons and notes the branches.
    fn choose(&self, txn: &Txn, path: &mut Vec<bool>) {
        let succeeded = txn.compare.iter().all(|compare| self.holds(compare));
        path.push(succeeded);
        for op in txn.branch(succeeded) {
            if let Op::Txn(inner) = op {
                self.choose(inner, path);
            }
        }
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

    fn check_txn(&self, txn: &Txn, path: &mut Path<'_>) -> Result<(), KvError> {
        for op in txn.branch(next_branch(path)) {
            match op {
                Op::Range(range) => self.check_revision(range.revision)?,
                Op::Put(put) => {
                    self.check_present(put)?;
                    self.check_lease(put)?;
                }
                Op::DeleteRange(_) => {}
                Op::Txn(inner) => self.check_txn(inner, path)?,
            }
        }
        Ok(())
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
