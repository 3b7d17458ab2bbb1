//! Random requests over a small universe of keys, from a seed.

use bytes::Bytes;
use quorate_replica::store::{
    Alarm, AlarmAction, AlarmKind, Command, Compare, Countdown, DeleteRange, Keys, LeaseName,
    LeaseTime, Op, Operand, Put, Range, Relation, Revision, SortOrder, SortTarget, Txn,
};
use std::sync::Arc;

/// SplitMix64. Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators"
/// (2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `n` times.
    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    pub(crate) fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize].clone()
    }
}

/// Makes requests that are likely to meet each other.
pub(crate) struct Generator {
    pub(crate) random: Random,
    pub(crate) keys: Arc<Vec<Bytes>>,
    /// The latest revision, so that revisions in requests are near it.
    pub(crate) revision: u64,
    pub(crate) compacted: u64,
    /// Leases that exist, so that records about them are likely to hit.
    pub(crate) granted: Vec<LeaseName>,
    /// Leases that existed once.
    pub(crate) former: Vec<LeaseName>,
}

impl Generator {
    pub(crate) fn revision(&mut self) -> Revision {
        let span = self.revision + 2 - self.compacted.min(self.revision);
        match self.random.below(8) {
            0 => Revision(self.random.below(self.revision + 3)),
            _ => Revision(self.compacted + self.random.below(span)),
        }
    }

    fn key(&mut self) -> Bytes {
        let keys = Arc::clone(&self.keys);
        self.random.pick(&keys)
    }

    pub(crate) fn keys(&mut self) -> Keys {
        let key = self.key();
        let range_end = match self.random.below(6) {
            0..3 => Bytes::new(),
            3 => Bytes::from_static(b"\0"),
            _ => self.key(),
        };
        // Every key, as clients write it.
        let key = if self.random.one_in(12) { Bytes::from_static(b"\0") } else { key };
        Keys { key, range_end }
    }

    fn value(&mut self) -> Bytes {
        let len = self.random.below(4) as usize;
        let byte = b'0' + self.random.below(3) as u8;
        Bytes::from(vec![byte; len])
    }

    fn lease(&mut self) -> i64 {
        self.random.pick(&[0, 0, 0, 0, 1, 2, -3, 99])
    }

    pub(crate) fn range(&mut self) -> Range {
        let filter = |generator: &mut Generator| {
            if generator.random.one_in(8) { generator.revision() } else { Revision(0) }
        };
        Range {
            keys: self.keys(),
            limit: self.random.pick(&[0, 0, 0, 1, 2, 3, 7]),
            revision: if self.random.one_in(2) { Revision(0) } else { self.revision() },
            sort_order: self.random.pick(&[
                SortOrder::None,
                SortOrder::None,
                SortOrder::Ascend,
                SortOrder::Descend,
            ]),
            sort_target: self.random.pick(&[
                SortTarget::Key,
                SortTarget::Key,
                SortTarget::Key,
                SortTarget::Version,
                SortTarget::Create,
                SortTarget::Mod,
                SortTarget::Value,
            ]),
            keys_only: self.random.one_in(8),
            count_only: self.random.one_in(8),
            min_mod_revision: filter(self),
            max_mod_revision: filter(self),
            min_create_revision: filter(self),
            max_create_revision: filter(self),
        }
    }

    fn put(&mut self) -> Put {
        let (ignore_value, ignore_lease) = (self.random.one_in(6), self.random.one_in(6));
        Put {
            key: self.key(),
            value: if ignore_value { Bytes::new() } else { self.value() },
            lease: if ignore_lease { 0 } else { self.lease() },
            prev_kv: self.random.one_in(2),
            ignore_value,
            ignore_lease,
        }
    }

    fn delete(&mut self) -> DeleteRange {
        DeleteRange { keys: self.keys(), prev_kv: self.random.one_in(2) }
    }

    fn compare(&mut self) -> Compare {
        let number = self.revision().0 as i64;
        let operand = match self.random.below(5) {
            0 => Operand::Version(self.random.below(3) as i64),
            1 => Operand::Create(self.random.pick(&[0, number])),
            2 => Operand::Mod(self.random.pick(&[0, number])),
            3 => Operand::Value(self.value()),
            _ => Operand::Lease(self.lease()),
        };
        let relation = self.random.pick(&[
            Relation::Equal,
            Relation::Greater,
            Relation::Less,
            Relation::NotEqual,
        ]);
        Compare { keys: self.keys(), relation, operand }
    }

    pub(crate) fn txn(&mut self, depth: usize) -> Txn {
        let compares = self.random.below(3);
        Txn {
            compare: (0..compares).map(|_| self.compare()).collect(),
            success: self.ops(depth),
            failure: self.ops(depth),
        }
    }

    fn ops(&mut self, depth: usize) -> Vec<Op> {
        let count = self.random.below(4);
        let op = |_| match self.random.below(if depth < 3 { 8 } else { 6 }) {
            0 | 1 => Op::Range(self.range()),
            2..5 => Op::Put(self.put()),
            5 => Op::DeleteRange(self.delete()),
            _ => Op::Txn(self.txn(depth + 1)),
        };
        (0..count).map(op).collect()
    }

    fn alarm(&mut self) -> AlarmAction {
        let kinds = [AlarmKind::NoSpace, AlarmKind::NoSpace, AlarmKind::Corrupt];
        let alarm = Alarm { kind: self.random.pick(&kinds), member: self.random.below(3) };
        match self.random.below(3) {
            0 => AlarmAction::Raise(alarm),
            _ => AlarmAction::Clear(alarm),
        }
    }

    pub(crate) fn command(&mut self) -> Command {
        match self.random.below(20) {
            0..7 => Command::Put(self.put()),
            7..9 => Command::DeleteRange(self.delete()),
            9..14 => Command::Txn(self.txn(0)),
            14 if self.random.one_in(2) => Command::Alarm(self.alarm()),
            14..16 => Command::Compact { revision: self.revision() },
            _ => self.lease_command(),
        }
    }

    fn lease_command(&mut self) -> Command {
        match self.random.below(8) {
            0..3 => Command::LeaseGrant {
                id: self.random.pick(&[1, 2, -3]),
                ttl: self.random.pick(&[0, 2, 60, 9_000_000_000]),
                at: LeaseTime(self.random.below(1 << 20)),
            },
            3..5 => Command::LeaseRevoke { id: self.random.pick(&[1, 2, -3, 99]) },
            5 => Command::LeaseExpire { term: self.random.below(3), leases: self.names() },
            _ => Command::LeaseCountdown {
                term: self.random.below(3),
                at: LeaseTime(self.random.below(1 << 20)),
                leases: self.names().into_iter().map(|name| (name, self.countdown())).collect(),
            },
        }
    }

    /// Some leases that exist, and some that do not or no longer do.
    fn names(&mut self) -> Vec<LeaseName> {
        let mut known = self.granted.clone();
        known.extend(self.former.iter().copied());
        known.push(LeaseName { id: 7, grant: 0 });
        let count = self.random.below(4);
        (0..count).map(|_| self.random.pick(&known)).collect()
    }

    fn countdown(&mut self) -> Countdown {
        match self.random.one_in(2) {
            true => Countdown::Renewing,
            false => Countdown::Counting { deadline: LeaseTime(self.random.below(1 << 20)) },
        }
    }
}
