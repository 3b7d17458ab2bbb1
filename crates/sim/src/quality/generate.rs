//! Synthetic traces: what links and machines do to heartbeats, from a seed.
//!
//! | name | what |
//! |---|---|
//! | `normal` | 20 ms, give or take 6 ms: jitter as textbooks have it |
//! | `exponential` | 5 ms, and on top an exponential tail of mean 10 ms |
//! | `pareto` | 5 ms, and on top a heavy tail: one in a thousand takes 200 ms and more |
//! | `loss` | as `normal`, and one message in a hundred is lost |
//! | `bursts` | as `normal`, and now and then four of five messages are lost for half a second |
//! | `step` | every ten minutes delay and jitter become threefold, and fall back |
//! | `regimes` | jitter of 1, 4 and 16 ms in turn, some minutes each: an idle, a busy, a full link |
//! | `stalls` | the process stands still for 50 to 400 ms, more often while the machine is busy |
//!
//! Five messages leave in each period; the first is the heartbeat. The same name, seed and length
//! give the same trace.

use super::SECOND;
use super::trace::{Link, Trace};

/// The names of all synthetic traces.
pub const NAMES: &[&str] =
    &["normal", "exponential", "pareto", "loss", "bursts", "step", "regimes", "stalls"];

/// Messages in a period.
const PER: usize = 5;

/// Makes the trace of that name, with so many heartbeats; none if there is no such name.
pub fn generate(name: &str, seed: u64, every: u64, heartbeats: usize) -> Option<Trace> {
    let mut dice = Dice(seed ^ 0x5eed_0000 ^ name.len() as u64);
    let count = heartbeats * PER;
    let sent = |index: usize| every * index as u64 / PER as u64;
    let delays: Vec<Option<u64>> = match name {
        "normal" => (0..count).map(|_| Some(dice.normal(20.0, 6.0))).collect(),
        "exponential" => (0..count).map(|_| Some(ms(5.0 + dice.exponential(10.0)))).collect(),
        "pareto" => (0..count).map(|_| Some(ms(5.0 + dice.pareto()))).collect(),
        "loss" => (0..count).map(|_| dice.unless(0.01, 20.0, 6.0)).collect(),
        "bursts" => bursts(&mut dice, count),
        "step" => (0..count).map(|at| Some(step(&mut dice, sent(at)))).collect(),
        "regimes" => regimes(&mut dice, count, &sent),
        "stalls" => stalls(&mut dice, count, &sent),
        _ => return None,
    };
    Some(Trace { name: name.to_owned(), every, per: PER, delays })
}

/// A link with that loss, mean and deviation: a least delay, and an exponential tail. Unit of
/// `every`: seconds.
pub fn link(link: &Link, seed: u64, every: f64, heartbeats: usize) -> Trace {
    let mut dice = Dice(seed ^ 0x11_4e);
    let Link { loss, mean, deviation } = *link;
    let mut next = |_| {
        let is_lost = dice.unit() < loss;
        let delay = (mean - deviation).max(0.0) + dice.exponential(deviation.min(mean));
        (!is_lost).then_some((delay * SECOND as f64) as u64)
    };
    let delays = (0..heartbeats).map(&mut next).collect();
    Trace { name: "link".to_owned(), every: nanos(every), per: 1, delays }
}

/// The delays of a trace in another order, for another period: each drawn by itself.
pub fn resample(trace: &Trace, seed: u64, every: f64, heartbeats: usize) -> Trace {
    let mut dice = Dice(seed ^ 0x4e5a);
    let count = trace.delays.len() as u64;
    let delays = (0..heartbeats).map(|_| trace.delays[(dice.next() % count) as usize]).collect();
    Trace { name: trace.name.clone(), every: nanos(every), per: 1, delays }
}

fn nanos(seconds: f64) -> u64 {
    ((seconds * SECOND as f64) as u64).max(1)
}

/// A split-mix generator, and the distributions that are wanted. Unit: milliseconds.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// Above 0 and below 1.
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    fn exponential(&mut self, mean: f64) -> f64 {
        -mean * self.unit().ln()
    }

    /// A tail of exponent 1.5 from 2 ms on.
    fn pareto(&mut self) -> f64 {
        (2.0 * self.unit().powf(-1.0 / 1.5) - 2.0).min(60_000.0)
    }

    /// By Box and Muller, and never below 0.1 ms.
    fn normal(&mut self, mean: f64, deviation: f64) -> u64 {
        let radius = (-2.0 * self.unit().ln()).sqrt();
        let angle = (2.0 * std::f64::consts::PI * self.unit()).cos();
        ms((mean + deviation * radius * angle).max(0.1))
    }

    fn unless(&mut self, loss: f64, mean: f64, deviation: f64) -> Option<u64> {
        let is_lost = self.unit() < loss;
        let delay = self.normal(mean, deviation);
        (!is_lost).then_some(delay)
    }
}

