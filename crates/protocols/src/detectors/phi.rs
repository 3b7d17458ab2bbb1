//! Phi accrual: not whether a peer has crashed, but how strongly its silence speaks for it.
//!
//! **Problem.** Users of one detector want different things: one wants to route around a peer soon,
//! another to move its data only when it is certain.
//!
//! **Idea.** The intervals between arrivals are taken for normally distributed. The *suspicion
//! level* is the logarithm of how unlikely the present silence is, if the peer lives:
//! `phi = -log10(P(interval > silence))`. At phi 1 one suspicion in ten is wrong, at 3 one in a
//! thousand. Each user sets its own threshold; mean and deviation follow the link.
//!
//! **Integers.** Phi of a normal tail is read from a table of 161 values, between which lines are
//! drawn: at most 0.9 thousandths of phi above the true value in its range, and never below by more
//! than half a millionth. Suspicion is an instant (the deadline) rather than a level that must be
//! asked for: the table is read backwards.
//!
//! **Guarantees.** Strong completeness: the deadline is finite, at most
//! `interval_max + z * interval_max` after the last arrival. Accuracy: mistakes come at about the
//! rate `10^-threshold` for each heartbeat *where intervals are normal*; with a heavy tail there
//! are many more (`quorate fd bench` shows how many), and loss counts as a long interval. Where
//! jitter ends, mistakes end.
//!
//! **Two traps.** A quiet link has hardly any deviation, and then the least delay is suspect: there
//! is a least deviation. An outage is a long interval, and if it were learned as it is, the next
//! crash would be noticed late: an interval counts as at most `interval_max`.
//!
//! **Bounds.** [`WINDOW_MAX`] intervals; one more pushes the oldest out. Thresholds up to
//! [`THRESHOLD_MAX`].
//!
//! Source: Hayashibara, Défago, Yared and Katayama, "The φ Accrual Failure Detector" (2004).

use super::{Estimator, Mutant, Planted};
use quorate_core::Time;
use std::collections::VecDeque;
use std::time::Duration;

/// Intervals that are remembered, at most.
pub const WINDOW_MAX: usize = 1_000;
/// The highest threshold, and the highest level. Unit: thousandths of phi.
pub const THRESHOLD_MAX: u32 = 57_000;

/// The table begins at so many deviations below the mean, in eighths.
const BELOW: i64 = 32;
/// Deviations between two values of the table are an eighth, in units of [`UNIT`].
const STEP: i64 = UNIT / 8;
/// One deviation.
const UNIT: i64 = 1 << 20;

/// `-log10` of the upper tail of the normal distribution, at -4, -3 7/8, .. 16 deviations. Unit:
/// millionths.
const TAIL: [i64; 161] = [
    14, 23, 38, 63, 101, 160, 251, 386, 587, 878, 1_296, 1_886, 2_705, 3_828, 5_342, 7_355, 9_994,
    13_406, 17_756, 23_229, 30_029, 38_373, 48_492, 60_628, 75_026, 91_937, 111_611, 134_295,
    160_231, 189_653, 222_786, 259_844, 301_030, 346_535, 396_538, 451_205, 510_692, 575_142,
    644_688, 719_451, 799_546, 885_074, 976_131, 1_072_806, 1_175_177, 1_283_318, 1_397_298,
    1_517_178, 1_643_016, 1_774_864, 1_912_770, 2_056_779, 2_206_932, 2_363_267, 2_525_818,
    2_694_619, 2_869_699, 3_051_086, 3_238_805, 3_432_881, 3_633_336, 3_840_190, 4_053_463,
    4_273_172, 4_499_335, 4_731_967, 4_971_082, 5_216_695, 5_468_818, 5_727_464, 5_992_644,
    6_264_367, 6_542_646, 6_827_488, 7_118_903, 7_416_899, 7_721_485, 8_032_667, 8_350_454,
    8_674_850, 9_005_864, 9_343_501, 9_687_767, 10_038_667, 10_396_206, 10_760_390, 11_131_223,
    11_508_709, 11_892_854, 12_283_660, 12_681_132, 13_085_273, 13_496_088, 13_913_579, 14_337_750,
    14_768_603, 15_206_143, 15_650_371, 16_101_290, 16_558_903, 17_023_213, 17_494_222, 17_971_932,
    18_456_345, 18_947_464, 19_445_291, 19_949_828, 20_461_076, 20_979_038, 21_503_714, 22_035_108,
    22_573_221, 23_118_053, 23_669_608, 24_227_885, 24_792_888, 25_364_616, 25_943_072, 26_528_256,
    27_120_171, 27_718_817, 28_324_195, 28_936_306, 29_555_153, 30_180_734, 30_813_053, 31_452_109,
    32_097_904, 32_750_439, 33_409_714, 34_075_731, 34_748_490, 35_427_993, 36_114_239, 36_807_230,
    37_506_967, 38_213_450, 38_926_680, 39_646_658, 40_373_384, 41_106_859, 41_847_085, 42_594_060,
    43_347_787, 44_108_265, 44_875_496, 45_649_479, 46_430_216, 47_217_707, 48_011_952, 48_812_952,
    49_620_708, 50_435_220, 51_256_488, 52_084_513, 52_919_295, 53_760_836, 54_609_134, 55_464_191,
    56_326_008, 57_194_584,
];

