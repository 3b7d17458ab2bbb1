//! The words of the transcripts about physical time. Durations are written as `150ms` or `-3us`,
//! times of day as durations since 1970, and instants as durations since the story began, which is
//! what the monotonic clock of each node shows.
//!
//! ```text
//! cluster nodes=3 faulty=1 servers=1 error_max=16s mutant=delay-ignored     synchronizer
//! request n1 reading at=0s wall=1000s error=1ms        the clock at hand
//! request n1 exchanged server=0 sent=.. received=.. answered=.. arrived=.. error=..
//! request n1 host at=0s wall=1000s | disrupted
//! cluster nodes=2 delay_min=.. error_max=.. tries_max=..                    Cristian: n1 serves
//! request n1 clock at=0s wall=1000s | request n2 ask
//! cluster nodes=3 gamma=30ms                                                Berkeley: n1 is master
//! request n1 set at=0s wall=1000s
//! ```

use quorate_core::{Context, Effect, Protocol, SystemModel};
use quorate_core::{NodeId, Offset, Time, WallTime};
use quorate_drivers::scenario::{Misread, Options, Seat, Transcript};
use quorate_protocols::clocks::interval::TimeInterval;
use quorate_protocols::time::berkeley::{self, Berkeley};
use quorate_protocols::time::cristian::{self, Cristian};
use quorate_protocols::time::discipline::Correction;
use quorate_protocols::time::dispersion::DriftBound;
use quorate_protocols::time::exchange::{ErrorSplit, Exchange, Sample};
use quorate_protocols::time::synchronizer::{
    Config, Indication, Message, Mutant, Request, Synchronizer, Timer,
};
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

/// Signed nanoseconds: `-3us`, `1000s`, `0`.
fn nanos(word: &str) -> Result<i64, Misread> {
    let wrong = || Misread::wanted("duration such as -150ms", word);
    let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = match &word[digits.len()..] {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "" if digits == "0" => 1,
        _ => return Err(wrong()),
    };
    let number: i64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(unit).ok_or_else(wrong)
}

/// Values of the words of a request.
struct Words(Options);

impl Words {
    fn of(words: &[&str]) -> Result<Words, Misread> {
        Ok(Words(Options::parse(words)?))
    }

    fn nanos(&mut self, key: &str) -> Result<i64, Misread> {
        let word = self.0.value(key).ok_or_else(|| Misread(format!("'{key}=' is missing")))?;
        nanos(word)
    }

    fn time(&mut self, key: &str) -> Result<Time, Misread> {
        Ok(Time::from_nanos(self.nanos(key)?.unsigned_abs()))
    }

    fn wall(&mut self, key: &str) -> Result<WallTime, Misread> {
        Ok(WallTime::from_nanos(self.nanos(key)?))
    }

    fn duration(&mut self, key: &str) -> Result<Duration, Misread> {
        Ok(Duration::from_nanos(self.nanos(key)?.unsigned_abs()))
    }

    fn end<T>(self, value: T) -> Result<T, Misread> {
        self.0.all_asked()?;
        Ok(value)
    }
}

fn duration_option(options: &mut Options, key: &str, otherwise: &str) -> Result<Duration, Misread> {
    let word = options.value(key).unwrap_or(otherwise).to_owned();
    Ok(Duration::from_nanos(nanos(&word)?.unsigned_abs()))
}

/// `1000.001s`, to the nanosecond if need be.
fn show(wall: WallTime) -> String {
    let (sign, nanos) =
        (if wall.as_nanos() < 0 { "-" } else { "" }, wall.as_nanos().unsigned_abs());
    let rest = format!("{:09}", nanos % 1_000_000_000);
    let rest = rest.trim_end_matches('0');
    let point = if rest.is_empty() { "" } else { "." };
    format!("{sign}{}{point}{rest}s", nanos / 1_000_000_000)
}

fn others(node: NodeId, members: &[NodeId]) -> BTreeSet<NodeId> {
    members.iter().copied().filter(|id| *id != node).collect()
}

fn show_interval(interval: &TimeInterval) -> String {
    format!("{}..{}", show(interval.earliest()), show(interval.latest()))
}

/// A synchronizer that remembers when it was last called, so that its state can be printed.
#[derive(Debug)]
pub(super) struct Timed {
    member: Synchronizer,
    now: Time,
}

