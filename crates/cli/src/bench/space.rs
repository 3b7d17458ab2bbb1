//! The keys that a run works on: numbered, and in the order of their numbers.

use bytes::{BufMut as _, Bytes, BytesMut};

/// Digits of a key's number.
const DIGITS: usize = 10;

/// Most keys that a key space can have.
pub(super) const KEYS_MAX: u64 = 10_u64.pow(DIGITS as u32) - 1;

/// `PREFIX0000000000` and so on.
#[derive(Clone, Debug)]
pub(super) struct Space {
    prefix: Bytes,
    /// How many keys there are; at most [`KEYS_MAX`].
    pub(super) keys: u64,
}

impl Space {
    /// The keys with this prefix.
    pub(super) fn new(prefix: &str, keys: u64) -> Space {
        assert!((1..=KEYS_MAX).contains(&keys), "the flags have a range");
        Space { prefix: Bytes::copy_from_slice(prefix.as_bytes()), keys }
    }

    /// The key with this number; that of `keys` is the end of the whole range.
    pub(super) fn key(&self, number: u64) -> Bytes {
        let mut key = BytesMut::with_capacity(self.prefix.len() + DIGITS);
        key.put_slice(&self.prefix);
        let mut digits = [b'0'; DIGITS];
        let mut rest = number;
        for digit in digits.iter_mut().rev() {
            *digit += (rest % 10) as u8;
            rest /= 10;
        }
        key.put_slice(&digits);
        key.freeze()
    }

    /// The number of a key; `None` if it is none of ours.
    pub(super) fn number(&self, key: &[u8]) -> Option<u64> {
        let digits = key.strip_prefix(self.prefix.as_ref())?;
        if digits.len() != DIGITS || !digits.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let number = digits.iter().fold(0, |sum, digit| sum * 10 + u64::from(digit - b'0'));
        (number < self.keys).then_some(number)
    }
}

/// Numbers that look random and are the same for the same seed.
///
/// Source: Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014 (SplitMix64).
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    /// A sequence of its own for each pair.
    pub(super) fn new(seed: u64, stream: u64) -> Random {
        let mut mixed = Random(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        Random(mixed.next())
    }

    /// The next number.
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers() {
        let space = Space::new("bench/", 1_200);
        let numbers = [0, 1, 9, 10, 999, 1_000, 1_199];
        for pair in numbers.windows(2) {
            assert!(space.key(pair[0]) < space.key(pair[1]));
        }
        for number in numbers {
            assert_eq!(space.number(&space.key(number)), Some(number));
        }
        assert_eq!(space.key(42).as_ref(), b"bench/0000000042");
        for foreign in [&b"bench/0000001200"[..], b"bench/000000001", b"bench/00000000+1", b"x"] {
            assert_eq!(space.number(foreign), None);
        }
    }

    #[test]
    fn draws_stay_below_their_bound_and_reach_it() {
        let mut random = Random::new(1, 2);
        let mut seen = [false; 7];
        for _ in 0..1_000 {
            seen[random.below(7) as usize] = true;
        }
        assert_eq!(seen, [true; 7]);
    }
}
