//! What a quorum agrees on: pure functions of a configuration.
//!
//! A value of an ordered type is *agreed* if it is the greatest that a majority of the voters
//! reaches; while a change of members is under way, a majority of both sets of voters. With `bool`
//! (`false < true`) the same function answers "does a quorum say yes?".
//!
//! Source: Ongaro and Ousterhout (2014), sections 5.2, 5.4.2 and 6.

use super::membership::Configuration;
use quorate_core::NodeId;
use std::collections::BTreeSet;

/// Sets of voters up to this size are counted without allocating.
const VOTERS_ON_STACK: usize = 16;

/// The greatest value that a quorum of `configuration` reaches, if voter `id` reaches `of(id)`.
/// Without voters nothing is agreed: the answer is the default.
pub(super) fn agreed<T: Copy + Default + Ord>(
    configuration: &Configuration,
    of: impl Fn(NodeId) -> T,
) -> T {
    let incoming = majority(&configuration.incoming, &of);
    if !configuration.is_joint() {
        return incoming;
    }
    incoming.min(majority(&configuration.outgoing, &of))
}

/// The greatest value that more than half of `voters` reach.
pub(super) fn majority<T: Copy + Default + Ord>(
    voters: &BTreeSet<NodeId>,
    of: impl Fn(NodeId) -> T,
) -> T {
    let count = voters.len();
    if count == 0 {
        return T::default();
    }
    if count <= VOTERS_ON_STACK {
        let mut values = [T::default(); VOTERS_ON_STACK];
        for (value, voter) in values.iter_mut().zip(voters) {
            *value = of(*voter);
        }
        return middle(&mut values[..count]);
    }
    let mut values: Vec<T> = voters.iter().map(|voter| of(*voter)).collect();
    middle(&mut values)
}

/// Planted bug: the greatest value that half of `voters`, rounded down, reach.
pub(super) fn half<T: Copy + Default + Ord>(
    voters: &BTreeSet<NodeId>,
    of: impl Fn(NodeId) -> T,
) -> T {
    let mut values: Vec<T> = voters.iter().map(|voter| of(*voter)).collect();
    values.sort_unstable();
    values.iter().rev().nth((values.len() / 2).saturating_sub(1)).copied().unwrap_or_default()
}

/// Of the values in ascending order, the one which more than half reach.
fn middle<T: Copy + Ord>(values: &mut [T]) -> T {
    values.sort_unstable();
    values[(values.len() - 1) / 2]
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Tries every value and counts heads, as the paper says it.
    fn naive(voters: &BTreeSet<NodeId>, of: impl Fn(NodeId) -> u64) -> u64 {
        let reach = |value: u64| voters.iter().filter(|id| of(**id) >= value).count();
        let values = voters.iter().map(|id| of(*id));
        values.filter(|value| 2 * reach(*value) > voters.len()).max().unwrap_or(0)
    }

    fn voters() -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set((1u64..40).prop_map(NodeId), 0..20)
    }

    proptest! {
        #[test]
        fn a_majority_is_more_than_half(
            set in voters(),
            held in proptest::collection::vec(0u64..9, 40),
        ) {
            let of = |id: NodeId| held[id.0 as usize];
            prop_assert_eq!(majority(&set, of), naive(&set, of));
        }

        #[test]
        fn a_joint_quorum_is_a_majority_of_both(
            incoming in voters(),
            outgoing in voters(),
            held in proptest::collection::vec(0u64..9, 40),
        ) {
            let of = |id: NodeId| held[id.0 as usize];
            let expected = match outgoing.is_empty() {
                true => naive(&incoming, of),
                false => naive(&incoming, of).min(naive(&outgoing, of)),
            };
            let joint = Configuration { incoming, outgoing, learners: BTreeSet::new() };
            prop_assert_eq!(agreed(&joint, of), expected);
            let yes = agreed(&joint, |id| of(id) >= 4);
            prop_assert_eq!(yes, expected >= 4);
        }
    }
}
