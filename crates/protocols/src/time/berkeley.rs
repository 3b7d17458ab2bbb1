//! The Berkeley algorithm: nobody knows the time, and all agree on one.
//!
//! **Problem.** The members of a closed network shall show the same time, whatever it is. No member
//! has a better clock than another, and one or two may be far off.
//!
//! **Model.** Messages are lost and late; members crash and return. Nobody lies, but a clock may be
//! wrong. One member is the *master*.
//!
//! **Idea.** In each round the master asks all for their time, estimates how far each is ahead of
//! its own (half of the round trip is reckoned to each way), and takes the average of those that
//! are close to each other: the largest set within `gamma`. Then it sends each member not a time,
//! which would be old on arrival, but by how much it is to *adjust* its clock.
//!
//! ```text
//!            master 3:00    n2 2:50    n3 3:25        gamma 30 min    average 3:05
//!   adjust       +0:05        +0:15      -0:20
//! ```
//!
//! **Guarantees.** *Agreement*: members that were adjusted in a round show the same time, but for
//! half of the delays of their two exchanges and what they have drifted since. *Robust average*: a
//! clock further than `gamma` from the largest set does not count, and is adjusted all the same.
//! Nothing is said about the true time.
//!
//! **Bounds.** A round waits for answers for `patience`; who is late takes no part. Adjustments are
//! numbered, and each is made once, however often its message arrives.
//!
//! **Left out.** The election of another master. A clock that is far ahead jumps back here; the
//! original slows it down.
//!
//! **Source.** Gusella and Zatti, "The Accuracy of the Clock Synchronization Achieved by TEMPO in
//! Berkeley UNIX 4.3BSD" (1989). The example is the one of the textbooks.

use quorate_core::{Context, NodeId, Offset, Protocol, SystemModel, Time, WallTime};
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::time::Duration;

/// What a member knows before its first event.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// Who asks.
    pub master: NodeId,
    /// All others.
    pub slaves: BTreeSet<NodeId>,
    /// Clocks that are further apart are not averaged.
    pub gamma: Duration,
    /// Between two rounds.
    pub period: Duration,
    /// A round waits so long for answers. Range: less than the period.
    pub patience: Duration,
}

/// Between members. A round has a number, which grows also over restarts of the master.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Message {
    /// What does your clock show?
    Ask {
        /// The round.
        round: u64,
    },
    /// This.
    Answer {
        /// The round.
        round: u64,
        /// The clock at the slave.
        wall: WallTime,
    },
    /// Move your clock by so much.
    Adjust {
        /// The round.
        round: u64,
        /// By how much.
        by: Offset,
    },
}

/// Alarms of the master.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// The next round begins.
    Round,
    /// No more answers are waited for.
    Patience,
}

/// What the layer above may ask.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Request {
    /// Set the clock of this member.
    Set {
        /// By the monotonic clock, at the same instant.
        at: Time,
        /// To this.
        wall: WallTime,
    },
}

/// What is told to the layer above.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Indication {
    /// The clock of this member was moved.
    Adjusted {
        /// By so much.
        by: Offset,
    },
    /// At the master: a clock is too far off to count.
    LeftOut {
        /// Whose.
        member: NodeId,
        /// How far it is ahead of the master's.
        offset: Offset,
    },
}

/// One member.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Berkeley {
    config: Config,
    /// What the clock of this member shows, and since when it runs from there.
    clock: Option<(Time, WallTime)>,
    /// The round under way, or the last one that moved the clock here.
    round: u64,
    asked: Option<Time>,
    offsets: BTreeMap<NodeId, Offset>,
}

/// The average of the largest set of offsets which are all within `gamma` of each other; of sets of
/// one size, the least. None of nothing.
pub fn robust_mean(offsets: &[Offset], gamma: Duration) -> Option<(Offset, Offset, Offset)> {
    let mut sorted: Vec<i64> = offsets.iter().map(|offset| offset.as_nanos()).collect();
    sorted.sort_unstable();
    let within = |from: usize| {
        let close = |at: &i64| Duration::from_nanos(at.abs_diff(sorted[from])) <= gamma;
        sorted[from..].iter().take_while(|at| close(at)).count()
    };
    let from = (0..sorted.len()).rev().max_by_key(|from| within(*from))?;
    let chosen = &sorted[from..from + within(from)];
    let sum: i128 = chosen.iter().map(|nanos| i128::from(*nanos)).sum();
    let mean = (sum / chosen.len() as i128) as i64;
    let last = chosen[chosen.len() - 1];
    Some((Offset::from_nanos(mean), Offset::from_nanos(chosen[0]), Offset::from_nanos(last)))
}

impl Berkeley {
    /// What the clock of this member shows, once it was set.
    pub fn read(&self, now: Time) -> Option<WallTime> {
        self.clock.map(|(at, wall)| wall.later(now.since(at)))
    }

    fn adjust(&mut self, by: Offset, cx: &mut Context<'_, Self>) {
        let Some(shown) = self.read(cx.now) else { return };
        self.clock = Some((cx.now, shown.moved(by)));
        cx.indicate(Indication::Adjusted { by });
    }

