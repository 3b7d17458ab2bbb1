//! The one function that decides whether a request is allowed.
//!
//! A request is a tree: a transaction has comparisons, operations and further transactions in
//! both branches, and each part needs a right of its own. Both branches are judged, whichever will
//! be taken: otherwise a refusal would tell how a comparison came out.
//!
//! | part | needs |
//! |---|---|
//! | range, comparison, watch | to read all of its keys |
//! | put | to write the key |
//! | put with `prev_kv` | to read it too |
//! | put with a lease | to write every key of that lease as well, as one who can end the lease |
//! | delete | to write all of its keys |
//! | delete with `prev_kv` | to read them too |
//! | end a lease | to write every key of it |
//! | list the keys of a lease | to read every key of it |
//! | grant a lease, keep one alive, list leases and members | to be a user |
//! | see a user, a role | to be that user, to have that role |
//! | compact, alarms, snapshots, hashes, members, users, roles | to have the role root |
//!
//! `ignore_value` and `ignore_lease` need nothing beyond the put: they keep what is there and tell
//! nothing of it. A user with the role root may do everything; nobody may do anything that is not
//! listed.
//!
//! What etcd let through, one after the other, is refused here: nested transactions
//! (CVE-2026-33343), alarms, leases and the list of members without a user (CVE-2026-33413),
//! open-ended watches by the right on one key (GHSA-xg4h-6gfc-h4m8), previous values and leases of
//! puts in transactions (CVE-2026-44283), the keys of a lease (CVE-2023-32082), and everything but
//! puts while a space alarm is active (etcd#22386).
//!
//! Source: etcd `server/etcdserver/apply/auth.go`, `server/auth/range_perm_cache.go`.

use super::rights::{Deed, Rights, cover};
use super::{Auth, Caller, Denied, ROOT, User};
use crate::store::{
    Command, Compare, DeleteRange, Fence, Keys, Mutant, Op, Put, Range, Store, Txn,
};
use bytes::Bytes;

