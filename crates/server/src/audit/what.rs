//! What is asked, for eyes: keys, users and roles, and never a value or a password.
//!
//! Bytes are told as they are in ASCII and as `\xff` otherwise, so that two keys never look the
//! same. What is long is cut, and says so.

use quorate_replica::store::{
    Access, AlarmAction, Asking, AuthCommand, Command, Compare, Keys, LimitCommand, Op, Permission,
    Txn,
};
use serde::Serialize;

/// Parts of a transaction that are told; further ones are counted.
const DEEDS_MAX: usize = 64;

/// Bytes of a key or a name that are told.
const TEXT_BYTES_MAX: usize = 512;

/// What is asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub(crate) struct What {
    /// To keys.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    deeds: Vec<Deed>,
    /// Further parts of a transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    further_deeds: Option<usize>,
    /// To a lease.
    #[serde(skip_serializing_if = "Option::is_none")]
    lease: Option<String>,
    /// Up to a revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    /// To a user, or as whom somebody logs in.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_user: Option<String>,
    /// To a role.
    #[serde(skip_serializing_if = "Option::is_none")]
    of_role: Option<String>,
    /// With a permission.
    #[serde(skip_serializing_if = "Option::is_none")]
    permission: Option<&'static str>,
    /// Otherwise.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
}

/// Something done to keys.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
struct Deed {
    #[serde(rename = "do")]
    deed: &'static str,
    key: String,
    /// As on the wire: empty for one key, `\x00` for all from it on.
    #[serde(skip_serializing_if = "String::is_empty")]
    end: String,
}

impl What {
    /// What a command asks for.
    pub(crate) fn of_command(command: &Command) -> What {
        let mut what = What::default();
        match command {
            Command::Put(put) => what.deed("put", &put.key, b""),
            Command::DeleteRange(delete) => what.keys("delete", &delete.keys),
            Command::Txn(txn) => what.txn(txn),
            Command::Compact { revision } => what.revision = Some(revision.0),
            Command::LeaseGrant { id, .. } | Command::LeaseRevoke { id } => what.lease(*id),
            Command::Alarm(action) => what.detail = Some(alarm(action).to_owned()),
            Command::Auth(command) => what.auth(command),
            Command::Limit(LimitCommand::Set(rule)) => what.detail = Some(limit("set", &rule.name)),
            Command::Limit(LimitCommand::Remove { name }) => {
                what.detail = Some(limit("remove", name));
            }
            Command::LeaseExpire { .. } | Command::LeaseCountdown { .. } => {}
        }
        what
    }

    /// What a question asks for.
    pub(crate) fn of_asking(asking: &Asking<'_>) -> What {
        let mut what = What::default();
        match asking {
            Asking::Range(range) => what.keys("range", &range.keys),
            Asking::Watch(keys) => what.keys("watch", keys),
            Asking::Put(put) => what.deed("put", &put.key, b""),
            Asking::DeleteRange(delete) => what.keys("delete", &delete.keys),
            Asking::Txn(txn) => what.txn(txn),
            Asking::LeaseRevoke(id) | Asking::LeaseKeys(id) => what.lease(*id),
            Asking::User(name) => what.of_user = Some(text(name)),
            Asking::Role(name) => what.of_role = Some(text(name)),
            Asking::Anything | Asking::AnyUser | Asking::Root => {}
        }
        what
    }

    /// As whom somebody logs in.
    pub(crate) fn login(name: &str) -> What {
        What { of_user: Some(text(name.as_bytes())), ..What::default() }
    }

    fn lease(&mut self, id: i64) {
        self.lease = Some(format!("{id:x}"));
    }

    fn keys(&mut self, deed: &'static str, keys: &Keys) {
        self.deed(deed, &keys.key, &keys.range_end);
    }

    fn deed(&mut self, deed: &'static str, key: &[u8], end: &[u8]) {
        if self.deeds.len() < DEEDS_MAX {
            self.deeds.push(Deed { deed, key: text(key), end: text(end) });
        } else {
            *self.further_deeds.get_or_insert(0) += 1;
        }
    }

