//! Fences and named requests against a naive reference: random stories of locks that pass on, of
//! holders that come too late, and of requests that are asked again; and the proof that this finds
//! bugs, by planting some.

use bytes::Bytes;
use quorate_replica::store::{
    Applied, Caller, Command, Compare, DeleteRange, Fence, Guard, Keys, KvError, LeaseTime, Mutant,
    Op, Operand, Put, Relation, RequestId, Revision, Store, Txn,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

const STORIES: u64 = 300;
const STEPS: usize = 120;
const MUTANTS: [Mutant; 4] =
    [Mutant::FenceIgnored, Mutant::FenceByName, Mutant::RequestRepeated, Mutant::RequestsForgotten];
/// Who competes for the lock.
const LEASES: [i64; 3] = [0xa, 0xb, 0xc];

/// A source of choices; Marsaglia's xorshift (2003).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The store, a twin that is asked each thing once and only what is allowed, and what must be.
struct Story {
    random: Random,
    store: Store,
    twin: Store,
    mutant: Option<Mutant>,
    /// The line: lease and token, oldest first.
    line: Vec<(i64, u64)>,
    /// Every token that anybody was ever given.
    tokens: Vec<(i64, u64)>,
    /// By id: what was asked, and the answer if it changed something.
    asked: BTreeMap<u64, (Guard, Command, Option<Applied>)>,
}

fn key(lease: i64) -> Bytes {
    Bytes::from(format!("jobs/{lease:x}"))
}

fn one(key: Bytes) -> Keys {
    Keys { key, range_end: Bytes::new() }
}

fn put(key: Bytes, value: u64, lease: i64) -> Put {
    Put { key, value: Bytes::from(value.to_string()), lease, ..Put::default() }
}

fn grant(id: i64) -> Command {
    Command::LeaseGrant { id, ttl: 60, at: LeaseTime(1) }
}

impl Story {
    fn new(seed: u64, mutant: Option<Mutant>) -> Story {
        let (mut store, mut twin) = (Store::new(), Store::new());
        mutant.into_iter().for_each(|mutant| store.plant(mutant));
        for id in LEASES {
            store.apply(&grant(id));
            twin.apply(&grant(id));
        }
        let random = Random(seed * 2 + 1);
        let (line, tokens, asked) = (Vec::new(), Vec::new(), BTreeMap::new());
        Story { random, store, twin, mutant, line, tokens, asked }
    }

    fn both(&mut self, command: &Command) -> Result<Applied, String> {
        let (here, there) = (self.store.apply(command), self.twin.apply(command));
        same("unguarded", &here, &there).map(|()| here)
    }

    fn step(&mut self) -> Result<(), String> {
        match self.random.below(10) {
            0 | 1 => self.join(),
            2 => self.leave(),
            3 => self.reload(),
            4 | 5 => self.ask_again(),
            _ => self.ask(),
        }
    }

    fn join(&mut self) -> Result<(), String> {
        let lease = LEASES[self.random.below(3) as usize];
        if self.line.iter().any(|(other, _)| *other == lease) {
            return Ok(());
        }
        let applied = self.both(&Command::Put(put(key(lease), 0, lease)))?;
        self.line.push((lease, applied.revision.0));
        self.tokens.push((lease, applied.revision.0));
        Ok(())
    }

    /// Somebody unlocks or gives up, or his lease ends.
    fn leave(&mut self) -> Result<(), String> {
        if self.line.is_empty() {
            return Ok(());
        }
        let place = self.random.below(self.line.len() as u64) as usize;
        let (lease, _) = self.line.remove(place);
        if self.random.below(2) == 0 {
            let delete = DeleteRange { keys: one(key(lease)), prev_kv: false };
            return self.both(&Command::DeleteRange(delete)).map(|_| ());
        }
        self.both(&Command::LeaseRevoke { id: lease })?;
        self.both(&grant(lease)).map(|_| ())
    }

    fn reload(&mut self) -> Result<(), String> {
        let mut bytes = Vec::new();
        self.store.save(&mut bytes).expect("memory");
        let mut loaded = Store::load(&mut &bytes[..]).map_err(|error| error.to_string())?;
        if loaded.bytes_in_use() != self.store.bytes_in_use() {
            return Err("a checkpoint weighs something else".to_owned());
        }
        self.mutant.into_iter().for_each(|mutant| loaded.plant(mutant));
        self.store = loaded;
        Ok(())
    }

    /// A write, a swap or a deletion, under a lock or not, with a name or without.
    fn ask(&mut self) -> Result<(), String> {
        let state = Bytes::from_static(b"state");
        let number = self.asked.len() as u64;
        let command = match self.random.below(3) {
            0 => Command::Put(Put { prev_kv: true, ..put(state, number, 0) }),
            1 => {
                let operand = Operand::Version(1 + self.random.below(3) as i64);
                let keys = one(state.clone());
                let compare = vec![Compare { keys, relation: Relation::Less, operand }];
                let success = vec![Op::Put(put(state, number, 0))];
                Command::Txn(Txn { compare, success, failure: Vec::new() })
            }
            _ => Command::DeleteRange(DeleteRange { keys: one(state), prev_kv: true }),
        };
        let fences = match (self.random.below(3), self.tokens.len() as u64) {
            (0, _) | (_, 0) => Vec::new(),
            (_, tokens) => {
                let (lease, token) = self.tokens[self.random.below(tokens) as usize];
                vec![Fence { key: key(lease), token: Revision(token) }]
            }
        };
        let id = Bytes::from(format!("client-{number}"));
        let named = self.random.below(4) > 0;
        let since = self.store.revision();
        let guard = Guard { fences, request: named.then_some(RequestId { id, since }) };
        self.asked.insert(number, (guard, command, None));
        self.carry_out(number)
    }

    fn ask_again(&mut self) -> Result<(), String> {
        match self.asked.len() as u64 {
            0 => Ok(()),
            asked => {
                let number = self.random.below(asked);
                self.carry_out(number)
            }
        }
    }

    fn carry_out(&mut self, number: u64) -> Result<(), String> {
        let (guard, command, answer) = &self.asked[&number];
        let holder = self.line.first().map_or(0, |(_, token)| *token);
        let allowed = guard.fences.iter().all(|fence| fence.token.0 == holder);
        let is_named = guard.request.is_some();
        let expected = match answer {
            Some(first) if is_named => first.clone(),
            _ if allowed => self.twin.apply(command),
            _ => {
                let why = KvError::Fenced { fence: 0, holder: Revision(holder) };
                Applied { revision: self.twin.revision(), outcome: Err(why) }
            }
        };
        let before = self.store.revision();
        let found = self.store.apply_guarded(&Caller::Anonymous, guard, command);
        same("guarded", &found, &expected)?;
        let changed = self.store.revision() > before;
        if let Some((_, _, answer)) = self.asked.get_mut(&number)
            && changed
        {
            *answer = Some(found);
        }
        match self.store.revision() == self.twin.revision() {
            true => Ok(()),
            false => Err("something else happened".to_owned()),
        }
    }
}

fn same(what: &str, found: &Applied, expected: &Applied) -> Result<(), String> {
    match found == expected {
        true => Ok(()),
        false => Err(format!("{what}: {found:?} instead of {expected:?}")),
    }
}

fn story(seed: u64, mutant: Option<Mutant>) -> Result<Story, String> {
    let mut story = Story::new(seed, mutant);
    for _ in 0..STEPS {
        let told = catch_unwind(AssertUnwindSafe(|| story.step()));
        told.map_err(|_| "a panic".to_owned())??;
    }
    Ok(story)
}

#[test]
fn locks_fence_and_named_requests_take_effect_once() {
    let (mut kept, mut tokens, mut asked) = (0, 0, 0);
    for seed in 1..=STORIES {
        let told = story(seed, None).unwrap_or_else(|why| panic!("story {seed}: {why}"));
        kept += told.store.requests_kept();
        tokens += told.tokens.len();
        asked += told.asked.len();
    }
    assert!(kept > 1_000 && tokens > 1_000 && asked > 10_000, "{kept} {tokens} {asked}");
}

#[test]
fn each_planted_bug_is_found() {
    for mutant in MUTANTS {
        let found = (1..=STORIES).find(|seed| story(*seed, Some(mutant)).is_err());
        assert!(found.is_some(), "{mutant:?} survived {STORIES} stories");
    }
}

/// A checkpoint of the version before answers were kept is one of today without its last part.
#[test]
fn a_state_without_kept_answers_is_still_read() {
    let told = story(7, None).expect("a story");
    let mut bytes = Vec::new();
    Store::new().save(&mut bytes).expect("memory");
    let mut older = Vec::new();
    // length u32, hash u64, payload: one block, then an empty one.
    let len = u32::from_le_bytes(bytes[..4].try_into().expect("four bytes")) as usize;
    let mut payload = bytes[12..12 + len].to_vec();
    let version = b"quorate store".len();
    assert_eq!(payload[version], 4, "without limits");
    payload[version] = 3;
    payload.truncate(len - 2); // Nothing forgotten, nothing kept.
    older.extend((payload.len() as u32).to_le_bytes());
    older.extend(quorate_replica::store::xxh64(&payload, 0).to_le_bytes());
    older.extend(&payload);
    older.extend(&bytes[12 + len..]);
    let mut loaded = Store::load(&mut &older[..]).expect("an older version");
    assert_eq!((loaded.digest(), loaded.requests_kept()), (Store::new().digest(), 0));
    let (guard, command, _) = &told.asked[&0];
    loaded.apply_guarded(&Caller::Anonymous, guard, command);
}
