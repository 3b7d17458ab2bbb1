//! What the holder of a lock may rely on, and what the thing that it guards may.
//!
//! * **Mutual exclusion**: no two clients hold the lock at one time. A holder holds from the answer
//!   that grants until it asks to release, or until what keeps the lock for it (a lease) may have
//!   ended. A client that was paused may *believe* longer; hence
//! * **fencing**: tokens grow with each grant, and once a write with a token was accepted, no write
//!   with a smaller one is.
//!
//! *Bounds.* One entry per lock.
//!
//! Sources: Burrows, "The Chubby lock service", 2006, section 2.4 (sequencers); Kleppmann, "How to
//! do distributed locking", 2016.

use super::Broken;
use crate::history::ClientId;
use crate::models::map::Blob;
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default)]
struct Lock {
    holder: Option<(ClientId, u64)>,
    granted: u64,
    accepted: Option<(u64, ClientId)>,
}

/// All locks.
#[derive(Clone, Debug, Default)]
pub struct Locks {
    locks: BTreeMap<Blob, Lock>,
}

impl Locks {
    /// `client` was granted the lock, with this token.
    ///
    /// # Errors
    ///
    /// If somebody else holds it, or the token is not above all before.
    pub fn on_granted(&mut self, lock: &Blob, client: ClientId, token: u64) -> Result<(), Broken> {
        let state = self.locks.entry(lock.clone()).or_default();
        if let Some((holder, held)) = state.holder {
            let story = format!(
                "lock {lock} was granted to {client} with token {token}, while {holder} holds it \
                 with token {held}"
            );
            return Err(Broken::new("lock exclusive", story));
        }
        if token <= state.granted {
            let story = format!("lock {lock}: token {token} for {client} after {}", state.granted);
            return Err(Broken::new("lock tokens grow", story));
        }
        state.granted = token;
        state.holder = Some((client, token));
        Ok(())
    }

    /// The client holds it no longer: it asks to release, or its lease may have ended. A client
    /// that does not hold it changes nothing.
    pub fn on_released(&mut self, lock: &Blob, client: ClientId) {
        if let Some(state) = self.locks.get_mut(lock) {
            state.holder = state.holder.filter(|(holder, _)| *holder != client);
        }
    }

    /// What the lock guards accepted a write of `client` with this token.
    ///
    /// # Errors
    ///
    /// If it had accepted one with a newer token, or nobody was ever granted this one.
    pub fn on_accepted(&mut self, lock: &Blob, client: ClientId, token: u64) -> Result<(), Broken> {
        let state = self.locks.entry(lock.clone()).or_default();
        if token > state.granted {
            let story = format!(
                "a write of {client} under {lock} with token {token}, which nobody \
                was granted"
            );
            return Err(Broken::new("lock tokens true", story));
        }
        if let Some((newest, other)) = state.accepted.filter(|(newest, _)| token < *newest) {
            let story = format!(
                "a write of {client} under {lock} with token {token} was accepted after one of \
                 {other} with token {newest}"
            );
            return Err(Broken::new("lock fenced", story));
        }
        state.accepted = Some((token, client));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: ClientId = ClientId(1);
    const TWO: ClientId = ClientId(2);

    fn promise(result: Result<(), Broken>) -> &'static str {
        result.expect_err("a broken promise").promise
    }

    /// Client 1 holds `l` with token 5.
    fn held() -> (Locks, Blob) {
        let (mut locks, lock) = (Locks::default(), Blob::from("l"));
        locks.on_granted(&lock, ONE, 5).expect("free");
        (locks, lock)
    }

    #[test]
    fn one_after_another_with_growing_tokens_is_right() {
        let (mut locks, lock) = held();
        locks.on_accepted(&lock, ONE, 5).expect("its own");
        locks.on_released(&lock, TWO);
        locks.on_released(&lock, ONE);
        locks.on_granted(&lock, TWO, 6).expect("free again");
        locks.on_accepted(&lock, ONE, 5).expect("no newer one was accepted yet");
        locks.on_accepted(&lock, TWO, 6).expect("newer");
        locks.on_granted(&"other".into(), ONE, 1).expect("another lock");
    }

    #[test]
    fn each_planted_fault_breaks_its_promise() {
        let (mut locks, lock) = held();
        assert_eq!(promise(locks.on_granted(&lock, TWO, 6)), "lock exclusive");
        let (mut locks, lock) = held();
        locks.on_released(&lock, ONE);
        assert_eq!(promise(locks.on_granted(&lock, TWO, 5)), "lock tokens grow");
        locks.on_granted(&lock, TWO, 6).expect("newer");
        locks.on_accepted(&lock, TWO, 6).expect("newest");
        assert_eq!(promise(locks.on_accepted(&lock, ONE, 5)), "lock fenced");
        assert_eq!(promise(locks.on_accepted(&lock, ONE, 7)), "lock tokens true");
    }

    #[test]
    fn a_stranger_can_not_release() {
        let (mut locks, lock) = held();
        locks.on_released(&lock, TWO);
        assert_eq!(promise(locks.on_granted(&lock, TWO, 6)), "lock exclusive");
    }
}
