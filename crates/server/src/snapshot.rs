//! A snapshot: the whole store as one file, as `etcdctl snapshot save` writes it.
//!
//! ```text
//!   header   64 bytes: whose it is, and of when
//!   store    as a checkpoint holds it, every block hashed; it tells its own end
//!   zeros    to a multiple of 512
//!   digest   SHA-256 of all before
//! ```
//!
//! The byte table is in `crates/storage/FORMAT.md`. etcd's tools look at one thing only: that the
//! length less 32 is a multiple of 512, as it is for the file of etcd, which is no file of ours.
//!
//! **Idea.** The length must be told before the first byte, and neither memory nor disk may be
//! spent on it. The store is frozen and gives the same bytes every time, so they are produced
//! twice: once into a counter, then into a channel of [`CHUNKS_AHEAD`] chunks which a thread of its
//! own fills as fast as the consumer empties it. A consumer that goes away closes the channel, and
//! the thread ends at its next chunk.

use quorate_replica::store::{LoadError, Store, xxh64};
use sha2::{Digest, Sha256};
use std::fmt;
use std::io::{self, Read, Write};
use tokio::sync::mpsc;

/// What a snapshot begins with.
const MAGIC: &[u8; 8] = b"quorSNAP";
/// The format that is written, and the newest that is read.
const FORMAT: u32 = 1;
const HEADER_BYTES: usize = 64;
/// Where the hash of the header stands.
const HASH_AT: usize = HEADER_BYTES - 8;
/// The length without the digest is a multiple of this, or etcd's tools refuse the file.
const ALIGN_BYTES: u64 = 512;
/// Bytes of the digest at the end.
pub(crate) const DIGEST_BYTES: usize = 32;
/// One piece of the stream, as etcd cuts it. Unit: bytes.
pub(crate) const CHUNK_BYTES: usize = 32 << 10;
/// Pieces made ahead of the consumer.
pub(crate) const CHUNKS_AHEAD: usize = 4;

/// Whose snapshot it is, and of when.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SnapshotHeader {
    /// The cluster.
    pub cluster: u64,
    /// The member that made it.
    pub member: u64,
    /// Its term.
    pub term: u64,
    /// Revision of the store.
    pub revision: u64,
}

/// Why bytes are not a snapshot.
#[derive(Debug)]
pub enum SnapshotError {
    /// Reading failed.
    Io(io::Error),
    /// It is no snapshot of this program.
    NotASnapshot,
    /// A newer version of this program made it.
    NewerFormat {
        /// Its format.
        found: u32,
    },
    /// The digest at the end does not fit.
    Damaged,
    /// The store inside cannot be read.
    Store(LoadError),
}

impl fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SnapshotError::Io(error) => write!(f, "reading the snapshot: {error}"),
            SnapshotError::NotASnapshot => f.write_str("not a snapshot of quorate"),
            SnapshotError::NewerFormat { found } => {
                write!(f, "a snapshot of format {found}; this version reads up to {FORMAT}")
            }
            SnapshotError::Damaged => f.write_str("the snapshot does not match its digest"),
            SnapshotError::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SnapshotError {}

impl SnapshotHeader {
    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        let words = [self.cluster, self.member, self.term, self.revision];
        for (at, word) in (16..).step_by(8).zip(words) {
            bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        }
        let hash = xxh64(&bytes[..HASH_AT], 0);
        bytes[HASH_AT..].copy_from_slice(&hash.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<SnapshotHeader, SnapshotError> {
        let word = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("8 bytes"));
        if bytes[..8] != *MAGIC || word(HASH_AT) != xxh64(&bytes[..HASH_AT], 0) {
            return Err(SnapshotError::NotASnapshot);
        }
        let found = u32::from_le_bytes(bytes[8..12].try_into().expect("4 bytes"));
        if found > FORMAT {
            return Err(SnapshotError::NewerFormat { found });
        }
        let (cluster, member, term, revision) = (word(16), word(24), word(32), word(40));
        Ok(SnapshotHeader { cluster, member, term, revision })
    }
}

/// The length of a snapshot of this store, without its digest. Visits all of the store.
pub(crate) fn length(store: &Store) -> u64 {
    let mut count = Counter(0);
    let saved = store.save(&mut count);
    saved.expect("a counter does not fail");
    (HEADER_BYTES as u64 + count.0).next_multiple_of(ALIGN_BYTES)
}

/// Writes a snapshot. Errors: those of the writer.
pub(crate) fn write(header: SnapshotHeader, store: &Store, out: &mut dyn Write) -> io::Result<()> {
    let mut out = Hashing { out, hash: Sha256::new(), written: 0 };
    out.write_all(&header.encode())?;
    store.save(&mut out)?;
    let gap = out.written.next_multiple_of(ALIGN_BYTES) - out.written;
    out.write_all(&[0; ALIGN_BYTES as usize][..gap as usize])?;
    let digest = out.hash.finalize();
    out.out.write_all(&digest)
}

