//! A fast hash for tables that are only looked up: never seeded, so that the same history takes the
//! same steps on every machine.
//!
//! Multiply and fold, one word at a time. It does not withstand an adversary who chooses keys; what
//! is hashed here are states of models, and a bad history can only make its own check slow, which
//! the budget ends.

use std::hash::{BuildHasherDefault, Hasher};

/// 2^64 divided by the golden ratio, odd: Knuth, "The Art of Computer Programming" 3, section 6.4.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash map which nobody walks through.
pub(crate) type Table<K, V> = std::collections::HashMap<K, V, BuildHasherDefault<Folding>>;

/// Mixes a word into a hash.
pub(crate) fn fold(hash: u64, word: u64) -> u64 {
    let product = u128::from(hash ^ word) * u128::from(GOLDEN);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Folds what is written into it.
#[derive(Clone, Debug)]
pub(crate) struct Folding(u64);

impl Default for Folding {
    fn default() -> Self {
        Folding(GOLDEN.rotate_left(17))
    }
}

impl Hasher for Folding {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.0 = fold(self.0, u64::from_le_bytes(word) ^ chunk.len() as u64);
        }
    }

    fn write_u8(&mut self, number: u8) {
        self.0 = fold(self.0, u64::from(number));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = fold(self.0, u64::from(number));
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = fold(self.0, number);
    }

    fn write_usize(&mut self, number: usize) {
        self.0 = fold(self.0, number as u64);
    }

    fn finish(&self) -> u64 {
        fold(self.0, GOLDEN)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn near_words_fall_apart_in_their_low_bits() {
        let low: BTreeSet<u64> = (0..1024_u64).map(|word| fold(1, word) & 0xffff).collect();
        assert!(low.len() > 900, "{}", low.len());
    }

    #[test]
    fn the_length_counts() {
        let hash = |bytes: &[u8]| {
            let mut hasher = Folding::default();
            hasher.write(bytes);
            hasher.finish()
        };
        assert_ne!(hash(b"a"), hash(b"a\0"));
    }
}
