//! A cluster that is measured: where it is, what is known of it, what it costs.

use super::cpu::Processes;
use super::ledger::Ledger;
use super::verdict::Verdict;
use quorate_server::url::Url;
use std::sync::Arc;
use std::time::Instant;

/// A cluster; cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Cluster {
    /// What it is called in tables.
    pub(super) name: String,
    /// Where it serves clients; at least one.
    pub(super) endpoints: Vec<Url>,
    /// Who serves there.
    pub(super) processes: Processes,
    /// What is known of its keys.
    pub(super) ledger: Arc<Ledger>,
    /// Whether it answered wrongly.
    pub(super) verdict: Arc<Verdict>,
    /// From when times in values count.
    pub(super) origin: Instant,
}

impl Cluster {
    /// A cluster of which nothing is known but this.
    pub(super) fn new(name: String, endpoints: Vec<Url>, ledger: Ledger) -> Cluster {
        Cluster {
            name,
            processes: Processes::behind(&endpoints),
            endpoints,
            ledger: Arc::new(ledger),
            verdict: Arc::default(),
            origin: Instant::now(),
        }
    }
}
