//! Who may do what, against a naive reference which looks at every key by itself; and the proof
//! that this comparison finds bugs, by planting some.

#[path = "../store/generate.rs"]
#[allow(dead_code, reason = "shared with the tests of the store")]
mod generate;
mod known;
mod naive;

use bytes::Bytes;
use generate::{Generator, Random};
use naive::Naive;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use quorate_replica::store::{
    Access, Asked, Asking, AuthCommand, AuthError, Caller, Command, Credential, Denied, Guard,
    Keys, KvError, LeaseTime, Mutant, Outcome, Permission, SAVE_VERSION, Store,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

const SEQUENCES: u64 = 3_000;

/// Sequences after which a planted bug must have been found.
const SEQUENCES_PER_MUTANT: u64 = 2_000;

/// The planted bugs that are about users and roles.
pub(crate) const MUTANTS: [Mutant; 8] = [
    Mutant::NestedNotChecked,
    Mutant::PrevKvNotChecked,
    Mutant::ComparesNotChecked,
    Mutant::RangeEndOffByOne,
    Mutant::OpenEndIgnored,
    Mutant::NotCheckedAtApply,
    Mutant::LeaseKeysNotChecked,
    Mutant::AuthForgotten,
];

const NAMES: [&str; 4] = ["root", "ann", "bob", "eve"];
const ROLES: [&str; 4] = ["root", "r", "s", "t"];
const KEYS: [&str; 7] = ["a", "aa", "ab", "b", "ba", "c", "ca"];

type Tally = BTreeMap<String, u64>;

struct Run {
    store: Store,
    naive: Naive,
    generator: Generator,
    tally: Tally,
    mutant: Option<Mutant>,
}

fn name(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, left: T, right: T) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what}: {left:?} against {right:?}")) }
}

impl Run {
    fn new(seed: u64, mutant: Option<Mutant>) -> Run {
        let mut store = Store::new();
        mutant.into_iter().for_each(|mutant| store.plant(mutant));
        let generator = Generator {
            random: Random(seed),
            keys: Arc::new(KEYS.map(Bytes::from).to_vec()),
            revision: 1,
            compacted: 0,
            granted: Vec::new(),
            former: Vec::new(),
        };
        let naive = Naive::default();
        Run { store, naive, generator, tally: Tally::new(), mutant }
    }

    fn steps(&mut self) -> Result<(), String> {
        self.begin()?;
        for _ in 0..40 {
            match self.generator.random.below(12) {
                0..4 => {
                    let command = self.change();
                    self.manage(&command)?;
                }
                4..8 => self.command()?,
                8..11 => self.question()?,
                _ => self.reload()?,
            }
        }
        Ok(())
    }

    /// Somebody to be root and somebody to have rights, so that most sequences come to something.
    fn begin(&mut self) -> Result<(), String> {
        let root = name("root");
        let (user, role) = (name("ann"), name("r"));
        for command in [
            AuthCommand::UserAdd { name: root.clone(), hash: Some(name("hash")) },
            AuthCommand::UserGrantRole { user: root.clone(), role: root },
            AuthCommand::UserAdd { name: user.clone(), hash: None },
            AuthCommand::RoleAdd { name: role.clone() },
            AuthCommand::UserGrantRole { user, role },
            AuthCommand::Enable { token_key: name("key") },
        ] {
            self.manage(&command)?;
        }
        for id in [1, 2] {
            self.store
                .apply_as(&Caller::Member, &Command::LeaseGrant { id, ttl: 60, at: LeaseTime(0) });
        }
        Ok(())
    }

