//! The store against a naive reference, over random sequences of everything it can do; and the
//! proof that this comparison finds bugs, by planting some.

mod bytes_in;
mod generate;
mod golden;
mod model;
mod quotas;

use bytes::Bytes;
use generate::{Generator, Random};
use model::Model;
use quorate_replica::store::{
    AlarmAction, Command, Countdown, DeleteRange, Found, KeyValue, Keys, KvError, LeaseName,
    LeaseTime, Limits, Mutant, Op, Outcome, Put, Range, Revision, Store, Txn,
};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const SEQUENCES: u64 = 10_000;

/// Sequences after which a planted bug must have been found.
const SEQUENCES_PER_MUTANT: u64 = 3_000;

/// These are found by the tests of fences and named requests,
const OF_GUARDS: [Mutant; 4] =
    [Mutant::FenceIgnored, Mutant::FenceByName, Mutant::RequestRepeated, Mutant::RequestsForgotten];

/// those of [`quotas::MUTANTS`] by the tests of quotas, and these by the tests of users and roles.
const OF_AUTH: [Mutant; 8] = [
    Mutant::NestedNotChecked,
    Mutant::PrevKvNotChecked,
    Mutant::ComparesNotChecked,
    Mutant::RangeEndOffByOne,
    Mutant::OpenEndIgnored,
    Mutant::NotCheckedAtApply,
    Mutant::LeaseKeysNotChecked,
    Mutant::AuthForgotten,
];

const LEASES: [i64; 3] = [-3, 1, 2];

/// How often each thing happened.
type Tally = BTreeMap<&'static str, u64>;

/// What every run must have seen succeed, or fail, at least once.
const KINDS: [&str; 37] = [
    "put",
    "delete",
    "txn",
    "compact",
    "txn succeeded",
    "txn failed",
    "txn nested",
    "txn wrote",
    "txn read",
    "txn range compare",
    "txn admitted",
    "txn duplicate",
    "range",
    "range more",
    "range past",
    "range filtered",
    "range sorted",
    "pages",
    "changes",
    "prev of",
    "clone",
    "save",
    "sweep",
    "lease granted",
    "lease revoked",
    "lease revoked with keys",
    "lease expired",
    "lease counted down",
    "KeyNotFound",
    "LeaseNotFound",
    "LeaseExists",
    "Compacted",
    "FutureRevision",
    "alarm raised",
    "alarm cleared",
    "NoSpace",
    "Corrupt",
];

/// The store under test, a twin that differs in when it sweeps and saves, and the reference.
struct Run {
    store: Store,
    twin: Store,
    model: Model,
    frozen: Vec<(Store, Model)>,
    generator: Generator,
    tally: Tally,
}

fn generator(seed: u64, keys: Arc<Vec<Bytes>>) -> Generator {
    let (granted, former) = (Vec::new(), Vec::new());
    Generator { random: Random(seed), keys, revision: 1, compacted: 0, granted, former }
}

fn universe(seed: u64) -> Arc<Vec<Bytes>> {
    if seed % 500 == 7 {
        return Arc::new((0..600).map(|n| Bytes::from(format!("wide/{n:04}"))).collect());
    }
    let keys = ["\0", "a", "a\0", "aa", "ab", "b", "ba", "c", "d", "zz"];
    Arc::new(keys.iter().map(|key| Bytes::from_static(key.as_bytes())).collect())
}

fn equal<T: PartialEq + Debug>(what: &str, store: T, model: T) -> Result<(), String> {
    if store == model {
        return Ok(());
    }
    Err(format!("{what}\n  store {store:?}\n  model {model:?}"))
}

impl Run {
    fn new(seed: u64, mutant: Option<Mutant>) -> Run {
        let keys = universe(seed);
        let mut store = Store::new();
        if let Some(mutant) = mutant {
            store.plant(mutant);
        }
        let mut run = Run {
            twin: Store::new(),
            store,
            model: Model::new(Arc::clone(&keys)),
            frozen: Vec::new(),
            generator: generator(seed, keys),
            tally: Tally::new(),
        };
        for id in LEASES {
            let grant = Command::LeaseGrant { id, ttl: 60, at: LeaseTime(1) };
            run.store.apply(&grant);
            run.twin.apply(&grant);
            run.model.apply(&grant).expect("none is there yet");
        }
        run
    }

    /// What requests should be about.
    fn aim(&mut self) {
        self.generator.revision = self.model.revision;
        self.generator.compacted = self.model.compacted;
        let name = |(id, lease): (&i64, &model::Granted)| LeaseName { id: *id, grant: lease.grant };
        self.generator.granted = self.model.leases.iter().map(name).collect();
        for name in &self.generator.granted {
            if !self.generator.former.contains(name) {
                self.generator.former.push(*name);
            }
        }
    }

