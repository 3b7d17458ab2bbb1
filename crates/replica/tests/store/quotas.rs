//! Storage quotas against a naive reference: a store without rules is asked the same, its living
//! keys are counted one by one, and what passes a quota is not asked of it. And the proof that this
//! finds bugs, by planting some.

use super::generate::Random;
use bytes::Bytes;
use quorate_replica::store::{
    Command, Compare, DeleteRange, Keys, KvError, LeaseName, LeaseTime, LimitCommand, LimitError,
    LimitRule, Mutant, Op, Operand, Priority, Put, Quota, QuotaKind, Relation, Store, Txn, Used,
};
use std::panic::{AssertUnwindSafe, catch_unwind};

const STORIES: u64 = 300;
const STEPS: u64 = 120;
pub(super) const MUTANTS: [Mutant; 3] =
    [Mutant::QuotaNotReturned, Mutant::QuotaIgnored, Mutant::LimitsForgotten];
const PREFIXES: [&str; 4] = ["a/", "a/b", "c", ""];
const LEASES: [i64; 2] = [7, 8];

struct Story {
    random: Random,
    store: Store,
    /// The same commands, those that were refused left out, and no rules.
    free: Store,
    rules: Vec<LimitRule>,
    mutant: Option<Mutant>,
    refused: u64,
}

fn key(random: &mut Random) -> Bytes {
    let stems = ["a/", "a/b", "a/b/", "c", "d", "b"];
    let stem = stems[random.below(stems.len() as u64) as usize];
    Bytes::from(format!("{stem}{}", random.below(3)))
}

fn put(random: &mut Random) -> Put {
    let value = Bytes::from(vec![b'v'; random.below(30) as usize]);
    let lease = [0, 0, LEASES[0], LEASES[1]][random.below(4) as usize];
    let ignore = random.below(8) == 0;
    let value = if ignore { Bytes::new() } else { value };
    Put { key: key(random), value, lease, ignore_value: ignore, ..Put::default() }
}

fn below(prefix: &str) -> Keys {
    LimitRule { prefix: Bytes::from(prefix.to_owned()), ..LimitRule::default() }.keys()
}

fn delete(random: &mut Random) -> DeleteRange {
    let keys = match random.below(3) {
        0 => below(PREFIXES[random.below(3) as usize]),
        _ => Keys { key: key(random), range_end: Bytes::new() },
    };
    DeleteRange { keys, prev_kv: false }
}

fn txn(random: &mut Random, depth: u64) -> Txn {
    let mut ops = |count: u64| -> Vec<Op> {
        let op = |random: &mut Random| match random.below(6) {
            0 if depth < 2 => Op::Txn(txn(random, depth + 1)),
            1 | 2 => Op::DeleteRange(delete(random)),
            _ => Op::Put(put(random)),
        };
        (0..count).map(|_| op(random)).collect()
    };
    let (success, failure) = (ops(3), ops(2));
    let keys = Keys { key: key(random), range_end: Bytes::new() };
    let operand = Operand::Version(random.below(2) as i64);
    Txn { compare: vec![Compare { keys, relation: Relation::Equal, operand }], success, failure }
}

fn count(store: &Store, rule: &LimitRule) -> Used {
    if rule.quota.is_empty() {
        return Used::default();
    }
    let all = quorate_replica::store::Range { keys: below(""), ..Default::default() };
    let found = store.range(&all).expect("the latest can be read");
    let own = found.kvs.iter().filter(|kv| kv.key.starts_with(&rule.prefix));
    own.fold(Used::default(), |used, kv| Used {
        bytes: used.bytes + (kv.key.len() + kv.value.len()) as u64,
        keys: used.keys + 1,
    })
}

impl Story {
    fn new(seed: u64, mutant: Option<Mutant>) -> Story {
        let mut store = Store::new();
        mutant.into_iter().for_each(|mutant| store.plant(mutant));
        let free = Store::new();
        let random = Random(seed);
        Story { random, store, free, rules: Vec::new(), mutant, refused: 0 }
    }

    fn run(mut self) -> u64 {
        for id in LEASES {
            self.step(&Command::LeaseGrant { id, ttl: 60, at: LeaseTime(1) });
        }
        for _ in 0..STEPS {
            match self.random.below(20) {
                0 | 1 => self.set_rule(),
                2 => self.remove_rule(),
                3 => self.restart(),
                4 => self.end_lease(),
                5..9 => {
                    let delete = delete(&mut self.random);
                    self.step(&Command::DeleteRange(delete));
                }
                9..13 => {
                    let txn = txn(&mut self.random, 0);
                    self.step(&Command::Txn(txn));
                }
                _ => {
                    let put = put(&mut self.random);
                    self.step(&Command::Put(put));
                }
            }
            self.compare();
        }
        self.refused
    }

