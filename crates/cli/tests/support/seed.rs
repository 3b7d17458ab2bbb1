//! Randomness that a printed number replays.

/// A generator of pseudo-random numbers.
///
/// Source: Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators" (2014),
/// SplitMix64.
#[derive(Clone, Debug)]
pub(crate) struct Seed(u64);

impl Seed {
    /// A generator that starts at `seed`.
    pub(crate) fn new(seed: u64) -> Seed {
        Seed(seed)
    }

    /// The seed of the environment, or a new one. It is printed, so a failing test shows it.
    pub(crate) fn of_this_run() -> Seed {
        let number = match std::env::var("QUORATE_TEST_SEED") {
            Ok(text) => text.parse().expect("QUORATE_TEST_SEED is a number"),
            Err(_) => {
                let since = std::time::SystemTime::now()
                    .duration_since(std::time::UNIX_EPOCH)
                    .expect("the clock is past 1970");
                // Six digits are enough to vary and short enough to type.
                (u64::from(since.subsec_nanos()) ^ u64::from(std::process::id())) % 1_000_000
            }
        };
        eprintln!("QUORATE_TEST_SEED={number} replays the choices of this run");
        Seed::new(number)
    }

    /// A generator for a part of the test, independent of the others' use of theirs.
    pub(crate) fn fork(&mut self) -> Seed {
        Seed(self.next())
    }

    /// The next 64 bits.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number of `0..limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        assert!(limit > 0, "nothing to choose from");
        (self.next() % limit as u64) as usize
    }

    /// A number of `from..to`.
    pub(crate) fn between(&mut self, from: usize, to: usize) -> usize {
        from + self.below(to - from)
    }

    /// One of `choices`.
    pub(crate) fn pick<'a, T>(&mut self, choices: &'a [T]) -> &'a T {
        &choices[self.below(choices.len())]
    }

    /// `count` arbitrary bytes.
    pub(crate) fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// How long a randomized test causes trouble.
pub(crate) fn chaos_seconds(default: u64) -> u64 {
    match std::env::var("QUORATE_TEST_SECONDS") {
        Ok(text) => text.parse().expect("QUORATE_TEST_SECONDS is a number"),
        Err(_) => default,
    }
}
