//! The file in which etcd keeps its state, read and written: so that people can come, and leave.
//!
//! **Problem.** A snapshot of etcd is its database, a file of bbolt, with a SHA-256 after it. To
//! move in, the state has to be read from it with every revision, lease and user; to move out, one
//! has to be written that etcd's own tools take for theirs.
//!
//! **Idea.** The format is small and has not changed in ten years, so it is read and written here:
//! [`page`] says how it looks, [`read`] walks it and believes nothing, [`write`] builds it from
//! sorted pairs. What the buckets mean:
//!
//! ```text
//!   key        revision u64 BE, '_', order u64 BE, 't' if it is a delete   ->  mvccpb.KeyValue
//!   lease      id u64 BE                                                   ->  leasepb.Lease
//!   auth       authEnabled u8, authRevision u64 BE
//!   authUsers  name  ->  authpb.User        the hash is bcrypt's, here and there
//!   authRoles  name  ->  authpb.Role
//!   meta       scheduledCompactRev, finishedCompactRev (as a key), consistent_index, term
//!   alarm, cluster, members, members_removed     of the old members: not read, written empty
//! ```
//!
//! **What is not carried over.** Alarms and members, as they speak of members that will not be; how
//! much of its time a lease has left (it begins anew); here, answers kept for request ids and the
//! key that login tokens are sealed with.
//!
//! Source: etcd `server/mvcc/revision.go`, `server/mvcc/buckets`, `server/lease/leasepb`,
//! `etcdutl/snapshot`.

mod page;
mod read;
#[cfg(test)]
mod tests;
mod write;

pub use read::BoltError;

use crate::proto::authpb;
use crate::proto::mvccpb;
use bytes::Bytes;
use prost::Message as _;
use quorate_replica::store::{
    Access, AuthCommand, AuthError, Command, KeyValue, Keys, KvError, Permission, ReplayError,
    Revision, Store,
};
use read::{Bolt, ReadAt};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::File;
use std::io::{self, Seek, Write};
use write::{Tree, Writer};

/// etcd's buckets, all of which its tools look for.
const BUCKETS: [&str; 9] = [
    "alarm",
    "auth",
    "authRoles",
    "authUsers",
    "cluster",
    "key",
    "lease",
    "members",
    "members_removed",
];

/// A key of the bucket `key`, without the mark of a delete. Unit: bytes.
const REVISION_BYTES: usize = 17;

/// A lease as etcd writes it.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct LeaseRecord {
    #[prost(int64, tag = "1")]
    id: i64,
    #[prost(int64, tag = "2")]
    ttl: i64,
    #[prost(int64, tag = "3")]
    remaining_ttl: i64,
}

/// What was read.
#[derive(Debug)]
pub struct Taken {
    /// The state.
    pub store: Store,
    /// The latest revision that etcd had given.
    pub revision: u64,
    /// Alarms that were left behind.
    pub alarms: u64,
}

/// Why a database is not the state of an etcd.
#[derive(Debug)]
pub enum EtcdFileError {
    /// It is no database, or a damaged one.
    Bolt(BoltError),
    /// It is a database of somebody else.
    NotEtcd,
    /// A record in it is none.
    Record {
        /// Of which bucket.
        bucket: &'static str,
        /// What is wrong with it.
        why: String,
    },
}

impl fmt::Display for EtcdFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EtcdFileError::Bolt(error) => error.fmt(f),
            EtcdFileError::NotEtcd => {
                f.write_str("a bbolt database, but not of etcd v3: it has no bucket 'key'")
            }
            EtcdFileError::Record { bucket, why } => {
                write!(f, "a record in the bucket '{bucket}' cannot be read: {why}")
            }
        }
    }
}

impl std::error::Error for EtcdFileError {}

impl From<BoltError> for EtcdFileError {
    fn from(error: BoltError) -> EtcdFileError {
        EtcdFileError::Bolt(error)
    }
}

/// Reads the state of an etcd from the first `len` bytes of a file.
///
/// Errors: see [`EtcdFileError`]; never panics.
pub fn read(file: &File, len: u64) -> Result<Taken, EtcdFileError> {
    read_from(file, len)
}

/// As [`read`], of bytes in memory.
///
/// Errors: see [`EtcdFileError`]; never panics.
pub(crate) fn read_bytes(bytes: &[u8]) -> Result<Taken, EtcdFileError> {
    read_from(&bytes, bytes.len() as u64)
}

fn read_from(source: &dyn ReadAt, len: u64) -> Result<Taken, EtcdFileError> {
    let bolt = Bolt::open(source, len)?;
    let key = bolt.bucket(b"key")?.ok_or(EtcdFileError::NotEtcd)?;
    let mut store = Store::new();
    take_leases(&bolt, &mut store)?;
    bolt.walk(&key, &mut |key, value, _| take_change(&mut store, key, value))?;
    let compacted = compact_revision(&bolt)?;
    store.replay_compaction(Revision(compacted));
    take_auth(&bolt, &mut store)?;
    let revision = store.revision().0.max(compacted);
    Ok(Taken { store, revision, alarms: count(&bolt, "alarm")? })
}

