//! Hybrid logical clocks: an order that respects causality, in numbers that are close to the time
//! of day.
//!
//! **Problem.** Lamport's numbers order events and say nothing about when they were; wall clocks
//! say when, and order events wrongly as soon as two of them are apart.
//!
//! **Model.** Wall clocks that are apart by at most half of `max_offset`, for closeness only: the
//! order holds whatever they show.
//!
//! **Idea.** A time is a pair: the greatest wall time that was seen on the chain of causes, and a
//! counter for events that have the same. As long as the wall clock is ahead of all that was heard,
//! the pair is the reading of the clock and 0.
//!
//! ```text
//!   wall n1:  10          11                       pairs (wall, logical)
//!   n1      (10,0) ----- (11,0)
//!                \
//!   n2             (10,1) --- (10,2) ---- (12,0)
//!   wall n2:  3     4         5            12
//! ```
//!
//! *Time travel.* A peer whose clock is set to the next year would drag all others there, for ever.
//! What is more than `max_offset` ahead of the wall clock here is refused
//! ([`Refusal::FromTheFuture`]), and the clock does not move.
//!
//! *Restarts.* A node that returns with a wall clock that was set back must not give old times
//! again. Before it gives a time above its *mark*, it stores a higher one; it returns just above
//! the mark that it finds ([`HybridClock::mark_wanted`]). A mark is half of `max_offset` ahead, so
//! that few are written, and no peer refuses who has just returned.
//!
//! **Guarantees.** *Clock condition*: if one event happened before another, its time is smaller.
//! *Monotone*, over restarts too. *Close*: a time is not below the wall clock of its node, and
//! above the greatest wall clock of all by at most the lead of a mark, and a nanosecond for each
//! restart.
//!
//! **Bounds.** The counter has 32 bits; when they are used up, the wall part is moved on by one
//! nanosecond.
//!
//! **Source.** Kulkarni, Demirbas, Madappa, Avva and Leone, "Logical Physical Clocks" (2014),
//! figure 5; the guard on the offset, and the mark that is stored, are CockroachDB's.

use quorate_core::{Offset, WallTime};
use std::fmt;
use std::time::Duration;

/// The time of an event. Ordered by the wall part, and of equal ones by the counter.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HybridTime {
    /// The greatest wall time on the chain of causes that ends here.
    pub wall: WallTime,
    /// Events on that chain with the same.
    pub logical: u32,
}

impl HybridTime {
    /// The least time that is greater.
    fn next(self) -> HybridTime {
        match self.logical.checked_add(1) {
            Some(logical) => HybridTime { logical, ..self },
            None => HybridTime { wall: self.wall.later(Duration::from_nanos(1)), logical: 0 },
        }
    }
}

impl fmt::Display for HybridTime {
    /// As `12000000.3`: nanoseconds, and the counter.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.wall.as_nanos(), self.logical)
    }
}

/// Why an event got no time. The clock has not moved.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Refusal {
    /// A message claims to come from a time that is too far ahead.
    FromTheFuture {
        /// By so much, ahead of the wall clock here.
        ahead: Duration,
        /// What is allowed.
        max_offset: Duration,
    },
    /// A mark of at least this must be stored first; see [`HybridClock::mark_wanted`].
    MarkNotStored {
        /// The wall part that the event would get.
        wall: WallTime,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::FromTheFuture { ahead, max_offset } => write!(
                f,
                "a message is {ahead:?} ahead of the clock here, and {max_offset:?} are allowed; \
                 set the clock of its sender"
            ),
            Refusal::MarkNotStored { wall } => {
                write!(f, "no mark at or above {} is stored; store one first", wall.as_nanos())
            }
        }
    }
}

impl std::error::Error for Refusal {}

/// The clock of one node.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct HybridClock {
    max_offset: Duration,
    last: HybridTime,
    /// No time above it is given; it is on stable storage.
    mark: WallTime,
}

