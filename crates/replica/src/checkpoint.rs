//! A state to start from: the store, where in the log it stands, and who the members were.

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

/// The configuration as it is kept beside a checkpoint: for each of voters, outgoing voters and
/// learners a count (u64) and so many ids (u64), little-endian.
pub fn encode_configuration(configuration: &Configuration) -> Bytes {
    let mut out = Vec::new();
    for set in [&configuration.incoming, &configuration.outgoing, &configuration.learners] {
        out.put_u64_le(set.len() as u64);
        set.iter().for_each(|id| out.put_u64_le(id.0));
    }
    Bytes::from(out)
}

/// The configuration that was encoded.
///
/// Errors: the bytes are something else; never panics.
pub fn decode_configuration(mut bytes: Bytes) -> Result<Configuration, BadConfiguration> {
    let mut set = || {
        let count = bytes.try_get_u64_le().ok().filter(|count| *count <= MEMBERS_MAX)?;
        let ids = (0..count).map(|_| bytes.try_get_u64_le().ok().map(NodeId));
        ids.collect::<Option<BTreeSet<NodeId>>>()
    };
    let (incoming, outgoing, learners) = (set(), set(), set());
    match (incoming, outgoing, learners) {
        (Some(incoming), Some(outgoing), Some(learners)) if bytes.is_empty() => {
            Ok(Configuration { incoming, outgoing, learners })
        }
        _ => Err(BadConfiguration),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_survives_and_a_cut_one_is_refused() {
        let mut configuration = Configuration::of([NodeId(1), NodeId(2)]);
        configuration.learners.insert(NodeId(3));
        let bytes = encode_configuration(&configuration);
        assert_eq!(decode_configuration(bytes.clone()), Ok(configuration));
        for cut in 0..bytes.len() {
            assert_eq!(decode_configuration(bytes.slice(..cut)), Err(BadConfiguration));
        }
    }
}
