//! Fences: a write counts only while its lock is held.
//!
//! **Problem.** A holder that stands still (a pause of its runtime, a suspended machine, a message
//! that is long on its way) does not notice that its lease has ended. It writes when somebody else
//! holds the lock (Kleppmann 2016). No clock of the holder can rule that out.
//!
//! **Which condition.** Two are known. *No newer holder*: the resource remembers the largest token
//! that it has seen and refuses smaller ones (Chubby's sequencers, Kleppmann). Or *the holder*: the
//! key with this token is there, and first in its line. Here lock and resource are one store, so
//! the second is open to us, and it is the stronger one: a token whose lock was lost is refused
//! from that revision on, even while nobody has taken the lock since, and also for ever after,
//! because a create revision is never used twice. It needs no memory of tokens, hence no bound on
//! the names of locks and nothing to forget; and what is refused by the first is refused by the
//! second as well. A waiter, who has a token too, is refused until his turn comes.
//!
//! What counts as a lock: a key `NAME/LEASE` under that lease stands in the
//! [line](crate::store::line) of `NAME`; any other key is a lock by itself, as in recipes that
//! create one key if it is not there.
//!
//! **Bounds.** A look at every key of the line, at most [`TXN_VISITS_MAX`] of them; a longer line
//! is "too large".
//!
//! Sources: Burrows, "The Chubby lock service" (2006), section 2.4; Kleppmann, "How to do
//! distributed locking" (2016).

use super::{Fence, Guard};
use crate::store::{KvError, Mutant, Revision, Store, TXN_VISITS_MAX, line};

impl Store {
    /// Whether all locks that a command depends on are held.
    ///
    /// Errors: [`KvError::Fenced`] names the first that is not, and who holds it;
    /// [`KvError::TooLarge`] if more wait for it than can be looked at.
    pub(in crate::store) fn check_fences(&self, guard: &Guard) -> Result<(), KvError> {
        if self.planted(Mutant::FenceIgnored) {
            return Ok(());
        }
        for (number, fence) in guard.fences.iter().enumerate() {
            let holder = self.holder(fence)?;
            let held = match self.planted(Mutant::FenceByName) {
                true => self.get(&fence.key).is_some(),
                false => holder == fence.token && self.created(&fence.key) == fence.token,
            };
            if !held {
                let fence = u8::try_from(number).unwrap_or(u8::MAX);
                return Err(KvError::Fenced { fence, holder });
            }
        }
        Ok(())
    }

    /// The token of whoever holds this lock now; 0 if nobody does.
    fn holder(&self, fence: &Fence) -> Result<Revision, KvError> {
        let stands_in_line = |lease: i64| self.get(&fence.key).is_none_or(|kv| kv.lease == lease);
        let Some((name, lease)) = line::parts_of(&fence.key) else {
            return Ok(self.created(&fence.key));
        };
        if !stands_in_line(lease) {
            return Ok(self.created(&fence.key));
        }
        let oldest = line::oldest(&line::keys_of(name));
        if self.visited_by(&oldest) > TXN_VISITS_MAX {
            return Err(KvError::TooLarge);
        }
        let first = self.find(&oldest).kvs.into_iter().next();
        Ok(first.map_or(Revision(0), |kv| kv.create_revision))
    }