    fn count(&mut self, kind: &'static str) {
        *self.tally.entry(kind).or_default() += 1;
    }

    fn steps(&mut self, mutant: Option<Mutant>) -> Result<(), String> {
        if self.generator.keys.len() > 100 {
            self.fill()?;
        }
        for _ in 0..4 + self.generator.random.below(40) {
            self.aim();
            match self.generator.random.below(20) {
                0..10 => self.command()?,
                10..14 => self.range()?,
                14 => self.pages()?,
                15 => self.changes()?,
                16 => {
                    self.frozen.push((self.store.clone(), self.model.clone()));
                    self.count("clone");
                }
                17 => {
                    let budget = self.generator.random.below(4) as usize;
                    self.store.sweep(budget);
                    self.count("sweep");
                }
                18 => self.reload(mutant)?,
                _ => self.read_txn()?,
            }
        }
        self.finish()
    }

    /// Many keys at once, so that the trees have several levels.
    fn fill(&mut self) -> Result<(), String> {
        for key in Arc::clone(&self.generator.keys).iter().cloned() {
            if self.generator.random.one_in(4) {
                continue;
            }
            let put = Put { key, ..Default::default() };
            self.apply(&Command::Put(put))?;
        }
        Ok(())
    }

    fn command(&mut self) -> Result<(), String> {
        let command = self.generator.command();
        self.tally_command(&command);
        self.apply(&command)
    }

    fn apply(&mut self, command: &Command) -> Result<(), String> {
        let mut encoded = Vec::new();
        command.encode(&mut encoded);
        let decoded = Command::decode(Bytes::from(encoded)).map_err(|bad| bad.to_string())?;
        equal("codec", &decoded, command)?;
        self.vary(command)?;
        let before = self.store.digest();
        let applied = self.store.apply(&decoded);
        self.twin.apply(command);
        let outcome = self.model.apply(command);
        equal(&format!("{command:?}"), &applied.outcome, &outcome)?;
        equal("revision", applied.revision, Revision(self.model.revision))?;
        if before == self.store.digest() {
            return Err("a command left the digest as it was".to_owned());
        }
        self.tally_outcome(command, &outcome);
        self.figures()
    }

    /// A put or a countdown that differs in one field must differ in the digest.
    fn vary(&mut self, command: &Command) -> Result<(), String> {
        if let Command::LeaseCountdown { term, at, leases } = command {
            return self.vary_countdown(*term, *at, leases);
        }
        let Command::Put(put) = command else { return Ok(()) };
        if put.ignore_lease || put.ignore_value {
            return Ok(());
        }
        let mut other = put.clone();
        match self.generator.random.below(3) {
            0 => other.lease = if put.lease == 1 { 2 } else { 1 },
            1 => other.value = [&put.value[..], b"x"].concat().into(),
            _ => other.key = if put.key == "a" { "b".into() } else { "a".into() },
        }
        let (mut left, mut right) = (self.store.clone(), self.store.clone());
        let done = left.apply(command).outcome.is_ok();
        let done = right.apply(&Command::Put(other)).outcome.is_ok() || done;
        if done && left.digest() == right.digest() {
            return Err(format!("equal digests after {command:?} and a variant"));
        }
        Ok(())
    }

    fn vary_countdown(
        &self,
        term: u64,
        at: LeaseTime,
        leases: &[(LeaseName, Countdown)],
    ) -> Result<(), String> {
        let digest = |leases: Vec<(LeaseName, Countdown)>| {
            let mut store = self.store.clone();
            store.apply(&Command::LeaseCountdown { term, at, leases });
            (store.digest(), store.leases().map(|(_, lease)| lease.countdown).collect::<Vec<_>>())
        };
        let later = |countdown: &Countdown| match countdown {
            Countdown::Renewing => Countdown::Counting { deadline: LeaseTime(0) },
            Countdown::Counting { deadline } => Countdown::Counting { deadline: deadline.after(1) },
        };
        let other = leases.iter().map(|(name, countdown)| (*name, later(countdown))).collect();
        let (left, right) = (digest(leases.to_vec()), digest(other));
        if left.1 != right.1 && left.0 == right.0 {
            return Err(format!("equal digests after {leases:?} and a variant"));
        }
        Ok(())
    }