    fn change(&mut self) -> AuthCommand {
        let random = &mut self.generator.random;
        let user = name(random.pick(&NAMES));
        let role = name(random.pick(&ROLES));
        let hash = name(random.pick(&["x", "yy"]));
        match random.below(24) {
            0 => AuthCommand::Enable { token_key: name("other") },
            1 if random.one_in(3) => AuthCommand::Disable,
            2 => AuthCommand::UserAdd { name: user, hash: Some(hash) },
            3 => AuthCommand::UserAdd { name: name(""), hash: None },
            4 => AuthCommand::UserDelete { name: user },
            5 => AuthCommand::UserPassword { name: user, hash },
            6..10 => AuthCommand::UserGrantRole { user, role },
            10 => AuthCommand::UserRevokeRole { user, role },
            11 | 12 => AuthCommand::RoleAdd { name: role },
            13 => AuthCommand::RoleDelete { name: role },
            14 | 15 => AuthCommand::RoleRevoke { role, keys: self.generator.keys() },
            _ => {
                let access = random.pick(&[Access::Read, Access::Write, Access::ReadWrite]);
                let keys = self.generator.keys();
                AuthCommand::RoleGrant { role, permission: Permission { keys, access } }
            }
        }
    }

    /// A member changes users and roles.
    fn manage(&mut self, command: &AuthCommand) -> Result<(), String> {
        let expected = self.naive.change(command);
        let applied = self.store.apply_as(&Caller::Member, &Command::Auth(command.clone()));
        let outcome = applied.outcome.map(|outcome| assert_eq!(outcome, Outcome::Auth));
        equal(&format!("{command:?}"), outcome, expected.map_err(KvError::Auth))?;
        self.count(&format!("{command:?} {}", expected.is_ok()));
        let auth = self.store.auth();
        equal("auth revision", auth.revision(), self.naive.revision)?;
        equal("enabled", auth.is_enabled(), self.naive.enabled)
    }

    fn caller(&mut self) -> Caller {
        let random = &mut self.generator.random;
        match random.below(12) {
            0 => Caller::Anonymous,
            1 => Caller::Member,
            _ => {
                let name = name(random.pick(&["ann", "ann", "ann", "bob", "root", "ghost"]));
                let before = u64::from(random.one_in(8));
                Caller::User { name, revision: self.naive.revision - before }
            }
        }
    }

    /// A client writes.
    fn command(&mut self) -> Result<(), String> {
        let caller = self.caller();
        let command = match self.generator.command() {
            // What follows would only be refusals because of it.
            Command::Alarm(_) => return Ok(()),
            command => command,
        };
        let asked = Asked { caller, guard: Guard::default(), command };
        let mut encoded = Vec::new();
        asked.encode(&mut encoded);
        equal("codec", Asked::decode(Bytes::from(encoded)).as_ref(), Ok(&asked))?;
        let Asked { caller, command, .. } = asked;
        let expected = self.naive.may_apply(&caller, &command, &self.store);
        let before = (self.store.revision(), self.store.hash_kv(Default::default()));
        let applied = self.store.apply_as(&caller, &command);
        let denied = match applied.outcome {
            Err(KvError::Denied(why)) => Err(why),
            _ => Ok(()),
        };
        equal(&format!("{command:?} of {caller:?}"), denied, expected)?;
        if denied.is_err() {
            let after = (self.store.revision(), self.store.hash_kv(Default::default()));
            equal("a refused command changes nothing", before, after)?;
        }
        self.count(&format!("command {denied:?}"));
        Ok(())
    }

    /// A client reads or watches.
    fn question(&mut self) -> Result<(), String> {
        let caller = self.caller();
        let (range, txn) = (self.generator.range(), self.generator.txn(0));
        let subject = name(self.generator.random.pick(&["ann", "bob", "r", "s"]));
        let id = self.generator.random.pick(&[1, 2, 99]);
        for asking in [
            Asking::Range(&range),
            Asking::Txn(&txn),
            Asking::Watch(&range.keys),
            Asking::LeaseKeys(id),
            Asking::LeaseRevoke(id),
            Asking::User(&subject),
            Asking::Role(&subject),
            Asking::AnyUser,
            Asking::Root,
            Asking::Anything,
        ] {
            let expected = self.naive.may(&caller, asking, &self.store);
            let judged = self.store.authorize(&caller, asking);
            equal(&format!("{asking:?} of {caller:?}"), judged, expected)?;
            self.count(&format!("question {judged:?}"));
        }
        let expected = self.naive.may(&caller, Asking::Watch(&range.keys), &self.store);
        equal("watch", self.store.auth().may_watch(&caller, &range.keys), expected)
    }

