//! Fingerprints: of everything that was ever applied, and of the state at one revision.
//!
//! **Idea.** The running digest is one 64-bit word into which every command folds its effects in
//! order: for each event the hash of key and value with all its numbers, then the revision, the
//! compact revision and the shape of the answer. One step is the 8-byte step of xxHash64, which
//! is a bijection of the state for a fixed input and of the input for a fixed state: two
//! replicas with equal digests which then differ in one folded word differ in the digest until
//! a second accident (2^-64) undoes it. Byte strings are folded by length and xxHash64.
//!
//! **Not claimed.** Resistance against an adversary who chooses values to collide: this finds
//! bugs, bit flips and lost writes, not forgery.
//!
//! Source: Collet, "xxHash fast digest algorithm", specification 0.1.1 (the XXH64 variant).

use super::{Event, KeyValue, KvError, Outcome, Revision, Store};

const PRIME_1: u64 = 0x9E37_79B1_85EB_CA87;
const PRIME_2: u64 = 0xC2B2_AE3D_27D4_EB4F;
const PRIME_3: u64 = 0x1656_67B1_9E37_79F9;
const PRIME_4: u64 = 0x85EB_CA77_C2B2_AE63;
const PRIME_5: u64 = 0x27D4_EB2F_1656_67C5;

/// Bytes that the four lanes of xxHash64 take in one step.
const STRIPE: usize = 32;

/// An order-sensitive fold over words and byte strings.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Digest {
    pub(super) state: u64,
}

impl Store {
    /// The fingerprint of all commands applied so far and of their effects.
    ///
    /// Two replicas that applied the same number of commands must agree in it.
    pub fn digest(&self) -> u64 {
        self.digest.value()
    }

    /// The fingerprint of all pairs that live at `revision` (0 is the latest), in O(keys).
    ///
    /// Unlike [`Store::digest`] it is a function of the pairs alone, so it can be computed anew
    /// and tells whether memory still holds what was applied. Errors as for a range.
    pub fn hash_kv(&self, revision: Revision) -> Result<u64, KvError> {
        self.check_revision(revision)?;
        let revision = if revision.0 == 0 { self.revision } else { revision };
        let mut digest = Digest::new();
        for kv in self.scan_all(revision) {
            digest.fold_kv(kv);
        }
        Ok(digest.value())
    }
}

impl Digest {
    pub(super) fn new() -> Digest {
        Digest { state: PRIME_5 }
    }

    pub(super) fn value(self) -> u64 {
        avalanche(self.state)
    }

    pub(super) fn fold(&mut self, word: u64) {
        let mixed = self.state ^ round(0, word);
        self.state = mixed.rotate_left(27).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
    }

    pub(super) fn fold_bytes(&mut self, bytes: &[u8]) {
        self.fold(bytes.len() as u64);
        self.fold(xxh64(bytes, 0));
    }

    fn fold_kv(&mut self, kv: &KeyValue) {
        self.fold_bytes(&kv.key);
        self.fold_bytes(&kv.value);
        self.fold(kv.create_revision.0);
        self.fold(kv.mod_revision.0);
        self.fold(kv.version);
        self.fold(kv.lease as u64);
    }

    pub(super) fn fold_event(&mut self, event: &Event) {
        self.fold_kv(&event.kv);
        self.fold(event.prev_revision.0);
    }

    pub(super) fn fold_outcome(&mut self, outcome: &Result<Outcome, KvError>) {
        match outcome {
            Ok(outcome) => self.fold_answer(outcome),
            Err(KvError::KeyNotFound) => self.fold(101),
            Err(KvError::LeaseNotFound) => self.fold(102),
            Err(KvError::LeaseExists) => self.fold(105),
            Err(KvError::Compacted { compact_revision }) => {
                self.fold(103);
                self.fold(compact_revision.0);
            }
            Err(KvError::FutureRevision { current }) => {
                self.fold(104);
                self.fold(current.0);
            }
            Err(KvError::TooLarge) => self.fold(106),
            Err(KvError::NoSpace) => self.fold(110),
            Err(KvError::Corrupt) => self.fold(111),
            Err(KvError::Fenced { fence, holder }) => {
                self.fold(114);
                self.fold(u64::from(*fence));
                self.fold(holder.0);
            }
            Err(KvError::RequestForgotten) => self.fold(115),
            Err(KvError::RequestReused) => self.fold(116),
            Err(KvError::AnswerNotKept { revision }) => {
                self.fold(117);
                self.fold(revision.0);
            }
            Err(KvError::Denied(why)) => {
                self.fold(112);
                self.fold(*why as u64);
            }
            Err(KvError::Limit(why)) => {
                self.fold(118);
                self.fold(*why as u64);
            }
            Err(KvError::QuotaExceeded { rule, kind, max }) => {
                self.fold(119);
                self.fold(u64::from(*rule));
                self.fold(*kind as u64);
                self.fold(*max);
            }
            Err(KvError::Auth(why)) => {
                self.fold(113);
                self.fold(*why as u64);
            }
        }
    }