    fn txn(&mut self, txn: &Txn) {
        for Compare { keys, .. } in &txn.compare {
            self.keys("compare", keys);
        }
        for op in txn.success.iter().chain(&txn.failure) {
            match op {
                Op::Range(range) => self.keys("range", &range.keys),
                Op::Put(put) => self.deed("put", &put.key, b""),
                Op::DeleteRange(delete) => self.keys("delete", &delete.keys),
                Op::Txn(nested) => self.txn(nested),
            }
        }
    }

    fn auth(&mut self, command: &AuthCommand) {
        match command {
            AuthCommand::Enable { .. } | AuthCommand::Disable => {}
            AuthCommand::UserAdd { name, .. }
            | AuthCommand::UserDelete { name }
            | AuthCommand::UserPassword { name, .. } => self.of_user = Some(text(name)),
            AuthCommand::UserGrantRole { user, role }
            | AuthCommand::UserRevokeRole { user, role } => {
                self.of_user = Some(text(user));
                self.of_role = Some(text(role));
            }
            AuthCommand::RoleAdd { name } | AuthCommand::RoleDelete { name } => {
                self.of_role = Some(text(name));
            }
            AuthCommand::RoleGrant { role, permission: Permission { keys, access } } => {
                self.of_role = Some(text(role));
                self.permission = Some(match access {
                    Access::Read => "read",
                    Access::Write => "write",
                    Access::ReadWrite => "readwrite",
                });
                self.keys("grant", keys);
            }
            AuthCommand::RoleRevoke { role, keys } => {
                self.of_role = Some(text(role));
                self.keys("revoke", keys);
            }
        }
    }
}

fn limit(change: &str, name: &[u8]) -> String {
    format!("{change} limit {}", text(name))
}

fn alarm(action: &AlarmAction) -> &'static str {
    match action {
        AlarmAction::Raise(_) => "alarm raised",
        AlarmAction::Clear(_) => "alarm cleared",
    }
}

/// Bytes as text that means these bytes and no others.
pub(super) fn text(bytes: &[u8]) -> String {
    match bytes.get(..TEXT_BYTES_MAX) {
        Some(shown) if shown.len() < bytes.len() => {
            format!("{}.. ({} bytes)", shown.escape_ascii(), bytes.len())
        }
        _ => bytes.escape_ascii().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_replica::store::{Put, Range};

    fn told(what: &What) -> String {
        serde_json::to_string(what).expect("text")
    }

    fn put(key: &'static str) -> Put {
        let (key, value) = (Bytes::from_static(key.as_bytes()), Bytes::from_static(b"SECRET"));
        Put { key, value, ..Put::default() }
    }

    #[test]
    fn keys_are_told_and_values_are_not() {
        let keys = Keys { key: Bytes::from_static(b"\xffa"), range_end: Bytes::from_static(b"\0") };
        let range = Op::Range(Range { keys, ..Range::default() });
        let nested = Txn { success: vec![Op::Put(put("c"))], ..Txn::default() };
        let txn = Txn { success: vec![range, Op::Txn(nested)], ..Txn::default() };
        assert_eq!(
            told(&What::of_command(&Command::Txn(txn))),
            r#"{"deeds":[{"do":"range","key":"\\xffa","end":"\\x00"},{"do":"put","key":"c"}]}"#
        );
        let hash = Some(Bytes::from_static(b"$2b$SECRET"));
        let command = AuthCommand::UserAdd { name: Bytes::from_static(b"ann"), hash };
        assert_eq!(told(&What::of_command(&Command::Auth(command))), r#"{"of_user":"ann"}"#);
        let key = AuthCommand::Enable { token_key: Bytes::from_static(b"SECRET") };
        assert_eq!(told(&What::of_command(&Command::Auth(key))), "{}");
    }

    #[test]
    fn what_is_told_is_bounded() {
        let success = vec![Op::Put(put("k")); DEEDS_MAX + 3];
        let what = What::of_command(&Command::Txn(Txn { success, ..Txn::default() }));
        assert_eq!((what.deeds.len(), what.further_deeds), (DEEDS_MAX, Some(3)));
        let long = text(&[b'k'; TEXT_BYTES_MAX + 1]);
        assert!(long.ends_with("kk.. (513 bytes)"), "{long}");
        assert_eq!(text(&[b'k'; TEXT_BYTES_MAX]).len(), TEXT_BYTES_MAX);
    }
}