fn run(
    timed: &mut Timed,
    cx: &mut Context<'_, Timed>,
    call: impl FnOnce(&mut Synchronizer, &mut Context<'_, Synchronizer>),
) {
    timed.now = cx.now;
    let mut effects = Vec::new();
    call(&mut timed.member, &mut Context::new(cx.id, cx.now, &mut |_| 0, &mut effects));
    for effect in effects {
        match effect {
            Effect::Send { to, message, .. } => cx.send(to, message),
            Effect::SetTimer { timer, within } => cx.set_timer(timer, within),
            Effect::CancelTimer { timer } => cx.cancel_timer(timer),
            Effect::Indicate { indication } => cx.indicate(indication),
            Effect::Write { record } => match record {},
        }
    }
}

impl Protocol for Timed {
    type Config = (Config, Option<Mutant>);
    type Message = Message;
    type Timer = Timer;
    type Record = Infallible;
    type Request = Request;
    type Indication = Indication;

    const MODEL: SystemModel = Synchronizer::MODEL;

    fn restore(
        (config, mutant): &Self::Config,
        records: &mut dyn Iterator<Item = Infallible>,
    ) -> Timed {
        let member = Synchronizer::restore(config, records).with_mutant(*mutant);
        Timed { member, now: Time::default() }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Timed>) {
        run(self, cx, |member, cx| member.on_start(cx));
    }

    fn on_request(&mut self, request: Request, cx: &mut Context<'_, Timed>) {
        run(self, cx, |member, cx| member.on_request(request, cx));
    }

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Timed>) {
        run(self, cx, |member, cx| member.on_message(from, message, cx));
    }

    fn on_timer(&mut self, timer: Timer, cx: &mut Context<'_, Timed>) {
        run(self, cx, |member, cx| member.on_timer(timer, cx));
    }

    fn on_flush(&mut self, cx: &mut Context<'_, Timed>) {
        run(self, cx, Synchronizer::on_flush);
    }

    fn invariants(&self) {
        self.member.invariants();
    }
}

pub(super) struct TimeStory;

impl Transcript for TimeStory {
    type Node = Timed;

    fn seat(
        node: NodeId,
        members: &[NodeId],
        options: &mut Options,
    ) -> Result<Seat<Timed>, Misread> {
        let servers = options.parsed("servers", 0)?;
        let mut config = Config::new(node, others(node, members), servers);
        config.faulty_max = options.parsed("faulty", config.faulty_max)?;
        config.poll = duration_option(options, "poll", "2s")?;
        config.fresh = 4 * config.poll;
        config.error_max = match options.value("error_max") {
            None => None,
            Some(word) => Some(Duration::from_nanos(nanos(word)?.unsigned_abs())),
        };
        config.drift = DriftBound::new(options.parsed("ppb", 200_000)?);
        let mutant = match options.value("mutant") {
            None => None,
            Some(name) => {
                let named = |mutant: &&Mutant| mutant.name() == name;
                let found = Mutant::ALL.iter().find(named);
                Some(*found.ok_or_else(|| Misread::wanted("planted bug", name))?)
            }
        };
        Ok(Seat { config: (config, mutant), records: Vec::new() })
    }

    fn request(words: &[&str]) -> Result<Request, Misread> {
        let (name, rest) = words.split_first().ok_or(Misread("nothing is asked".to_owned()))?;
        let mut rest = Words::of(rest)?;
        let request = match *name {
            "reading" => Request::Reading {
                at: rest.time("at")?,
                wall: rest.wall("wall")?,
                error: rest.duration("error")?,
            },
            "exchanged" => Request::Exchanged {
                server: rest.0.parsed("server", 0)?,
                exchange: Exchange {
                    sent: rest.time("sent")?,
                    received: rest.wall("received")?,
                    answered: rest.wall("answered")?,
                    arrived: rest.time("arrived")?,
                    error: rest.duration("error")?,
                },
            },
            "host" => Request::Host { at: rest.time("at")?, wall: rest.wall("wall")? },
            "disrupted" => Request::Disrupted,
            name => return Err(Misread::wanted("request", name)),
        };
        rest.end(request)
    }

    fn message(message: &Message) -> String {
        match message {
            Message::Ask { ticket } => format!("Ask ticket={ticket}"),
            Message::NoClock { ticket } => format!("NoClock ticket={ticket}"),
            Message::Answer { ticket, received, error, .. } => {
                format!("Answer ticket={ticket} wall={} error={error:?}", show(*received))
            }
        }
    }

    fn record(record: &Infallible) -> String {
        match *record {}
    }

    fn indication(indication: &Indication) -> String {
        match indication {
            Indication::Measured { source, sample } => {
                let Sample { reading, delay, error, .. } = sample;
                let reading = show(*reading);
                format!("Measured {source}: wall={reading} delay={delay:?} admits={error:?}")
            }
            Indication::Refused { source, why } => format!("Refused {source}: {why}"),
            Indication::StateChanged { state } => format!("StateChanged {state}"),
            Indication::Corrected { correction: Correction::Stepped(by) } => {
                format!("Corrected by a step of {by}")
            }
            Indication::Corrected { correction } => format!("Corrected {correction:?}"),
            Indication::Outvoted { source } => format!("Outvoted {source}"),
            Indication::Readmitted { source } => format!("Readmitted {source}"),
            Indication::Contradiction { heard, sharing } => {
                format!("Contradiction heard={heard} sharing={sharing}")
            }
        }
    }