    fn figures(&self) -> Result<(), String> {
        let (store, model) = (&self.store, &self.model);
        let living = model.state(u64::MAX).iter().flatten().count() as u64;
        equal("number of keys", store.keys(), living)?;
        equal("revision", store.revision(), Revision(model.revision))?;
        model.compare_leases(store)?;
        let mut alarms = model.alarms.clone();
        alarms.sort_unstable();
        equal("alarms", store.alarms().collect::<Vec<_>>(), alarms)?;
        equal("compact revision", store.compact_revision(), Revision(model.compacted))
    }

    fn range(&mut self) -> Result<(), String> {
        let range = self.generator.range();
        let found = self.model.range(&range);
        equal(&format!("{range:?}"), &self.store.range(&range), &found)?;
        self.tally_found(&range, &found);
        Ok(())
    }

    fn pages(&mut self) -> Result<(), String> {
        let range = self.generator.range();
        let page_bytes = self.generator.random.below(400) as usize;
        let wanted = self.model.range(&range);
        let pages = match self.store.pages(&range, page_bytes) {
            Ok(pages) => pages,
            Err(refusal) => return equal("pages", &Err(refusal), &wanted),
        };
        // What is applied while the stream goes on does not show in it.
        let mut later = self.store.clone();
        later.apply(&Command::DeleteRange(DeleteRange { keys: everything(), prev_kv: false }));
        let mut all = Found { keys_only: range.keys_only, ..Found::default() };
        let mut pages = pages;
        let mut surveys = Vec::new();
        loop {
            let mut left = 0;
            let told = pages.survey(&mut |_| left += 1);
            surveys.push((all.kvs.len() + left, told));
            let Some(page) = pages.next() else { break };
            if page.kvs.len() > 1 + page_bytes / 48 {
                return Err("a page is too large".to_owned());
            }
            all.kvs.extend(page.kvs);
            (all.more, all.count) = (page.more, page.count);
        }
        // Every survey before the last page foretold the whole answer.
        surveys.pop();
        for (pairs, told) in surveys {
            equal("survey", (pairs, told), (all.kvs.len(), (all.more, all.count)))?;
        }
        self.count("pages");
        equal(&format!("pages of {range:?}"), &Ok(all), &wanted)
    }

    fn changes(&mut self) -> Result<(), String> {
        let from = self.generator.revision();
        let events = match self.store.changes(from) {
            Ok(events) => events,
            Err(refusal) => {
                let compact_revision = Revision(self.model.compacted);
                equal("changes", refusal, KvError::Compacted { compact_revision })?;
                return equal("compacted", from < compact_revision, true);
            }
        };
        equal("changes before the compaction", from.0 >= self.model.compacted, true)?;
        let mut met_prev = false;
        let mut wanted = self.model.changes.iter().filter(|change| change.revision >= from.0);
        for event in events {
            let Some(change) = wanted.next() else {
                return Err(format!("an event too many: {event:?}"));
            };
            let former = self.model.state(change.revision - 1)[change.key].clone();
            let deleted = KeyValue {
                key: self.model.keys[change.key].clone(),
                mod_revision: Revision(change.revision),
                ..KeyValue::default()
            };
            let kv = change.kv.clone().unwrap_or_else(|| Arc::new(deleted));
            equal("event", &event.kv, &kv)?;
            equal("kind", event.is_delete(), change.kv.is_none())?;
            let prev_revision = former.as_ref().map_or(Revision(0), |kv| kv.mod_revision);
            equal("prev revision", event.prev_revision, prev_revision)?;
            let seen = former.filter(|_| change.revision > self.model.compacted);
            met_prev |= seen.is_some();
            equal("prev", self.store.prev_of(event), seen.as_ref())?;
        }
        equal("missing events", wanted.count(), 0)?;
        self.count("changes");
        if met_prev {
            self.count("prev of");
        }
        Ok(())
    }

    fn reload(&mut self, mutant: Option<Mutant>) -> Result<(), String> {
        let mut saved = Vec::new();
        self.store.save(&mut saved).map_err(|error| error.to_string())?;
        saved.push(b'!');
        let mut rest = &saved[..];
        let mut loaded = Store::load(&mut rest).map_err(|error| error.to_string())?;
        equal("what follows a saved store", rest, b"!")?;
        equal("digest", loaded.digest(), self.store.digest())?;
        equal("applied", loaded.applied(), self.store.applied())?;
        equal("bytes", loaded.bytes_in_use(), self.store.bytes_in_use())?;
        equal("swept", loaded.is_swept(), self.store.is_swept())?;
        let mut again = Vec::new();
        loaded.save(&mut again).map_err(|error| error.to_string())?;
        saved.pop();
        equal("saved again", again == saved, true)?;
        if let Some(mutant) = mutant {
            loaded.plant(mutant);
        }
        self.store = loaded;
        self.count("save");
        self.figures()
    }

