//! Requests that take effect once, however often they are asked for.
//!
//! **Problem.** Who gets no answer to a write does not know whether it happened. To ask once more
//! may carry it out twice; and a compare-and-set that is asked once more is told that it failed,
//! because its own first try has won: the client takes a write that happened for one that did not
//! (Jepsen, jetcd 0.8.2, 2024).
//!
//! **Idea.** The client names its request, and the store keeps the answer under that name. Who asks
//! again, at whatever member and after whatever failures, is given the first answer: the same
//! revision, the same branch. What changed nothing is not kept; to carry it out again is no other
//! than to have come later.
//!
//! **Forgetting.** Answers cannot be kept for ever, and a request whose answer was forgotten must
//! not be carried out a second time. So the name comes with a revision that the client had seen
//! before it asked for the *first* time, and the store remembers one number: the latest revision
//! whose answer it has forgotten.
//!
//! ```text
//!   kept answers           forgotten | 41  44  47  52 |
//!   asked since 43, not kept: it was never carried out (else it would be at 44 or later): do it
//!   asked since 12, not kept: it may have been: refuse, and say so
//! ```
//!
//! **Shares.** There is room for [`REQUESTS_MAX`] answers of all users together. When it is used
//! up, the oldest answer of whoever has most makes room. So nobody can make the answers of another
//! user be forgotten who has no more than an equal share, and the number above is one of each user.
//!
//! **Guarantees.** A request takes effect at most once. Asked again before [`REQUESTS_MAX`] others
//! have followed (a user's own, if others have less) and within [`REQUEST_AGE_MAX`] revisions, it
//! is answered as the first time. Later it is refused, and nothing happens.
//!
//! **Bounds.** The constants below. An answer longer than [`OUTCOME_BYTES_MAX`] is not kept, only
//! that there was one and at which revision; who asks again is told that.
//!
//! Sources: Ongaro, "Consensus: Bridging Theory and Practice" (2014), section 6.3 (sessions with
//! sequence numbers, which need a session per client and its expiry; revisions take their place
//! here); Lee et al., "Implementing Linearizability at Large Scale and Low Latency" (RIFL, 2015).

use super::RequestId;
use super::outcome;
use crate::store::tree::Tree;
use crate::store::{Applied, Caller, Command, KvError, Mutant, Outcome, Revision, Store, xxh64};
use bytes::Bytes;
use std::ops::Bound;

/// Answers that are kept; the oldest one makes room.
pub const REQUESTS_MAX: usize = 16_384;

/// An answer is kept for so many revisions.
pub const REQUEST_AGE_MAX: u64 = 1_000_000;

/// The longest answer that is kept. Unit: bytes.
pub const OUTCOME_BYTES_MAX: usize = 4_096;

/// The longest id. Unit: bytes.
pub const ID_BYTES_MAX: usize = 64;

/// Charged for each answer beside its id and its bytes, in [`Store::bytes_in_use`]. Unit: bytes.
pub const REQUEST_BYTES: u64 = 192;

/// What is kept of one request.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::store) struct Kept {
    /// At which it took effect; no other request shares it.
    pub(in crate::store) revision: Revision,
    /// Whose it is, see [`owner`].
    pub(in crate::store) owner: u64,
    /// Of the command and who asked for it.
    pub(in crate::store) hash: u64,
    /// Absent if it was too long.
    pub(in crate::store) answer: Option<Bytes>,
}

/// The answers that are kept.
#[derive(Clone)]
pub(in crate::store) struct Requests {
    by_id: Tree<Bytes, Kept>,
    by_age: Tree<Revision, Bytes>,
    /// Of each owner, by age.
    by_owner: Tree<(u64, Revision), ()>,
    /// Everybody of whom something is kept,
    owners: Tree<u64, Owner>,
    /// and by how much it is: count, owner.
    crowd: Tree<(usize, u64), ()>,
    /// The latest revision whose answer is forgotten, of owners of whom nothing is kept.
    forgotten: Revision,
}

/// Somebody of whom answers are kept.
#[derive(Clone, Copy, Debug)]
struct Owner {
    kept: usize,
    /// The latest revision whose answer is forgotten.
    forgotten: Revision,
}

