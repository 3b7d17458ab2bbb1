//! The commands that change users and roles.
//!
//! A command is checked first and then carried out; one that is refused changes nothing. Checks
//! and texts are etcd's, in its order, since clients match them.

use super::{
    AUTH_BYTES_MAX, Access, Auth, AuthError, ENTRY_BYTES, NAME_BYTES_MAX, Permission, ROOT, Rights,
    Role, User,
};
use crate::store::Keys;
use bytes::Bytes;
use std::fmt;

/// A change of users, roles, or of whether they matter.
#[derive(Clone, Eq, PartialEq)]
pub enum AuthCommand {
    /// They matter from now on. Nothing happens if they do already.
    Enable {
        /// What login tokens are to be sealed with: drawn at random by the member that was asked.
        token_key: Bytes,
    },
    /// They no longer matter. Nothing happens if they do not.
    Disable,
    /// A further user.
    UserAdd {
        /// The name.
        name: Bytes,
        /// The password as bcrypt tells it; none for a user who cannot log in with one.
        hash: Option<Bytes>,
    },
    /// A user less.
    UserDelete {
        /// The name.
        name: Bytes,
    },
    /// Another password. A user without one stays without one.
    UserPassword {
        /// The name.
        name: Bytes,
        /// As bcrypt tells it.
        hash: Bytes,
    },
    /// A user gets a role. Nothing happens if he has it.
    UserGrantRole {
        /// The user.
        user: Bytes,
        /// The role.
        role: Bytes,
    },
    /// A user loses a role.
    UserRevokeRole {
        /// The user.
        user: Bytes,
        /// The role.
        role: Bytes,
    },
    /// A further role, without permissions.
    RoleAdd {
        /// The name.
        name: Bytes,
    },
    /// A role less, also for the users who have it.
    RoleDelete {
        /// The name.
        name: Bytes,
    },
    /// A role gets a permission, in place of the one that it has on the same range.
    RoleGrant {
        /// The role.
        role: Bytes,
        /// The permission.
        permission: Permission,
    },
    /// A role loses its permission on this range.
    RoleRevoke {
        /// The role.
        role: Bytes,
        /// The range.
        keys: Keys,
    },
}

impl AuthCommand {
    /// What is done, in a word. Never a secret.
    pub fn name(&self) -> &'static str {
        match self {
            AuthCommand::Enable { .. } => "enable",
            AuthCommand::Disable => "disable",
            AuthCommand::UserAdd { .. } => "user-add",
            AuthCommand::UserDelete { .. } => "user-delete",
            AuthCommand::UserPassword { .. } => "user-password",
            AuthCommand::UserGrantRole { .. } => "user-grant-role",
            AuthCommand::UserRevokeRole { .. } => "user-revoke-role",
            AuthCommand::RoleAdd { .. } => "role-add",
            AuthCommand::RoleDelete { .. } => "role-delete",
            AuthCommand::RoleGrant { .. } => "role-grant",
            AuthCommand::RoleRevoke { .. } => "role-revoke",
        }
    }
}

impl fmt::Debug for AuthCommand {
    /// Commands are logged and shown by simulators; hashes and keys are not.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Auth {
    /// Carries out a command. Nothing has changed if it is refused.
    pub(in crate::store) fn change(&mut self, command: &AuthCommand) -> Result<(), AuthError> {
        let changed = match command {
            AuthCommand::Enable { token_key } => return self.enable(token_key),
            AuthCommand::Disable => std::mem::replace(&mut self.enabled, false),
            AuthCommand::UserAdd { name, hash } => self.add_user(name, hash.as_ref())?,
            AuthCommand::UserDelete { name } => self.delete_user(name)?,
            AuthCommand::UserPassword { name, hash } => self.change_password(name, hash)?,
            AuthCommand::UserGrantRole { user, role } => self.grant_role(user, role)?,
            AuthCommand::UserRevokeRole { user, role } => self.revoke_role(user, role)?,
            AuthCommand::RoleAdd { name } => self.add_role(name)?,
            AuthCommand::RoleDelete { name } => self.delete_role(name)?,
            AuthCommand::RoleGrant { role, permission } => self.grant(role, permission)?,
            AuthCommand::RoleRevoke { role, keys } => self.revoke(role, keys)?,
        };
        self.revision += u64::from(changed);
        Ok(())
    }