/// Reads a snapshot back, all of it: the digest is checked before anything is believed.
///
/// Errors: see [`SnapshotError`]; never panics.
pub fn read(input: &mut dyn Read) -> Result<(SnapshotHeader, Store), SnapshotError> {
    let mut input = Unhashing { input, hash: Sha256::new(), read: 0 };
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).map_err(SnapshotError::Io)?;
    let header = SnapshotHeader::decode(&header)?;
    let store = Store::load(&mut input).map_err(SnapshotError::Store)?;
    let gap = input.read.next_multiple_of(ALIGN_BYTES) - input.read;
    let mut zeros = [0; ALIGN_BYTES as usize];
    input.read_exact(&mut zeros[..gap as usize]).map_err(SnapshotError::Io)?;
    let mut told = [0; DIGEST_BYTES];
    let found = input.hash.finalize();
    input.input.read_exact(&mut told).map_err(SnapshotError::Io)?;
    let more = input.input.read(&mut [0]).map_err(SnapshotError::Io)?;
    if found[..] != told || more > 0 || header.revision != store.revision().0 {
        return Err(SnapshotError::Damaged);
    }
    Ok((header, store))
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Hashes what is written.
struct Hashing<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
    written: u64,
}

impl Write for Hashing<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Hashes what is read.
struct Unhashing<'a> {
    input: &'a mut dyn Read,
    hash: Sha256,
    read: u64,
}

impl Read for Unhashing<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.input.read(into)?;
        self.hash.update(&into[..count]);
        self.read += count as u64;
        Ok(count)
    }
}

/// Cuts what is written into chunks for a consumer elsewhere, waiting for it.
pub(crate) struct Chunks {
    consumer: mpsc::Sender<Vec<u8>>,
    chunk: Vec<u8>,
}

impl Chunks {
    pub(crate) fn new(consumer: mpsc::Sender<Vec<u8>>) -> Chunks {
        Chunks { consumer, chunk: Vec::with_capacity(CHUNK_BYTES) }
    }

    /// Sends what is left. Errors: the consumer is gone.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        self.send()
    }

    fn send(&mut self) -> io::Result<()> {
        if self.chunk.is_empty() {
            return Ok(());
        }
        let chunk = std::mem::replace(&mut self.chunk, Vec::with_capacity(CHUNK_BYTES));
        let sent = self.consumer.blocking_send(chunk);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

impl Write for Chunks {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.chunk.len() == CHUNK_BYTES {
            self.send()?;
        }
        let count = bytes.len().min(CHUNK_BYTES - self.chunk.len());
        self.chunk.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use quorate_replica::store::{Command, Put, Revision};

    fn store(pairs: usize) -> Store {
        let mut store = Store::new();
        for number in 0..pairs {
            let (key, value) = (Bytes::from(format!("k{number}")), Bytes::from(vec![7; 300]));
            store.apply(&Command::Put(Put { key, value, ..Put::default() }));
        }
        store
    }

    fn header(store: &Store) -> SnapshotHeader {
        SnapshotHeader { cluster: 1, member: 2, term: 3, revision: store.revision().0 }
    }

    fn written(store: &Store) -> Vec<u8> {
        let mut bytes = Vec::new();
        write(header(store), store, &mut bytes).expect("memory does not fail");
        bytes
    }

    #[test]
    fn a_snapshot_comes_back_and_has_the_length_that_tools_want() {
        for pairs in [0, 1, 7, 1_000] {
            let store = store(pairs);
            let bytes = written(&store);
            assert_eq!(bytes.len() as u64, length(&store) + DIGEST_BYTES as u64);
            assert_eq!(bytes.len() as u64 % ALIGN_BYTES, DIGEST_BYTES as u64);
            let (told, back) = read(&mut &bytes[..]).expect("it was just written");
            assert_eq!(told, header(&store));
            assert_eq!(back.digest(), store.digest());
            assert_eq!(back.hash_kv(Revision(0)), store.hash_kv(Revision(0)));
        }
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let bytes = written(&store(2));
        for at in 0..bytes.len() {
            let mut rotten = bytes.clone();
            rotten[at] ^= 0x20;
            assert!(read(&mut &rotten[..]).is_err(), "byte {at}");
            assert!(read(&mut &bytes[..at]).is_err(), "cut at {at}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert!(matches!(read(&mut &longer[..]), Err(SnapshotError::Damaged)));
    }

    #[test]
    fn a_newer_format_and_a_foreign_file_are_named() {
        let mut newer = written(&store(1));
        newer[8] = 2;
        let hash = xxh64(&newer[..HASH_AT], 0);
        newer[HASH_AT..HEADER_BYTES].copy_from_slice(&hash.to_le_bytes());
        let refused = read(&mut &newer[..]);
        assert!(matches!(refused, Err(SnapshotError::NewerFormat { found: 2 })));
        let foreign = read(&mut &[0; 4096][..]);
        assert!(matches!(foreign, Err(SnapshotError::NotASnapshot)));
    }

    #[test]
    fn a_consumer_that_goes_away_ends_the_writer() {
        let (sender, mut receiver) = mpsc::channel(CHUNKS_AHEAD);
        let store = store(2_000);
        let writing = std::thread::spawn(move || {
            let mut chunks = Chunks::new(sender);
            write(header(&store), &store, &mut chunks).and_then(|()| chunks.finish())
        });
        assert_eq!(receiver.blocking_recv().expect("a chunk").len(), CHUNK_BYTES);
        drop(receiver);
        let outcome = writing.join().expect("no panic");
        assert_eq!(outcome.expect_err("nobody listens").kind(), io::ErrorKind::BrokenPipe);
    }
}