/// Whose request it is, as far as shares go: a user, or 0 for whoever is none.
pub(in crate::store) fn owner(caller: &Caller) -> u64 {
    match caller {
        Caller::User { name, .. } => xxh64(name, 0).max(1),
        Caller::Anonymous | Caller::Member => 0,
    }
}

impl Requests {
    pub(in crate::store) fn new() -> Requests {
        Requests {
            by_id: Tree::new(),
            by_age: Tree::new(),
            by_owner: Tree::new(),
            owners: Tree::new(),
            crowd: Tree::new(),
            forgotten: Revision(0),
        }
    }

    /// Of owners of whom nothing is kept.
    pub(in crate::store) fn forgotten(&self) -> Revision {
        self.forgotten
    }

    /// The latest revision whose answer is forgotten, of this owner.
    pub(in crate::store) fn forgotten_of(&self, owner: u64) -> Revision {
        self.owners.get(&owner).map_or(self.forgotten, |owner| owner.forgotten)
    }

    /// Everybody of whom something is kept, with the latest revision whose answer is forgotten.
    pub(in crate::store) fn owners(&self) -> impl ExactSizeIterator<Item = (u64, Revision)> {
        self.owners.iter().map(|(owner, of)| (*owner, of.forgotten))
    }

    /// True if nothing is kept of users, and nothing that one of them could have asked is
    /// forgotten: then there is one latest revision whose answer is.
    pub(in crate::store) fn is_of_nobody(&self) -> bool {
        let alone = self.owners.iter().all(|(owner, _)| *owner == 0);
        alone && self.forgotten == self.forgotten_of(0)
    }

    /// By age.
    pub(in crate::store) fn iter(&self) -> impl ExactSizeIterator<Item = (&Bytes, &Kept)> {
        self.by_age.iter().map(|(_, id)| (id, self.by_id.get(id).expect("every age has an id")))
    }

    /// Takes in what was saved. None if it cannot have been: each is younger than the one before,
    /// and than what its owner has lost.
    pub(in crate::store) fn restore(
        forgotten: Revision,
        kept: impl IntoIterator<Item = (Bytes, Kept)>,
        owners: impl IntoIterator<Item = (u64, Revision)>,
    ) -> Option<Requests> {
        let mut requests = Requests { forgotten, ..Requests::new() };
        let mut last = Revision(0);
        for (id, kept) in kept {
            let whole = kept.answer.clone().is_none_or(|answer| outcome::decode(answer).is_ok());
            if kept.revision <= last || !whole || requests.by_id.get(&id).is_some() {
                return None;
            }
            last = kept.revision;
            requests.insert(id, kept);
        }
        for (owner, forgotten) in owners {
            requests.owners.get_mut(&owner)?.forgotten = forgotten;
        }
        let sound =
            requests.iter().all(|(_, kept)| kept.revision > requests.forgotten_of(kept.owner));
        (sound && requests.by_age.len() <= REQUESTS_MAX).then_some(requests)
    }

    /// What they take in [`Store::bytes_in_use`].
    pub(in crate::store) fn bytes(&self) -> u64 {
        self.iter().map(|(id, kept)| weight(id, kept)).sum()
    }

    fn insert(&mut self, id: Bytes, kept: Kept) {
        let before = self.owners.get(&kept.owner).copied();
        let now = before.unwrap_or(Owner { kept: 0, forgotten: self.forgotten });
        self.count(kept.owner, before, Owner { kept: now.kept + 1, ..now });
        self.by_owner.insert((kept.owner, kept.revision), ());
        self.by_age.insert(kept.revision, id.clone());
        self.by_id.insert(id, kept);
    }

    /// Notes how much is kept of an owner.
    fn count(&mut self, owner: u64, before: Option<Owner>, after: Owner) {
        if let Some(before) = before {
            self.crowd.remove(&(before.kept, owner));
        }
        if after.kept > 0 {
            self.crowd.insert((after.kept, owner), ());
            self.owners.insert(owner, after);
            return;
        }
        self.owners.remove(&owner);
        self.forgotten = self.forgotten.max(after.forgotten);
    }

