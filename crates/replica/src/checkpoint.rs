//! A state to start from: the store, where in the log it stands, and who the members were.

use crate::members::Members;
use crate::store::Store;
use bytes::{Buf, BufMut, Bytes};
use quorate_core::{NodeId, Position};
use quorate_protocols::consensus::raft::Configuration;
use std::collections::BTreeSet;

/// Members in one set of a configuration; a longer list is refused.
const MEMBERS_MAX: u64 = 1_024;

/// The state of the service after the log up to `position`.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    /// Last entry whose effect is in the store.
    pub position: Position,
    /// The members as of that entry.
    pub configuration: Configuration,
    /// Their names and addresses, and what is wanted of them. Empty in one that was written by a
    /// version which did not know of changes: then the members are those that the cluster began
    /// with.
    pub members: Members,
    /// The store.
    pub store: Store,
}

/// Bytes that are no configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BadConfiguration;

impl std::fmt::Display for BadConfiguration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the metadata of the checkpoint is no configuration")
    }
}

impl std::error::Error for BadConfiguration {}

/// What is kept beside the store of a checkpoint: for each of voters, outgoing voters and learners
/// a count (u64) and so many ids (u64), little-endian; then the table of members, unless it is
/// empty.
pub fn encode_metadata(configuration: &Configuration, members: &Members) -> Bytes {
    let mut out = Vec::new();
    for set in [&configuration.incoming, &configuration.outgoing, &configuration.learners] {
        out.put_u64_le(set.len() as u64);
        set.iter().for_each(|id| out.put_u64_le(id.0));
    }
    if *members != Members::default() {
        out.extend_from_slice(&members.encoded());
    }
    Bytes::from(out)
}

/// The configuration and the table that were encoded.
///
/// Errors: the bytes are something else; never panics.
pub fn decode_metadata(mut bytes: Bytes) -> Result<(Configuration, Members), BadConfiguration> {
    let mut set = || {
        let count = bytes.try_get_u64_le().ok().filter(|count| *count <= MEMBERS_MAX)?;
        let ids = (0..count).map(|_| bytes.try_get_u64_le().ok().map(NodeId));
        ids.collect::<Option<BTreeSet<NodeId>>>()
    };
    let (incoming, outgoing, learners) = (set(), set(), set());
    let (Some(incoming), Some(outgoing), Some(learners)) = (incoming, outgoing, learners) else {
        return Err(BadConfiguration);
    };
    let members = match bytes.is_empty() {
        true => Members::default(),
        false => Members::decode(bytes).map_err(|_| BadConfiguration)?,
    };
    Ok((Configuration { incoming, outgoing, learners }, members))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::Seat;

    #[test]
    fn a_configuration_survives_and_a_cut_one_is_refused() {
        let mut configuration = Configuration::of([NodeId(1), NodeId(2)]);
        configuration.learners.insert(NodeId(3));
        let seat = Seat::of(vec!["http://a:1".to_owned()]);
        for members in [Members::default(), Members::of([(NodeId(1), seat)])] {
            let bytes = encode_metadata(&configuration, &members);
            let decoded = decode_metadata(bytes.clone());
            assert_eq!(decoded, Ok((configuration.clone(), members)));
            let without = encode_metadata(&configuration, &Members::default()).len();
            for cut in (0..bytes.len()).filter(|cut| *cut != without) {
                assert_eq!(decode_metadata(bytes.slice(..cut)), Err(BadConfiguration));
            }
        }
    }
}
