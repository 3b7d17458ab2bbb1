//! Calls by method, as gRPC's middleware for Prometheus counts them.
//!
//! A call is counted as handled when the head of its answer leaves. Errors are in the head, except
//! those that end a stream which had begun well; these count as `OK`.

use crate::metrics::{Counter, Histogram};
use std::time::Instant;
use tonic::Code;
use tonic::codegen::http::HeaderMap;

/// Codes of gRPC, by their numbers.
pub(crate) const CODES: [&str; 17] = [
    "OK",
    "Canceled",
    "Unknown",
    "InvalidArgument",
    "DeadlineExceeded",
    "NotFound",
    "AlreadyExists",
    "PermissionDenied",
    "ResourceExhausted",
    "FailedPrecondition",
    "Aborted",
    "OutOfRange",
    "Unimplemented",
    "Internal",
    "Unavailable",
    "DataLoss",
    "Unauthenticated",
];

/// One method.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Method {
    /// With its package.
    pub(super) service: &'static str,
    /// Its name.
    pub(super) name: &'static str,
    /// `unary`, `server_stream` or `bidi_stream`.
    pub(super) kind: &'static str,
}

macro_rules! methods {
    ($($service:literal { $($name:literal $kind:literal,)* })*) => {
        /// Every method of the client port.
        pub(super) const METHODS: &[Method] = &[
            $($(Method { service: $service, name: $name, kind: $kind },)*)*
        ];
        const PATHS: &[&str] = &[$($(concat!("/", $service, "/", $name),)*)*];
    };
}

// A call is looked for from the first to the last, so what is called most stands first.
methods! {
    "etcdserverpb.KV" {
        "Range" "unary",
        "Put" "unary",
        "Txn" "unary",
        "DeleteRange" "unary",
        "Compact" "unary",
        "RangeStream" "server_stream",
    }
    "etcdserverpb.Watch" {
        "Watch" "bidi_stream",
    }
    "etcdserverpb.Lease" {
        "LeaseKeepAlive" "bidi_stream",
        "LeaseGrant" "unary",
        "LeaseRevoke" "unary",
        "LeaseTimeToLive" "unary",
        "LeaseLeases" "unary",
    }
    "etcdserverpb.Maintenance" {
        "Status" "unary",
        "Alarm" "unary",
        "Defragment" "unary",
        "Hash" "unary",
        "HashKV" "unary",
        "Snapshot" "server_stream",
        "MoveLeader" "unary",
        "Downgrade" "unary",
    }
    "etcdserverpb.Cluster" {
        "MemberList" "unary",
        "MemberAdd" "unary",
        "MemberRemove" "unary",
        "MemberUpdate" "unary",
        "MemberPromote" "unary",
    }
    "etcdserverpb.Auth" {
        "Authenticate" "unary",
        "AuthStatus" "unary",
        "AuthEnable" "unary",
        "AuthDisable" "unary",
        "UserAdd" "unary",
        "UserGet" "unary",
        "UserList" "unary",
        "UserDelete" "unary",
        "UserChangePassword" "unary",
        "UserGrantRole" "unary",
        "UserRevokeRole" "unary",
        "RoleAdd" "unary",
        "RoleGet" "unary",
        "RoleList" "unary",
        "RoleDelete" "unary",
        "RoleGrantPermission" "unary",
        "RoleRevokePermission" "unary",
    }
    "v3lockpb.Lock" {
        "Lock" "unary",
        "Unlock" "unary",
    }
    "v3electionpb.Election" {
        "Campaign" "unary",
        "Proclaim" "unary",
        "Leader" "unary",
        "Observe" "server_stream",
        "Resign" "unary",
    }
    "quoratepb.Limits" {
        "LimitSet" "unary",
        "LimitList" "unary",
        "LimitRemove" "unary",
    }
    "grpc.health.v1.Health" {
        "Check" "unary",
        "Watch" "server_stream",
    }
}

/// The calls of one method.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Begun.
    pub(super) started: Counter,
    /// Answered, by code.
    pub(super) handled: [Counter; CODES.len()],
    /// Until the head of the answer; only if asked for.
    pub(super) took: Histogram,
}

/// The calls of one member.
#[derive(Debug)]
pub(crate) struct Calls {
    tallies: Vec<Tally>,
    /// Calls are timed as well.
    pub(super) timed: bool,
}

/// A call that was counted and is to be answered. None for a method that does not exist.
#[derive(Debug)]
pub(super) struct Call {
    method: Option<usize>,
    begun: Option<Instant>,
}

impl Calls {
    /// No calls yet.
    pub(crate) fn new(timed: bool) -> Calls {
        Calls { tallies: METHODS.iter().map(|_| Tally::default()).collect(), timed }
    }

    /// A call of this path begins.
    pub(super) fn begin(&self, path: &str) -> Call {
        let method = PATHS.iter().position(|known| *known == path);
        if let Some(method) = method {
            self.tallies[method].started.add(1);
        }
        Call { method, begun: self.timed.then(Instant::now) }
    }

    /// It is answered.
    pub(super) fn end(&self, call: &Call, head: &HeaderMap) {
        let Some(method) = call.method else { return };
        let code =
            head.get("grpc-status").map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
        let tally = &self.tallies[method];
        tally.handled[code as usize].add(1);
        if let Some(begun) = call.begun {
            tally.took.observe(begun.elapsed());
        }
    }

    /// Every method and its calls.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static Method, &Tally)> {
        METHODS.iter().zip(&self.tallies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_code() {
        let calls = Calls::new(true);
        let ok = calls.begin("/etcdserverpb.KV/Range");
        calls.end(&ok, &HeaderMap::new());
        let failed = calls.begin("/etcdserverpb.KV/Put");
        let mut head = HeaderMap::new();
        head.insert("grpc-status", "11".parse().expect("a value"));
        calls.end(&failed, &head);
        calls.end(&calls.begin("/etcdserverpb.KV/Nothing"), &head);
        let seen: Vec<_> = calls
            .iter()
            .filter(|(_, tally)| tally.started.get() > 0)
            .map(|(method, tally)| {
                let code = tally.handled.iter().position(|count| count.get() == 1);
                (method.name, code.map(|code| CODES[code]), tally.took.counts()[0])
            })
            .collect();
        assert_eq!(seen, [("Range", Some("OK"), 1), ("Put", Some("OutOfRange"), 1)]);
    }

    #[test]
    fn the_names_of_the_codes_stand_at_their_numbers() {
        for (number, name) in CODES.iter().enumerate() {
            let code = Code::from_i32(number as i32);
            let ours = if *name == "OK" { "Ok" } else { name };
            let theirs = if code == Code::Cancelled { "Canceled" } else { &format!("{code:?}") };
            assert_eq!(ours, theirs);
        }
    }
}