    fn enable(&mut self, token_key: &Bytes) -> Result<(), AuthError> {
        if self.enabled {
            return Ok(());
        }
        let root = self.users.get(ROOT.as_bytes()).ok_or(AuthError::RootUserMissing)?;
        if !root.has_role(ROOT.as_bytes()) {
            return Err(AuthError::RootRoleMissing);
        }
        self.enabled = true;
        self.epoch += 1;
        self.token_key = Bytes::copy_from_slice(token_key);
        Ok(())
    }

    fn add_user(&mut self, name: &Bytes, hash: Option<&Bytes>) -> Result<bool, AuthError> {
        if name.is_empty() {
            return Err(AuthError::UserEmpty);
        }
        if self.users.get(&name[..]).is_some() {
            return Err(AuthError::UserExists);
        }
        self.charge(&[name, hash.unwrap_or(&Bytes::new())])?;
        let hash = hash.map(|hash| Bytes::copy_from_slice(hash));
        let user = User { hash, roles: Vec::new(), since: self.revision + 1 };
        self.users.insert(Bytes::copy_from_slice(name), user);
        Ok(true)
    }

    fn delete_user(&mut self, name: &Bytes) -> Result<bool, AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::Invalid);
        }
        let user = self.users.remove(&name[..]).ok_or(AuthError::UserNotFound)?;
        self.refund(name.len() + user.hash.as_ref().map_or(0, Bytes::len));
        user.roles.iter().for_each(|role| self.refund(role.len()));
        Ok(true)
    }

    fn change_password(&mut self, name: &Bytes, hash: &Bytes) -> Result<bool, AuthError> {
        let since = self.revision + 1;
        let user = self.users.get_mut(&name[..]).ok_or(AuthError::UserNotFound)?;
        let Some(old) = &mut user.hash else { return Ok(true) };
        self.bytes = self.bytes - old.len() as u64 + hash.len() as u64;
        *old = Bytes::copy_from_slice(hash);
        user.since = since;
        Ok(true)
    }

    fn grant_role(&mut self, user: &Bytes, role: &Bytes) -> Result<bool, AuthError> {
        let found = self.users.get(&user[..]).ok_or(AuthError::UserNotFound)?;
        if role != ROOT && self.roles.get(&role[..]).is_none() {
            return Err(AuthError::RoleNotFound);
        }
        let Err(place) = found.roles.binary_search(role) else { return Ok(false) };
        self.charge(&[role])?;
        let found = self.users.get_mut(&user[..]).expect("just seen");
        found.roles.insert(place, Bytes::copy_from_slice(role));
        Ok(true)
    }

    fn revoke_role(&mut self, user: &Bytes, role: &Bytes) -> Result<bool, AuthError> {
        if self.enabled && user == ROOT && role == ROOT {
            return Err(AuthError::Invalid);
        }
        let found = self.users.get_mut(&user[..]).ok_or(AuthError::UserNotFound)?;
        let place = found.roles.binary_search(role).map_err(|_| AuthError::RoleNotGranted)?;
        found.roles.remove(place);
        self.refund(role.len());
        Ok(true)
    }

    fn add_role(&mut self, name: &Bytes) -> Result<bool, AuthError> {
        if name.is_empty() {
            return Err(AuthError::RoleEmpty);
        }
        if self.roles.get(&name[..]).is_some() {
            return Err(AuthError::RoleExists);
        }
        self.charge(&[name])?;
        self.roles.insert(Bytes::copy_from_slice(name), Role::default());
        Ok(true)
    }

    fn delete_role(&mut self, name: &Bytes) -> Result<bool, AuthError> {
        if self.enabled && name == ROOT {
            return Err(AuthError::Invalid);
        }
        let role = self.roles.remove(&name[..]).ok_or(AuthError::RoleNotFound)?;
        self.refund(name.len());
        for Permission { keys, .. } in &role.permissions {
            self.refund(keys.key.len() + keys.range_end.len());
        }
        let has = |(_, user): &(&Bytes, &User)| user.has_role(name);
        let users: Vec<Bytes> =
            self.users.iter().filter(has).map(|(name, _)| name.clone()).collect();
        for user in users {
            let user = self.users.get_mut(&user[..]).expect("just seen");
            user.roles.retain(|role| role != name);
            self.refund(name.len());
        }
        Ok(true)
    }

    fn grant(&mut self, role: &Bytes, permission: &Permission) -> Result<bool, AuthError> {
        if !permission.keys.is_range() {
            return Err(AuthError::Invalid);
        }
        let found = self.roles.get(&role[..]).ok_or(AuthError::RoleNotFound)?;
        let place = found.place(&permission.keys);
        if place.is_err() {
            self.charge(&[&permission.keys.key, &permission.keys.range_end])?;
        }
        let found = self.roles.get_mut(&role[..]).expect("just seen");
        match place {
            Ok(place) => found.permissions[place].access = permission.access,
            Err(place) => found.permissions.insert(place, copied(permission)),
        }
        found.rights = Rights::of(&found.permissions);
        Ok(true)
    }

    fn revoke(&mut self, role: &Bytes, keys: &Keys) -> Result<bool, AuthError> {
        let found = self.roles.get_mut(&role[..]).ok_or(AuthError::RoleNotFound)?;
        let place = found.place(keys).map_err(|_| AuthError::PermissionNotGranted)?;
        found.permissions.remove(place);
        found.rights = Rights::of(&found.permissions);
        self.refund(keys.key.len() + keys.range_end.len());
        Ok(true)
    }

    /// Takes room for one entry of these byte strings. Errors: there is none.
    fn charge(&mut self, parts: &[&Bytes]) -> Result<(), AuthError> {
        let bytes = ENTRY_BYTES + parts.iter().map(|part| part.len() as u64).sum::<u64>();
        let long = parts.first().is_some_and(|name| name.len() > NAME_BYTES_MAX);
        if long || self.bytes + bytes > AUTH_BYTES_MAX {
            return Err(AuthError::TooMuch);
        }
        self.bytes += bytes;
        Ok(())
    }

    fn refund(&mut self, bytes: usize) {
        self.bytes -= ENTRY_BYTES + bytes as u64;
    }
}