/// The suspicion level of a silence that ends `above` deviations above the mean.
///
/// Unit: millionths of a deviation (2^-20 of one) to millionths of phi. Saturates at both ends of
/// the table: 4 deviations below the mean and 16 above it.
fn level(above: i64) -> i64 {
    let from_begin = (above + BELOW * STEP).clamp(0, 160 * STEP);
    let (row, rest) = ((from_begin / STEP) as usize, from_begin % STEP);
    let next = TAIL[(row + 1).min(160)];
    TAIL[row] + (next - TAIL[row]) * rest / STEP
}

/// How many deviations above the mean the level is reached: the inverse of [`level`].
fn deviations(millionths: i64) -> i64 {
    let row = TAIL.partition_point(|value| *value <= millionths).clamp(1, 160);
    let (low, high) = (TAIL[row - 1], TAIL[row]);
    let rest = (millionths - low).clamp(0, high - low) * STEP / (high - low);
    (row as i64 - 1 - BELOW) * STEP + rest
}

/// The parameters of [`Phi`].
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// Suspected from this level on. Unit: thousandths of phi. Range: 1 to [`THRESHOLD_MAX`].
    pub threshold: u32,
    /// Intervals that are remembered. Range: 1 to [`WINDOW_MAX`].
    pub window: usize,
    /// The deviation is taken for at least this.
    pub deviation_min: Duration,
    /// An interval counts as at most this.
    pub interval_max: Duration,
    /// What is taken for the first interval: the sender's period.
    pub first: Duration,
}

/// The phi accrual detector.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Phi {
    config: Config,
    /// Unit: nanoseconds.
    intervals: VecDeque<u64>,
    sum: u128,
    squares: u128,
    last: Time,
    is_first: bool,
    planted: Planted,
}

impl Phi {
    /// Mean and deviation of the intervals. Unit: nanoseconds.
    fn moments(&self) -> (u64, u64) {
        let count = self.intervals.len() as u128;
        if count == 0 {
            let first = self.config.first.as_nanos() as u64;
            return (first, (first / 4).max(self.deviation_min()));
        }
        let mean = self.sum / count;
        // The mean of squares minus the square of the mean, over one denominator: exact.
        let variance = (count * self.squares - self.sum * self.sum) / (count * count);
        let deviation = u64::try_from(variance.isqrt()).unwrap_or(u64::MAX);
        (u64::try_from(mean).unwrap_or(u64::MAX), deviation.max(self.deviation_min()))
    }

    fn deviation_min(&self) -> u64 {
        (self.config.deviation_min.as_nanos() as u64).max(1)
    }

    /// The suspicion level at `now`.
    ///
    /// Unit: thousandths of phi. Range: 0 to [`THRESHOLD_MAX`], where it stays.
    pub fn phi(&self, now: Time) -> u32 {
        let (mean, deviation) = self.moments();
        let silence = now.since(self.last).as_nanos() as i128;
        let above = (silence - i128::from(mean)) * i128::from(UNIT) / i128::from(deviation);
        let bound = i128::from(BELOW * STEP);
        let above = above.clamp(-bound, 4 * bound) as i64;
        ((level(above) / 1_000) as u32).min(THRESHOLD_MAX)
    }

    fn learn(&mut self, interval: u64) {
        let longest = self.config.interval_max.as_nanos() as u64;
        let interval = match self.planted.is(Mutant::PhiOutageLearned) {
            true => interval,
            false => interval.min(longest),
        };
        self.intervals.push_back(interval);
        let square = |value: u64| u128::from(value) * u128::from(value);
        (self.sum, self.squares) =
            (self.sum + u128::from(interval), self.squares + square(interval));
        if self.intervals.len() > self.config.window {
            let oldest = self.intervals.pop_front().expect("more than none");
            (self.sum, self.squares) =
                (self.sum - u128::from(oldest), self.squares - square(oldest));
        }
    }
}

impl Estimator for Phi {
    type Config = Config;

    fn new(config: &Config, planted: Planted, now: Time) -> Phi {
        assert!((1..=WINDOW_MAX).contains(&config.window), "a window of {}", config.window);
        assert!((1..=THRESHOLD_MAX).contains(&config.threshold), "phi {}", config.threshold);
        Phi {
            config: *config,
            intervals: VecDeque::new(),
            sum: 0,
            squares: 0,
            last: now,
            is_first: true,
            planted,
        }
    }

