//! Chen's configurator: a period and a margin from wanted bounds, or why there are none.
//!
//! **Problem.** Nobody can say which timeout is right; but one can say how soon a crash must be
//! noticed, and how rare mistakes must be.
//!
//! **Idea.** Three bounds are wanted: detection within `T`, mistakes at least `R` apart on average,
//! none lasting longer than `M` on average. Three numbers of the link are known: the loss `p`, mean
//! and variance `V` of delays; *not* their distribution. By a one-sided Chebyshev inequality a
//! heartbeat that was due `x` ago is late or lost with probability at most
//! `(V + p x^2) / (V + x^2)`, whatever the distribution. With `t = T - mean`:
//!
//! ```text
//!   every_max  = min(q M, t)                 q = (1 - p) t^2 / (V + t^2)
//!   f(every)   = every * product over j = 1 .. ceil(t / every) - 1 of
//!                (V + (t - j every)^2) / (V + p (t - j every)^2)
//!   every      = the largest up to every_max with f(every) >= R
//!   margin     = t - every
//! ```
//!
//! **Guarantees.** The bounds hold for every distribution of delays with that mean and variance, if
//! messages behave independently; so they are met with room to spare on most. They do not hold for
//! links whose losses come in bursts: tune those on a trace and look at what is measured.
//!
//! **Infeasible** is an answer: no period is small enough ([`Infeasible`]).
//!
//! Source: Chen, Toueg and Aguilera (2002), sections 5.2 and 6.4.

use super::trace::Link;
use std::fmt;

/// Periods are searched in steps of one in a thousand.
const STEP: f64 = 0.999;
/// A bound on a time, at most: a century. Unit: seconds.
const TIME_MAX: f64 = 3.2e9;

/// What is wanted. Unit: seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Target {
    /// A crash is detected within this.
    pub detection: f64,
    /// Mistakes are on average at least so far apart.
    pub recurrence: f64,
    /// A mistake lasts on average at most so long.
    pub duration: f64,
}

/// What does it. Unit: seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tuned {
    /// The period of heartbeats.
    pub every: f64,
    /// Chen's margin.
    pub margin: f64,
    /// Mistakes are on average at least so far apart, whatever the distribution.
    pub recurrence: f64,
}

/// Why nothing does it. Unit: seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Infeasible {
    /// The heartbeat before the crash arrives too late already.
    SlowerThanLink {
        /// The mean delay.
        mean: f64,
    },
    /// Even the shortest period leads to mistakes that last too long.
    Lasting {
        /// The longest period that would do.
        every: f64,
        /// The shortest that is allowed.
        every_min: f64,
    },
    /// Even the shortest period leads to mistakes too often.
    TooOften {
        /// How far apart mistakes are with the best period.
        recurrence: f64,
        /// A bound on detection that could be met; none below an hour.
        detection: Option<f64>,
    },
}

impl fmt::Display for Infeasible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Infeasible::SlowerThanLink { mean } => write!(
                f,
                "no detector can: a heartbeat alone takes {} on average; allow more than that for \
                 detection",
                show(*mean)
            ),
            Infeasible::Lasting { every, every_min } => write!(
                f,
                "mistakes would last too long: that takes a heartbeat each {}, and the shortest \
                 period is {} (--every-min); allow longer mistakes",
                show(*every),
                show(*every_min)
            ),
            Infeasible::TooOften { recurrence, detection } => {
                write!(
                    f,
                    "mistakes would come too often: with any period that is allowed they can be \
                     {} apart, or less",
                    show(*recurrence)
                )?;
                match detection {
                    Some(detection) => write!(f, "; detection<={} could be met", show(*detection)),
                    None => write!(f, "; no detection within an hour would do: mend the link"),
                }
            }
        }
    }
}

impl std::error::Error for Infeasible {}

/// Solves for period and margin; no period is below `every_min`.
///
/// Errors: nothing does it, and why.
pub fn configure(link: &Link, target: &Target, every_min: f64) -> Result<Tuned, Infeasible> {
    let best = solve(link, target, every_min)?;
    if best.recurrence >= target.recurrence {
        return Ok(best);
    }
    let feasible = |detection: f64| {
        let asked = Target { detection, duration: target.duration, ..*target };
        solve(link, &asked, every_min).is_ok_and(|it| it.recurrence >= target.recurrence)
    };
    let mut detection = target.detection;
    while detection < 3_600.0 && !feasible(detection) {
        detection *= 1.02;
    }
    let detection = (detection < 3_600.0).then_some(detection);
    Err(Infeasible::TooOften { recurrence: best.recurrence, detection })
}