    fn begin_round(&mut self, cx: &mut Context<'_, Self>) {
        self.round += 1;
        self.asked = Some(cx.now);
        self.offsets.clear();
        for slave in &self.config.slaves {
            cx.send(*slave, Message::Ask { round: self.round });
        }
        cx.set_timer(Timer::Patience, self.config.patience..self.config.patience);
        cx.set_timer(Timer::Round, self.config.period..self.config.period);
    }

    fn heard(&mut self, from: NodeId, wall: WallTime, cx: &mut Context<'_, Self>) {
        let (Some(asked), Some(own)) = (self.asked, self.read(cx.now)) else { return };
        let theirs = wall.later(cx.now.since(asked) / 2);
        self.offsets.entry(from).or_insert(theirs.offset_from(own));
        if self.offsets.len() == self.config.slaves.len() {
            self.end_round(cx);
        }
    }

    fn end_round(&mut self, cx: &mut Context<'_, Self>) {
        cx.cancel_timer(Timer::Patience);
        self.asked = None;
        let mut offsets = std::mem::take(&mut self.offsets);
        offsets.insert(cx.id, Offset::ZERO);
        let all: Vec<Offset> = offsets.values().copied().collect();
        let (mean, least, most) = robust_mean(&all, self.config.gamma).expect("its own is there");
        for (member, offset) in offsets {
            if offset < least || most < offset {
                cx.indicate(Indication::LeftOut { member, offset });
            }
            let by = Offset::from_nanos(mean.as_nanos().saturating_sub(offset.as_nanos()));
            match member == cx.id {
                true => self.adjust(by, cx),
                false => cx.send(member, Message::Adjust { round: self.round, by }),
            }
        }
    }
}

impl Protocol for Berkeley {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = Infallible;
    type Request = Request;
    type Indication = Indication;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Config, _records: &mut dyn Iterator<Item = Infallible>) -> Berkeley {
        assert!(config.patience < config.period, "a round that ends after the next has begun");
        assert!(!config.slaves.contains(&config.master), "the master is no slave of itself");
        let offsets = BTreeMap::new();
        Berkeley { config: config.clone(), clock: None, round: 0, asked: None, offsets }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        if cx.id == self.config.master {
            // Greater than that of every earlier life, because the clock goes on.
            self.round = cx.now.as_nanos();
            cx.set_timer(Timer::Round, self.config.period..self.config.period);
        }
    }

    fn on_request(&mut self, request: Request, _cx: &mut Context<'_, Self>) {
        match request {
            Request::Set { at, wall } => self.clock = Some((at, wall)),
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        match message {
            Message::Ask { round } => {
                if let Some(wall) = self.read(cx.now) {
                    cx.send(from, Message::Answer { round, wall });
                }
            }
            Message::Answer { round, wall } if round == self.round => self.heard(from, wall, cx),
            Message::Answer { .. } => {}
            Message::Adjust { round, by } if round > self.round => {
                self.round = round;
                self.adjust(by, cx);
            }
            Message::Adjust { .. } => {}
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Round if self.clock.is_some() => self.begin_round(cx),
            Timer::Round => {
                cx.set_timer(Timer::Round, self.config.period..self.config.period);
            }
            Timer::Patience if self.asked.is_some() => self.end_round(cx),
            Timer::Patience => {}
        }
    }

    fn invariants(&self) {
        let slaves = &self.config.slaves;
        assert!(self.offsets.keys().all(|member| slaves.contains(member)), "{:?}", self.offsets);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn mean(offsets: &[i64], gamma: u64) -> Option<i64> {
        let offsets: Vec<Offset> = offsets.iter().map(|o| Offset::from_nanos(*o)).collect();
        robust_mean(&offsets, Duration::from_nanos(gamma)).map(|(mean, ..)| mean.as_nanos())
    }

    /// 3:00, 2:50 and 3:25, in minutes.
    #[test]
    fn the_average_of_the_picture() {
        assert_eq!(mean(&[0, -10, 25], 40), Some(5));
        assert_eq!(mean(&[0, -10, 25], 30), Some(-5), "one is too far from the others");
        assert_eq!(mean(&[0, 100], 30), Some(0), "the least of sets of one size");
        assert_eq!(mean(&[], 30), None);
        assert_eq!(mean(&[i64::MIN, i64::MAX, 3], 30), Some(i64::MIN), "no overflow");
    }

    proptest! {
        /// A majority that is close together decides, wherever the others are.
        #[test]
        fn the_average_lies_among_a_majority_that_is_close(
            close in proptest::collection::vec(0i64..100, 3..8),
            far in proptest::collection::vec(any::<i64>(), 0..3),
        ) {
            let all: Vec<i64> = close.iter().chain(&far).copied().collect();
            let mean = mean(&all, 100).expect("not empty");
            prop_assert!((-100..=200).contains(&mean), "{mean}");
        }
    }
}
