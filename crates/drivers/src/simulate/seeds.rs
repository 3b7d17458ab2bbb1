//! Which seeds: a range, or the part of it that one shard runs.
//!
//! ```text
//!   0..10, shard 1 of 3        .1..4..7..
//! ```
//!
//! Bounds: [`SHARDS_MAX`] shards; the largest seed is [`SEED_MAX`], because a range names the first
//! seed that is no longer in it.

use serde::{Deserialize, Serialize};
use std::fmt;

/// Shards of one campaign, at most.
pub const SHARDS_MAX: u64 = 10_000;
/// The largest seed.
pub const SEED_MAX: u64 = u64::MAX - 1;

/// Some of the seeds of a range: those whose remainder by `of` is `index`.
///
/// One that was read from a file may be none at all: see [`Seeds::check`], and ask nothing else of
/// it before that.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seeds {
    /// The first.
    pub from: u64,
    /// The first that is no longer one of them.
    pub to: u64,
    /// Which shard.
    pub index: u64,
    /// Of how many. Range: 1 to [`SHARDS_MAX`].
    pub of: u64,
}

/// Why numbers are no seeds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SeedsError {
    /// The range ends before it begins.
    Backwards {
        /// The first.
        from: u64,
        /// The end.
        to: u64,
    },
    /// There is no such shard.
    Shard {
        /// Which.
        index: u64,
        /// Of how many.
        of: u64,
    },
}

impl fmt::Display for SeedsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SeedsError::Backwards { from, to } => {
                write!(f, "the seeds {from}..{to} end before they begin")
            }
            SeedsError::Shard { index, of } => write!(
                f,
                "there is no shard {index}/{of}; of N shards, 1 to {SHARDS_MAX}, the first is 0/N"
            ),
        }
    }
}

impl std::error::Error for SeedsError {}

impl fmt::Display for Seeds {
    /// `0..30`, or `0..30 (shard 1/3)`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Seeds { from, to, index, of } = self;
        match of {
            1 => write!(f, "{from}..{to}"),
            _ => write!(f, "{from}..{to} (shard {index}/{of})"),
        }
    }
}

impl Seeds {
    /// All seeds of a range.
    pub fn range(from: u64, to: u64) -> Seeds {
        Seeds { from, to, index: 0, of: 1 }
    }

    /// Errors: the numbers are none that a campaign could have.
    pub fn check(&self) -> Result<(), SeedsError> {
        let Seeds { from, to, index, of } = *self;
        if from > to {
            return Err(SeedsError::Backwards { from, to });
        }
        if index >= of || of > SHARDS_MAX {
            return Err(SeedsError::Shard { index, of });
        }
        Ok(())
    }

    /// The first at or after `seed`.
    pub fn next(&self, seed: u64) -> Option<u64> {
        let seed = seed.max(self.from);
        let ahead = (self.index + self.of - seed % self.of) % self.of;
        seed.checked_add(ahead).filter(|seed| *seed < self.to)
    }

    /// How many there are.
    pub fn count(&self) -> u64 {
        self.next(self.from).map_or(0, |first| (self.to - 1 - first) / self.of + 1)
    }

    /// True if it is one of them.
    pub fn contains(&self, seed: u64) -> bool {
        (self.from..self.to).contains(&seed) && seed % self.of == self.index
    }

    /// The first seed that is one of both: the least `first + k * self.of` whose remainder is the
    /// other's, by the Chinese remainder theorem.
    pub fn common(&self, other: &Seeds) -> Option<u64> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        let first = Seeds { from, to, ..*self }.next(from)?;
        let ahead = (other.index + other.of - first % other.of) % other.of;
        let both = gcd(self.of, other.of);
        if !ahead.is_multiple_of(both) {
            return None;
        }
        let (ahead, by, of) = (ahead / both, self.of / both, other.of / both);
        let steps = ahead * inverse(by % of, of) % of;
        first.checked_add(steps * self.of).filter(|seed| *seed < to)
    }

    /// What these leave out of the range from the first to the last of them.
    ///
    /// None if their numbers of shards have nothing to do with each other, so that the answer would
    /// be a list of more than [`SHARDS_MAX`] shards.
    pub fn left_out(all: &[Seeds]) -> Option<Vec<Seeds>> {
        let (from, to) = (all.iter().map(|s| s.from).min()?, all.iter().map(|s| s.to).max()?);
        let mut of = 1;
        for seeds in all {
            of = of / gcd(of, seeds.of) * seeds.of;
            if of > SHARDS_MAX {
                return None;
            }
        }
        let mut sorted = all.to_vec();
        sorted.sort_by_key(|seeds| seeds.from);
        let mut reached = vec![from; of as usize];
        let mut found = Vec::new();
        for seeds in &sorted {
            for index in (seeds.index..of).step_by(seeds.of as usize) {
                let reached = &mut reached[index as usize];
                found.push(Seeds { from: *reached, to: seeds.from, index, of });
                *reached = (*reached).max(seeds.to);
            }
        }
        for (index, reached) in (0..).zip(reached) {
            found.push(Seeds { from: reached, to, index, of });
        }
        found.retain(|seeds| seeds.from < seeds.to && seeds.count() > 0);
        found.sort_by_key(|seeds| (seeds.from, seeds.index));
        Some(found)
    }
}

