//! Users and roles in a checkpoint; their commands, and who asked, in the log.
//!
//! ```text
//!   asked     a command of nobody in particular: as in `codec.rs`, or
//!             version u8 = 2, then 1 (a member) or 2, name, auth revision (a user),
//!             then the command as in `codec.rs`
//!   command   12, then one of
//!             1 enable: token key     2 disable
//!             3 add user: name, 0 or 1, hash     4 delete user: name    5 password: name, hash
//!             6 grant role: user, role           7 revoke role: user, role
//!             8 add role: name                   9 delete role: name
//!             10 grant: role, access u8, keys    11 revoke: role, keys
//!   state     enabled u8, revision, epoch, token key
//!             count, then users by name: name, 0 or 1, hash, since, count, roles
//!             count, then roles by name: name, count, then permissions: access u8, keys
//!   keys, bytes, number   as in `codec.rs`
//! ```

use super::{Access, Auth, AuthCommand, Caller, ENTRY_BYTES, Permission, Rights, Role, User};
use crate::store::codec::{Reader, write_bytes, write_keys, write_number};
use crate::store::tree::Builder;
use crate::store::{BadCommand, Command, Guard, LeaseTime};
use bytes::Bytes;

/// First byte of a command with a caller.
const ASKED_VERSION: u8 = 2;

const MEMBER: u8 = 1;
const USER: u8 = 2;

const ENABLE: u8 = 1;
const DISABLE: u8 = 2;
const USER_ADD: u8 = 3;
const USER_DELETE: u8 = 4;
const USER_PASSWORD: u8 = 5;
const USER_GRANT_ROLE: u8 = 6;
const USER_REVOKE_ROLE: u8 = 7;
const ROLE_ADD: u8 = 8;
const ROLE_DELETE: u8 = 9;
const ROLE_GRANT: u8 = 10;
const ROLE_REVOKE: u8 = 11;

/// A command and who asks for it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Asked {
    /// Who.
    pub caller: Caller,
    /// On which conditions.
    pub guard: Guard,
    /// For what.
    pub command: Command,
}

impl From<Command> for Asked {
    /// Asked by nobody in particular.
    fn from(command: Command) -> Asked {
        Asked { caller: Caller::Anonymous, guard: Guard::default(), command }
    }
}

impl Caller {
    /// Appends what stands before a command that this caller asks for.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Caller::Anonymous => {}
            Caller::Member => out.extend([ASKED_VERSION, MEMBER]),
            Caller::User { name, revision } => {
                out.extend([ASKED_VERSION, USER]);
                write_bytes(out, name);
                write_number(out, *revision);
            }
        }
    }
}

impl Asked {
    /// Appends caller and command.
    pub fn encode(&self, out: &mut Vec<u8>) {
        self.guard.encode(out);
        self.caller.encode(out);
        self.command.encode(out);
    }

    /// Reads what fills `input`; keys, values and names are slices of it.
    ///
    /// Errors: as for [`Command::decode`].
    pub fn decode(input: Bytes) -> Result<Asked, BadCommand> {
        let (guard, input) = Guard::decode(input)?;
        if input.first() != Some(&ASKED_VERSION) {
            let command = Command::decode(input)?;
            return Ok(Asked { guard, ..Asked::from(command) });
        }
        let mut input = Reader::new(input.slice(1..));
        let caller = input.caller()?;
        Ok(Asked { caller, guard, command: Command::decode(input.rest())? })
    }

    /// As [`Command::wants_stamp`]. A grant has no guard: its id is what makes it happen once.
    pub fn wants_stamp(encoded: &[u8]) -> bool {
        without_caller(encoded).is_some_and(Command::wants_stamp)
    }

    /// As [`Command::stamp`]: the clock is the end of the command.
    pub fn stamp(encoded: &mut [u8], at: LeaseTime) {
        let len = without_caller(encoded).expect("it wants a stamp").len();
        let from = encoded.len() - len;
        Command::stamp(&mut encoded[from..], at);
    }
}

/// The command alone. None if the bytes end within the caller.
fn without_caller(encoded: &[u8]) -> Option<&[u8]> {
    match encoded {
        [ASKED_VERSION, MEMBER, command @ ..] => Some(command),
        [ASKED_VERSION, USER, rest @ ..] => {
            let (len, rest) = leading_number(rest)?;
            let rest = rest.get(usize::try_from(len).ok()?..)?;
            leading_number(rest).map(|(_, command)| command)
        }
        command => Some(command),
    }
}