    fn set_rule(&mut self) {
        let random = &mut self.random;
        let prefix = PREFIXES[random.below(4) as usize];
        let some =
            |bound: u64, random: &mut Random| (random.below(2) == 0).then(|| random.below(bound));
        let quota = Quota { bytes: some(120, random), keys: some(8, random) };
        let rule = LimitRule {
            name: Bytes::from(format!("rule-{}", random.below(3))),
            prefix: Bytes::from(prefix.to_owned()),
            priority: Some(Priority::Low),
            quota,
            ..LimitRule::default()
        };
        let set = self.store.apply(&Command::Limit(LimitCommand::Set(rule.clone())));
        assert!(set.outcome.is_ok(), "{set:?}");
        self.rules.retain(|known| known.name != rule.name);
        self.rules.push(rule);
        self.rules.sort_by(|a, b| a.name.cmp(&b.name));
    }

    fn remove_rule(&mut self) {
        let name = Bytes::from(format!("rule-{}", self.random.below(3)));
        let was = self.rules.len();
        self.rules.retain(|known| known.name != name);
        let removed = self.store.apply(&Command::Limit(LimitCommand::Remove { name }));
        let missing = Err(KvError::Limit(LimitError::NotFound));
        match was == self.rules.len() {
            true => assert_eq!(removed.outcome, missing),
            false => assert!(removed.outcome.is_ok(), "{removed:?}"),
        }
    }

    fn restart(&mut self) {
        let digest = self.store.digest();
        let mut bytes = Vec::new();
        self.store.save(&mut bytes).expect("memory");
        self.store = Store::load(&mut &bytes[..]).expect("it was saved");
        self.mutant.into_iter().for_each(|mutant| self.store.plant(mutant));
        assert_eq!(self.store.digest(), digest);
    }

    fn end_lease(&mut self) {
        let id = LEASES[self.random.below(2) as usize];
        let lease = self.store.lease(id).expect("it is granted again at once");
        let name = LeaseName { id, grant: lease.grant };
        // Without a word on limits both count their commands alike; here the names differ.
        let other = LeaseName { id, grant: self.free.lease(id).expect("as above").grant };
        if self.random.below(2) == 0 {
            self.step(&Command::LeaseRevoke { id });
        } else {
            self.store.apply(&Command::LeaseExpire { term: 1, leases: vec![name] });
            self.free.apply(&Command::LeaseExpire { term: 1, leases: vec![other] });
        }
        self.step(&Command::LeaseGrant { id, ttl: 60, at: LeaseTime(1) });
    }

    fn step(&mut self, command: &Command) {
        let mut after = self.free.clone();
        let free = after.apply(command);
        let passed = self.rules.iter().any(|rule| {
            let (before, after) = (count(&self.free, rule), count(&after, rule));
            let beyond = |max: Option<u64>, after, before| {
                max.is_some_and(|max| after > max && after > before)
            };
            beyond(rule.quota.bytes, after.bytes, before.bytes)
                || beyond(rule.quota.keys, after.keys, before.keys)
        });
        let revision = self.store.revision();
        let applied = self.store.apply(command);
        if passed {
            self.refused += 1;
            assert!(matches!(applied.outcome, Err(KvError::QuotaExceeded { .. })), "{applied:?}");
            assert_eq!(self.store.revision(), revision, "nothing happened");
        } else {
            assert_eq!(applied, free);
            self.free = after;
        }
    }

    fn compare(&self) {
        let all = quorate_replica::store::Range { keys: below(""), ..Default::default() };
        assert_eq!(self.store.range(&all), self.free.range(&all));
        let told: Vec<_> = self.store.limits().map(|(rule, used)| (rule.clone(), used)).collect();
        let rules = self.rules.iter();
        let naive: Vec<_> = rules.map(|rule| (rule.clone(), count(&self.store, rule))).collect();
        assert_eq!(told, naive);
    }
}

#[test]
fn what_passes_a_quota_is_refused_and_nothing_else_is() {
    let refused: u64 = (0..STORIES).map(|seed| Story::new(seed, None).run()).sum();
    assert!(refused > STORIES, "quotas were passed: {refused}");
}