impl HybridClock {
    /// The clock of a node that found this mark on its disk; none if it is new.
    pub fn restore(max_offset: Duration, mark: Option<WallTime>) -> HybridClock {
        let mark = mark.unwrap_or(WallTime::MIN);
        HybridClock { max_offset, last: HybridTime { wall: mark, logical: u32::MAX }, mark }
    }

    /// A mark that should be written now, if one should: the next event, the receipt of `sent` if
    /// there is one, needs it, or less than half of the lead is left. Once it is durable, say so
    /// with [`HybridClock::mark_stored`].
    pub fn mark_wanted(&self, wall: WallTime, sent: Option<HybridTime>) -> Option<WallTime> {
        let lead = self.max_offset / 2;
        let needed = self.following(wall, sent).ok()?.wall;
        let is_low = needed > self.mark || wall.later(lead / 2) > self.mark;
        // Not a lead beyond what is needed: a node that returns again and again would run ahead.
        is_low.then(|| needed.max(wall.later(lead)))
    }

    /// This mark is on stable storage.
    pub fn mark_stored(&mut self, mark: WallTime) {
        self.mark = self.mark.max(mark);
    }

    /// The time of the next event here, while the wall clock shows `wall`; a message that is sent
    /// by it carries this.
    ///
    /// Errors: a mark must be stored first.
    pub fn tick(&mut self, wall: WallTime) -> Result<HybridTime, Refusal> {
        self.give(self.following(wall, None)?)
    }

    /// The time of the receipt of a message that carries `sent`.
    ///
    /// Errors: the message is from the future, or a mark must be stored first.
    pub fn receive(&mut self, wall: WallTime, sent: HybridTime) -> Result<HybridTime, Refusal> {
        self.give(self.following(wall, Some(sent))?)
    }

    fn following(&self, wall: WallTime, sent: Option<HybridTime>) -> Result<HybridTime, Refusal> {
        let here = HybridTime { wall, logical: 0 }.max(self.last.next());
        let Some(sent) = sent else { return Ok(here) };
        let ahead = sent.wall.offset_from(wall);
        if ahead > Offset::ZERO && ahead.magnitude() > self.max_offset {
            let (ahead, max_offset) = (ahead.magnitude(), self.max_offset);
            return Err(Refusal::FromTheFuture { ahead, max_offset });
        }
        Ok(here.max(sent.next()))
    }

    fn give(&mut self, time: HybridTime) -> Result<HybridTime, Refusal> {
        if time.wall > self.mark {
            return Err(Refusal::MarkNotStored { wall: time.wall });
        }
        self.last = time;
        Ok(time)
    }

    /// The last time that was given, in this life or before.
    pub fn last(&self) -> HybridTime {
        self.last
    }

    /// Panics: if a time was given that a restart would give again.
    pub fn invariants(&self) {
        assert!(self.last.wall <= self.mark, "{} is above the mark {:?}", self.last, self.mark);
    }
}

#[cfg(test)]
mod tests {
    use super::super::causality::{Act, Dice, TRACES, Trace};
    use super::*;

    const MAX_OFFSET: Duration = Duration::from_nanos(1_000);

    fn wall(nanos: i64) -> WallTime {
        WallTime::from_nanos(nanos)
    }

    /// A clock with a disk that is never slow.
    struct Node {
        clock: HybridClock,
        disk: Option<WallTime>,
    }

    impl Node {
        fn new() -> Node {
            Node { clock: HybridClock::restore(MAX_OFFSET, None), disk: None }
        }

        fn event(&mut self, now: WallTime, sent: Option<HybridTime>) -> HybridTime {
            if let Some(mark) = self.clock.mark_wanted(now, sent) {
                self.disk = Some(mark);
                self.clock.mark_stored(mark);
            }
            let time = match sent {
                None => self.clock.tick(now),
                Some(sent) => self.clock.receive(now, sent),
            };
            self.clock.invariants();
            time.expect("clocks that are close, and a mark")
        }

        fn restart(&mut self) {
            self.clock = HybridClock::restore(MAX_OFFSET, self.disk);
        }
    }