fn record(bucket: &'static str, why: impl fmt::Display) -> EtcdFileError {
    EtcdFileError::Record { bucket, why: why.to_string() }
}

/// Walks a bucket, if it is there.
fn each(
    bolt: &Bolt<'_>,
    name: &'static str,
    mut visit: impl FnMut(&[u8], &[u8]) -> Result<(), EtcdFileError>,
) -> Result<(), EtcdFileError> {
    match bolt.bucket(name.as_bytes())? {
        Some(bucket) => bolt.walk(&bucket, &mut |key, value, _| visit(key, value)),
        None => Ok(()),
    }
}

fn count(bolt: &Bolt<'_>, name: &'static str) -> Result<u64, EtcdFileError> {
    let mut count = 0;
    each(bolt, name, |_, _| {
        count += 1;
        Ok(())
    })?;
    Ok(count)
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

fn take_change(store: &mut Store, key: &[u8], value: &[u8]) -> Result<(), EtcdFileError> {
    let revision = word(key, 0).filter(|_| key.len() >= REVISION_BYTES);
    let revision = revision.ok_or_else(|| record("key", "its key is no revision"))?;
    let kv = mvccpb::KeyValue::decode(value).map_err(|error| record("key", error))?;
    let is_delete = key.get(REVISION_BYTES) == Some(&b't');
    let recorded = match is_delete {
        true => KeyValue { key: kv.key, mod_revision: Revision(revision), ..KeyValue::default() },
        false => KeyValue {
            key: kv.key,
            value: kv.value,
            create_revision: Revision(kv.create_revision.max(0) as u64),
            mod_revision: Revision(revision),
            version: kv.version.max(1) as u64,
            lease: kv.lease,
        },
    };
    store.replay(recorded).map_err(|error: ReplayError| record("key", error))
}

fn take_leases(bolt: &Bolt<'_>, store: &mut Store) -> Result<(), EtcdFileError> {
    each(bolt, "lease", |_, value| {
        let lease = LeaseRecord::decode(value).map_err(|error| record("lease", error))?;
        store.replay_lease(lease.id, lease.ttl.max(1) as u64);
        Ok(())
    })
}

/// Also one that was begun and not finished: what it was to remove may be gone.
fn compact_revision(bolt: &Bolt<'_>) -> Result<u64, EtcdFileError> {
    let mut compacted = 0;
    each(bolt, "meta", |key, value| {
        if key == b"finishedCompactRev" || key == b"scheduledCompactRev" {
            compacted = compacted.max(word(value, 0).unwrap_or(0));
        }
        Ok(())
    })?;
    Ok(compacted)
}

/// Users, roles and whether they matter, as commands would have made them.
fn take_auth(bolt: &Bolt<'_>, store: &mut Store) -> Result<(), EtcdFileError> {
    let (mut commands, mut secrets) = (Vec::new(), Sha256::new());
    each(bolt, "authRoles", |_, value| {
        let role = authpb::Role::decode(value).map_err(|error| record("authRoles", error))?;
        commands.push(AuthCommand::RoleAdd { name: role.name.clone() });
        for permission in role.key_permission {
            let access = u8::try_from(permission.perm_type).ok().and_then(Access::of_code);
            let access = access.ok_or_else(|| record("authRoles", "a permission of no kind"))?;
            let keys = Keys { key: permission.key, range_end: permission.range_end };
            let permission = Permission { keys, access };
            commands.push(AuthCommand::RoleGrant { role: role.name.clone(), permission });
        }
        Ok(())
    })?;
    each(bolt, "authUsers", |_, value| {
        secrets.update(value);
        let user = authpb::User::decode(value).map_err(|error| record("authUsers", error))?;
        let has_none = user.options.is_some_and(|options| options.no_password);
        let hash = Some(user.password).filter(|_| !has_none);
        commands.push(AuthCommand::UserAdd { name: user.name.clone(), hash });
        for role in user.roles {
            let (user, role) = (user.name.clone(), Bytes::from(role));
            commands.push(AuthCommand::UserGrantRole { user, role });
        }
        Ok(())
    })?;
    each(bolt, "auth", |key, value| {
        if key == b"authEnabled" && value == [1] {
            // The same for every member that is made from this file, and known to nobody who does
            // not have the file.
            let token_key = Bytes::copy_from_slice(&secrets.clone().finalize());
            commands.push(AuthCommand::Enable { token_key });
        }
        Ok(())
    })?;
    for command in commands {
        // A role that somebody has may not exist: etcd's as well gives nothing then.
        match store.apply(&Command::Auth(command)).outcome {
            Ok(_) | Err(KvError::Auth(AuthError::RoleNotFound)) => {}
            Err(error) => return Err(record("auth", format!("{error:?}"))),
        }
    }
    Ok(())
}

/// Writes a state as a database that etcd restores from, and answers with its length.
///
/// Errors: those of the writer.
pub fn write<W: Write + Seek>(store: &Store, out: &mut W) -> io::Result<u64> {
    let mut writer = Writer::begin(out)?;
    let mut trees: Vec<(&str, Tree)> = Vec::new();
    trees.push(("key", write_keys(&mut writer, store)?));
    trees.push(("lease", write_leases(&mut writer, store)?));
    trees.push(("meta", write_meta(&mut writer, store)?));
    trees.push(("authUsers", write_users(&mut writer, store)?));
    trees.push(("authRoles", write_roles(&mut writer, store)?));
    let mut tree = Tree::new();
    writer.add(&mut tree, b"authEnabled", &[u8::from(store.auth().is_enabled())])?;
    writer.add(&mut tree, b"authRevision", &store.auth().revision().to_be_bytes())?;
    trees.push(("auth", tree));
    for name in BUCKETS {
        if trees.iter().all(|(there, _)| *there != name) {
            trees.push((name, Tree::new()));
        }
    }
    for (name, tree) in trees {
        writer.finish_bucket(name.as_bytes(), tree)?;
    }
    writer.finish()
}

fn revision_key(revision: u64, order: u64) -> Vec<u8> {
    [&revision.to_be_bytes()[..], b"_", &order.to_be_bytes()].concat()
}

fn write_keys<W: Write + Seek>(writer: &mut Writer<'_, W>, store: &Store) -> io::Result<Tree> {
    let mut tree = Tree::new();
    for recorded in store.recorded() {
        let kv = &recorded.kv;
        let mut key = revision_key(kv.mod_revision.0, recorded.order);
        let mut record = mvccpb::KeyValue { key: kv.key.clone(), ..mvccpb::KeyValue::default() };
        if kv.version == 0 {
            key.push(b't');
        } else {
            record.value = kv.value.clone();
            record.create_revision = kv.create_revision.0 as i64;
            record.mod_revision = kv.mod_revision.0 as i64;
            (record.version, record.lease) = (kv.version as i64, kv.lease);
        }
        writer.add(&mut tree, &key, &record.encode_to_vec())?;
    }
    Ok(tree)
}

fn write_leases<W: Write + Seek>(writer: &mut Writer<'_, W>, store: &Store) -> io::Result<Tree> {
    let mut tree = Tree::new();
    let mut leases: Vec<(u64, LeaseRecord)> = store
        .leases()
        .map(|(id, lease)| {
            let ttl = i64::try_from(lease.ttl).unwrap_or(i64::MAX);
            (id as u64, LeaseRecord { id, ttl, remaining_ttl: 0 })
        })
        .collect();
    leases.sort_by_key(|(id, _)| *id);
    for (id, lease) in leases {
        writer.add(&mut tree, &id.to_be_bytes(), &lease.encode_to_vec())?;
    }
    Ok(tree)
}

fn write_meta<W: Write + Seek>(writer: &mut Writer<'_, W>, store: &Store) -> io::Result<Tree> {
    let mut tree = Tree::new();
    // A revision without a change, as a cluster that was restored begins with, can be told in no
    // other way; and a revision that comes twice is worse than a history that is forgotten.
    let is_told = store.changes(store.revision()).is_ok_and(|mut changes| changes.next().is_some());
    let is_told = is_told || store.revision() <= Revision(1);
    let compacted = if is_told { store.compact_revision() } else { store.revision() }.0;
    // etcd begins a new log after a restore; it only has to find a number.
    writer.add(&mut tree, b"consistent_index", &1_u64.to_be_bytes())?;
    if compacted > 0 {
        let revision = revision_key(compacted, 0);
        writer.add(&mut tree, b"finishedCompactRev", &revision)?;
        writer.add(&mut tree, b"scheduledCompactRev", &revision)?;
    }
    writer.add(&mut tree, b"term", &1_u64.to_be_bytes())?;
    Ok(tree)
}

fn write_users<W: Write + Seek>(writer: &mut Writer<'_, W>, store: &Store) -> io::Result<Tree> {
    let mut tree = Tree::new();
    for (name, user) in store.auth().users() {
        let text = |role: &Bytes| String::from_utf8_lossy(role).into_owned();
        let record = authpb::User {
            name: name.clone(),
            password: user.hash.clone().unwrap_or_default(),
            roles: user.roles.iter().map(text).collect(),
            options: Some(authpb::UserAddOptions { no_password: user.hash.is_none() }),
        };
        writer.add(&mut tree, name, &record.encode_to_vec())?;
    }
    Ok(tree)
}

fn write_roles<W: Write + Seek>(writer: &mut Writer<'_, W>, store: &Store) -> io::Result<Tree> {
    let mut tree = Tree::new();
    for (name, role) in store.auth().roles() {
        let permission = |permission: &Permission| authpb::Permission {
            perm_type: i32::from(permission.access.code()),
            key: permission.keys.key.clone(),
            range_end: permission.keys.range_end.clone(),
        };
        let key_permission = role.permissions().iter().map(permission).collect();
        let record = authpb::Role { name: name.clone(), key_permission };
        writer.add(&mut tree, name, &record.encode_to_vec())?;
    }
    Ok(tree)
}