impl User {
    /// True if the user has a role of this name.
    pub fn has_role(&self, role: &[u8]) -> bool {
        self.roles.binary_search_by(|name| name[..].cmp(role)).is_ok()
    }
}

impl Role {
    fn place(&self, keys: &Keys) -> Result<usize, usize> {
        let wanted = (&keys.key, &keys.range_end);
        self.permissions.binary_search_by(|permission| {
            (&permission.keys.key, &permission.keys.range_end).cmp(&wanted)
        })
    }
}

impl Keys {
    /// True unless the end of a range lies before its beginning.
    fn is_range(&self) -> bool {
        matches!(&self.range_end[..], [] | [0]) || self.key < self.range_end
    }
}

fn copied(permission: &Permission) -> Permission {
    let Permission { keys: Keys { key, range_end }, access } = permission;
    let (key, range_end) = (Bytes::copy_from_slice(key), Bytes::copy_from_slice(range_end));
    Permission { keys: Keys { key, range_end }, access: *access }
}

impl Access {
    /// The number on the wire and in the log.
    pub fn code(self) -> u8 {
        match self {
            Access::Read => 0,
            Access::Write => 1,
            Access::ReadWrite => 2,
        }
    }

    /// The inverse of [`Access::code`].
    pub fn of_code(code: u8) -> Option<Access> {
        match code {
            0 => Some(Access::Read),
            1 => Some(Access::Write),
            2 => Some(Access::ReadWrite),
            _ => None,
        }
    }
}