fn gcd(one: u64, other: u64) -> u64 {
    if other == 0 { one } else { gcd(other, one % other) }
}

/// The number by which `number` has to be multiplied for a remainder of 1; they have no divisor in
/// common. Source: Euclid's algorithm, extended.
fn inverse(number: u64, of: u64) -> u64 {
    let (mut rest, mut next) = (of as i64, number as i64);
    let (mut factor, mut next_factor) = (0, 1);
    while next > 0 {
        let times = rest / next;
        (rest, next) = (next, rest - times * next);
        (factor, next_factor) = (next_factor, factor - times * next_factor);
    }
    factor.rem_euclid(of as i64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn shard(from: u64, to: u64, index: u64, of: u64) -> Seeds {
        Seeds { from, to, index, of }
    }

    #[test]
    fn numbers_that_are_no_seeds_are_refused() {
        assert_eq!(shard(3, 3, 0, 1).check(), Ok(()));
        assert_eq!(shard(0, u64::MAX, 9_999, 10_000).check(), Ok(()));
        let refused = |seeds: Seeds| seeds.check().expect_err("no seeds").to_string();
        assert!(refused(shard(4, 3, 0, 1)).contains("4..3 end before they begin"));
        for (index, of) in [(0, 0), (1, 1), (u64::MAX, 3), (0, u64::MAX), (0, SHARDS_MAX + 1)] {
            let expected = format!("no shard {index}/{of}");
            assert!(refused(shard(0, 9, index, of)).contains(&expected));
        }
    }

    #[test]
    fn what_was_left_out_is_named() {
        let left_out = |all: &[Seeds]| Seeds::left_out(all).expect("it is known");
        assert_eq!(left_out(&[shard(0, 30, 0, 3), shard(0, 30, 2, 3)]), [shard(0, 30, 1, 3)]);
        assert_eq!(left_out(&[shard(0, 30, 0, 2), shard(0, 30, 1, 2)]), []);
        // One ended early, and a range has a hole.
        assert_eq!(left_out(&[shard(0, 7, 0, 2), shard(0, 9, 1, 2)]), [shard(7, 9, 0, 2)]);
        assert_eq!(left_out(&[Seeds::range(5, 9), Seeds::range(0, 2)]), [Seeds::range(2, 5)]);
        assert_eq!(Seeds::left_out(&[shard(0, 9, 0, 9_999), shard(0, 9, 0, 10_000)]), None);
    }

    fn seeds() -> impl Strategy<Value = Seeds> {
        (0..40u64, 0..40u64, 1..7u64, 0..7u64)
            .prop_map(|(from, length, of, index)| shard(from, from + length, index % of, of))
    }

    proptest! {
        #[test]
        fn sets_of_seeds_are_what_they_say(all in prop::collection::vec(seeds(), 1..5)) {
            let members = |s: &Seeds| (0..100).filter(|n| s.contains(*n)).collect::<Vec<u64>>();
            for one in &all {
                prop_assert_eq!(one.count(), members(one).len() as u64);
                prop_assert_eq!(one.next(0), members(one).first().copied());
                for other in &all {
                    let both = members(one).into_iter().find(|n| other.contains(*n));
                    prop_assert_eq!(one.common(other), both);
                }
            }
            let (from, to) = (
                all.iter().map(|s| s.from).min().unwrap_or(0),
                all.iter().map(|s| s.to).max().unwrap_or(0),
            );
            let left_out = Seeds::left_out(&all).expect("small numbers of shards");
            for seed in from..to {
                let is_run = all.iter().any(|seeds| seeds.contains(seed));
                let named = left_out.iter().filter(|seeds| seeds.contains(seed)).count();
                prop_assert_eq!(named, usize::from(!is_run), "seed {}", seed);
            }
        }

        #[test]
        fn no_numbers_that_pass_the_check_make_it_panic(
            numbers in prop::collection::vec(any::<(u64, u64, u64, u64)>(), 1..4),
            small in any::<bool>(),
        ) {
            let seeds = |(from, to, index, of): (u64, u64, u64, u64)| {
                let of = if small { of % SHARDS_MAX + 1 } else { of };
                shard(from, to, if small { index % of.max(1) } else { index }, of)
            };
            let all: Vec<Seeds> = numbers.into_iter().map(seeds).collect();
            let good: Vec<Seeds> = all.into_iter().filter(|s| s.check().is_ok()).collect();
            for one in &good {
                let _ = (one.count(), one.next(u64::MAX), one.contains(u64::MAX));
                for other in &good {
                    let _ = one.common(other);
                }
            }
            let _ = Seeds::left_out(&good);
        }
    }
}