    /// When a key came to life; 0 if it does not live.
    fn created(&self, key: &[u8]) -> Revision {
        self.get(key).map_or(Revision(0), |kv| kv.create_revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Caller, Command, DeleteRange, Keys, Outcome, Put};
    use bytes::Bytes;

    fn put(key: &str, lease: i64) -> Command {
        let (key, value) = (Bytes::from(key.to_owned()), Bytes::from_static(b"v"));
        Command::Put(Put { key, value, lease, ..Put::default() })
    }

    fn delete(key: &str) -> Command {
        let keys = Keys { key: Bytes::from(key.to_owned()), range_end: Bytes::new() };
        Command::DeleteRange(DeleteRange { keys, prev_kv: false })
    }

    fn guard(key: &str, token: u64) -> Guard {
        let fence = Fence { key: Bytes::from(key.to_owned()), token: Revision(token) };
        Guard { fences: vec![fence], request: None }
    }

    fn store() -> Store {
        let mut store = Store::new();
        for id in [0x1a, 0x2b] {
            let grant = Command::LeaseGrant { id, ttl: 60, at: Default::default() };
            store.apply(&grant).outcome.expect("granted");
        }
        store
    }

    fn write(store: &mut Store, guard: &Guard) -> Result<Outcome, KvError> {
        store.apply_guarded(&Caller::Anonymous, guard, &put("state", 0)).outcome
    }

    fn fenced(holder: u64) -> Result<Outcome, KvError> {
        Err(KvError::Fenced { fence: 0, holder: Revision(holder) })
    }

    const DONE: Result<Outcome, KvError> = Ok(Outcome::Put { prev: None });

    #[test]
    fn only_the_holder_writes_and_only_while_he_holds() {
        let mut store = store();
        assert_eq!(write(&mut store, &guard("jobs/1a", 2)), fenced(0), "before he has it");
        store.apply(&put("jobs/1a", 0x1a)); // 2
        store.apply(&put("jobs/2b", 0x2b)); // 3
        assert_eq!(write(&mut store, &guard("jobs/1a", 2)), DONE);
        assert_eq!(write(&mut store, &guard("jobs/2b", 3)), fenced(2), "it is not his turn");
        assert_eq!(write(&mut store, &guard("jobs/1a", 1)), fenced(2), "a token that never was");
        assert_eq!(write(&mut store, &guard("jobs/1a", 3)), fenced(2), "that of somebody else");
        store.apply(&Command::LeaseRevoke { id: 0x1a });
        assert_eq!(write(&mut store, &guard("jobs/1a", 2)), fenced(3), "too late");
        assert_eq!(write(&mut store, &guard("jobs/2b", 3)), DONE);
        store.apply(&delete("jobs/2b"));
        assert_eq!(write(&mut store, &guard("jobs/2b", 3)), fenced(0), "after it is gone, too");
        assert_eq!(write(&mut store, &guard("jobs/1a", 2)), fenced(0));
    }

    #[test]
    fn a_lock_taken_again_by_the_same_key_has_another_token() {
        let mut store = store();
        let first = store.apply(&put("jobs/1a", 0x1a)).revision.0;
        store.apply(&delete("jobs/1a"));
        let second = store.apply(&put("jobs/1a", 0x1a)).revision.0;
        assert_eq!(write(&mut store, &guard("jobs/1a", first)), fenced(second));
        assert_eq!(write(&mut store, &guard("jobs/1a", second)), DONE);
    }

    #[test]
    fn a_key_that_stands_in_no_line_is_a_lock_by_itself() {
        let mut store = store();
        let older = store.apply(&put("lock/1a", 0)).revision.0;
        // Named like a candidate, but under no lease, so nobody stands in line with it.
        let plain = store.apply(&put("lock/2b", 0)).revision.0;
        let single = store.apply(&put("lock", 0x1a)).revision.0;
        for (key, token) in [("lock/1a", older), ("lock/2b", plain), ("lock", single)] {
            assert_eq!(write(&mut store, &guard(key, token)), DONE, "{key}");
            assert_eq!(write(&mut store, &guard(key, token + 1)), fenced(token), "{key}");
        }
    }

    #[test]
    fn a_refused_command_changes_nothing_and_all_fences_must_hold() {
        let mut store = store();
        store.apply(&put("a/1a", 0x1a)); // 2
        store.apply(&put("b/2b", 0x2b)); // 3
        let mut both = guard("a/1a", 2);
        both.fences.extend(guard("b/2b", 3).fences);
        assert_eq!(write(&mut store, &both), DONE);
        let before = store.revision();
        store.apply(&delete("b/2b"));
        let refused = Err(KvError::Fenced { fence: 1, holder: Revision(0) });
        assert_eq!(write(&mut store, &both), refused);
        assert_eq!(store.revision(), before.next(), "only the deletion");
    }
}
