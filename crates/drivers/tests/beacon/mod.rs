//! A protocol whose messages say everything about themselves, for those who look at what the
//! simulator does to them: who sent it, in which life, the how-manieth it is, a coin that was
//! tossed for it, whether it left at once or once it was durable, and a sum over all that.

#![allow(dead_code, reason = "each test takes what it needs")]

use quorate_core::{Context, NodeId, Protocol, SystemModel};
use quorate_drivers::simulate::Plain;
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

/// A node beats every so often, on its own clock: twice at once.
pub(crate) const BEAT: std::ops::Range<Duration> =
    Duration::from_millis(80)..Duration::from_millis(88);

/// A node that beats.
pub(crate) struct Beacon {
    id: NodeId,
    all: Vec<NodeId>,
    born: u64,
    number: u64,
    restored: u64,
    stopped: bool,
}

/// What one node says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Message {
    pub(crate) from: NodeId,
    /// When its life began, on its own clock.
    pub(crate) born: u64,
    pub(crate) number: u64,
    pub(crate) coin: u64,
    /// It left when its number was durable.
    pub(crate) durable: bool,
    sum: u64,
}

impl Message {
    fn new(from: NodeId, born: u64, number: u64, coin: u64, durable: bool) -> Message {
        let mut message = Message { from, born, number, coin, durable, sum: 0 };
        message.sum = message.fresh_sum();
        message
    }

    fn fresh_sum(&self) -> u64 {
        let words = [self.from.0, self.born, self.number, self.coin, u64::from(self.durable)];
        words.iter().fold(17, |sum, word| (sum ^ word).wrapping_mul(0x0100_0000_01b3))
    }

    /// False if it was altered.
    pub(crate) fn is_intact(&self) -> bool {
        self.sum == self.fresh_sum()
    }
}

/// What a node tells. `local` is its own clock.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) enum Told {
    Started { local: u64, restored: u64 },
    Beat { local: u64, born: u64, number: u64 },
    Heard { local: u64, sender: NodeId, message: Message },
}

impl Told {
    /// The node's own clock at that moment.
    pub(crate) fn local(&self) -> u64 {
        match self {
            Told::Started { local, .. } | Told::Beat { local, .. } | Told::Heard { local, .. } => {
                *local
            }
        }
    }
}

impl Protocol for Beacon {
    type Config = (NodeId, Vec<NodeId>);
    type Message = Message;
    type Timer = ();
    type Record = u64;
    /// Beat no more.
    type Request = ();
    type Indication = Told;

    const MODEL: SystemModel = SystemModel::DATA_CENTRE;

    fn restore(config: &Self::Config, records: &mut dyn Iterator<Item = u64>) -> Beacon {
        let (id, all) = config.clone();
        let restored = records.last().unwrap_or(0);
        Beacon { id, all, born: 0, number: restored, restored, stopped: false }
    }

    fn on_start(&mut self, cx: &mut Context<'_, Beacon>) {
        self.born = cx.now.as_nanos();
        cx.indicate(Told::Started { local: self.born, restored: self.restored });
        cx.set_timer((), BEAT);
    }

    fn on_request(&mut self, (): (), cx: &mut Context<'_, Beacon>) {
        self.stopped = true;
        cx.cancel_timer(());
    }

    fn on_message(&mut self, sender: NodeId, message: Message, cx: &mut Context<'_, Beacon>) {
        let local = cx.now.as_nanos();
        cx.indicate(Told::Heard { local, sender, message });
    }

    fn on_timer(&mut self, (): (), cx: &mut Context<'_, Beacon>) {
        for durable in [false, true] {
            self.number += 1;
            let (local, born, number) = (cx.now.as_nanos(), self.born, self.number);
            cx.indicate(Told::Beat { local, born, number });
            cx.write(number);
            let coin = cx.choose(1_000) as u64;
            let message = Message::new(self.id, born, number, coin, durable);
            for to in self.all.iter().filter(|to| **to != self.id) {
                match durable {
                    true => cx.send_once_durable(*to, message.clone()),
                    false => cx.send(*to, message.clone()),
                }
            }
        }
        cx.set_timer((), BEAT);
    }

    fn invariants(&self) {
        assert!(self.restored <= self.number);
    }
}

/// What was seen of a run from outside.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// For each node: true time, and what it told.
    pub(crate) told: Vec<Vec<(u64, Told)>>,
    /// False for those that are Byzantine.
    pub(crate) correct: Vec<bool>,
}

/// The world of the beacons: they beat until two seconds into the calm, and the run lasts until
/// `end` of true time.
pub(crate) fn world(end: Duration, seen: &Rc<RefCell<Seen>>) -> Plain<Beacon> {
    let seen = Rc::clone(seen);
    Plain::<Beacon>::new(|id, all| (id, all.to_vec()))
        .workload(Duration::from_millis(100), |_, _| {})
        .calm(|nodes, hands| {
            for node in 0..nodes.len() {
                hands.request(node, Duration::from_secs(2), ());
            }
        })
        .property("observed", move |all| {
            let mut seen = seen.borrow_mut();
            seen.told.resize_with(all.len(), Vec::new);
            seen.correct = (0..all.len()).map(|node| all.is_correct(node)).collect();
            for node in 0..all.len() {
                let known = seen.told[node].len();
                let new = all.told(node)[known..].iter();
                seen.told[node].extend(new.map(|told| (told.at, told.indication.clone())));
            }
            Ok(())
        })
        .recovered(move |all| Duration::from_nanos(all.now) >= end)
        .leads(|beacon| beacon.id == NodeId(1))
        .fingerprint(|message| message.fresh_sum() ^ message.sum.rotate_left(1))
        .alter(|message, choose| {
            let mut altered = message.clone();
            match choose(3) {
                0 => altered.number ^= 1 << choose(8),
                1 => altered.coin ^= 1 << choose(8),
                _ => altered.sum ^= 1 << choose(64),
            }
            Some(altered)
        })
}
