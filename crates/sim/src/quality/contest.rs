//! All detectors on one trace, at equal detection time.
//!
//! **Idea.** A detector that is given more time makes fewer mistakes. So each is set, by its one
//! parameter, to the mean detection time of the fixed timeout or just below, and only then mistakes
//! are counted: a detector never wins by being slow.
//!
//! Which detection time? If nobody says, the one at which the fixed timeout errs about once in
//! [`HEARTBEATS_PER_MISTAKE`] heartbeats: often enough to be counted, rare enough to be of use.

use super::measure::{Quality, Replay};
use super::subjects::Detector;
use super::trace::{Link, Trace};

/// The fixed timeout errs about once in so many heartbeats.
pub const HEARTBEATS_PER_MISTAKE: usize = 500;
/// Halvings of the range of a parameter.
const STEPS: u32 = 14;
/// Points of each line of a plot.
const POINTS: i32 = 17;

/// One detector.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// Which.
    pub detector: Detector,
    /// Its parameter, as [`Detector::range`] counts it.
    pub value: u64,
    /// What it achieves.
    pub quality: Quality,
}

/// All detectors on one trace.
#[derive(Clone, Debug, PartialEq)]
pub struct Contest {
    /// The name of the trace.
    pub trace: String,
    /// How many heartbeats it has.
    pub heartbeats: usize,
    /// Its delays in three numbers.
    pub link: Link,
    /// No detector takes longer on average. Unit: seconds.
    pub detection: f64,
    /// The fixed timeout first; without those that cannot be so fast.
    pub rows: Vec<Row>,
    /// Those that cannot.
    pub too_slow: Vec<Detector>,
}

impl Contest {
    /// The mistakes of the row for each one of the fixed timeout; none if that made none.
    pub fn ratio(&self, row: &Row) -> Option<f64> {
        let fixed = self.rows.first().filter(|first| first.detector == Detector::Fixed)?;
        let count = fixed.quality.mistakes;
        (count > 0).then(|| row.quality.mistakes as f64 / count as f64)
    }
}

/// Measures all detectors on the trace at that mean detection time (unit: seconds), or at one that
/// suits the trace.
pub fn contest(trace: &Trace, detection: Option<f64>) -> Contest {
    let fixed = Replay::new(trace, Detector::Fixed);
    let detection = detection.unwrap_or_else(|| {
        let wanted = (trace.heartbeats() / HEARTBEATS_PER_MISTAKE).max(1) as u64;
        let range = Detector::Fixed.range(trace.every);
        let errs_enough = |value| fixed.measure(Detector::Fixed, value).mistakes >= wanted;
        let value = last(range, errs_enough).unwrap_or(range.0);
        fixed.measure(Detector::Fixed, value).detection_mean
    });
    let mut rows = Vec::new();
    let mut too_slow = Vec::new();
    for detector in Detector::ALL {
        let own = Replay::new(trace, *detector);
        let is_fast = |value| own.measure(*detector, value).detection_mean <= detection;
        match last(detector.range(trace.every), is_fast) {
            Some(value) => {
                let quality = own.measure(*detector, value);
                rows.push(Row { detector: *detector, value, quality });
            }
            None => too_slow.push(*detector),
        }
    }
    let (name, heartbeats) = (trace.name.clone(), trace.heartbeats());
    Contest { trace: name, heartbeats, link: trace.link(), detection, rows, too_slow }
}

/// For each row of the contest, what its detector achieves with a smaller and a larger parameter.
pub fn sweep(trace: &Trace, contest: &Contest) -> Vec<(Detector, Vec<Quality>)> {
    let line = |row: &Row| {
        let replay = Replay::new(trace, row.detector);
        let (least, most) = row.detector.range(trace.every);
        let point = |step: i32| {
            let factor = 1.12_f64.powi(step - POINTS / 3);
            let value = ((row.value as f64 * factor) as u64).clamp(least, most);
            replay.measure(row.detector, value)
        };
        (row.detector, (0..POINTS).map(point).collect())
    };
    contest.rows.iter().map(line).collect()
}

/// The largest value of the range for which something holds that holds for small ones; by halving
/// on a logarithmic scale. None if it does not hold for the least.
fn last((least, most): (u64, u64), holds: impl Fn(u64) -> bool) -> Option<u64> {
    if !holds(least) {
        return None;
    }
    let (mut low, mut high) = ((least as f64).ln(), (most as f64).ln());
    for _ in 0..STEPS {
        let middle = f64::midpoint(low, high);
        match holds(middle.exp() as u64) {
            true => low = middle,
            false => high = middle,
        }
    }
    Some((low.exp() as u64).max(least))
}

#[cfg(test)]
mod tests {
    use super::super::MILLISECOND;
    use super::super::generate::generate;
    use super::*;

    fn on(name: &str) -> Contest {
        let trace = generate(name, 1, 100 * MILLISECOND, 20_000).expect("known");
        contest(&trace, None)
    }

    fn ratio(contest: &Contest, detector: Detector) -> f64 {
        let row = contest.rows.iter().find(|row| row.detector == detector).expect("it took part");
        contest.ratio(row).expect("the fixed timeout makes mistakes")
    }

    #[test]
    fn nobody_wins_by_being_slow() {
        for name in super::super::generate::NAMES {
            let contest = on(name);
            assert_eq!(contest.rows[0].detector, Detector::Fixed, "{name}");
            assert!(contest.rows[0].quality.mistakes >= 20, "{name}: too few to compare");
            for row in &contest.rows {
                assert!(row.quality.detection_mean <= contest.detection, "{name}: {row:?}");
            }
        }
    }

    /// The figure that adaptive detectors are there for: a tenth of the mistakes of the best fixed
    /// timeout that detects as fast, on links that jitter. Who reaches it depends on the jitter.
    #[test]
    fn adaptive_detectors_make_a_tenth_of_the_mistakes_where_there_is_something_to_adapt_to() {
        assert!(ratio(&on("normal"), Detector::Chen) <= 0.1);
        assert!(ratio(&on("step"), Detector::Phi) <= 0.1);
        assert!(ratio(&on("regimes"), Detector::Jacobson) <= 0.15);
        assert!(ratio(&on("loss"), Detector::Traffic) <= 0.1);
    }

    /// Where delays are independent of each other and of time, and their tail is exponential, the
    /// past says nothing: a detector that claims a tenth there measures wrongly.
    #[test]
    fn nobody_adapts_to_what_cannot_be_foreseen() {
        for (name, detector) in [("exponential", Detector::Chen), ("bursts", Detector::Phi)] {
            assert!(ratio(&on(name), detector) > 0.1, "{name}");
        }
    }

    #[test]
    fn the_last_value_that_holds_is_found() {
        assert_eq!(last((1, 1_000_000), |_| false), None);
        let found = last((1, 1_000_000), |value| value <= 31_415).expect("some");
        assert!((31_350..=31_415).contains(&found), "{found}");
    }
}