    /// One that is older than they are kept; or, if there are too many, the oldest of whoever has
    /// most.
    fn forget_one(&mut self, now: Revision) -> Option<(Bytes, Kept)> {
        let (oldest, _) = self.by_age.first()?;
        if now.0 - oldest.0 > REQUEST_AGE_MAX {
            return Some(self.forget(*oldest));
        }
        if self.by_age.len() <= REQUESTS_MAX {
            return None;
        }
        let ((_, owner), ()) = self.crowd.last().expect("somebody has them");
        let own = (Bound::Included(&(*owner, Revision(0))), Bound::Unbounded);
        let ((_, oldest), ()) = self.by_owner.range(own.0, own.1).next().expect("he has some");
        Some(self.forget(*oldest))
    }

    fn forget(&mut self, revision: Revision) -> (Bytes, Kept) {
        let id = self.by_age.remove(&revision).expect("it is kept");
        let kept = self.by_id.remove(&id[..]).expect("every age has an id");
        self.by_owner.remove(&(kept.owner, revision));
        let before = *self.owners.get(&kept.owner).expect("he has some");
        let forgotten = before.forgotten.max(revision);
        self.count(kept.owner, Some(before), Owner { kept: before.kept - 1, forgotten });
        (id, kept)
    }
}

fn weight(id: &Bytes, kept: &Kept) -> u64 {
    let answer = kept.answer.as_ref().map_or(0, Bytes::len);
    REQUEST_BYTES + id.len() as u64 + answer as u64
}

impl Store {
    /// Answers of requests that may be asked again.
    pub fn requests_kept(&self) -> usize {
        self.requests.by_age.len()
    }

    /// The answer to a request that was carried out before; none if it was not.
    ///
    /// Errors: it is not known whether it was; the id was given to another command; the answer was
    /// too long to be kept.
    pub(in crate::store) fn recall(
        &self,
        request: &RequestId,
        (owner, hash): (u64, u64),
    ) -> Result<Option<Applied>, KvError> {
        if self.planted(Mutant::RequestRepeated) {
            return Ok(None);
        }
        let Some(kept) = self.requests.by_id.get(&request.id[..]) else {
            if request.since > self.revision {
                return Err(KvError::FutureRevision { current: self.revision });
            }
            let known = request.since >= self.requests.forgotten_of(owner);
            return if known { Ok(None) } else { Err(KvError::RequestForgotten) };
        };
        if kept.hash != hash {
            return Err(KvError::RequestReused);
        }
        let revision = kept.revision;
        let answer = kept.answer.clone().ok_or(KvError::AnswerNotKept { revision })?;
        let outcome = outcome::decode(answer).expect("it was encoded, or checked when it was read");
        Ok(Some(Applied { revision, outcome: Ok(outcome) }))
    }

    /// Keeps the answer of a request that has just been carried out, and forgets old ones.
    pub(in crate::store) fn remember(
        &mut self,
        request: &RequestId,
        (owner, hash): (u64, u64),
        outcome: &Outcome,
    ) {
        let id = Bytes::copy_from_slice(&request.id);
        let kept = Kept { revision: self.revision, owner, hash, answer: outcome::encode(outcome) };
        self.bytes += weight(&id, &kept);
        for word in [kept.revision.0, hash, xxh64(&id, 0), weight(&id, &kept)] {
            self.digest.fold(word);
        }
        self.requests.insert(id, kept);
        while let Some((id, kept)) = self.requests.forget_one(self.revision) {
            self.bytes -= weight(&id, &kept);
            self.digest.fold(kept.revision.0);
        }
    }
}