    /// Reads change nothing, so of a range only its size is folded.
    fn fold_answer(&mut self, outcome: &Outcome) {
        match outcome {
            Outcome::Range(found) => {
                self.fold(1);
                self.fold(found.count);
                self.fold(found.kvs.len() as u64);
            }
            Outcome::Put { .. } => self.fold(2),
            Outcome::DeleteRange { deleted, .. } => {
                self.fold(3);
                self.fold(*deleted);
            }
            Outcome::Txn { succeeded, outcomes } => {
                self.fold(if *succeeded { 4 } else { 5 });
                self.fold(outcomes.len() as u64);
                for outcome in outcomes {
                    self.fold_answer(outcome);
                }
            }
            Outcome::Compact => self.fold(6),
            Outcome::LeaseGrant { ttl } => {
                self.fold(7);
                self.fold(*ttl);
            }
            Outcome::LeaseRevoke { deleted } => {
                self.fold(8);
                self.fold(*deleted);
            }
            Outcome::LeaseExpire { expired } => {
                self.fold(9);
                self.fold(*expired);
            }
            Outcome::LeaseCountdown { changed } => {
                self.fold(10);
                self.fold(*changed);
            }
            Outcome::Auth => self.fold(12),
            Outcome::Limit => self.fold(13),
            Outcome::Alarms(alarms) => {
                self.fold(11);
                for alarm in alarms {
                    self.fold(u64::from(alarm.kind.code()));
                    self.fold(alarm.member);
                }
            }
        }
    }
}

/// xxHash64 of `input`.
///
/// Source: Collet, xxHash specification, "XXH64 algorithm".
pub fn xxh64(input: &[u8], seed: u64) -> u64 {
    let stripes = input.chunks_exact(STRIPE);
    let mut rest = stripes.remainder();
    let mut hash =
        if input.len() < STRIPE { seed.wrapping_add(PRIME_5) } else { converge(stripes, seed) };
    hash = hash.wrapping_add(input.len() as u64);
    while let Some((word, tail)) = rest.split_first_chunk::<8>() {
        hash = (hash ^ round(0, u64::from_le_bytes(*word))).rotate_left(27);
        hash = hash.wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
        rest = tail;
    }
    if let Some((word, tail)) = rest.split_first_chunk::<4>() {
        hash ^= u64::from(u32::from_le_bytes(*word)).wrapping_mul(PRIME_1);
        hash = hash.rotate_left(23).wrapping_mul(PRIME_2).wrapping_add(PRIME_3);
        rest = tail;
    }
    for byte in rest {
        hash ^= u64::from(*byte).wrapping_mul(PRIME_5);
        hash = hash.rotate_left(11).wrapping_mul(PRIME_1);
    }
    avalanche(hash)
}

/// Runs the four lanes over all whole stripes and merges them.
fn converge(stripes: std::slice::ChunksExact<'_, u8>, seed: u64) -> u64 {
    let mut lanes = [
        seed.wrapping_add(PRIME_1).wrapping_add(PRIME_2),
        seed.wrapping_add(PRIME_2),
        seed,
        seed.wrapping_sub(PRIME_1),
    ];
    for stripe in stripes {
        let (words, _) = stripe.as_chunks::<8>();
        for (lane, word) in lanes.iter_mut().zip(words) {
            *lane = round(*lane, u64::from_le_bytes(*word));
        }
    }
    let turns = [1, 7, 12, 18];
    let mut hash = 0_u64;
    for (lane, turn) in lanes.iter().zip(turns) {
        hash = hash.wrapping_add(lane.rotate_left(turn));
    }
    for lane in lanes {
        hash = (hash ^ round(0, lane)).wrapping_mul(PRIME_1).wrapping_add(PRIME_4);
    }
    hash
}

fn round(lane: u64, word: u64) -> u64 {
    lane.wrapping_add(word.wrapping_mul(PRIME_2)).rotate_left(31).wrapping_mul(PRIME_1)
}

fn avalanche(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(PRIME_2);
    hash = (hash ^ (hash >> 29)).wrapping_mul(PRIME_3);
    hash ^ (hash >> 32)
}
