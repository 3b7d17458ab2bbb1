//! The reference: sets of permissions, and every key looked at by itself.
//!
//! The keys that matter are the ends of all ranges in sight, and the successor of each: between
//! two such keys everything is judged alike, so a range is covered if those of them which lie in it
//! are.

use bytes::Bytes;
use quorate_replica::store::{
    Access, Asking, AuthCommand, AuthError, Caller, Command, Denied, Keys, Op, Store, Txn,
};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Debug, Default)]
pub(crate) struct User {
    has_password: bool,
    roles: BTreeSet<Bytes>,
    since: u64,
}

type Permissions = BTreeMap<(Bytes, Bytes), Access>;

#[derive(Clone, Debug)]
pub(crate) struct Naive {
    pub(crate) enabled: bool,
    pub(crate) revision: u64,
    users: BTreeMap<Bytes, User>,
    roles: BTreeMap<Bytes, Permissions>,
}

impl Default for Naive {
    fn default() -> Naive {
        let (users, roles) = (BTreeMap::new(), BTreeMap::new());
        Naive { enabled: false, revision: 1, users, roles }
    }
}

/// One right that a request needs: to write, or else to read, these keys.
type Need = (bool, Keys);

impl Naive {
    pub(crate) fn change(&mut self, command: &AuthCommand) -> Result<(), AuthError> {
        let before = self.clone();
        let done = self.try_change(command);
        match done {
            Ok(true) => self.revision += 1,
            Ok(false) => {}
            Err(_) => *self = before,
        }
        done.map(|_| ())
    }

    fn try_change(&mut self, command: &AuthCommand) -> Result<bool, AuthError> {
        let next = self.revision + 1;
        let enabled = self.enabled;
        let user_of = |users: &BTreeMap<Bytes, User>, name: &Bytes| users.contains_key(name);
        match command {
            AuthCommand::Enable { .. } => {
                let root = self.users.get(&b"root"[..]).ok_or(AuthError::RootUserMissing)?;
                if !root.roles.contains(&b"root"[..]) {
                    return Err(AuthError::RootRoleMissing);
                }
                self.enabled = true;
                return Ok(false);
            }
            AuthCommand::Disable => self.enabled = false,
            AuthCommand::UserAdd { name, .. } if name.is_empty() => {
                return Err(AuthError::UserEmpty);
            }
            AuthCommand::UserAdd { name, hash } => {
                if user_of(&self.users, name) {
                    return Err(AuthError::UserExists);
                }
                let roles = BTreeSet::new();
                let user = User { has_password: hash.is_some(), roles, since: next };
                self.users.insert(name.clone(), user);
            }
            AuthCommand::UserDelete { name } => {
                if enabled && name == "root" {
                    return Err(AuthError::Invalid);
                }
                self.users.remove(name).ok_or(AuthError::UserNotFound)?;
            }
            AuthCommand::UserPassword { name, .. } => {
                let user = self.users.get_mut(name).ok_or(AuthError::UserNotFound)?;
                user.since = if user.has_password { next } else { user.since };
            }
            AuthCommand::UserGrantRole { user, role } => {
                let found = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if role != "root" && !self.roles.contains_key(role) {
                    return Err(AuthError::RoleNotFound);
                }
                return Ok(found.roles.insert(role.clone()));
            }
            AuthCommand::UserRevokeRole { user, role } => {
                if enabled && user == "root" && role == "root" {
                    return Err(AuthError::Invalid);
                }
                let found = self.users.get_mut(user).ok_or(AuthError::UserNotFound)?;
                if !found.roles.remove(role) {
                    return Err(AuthError::RoleNotGranted);
                }
            }
            _ => return self.try_change_role(command),
        }
        Ok(enabled || !matches!(command, AuthCommand::Disable))
    }

    fn try_change_role(&mut self, command: &AuthCommand) -> Result<bool, AuthError> {
        match command {
            AuthCommand::RoleAdd { name } if name.is_empty() => return Err(AuthError::RoleEmpty),
            AuthCommand::RoleAdd { name } => {
                if self.roles.contains_key(name) {
                    return Err(AuthError::RoleExists);
                }
                self.roles.insert(name.clone(), Permissions::new());
            }
            AuthCommand::RoleDelete { name } => {
                if self.enabled && name == "root" {
                    return Err(AuthError::Invalid);
                }
                self.roles.remove(name).ok_or(AuthError::RoleNotFound)?;
                self.users.values_mut().for_each(|user| {
                    user.roles.remove(name);
                });
            }
            AuthCommand::RoleGrant { role, permission } => {
                let keys = &permission.keys;
                let (key, end) = (keys.key.clone(), keys.range_end.clone());
                if !end.is_empty() && end != "\0" && end <= key {
                    return Err(AuthError::Invalid);
                }
                let found = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                found.insert((key, end), permission.access);
            }
            AuthCommand::RoleRevoke { role, keys } => {
                let found = self.roles.get_mut(role).ok_or(AuthError::RoleNotFound)?;
                let place = (keys.key.clone(), keys.range_end.clone());
                found.remove(&place).ok_or(AuthError::PermissionNotGranted)?;
            }
            other => unreachable!("{other:?} is of users"),
        }
        Ok(true)
    }