/// In whole microseconds, so that the last bit of a logarithm on some machine is none of the trace.
fn ms(number: f64) -> u64 {
    (number * 1_000.0).round() as u64 * 1_000
}

/// Gilbert and Elliott's channel: good, and bad for half a second on average.
fn bursts(dice: &mut Dice, count: usize) -> Vec<Option<u64>> {
    let mut is_bad = false;
    let mut next = |_| {
        is_bad = if is_bad { dice.unit() > 0.04 } else { dice.unit() < 0.000_4 };
        dice.unless(if is_bad { 0.8 } else { 0.0 }, 20.0, 6.0)
    };
    (0..count).map(&mut next).collect()
}

fn step(dice: &mut Dice, sent: u64) -> u64 {
    let is_far = (sent / (600 * SECOND)) % 2 == 1;
    if is_far { dice.normal(60.0, 12.0) } else { dice.normal(20.0, 4.0) }
}

fn regimes(dice: &mut Dice, count: usize, sent: &dyn Fn(usize) -> u64) -> Vec<Option<u64>> {
    let (mut until, mut jitter) = (0, 1.0);
    let mut next = |at: usize| {
        if sent(at) >= until {
            until = sent(at) + (60.0 + 240.0 * dice.unit()) as u64 * SECOND;
            jitter = [1.0, 4.0, 16.0][(dice.next() % 3) as usize];
        }
        Some(dice.normal(10.0 + 3.0 * jitter, jitter))
    };
    (0..count).map(&mut next).collect()
}

/// What would arrive while the process stands still is seen at the end of that.
fn stalls(dice: &mut Dice, count: usize, sent: &dyn Fn(usize) -> u64) -> Vec<Option<u64>> {
    let (mut begin, mut end, mut is_busy, mut until) = (SECOND, SECOND, false, 0);
    let mut next = |at: usize| {
        let now = sent(at);
        if now >= until {
            until = now + (30.0 + 300.0 * dice.unit()) as u64 * SECOND;
            is_busy = !is_busy;
        }
        let arrival = now + dice.normal(5.0, 1.0);
        if arrival >= end {
            let gap = dice.exponential(if is_busy { 2_000.0 } else { 60_000.0 });
            begin = arrival + ms(gap);
            end = begin + ms(50.0 * 8_f64.powf(dice.unit()));
        }
        let seen = if arrival >= begin { end.max(arrival) } else { arrival };
        Some(seen - now)
    };
    (0..count).map(&mut next).collect()
}

#[cfg(test)]
mod tests {
    use super::super::MILLISECOND;
    use super::*;

    const EVERY: u64 = 100 * MILLISECOND;

    #[test]
    fn a_name_and_a_seed_are_a_trace() {
        for name in NAMES {
            let trace = generate(name, 1, EVERY, 2_000).expect("known");
            assert_eq!(trace.heartbeats(), 2_000);
            assert_eq!(generate(name, 1, EVERY, 2_000), Some(trace.clone()), "{name}");
            assert_ne!(generate(name, 2, EVERY, 2_000), Some(trace), "{name}");
        }
        assert_eq!(generate("calm", 1, EVERY, 2_000), None);
    }

    #[test]
    fn traces_are_what_the_table_says() {
        let link = |name| generate(name, 1, EVERY, 40_000).expect("known").link();
        let near = |got: f64, wanted: f64| (got / wanted - 1.0).abs() < 0.05;
        assert!(near(link("normal").mean, 0.020) && near(link("normal").deviation, 0.006));
        assert!(
            near(link("exponential").mean, 0.015) && near(link("exponential").deviation, 0.010)
        );
        assert!(near(link("loss").loss, 0.01));
        assert!(link("bursts").loss > 0.004 && link("bursts").loss < 0.015);
        let far = |at: u64| step(&mut Dice(1), at * SECOND);
        assert!(far(700) > 2 * far(100));
    }
}
