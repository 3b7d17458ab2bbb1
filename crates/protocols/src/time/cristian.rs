//! Cristian's algorithm: one server that knows the time, asked until the answer is good enough.
//!
//! **Problem.** A client wants the time of one server with an error of at most `error_max`, and
//! messages now and then take longer than that allows.
//!
//! **Model.** The server is right and answers; messages take at least `delay_min`, which is known,
//! and mostly not much more; they may be lost. Nobody lies.
//!
//! **Idea.** The answer is between `delay_min` and the round trip less `delay_min` old. The middle
//! is wrong by at most half of the round trip less `delay_min`. If that is too much, ask again: the
//! delay of one exchange says little about that of the next, so soon a short one comes.
//!
//! ```text
//!   client   ask --------- answer: round trip D     reading = T + D / 2
//!   server         T                                error  <= D / 2 - delay_min
//! ```
//!
//! **Guarantees.** *Soundness*: the true time is within the error that is told, if no message was
//! faster than `delay_min` and the client's clock keeps its bound. *Probabilistic success*: if an
//! exchange is short enough with probability p, `tries_max` of them fail with (1 - p)^`tries_max`.
//! More precise than `delay_max - delay_min` without retries nothing can be.
//!
//! **Bounds.** One question at a time is open. After `tries_max` it gives up, and says how good the
//! best answer was.
//!
//! **Left out.** More than one server, and servers that lie: [`super::synchronizer`].
//!
//! **Source.** Cristian, "Probabilistic Clock Synchronization" (1989).

use super::dispersion::DriftBound;
use quorate_core::{Context, NodeId, Protocol, SystemModel, Time, WallTime};
use std::convert::Infallible;
use std::time::Duration;

/// What a node knows before its first event.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// Who knows the time.
    pub server: NodeId,
    /// No message is faster.
    pub delay_min: Duration,
    /// An error that is good enough.
    pub error_max: Duration,
    /// A question waits so long for its answer; then it is asked again.
    pub patience: Duration,
    /// Questions until it gives up. Range: at least 1.
    pub tries_max: u32,
    /// How far the clock of this node may run off.
    pub drift: DriftBound,
}

/// Between nodes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Message {
    /// What time is it?
    Ask {
        /// Comes back in the answer.
        ticket: u64,
    },
    /// This.
    Answer {
        /// As asked.
        ticket: u64,
        /// The time at the server.
        wall: WallTime,
    },
}

/// Alarms of a node.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// No answer came.
    Patience,
}

/// What the layer above may ask.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Request {
    /// At the server: its clock shows this.
    Clock {
        /// By the monotonic clock, at the same instant.
        at: Time,
        /// The time.
        wall: WallTime,
    },
    /// At a client: what time is it? Ends with [`Indication::Read`] or [`Indication::GaveUp`];
    /// dropped while a question is open.
    Ask,
}

/// What is told to the layer above.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Indication {
    /// It is this time, now.
    Read {
        /// The best guess.
        wall: WallTime,
        /// Give or take so much.
        error: Duration,
        /// After so many questions.
        tries: u32,
    },
    /// No answer was good enough.
    GaveUp {
        /// The smallest error of an answer, if there was one.
        best: Option<Duration>,
    },
    /// An answer was faster than any can be: `delay_min` is wrong, and with it all readings.
    TooFast {
        /// Its round trip.
        round_trip: Duration,
    },
}

/// What waits for an answer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Quest {
    sent: Time,
    tries: u32,
    best: Option<Duration>,
}

/// One node: a client, or the server.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Cristian {
    config: Config,
    /// The server's clock.
    clock: Option<(Time, WallTime)>,
    tickets: u64,
    quest: Option<Quest>,
}

impl Cristian {
    /// True while a question is open.
    pub fn is_asking(&self) -> bool {
        self.quest.is_some()
    }

    fn ask(&mut self, tries: u32, best: Option<Duration>, cx: &mut Context<'_, Self>) {
        self.tickets += 1;
        self.quest = Some(Quest { sent: cx.now, tries, best });
        cx.send(self.config.server, Message::Ask { ticket: self.tickets });
        cx.set_timer(Timer::Patience, self.config.patience..self.config.patience * 2);
    }

    fn again(&mut self, quest: Quest, cx: &mut Context<'_, Self>) {
        if quest.tries < self.config.tries_max {
            return self.ask(quest.tries + 1, quest.best, cx);
        }
        self.quest = None;
        cx.cancel_timer(Timer::Patience);
        cx.indicate(Indication::GaveUp { best: quest.best });
    }

    fn answered(&mut self, wall: WallTime, cx: &mut Context<'_, Self>) {
        let Some(quest) = self.quest.take() else { return };
        let round_trip = cx.now.since(quest.sent);
        let drifted = self.config.drift.dispersion(round_trip);
        let Some(open) = (round_trip + drifted).checked_sub(2 * self.config.delay_min) else {
            cx.indicate(Indication::TooFast { round_trip });
            return self.again(quest, cx);
        };
        let error = Duration::from_nanos((open.as_nanos() as u64).div_ceil(2)) + drifted;
        if error <= self.config.error_max {
            cx.cancel_timer(Timer::Patience);
            let wall = wall.later(round_trip / 2);
            return cx.indicate(Indication::Read { wall, error, tries: quest.tries });
        }
        let best = quest.best.map_or(error, |best| best.min(error));
        self.again(Quest { best: Some(best), ..quest }, cx);
    }
}

impl Protocol for Cristian {
    type Config = Config;
    type Message = Message;
    type Timer = Timer;
    type Record = Infallible;
    type Request = Request;
    type Indication = Indication;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Config, _records: &mut dyn Iterator<Item = Infallible>) -> Cristian {
        assert!(config.tries_max > 0, "a question that is never asked");
        Cristian { config: config.clone(), clock: None, tickets: 0, quest: None }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        // Tickets of an earlier life must not match: it begins where the clock stands.
        self.tickets = cx.now.as_nanos();
    }

    fn on_request(&mut self, request: Request, cx: &mut Context<'_, Self>) {
        match request {
            Request::Clock { at, wall } => self.clock = Some((at, wall)),
            Request::Ask if self.quest.is_none() => self.ask(1, None, cx),
            Request::Ask => {}
        }
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        match message {
            Message::Ask { ticket } => {
                if let Some((at, wall)) = self.clock {
                    let wall = wall.later(cx.now.since(at));
                    cx.send(from, Message::Answer { ticket, wall });
                }
            }
            Message::Answer { ticket, wall } if ticket == self.tickets => self.answered(wall, cx),
            Message::Answer { .. } => {}
        }
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Self>) {
        match timer {
            Timer::Patience => {
                if let Some(quest) = self.quest {
                    self.again(quest, cx);
                }
            }
        }
    }

    fn invariants(&self) {
        let tries_max = self.config.tries_max;
        let within = self.quest.is_none_or(|quest| (1..=tries_max).contains(&quest.tries));
        assert!(within, "{:?} of {tries_max}", self.quest);
    }
}
