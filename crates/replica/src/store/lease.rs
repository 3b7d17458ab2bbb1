//! Leases: keys that live only as long as somebody says so.
//!
//! A lease has a time to live and attached keys; when it ends, by a command of its client or of
//! the leader, its keys are deleted at one revision. A put attaches its key to the lease that it
//! names, away from another one; a delete detaches it.
//!
//! ```text
//!   leases   id -> Lease { ttl, grant, countdown, keys }
//!                          keys = the living pairs whose `lease` is this id
//! ```
//!
//! **Time.** The store has no clock. The leader keeps a *lease clock* and writes it into every
//! command that counts time, and the store remembers the latest such moment. Of each lease it
//! knows one of two things:
//!
//! ```text
//!               granted
//!                  |            first keep-alive
//!             Counting{deadline} --------------> Renewing
//!                  ^                                |
//!                  +---- not renewed for a while ---+
//! ```
//!
//! *Counting*: it ends at the deadline. *Renewing*: somebody keeps it alive, and how long it will
//! live is known by the leader alone; so a keep-alive is not a write. Who decides when, and why
//! that is safe, is told in `lessor/mod.rs`.
//!
//! **Guarantees.** A lease named in a record of the leader is the lease *as it was granted*: one
//! that was revoked and granted anew under the same id is not touched by what was decided about
//! the former one.
//!
//! **Bounds.** A lease counts [`LEASE_BYTES`] in [`Store::bytes_in_use`], beside the versions of
//! its keys, so the number of leases is bounded by the quota, as in etcd.
//!
//! Source: Gray and Cheriton, "Leases" (1989); etcd `server/lease` (behaviour).

use super::tree::Tree;
use super::write::Write;
use super::{Bytes, KvError, Mutant, Outcome, Store};
use std::fmt;
use std::sync::Arc;

/// Charged for each lease, in bytes. etcd charges the same (`storage/quota.go`).
pub const LEASE_BYTES: u64 = 64;

/// The longest time to live that is granted, in seconds. etcd's number.
pub const LEASE_TTL_MAX: u64 = 9_000_000_000;

/// A moment of the lease clock. Unit: milliseconds since an origin of no meaning.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseTime(pub u64);

impl LeaseTime {
    /// The moment `millis` later, at most the end of the clock's range.
    pub fn after(self, millis: u64) -> LeaseTime {
        LeaseTime(self.0.saturating_add(millis))
    }

    /// Milliseconds since `earlier`; zero if it is not earlier.
    pub fn since(self, earlier: LeaseTime) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// What is known everywhere of the end of a lease.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Countdown {
    /// It ends at a moment of the lease clock, unless somebody begins to renew it.
    Counting {
        /// The moment.
        deadline: LeaseTime,
    },
    /// It is being renewed; the leader knows until when it lives.
    Renewing,
}

/// One lease as it was granted.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct LeaseName {
    /// Its id, which may be granted again.
    pub id: i64,
    /// [`Lease::grant`], which is never used again.
    pub grant: u64,
}

/// A lease.
#[derive(Clone)]
pub struct Lease {
    /// Granted time to live. Unit: seconds.
    pub ttl: u64,
    /// Number of the command that granted it, among all commands of this store.
    pub grant: u64,
    /// How it ends.
    pub countdown: Countdown,
    keys: Tree<Bytes, ()>,
}

impl Lease {
    pub(super) fn new(ttl: u64, grant: u64, countdown: Countdown) -> Lease {
        Lease { ttl, grant, countdown, keys: Tree::new() }
    }

    /// Granted time to live. Unit: milliseconds.
    pub fn ttl_millis(&self) -> u64 {
        self.ttl.saturating_mul(1_000)
    }

    /// The attached keys, ascending.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = &Bytes> {
        self.keys.iter().map(|(key, ())| key)
    }
}

impl fmt::Debug for Lease {
    /// Without the keys: they may be many, and secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease")
            .field("ttl", &self.ttl)
            .field("grant", &self.grant)
            .field("countdown", &self.countdown)
            .field("keys", &self.keys.len())
            .finish()
    }
}

impl Store {
    /// The lease of this id.
    pub fn lease(&self, id: i64) -> Option<&Lease> {
        self.leases.get(&id)
    }

    /// All leases by ascending id.
    pub fn leases(&self) -> impl ExactSizeIterator<Item = (i64, &Lease)> {
        self.leases.iter().map(|(id, lease)| (*id, lease))
    }

    /// The latest moment of the lease clock that any command told.
    pub fn lease_clock(&self) -> LeaseTime {
        self.lease_clock
    }

