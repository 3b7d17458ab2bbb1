//! Users, roles and what they may do: a part of the replicated state.
//!
//! **Problem.** Whether a request is allowed must be decided alike by every member, in one order
//! with the changes of users and roles, and for every part of a request: etcd decided it in each
//! service by itself, and nested transactions, previous values, attached leases and open-ended
//! watches were forgotten one after the other.
//!
//! **Idea.** Users, roles and the switch are a small value inside the store, changed by commands
//! of the log. One function, [`authorize`](Store::authorize), walks a typed [`Asking`] and is the
//! only one that says yes. It is asked where no race is left: a write when it is *applied*, with
//! the caller that the log carries; a read on the very snapshot that it reads; a watcher whenever
//! what it reads comes from a state with other users or roles.
//!
//! ```text
//!   user   name -> password hash, names of roles, since when
//!   role   name -> permissions [key, end) x read, write         "root": every key, and the rest
//!
//!   Credential --(which state?)--> Caller --(what?)--> allowed
//!   what was proven                who, in that state
//! ```
//!
//! Hashes are made and passwords compared by the member that was asked: a command carries a hash,
//! and the state machine never spends time on it. The key under which members seal login tokens is
//! drawn when authentication is turned on and kept here, so that a token is good on every member
//! and after a restart.
//!
//! **Revision.** Every change moves the *auth revision*. The caller in the log carries the one he
//! was seen at; a command whose caller is of an older one is refused, as by etcd, because his
//! rights may have been judged, and his name given, by another state.
//!
//! **Bounds.** All names, hashes and permissions together take [`AUTH_BYTES_MAX`], a name
//! [`NAME_BYTES_MAX`]; beyond that a change is refused.
//!
//! | file | holds |
//! |---|---|
//! | `mod.rs` | the state, and who a credential is in it |
//! | `change.rs` | the commands |
//! | `rights.rs` | the keys of a role, as intervals |
//! | `authorize.rs` | the one function |
//! | `bytes.rs` | the state in a checkpoint, the commands and callers in the log |
//!
//! Source: etcd `server/auth/store.go`, `range_perm_cache.go`, `server/etcdserver/apply/auth.go`
//! (behaviour and texts); Saltzer and Schroeder, "The Protection of Information in Computer
//! Systems" (1975): complete mediation, fail-safe defaults.

mod authorize;
mod bytes;
mod change;
mod rights;

pub use authorize::Asking;
pub use bytes::Asked;
pub use change::AuthCommand;

use super::tree::Tree;
use super::{Keys, Store};
use ::bytes::Bytes;
use rights::Rights;
use std::fmt;
use std::sync::Arc;

/// The user and the role that may do everything.
pub const ROOT: &str = "root";

/// What all users and roles together may take. Unit: bytes.
pub const AUTH_BYTES_MAX: u64 = 16 << 20;

/// The longest name of a user or role. Unit: bytes.
pub const NAME_BYTES_MAX: usize = 1_024;

/// Charged for each user, role, granted role and permission beside its bytes.
const ENTRY_BYTES: u64 = 64;

/// Length of the key that login tokens are sealed with. Unit: bytes.
pub const TOKEN_KEY_BYTES: usize = 32;

/// What a permission allows.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Access {
    /// To read, to compare, to watch.
    Read,
    /// To put and to delete.
    Write,
    /// Both.
    ReadWrite,
}

/// A right on a range of keys.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Permission {
    /// On which keys; the conventions are those of a range.
    pub keys: Keys,
    /// To do what.
    pub access: Access,
}

/// A user.
#[derive(Clone, Eq, PartialEq)]
pub struct User {
    /// The password as bcrypt tells it. None: this user cannot log in with a password.
    pub hash: Option<Bytes>,
    /// Roles by name, ascending. A role of this name may not exist (any more): then it gives
    /// nothing.
    pub roles: Vec<Bytes>,
    /// The auth revision that created this user or last changed the password.
    pub since: u64,
}

impl fmt::Debug for User {
    /// Without the hash.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("roles", &self.roles).finish_non_exhaustive()
    }
}

/// A role.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Role {
    /// By key and end, ascending; one for each range.
    permissions: Vec<Permission>,
    /// What follows from them.
    rights: Rights,
}

impl Role {
    /// What it allows, by key and end.
    pub fn permissions(&self) -> &[Permission] {
        &self.permissions
    }
}

/// Users, roles, and whether they matter. A clone costs O(1).
#[derive(Clone)]
pub struct Auth {
    enabled: bool,
    revision: u64,
    /// The auth revision at which authentication was last turned on, and how often that was.
    epoch: u64,
    token_key: Bytes,
    users: Tree<Bytes, User>,
    roles: Tree<Bytes, Role>,
    /// See [`AUTH_BYTES_MAX`].
    bytes: u64,
}

/// What a client has proven about itself to the member that it asked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Credential {
    /// Nothing.
    #[default]
    Nobody,
    /// It has a token that was sealed with the key of this state, or of an earlier one.
    Sealed {
        /// Whose.
        user: Bytes,
        /// [`User::since`] when it was made.
        since: u64,
        /// [`Auth::epoch`] when it was made.
        epoch: u64,
    },
    /// It has a signed token which names the auth revision that it is good for.
    Signed {
        /// Whose.
        user: Bytes,
        /// The auth revision.
        revision: u64,
    },
    /// It has a certificate with this common name.
    Certified {
        /// The name.
        user: Bytes,
    },
}

