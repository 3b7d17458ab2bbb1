//! How wrong a clock becomes that nobody corrects.
//!
//! **Problem.** A quartz runs a little too fast or too slow, and how much changes with temperature
//! and age. What was known of the true time is worth less with each second that passes since.
//!
//! **Idea.** The manufacturer promises a bound on the rate. Knowledge that is `elapsed` old is
//! wrong by at most `elapsed x bound` more than when it was fresh: its *dispersion* grows.
//!
//! **Guarantees.** [`DriftBound::dispersion`] is exact and rounded up: 6 ms in half a minute and
//! 17.28 s in a day, at 200 ppm.
//!
//! A bound can be said in two ways. A data sheet counts in true seconds: in one of them the clock
//! counts at least 1 - p. Whoever reads the clock counts in the seconds of the clock, and each of
//! them may be 1 / (1 - p) true ones, which is a little more than 1 + p. [`DriftBound`] is in
//! seconds of the clock; [`DriftBound::of_data_sheet`] makes one of the other kind.
//!
//! **Source.** Mills et al., RFC 5905 (2010), section 4: PHI, and dispersion; Kleppmann, "Designing
//! Data-Intensive Applications" (2017), chapter 8, for 200 ppm, the figure that Google goes by.

use std::fmt;
use std::time::Duration;

const BILLION: u128 = 1_000_000_000;

/// A rate, or a difference of two. Unit: parts per thousand million, beside 1.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Ppb(pub i64);

impl Ppb {
    /// So many parts per million.
    pub const fn from_ppm(ppm: i64) -> Ppb {
        Ppb(ppm * 1_000)
    }

    /// What the rate adds to `elapsed`, rounded towards zero. Unit: nanoseconds.
    pub fn of(self, elapsed: Duration) -> i128 {
        let nanos = i128::try_from(elapsed.as_nanos()).unwrap_or(i128::MAX / (1 << 40));
        nanos * i128::from(self.0) / BILLION as i128
    }
}

impl fmt::Display for Ppb {
    /// In parts per million with its sign, as `-12.345 ppm`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0.unsigned_abs() / 1_000, self.0.unsigned_abs() % 1_000);
        let sign = if self.0 < 0 { '-' } else { '+' };
        write!(f, "{sign}{whole}.{rest:03} ppm")
    }
}

/// A clock never runs faster or slower than true time by more than this.
///
/// Unit: parts per thousand million, per second of the clock. Range: below half a thousand million.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DriftBound(u32);

impl Default for DriftBound {
    /// 200 ppm: wider than any data sheet, and what Google assumes of its machines.
    fn default() -> Self {
        DriftBound(200_000)
    }
}

impl DriftBound {
    /// So much per second of the clock.
    ///
    /// Panics: if it is half or more: that is no clock.
    pub const fn new(ppb: u32) -> DriftBound {
        assert!(ppb < 500_000_000, "a clock that may run at half its rate is none");
        DriftBound(ppb)
    }

    /// That of a clock of which so much per *true* second is promised.
    ///
    /// Panics: if it is a third or more.
    pub const fn of_data_sheet(ppb: u32) -> DriftBound {
        assert!(ppb < 333_000_000, "a clock that may run at two thirds of its rate is none");
        let (ppb, billion) = (ppb as u64, BILLION as u64);
        DriftBound::new((ppb * billion).div_ceil(billion - ppb) as u32)
    }

    /// As a rate.
    pub const fn ppb(self) -> Ppb {
        Ppb(self.0 as i64)
    }

    /// By how much a clock may have gone wrong while it counted `elapsed`, rounded up.
    pub fn dispersion(self, elapsed: Duration) -> Duration {
        let nanos = (elapsed.as_nanos() * u128::from(self.0)).div_ceil(BILLION);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn six_milliseconds_in_half_a_minute_and_seventeen_seconds_in_a_day() {
        let bound = DriftBound::default();
        assert_eq!(bound.dispersion(Duration::from_secs(30)), Duration::from_millis(6));
        assert_eq!(bound.dispersion(Duration::from_secs(86_400)), Duration::from_millis(17_280));
    }

    #[test]
    fn dispersion_is_rounded_up_and_does_not_overflow() {
        let bound = DriftBound::default();
        assert_eq!(bound.dispersion(Duration::ZERO), Duration::ZERO);
        assert_eq!(bound.dispersion(Duration::from_nanos(1)), Duration::from_nanos(1));
        assert_eq!(bound.dispersion(Duration::from_nanos(5_001)), Duration::from_nanos(2));
        assert_eq!(bound.dispersion(Duration::MAX), Duration::from_nanos(u64::MAX));
    }

    /// A slow clock at the limit of its data sheet is covered only by the bound that is counted in
    /// its own seconds.
    #[test]
    fn a_slow_second_is_longer_than_one_and_the_bound() {
        let truth = Duration::from_secs(1_000_000);
        let clock = truth - DriftBound::new(200_000).dispersion(truth);
        let naive = clock + DriftBound::new(200_000).dispersion(clock);
        assert!(naive < truth);
        assert!(clock + DriftBound::of_data_sheet(200_000).dispersion(clock) >= truth);
        assert_eq!(DriftBound::of_data_sheet(200_000), DriftBound::new(200_041));
    }

    #[test]
    fn rates_are_read_in_parts_per_million() {
        assert_eq!(Ppb::from_ppm(-12).to_string(), "-12.000 ppm");
        assert_eq!(Ppb(345).to_string(), "+0.345 ppm");
        assert_eq!(Ppb::from_ppm(200).of(Duration::from_secs(30)), 6_000_000);
    }
}