    fn reload(&mut self) -> Result<(), String> {
        let mut saved = Vec::new();
        self.store.save(&mut saved).map_err(|error| error.to_string())?;
        let mut loaded = Store::load(&mut &saved[..]).map_err(|error| error.to_string())?;
        self.mutant.into_iter().for_each(|mutant| loaded.plant(mutant));
        equal("like before", loaded.auth().judges_like(self.store.auth()), true)?;
        let mut again = Vec::new();
        loaded.save(&mut again).map_err(|error| error.to_string())?;
        equal("the same bytes", saved == again, true)?;
        self.store = loaded;
        Ok(())
    }

    fn count(&mut self, kind: &str) {
        *self.tally.entry(kind.to_owned()).or_default() += 1;
    }
}

/// One sequence; an error or a panic is a finding.
fn sequence(seed: u64, mutant: Option<Mutant>) -> Result<Tally, String> {
    let run = || {
        let mut run = Run::new(seed, mutant);
        run.steps().map(|()| run.tally)
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
    let denials = [Denied::NoUser, Denied::BadToken, Denied::NotPermitted];
    let mut kinds: Vec<String> =
        denials.iter().map(|why| format!("question {:?}", Err::<(), _>(why))).collect();
    kinds.extend(["question Ok(())", "command Ok(())"].map(str::to_owned));
    kinds.push(format!("command {:?}", Err::<(), _>(Denied::OldRevision)));
    for command in [
        "enable",
        "user-add",
        "user-delete",
        "user-password",
        "user-grant-role",
        "role-delete",
        "user-revoke-role",
        "role-add",
        "role-grant",
        "role-revoke",
    ] {
        kinds.extend([format!("{command} true"), format!("{command} false")]);
    }
    kinds.retain(|kind| kind != "enable false");
    for kind in kinds {
        assert!(all.get(&kind).is_some_and(|count| *count > 0), "{kind:?} never happened: {all:?}");
    }
}

#[test]
fn every_planted_bug_is_found() {
    for mutant in MUTANTS {
        let found = (0..SEQUENCES_PER_MUTANT).find(|seed| sequence(*seed, Some(mutant)).is_err());
        assert!(found.is_some(), "{mutant:?} survived {SEQUENCES_PER_MUTANT} sequences");
    }
}

proptest! {
    #[test]
    fn agrees_with_the_reference(seed in any::<u64>()) {
        prop_assert!(sequence(seed, None).is_ok(), "{:?}", sequence(seed, None));
    }

    #[test]
    fn arbitrary_bytes_never_panic(
        head in proptest::sample::select(vec![vec![2_u8, 1], vec![2, 2], vec![1, 12], vec![2]]),
        rest in proptest::collection::vec(any::<u8>(), 0..120),
    ) {
        let bytes = [&head[..], &rest[..]].concat();
        let _ = Asked::wants_stamp(&bytes);
        if let Ok(asked) = Asked::decode(Bytes::from(bytes)) {
            let mut again = Vec::new();
            asked.encode(&mut again);
            prop_assert_eq!(Asked::decode(Bytes::from(again)), Ok(asked));
        }
    }

    #[test]
    fn damaged_commands_never_panic(
        seed in any::<u64>(),
        at in any::<usize>(),
        byte in any::<u8>(),
    ) {
        let mut run = Run::new(seed, None);
        let asked = Asked { caller: run.caller_of(seed), ..Command::Auth(run.change()).into() };
        let mut encoded = Vec::new();
        asked.encode(&mut encoded);
        prop_assert_eq!(Asked::decode(Bytes::from(encoded.clone())), Ok(asked));
        let at = at % encoded.len();
        prop_assert!(Asked::decode(Bytes::copy_from_slice(&encoded[..at])).is_err());
        encoded[at] = byte;
        let _ = Asked::decode(Bytes::from(encoded));
    }
}

impl Run {
    fn caller_of(&mut self, seed: u64) -> Caller {
        match seed % 3 {
            0 => Caller::Anonymous,
            1 => Caller::Member,
            _ => Caller::User { name: name("ann"), revision: seed },
        }
    }
}

#[test]
fn a_credential_is_somebody_in_one_state_only() {
    let mut run = Run::new(1, None);
    run.begin().expect("agreed");
    let (since, epoch) = (run.store.auth().user(b"ann").expect("there").since, 1);
    let sealed = Credential::Sealed { user: name("ann"), since, epoch };
    let signed = Credential::Signed { user: name("ann"), revision: run.naive.revision };
    let caller = Caller::User { name: name("ann"), revision: run.naive.revision };
    let resolve = |run: &Run, credential| run.store.auth().resolve(credential);
    assert_eq!(resolve(&run, &sealed), Ok(caller.clone()));
    assert_eq!(resolve(&run, &signed), Ok(caller));
    assert_eq!(resolve(&run, &Credential::Nobody), Ok(Caller::Anonymous));
    run.manage(&AuthCommand::RoleAdd { name: name("t") }).expect("agreed");
    assert!(resolve(&run, &sealed).is_ok(), "it outlives changes of others");
    assert_eq!(resolve(&run, &signed), Err(Denied::OldRevision), "as by etcd");
    let again = AuthCommand::UserAdd { name: name("ann"), hash: None };
    run.manage(&AuthCommand::UserDelete { name: name("ann") }).expect("agreed");
    run.manage(&again).expect("agreed");
    assert_eq!(resolve(&run, &sealed), Err(Denied::BadToken), "that is another ann");
    run.manage(&AuthCommand::Disable).expect("agreed");
    assert_eq!(resolve(&run, &sealed), Ok(Caller::Anonymous), "nobody looks");
}

#[test]
fn users_and_roles_have_a_bound() {
    let mut run = Run::new(1, None);
    let long = Bytes::from(vec![b'u'; 2_000]);
    let add = |name: Bytes| Command::Auth(AuthCommand::UserAdd { name, hash: None });
    let full = Err(KvError::Auth(AuthError::TooMuch));
    assert_eq!(run.store.apply_as(&Caller::Member, &add(long)).outcome, full);
    let mut added = 0;
    loop {
        let name = Bytes::from(format!("{added:01000}"));
        match run.store.apply_as(&Caller::Member, &add(name)).outcome {
            Ok(_) => added += 1,
            refused => break assert_eq!(refused, full),
        }
    }
    assert_eq!(added, 15_768, "16 MiB of users of 1,064 bytes");
    let delete = AuthCommand::UserDelete { name: Bytes::from(format!("{:01000}", 7)) };
    run.store.apply_as(&Caller::Member, &Command::Auth(delete)).outcome.expect("it is there");
    run.store.apply_as(&Caller::Member, &add(name("new"))).outcome.expect("there is room");
}

#[test]
fn a_state_of_before_users_and_roles_is_read() {
    let mut saved = Vec::new();
    Store::new().save(&mut saved).expect("memory does not fail");
    // The first block: its length, its hash, the content with the version after the magic.
    let len = u32::from_le_bytes(saved[..4].try_into().expect("4 bytes")) as usize;
    let mut content = saved[12..12 + len].to_vec();
    assert_eq!(content[13], SAVE_VERSION - 1, "without limits");
    content[13] = 2;
    let auth = 7; // Length, off, revision 1, epoch 0, no key, no users, no roles.
    let requests = 2; // Nothing forgotten, nothing kept.
    content.truncate(len - auth - requests);
    let mut old = Vec::new();
    old.extend_from_slice(&(content.len() as u32).to_le_bytes());
    old.extend_from_slice(&quorate_replica::store::xxh64(&content, 0).to_le_bytes());
    old.extend_from_slice(&content);
    old.extend_from_slice(&saved[12 + len..]);
    let loaded = Store::load(&mut &old[..]).expect("it is read");
    assert!(loaded.auth().judges_like(Store::new().auth()));
    let keys = Keys { key: name("a"), range_end: name("b") };
    assert_eq!(loaded.auth().may_watch(&Caller::Anonymous, &keys), Ok(()));
}
