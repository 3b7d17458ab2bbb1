//! Do the replicas still agree? A digest of the state at common points of the log, compared.
//!
//! Every replica folds what each command did into a running digest. At every
//! [`DIGEST_EVERY`]th index it remembers the digest and tells it to the others; whoever finds a
//! quorum against itself knows that *its own* state is the wrong one, and which stretch of the log
//! it went wrong in. No role is involved, so a diverged leader finds itself out as well.
//!
//! Source: ZooKeeper's transaction digest (3.6) only warns; the fence is ours.

use quorate_core::{Index, NodeId};
use std::collections::BTreeMap;

/// Indices that are multiples of this are compared.
pub const DIGEST_EVERY: u64 = 16;
/// Points that are remembered; older ones are forgotten uncompared.
const POINTS_MAX: usize = 256;

/// What a comparison found.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Nobody disagrees, or too few to tell.
    Agreed,
    /// Somebody differs and there is no quorum for either side.
    Disputed {
        /// Where.
        at: Index,
    },
    /// A quorum holds another state than we do.
    Diverged {
        /// The first compared point at which we differ; we went wrong in the
        /// [`DIGEST_EVERY`] entries up to it.
        at: Index,
    },
}

/// The digests of ourselves and of the others at common points.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(crate) struct Digests {
    points: BTreeMap<Index, BTreeMap<NodeId, u64>>,
    agreed: Index,
}

impl Digests {
    /// Notes the digest of `node` at a common point.
    pub(crate) fn note(&mut self, at: Index, node: NodeId, digest: u64) {
        if !at.0.is_multiple_of(DIGEST_EVERY) {
            return;
        }
        self.points.entry(at).or_default().insert(node, digest);
        while self.points.len() > POINTS_MAX {
            self.points.pop_first();
        }
    }

    /// A quorum was seen to share our state there.
    pub(crate) fn agree(&mut self, at: Index) {
        self.agreed = self.agreed.max(at);
    }

    /// The latest point at which a quorum was seen to share our state.
    pub(crate) fn agreed(&self) -> Index {
        self.agreed
    }

    /// Our latest point, to be told to the others.
    pub(crate) fn latest_of(&self, node: NodeId) -> Option<(Index, u64)> {
        let of = |(at, digests): (&Index, &BTreeMap<NodeId, u64>)| {
            digests.get(&node).map(|digest| (*at, *digest))
        };
        self.points.iter().rev().find_map(of)
    }

    /// True if a quorum holds our state at this point, and so at every one before it.
    pub(crate) fn is_shared(&self, at: Index, me: NodeId, quorum: usize) -> bool {
        let Some(digests) = self.points.get(&at) else { return false };
        let mine = digests.get(&me);
        mine.is_some_and(|mine| digests.values().filter(|other| *other == mine).count() >= quorum)
    }

    /// Compares ourselves with the others at one point.
    pub(crate) fn compare(&self, at: Index, me: NodeId, quorum: usize) -> Verdict {
        let Some(digests) = self.points.get(&at) else { return Verdict::Agreed };
        let Some(mine) = digests.get(&me) else { return Verdict::Agreed };
        let mut against: BTreeMap<u64, usize> = BTreeMap::new();
        for other in digests.values().filter(|other| *other != mine) {
            *against.entry(*other).or_default() += 1;
        }
        let with_me = digests.values().filter(|other| *other == mine).count();
        match against.values().max() {
            None => Verdict::Agreed,
            Some(count) if *count >= quorum => Verdict::Diverged { at },
            Some(_) if with_me >= quorum => Verdict::Agreed,
            Some(_) => Verdict::Disputed { at },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Index = Index(16);

    fn digests(of: [u64; 3]) -> Digests {
        let mut digests = Digests::default();
        for (node, digest) in (1..).zip(of) {
            digests.note(AT, NodeId(node), digest);
        }
        digests
    }

    #[test]
    fn the_minority_finds_itself_out() {
        let digests = digests([7, 7, 8]);
        assert_eq!(digests.compare(AT, NodeId(1), 2), Verdict::Agreed);
        assert_eq!(digests.compare(AT, NodeId(3), 2), Verdict::Diverged { at: AT });
    }

    #[test]
    fn without_a_quorum_it_is_a_dispute() {
        let mut digests = Digests::default();
        digests.note(AT, NodeId(1), 7);
        digests.note(AT, NodeId(2), 8);
        assert_eq!(digests.compare(AT, NodeId(1), 2), Verdict::Disputed { at: AT });
        assert!(!digests.is_shared(AT, NodeId(1), 2));
        digests.note(AT, NodeId(3), 7);
        assert_eq!(digests.compare(AT, NodeId(1), 2), Verdict::Agreed);
        assert!(digests.is_shared(AT, NodeId(1), 2) && !digests.is_shared(AT, NodeId(2), 2));
    }

    #[test]
    fn only_common_points_count_and_only_so_many_are_kept() {
        let mut digests = Digests::default();
        digests.note(Index(17), NodeId(1), 1);
        assert_eq!(digests.latest_of(NodeId(1)), None);
        for point in 1..=1_000 {
            digests.note(Index(point * DIGEST_EVERY), NodeId(1), point);
        }
        assert_eq!(digests.points.len(), POINTS_MAX);
        assert_eq!(digests.latest_of(NodeId(1)), Some((Index(16_000), 1_000)));
    }
}