    pub(crate) fn may_apply(
        &self,
        caller: &Caller,
        command: &Command,
        store: &Store,
    ) -> Result<(), Denied> {
        let old = matches!(caller, Caller::User { revision, .. } if *revision < self.revision);
        match Asking::of(command) {
            Some(_) if self.enabled && old => Err(Denied::OldRevision),
            Some(asking) => self.may(caller, asking, store),
            None => Ok(()),
        }
    }

    pub(crate) fn may(
        &self,
        caller: &Caller,
        asking: Asking<'_>,
        store: &Store,
    ) -> Result<(), Denied> {
        let (name, revision) = match caller {
            _ if !self.enabled => return Ok(()),
            Caller::Member => return Ok(()),
            Caller::Anonymous => {
                let free = matches!(asking, Asking::Anything);
                return if free { Ok(()) } else { Err(Denied::NoUser) };
            }
            Caller::User { name, revision } => (name, *revision),
        };
        let user = self.users.get(name).ok_or(Denied::NotPermitted)?;
        if user.since > revision {
            return Err(Denied::BadToken);
        }
        let own = match asking {
            Asking::Anything | Asking::AnyUser => true,
            Asking::Root => false,
            Asking::User(other) => name == other,
            Asking::Role(role) => user.roles.contains(role),
            asking => {
                let mut needs = Vec::new();
                collect(asking, store, &mut needs);
                needs.iter().all(|need| self.covers(user, need, &needs))
            }
        };
        let allowed = own || user.roles.contains(&b"root"[..]);
        if allowed { Ok(()) } else { Err(Denied::NotPermitted) }
    }

    /// Looks at every key that matters.
    fn covers(&self, user: &User, (write, keys): &Need, needs: &[Need]) -> bool {
        let granted = || {
            let roles = user.roles.iter().filter_map(|role| self.roles.get(role));
            roles.flatten().map(|((key, end), access)| {
                (Keys { key: key.clone(), range_end: end.clone() }, *access)
            })
        };
        let mut ends = BTreeSet::new();
        for keys in
            needs.iter().map(|(_, keys)| keys.clone()).chain(granted().map(|(keys, _)| keys))
        {
            ends.extend([keys.key, keys.range_end]);
        }
        let successors: Vec<Bytes> =
            ends.iter().map(|key| Bytes::from([&key[..], b"\0"].concat())).collect();
        ends.extend(successors);
        let wanted = ends.iter().filter(|key| keys.contains(key) || **key == keys.key);
        let fits = |access: Access| match access {
            Access::Read => !write,
            Access::Write => *write,
            Access::ReadWrite => true,
        };
        wanted
            .into_iter()
            .all(|key| granted().any(|(keys, access)| fits(access) && keys.contains(key)))
    }
}

fn point(key: &Bytes) -> Keys {
    Keys { key: key.clone(), range_end: Bytes::new() }
}

fn lease_keys(store: &Store, id: i64) -> Vec<Keys> {
    store.lease(id).map_or_else(Vec::new, |lease| lease.keys().map(point).collect())
}

/// Everything that a request needs.
fn collect(asking: Asking<'_>, store: &Store, needs: &mut Vec<Need>) {
    match asking {
        Asking::Range(range) => needs.push((false, range.keys.clone())),
        Asking::Watch(keys) => needs.push((false, keys.clone())),
        Asking::Put(put) => {
            needs.push((true, point(&put.key)));
            if put.prev_kv {
                needs.push((false, point(&put.key)));
            }
            needs.extend(lease_keys(store, put.lease).into_iter().map(|keys| (true, keys)));
        }
        Asking::DeleteRange(delete) => {
            needs.push((true, delete.keys.clone()));
            if delete.prev_kv {
                needs.push((false, delete.keys.clone()));
            }
        }
        Asking::LeaseRevoke(id) => {
            needs.extend(lease_keys(store, id).into_iter().map(|keys| (true, keys)));
        }
        Asking::LeaseKeys(id) => {
            needs.extend(lease_keys(store, id).into_iter().map(|keys| (false, keys)));
        }
        Asking::Txn(txn) => collect_txn(txn, store, needs),
        other => unreachable!("{other:?} is of no keys"),
    }
}

fn collect_txn(txn: &Txn, store: &Store, needs: &mut Vec<Need>) {
    let mut open = vec![txn];
    while let Some(Txn { compare, success, failure }) = open.pop() {
        needs.extend(compare.iter().map(|compare| (false, compare.keys.clone())));
        for op in success.iter().chain(failure) {
            match op {
                Op::Range(range) => collect(Asking::Range(range), store, needs),
                Op::Put(put) => collect(Asking::Put(put), store, needs),
                Op::DeleteRange(delete) => collect(Asking::DeleteRange(delete), store, needs),
                Op::Txn(inner) => open.push(inner),
            }
        }
    }
}