/// The largest period that does it; if none does, the one with the rarest mistakes.
fn solve(link: &Link, target: &Target, every_min: f64) -> Result<Tuned, Infeasible> {
    let (loss, variance) = (link.loss, link.deviation * link.deviation);
    let rest = target.detection - link.mean;
    if rest <= 0.0 {
        return Err(Infeasible::SlowerThanLink { mean: link.mean });
    }
    let share = (1.0 - loss) * rest * rest / (variance + rest * rest);
    let every_max = (share * target.duration).min(rest);
    if every_max < every_min {
        return Err(Infeasible::Lasting { every: every_max, every_min });
    }
    let mut every = every_max;
    let mut best = Tuned { every, margin: rest - every, recurrence: 0.0 };
    while every >= every_min {
        let recurrence = recurrence(every, rest, variance, loss);
        if recurrence > best.recurrence {
            best = Tuned { every, margin: rest - every, recurrence };
        }
        if recurrence >= target.recurrence {
            break;
        }
        every *= STEP;
    }
    Ok(best)
}

/// `f` of the essay: how far apart mistakes are, at least.
fn recurrence(every: f64, rest: f64, variance: f64, loss: f64) -> f64 {
    let factors = (rest / every).ceil() as u64 - 1;
    let mut product = every;
    for j in 1..=factors {
        let x = rest - j as f64 * every;
        let late = variance + loss * x * x;
        product *= if late > 0.0 { (variance + x * x) / late } else { f64::INFINITY };
        if product > 1e30 {
            return 1e30;
        }
    }
    product
}

impl Target {
    /// Reads `detection<=1s,mistakes<=1/day,duration<=2s`. Mistakes may last as long as detection
    /// takes, if nothing is said of them.
    ///
    /// Errors: what is wrong, and what to write.
    pub fn parse(text: &str) -> Result<Target, String> {
        let (mut detection, mut recurrence, mut duration) = (None, None, None);
        for part in text.split(',') {
            let wrong = || {
                format!(
                    "'{part}' is no bound; write 'detection<=1s,mistakes<=1/day' and, if you \
                     want, ',duration<=2s'"
                )
            };
            let (key, value) = part.split_once("<=").ok_or_else(wrong)?;
            let (slot, value) = match key.trim() {
                "detection" => (&mut detection, seconds(value.trim())?),
                "duration" => (&mut duration, seconds(value.trim())?),
                "mistakes" => (&mut recurrence, apart(value.trim())?),
                _ => return Err(wrong()),
            };
            if slot.replace(value).is_some() {
                return Err(format!("'{}' is bounded twice", key.trim()));
            }
        }
        let missing = |key: &str| format!("nothing is said of '{key}'; write '{key}<=..' too");
        let detection = detection.ok_or_else(|| missing("detection"))?;
        let recurrence = recurrence.ok_or_else(|| missing("mistakes"))?;
        Ok(Target { detection, recurrence, duration: duration.unwrap_or(detection) })
    }
}

const UNITS: &[(&str, f64)] = &[
    ("us", 1e-6),
    ("ms", 1e-3),
    ("s", 1.0),
    ("min", 60.0),
    ("h", 3_600.0),
    ("hour", 3_600.0),
    ("d", 86_400.0),
    ("day", 86_400.0),
    ("week", 604_800.0),
    ("month", 2_592_000.0),
    ("year", 31_536_000.0),
];

/// Reads a time such as `250ms`. Unit: seconds.
///
/// Errors: it is none, not above zero, or beyond a century.
pub fn seconds(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is no time; write 250ms, 1s, 2min or 3h");
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| wrong())?;
    let unit = UNITS.iter().find(|(name, _)| *name == &text[digits.len()..]).ok_or_else(wrong)?.1;
    let time = number * unit;
    match time > 0.0 && time <= TIME_MAX {
        true => Ok(time),
        false => Err(format!("a time of {text}; take more than nothing and at most a century")),
    }
}

/// Reads a rate such as `1/day`. Unit: seconds between two.
fn apart(text: &str) -> Result<f64, String> {
    let wrong = || format!("'{text}' is no rate; write 1/day, 3/h or 1/month");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let count: f64 = count.parse().map_err(|_| wrong())?;
    let unit = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(wrong)?.1;
    match count > 0.0 && unit / count <= TIME_MAX {
        true => Ok(unit / count),
        false => Err(format!("a rate of {text}; take one above zero, and at least one a century")),
    }
}