/// What tells two commands under one id apart.
pub(in crate::store) fn hash(caller: &Caller, command: &Command) -> u64 {
    let mut bytes = Vec::new();
    if let Caller::User { name, .. } = caller {
        bytes.extend_from_slice(name);
    }
    bytes.push(0);
    command.encode(&mut bytes);
    xxh64(&bytes, 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Compare, Guard, Keys, Op, Operand, Put, Relation, Txn};

    fn guard(id: &str, since: u64) -> Guard {
        let request = RequestId { id: Bytes::from(id.to_owned()), since: Revision(since) };
        Guard { fences: Vec::new(), request: Some(request) }
    }

    fn put(key: &str, value: &str) -> Put {
        let text = |text: &str| Bytes::from(text.to_owned());
        Put { key: text(key), value: text(value), ..Put::default() }
    }

    /// From one value of `k` to another.
    fn swap(from: &str, to: &str) -> Command {
        let keys = Keys { key: Bytes::from_static(b"k"), range_end: Bytes::new() };
        let operand = Operand::Value(Bytes::from(from.to_owned()));
        let compare = vec![Compare { keys, relation: Relation::Equal, operand }];
        let success = vec![Op::Put(put("k", to))];
        Command::Txn(Txn { compare, success, failure: Vec::new() })
    }

    fn ask(store: &mut Store, guard: &Guard, command: &Command) -> Applied {
        store.apply_guarded(&Caller::Anonymous, guard, command)
    }

    #[test]
    fn a_swap_that_won_and_is_asked_again_is_told_that_it_won() {
        let mut store = Store::new();
        store.apply(&Command::Put(put("k", "a")));
        let first = ask(&mut store, &guard("one", 2), &swap("a", "b"));
        assert!(matches!(first.outcome, Ok(Outcome::Txn { succeeded: true, .. })));
        store.apply(&Command::Put(put("other", "x")));
        let revision = store.revision();
        let again = ask(&mut store, &guard("one", 2), &swap("a", "b"));
        assert_eq!((again, store.revision()), (first, revision));
        // Without a name it is told that it lost, though its own first try is what it lost to.
        let blind = store.apply(&swap("a", "b"));
        assert!(matches!(blind.outcome, Ok(Outcome::Txn { succeeded: false, .. })));
    }

    #[test]
    fn what_changed_nothing_is_carried_out_when_it_is_asked_again() {
        let mut store = Store::new();
        let lost = ask(&mut store, &guard("one", 1), &swap("a", "b"));
        assert!(matches!(lost.outcome, Ok(Outcome::Txn { succeeded: false, .. })));
        assert_eq!(store.requests_kept(), 0);
        store.apply(&Command::Put(put("k", "a")));
        let won = ask(&mut store, &guard("one", 1), &swap("a", "b"));
        assert!(matches!(won.outcome, Ok(Outcome::Txn { succeeded: true, .. })));
    }

    #[test]
    fn what_may_have_been_forgotten_is_refused_and_what_cannot_have_been_is_done() {
        let mut store = Store::new();
        for number in 0..=REQUESTS_MAX {
            let command = Command::Put(put("k", &number.to_string()));
            ask(&mut store, &guard(&number.to_string(), 1 + number as u64), &command)
                .outcome
                .expect("a put");
        }
        assert_eq!(store.requests_kept(), REQUESTS_MAX);
        let first = ask(&mut store, &guard("0", 1), &Command::Put(put("k", "0")));
        assert_eq!(first.outcome, Err(KvError::RequestForgotten));
        let second = ask(&mut store, &guard("1", 2), &Command::Put(put("k", "1")));
        assert_eq!((second.outcome.is_ok(), second.revision), (true, Revision(3)));
        // The one that is forgotten took effect at 2, so who had seen 2 is not meant.
        let new = ask(&mut store, &guard("new", 2), &Command::Put(put("k", "new")));
        assert!(new.outcome.is_ok());
    }

    fn user(name: &'static str) -> Caller {
        Caller::User { name: Bytes::from_static(name.as_bytes()), revision: 0 }
    }

    /// Kept of a user, as if it had just been carried out.
    fn keep(store: &mut Store, caller: &Caller, id: &str) {
        store.revision = store.revision.next();
        let request = RequestId { id: Bytes::from(id.to_owned()), since: Revision(1) };
        store.remember(&request, (owner(caller), 7), &Outcome::Put { prev: None });
    }

    #[test]
    fn who_asks_for_much_loses_his_own_answers_and_nobody_elses() {
        let mut store = Store::new();
        let (ann, bob) = (user("ann"), user("bob"));
        for number in 0..100 {
            keep(&mut store, &ann, &format!("ann-{number}"));
        }
        for number in 0..2 * REQUESTS_MAX {
            keep(&mut store, &bob, &format!("bob-{number}"));
        }
        assert_eq!(store.requests_kept(), REQUESTS_MAX);
        let recall = |store: &Store, caller: &Caller, id: &str| {
            let request = RequestId { id: Bytes::from(id.to_owned()), since: Revision(1) };
            store.recall(&request, (owner(caller), 7)).map(|kept| kept.is_some())
        };
        for number in 0..100 {
            assert_eq!(recall(&store, &ann, &format!("ann-{number}")), Ok(true), "{number}");
        }
        // Of hers nothing is forgotten, so what is not there was never carried out.
        assert_eq!(recall(&store, &ann, "new"), Ok(false));
        assert_eq!(recall(&store, &bob, "new"), Err(KvError::RequestForgotten));
        assert_eq!(recall(&store, &Caller::Anonymous, "new"), Ok(false));
        let mut bytes = Vec::new();
        store.save(&mut bytes).expect("memory");
        let mut again = Store::load(&mut &bytes[..]).expect("it was saved");
        assert_eq!(recall(&again, &bob, "new"), Err(KvError::RequestForgotten));
        for number in 0..10 {
            let (carol, id) = (user("carol"), format!("carol-{number}"));
            keep(&mut store, &carol, &id);
            keep(&mut again, &carol, &id);
            assert_eq!(again.digest(), store.digest(), "both forget the same");
        }
        assert_eq!(recall(&again, &ann, "ann-0"), Ok(true));
    }

    #[test]
    fn answers_are_forgotten_by_age() {
        let mut store = Store::new();
        ask(&mut store, &guard("old", 1), &Command::Put(put("k", "old")));
        // As if so many revisions had gone by.
        store.revision = Revision(store.revision.0 + REQUEST_AGE_MAX);
        ask(&mut store, &guard("new", 5), &Command::Put(put("k", "new")));
        let again = ask(&mut store, &guard("old", 1), &Command::Put(put("k", "old")));
        assert_eq!(again.outcome, Err(KvError::RequestForgotten));
        assert_eq!(store.requests_kept(), 1);
    }

    #[test]
    fn an_id_belongs_to_one_command_of_one_user() {
        let mut store = Store::new();
        let command = Command::Put(put("k", "a"));
        ask(&mut store, &guard("one", 1), &command);
        let other = ask(&mut store, &guard("one", 1), &Command::Put(put("k", "b")));
        assert_eq!(other.outcome, Err(KvError::RequestReused));
        let user = Caller::User { name: Bytes::from_static(b"ann"), revision: 0 };
        assert_ne!(hash(&user, &command), hash(&Caller::Anonymous, &command));
    }

    #[test]
    fn a_long_answer_is_not_kept_but_that_there_was_one() {
        let mut store = Store::new();
        store.apply(&Command::Put(put("k", &"x".repeat(OUTCOME_BYTES_MAX))));
        let command = Command::Put(Put { prev_kv: true, ..put("k", "y") });
        ask(&mut store, &guard("one", 1), &command).outcome.expect("a put");
        let again = ask(&mut store, &guard("one", 1), &command);
        assert_eq!(again.outcome, Err(KvError::AnswerNotKept { revision: Revision(3) }));
    }

    #[test]
    fn a_revision_that_has_not_come_cannot_have_been_seen() {
        let mut store = Store::new();
        let refused = ask(&mut store, &guard("one", 9), &Command::Put(put("k", "a")));
        assert_eq!(refused.outcome, Err(KvError::FutureRevision { current: Revision(1) }));
    }

    #[test]
    fn what_is_kept_is_weighed_and_told_by_the_digest() {
        let (mut with, mut without) = (Store::new(), Store::new());
        let command = Command::Put(put("k", "a"));
        ask(&mut with, &guard("one", 1), &command);
        without.apply(&command);
        assert_ne!(with.digest(), without.digest());
        assert_eq!(with.bytes_in_use() - without.bytes_in_use(), with.requests.bytes());
    }
}
