//! What the holder of a lease may rely on.
//!
//! A grant, or a keep-alive that was acknowledged, was *sent* at some moment; for a time to live
//! after it the lease must not end by itself, however clocks and leaders change. When it ends, all
//! its keys go in one revision, and none of them is left.
//!
//! ```text
//! keep-alive sent      answered                       may end from here on
//! |--------------------|------------------------------|------------
//! |<------------------ time to live ----------------->|
//! ```
//!
//! From the sending, not from the answer: the server counts from some moment between the two, and
//! the earliest is all that the client may rely on. A revocation that was asked for, or one of
//! unknown outcome, ends a lease at any time.
//!
//! *Bounds.* One entry per lease, one per key on a lease; one that ended is its number
//! and its end.
//!
//! Source: Gray and Cheriton, "Leases", 1989; etcd's `LeaseGrant`, `LeaseKeepAlive`.

use super::Broken;
use crate::models::map::Blob;
use std::collections::{BTreeMap, BTreeSet};

/// A moment of true time, or of the one clock of the test. Unit: nanoseconds.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Nanos(pub u64);

#[derive(Clone, Debug)]
struct Lease {
    ttl: u64,
    refreshed: u64,
    may_be_revoked: bool,
    keys: BTreeSet<Blob>,
}

/// All leases of a store.
#[derive(Clone, Debug, Default)]
pub struct Leases {
    alive: BTreeMap<i64, Lease>,
    ended: BTreeMap<i64, Nanos>,
    holders: BTreeMap<Blob, i64>,
}

impl Leases {
    /// A grant was sent at `sent` and has been acknowledged with this time to live.
    ///
    /// # Errors
    ///
    /// If the lease is alive already.
    pub fn on_granted(&mut self, lease: i64, sent: Nanos, ttl: Nanos) -> Result<(), Broken> {
        let keys = BTreeSet::new();
        let new = Lease { ttl: ttl.0, refreshed: sent.0, may_be_revoked: false, keys };
        self.ended.remove(&lease);
        match self.alive.insert(lease, new) {
            None => Ok(()),
            Some(_) => Err(Broken::new("lease unique", format!("lease {lease} granted twice"))),
        }
    }

    /// A keep-alive was sent at `sent` and has been acknowledged with this time to live.
    ///
    /// # Errors
    ///
    /// If the lease was known to have ended when it was sent: it can not come back to life.
    pub fn on_kept(&mut self, lease: i64, sent: Nanos, ttl: Nanos) -> Result<(), Broken> {
        if let Some(ended) = self.ended.get(&lease).filter(|ended| **ended < sent) {
            let story =
                format!("lease {lease} was kept at {} ns, but ended at {} ns", sent.0, ended.0);
            return Err(Broken::new("lease end", story));
        }
        if let Some(alive) = self.alive.get_mut(&lease) {
            let until = alive.refreshed + alive.ttl;
            if sent.0 + ttl.0 > until {
                (alive.refreshed, alive.ttl) = (sent.0, ttl.0);
            }
        }
        Ok(())
    }

    /// Somebody asks to revoke the lease: from now on it may end.
    pub fn on_revoke_asked(&mut self, lease: i64) {
        if let Some(alive) = self.alive.get_mut(&lease) {
            alive.may_be_revoked = true;
        }
    }

    /// A key was put, with a lease or (0) without.
    ///
    /// # Errors
    ///
    /// If the lease has ended.
    pub fn on_put(&mut self, key: &Blob, lease: i64) -> Result<(), Broken> {
        self.detach(key);
        if lease == 0 {
            return Ok(());
        }
        if self.ended.contains_key(&lease) {
            let story = format!("{key} was put on lease {lease}, which had ended");
            return Err(Broken::new("lease end", story));
        }
        if let Some(alive) = self.alive.get_mut(&lease) {
            alive.keys.insert(key.clone());
            self.holders.insert(key.clone(), lease);
        }
        Ok(())
    }

    /// A client deleted a key, in an operation of its own.
    pub fn on_deleted(&mut self, key: &Blob) {
        self.detach(key);
    }

    /// One revision deleted these keys at `now`, and no operation of a client did it.
    ///
    /// # Errors
    ///
    /// If they are not all the keys of one lease, or if that lease had time left.
    pub fn on_expired(&mut self, now: Nanos, revision: u64, keys: &[Blob]) -> Result<(), Broken> {
        let Some(lease) = keys.first().and_then(|key| self.holders.get(key)).copied() else {
            let story = format!("revision {revision} deleted keys that hang on no lease");
            return Err(Broken::new("lease end", story));
        };
        let gone: BTreeSet<Blob> = keys.iter().cloned().collect();
        let kept = &self.alive[&lease].keys;
        if *kept != gone {
            let differing = kept.symmetric_difference(&gone).next();
            let story = format!(
                "revision {revision} ended lease {lease} with {} of its {} keys; {} differs",
                gone.intersection(kept).count(),
                kept.len(),
                differing.map(Blob::to_string).unwrap_or_default()
            );
            return Err(Broken::new("lease whole", story));
        }
        self.on_ended(now, lease)
    }