    /// The interval now, and of each source: how wrong it may be by delay, drift and dispersion.
    fn state(Timed { member, now }: &Timed) -> String {
        let interval = member.interval(*now).map_or("none".to_owned(), |i| show_interval(&i));
        let source = |status: &quorate_protocols::time::synchronizer::SourceStatus| {
            let ErrorSplit { delay, drift, dispersion } = status.error;
            let outvoted = if status.is_outvoted { " outvoted" } else { "" };
            let unfit = if status.is_unfit { " unfit" } else { "" };
            let source = status.source;
            format!(" | {source}: {delay:?} + {drift:?} + {dispersion:?}{outvoted}{unfit}")
        };
        let sources: String = member.sources(*now).iter().map(source).collect();
        let host = member.host_offset().map_or(String::new(), |off| format!(" host={off}"));
        format!("{} interval={interval}{host}{sources}", member.state())
    }
}

pub(super) struct CristianStory;

impl Transcript for CristianStory {
    type Node = Cristian;

    fn seat(
        _node: NodeId,
        _members: &[NodeId],
        options: &mut Options,
    ) -> Result<Seat<Cristian>, Misread> {
        let config = cristian::Config {
            server: NodeId(1),
            delay_min: duration_option(options, "delay_min", "1ms")?,
            error_max: duration_option(options, "error_max", "5ms")?,
            patience: duration_option(options, "patience", "1s")?,
            tries_max: options.parsed("tries_max", 3)?,
            drift: DriftBound::default(),
        };
        Ok(Seat { config, records: Vec::new() })
    }

    fn request(words: &[&str]) -> Result<cristian::Request, Misread> {
        match words {
            ["ask"] => Ok(cristian::Request::Ask),
            ["clock", rest @ ..] => {
                let mut rest = Words::of(rest)?;
                let (at, wall) = (rest.time("at")?, rest.wall("wall")?);
                rest.end(cristian::Request::Clock { at, wall })
            }
            words => Err(Misread::wanted("request", &words.join(" "))),
        }
    }

    fn message(message: &cristian::Message) -> String {
        match message {
            cristian::Message::Ask { ticket } => format!("Ask ticket={ticket}"),
            cristian::Message::Answer { ticket, wall } => {
                format!("Answer ticket={ticket} wall={}", show(*wall))
            }
        }
    }

    fn record(record: &Infallible) -> String {
        match *record {}
    }

    fn indication(indication: &cristian::Indication) -> String {
        match indication {
            cristian::Indication::Read { wall, error, tries } => {
                format!("Read wall={} error={error:?} tries={tries}", show(*wall))
            }
            other => format!("{other:?}"),
        }
    }

    fn state(node: &Cristian) -> String {
        if node.is_asking() { "asking" } else { "idle" }.to_owned()
    }
}

pub(super) struct BerkeleyStory;

impl Transcript for BerkeleyStory {
    type Node = Berkeley;

    fn seat(
        _node: NodeId,
        members: &[NodeId],
        options: &mut Options,
    ) -> Result<Seat<Berkeley>, Misread> {
        let config = berkeley::Config {
            master: NodeId(1),
            slaves: others(NodeId(1), members),
            gamma: duration_option(options, "gamma", "30ms")?,
            period: Duration::from_secs(10),
            patience: Duration::from_secs(1),
        };
        Ok(Seat { config, records: Vec::new() })
    }

    fn request(words: &[&str]) -> Result<berkeley::Request, Misread> {
        match words {
            ["set", rest @ ..] => {
                let mut rest = Words::of(rest)?;
                let (at, wall) = (rest.time("at")?, rest.wall("wall")?);
                rest.end(berkeley::Request::Set { at, wall })
            }
            words => Err(Misread::wanted("request", &words.join(" "))),
        }
    }

    fn message(message: &berkeley::Message) -> String {
        match message {
            berkeley::Message::Ask { round } => format!("Ask round={round}"),
            berkeley::Message::Answer { round, wall } => {
                format!("Answer round={round} wall={}", show(*wall))
            }
            berkeley::Message::Adjust { round, by } => format!("Adjust round={round} by={by}"),
        }
    }

    fn record(record: &Infallible) -> String {
        match *record {}
    }

    fn indication(indication: &berkeley::Indication) -> String {
        let show = |by: &Offset| by.to_string();
        match indication {
            berkeley::Indication::Adjusted { by } => format!("Adjusted {}", show(by)),
            berkeley::Indication::LeftOut { member, offset } => {
                format!("LeftOut {member} {}", show(offset))
            }
        }
    }

    fn state(node: &Berkeley) -> String {
        // What it would have shown at the beginning of the story: the differences are what matters.
        let late = Duration::from_secs(1_000_000);
        let shown = node.read(Time::default().after(late));
        shown.map_or("not set".to_owned(), |wall| show(wall.earlier(late)))
    }
}