fn leading_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let last = bytes.iter().take(10).position(|byte| *byte < 0x80)?;
    let (number, rest) = bytes.split_at(last + 1);
    let digits = number.iter().rev();
    Some((digits.fold(0, |sum, digit| sum << 7 | u64::from(digit & 0x7F)), rest))
}

impl AuthCommand {
    pub(in crate::store) fn encode(&self, out: &mut Vec<u8>) {
        let two = |out: &mut Vec<u8>, kind: u8, first: &Bytes, second: &Bytes| {
            out.push(kind);
            write_bytes(out, first);
            write_bytes(out, second);
        };
        let one = |out: &mut Vec<u8>, kind: u8, name: &Bytes| {
            out.push(kind);
            write_bytes(out, name);
        };
        match self {
            AuthCommand::Enable { token_key } => one(out, ENABLE, token_key),
            AuthCommand::Disable => out.push(DISABLE),
            AuthCommand::UserAdd { name, hash } => {
                one(out, USER_ADD, name);
                write_hash(out, hash.as_ref());
            }
            AuthCommand::UserDelete { name } => one(out, USER_DELETE, name),
            AuthCommand::UserPassword { name, hash } => two(out, USER_PASSWORD, name, hash),
            AuthCommand::UserGrantRole { user, role } => two(out, USER_GRANT_ROLE, user, role),
            AuthCommand::UserRevokeRole { user, role } => two(out, USER_REVOKE_ROLE, user, role),
            AuthCommand::RoleAdd { name } => one(out, ROLE_ADD, name),
            AuthCommand::RoleDelete { name } => one(out, ROLE_DELETE, name),
            AuthCommand::RoleGrant { role, permission } => {
                one(out, ROLE_GRANT, role);
                out.push(permission.access.code());
                write_keys(out, &permission.keys);
            }
            AuthCommand::RoleRevoke { role, keys } => {
                one(out, ROLE_REVOKE, role);
                write_keys(out, keys);
            }
        }
    }
}

fn write_hash(out: &mut Vec<u8>, hash: Option<&Bytes>) {
    out.push(u8::from(hash.is_some()));
    write_bytes(out, hash.unwrap_or(&Bytes::new()));
}

impl Auth {
    /// Appends the state.
    pub(in crate::store) fn save(&self, out: &mut Vec<u8>) {
        out.push(u8::from(self.enabled));
        write_number(out, self.revision);
        write_number(out, self.epoch);
        write_bytes(out, &self.token_key);
        write_number(out, self.users.len() as u64);
        for (name, user) in self.users.iter() {
            write_bytes(out, name);
            write_hash(out, user.hash.as_ref());
            write_number(out, user.since);
            write_number(out, user.roles.len() as u64);
            user.roles.iter().for_each(|role| write_bytes(out, role));
        }
        write_number(out, self.roles.len() as u64);
        for (name, role) in self.roles.iter() {
            write_bytes(out, name);
            write_number(out, role.permissions.len() as u64);
            for Permission { keys, access } in &role.permissions {
                out.push(access.code());
                write_keys(out, keys);
            }
        }
    }

    /// Reads a state that fills `input`.
    ///
    /// Errors: it is none.
    pub(in crate::store) fn load(input: Bytes) -> Result<Auth, BadCommand> {
        let mut input = Reader::new(input);
        let mut auth = Auth::new();
        auth.enabled = input.bool()?;
        auth.revision = input.number()?;
        auth.epoch = input.number()?;
        auth.token_key = input.copied()?;
        let users = input.list(Reader::user)?;
        let roles = input.list(Reader::role)?;
        input.end()?;
        if !ascends(&users) || !ascends(&roles) {
            return Err(BadCommand::OutOfOrder);
        }
        auth.bytes = users.iter().map(|(name, user)| user_bytes(name, user)).sum::<u64>()
            + roles.iter().map(|(name, role)| role_bytes(name, role)).sum::<u64>();
        let (mut all_users, mut all_roles) = (Builder::new(), Builder::new());
        users.into_iter().for_each(|(name, user)| all_users.push(name, user));
        roles.into_iter().for_each(|(name, role)| all_roles.push(name, role));
        (auth.users, auth.roles) = (all_users.finish(), all_roles.finish());
        Ok(auth)
    }
}

fn ascends<T>(entries: &[(Bytes, T)]) -> bool {
    entries.windows(2).all(|pair| pair[0].0 < pair[1].0)
}