    /// The lease is said to have ended: an answer, or the deletion of its keys, tells.
    ///
    /// # Errors
    ///
    /// If it had time left and nobody asked to revoke it.
    pub fn on_ended(&mut self, now: Nanos, lease: i64) -> Result<(), Broken> {
        let Some(ended) = self.alive.remove(&lease) else { return Ok(()) };
        for key in &ended.keys {
            self.holders.remove(key);
        }
        self.ended.insert(lease, now);
        let until = ended.refreshed + ended.ttl;
        if !ended.may_be_revoked && now.0 < until {
            let story = format!(
                "lease {lease} ended at {} ns, {} ns before its time: a keep-alive sent at {} ns \
                 for {} ns had been acknowledged",
                now.0,
                until - now.0,
                ended.refreshed,
                ended.ttl
            );
            return Err(Broken::new("lease time", story));
        }
        Ok(())
    }

    fn detach(&mut self, key: &Blob) {
        let lease = self.holders.remove(key);
        if let Some(alive) = lease.and_then(|lease| self.alive.get_mut(&lease)) {
            alive.keys.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Blob {
        name.into()
    }

    /// Lease 7 granted at 100 for 50, with keys a and b.
    fn leases() -> Leases {
        let mut leases = Leases::default();
        leases.on_granted(7, Nanos(100), Nanos(50)).expect("new");
        leases.on_put(&key("a"), 7).expect("alive");
        leases.on_put(&key("b"), 7).expect("alive");
        leases
    }

    fn both() -> [Blob; 2] {
        [key("a"), key("b")]
    }

    fn promise(result: Result<(), Broken>) -> &'static str {
        result.expect_err("a broken promise").promise
    }

    #[test]
    fn a_lease_may_end_after_its_time_and_not_before() {
        leases().on_expired(Nanos(150), 9, &both()).expect("its time is over");
        assert_eq!(promise(leases().on_expired(Nanos(149), 9, &both())), "lease time");
    }

    #[test]
    fn an_acknowledged_keep_alive_counts_from_its_sending() {
        let mut kept = leases();
        kept.on_kept(7, Nanos(140), Nanos(50)).expect("alive");
        let mut late = kept.clone();
        late.on_expired(Nanos(190), 9, &both()).expect("its time is over");
        assert_eq!(promise(kept.on_expired(Nanos(189), 9, &both())), "lease time");
    }

    #[test]
    fn a_keep_alive_answered_late_does_not_shorten() {
        let mut kept = leases();
        kept.on_kept(7, Nanos(140), Nanos(50)).expect("alive");
        kept.on_kept(7, Nanos(120), Nanos(50)).expect("an older one, answered later");
        assert_eq!(promise(kept.on_expired(Nanos(189), 9, &both())), "lease time");
    }

    #[test]
    fn who_is_revoked_may_end_at_once() {
        let mut revoked = leases();
        revoked.on_revoke_asked(7);
        revoked.on_expired(Nanos(101), 9, &both()).expect("somebody asked for it");
    }

    #[test]
    fn all_keys_go_in_one_revision() {
        assert_eq!(promise(leases().on_expired(Nanos(200), 9, &both()[..1])), "lease whole");
        let mut moved = leases();
        moved.on_put(&key("b"), 0).expect("it hangs on no lease now");
        moved.on_expired(Nanos(200), 9, &both()[..1]).expect("a alone");
        let mut deleted = leases();
        deleted.on_deleted(&key("a"));
        assert_eq!(promise(deleted.on_expired(Nanos(200), 9, &both())), "lease end");
    }

    #[test]
    fn a_lease_does_not_come_back() {
        let mut ended = leases();
        ended.on_expired(Nanos(200), 9, &both()).expect("its time is over");
        assert_eq!(promise(ended.on_put(&key("c"), 7)), "lease end");
        assert_eq!(promise(ended.on_kept(7, Nanos(201), Nanos(50))), "lease end");
        assert_eq!(promise(ended.on_expired(Nanos(300), 10, &both())), "lease end");
        assert_eq!(promise(leases().on_granted(7, Nanos(0), Nanos(1))), "lease unique");
    }
}
