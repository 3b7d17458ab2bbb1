//! The readers of this crate that meet bytes of strangers, for who throws bytes at them: the
//! targets in `fuzz/`, and the test below.
//!
//! Each function takes anything, panics where a promise of the reader is broken, and else returns.
//! Where bytes are sealed by a checksum, they are read once as they are and once with the seal put
//! right, as chance does not find a seal.

use crate::archive::{self, Until};
use crate::etcd_file;
use crate::gateway;
use crate::genesis;
use crate::identity::Identity;
use crate::peers::{self, with_checksum};
use crate::snapshot;
use quorate_replica::store::Store;
use std::path::Path;

/// What comes in on the port of the peers, and the payload of each of its frames.
pub fn peers(bytes: &[u8]) {
    peers::read_all(bytes);
}

/// The body of a request for the JSON gateway. The first byte chooses the method.
///
/// Panics: if a request that was understood is another one after it was written again.
pub fn gateway(bytes: &[u8]) {
    let Some((method, body)) = bytes.split_first() else { return };
    if let Some((first, again)) = gateway::read_twice(usize::from(*method), body) {
        assert_eq!(Some(first), again, "a request that changes when it is written again");
    }
}

/// The small files of a data directory, in words.
pub fn words_of_a_directory(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for text in [text.to_owned(), with_checksum(text)] {
        let _ = Identity::parse(&text, Path::new("dir"));
        let _ = genesis::parse(&text);
    }
}

/// A snapshot in a file.
pub fn snapshot(bytes: &[u8]) {
    let _ = snapshot::read(&mut &bytes[..]);
}

/// A file of etcd, and a segment of a backup: as they are, and the latter with its seal put right.
pub fn backups(bytes: &[u8]) {
    let _ = etcd_file::read_bytes(bytes);
    for sealed in [bytes.to_vec(), archive::sealed(bytes)] {
        let _ = archive::apply(&sealed, 0, &mut Store::new(), Until::Newest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            peers(&bytes);
            gateway(&bytes);
            words_of_a_directory(&bytes);
            snapshot(&bytes);
            backups(&bytes);
        }

        #[test]
        fn arbitrary_words_do_no_harm(
            method in any::<u8>(),
            text in "[{}\\[\\]\",:a-z0-9=\\n ]{0,80}",
        ) {
            words_of_a_directory(text.as_bytes());
            gateway(&[&[method], text.as_bytes()].concat());
        }
    }
}