    fn read_txn(&mut self) -> Result<(), String> {
        let txn = self.generator.txn(1);
        if !txn.is_read_only() {
            return Ok(());
        }
        // Reads are no commands: no alarm forbids them.
        let mut calm = Model { alarms: Vec::new(), ..self.model.clone() };
        let outcome = calm.apply(&Command::Txn(txn.clone()));
        self.count("txn read");
        equal("a read-only transaction", &self.store.read(&txn), &outcome)
    }

    fn finish(&mut self) -> Result<(), String> {
        equal("digest of the twin", self.store.digest(), self.twin.digest())?;
        while !self.store.sweep(3) {}
        equal("swept", self.store.is_swept(), true)?;
        equal("digest after the sweep", self.store.digest(), self.twin.digest())?;
        equal("bytes", self.store.bytes_in_use(), self.model.bytes())?;
        for revision in self.model.compacted.max(1)..=self.model.revision {
            let revision = Revision(revision);
            let keys = everything();
            let range = Range { keys, revision, ..Range::default() };
            equal("at the end", &self.store.range(&range), &self.model.range(&range))?;
            equal("hash", self.store.hash_kv(revision), self.twin.hash_kv(revision))?;
        }
        self.changes()?;
        for (store, model) in std::mem::take(&mut self.frozen) {
            (self.store, self.model) = (store, model);
            self.aim();
            self.figures()?;
            for _ in 0..4 {
                self.range()?;
            }
            self.changes()?;
        }
        Ok(())
    }

    fn tally_command(&mut self, command: &Command) {
        let Command::Txn(txn) = command else { return };
        let limits = Limits::default();
        let admitted = limits.admit_txn(txn).is_ok();
        self.count(if admitted { "txn admitted" } else { "txn duplicate" });
        assert_eq!(admitted, !writes_twice(txn), "admission of {txn:?}");
    }

    fn tally_outcome(&mut self, command: &Command, outcome: &Result<Outcome, KvError>) {
        match (command, outcome) {
            (_, Err(refusal)) => self.tally_refusal(*refusal),
            (Command::Txn(txn), Ok(outcome)) => self.tally_txn(txn, outcome),
            (Command::Alarm(AlarmAction::Raise(_)), _) => self.count("alarm raised"),
            (_, Ok(Outcome::Alarms(cleared))) if cleared.is_empty() => {}
            (_, Ok(Outcome::Alarms(_))) => self.count("alarm cleared"),
            (_, Ok(Outcome::Put { .. })) => self.count("put"),
            (_, Ok(Outcome::DeleteRange { deleted: 1.., .. })) => self.count("delete"),
            (_, Ok(Outcome::Compact)) => self.count("compact"),
            (_, Ok(Outcome::LeaseGrant { .. })) => self.count("lease granted"),
            (_, Ok(Outcome::LeaseRevoke { deleted: 0 })) => self.count("lease revoked"),
            (_, Ok(Outcome::LeaseRevoke { .. })) => self.count("lease revoked with keys"),
            (_, Ok(Outcome::LeaseExpire { expired: 1.. })) => self.count("lease expired"),
            (_, Ok(Outcome::LeaseCountdown { changed: 1.. })) => self.count("lease counted down"),
            _ => {}
        }
    }

    fn tally_refusal(&mut self, refusal: KvError) {
        self.count(match refusal {
            KvError::KeyNotFound => "KeyNotFound",
            KvError::LeaseNotFound => "LeaseNotFound",
            KvError::LeaseExists => "LeaseExists",
            KvError::Compacted { .. } => "Compacted",
            KvError::FutureRevision { .. } => "FutureRevision",
            KvError::NoSpace => "NoSpace",
            KvError::Corrupt => "Corrupt",
            KvError::TooLarge => unreachable!("these stores are small"),
            KvError::Denied(_) | KvError::Auth(_) => {
                unreachable!("see the tests of users and roles")
            }
            KvError::Fenced { .. }
            | KvError::RequestForgotten
            | KvError::RequestReused
            | KvError::AnswerNotKept { .. } => unreachable!("see the tests of guards"),
            KvError::Limit(_) | KvError::QuotaExceeded { .. } => unreachable!("see `quotas.rs`"),
        });
    }

