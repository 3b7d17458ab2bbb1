//! What a cluster began with: the members before the first entry of the log.
//!
//! The log says how members came and went, but not who was there first; that was in the flags of
//! those members alone. A member that joins later has other flags, and an operator may change them,
//! so every data directory keeps this beside its identity (`DIR/member/genesis`). It never changes.
//! A directory that an older version made has none; its flags are taken at their word once more,
//! and written down.
//!
//! ```text
//!   cluster CLUSTER-ID
//!   member ID URL[,URL..]          a line for each
//!   crc32c CHECKSUM
//! ```

use crate::config::Config;
use crate::peers::without_checksum;
use crate::sealed;
use crate::url::Url;
use quorate_core::NodeId;
use quorate_replica::members::{Members, Seat};
use std::collections::BTreeSet;
use std::io;
use std::path::Path;

const FILE: &str = "genesis";

/// The first members of a cluster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Genesis {
    /// Id of the cluster.
    pub(crate) cluster: u64,
    /// Their ids and peer addresses. Names are told by the log.
    pub(crate) members: Members,
}

impl Genesis {
    /// Of a cluster that begins with these settings.
    pub(crate) fn of(config: &Config) -> Genesis {
        let seat = |(id, name): (u64, String)| {
            let urls = config.initial_cluster[&name].iter().map(Url::to_string).collect();
            (NodeId(id), Seat::of(urls))
        };
        let members = Members::of(config.initial_members().into_iter().map(seat));
        Genesis { cluster: config.cluster_id(), members }
    }

    /// Who voted first.
    pub(crate) fn voters(&self) -> BTreeSet<NodeId> {
        self.members.iter().map(|(id, _)| id).collect()
    }

    /// What is written in a directory. None: nothing is.
    pub(crate) fn read(dir: &Path) -> io::Result<Option<Genesis>> {
        match sealed::read(&dir.join(FILE), |text| parse(text).is_some()) {
            Ok(text) => parse(&text)
                .map(Some)
                .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the file is damaged")),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it down, durably.
    pub(crate) fn write(&self, dir: &Path) -> io::Result<()> {
        let mut text = format!("cluster {:016x}\n", self.cluster);
        for (id, seat) in self.members.iter() {
            text += &format!("member {:016x} {}\n", id.0, seat.peer_urls.join(","));
        }
        sealed::write(&dir.join(FILE), &text)
    }
}

pub(crate) fn parse(text: &str) -> Option<Genesis> {
    let mut lines = without_checksum(text)?.lines();
    let cluster = u64::from_str_radix(lines.next()?.strip_prefix("cluster ")?, 16).ok()?;
    let member = |line: &str| {
        let (id, urls) = line.strip_prefix("member ")?.split_once(' ')?;
        let urls = urls.split(',').map(str::to_owned).collect();
        Some((NodeId(u64::from_str_radix(id, 16).ok()?), Seat::of(urls)))
    };
    let members = lines.map(member).collect::<Option<Vec<_>>>()?;
    Some(Genesis { cluster, members: Members::of(members) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn what_a_cluster_began_with_is_kept_and_damage_is_noticed() {
        let dir = tempfile::tempdir().expect("a directory");
        assert_eq!(Genesis::read(dir.path()).expect("readable"), None);
        let genesis = Genesis::of(&Config::default());
        genesis.write(dir.path()).expect("writable");
        assert_eq!(Genesis::read(dir.path()).expect("readable"), Some(genesis));
        let good = fs::read(dir.path().join(FILE)).expect("the file");
        fs::remove_file(sealed::copy_of(&dir.path().join(FILE))).expect("a copy");
        for bit in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            fs::write(dir.path().join(FILE), bad).expect("written");
            assert!(Genesis::read(dir.path()).is_err(), "bit {bit} went unnoticed");
        }
    }
}
