//! What of the service is simulated, and what is promised about it, by name.

use super::Service;
use super::clients::Workload;
use quorate_drivers::simulate::World;
use quorate_server::recover::ReplicaSettings;
use std::time::Duration;

/// What kind of service, and who uses it.
#[derive(Clone, Debug)]
pub struct Options {
    /// What clients do.
    pub workload: Workload,
    /// How many, at most.
    pub clients: usize,
    /// How many watch beside them, at most.
    pub watchers: usize,
    /// Pause of a client between two operations, about; each run draws a multiple of it.
    pub think: Duration,
    /// Log between two checkpoints, at least; each run draws a multiple of it. Unit: bytes.
    pub checkpoint_bytes: u64,
    /// Bytes of log that a member keeps in memory for followers that are behind; as before.
    pub log_retain_bytes: usize,
    /// Segments of the log. Unit: bytes.
    pub segment_bytes: u32,
    /// Silence after which a member campaigns at the earliest; each run draws it anew.
    pub election_timeout_min: Duration,
    /// Each run has exactly this, where it is otherwise drawn around it, and takes no rare paths:
    /// for measurements.
    pub exact: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            workload: Workload::Mixed,
            clients: 8,
            watchers: 3,
            think: Duration::from_millis(40),
            checkpoint_bytes: 8 << 10,
            log_retain_bytes: 4 << 10,
            segment_bytes: 64 << 10,
            election_timeout_min: Duration::from_millis(250),
            exact: false,
        }
    }
}

impl Service {
    /// How a member is set.
    pub(super) fn settings(&self, node: usize) -> ReplicaSettings {
        let (founders, members) = self.founders();
        ReplicaSettings {
            me: self.id(node),
            voters: (0..founders).map(|node| self.id(node)).collect(),
            members,
            member_terms: self.member_terms(),
            heartbeat_interval: Duration::from_millis(50),
            election_timeout: Duration::from_millis(1_000),
            election_timeout_min: self.options.election_timeout_min,
            log_retain_bytes: self.options.log_retain_bytes,
            lease_reads: self.lease_reads.terms(self.options.election_timeout_min),
            buggify: self.buggify,
        }
    }
}

/// Names of the workloads, as [`crate::REGISTRY`] lists them.
pub const WORKLOADS: &[crate::Workload] = &[
    crate::Workload { name: "mixed", about: "everything" },
    crate::Workload { name: "kv", about: "puts, deletes, reads and transactions" },
    crate::Workload { name: "lease", about: "leases, and keys under them" },
    crate::Workload { name: "lock", about: "locks by lease and compare, and what they protect" },
    crate::Workload { name: "watch", about: "writes of keys that are watched, and compactions" },
    crate::Workload { name: "members", about: "keys, while members come, go and change places" },
    crate::Workload { name: "idle", about: "nobody asks for anything" },
];

/// Names of the properties that are checked.
pub const PROPERTIES: &[&str] = &[
    "election-safety",
    "leader-append-only",
    "log-matching",
    "leader-completeness",
    "state-machine-safety",
    "durable",
    "linearizable",
    "mvcc",
    "once",
    "monotone-revisions",
    "watch",
    "lease",
    "lock",
    "membership",
    "recovery",
    "digest",
    "repair",
    "crash",
    "liveness",
];

/// The service with that workload.
///
/// Panics: if there is no workload of that name.
pub fn subject(options: &crate::Options) -> impl Fn() -> Service + Sync + use<> {
    let named = Workload::ALL.iter().find(|workload| workload.0 == options.workload);
    let workload = named.expect("a workload of the registry").1;
    move || Service::new(Options { workload, ..Options::default() })
}