    /// The picture above.
    #[test]
    fn the_pair_is_the_reading_while_the_wall_clock_is_ahead() {
        let time = |nanos, logical| HybridTime { wall: wall(nanos), logical };
        let (mut n1, mut n2) = (Node::new(), Node::new());
        let sent = n1.event(wall(10), None);
        assert_eq!(sent, time(10, 0));
        assert_eq!(n1.event(wall(11), None), time(11, 0));
        assert_eq!(n2.event(wall(4), Some(sent)), time(10, 1));
        assert_eq!(n2.event(wall(5), None), time(10, 2));
        assert_eq!(n2.event(wall(12), None), time(12, 0));
    }

    #[test]
    fn who_comes_from_the_future_is_refused_and_drags_nobody_along() {
        let mut node = Node::new();
        let before = node.event(wall(10), None);
        let year = 365 * 86_400 * 1_000_000_000_i64;
        let absurd = HybridTime { wall: wall(year), logical: 0 };
        let ahead = Duration::from_nanos(year as u64 - 11);
        let refused = node.clock.receive(wall(11), absurd);
        assert_eq!(refused, Err(Refusal::FromTheFuture { ahead, max_offset: MAX_OFFSET }));
        assert_eq!(node.clock.last(), before);
        assert!(refused.expect_err("refused").to_string().contains("set the clock of its sender"));
        let last = HybridTime { wall: WallTime::MAX, logical: u32::MAX };
        assert!(node.clock.receive(wall(11), last).is_err(), "the end of all times");
    }

    #[test]
    fn no_time_is_given_that_a_restart_would_give_again() {
        let mut clock = HybridClock::restore(MAX_OFFSET, None);
        assert_eq!(clock.tick(wall(10)), Err(Refusal::MarkNotStored { wall: wall(10) }));
        assert_eq!(clock.mark_wanted(wall(10), None), Some(wall(510)));
        clock.mark_stored(wall(510));
        assert!(clock.tick(wall(10)).is_ok());
        assert_eq!(clock.mark_wanted(wall(200), None), None, "enough of the lead is left");
        // The wall clock was set back by a year, and the node begins a new life.
        let mut clock = HybridClock::restore(MAX_OFFSET, Some(wall(510)));
        clock.mark_stored(wall(1_000));
        let next = clock.tick(wall(-31_536_000_000_000_000)).expect("below the mark");
        assert_eq!(next, HybridTime { wall: wall(511), logical: 0 });
    }

    #[test]
    fn a_counter_that_is_used_up_moves_the_wall_part() {
        let full = HybridTime { wall: wall(7), logical: u32::MAX };
        assert_eq!(full.next(), HybridTime { wall: wall(8), logical: 0 });
    }

    /// Theorems 1 to 3 of the paper, and restarts: wall clocks that are off by up to `off`, jump
    /// within that, and nodes that return with nothing but their mark.
    #[test]
    fn it_respects_causality_stays_close_and_never_goes_back() {
        let off = 200;
        for seed in 0..TRACES {
            let trace = Trace::random(seed);
            let mut dice = Dice(seed);
            let mut nodes: Vec<Node> = (0..trace.processes).map(|_| Node::new()).collect();
            let mut times: Vec<HybridTime> = Vec::new();
            let mut truth = 1_000_000_i64;
            for event in &trace.events {
                truth += dice.below(300) as i64;
                let now = wall(truth + dice.below(2 * off as u64 + 1) as i64 - off);
                let node = &mut nodes[event.process];
                if dice.below(8) == 0 {
                    node.restart();
                }
                let sent = match event.act {
                    Act::Receive(from) => Some(times[from]),
                    Act::Local | Act::Send => None,
                };
                let time = node.event(now, sent);
                assert!(time.wall >= now, "seed {seed}: behind its own clock");
                let lead = (MAX_OFFSET / 2).as_nanos() as i64 + trace.events.len() as i64;
                assert!(time.wall <= wall(truth + off + lead), "seed {seed}: far ahead");
                times.push(time);
            }
            for (one, other) in trace.pairs() {
                if trace.happened_before(one, other) {
                    assert!(times[one] < times[other], "seed {seed}");
                }
            }
        }
    }
}