/// A time as people read it. Unit: seconds.
pub fn show(time: f64) -> String {
    match time {
        ..1e-3 => format!("{:.0} us", time * 1e6),
        ..1.0 => format!("{:.1} ms", time * 1e3),
        ..300.0 => format!("{time:.2} s"),
        ..10_800.0 => format!("{:.1} min", time / 60.0),
        ..259_200.0 => format!("{:.1} h", time / 3_600.0),
        ..63_072_000.0 => format!("{:.1} days", time / 86_400.0),
        ..3.2e10 => format!("{:.0} years", time / 31_536_000.0),
        _ => "more than a thousand years".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::MILLISECOND;
    use super::super::generate;
    use super::super::measure::Replay;
    use super::super::subjects::Detector;
    use super::*;

    /// The example of Chen 2002, section 5: detection within 30 s, one mistake in a month, each
    /// corrected within a minute; one message in a hundred lost, mean delay and variance 0.02. The
    /// paper sends each 9.71 s.
    #[test]
    fn the_example_of_the_paper() {
        let link = Link { loss: 0.01, mean: 0.02, deviation: 0.02_f64.sqrt() };
        let target = Target { detection: 30.0, recurrence: 2_592_000.0, duration: 60.0 };
        let tuned = configure(&link, &target, 1e-3).expect("feasible");
        assert!((9.70..9.73).contains(&tuned.every), "{tuned:?}");
        assert!((tuned.every + tuned.margin - 29.98).abs() < 1e-9, "{tuned:?}");
    }

    /// What is promised is measured, on two hundred random links.
    #[test]
    fn what_the_configurator_promises_is_kept() {
        let mut state = 1_u64;
        let mut draw = |below: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(99);
            (state >> 33) % below
        };
        let mut tested = 0;
        for seed in 0..200 {
            let deviation = (1 + draw(30)) as f64 * 1e-3;
            let mean = deviation + draw(50) as f64 * 1e-3;
            let link = Link { loss: draw(50) as f64 * 1e-3, mean, deviation };
            let target =
                Target { detection: 0.4 + draw(8) as f64 * 0.2, recurrence: 60.0, duration: 1.0 };
            let Ok(tuned) = configure(&link, &target, 1e-3) else { continue };
            let trace = generate::link(&link, seed, tuned.every, 6_000);
            let replay = Replay::new(&trace, Detector::Chen);
            let quality = replay.measure(Detector::Chen, (tuned.margin * 1e9) as u64);
            let hours = trace.length() as f64 / (3_600.0 * 1_000.0 * MILLISECOND as f64);
            let allowed = hours * 60.0; // one a minute
            assert!(
                quality.mistakes as f64 <= allowed + 3.0 * allowed.sqrt(),
                "{link:?} {tuned:?}"
            );
            assert!(quality.detection_mean <= target.detection, "{link:?} {tuned:?} {quality:?}");
            tested += 1;
        }
        assert!(tested >= 150, "only {tested} links could be served");
    }

    #[test]
    fn infeasible_targets_are_named_with_a_reason() {
        let link = Link { loss: 0.3, mean: 0.05, deviation: 0.05 };
        let target = |detection, recurrence, duration| Target { detection, recurrence, duration };
        let why = |target: Target| configure(&link, &target, 1e-2).expect_err("infeasible");
        assert!(matches!(why(target(0.04, 1.0, 1.0)), Infeasible::SlowerThanLink { .. }));
        assert!(matches!(why(target(1.0, 1.0, 1e-3)), Infeasible::Lasting { .. }));
        let error = why(target(0.1, 2_592_000.0, 1.0));
        let Infeasible::TooOften { detection: Some(detection), .. } = error else {
            panic!("{error:?}")
        };
        let again = configure(&link, &target(detection, 2_592_000.0, 1.0), 1e-2);
        assert!(again.is_ok(), "what was said to be feasible is");
        assert!(error.to_string().contains("could be met"), "{error}");
    }

    #[test]
    fn targets_are_read_and_what_is_wrong_is_named() {
        let target = Target::parse("detection<=1s, mistakes<=2/day,duration<=500ms").expect("good");
        assert_eq!(target, Target { detection: 1.0, recurrence: 43_200.0, duration: 0.5 });
        assert_eq!(Target::parse("detection<=1s,mistakes<=1/day").expect("good").duration, 1.0);
        let error = |text: &str| Target::parse(text).expect_err("wrong");
        assert!(error("detection<=1s").contains("nothing is said of 'mistakes'"));
        assert!(error("detection<=1s,detection<=2s,mistakes<=1/day").contains("bounded twice"));
        assert!(error("detection=1s").contains("is no bound"));
        assert!(error("detection<=0s,mistakes<=1/day").contains("more than nothing"));
        assert!(error("detection<=-1s,mistakes<=1/day").contains("more than nothing"));
        assert!(error("detection<=NaNs,mistakes<=1/day").contains("is no time"));
        assert!(error("detection<=1s,mistakes<=0/day").contains("above zero"));
        assert!(error("detection<=1s,mistakes<=1").contains("is no rate"));
        assert!(error("detection<=1parsec,mistakes<=1/day").contains("is no time"));
        assert!(error("").contains("is no bound"));
    }
}
