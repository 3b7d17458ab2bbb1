//! Users and roles as this member knows them, for everybody who lets requests in.
//!
//! The loop thread shows them here at the end of each turn that changed them, before anything is
//! answered which rests on the change. So whoever has an answer to a change finds it counting.
//!
//! After a restart a member may be behind of what it had acknowledged before: that may lie in the
//! part of its log that is not yet known to be committed. If there are changes of users and roles
//! in that part, [`Known::is_behind`] holds until they are applied, and nobody is let in from the
//! older state.
//!
//! What is asked of every request costs no lock while authentication is off.

use quorate_protocols::consensus::raft::{Entry, Payload};
use quorate_replica::store::{Asked, Auth, Command};
use quorate_replica::{Replica, open};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

/// Users and roles as of the last turn.
#[derive(Debug)]
pub(crate) struct Known {
    auth: RwLock<Arc<Auth>>,
    /// They matter.
    enabled: AtomicBool,
    /// The log of before the start has further changes of them, up to this index; 0 if it has none.
    settles_at: AtomicU64,
}

impl Known {
    /// Before the member has found out.
    pub(crate) fn new(auth: &Arc<Auth>) -> Known {
        Known {
            auth: RwLock::new(Arc::clone(auth)),
            enabled: AtomicBool::new(auth.is_enabled()),
            settles_at: AtomicU64::new(0),
        }
    }

    /// Users and roles as a member finds them when it starts.
    pub(crate) fn begin(&self, node: &Replica) {
        self.show(node.store().auth());
        let ahead = node.raft().entries().filter(|entry| entry.position > node.applied());
        let last = ahead.filter(|entry| is_change(entry)).last();
        self.settles_at.store(last.map_or(0, |entry| entry.position.index.0), Ordering::Release);
    }

    /// Users and roles from now on. To be called before anything is answered that rests on them.
    pub(crate) fn follow(&self, node: &Replica) {
        self.show(node.store().auth());
        if node.applied().index.0 >= self.settles_at.load(Ordering::Acquire) {
            self.settles_at.store(0, Ordering::Release);
        }
    }

    fn show(&self, auth: &Arc<Auth>) {
        let mut shown = self.auth.write().unwrap_or_else(PoisonError::into_inner);
        if !Arc::ptr_eq(&shown, auth) {
            *shown = Arc::clone(auth);
            self.enabled.store(auth.is_enabled(), Ordering::Release);
        }
    }

    /// True until this member is where it was before its start, as far as users and roles go.
    pub(crate) fn is_behind(&self) -> bool {
        self.settles_at.load(Ordering::Acquire) > 0
    }

    /// Users and roles.
    pub(crate) fn present(&self) -> Arc<Auth> {
        Arc::clone(&self.auth.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Users and roles, if they matter.
    pub(crate) fn if_enabled(&self) -> Option<Arc<Auth>> {
        self.enabled.load(Ordering::Acquire).then(|| self.present())
    }
}

/// True for an entry with a change of users and roles.
fn is_change(entry: &Entry) -> bool {
    let Payload::Command(sealed) = &entry.payload else { return false };
    let asked = open(sealed.clone()).map(|(_, _, encoded)| Asked::decode(encoded));
    matches!(asked, Some(Ok(Asked { command: Command::Auth(_), .. })))
}