    pub(super) fn grant(&mut self, id: i64, ttl: u64, at: LeaseTime) -> Result<Outcome, KvError> {
        if id == 0 {
            return Err(KvError::LeaseNotFound); // It stands for no lease; etcd answers the same.
        }
        if self.leases.get(&id).is_some() {
            return Err(KvError::LeaseExists);
        }
        self.lease_clock = self.lease_clock.max(at);
        let mut lease = Lease::new(ttl, self.applied, Countdown::Renewing);
        let deadline = self.lease_clock.after(lease.ttl_millis());
        lease.countdown = Countdown::Counting { deadline };
        self.fold_lease(LeaseName { id, grant: lease.grant }, lease.countdown);
        self.leases.insert(id, lease);
        self.bytes += LEASE_BYTES;
        Ok(Outcome::LeaseGrant { ttl })
    }

    pub(super) fn revoke(&mut self, id: i64) -> Result<Outcome, KvError> {
        if self.leases.get(&id).is_none() {
            return Err(KvError::LeaseNotFound);
        }
        let miscounted = u64::from(self.planted(Mutant::RevokeMiscounted));
        Ok(Outcome::LeaseRevoke { deleted: self.end(id) + miscounted })
    }

    /// Ends leases, each at a revision of its own. One that is not the lease that was meant stays.
    pub(super) fn expire(&mut self, leases: &[LeaseName]) -> Outcome {
        let mut expired = 0;
        for name in leases {
            if self.is_lease(*name) {
                self.end(name.id);
                expired += 1;
            }
        }
        Outcome::LeaseExpire { expired }
    }

    /// Notes what the leader decided about the countdown of leases.
    pub(super) fn count_down(
        &mut self,
        at: LeaseTime,
        leases: &[(LeaseName, Countdown)],
    ) -> Outcome {
        self.lease_clock = self.lease_clock.max(at);
        let mut changed = 0;
        for (name, countdown) in leases {
            if !self.is_lease(*name) {
                continue;
            }
            let lease = self.leases.get_mut(&name.id).expect("just looked up");
            lease.countdown = *countdown;
            changed += 1;
            self.fold_lease(*name, *countdown);
        }
        Outcome::LeaseCountdown { changed }
    }

    /// True if the lease is there as it was granted then.
    fn is_lease(&self, name: LeaseName) -> bool {
        let planted = self.planted(Mutant::RegrantExpires);
        self.leases.get(&name.id).is_some_and(|lease| planted || lease.grant == name.grant)
    }

    /// Ends a lease and deletes its keys, in ascending order and at one revision.
    fn end(&mut self, id: i64) -> u64 {
        let lease = self.leases.remove(&id).expect("only a known lease is ended");
        self.bytes -= LEASE_BYTES;
        self.digest.fold(id as u64);
        let mut write = Write::default();
        let left = usize::from(self.planted(Mutant::KeyOutlivesLease));
        for (key, ()) in lease.keys.iter().skip(left) {
            if self.planted(Mutant::RevisionPerLeaseKey) {
                write = Write::default();
            }
            let old = Arc::clone(self.get(key).expect("an attached key lives"));
            self.delete(&mut write, &old);
        }
        lease.keys.len() as u64
    }

    /// Notes to which lease a key belongs from now on; 0 is none.
    pub(super) fn attach(&mut self, key: &Bytes, from: i64, to: i64) {
        if from == to && !self.planted(Mutant::KeptLeaseDetaches) {
            return;
        }
        if !self.planted(Mutant::KeyStaysAttached)
            && let Some(lease) = self.leases.get_mut(&from)
        {
            lease.keys.remove(&key[..]);
        }
        if from == to {
            return;
        }
        if to != 0 {
            let lease = self.leases.get_mut(&to).expect("a put names a known lease");
            lease.keys.insert(key.clone(), ());
        }
    }

    /// Attaches a key that was read back. False if its lease is not there.
    pub(super) fn attach_loaded(&mut self, key: &Bytes, lease: i64) -> bool {
        if lease == 0 {
            return true;
        }
        let Some(lease) = self.leases.get_mut(&lease) else { return false };
        lease.keys.insert(key.clone(), ());
        true
    }

    fn fold_lease(&mut self, name: LeaseName, countdown: Countdown) {
        if self.planted(Mutant::DigestWithoutCountdown) {
            return;
        }
        let deadline = match countdown {
            Countdown::Renewing => 0,
            Countdown::Counting { deadline } => deadline.0.wrapping_add(1),
        };
        for word in [name.id as u64, name.grant, deadline] {
            self.digest.fold(word);
        }
    }
}