    fn heard(&mut self, _number: u64, now: Time) {
        if !self.is_first {
            self.learn(now.since(self.last).as_nanos() as u64);
        }
        (self.last, self.is_first) = (now, false);
    }

    fn deadline(&self) -> Time {
        let (mean, deviation) = self.moments();
        let above = match self.planted.is(Mutant::PhiDeviationLeftOut) {
            true => 0,
            false => i128::from(deviations(i64::from(self.config.threshold) * 1_000)),
        };
        let bearable = i128::from(mean) + i128::from(deviation) * above / i128::from(UNIT);
        let bearable = u64::try_from(bearable.max(0)).unwrap_or(u64::MAX);
        self.last.after(Duration::from_nanos(bearable))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `erfc` by its continued fraction above 2 and its series below: good to ten digits.
    fn reference(z: f64) -> f64 {
        let x = z.abs();
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let upper = if x > 3.0 {
            let mut fraction = x;
            for k in (1..=200).rev() {
                fraction = x + f64::from(k) / fraction;
            }
            density / fraction
        } else {
            let (mut term, mut sum) = (x, x);
            for k in 1..200 {
                term *= x * x / f64::from(2 * k + 1);
                sum += term;
            }
            0.5 - density * sum
        };
        -(if z >= 0.0 { upper } else { 1.0 - upper }).log10()
    }

    #[test]
    fn the_table_is_within_its_stated_error_of_the_normal_tail() {
        for step in -4 * 1_024..=16 * 1_024 {
            let z = f64::from(step) / 1_024.0;
            let error = level((z * UNIT as f64) as i64) as f64 - 1e6 * reference(z);
            assert!((-1.5..900.0).contains(&error), "off by {error} millionths at {z}");
        }
    }

    #[test]
    fn the_table_reads_backwards_as_it_reads_forwards() {
        for millionths in (100..57_000_000).step_by(9_973) {
            let back = level(deviations(millionths));
            assert!((back - millionths).abs() <= 10, "{millionths} became {back}");
        }
        assert_eq!(level(i64::from(i32::MAX)), TAIL[160], "it saturates");
    }

    fn phi(threshold: u32) -> Phi {
        let ms = Duration::from_millis;
        let config = Config {
            threshold,
            window: 100,
            deviation_min: ms(2),
            interval_max: ms(400),
            first: ms(100),
        };
        Phi::new(&config, Planted::default(), Time::default())
    }

    fn at(ms: u64) -> Time {
        Time::from_nanos(ms * 1_000_000)
    }

    #[test]
    fn the_level_grows_with_silence_and_crosses_the_threshold_at_the_deadline() {
        let mut phi = phi(8_000);
        for number in 0..50 {
            phi.heard(number, at(number * 100 + number % 7 * 3));
        }
        let levels: Vec<u32> =
            (0..40).map(|step| phi.phi(phi.last.after(step * at(10).since(at(0))))).collect();
        assert!(levels.is_sorted(), "{levels:?}");
        assert_eq!(levels.last(), Some(&THRESHOLD_MAX));
        let nano = Duration::from_nanos(100_000);
        let deadline = phi.deadline();
        assert!(phi.phi(deadline.after(nano)) >= 8_000);
        assert!(phi.phi(Time::from_nanos(deadline.as_nanos() - 100_000)) < 8_000);
    }

    #[test]
    fn moments_are_those_of_a_naive_computation() {
        let mut phi = phi(1_000);
        let mut arrivals = vec![0_u64];
        for number in 0..300 {
            let next = arrivals.last().expect("one") + 80 + number * 37 % 45;
            arrivals.push(next);
        }
        arrivals.iter().zip(0..).for_each(|(ms, number)| phi.heard(number, at(*ms)));
        let gaps: Vec<f64> = arrivals.windows(2).map(|pair| (pair[1] - pair[0]) as f64).collect();
        let last = &gaps[gaps.len() - 100..];
        let mean = last.iter().sum::<f64>() / 100.0;
        let variance = last.iter().map(|gap| (gap - mean) * (gap - mean)).sum::<f64>() / 100.0;
        let (got_mean, got_deviation) = phi.moments();
        assert!((got_mean as f64 / 1e6 - mean).abs() < 1e-5);
        assert!((got_deviation as f64 / 1e6 - variance.sqrt()).abs() < 1e-5);
    }

    /// Without a least deviation a link without jitter would be suspected at the first delay.
    #[test]
    fn a_quiet_link_makes_nobody_rash() {
        let mut phi = phi(8_000);
        (0..200).for_each(|number| phi.heard(number, at(number * 100)));
        assert!(phi.deadline().since(at(19_900)) > Duration::from_millis(110));
    }

    #[test]
    fn an_outage_counts_as_the_longest_interval() {
        let mut phi = phi(8_000);
        (0..20).for_each(|number| phi.heard(number, at(number * 100)));
        phi.heard(100, at(60_000));
        assert!(phi.deadline().since(at(60_000)) < Duration::from_secs(1));
    }
}