fn user_bytes(name: &Bytes, user: &User) -> u64 {
    let roles = user.roles.iter().map(|role| ENTRY_BYTES + role.len() as u64);
    let hash = user.hash.as_ref().map_or(0, Bytes::len);
    ENTRY_BYTES + (name.len() + hash) as u64 + roles.sum::<u64>()
}

fn role_bytes(name: &Bytes, role: &Role) -> u64 {
    let permissions = role.permissions.iter().map(|Permission { keys, .. }| {
        ENTRY_BYTES + (keys.key.len() + keys.range_end.len()) as u64
    });
    ENTRY_BYTES + name.len() as u64 + permissions.sum::<u64>()
}

impl Reader {
    fn caller(&mut self) -> Result<Caller, BadCommand> {
        match self.byte()? {
            MEMBER => Ok(Caller::Member),
            USER => Ok(Caller::User { name: self.copied()?, revision: self.number()? }),
            kind => Err(BadCommand::UnknownKind { kind }),
        }
    }

    fn bool(&mut self) -> Result<bool, BadCommand> {
        match self.byte()? {
            0 => Ok(false),
            1 => Ok(true),
            kind => Err(BadCommand::UnknownKind { kind }),
        }
    }

    /// Bytes that keep no larger buffer alive.
    fn copied(&mut self) -> Result<Bytes, BadCommand> {
        Ok(Bytes::copy_from_slice(&self.bytes()?))
    }

    fn hash(&mut self) -> Result<Option<Bytes>, BadCommand> {
        let (is_there, hash) = (self.bool()?, self.copied()?);
        if !is_there && !hash.is_empty() {
            return Err(BadCommand::UnknownKind { kind: 0 });
        }
        Ok(is_there.then_some(hash))
    }

    fn access(&mut self) -> Result<Access, BadCommand> {
        let kind = self.byte()?;
        Access::of_code(kind).ok_or(BadCommand::UnknownKind { kind })
    }

    fn permission(&mut self) -> Result<Permission, BadCommand> {
        let access = self.access()?;
        Ok(Permission { access, keys: self.keys()? })
    }

    fn user(&mut self) -> Result<(Bytes, User), BadCommand> {
        let (name, hash, since) = (self.copied()?, self.hash()?, self.number()?);
        let roles = self.list(Reader::copied)?;
        if !roles.is_sorted_by(|a, b| a < b) {
            return Err(BadCommand::OutOfOrder);
        }
        Ok((name, User { hash, roles, since }))
    }

    fn role(&mut self) -> Result<(Bytes, Role), BadCommand> {
        let (name, permissions) = (self.copied()?, self.list(Reader::permission)?);
        let order = |permission: &Permission| {
            let keys = &permission.keys;
            (keys.key.clone(), keys.range_end.clone())
        };
        if !permissions.is_sorted_by(|a, b| order(a) < order(b)) {
            return Err(BadCommand::OutOfOrder);
        }
        let rights = Rights::of(&permissions);
        Ok((name, Role { permissions, rights }))
    }

    pub(in crate::store) fn auth(&mut self) -> Result<AuthCommand, BadCommand> {
        Ok(match self.byte()? {
            ENABLE => AuthCommand::Enable { token_key: self.bytes()? },
            DISABLE => AuthCommand::Disable,
            USER_ADD => AuthCommand::UserAdd { name: self.bytes()?, hash: self.hash()? },
            USER_DELETE => AuthCommand::UserDelete { name: self.bytes()? },
            USER_PASSWORD => AuthCommand::UserPassword { name: self.bytes()?, hash: self.bytes()? },
            USER_GRANT_ROLE => {
                AuthCommand::UserGrantRole { user: self.bytes()?, role: self.bytes()? }
            }
            USER_REVOKE_ROLE => {
                AuthCommand::UserRevokeRole { user: self.bytes()?, role: self.bytes()? }
            }
            ROLE_ADD => AuthCommand::RoleAdd { name: self.bytes()? },
            ROLE_DELETE => AuthCommand::RoleDelete { name: self.bytes()? },
            ROLE_GRANT => {
                AuthCommand::RoleGrant { role: self.bytes()?, permission: self.permission()? }
            }
            ROLE_REVOKE => AuthCommand::RoleRevoke { role: self.bytes()?, keys: self.keys()? },
            kind => return Err(BadCommand::UnknownKind { kind }),
        })
    }
}
