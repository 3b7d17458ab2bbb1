//! What the effect sink costs: a buffer that the driver drains, or a closure that it is called by.
//!
//! The same follower handles the same appends in three ways: effects pushed into a `Vec` (what
//! [`Context`] does), through `&mut dyn FnMut` into such a `Vec`, and through a `&mut dyn FnMut`
//! that carries them out at once. The driver's work behind them is the same. Rounds are interleaved
//! and the median is printed, with ratios; see `docs/adr/0010-effects-in-a-vec.md`.
//!
//! `cargo bench -p quorate-core --bench effect_sink`

use bytes::Bytes;
use quorate_core::{
    Context, Effect, Gate, Index, NodeId, Position, Protocol, Release, SystemModel, Time,
};
use std::collections::BTreeMap;
use std::hint::black_box;
use std::ops::Range;
use std::time::{Duration, Instant};

const EVENTS_PER_ROUND: u64 = 1_000_000;
const EVENTS_PER_SYNC: u64 = 64;
const ROUNDS: usize = 9;
const TIMEOUT: Range<Duration> = Duration::from_millis(100)..Duration::from_millis(200);

/// A follower without the rules: it writes, sets its alarm, and acknowledges once durable.
struct Follower {
    last: Index,
}

#[derive(Clone, Debug)]
enum Message {
    Append { prev: Position, command: Bytes },
    Appended { matched: Index },
}

#[derive(Debug)]
struct Record {
    index: Index,
    command: Bytes,
}

impl Protocol for Follower {
    type Config = ();
    type Message = Message;
    type Timer = u8;
    type Record = Record;
    type Request = ();
    type Indication = Index;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore((): &(), _records: &mut dyn Iterator<Item = Record>) -> Self {
        Follower { last: Index(0) }
    }

    fn on_request(&mut self, (): (), _cx: &mut Context<'_, Self>) {}

    fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Self>) {
        let Message::Append { prev: Position { index: prev, .. }, command } = message else {
            return;
        };
        self.last = prev.next();
        cx.set_timer(0, TIMEOUT);
        cx.write(Record { index: self.last, command });
        cx.send_once_durable(from, Message::Appended { matched: self.last });
        cx.indicate(prev);
    }

    fn on_timer(&mut self, _timer: u8, _cx: &mut Context<'_, Self>) {}
}

impl Follower {
    /// The same handler, emitting through a closure.
    #[inline(never)]
    fn on_message_emit(
        &mut self,
        from: NodeId,
        message: Message,
        emit: &mut dyn FnMut(Effect<Follower>),
    ) {
        let Message::Append { prev: Position { index: prev, .. }, command } = message else {
            return;
        };
        self.last = prev.next();
        emit(Effect::SetTimer { timer: 0, within: TIMEOUT });
        emit(Effect::Write { record: Record { index: self.last, command } });
        let message = Message::Appended { matched: self.last };
        emit(Effect::Send { to: from, message, release: Release::OnceDurable });
        emit(Effect::Indicate { indication: prev });
    }

    #[inline(never)]
    fn on_message_push(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Follower>) {
        self.on_message(from, message, cx);
    }
}

/// What a driver does with effects.
#[derive(Default)]
struct Driver {
    gate: Gate<Message>,
    timers: BTreeMap<u8, Range<Duration>>,
    disk: Vec<Record>,
    network: Vec<(NodeId, Message)>,
    told: u64,
}

impl Driver {
    fn carry_out(&mut self, effect: Effect<Follower>) {
        match effect {
            Effect::Send { to, message, release: Release::Immediately } => {
                self.network.push((to, message));
            }
            Effect::Send { to, message, release: Release::OnceDurable } => {
                self.network.extend(self.gate.admit(to, message));
            }
            Effect::SetTimer { timer, within } => {
                self.timers.insert(timer, within);
            }
            Effect::CancelTimer { timer } => {
                self.timers.remove(&timer);
            }
            Effect::Write { record } => {
                self.gate.wrote();
                self.disk.push(record);
            }
            Effect::Indicate { indication } => self.told += indication.0,
        }
    }

    fn sync(&mut self) {
        let written = self.gate.written();
        self.network.extend(self.gate.synced(written));
        let bytes: usize = self.disk.iter().map(|record| record.command.len()).sum();
        black_box((bytes, self.disk.last().map(|record| record.index)));
        let acknowledged = self.network.last().map(|(to, message)| (*to, matched(message)));
        black_box(acknowledged);
        self.disk.clear();
        self.network.clear();
    }
}

fn matched(message: &Message) -> Index {
    match message {
        Message::Append { prev, .. } => prev.index,
        Message::Appended { matched } => *matched,
    }
}

fn append(event: u64, command: &Bytes) -> Message {
    Message::Append { prev: Position::new(1, event), command: command.clone() }
}

/// Nanoseconds per event of one way of handling events.
fn round(mut step: impl FnMut(Message, &mut Driver)) -> f64 {
    let command = Bytes::from_static(&[7; 128]);
    let mut driver = Driver::default();
    let began = Instant::now();
    for event in 0..EVENTS_PER_ROUND {
        step(black_box(append(event, &command)), &mut driver);
        if event % EVENTS_PER_SYNC == 0 {
            driver.sync();
        }
    }
    let elapsed = began.elapsed();
    black_box(driver.told);
    elapsed.as_nanos() as f64 / EVENTS_PER_ROUND as f64
}

fn vec_round() -> f64 {
    let mut node = Follower { last: Index(0) };
    let mut effects = Vec::new();
    round(|message, driver| {
        let mut choose = |_| 0;
        let mut cx = Context::new(NodeId(1), Time::default(), &mut choose, &mut effects);
        node.on_message_push(NodeId(2), message, &mut cx);
        effects.drain(..).for_each(|effect| driver.carry_out(effect));
    })
}

fn closure_into_vec_round() -> f64 {
    let mut node = Follower { last: Index(0) };
    let mut effects = Vec::new();
    round(|message, driver| {
        node.on_message_emit(NodeId(2), message, &mut |effect| effects.push(effect));
        effects.drain(..).for_each(|effect| driver.carry_out(effect));
    })
}

fn closure_at_once_round() -> f64 {
    let mut node = Follower { last: Index(0) };
    round(|message, driver| {
        node.on_message_emit(NodeId(2), message, &mut |effect| driver.carry_out(effect));
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "a measurement is printed")]
fn main() {
    let mut rounds: [Vec<f64>; 3] = Default::default();
    for _ in 0..ROUNDS {
        rounds[0].push(vec_round());
        rounds[1].push(closure_into_vec_round());
        rounds[2].push(closure_at_once_round());
    }
    let [vec, into_vec, at_once] = rounds.map(median);
    for (name, nanos) in
        [("vec", vec), ("closure into a vec", into_vec), ("closure, at once", at_once)]
    {
        let per_second = 1_000.0 / nanos;
        println!("{name:20} {nanos:6.1} ns/event {per_second:6.2} M/s  x{:.2}", nanos / vec);
    }
}
