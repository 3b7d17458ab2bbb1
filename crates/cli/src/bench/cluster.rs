//! A cluster that is measured: where it is, what is known of it, what it costs.

use super::cpu::Processes;
use super::leases::Leases;
use super::ledger::Ledger;
use super::verdict::Verdict;
use crate::client::Endpoint;
use std::sync::Arc;
use std::time::Instant;

/// What serves there.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// The etcd v3 API.
    Store,
    /// A bare gRPC server (`echo.rs`).
    Echo,
}

/// A cluster; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// What it is called in tables.
    pub(super) name: String,
    /// What it is.
    pub(super) kind: Kind,
    /// Where it serves clients; at least one.
    pub(super) endpoints: Vec<Endpoint>,
    /// Who serves there.
    pub(super) processes: Processes,
    /// What is known of its keys.
    pub(super) ledger: Arc<Ledger>,
    /// The leases that were granted.
    pub(super) leases: Arc<Leases>,
    /// Whether it answered wrongly.
    pub(super) verdict: Arc<Verdict>,
    /// From when times in values count.
    pub(super) origin: Instant,
}

impl Cluster {
    /// A cluster of which nothing is known but this.
    pub(super) fn new(
        kind: Kind,
        name: String,
        endpoints: Vec<Endpoint>,
        ledger: Ledger,
    ) -> Cluster {
        Cluster {
            name,
            kind,
            processes: Processes::behind(&endpoints),
            endpoints,
            ledger: Arc::new(ledger),
            leases: Arc::default(),
            verdict: Arc::default(),
            origin: Instant::now(),
        }
    }

    /// Its endpoints as a user writes them.
    pub(super) fn authorities(&self) -> Vec<String> {
        self.endpoints.iter().map(|endpoint| endpoint.authority()).collect()
    }
}
