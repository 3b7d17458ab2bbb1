//! What is counted: relaxed atomic additions where it happens, read by whoever wants to know.
//!
//! Nothing here allocates or formats while it counts; how it is told says `api/metrics.rs`. The
//! peers are locked for a moment to be found, and not at all by who keeps what it found.
//! Two figures read one after the other may belong to different moments.

use crate::audit::Counts;
use crate::dns::DnsCounts;
use crate::tls;
use crate::witness::Clue;
use quorate_core::NodeId;
use quorate_protocols::consensus::raft::Ground;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    /// Adds.
    pub(crate) fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// What was added up.
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Upper bounds of the buckets of a [`Histogram`] are 1 ms, doubled so many times, as in etcd.
pub(crate) const BUCKETS: usize = 14;

/// How often something took how long.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    /// Observations by the first bucket that they fit in; the last one takes the rest.
    counts: [Counter; BUCKETS + 1],
    nanoseconds: Counter,
}

impl Histogram {
    /// Counts one.
    pub(crate) fn observe(&self, took: Duration) {
        let fits = |bucket: &usize| took <= Histogram::bound(*bucket);
        let bucket = (0..BUCKETS).find(fits).unwrap_or(BUCKETS);
        self.counts[bucket].add(1);
        self.nanoseconds.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    /// The upper bound of a bucket, inclusive.
    pub(crate) fn bound(bucket: usize) -> Duration {
        Duration::from_millis(1 << bucket)
    }

    /// Observations in each bucket, the rest last.
    pub(crate) fn counts(&self) -> [u64; BUCKETS + 1] {
        std::array::from_fn(|bucket| self.counts[bucket].get())
    }

    /// All observations together.
    pub(crate) fn sum(&self) -> Duration {
        Duration::from_nanos(self.nanoseconds.get())
    }
}

/// Bytes both ways.
#[derive(Debug, Default)]
pub(crate) struct Traffic {
    /// From us.
    pub(crate) sent_bytes: Counter,
    /// To us.
    pub(crate) received_bytes: Counter,
}

/// What is counted of one peer.
#[derive(Debug, Default)]
pub(crate) struct PeerMetrics {
    /// Bytes of messages.
    pub(crate) traffic: Traffic,
    /// What was seen of it beside its messages, by kind.
    pub(crate) clues: [Counter; Clue::KINDS.len()],
}

/// Everything that one member counts.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    /// New leaders seen.
    pub(crate) leader_changes: Counter,
    /// Writes that were not carried out, or of which that is not known.
    pub(crate) proposals_failed: Counter,
    /// Linearizable reads for which a quorum was asked.
    reads_by_round: Counter,
    /// Linearizable reads that rested on a leader's lease.
    reads_by_lease: Counter,
    /// Linearizable reads that were refused.
    pub(crate) reads_failed: Counter,
    /// Writing and syncing the log.
    pub(crate) log_sync: Histogram,
    /// A whole turn of the log thread: that and its housekeeping.
    pub(crate) log_turn: Histogram,
    /// Writing a checkpoint.
    pub(crate) checkpoint: Histogram,
    /// All client connections.
    pub(crate) clients: Traffic,
    /// By peer.
    pub(crate) peers: RwLock<BTreeMap<NodeId, Arc<PeerMetrics>>>,
    /// Answers to `/health`.
    pub(crate) health_success: Counter,
    /// And those that said no.
    pub(crate) health_failures: Counter,
    /// Records of the audit log, if one is kept.
    pub(crate) audit: OnceLock<Arc<Counts>>,
    /// Queries of DNS.
    pub(crate) dns: Arc<DnsCounts>,
    /// Handshakes and certificates.
    pub(crate) tls: Arc<tls::Gauges>,
}

impl Metrics {
    /// Nothing is counted yet.
    pub(crate) fn new(tls: Arc<tls::Gauges>) -> Metrics {
        Metrics { tls, ..Metrics::default() }
    }

    /// The peers are these from now on. What was counted of those who stay goes on.
    pub(crate) fn follow(&self, peers: impl IntoIterator<Item = NodeId>) {
        let mut known = self.peers.write().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::take(&mut *known);
        let kept = |peer| (peer, before.get(&peer).cloned().unwrap_or_default());
        *known = peers.into_iter().map(kept).collect();
    }

    /// What is counted of a peer. None: it is none.
    pub(crate) fn peer(&self, peer: NodeId) -> Option<Arc<PeerMetrics>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).get(&peer).cloned()
    }

    /// What is counted of all peers.
    pub(crate) fn peers(&self) -> BTreeMap<NodeId, Arc<PeerMetrics>> {
        self.peers.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Linearizable reads that were answered on this ground.
    pub(crate) fn reads_by(&self, ground: Ground) -> &Counter {
        match ground {
            Ground::Round => &self.reads_by_round,
            Ground::Lease => &self.reads_by_lease,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_the_rest_to_the_last_one() {
        let histogram = Histogram::default();
        for micros in [0, 1_000, 1_001, 8_192_000, 8_192_001, 60_000_000] {
            histogram.observe(Duration::from_micros(micros));
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1], counts[13], counts[14]), (2, 1, 1, 2));
        assert_eq!(counts.iter().sum::<u64>(), 6);
        assert_eq!(histogram.sum().as_micros(), 76_386_002);
        assert_eq!(Histogram::bound(13), Duration::from_millis(8_192));
    }
}