#[test]
fn every_planted_bug_of_quotas_is_found() {
    for mutant in MUTANTS {
        let found = (0..STORIES).find(|seed| {
            let story = AssertUnwindSafe(|| Story::new(*seed, Some(mutant)).run());
            catch_unwind(story).is_err()
        });
        assert!(found.is_some(), "{mutant:?} was not found");
    }
}

#[test]
fn a_rule_that_is_none_is_refused_with_what_is_wrong() {
    let name = Bytes::from_static(b"r");
    let good = LimitRule { name, per_second: Some(5), ..LimitRule::default() };
    let long = Bytes::from(vec![b'x'; 2_000]);
    let quota = Quota { keys: Some(1), bytes: None };
    let user = Bytes::from_static(b"ann");
    let cases = [
        (LimitRule { name: Bytes::new(), ..good.clone() }, LimitError::BadName),
        (LimitRule { name: Bytes::from_static(b"a\"b"), ..good.clone() }, LimitError::BadName),
        (LimitRule { prefix: long.clone(), ..good.clone() }, LimitError::TooLong),
        (LimitRule { user: long, ..good.clone() }, LimitError::TooLong),
        (LimitRule { per_second: Some(0), ..good.clone() }, LimitError::BadRate),
        (LimitRule { per_second: None, burst: Some(1), ..good.clone() }, LimitError::BadRate),
        (LimitRule { per_second: None, ..good.clone() }, LimitError::Nothing),
        (LimitRule { user, quota, ..good.clone() }, LimitError::QuotaOfUser),
    ];
    let mut store = Store::new();
    for (rule, why) in cases {
        let set = store.apply(&Command::Limit(LimitCommand::Set(rule)));
        assert_eq!(set.outcome, Err(KvError::Limit(why)));
    }
    for number in 0..quorate_replica::store::RULES_MAX {
        let name = Bytes::from(format!("{number}"));
        let rule = LimitRule { name, ..good.clone() };
        assert!(store.apply(&Command::Limit(LimitCommand::Set(rule))).outcome.is_ok());
    }
    let more = store.apply(&Command::Limit(LimitCommand::Set(good)));
    assert_eq!(more.outcome, Err(KvError::Limit(LimitError::TooMany)));
}

#[test]
fn a_refusal_names_the_bound_and_a_lower_quota_takes_nothing_away() {
    let mut store = Store::new();
    let put = |key: &str, len: usize| {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from(vec![b'v'; len]));
        Command::Put(Put { key, value, ..Put::default() })
    };
    store.apply(&put("a/1", 97));
    let quota = Quota { bytes: Some(150), keys: Some(2) };
    let prefix = Bytes::from_static(b"a/");
    let rule = LimitRule { name: Bytes::from_static(b"r"), prefix, quota, ..LimitRule::default() };
    store.apply(&Command::Limit(LimitCommand::Set(rule.clone())));
    let refused = |kind, max| Err(KvError::QuotaExceeded { rule: 0, kind, max });
    assert_eq!(store.apply(&put("a/2", 48)).outcome, refused(QuotaKind::Bytes, 150));
    assert!(store.apply(&put("a/2", 47)).outcome.is_ok());
    assert!(store.apply(&put("b", 1_000)).outcome.is_ok());
    assert!(store.apply(&put("a/1", 0)).outcome.is_ok());
    assert_eq!(store.apply(&put("a/3", 1)).outcome, refused(QuotaKind::Keys, 2));
    let tight = LimitRule { quota: Quota { bytes: Some(1), keys: Some(1) }, ..rule };
    store.apply(&Command::Limit(LimitCommand::Set(tight)));
    assert!(store.apply(&put("a/2", 46)).outcome.is_ok(), "it shrinks");
    assert_eq!(store.apply(&put("a/2", 47)).outcome, refused(QuotaKind::Bytes, 1));
}

#[test]
fn a_store_without_limits_is_saved_as_the_version_before_reads_it() {
    let version = |store: &Store| {
        let mut bytes = Vec::new();
        store.save(&mut bytes).expect("memory");
        // The length and the hash of the first block, and what says that it is a store.
        bytes[4 + 8 + 13]
    };
    let mut store = Store::new();
    assert_eq!(version(&store), 4);
    let name = Bytes::from_static(b"r");
    let rule = LimitRule { name: name.clone(), in_flight: Some(1), ..LimitRule::default() };
    store.apply(&Command::Limit(LimitCommand::Set(rule)));
    assert_eq!(version(&store), 5);
    store.apply(&Command::Limit(LimitCommand::Remove { name }));
    assert_eq!(version(&store), 4);
}
