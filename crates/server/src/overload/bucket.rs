//! So many requests in a second, and so many at once.
//!
//! Source: ITU-T I.371 (2004), "generic cell rate algorithm": a bucket of tokens whose whole state
//! is the moment at which it would be full again.

use std::time::Duration;

const SECOND: u64 = 1_000_000_000;

/// A bucket of tokens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bucket {
    /// Time in which a token comes. Unit: nanoseconds.
    every: u64,
    /// In which the bucket fills.
    fills_in: u64,
    /// When it will be full.
    full_at: u64,
}

impl Bucket {
    /// A full one. Range: both at least 1.
    pub(super) fn new(per_second: u64, burst: u64) -> Bucket {
        let every = (SECOND / per_second).max(1);
        Bucket { every, fills_in: every.saturating_mul(burst), full_at: 0 }
    }

    /// When there is a token.
    ///
    /// Errors: how long that is from now.
    pub(super) fn looks(&self, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let after = self.full_at.max(now).saturating_add(self.every);
        let ahead = after.saturating_sub(now).saturating_sub(self.fills_in);
        if ahead == 0 { Ok(()) } else { Err(Duration::from_nanos(ahead)) }
    }

    /// Takes one that was looked for.
    pub(super) fn take(&mut self, now: Duration) {
        self.full_at = self.full_at.max(nanos(now)).saturating_add(self.every);
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn taken(bucket: &mut Bucket, now: Duration) -> u32 {
        let mut count = 0;
        while bucket.looks(now).is_ok() {
            bucket.take(now);
            count += 1;
        }
        count
    }

    #[test]
    fn a_burst_comes_at_once_and_the_rest_at_its_rate() {
        let mut bucket = Bucket::new(100, 5);
        assert_eq!(taken(&mut bucket, ms(1_000)), 5);
        assert_eq!(bucket.looks(ms(1_000)), Err(ms(10)));
        assert_eq!(bucket.looks(ms(1_004)), Err(ms(6)));
        assert_eq!(taken(&mut bucket, ms(1_010)), 1);
        assert_eq!(taken(&mut bucket, ms(1_035)), 2);
        assert_eq!(taken(&mut bucket, ms(9_000)), 5, "it does not save up more than a burst");
    }

    #[test]
    fn in_the_long_run_it_is_the_rate() {
        let mut bucket = Bucket::new(250, 10);
        let all: u32 = (0..20_000).map(|at| taken(&mut bucket, ms(at))).sum();
        assert!((5_000..=5_010).contains(&all), "{all}");
    }

    #[test]
    fn the_greatest_numbers_overflow_nothing() {
        let mut bucket = Bucket::new(u64::MAX, u64::MAX);
        for _ in 0..1_000 {
            assert_eq!(bucket.looks(Duration::MAX), Ok(()));
            bucket.take(Duration::from_secs(1));
        }
    }
}
