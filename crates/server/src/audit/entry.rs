//! One call while it is answered.
//!
//! It is opened before anything is looked at, travels among the extensions of the request as an
//! [`Entry`] to which those write who find something out, and is recorded when the head of the
//! answer is there. A call whose client does not wait for that is recorded as unfinished: what it
//! asked for may have happened.

use super::AuditCalls;
use super::record::Call;
use super::what::{What, text};
use super::writer::Audit;
use crate::api::CODES;
use http::{HeaderMap, Request};
use quorate_replica::store::{Asking, Credential, Keys};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use tonic::{Code, Status};

/// The result of a call that was given up.
const UNFINISHED: &str = "Unfinished";

/// Methods that change nothing, and tell nothing that would be worth a line.
const READS: &[&str] = &[
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Watch/Watch",
    "/etcdserverpb.Lease/LeaseKeepAlive",
    "/etcdserverpb.Lease/LeaseTimeToLive",
    "/etcdserverpb.Lease/LeaseLeases",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Hash",
    "/etcdserverpb.Maintenance/HashKV",
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Auth/AuthStatus",
    "/etcdserverpb.Auth/UserGet",
    "/etcdserverpb.Auth/UserList",
    "/etcdserverpb.Auth/RoleGet",
    "/etcdserverpb.Auth/RoleList",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// Where a request comes from. Whoever accepts a connection puts it among the extensions of its
/// requests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PeerAddress(pub(crate) SocketAddr);

/// What is found out about a call on its way.
#[derive(Debug)]
pub(crate) struct Entry {
    audit: Audit,
    call: String,
    from: String,
    user: OnceLock<(String, &'static str)>,
    what: OnceLock<What>,
}

impl Entry {
    /// Who asks.
    pub(crate) fn is_of(&self, credential: &Credential) {
        let (user, by) = match credential {
            Credential::Nobody => return,
            Credential::Sealed { user, .. } => (user, "token"),
            Credential::Signed { user, .. } => (user, "signed token"),
            Credential::Certified { user } => (user, "certificate"),
        };
        self.user.get_or_init(|| (text(user), by));
    }

    /// What is asked. The first word counts.
    pub(crate) fn asks(&self, what: impl FnOnce() -> What) {
        self.what.get_or_init(what);
    }

    /// Within a stream somebody begins to watch keys, or is not let.
    pub(crate) fn watches(&self, keys: &Keys, refusal: Option<&Status>) {
        if refusal.is_some() || self.audit.calls() == AuditCalls::All {
            self.record(What::of_asking(&Asking::Watch(keys)), refusal);
        }
    }

    fn record(&self, what: What, refusal: Option<&Status>) {
        let code = refusal.map_or(Code::Ok, Status::code);
        let error = refusal.map(|status| text(status.message().as_bytes()));
        self.write(what, CODES[code as usize], error);
    }

    fn write(&self, what: What, result: &'static str, error: Option<String>) {
        let (user, by) = self.user.get().cloned().unzip();
        let (from, call) = (self.from.clone(), text(self.call.as_bytes()));
        self.audit.record(Call { user, by, from, call, what, result, error });
    }
}

/// A call that will be recorded.
#[derive(Debug)]
pub(crate) struct Open {
    entry: Arc<Entry>,
    is_over: bool,
}

impl Open {
    /// A call begins. Whoever finds out more about it finds its entry among the extensions.
    pub(crate) fn begin<B>(audit: &Audit, request: &mut Request<B>) -> Open {
        let from = request.extensions().get::<PeerAddress>();
        let entry = Arc::new(Entry {
            audit: audit.clone(),
            call: request.uri().path().to_owned(),
            from: from.map_or_else(String::new, |PeerAddress(from)| from.to_string()),
            user: OnceLock::new(),
            what: OnceLock::new(),
        });
        request.extensions_mut().insert(Arc::clone(&entry));
        Open { entry, is_over: false }
    }

    /// It is answered.
    pub(crate) fn end(mut self, head: &HeaderMap) {
        self.is_over = true;
        let refusal = Status::from_header_map(head).filter(|status| status.code() != Code::Ok);
        let all = self.entry.audit.calls() == AuditCalls::All;
        if all || !self.is_read() || is_refusal(refusal.as_ref()) {
            self.entry.record(self.what(), refusal.as_ref());
        }
    }

    fn is_read(&self) -> bool {
        READS.contains(&&self.entry.call[..])
    }

    fn what(&self) -> What {
        self.entry.what.get().cloned().unwrap_or_default()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        if !self.is_over && !self.is_read() {
            self.entry.write(self.what(), UNFINISHED, None);
        }
    }
}

/// True if somebody was not let in, or not let do it.
fn is_refusal(status: Option<&Status>) -> bool {
    status.is_some_and(|status| match status.code() {
        Code::PermissionDenied | Code::Unauthenticated => true,
        // So etcd answers those of whom it knows nothing, or too old a thing.
        Code::InvalidArgument => {
            ["user name is empty", "revision of auth store is old", "authentication failed"]
                .iter()
                .any(|told| status.message().contains(told))
        }
        _ => false,
    })
}