/// A request, as far as rights are concerned.
#[derive(Clone, Copy, Debug)]
pub enum Asking<'a> {
    /// What everybody may ask: who leads, and for a token.
    Anything,
    /// What every user may ask.
    AnyUser,
    /// What is up to root.
    Root,
    /// To read keys.
    Range(&'a Range),
    /// To write a key.
    Put(&'a Put),
    /// To delete keys.
    DeleteRange(&'a DeleteRange),
    /// All of these in one.
    Txn(&'a Txn),
    /// To be told of changes of keys.
    Watch(&'a Keys),
    /// To end a lease and its keys.
    LeaseRevoke(i64),
    /// To be told the keys of a lease.
    LeaseKeys(i64),
    /// To see the roles of a user.
    User(&'a [u8]),
    /// To see the permissions of a role.
    Role(&'a [u8]),
}

impl<'a> Asking<'a> {
    /// What a command asks. None for the records of a leader, which no client can ask for.
    pub fn of(command: &'a Command) -> Option<Asking<'a>> {
        Some(match command {
            Command::Put(put) => Asking::Put(put),
            Command::DeleteRange(delete) => Asking::DeleteRange(delete),
            Command::Txn(txn) => Asking::Txn(txn),
            Command::LeaseGrant { .. } => Asking::AnyUser,
            Command::LeaseRevoke { id } => Asking::LeaseRevoke(*id),
            Command::Compact { .. } | Command::Alarm(_) | Command::Auth(_) | Command::Limit(_) => {
                Asking::Root
            }
            Command::LeaseExpire { .. } | Command::LeaseCountdown { .. } => return None,
        })
    }
}

impl Store {
    /// Whether this caller may do this, in this state.
    ///
    /// Errors: why not.
    pub fn authorize(&self, caller: &Caller, asking: Asking<'_>) -> Result<(), Denied> {
        let Some(user) = self.auth.identify(caller)? else { return Ok(()) };
        Judge { store: Some(self), ..Judge::of(&self.auth, user) }.judge(asking)
    }

    /// As [`Store::authorize`] for a command that is about to be carried out: users and roles must
    /// not have changed since the caller was seen.
    pub(in crate::store) fn authorize_command(
        &self,
        caller: &Caller,
        command: &Command,
    ) -> Result<(), Denied> {
        if !self.auth.enabled || self.planted(Mutant::NotCheckedAtApply) {
            return Ok(());
        }
        let Some(asking) = Asking::of(command) else { return Ok(()) };
        if let Caller::User { revision, .. } = caller
            && *revision < self.auth.revision
        {
            return Err(Denied::OldRevision);
        }
        self.authorize(caller, asking)
    }

    /// Whether this caller may name these keys as locks: a refusal tells who holds them, so that it
    /// takes the right to read them.
    ///
    /// Errors: why not.
    pub(in crate::store) fn authorize_fences(
        &self,
        caller: &Caller,
        fences: &[Fence],
    ) -> Result<(), Denied> {
        for fence in fences.iter().filter(|_| self.auth.enabled) {
            let keys = Keys { key: fence.key.clone(), ..Keys::default() };
            self.authorize(caller, Asking::Range(&Range { keys, ..Range::default() }))?;
        }
        Ok(())
    }
}

impl Auth {
    /// Whether this caller may do this as far as can be said without the store: the keys of leases
    /// are looked at when a command is carried out.
    ///
    /// Errors: why not.
    pub fn may_ask(&self, caller: &Caller, asking: Asking<'_>) -> Result<(), Denied> {
        let Some(user) = self.identify(caller)? else { return Ok(()) };
        Judge::of(self, user).judge(asking)
    }

    /// Whether a caller who was allowed to watch these keys still is.
    ///
    /// Errors: why not.
    pub fn may_watch(&self, caller: &Caller, keys: &Keys) -> Result<(), Denied> {
        self.may_ask(caller, Asking::Watch(keys))
    }

    /// The user behind a caller. None if everything is allowed, because authentication is off or a
    /// member asks by itself. Callers without a name are nobody.
    fn identify(&self, caller: &Caller) -> Result<Option<Asker<'_>>, Denied> {
        match caller {
            _ if !self.enabled => Ok(None),
            Caller::Member => Ok(None),
            Caller::Anonymous => Ok(Some(Asker { name: b"", user: None, known: false })),
            Caller::User { name, revision } => {
                let entry = self.users.get_entry(&name[..]);
                let (name, user) = entry.ok_or(Denied::NotPermitted)?;
                // Somebody else may have got the name since, or only he the new password.
                if user.since > *revision {
                    return Err(Denied::BadToken);
                }
                Ok(Some(Asker { name, user: Some(user), known: true }))
            }
        }
    }
}

/// Who asks, in this state.
#[derive(Clone, Copy)]
struct Asker<'a> {
    name: &'a [u8],
    user: Option<&'a User>,
    known: bool,
}

/// What is needed to decide.
struct Judge<'a> {
    asker: Asker<'a>,
    is_root: bool,
    roles: &'a [Bytes],
    /// Of these roles.
    rights: Vec<&'a Rights>,
    /// For the keys of leases. Without it they are not looked at.
    store: Option<&'a Store>,
}

impl<'a> Judge<'a> {
    fn of(auth: &'a Auth, asker: Asker<'a>) -> Judge<'a> {
        let roles = asker.user.map_or(&[][..], |user| &user.roles[..]);
        let found = roles.iter().filter_map(|role| auth.roles.get(&role[..]));
        Judge {
            asker,
            is_root: roles.iter().any(|role| role == ROOT),
            roles,
            rights: found.map(|role| &role.rights).collect(),
            store: None,
        }
    }

    fn judge(&self, asking: Asking<'_>) -> Result<(), Denied> {
        if matches!(asking, Asking::Anything) {
            return Ok(());
        }
        if !self.asker.known {
            return Err(Denied::NoUser);
        }
        let allowed = self.is_root
            || match asking {
                Asking::Anything | Asking::AnyUser => true,
                Asking::Root => false,
                Asking::Range(range) => self.reads(&range.keys),
                Asking::Put(put) => self.puts(put),
                Asking::DeleteRange(delete) => self.deletes(delete),
                Asking::Txn(txn) => self.txn(txn),
                Asking::Watch(keys) => self.reads(keys),
                Asking::LeaseRevoke(id) => self.owns(id),
                Asking::LeaseKeys(id) => self.all_of(id, Deed::Read),
                Asking::User(name) => name == self.asker.name,
                Asking::Role(name) => self.roles.iter().any(|role| role == name),
            };
        if allowed { Ok(()) } else { Err(Denied::NotPermitted) }
    }

    fn planted(&self, mutant: Mutant) -> bool {
        self.store.is_some_and(|store| store.planted(mutant))
    }

    fn reads(&self, keys: &Keys) -> bool {
        self.may(Deed::Read, keys)
    }

    fn may(&self, deed: Deed, keys: &Keys) -> bool {
        // Planted bug: an end without end is taken for no end, so for one key.
        if self.planted(Mutant::OpenEndIgnored) && keys.range_end == b"\0"[..] {
            let key = keys.key.clone();
            return cover(&self.rights, deed, &Keys { key, range_end: Bytes::new() });
        }
        // Planted bug: the end is taken for one key less.
        if self.planted(Mutant::RangeEndOffByOne) && keys.range_end.len() > 1 {
            let shorter = keys.range_end.slice(..keys.range_end.len() - 1);
            return cover(&self.rights, deed, &Keys { key: keys.key.clone(), range_end: shorter });
        }
        cover(&self.rights, deed, keys)
    }

    fn puts(&self, put: &Put) -> bool {
        let keys = Keys { key: put.key.clone(), range_end: Bytes::new() };
        let sees = put.prev_kv && !self.planted(Mutant::PrevKvNotChecked);
        self.may(Deed::Write, &keys)
            && (!sees || self.may(Deed::Read, &keys))
            && (put.lease == 0 || self.owns(put.lease))
    }

    fn deletes(&self, delete: &DeleteRange) -> bool {
        let sees = delete.prev_kv && !self.planted(Mutant::PrevKvNotChecked);
        self.may(Deed::Write, &delete.keys) && (!sees || self.may(Deed::Read, &delete.keys))
    }

    /// As deep as transactions are admitted and decoded.
    fn txn(&self, txn: &Txn) -> bool {
        let compares = |compare: &Compare| {
            self.planted(Mutant::ComparesNotChecked) || self.reads(&compare.keys)
        };
        let does = |op: &Op| match op {
            Op::Range(range) => self.reads(&range.keys),
            Op::Put(put) => self.puts(put),
            Op::DeleteRange(delete) => self.deletes(delete),
            Op::Txn(inner) => self.planted(Mutant::NestedNotChecked) || self.txn(inner),
        };
        txn.compare.iter().all(compares)
            && txn.success.iter().all(does)
            && txn.failure.iter().all(does)
    }

    /// Whoever may write all keys of a lease may end it, and may bind further keys to its end.
    fn owns(&self, id: i64) -> bool {
        self.planted(Mutant::LeaseKeysNotChecked) || self.all_of(id, Deed::Write)
    }

    /// A lease that is not there has no keys.
    fn all_of(&self, id: i64, deed: Deed) -> bool {
        let leases = self.store.map(|store| &store.leases);
        let Some(lease) = leases.and_then(|leases| leases.get(&id)) else { return true };
        let may = |key: &Bytes| {
            let keys = Keys { key: key.clone(), range_end: Bytes::new() };
            cover(&self.rights, deed, &keys)
        };
        lease.keys().all(may)
    }
}