/// Who asks, as the log carries it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub enum Caller {
    /// A client of which nothing is known.
    #[default]
    Anonymous,
    /// A member by itself.
    Member,
    /// A user.
    User {
        /// The name.
        name: Bytes,
        /// The auth revision at which this user was seen.
        revision: u64,
    },
}

/// Why a request is not allowed. Displays as etcd's message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Denied {
    /// Authentication is on, and the client has not said who it is.
    NoUser,
    /// The token is none, or no longer one.
    BadToken,
    /// Users or roles have changed since the caller was seen.
    OldRevision,
    /// The user may not.
    NotPermitted,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Denied::NoUser => "etcdserver: user name is empty",
            Denied::BadToken => "etcdserver: invalid auth token",
            Denied::OldRevision => "etcdserver: revision of auth store is old",
            Denied::NotPermitted => "etcdserver: permission denied",
        })
    }
}

/// Why users and roles stay as they are. Displays as etcd's message.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum AuthError {
    /// Authentication cannot be turned on without a user of the name root,
    RootUserMissing,
    /// which has the role of that name.
    RootRoleMissing,
    /// A user without a name.
    UserEmpty,
    /// There is such a user.
    UserExists,
    /// There is no such user.
    UserNotFound,
    /// A role without a name.
    RoleEmpty,
    /// There is such a role.
    RoleExists,
    /// There is no such role.
    RoleNotFound,
    /// The user does not have the role.
    RoleNotGranted,
    /// The role does not have the permission.
    PermissionNotGranted,
    /// What root needs while authentication is on cannot be taken away; a range of a permission is
    /// none.
    Invalid,
    /// See [`AUTH_BYTES_MAX`] and [`NAME_BYTES_MAX`]. Not an error of etcd.
    TooMuch,
}

impl fmt::Display for AuthError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AuthError::RootUserMissing => "etcdserver: root user does not exist",
            AuthError::RootRoleMissing => "etcdserver: root user does not have root role",
            AuthError::UserEmpty => "etcdserver: user name is empty",
            AuthError::UserExists => "etcdserver: user name already exists",
            AuthError::UserNotFound => "etcdserver: user name not found",
            AuthError::RoleEmpty => "etcdserver: role name is empty",
            AuthError::RoleExists => "etcdserver: role name already exists",
            AuthError::RoleNotFound => "etcdserver: role name not found",
            AuthError::RoleNotGranted => "etcdserver: role is not granted to the user",
            AuthError::PermissionNotGranted => "etcdserver: permission is not granted to the role",
            AuthError::Invalid => "etcdserver: invalid auth management",
            AuthError::TooMuch => "etcdserver: users and roles take too much space",
        })
    }
}

impl Auth {
    /// Nobody, and it does not matter. etcd begins at revision 1 as well.
    pub(super) fn new() -> Auth {
        Auth {
            enabled: false,
            revision: 1,
            epoch: 0,
            token_key: Bytes::new(),
            users: Tree::new(),
            roles: Tree::new(),
            bytes: 0,
        }
    }

    /// True if users and roles matter.
    pub fn is_enabled(&self) -> bool {
        self.enabled
    }

    /// Moves with every change of users and roles, and when authentication is turned off.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Moves whenever authentication is turned on: tokens of before are worth nothing.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// What login tokens are sealed with; empty before authentication was ever turned on.
    pub fn token_key(&self) -> &[u8] {
        &self.token_key
    }

    /// A user.
    pub fn user(&self, name: &[u8]) -> Option<&User> {
        self.users.get(name)
    }

    /// The users by name.
    pub fn users(&self) -> impl Iterator<Item = (&Bytes, &User)> {
        self.users.iter()
    }

    /// A role.
    pub fn role(&self, name: &[u8]) -> Option<&Role> {
        self.roles.get(name)
    }

    /// The roles by name.
    pub fn roles(&self) -> impl Iterator<Item = (&Bytes, &Role)> {
        self.roles.iter()
    }

    /// Grows with every change, so it orders the states of one cluster.
    pub fn age(&self) -> (u64, u64) {
        (self.revision, self.epoch)
    }

    /// True if no caller can be judged otherwise by `other` than by this state.
    pub fn judges_like(&self, other: &Auth) -> bool {
        (self.enabled, self.age()) == (other.enabled, other.age())
    }

    /// Who is meant, in this state. While authentication is off, credentials are not looked at.
    ///
    /// Errors: [`Denied::BadToken`], [`Denied::OldRevision`].
    pub fn resolve(&self, credential: &Credential) -> Result<Caller, Denied> {
        if !self.enabled {
            return Ok(Caller::Anonymous);
        }
        let name = match credential {
            Credential::Nobody => return Ok(Caller::Anonymous),
            Credential::Sealed { user, since, epoch } => {
                let same = self.user(user).is_some_and(|found| found.since == *since);
                if !same || *epoch != self.epoch {
                    return Err(Denied::BadToken);
                }
                user
            }
            Credential::Signed { revision, .. } if *revision < self.revision => {
                return Err(Denied::OldRevision);
            }
            Credential::Signed { user, .. } | Credential::Certified { user } => user,
        };
        Ok(Caller::User { name: name.clone(), revision: self.revision })
    }
}

impl Store {
    /// Users and roles.
    pub fn auth(&self) -> &Arc<Auth> {
        &self.auth
    }
}

impl fmt::Debug for Auth {
    /// The figures only: there are secrets among the rest.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auth")
            .field("enabled", &self.enabled)
            .field("revision", &self.revision)
            .field("users", &self.users.len())
            .field("roles", &self.roles.len())
            .finish_non_exhaustive()
    }
}
