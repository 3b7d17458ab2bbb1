//! What a campaign for one planted bug looks at: the workload that its case asks for.

use super::clients::{Weights, Wish};
use super::plants::Plants;
use super::{Options, Service};
use crate::mutants::{MutantCase, Plant, Work};
use std::time::Duration;

impl Service {
    /// The workload of a case; with its bug, if `plant` is one.
    pub fn focused(case: &MutantCase, plant: Option<Plant>) -> Service {
        let mut options = Options { think: Duration::from_millis(20), ..Options::default() };
        let work = case.needs.work;
        if !work.contains(&Work::Watch) {
            options.watchers = 0;
        }
        if work.contains(&Work::Checkpoint) {
            (options.checkpoint_bytes, options.log_retain_bytes) = (1 << 10, 1 << 10);
            // A log is given up in whole segments.
            options.segment_bytes = 16 << 10;
        }
        let mut service = Service::new(options);
        service.weights = weights(work);
        service.plants = plant.map_or_else(Plants::default, Plants::of);
        service
    }
}

/// A little of everything that is not asked for would only lengthen the story.
fn weights(work: &[Work]) -> Weights {
    let mut weights = Weights::default();
    let mut wants = |wishes: &[(Wish, u64)]| {
        for (wish, weight) in wishes {
            let place = Wish::ALL.iter().position(|other| other == wish);
            let place = place.expect("each wish is listed");
            weights[place] = weights[place].max(*weight);
        }
    };
    wants(&[(Wish::Nothing, 3), (Wish::Put, 6), (Wish::Get, 3)]);
    for work in work {
        match work {
            Work::Read => wants(&[(Wish::Get, 6), (Wish::Serializable, 2)]),
            Work::Delete => wants(&[(Wish::Delete, 6)]),
            Work::Txn => wants(&[(Wish::Swap, 5), (Wish::Batch, 6)]),
            Work::Range => wants(&[(Wish::Range, 6)]),
            Work::History => wants(&[(Wish::History, 8)]),
            Work::Compaction => wants(&[(Wish::Compact, 3)]),
            Work::Lease => wants(&[
                (Wish::Grant, 5),
                (Wish::PutUnderLease, 6),
                (Wish::KeepAlive, 6),
                (Wish::Revoke, 2),
            ]),
            Work::Watch => wants(&[(Wish::Delete, 2), (Wish::Batch, 2)]),
            Work::Lock => wants(&[
                (Wish::Grant, 5),
                (Wish::KeepAlive, 4),
                (Wish::Lock, 9),
                (Wish::Critical, 9),
                (Wish::Unlock, 1),
            ]),
            Work::Fence => wants(&[
                (Wish::Grant, 5),
                (Wish::KeepAlive, 2),
                (Wish::Lock, 9),
                (Wish::Fenced, 12),
                (Wish::Unlock, 1),
            ]),
            Work::Named => wants(&[(Wish::Named, 12)]),
            Work::Transfer => wants(&[(Wish::MoveLeader, 2)]),
            // Of the world, or of Raft alone.
            Work::Checkpoint | Work::Reconfigure | Work::Overload | Work::RarePaths => {}
        }
    }
    weights
}
