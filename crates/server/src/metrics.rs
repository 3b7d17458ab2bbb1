//! What is counted: relaxed atomic additions where it happens, read by whoever wants to know.
//!
//! Nothing here allocates, locks or formats after the start; how it is told says `api/metrics.rs`.
//! Two figures read one after the other may belong to different moments.

use crate::tls;
use crate::witness::Clue;
use quorate_core::NodeId;
use quorate_protocols::consensus::raft::Ground;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
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
    pub(crate) peers: BTreeMap<NodeId, Traffic>,
    /// What was seen of a peer beside its messages, by kind.
    pub(crate) clues: BTreeMap<NodeId, [Counter; Clue::KINDS.len()]>,
    /// Answers to `/health`.
    pub(crate) health_success: Counter,
    /// And those that said no.
    pub(crate) health_failures: Counter,
    /// Handshakes and certificates.
    pub(crate) tls: Arc<tls::Gauges>,
}

impl Metrics {
    /// Of a member with these peers.
    pub(crate) fn new(peers: impl IntoIterator<Item = NodeId>, tls: Arc<tls::Gauges>) -> Metrics {
        let peers: BTreeMap<_, _> =
            peers.into_iter().map(|peer| (peer, Traffic::default())).collect();
        let clues = peers.keys().map(|peer| (*peer, Default::default())).collect();
        Metrics { peers, clues, tls, ..Metrics::default() }
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