    fn tally_txn(&mut self, txn: &Txn, outcome: &Outcome) {
        let Outcome::Txn { succeeded, outcomes } = outcome else { return };
        self.count("txn");
        self.count(if *succeeded { "txn succeeded" } else { "txn failed" });
        if *succeeded && txn.compare.iter().any(|compare| !compare.keys.range_end.is_empty()) {
            self.count("txn range compare");
        }
        for (op, outcome) in
            (if *succeeded { &txn.success } else { &txn.failure }).iter().zip(outcomes)
        {
            match op {
                Op::Put(_) => self.count("txn wrote"),
                Op::Txn(inner) => {
                    self.count("txn nested");
                    self.tally_txn(inner, outcome);
                }
                _ => {}
            }
        }
    }

    fn tally_found(&mut self, range: &Range, found: &Result<Found, KvError>) {
        let found = match found {
            Ok(found) if found.count > 1 => found,
            Ok(_) => return,
            Err(refusal) => return self.tally_refusal(*refusal),
        };
        self.count("range");
        let kinds = [
            ("range more", found.more),
            ("range past", range.revision.0 > 0 && range.revision.0 < self.model.revision),
            ("range filtered", !found.more && (found.kvs.len() as u64) < found.count),
            ("range sorted", !range.is_plain() && found.kvs.len() > 1),
        ];
        for (kind, met) in kinds {
            if met {
                self.count(kind);
            }
        }
    }
}

/// A write of a transaction: where it stands, which keys, and whether it puts.
struct Place {
    /// For each transaction around it, from the outside: its number and the branch.
    branches: Vec<(usize, bool)>,
    keys: Keys,
    puts: bool,
}

/// Whether two writes which can both run meet in a key: every pair is looked at.
fn writes_twice(txn: &Txn) -> bool {
    let mut places = Vec::new();
    collect(txn, &[], &mut 0, &mut places);
    places.iter().enumerate().any(|(at, a)| {
        places[at + 1..].iter().any(|b| {
            let exclusive =
                |(outer, branch): &(usize, bool)| b.branches.contains(&(*outer, !branch));
            let meet = match (a.puts, b.puts) {
                (true, true) => a.keys.key == b.keys.key,
                (true, false) => b.keys.contains(&a.keys.key),
                (false, true) => a.keys.contains(&b.keys.key),
                (false, false) => false,
            };
            meet && !a.branches.iter().any(exclusive)
        })
    })
}

fn collect(txn: &Txn, outer: &[(usize, bool)], number: &mut usize, places: &mut Vec<Place>) {
    *number += 1;
    let own = *number;
    for (branch, ops) in [(true, &txn.success), (false, &txn.failure)] {
        let branches = [outer, &[(own, branch)]].concat();
        for op in ops {
            let (keys, puts) = match op {
                Op::Range(_) => continue,
                Op::Put(put) => (Keys { key: put.key.clone(), range_end: Bytes::new() }, true),
                Op::DeleteRange(delete) => (delete.keys.clone(), false),
                Op::Txn(inner) => {
                    collect(inner, &branches, number, places);
                    continue;
                }
            };
            places.push(Place { branches: branches.clone(), keys, puts });
        }
    }
}

fn everything() -> Keys {
    let zero = Bytes::from_static(b"\0");
    Keys { key: zero.clone(), range_end: zero }
}

/// One sequence; an error or a panic is a finding.
fn sequence(seed: u64, mutant: Option<Mutant>) -> Result<Tally, String> {
    let run = || {
        let mut run = Run::new(seed, mutant);
        run.steps(mutant).map(|()| run.tally)
    };
    let caught = catch_unwind(AssertUnwindSafe(run));
    caught.unwrap_or_else(|_| Err("the store panicked".to_owned()))
}

#[test]
fn agrees_with_the_reference_over_random_sequences() {
    let mut all = Tally::new();
    for seed in 0..SEQUENCES {
        let tally = sequence(seed, None)
            .unwrap_or_else(|finding| panic!("sequence {seed} disagrees: {finding}"));
        for (kind, count) in tally {
            *all.entry(kind).or_default() += count;
        }
    }
    for kind in KINDS {
        assert!(all.get(kind).is_some_and(|count| *count > 0), "{kind:?} never happened: {all:?}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    let of_others = |mutant: &Mutant| OF_AUTH.contains(mutant) || OF_GUARDS.contains(mutant);
    let others = |mutant: &Mutant| !of_others(mutant) && !quotas::MUTANTS.contains(mutant);
    for mutant in Mutant::ALL.iter().copied().filter(others) {
        let found = (0..SEQUENCES_PER_MUTANT).find(|seed| sequence(*seed, Some(mutant)).is_err());
        assert!(found.is_some(), "{mutant:?} survived {SEQUENCES_PER_MUTANT} sequences");
    }
}
