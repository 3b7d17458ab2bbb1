//! A protocol of your own in the simulator, in ten lines.
//!
//! [`World`] leaves everything open: what a disk is, who asks, what must hold. Whoever has written
//! a small [`Protocol`] wants none of that, but a disk that keeps what was synced, a workload, and
//! a few sentences that must be true. [`Plain`] is a world made of closures:
//!
//! | part | is given by | without it |
//! |---|---|---|
//! | configuration | [`Plain::new`] | |
//! | disk | nothing: a vector of records with a mark up to where it is synced | |
//! | workload | [`Plain::workload`] | the nodes are left to themselves |
//! | safety | [`Plain::property`]: checked after every turn of a correct node | panics are found |
//! | liveness | [`Plain::recovered`]: must come true within a bound after all faults have ended; [`Plain::awaited`] says what is missing | not asked |
//! | lies and corruption | [`Plain::alter`] | messages are replayed, withheld and sent twice only |
//! | what is done to a node before it starts | [`Plain::each_life`] | nothing |
//! | how a node looks in a trace | [`Plain::portrait`] | not at all |
//!
//! A power cut keeps all that was synced and a drawn number of the records after it; a process
//! that is killed leaves all that it wrote. A damaged record is noticed at the next start, and then
//! the node stays down, as one does whose promises are lost. A sync that fails stops the node.
//!
//! # Example
//!
//! One node hands out a token, to the first that asks. It must never hand out two. But it answers
//! before it has remembered, so a crash at the right moment makes it forget.
//!
//! ```
//! use quorate_core::{Context, NodeId, Protocol, SystemModel};
//! use quorate_drivers::simulate::{About, Keep, Origin, Plain, Plan, Site, run};
//! use std::time::Duration;
//!
//! // The protocol: one value per node, which turns events into effects.
//! struct Token {
//!     holder: Option<NodeId>,
//! }
//!
//! #[derive(Clone, Debug)]
//! enum Message {
//!     Ask,
//!     Granted,
//! }
//!
//! impl Protocol for Token {
//!     type Config = ();
//!     type Message = Message;
//!     type Timer = ();
//!     type Record = NodeId; // who was given the token
//!     type Request = (); // ask for it
//!     type Indication = (); // here it is
//!
//!     const MODEL: SystemModel = SystemModel::DATA_CENTRE;
//!
//!     fn restore(_: &(), records: &mut dyn Iterator<Item = NodeId>) -> Token {
//!         Token { holder: records.last() }
//!     }
//!
//!     fn on_request(&mut self, _: (), cx: &mut Context<'_, Token>) {
//!         cx.send(NodeId(1), Message::Ask);
//!     }
//!
//!     fn on_message(&mut self, from: NodeId, message: Message, cx: &mut Context<'_, Token>) {
//!         match message {
//!             Message::Ask if self.holder.is_none() => {
//!                 self.holder = Some(from);
//!                 cx.write(from);
//!                 cx.send(from, Message::Granted); // the bug: `send_once_durable` would wait
//!             }
//!             Message::Ask => {}
//!             Message::Granted => cx.indicate(()),
//!         }
//!     }
//!
//!     fn on_timer(&mut self, _: (), _: &mut Context<'_, Token>) {}
//! }
//!
//! // The world around it: who asks, and what must hold.
//! let world = || {
//!     Plain::<Token>::new(|_id, _all| ())
//!         .workload(Duration::from_millis(200), |nodes, hands| {
//!             let who = hands.draw(Site::new(About::Client, 0), nodes.len() as u64);
//!             hands.request(who as usize, Duration::ZERO, ());
//!         })
//!         .property("one token", |seen| {
//!             let holders: Vec<usize> =
//!                 (0..seen.len()).filter(|node| !seen.told(*node).is_empty()).collect();
//!             if holders.len() < 2 { Ok(()) } else { Err(format!("{holders:?} hold it")) }
//!         })
//! };
//!
//! // Every fault that the model of a data centre permits, seed after seed, until something breaks.
//! let plan = Plan::of(SystemModel::DATA_CENTRE);
//! let found = (0..1_000).find_map(|seed| {
//!     let outcome = run(world(), &plan, Origin::Seed(seed), Keep::Outcome);
//!     outcome.violation.map(|violation| (seed, violation))
//! });
//! let (seed, violation) = found.expect("a thousand seeds are enough");
//! assert_eq!(violation.property, "one token");
//!
//! // The same seed is the same run, now with a trace to read.
//! let again = run(world(), &plan, Origin::Seed(seed), Keep::Trace);
//! assert_eq!(again.violation, Some(violation));
//! for step in again.steps.expect("a trace was kept") {
//!     println!("{:>12} ns  {:?} {:?}  {}", step.at, step.node, step.kind, step.text);
//! }
//! ```

use super::faults::Fault;
use super::trace::Kind;
use super::world::{BootError, Broken, Choose, Hands, Nodes, Seat, SyncError, World};
use quorate_core::{NodeId, Protocol};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Indications of one node that are kept for properties; beyond it the older half is dropped.
pub const TOLD_MAX: usize = 65_536;

/// The alarm of the workload.
const WORK: u64 = 0;

/// A world made of closures around a protocol of your own. See the module's text.
#[expect(clippy::type_complexity, reason = "each is the type of one closure, and is said once")]
pub struct Plain<P: Protocol>
where
    P::Record: Clone,
{
    config: Box<dyn Fn(NodeId, &[NodeId]) -> P::Config>,
    ids: Vec<NodeId>,
    workload: Option<Workload<P>>,
    properties: Vec<Property<P>>,
    recovered: Option<Box<Judge<P, bool>>>,
    awaited: Option<Box<Judge<P, Vec<String>>>>,
    calm: Option<Box<Work<P>>>,
    alter: Option<Box<Alter<P>>>,
    each_life: Option<Box<dyn Fn(&mut P)>>,
    portrait: Option<Box<dyn Fn(&P) -> BTreeMap<String, String>>>,
    leads: Option<Box<dyn Fn(&P) -> bool>>,
    fingerprint: Option<Box<dyn Fn(&P::Message) -> u64>>,
    marks: &'static [&'static str],
    told: Vec<Vec<Told<P::Indication>>>,
    /// True time of the last turn.
    now: u64,
}

/// What a workload does.
type Work<P> = dyn FnMut(&mut Nodes<'_, Plain<P>>, &mut Hands<'_, Plain<P>>);
/// What somebody who sees everything concludes.
type Judge<P, T> = dyn FnMut(&Seen<'_, P>) -> T;
/// What a message is turned into.
type Alter<P> =
    dyn FnMut(&<P as Protocol>::Message, Choose<'_>) -> Option<<P as Protocol>::Message>;

struct Workload<P: Protocol>
where
    P::Record: Clone,
{
    every: Duration,
    work: Box<Work<P>>,
}

struct Property<P: Protocol> {
    name: &'static str,
    holds: Box<Judge<P, Result<(), String>>>,
}

/// Something that a node told the layer above.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Told<I> {
    /// True time. Unit: nanoseconds since the run began.
    pub at: u64,
    /// What it told.
    pub indication: I,
}

/// All nodes, as a property sees them.
pub struct Seen<'a, P: Protocol> {
    /// True time. Unit: nanoseconds since the run began.
    pub now: u64,
    seats: &'a [Seat<P, PlainDisk<P::Record>>],
    told: &'a [Vec<Told<P::Indication>>],
}

impl<P: Protocol> Seen<'_, P> {
    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The node, if it is up.
    pub fn get(&self, node: usize) -> Option<&P> {
        self.seats[node].state.as_ref()
    }

    /// Those that are up and correct.
    pub fn up(&self) -> impl Iterator<Item = (usize, &P)> {
        let seats = self.seats.iter().enumerate().filter(|(_, seat)| seat.correct);
        seats.filter_map(|(node, seat)| Some((node, seat.state.as_ref()?)))
    }

    /// False if it is Byzantine: then nothing is promised of it.
    pub fn is_correct(&self, node: usize) -> bool {
        self.seats[node].correct
    }

    /// What the node has told in all its lives, oldest first, while it was correct.
    pub fn told(&self, node: usize) -> &[Told<P::Indication>] {
        &self.told[node]
    }

    /// What is durable on the disk of the node, oldest first.
    pub fn durable(&self, node: usize) -> &[P::Record] {
        let disk = &self.seats[node].disk;
        &disk.records[..disk.synced]
    }
}

/// A disk: records in a vector, and up to where they are durable.
#[derive(Clone, Debug)]
pub struct PlainDisk<R> {
    records: Vec<R>,
    synced: usize,
    full: bool,
    /// The next sync fails.
    fails: bool,
    /// Syncs report success and do nothing.
    lies: bool,
    /// A record that is damaged.
    rotten: Option<usize>,
}

impl<P: Protocol> Plain<P>
where
    P::Record: Clone,
{
    /// The nodes run the protocol with this configuration, made from the name of a node and the
    /// names of all.
    pub fn new(config: impl Fn(NodeId, &[NodeId]) -> P::Config + 'static) -> Plain<P> {
        Plain {
            config: Box::new(config),
            ids: Vec::new(),
            workload: None,
            properties: Vec::new(),
            recovered: None,
            awaited: None,
            calm: None,
            alter: None,
            each_life: None,
            portrait: None,
            leads: None,
            fingerprint: None,
            marks: &[],
            told: Vec::new(),
            now: 0,
        }
    }

    /// Somebody does this, every so often on average, until the run ends. What it leaves open is
    /// drawn with [`Hands::draw`].
    #[must_use]
    pub fn workload(
        mut self,
        every: Duration,
        work: impl FnMut(&mut Nodes<'_, Plain<P>>, &mut Hands<'_, Plain<P>>) + 'static,
    ) -> Plain<P> {
        self.workload = Some(Workload { every, work: Box::new(work) });
        self
    }

    /// Somebody does this when all faults have ended.
    #[must_use]
    pub fn calm(
        mut self,
        work: impl FnMut(&mut Nodes<'_, Plain<P>>, &mut Hands<'_, Plain<P>>) + 'static,
    ) -> Plain<P> {
        self.calm = Some(Box::new(work));
        self
    }

    /// This must hold after each turn of a correct node. The error says what contradicts it.
    #[must_use]
    pub fn property(
        mut self,
        name: &'static str,
        holds: impl FnMut(&Seen<'_, P>) -> Result<(), String> + 'static,
    ) -> Plain<P> {
        self.properties.push(Property { name, holds: Box::new(holds) });
        self
    }

    /// This must come true within [`super::Plan::liveness`] after all faults have ended. The run
    /// ends when it does.
    #[must_use]
    pub fn recovered(mut self, recovered: impl FnMut(&Seen<'_, P>) -> bool + 'static) -> Plain<P> {
        self.recovered = Some(Box::new(recovered));
        self
    }

    /// What is still owed if that has not come true in time: a few words for each node or promise,
    /// as they stand in the story.
    #[must_use]
    pub fn awaited(
        mut self,
        awaited: impl FnMut(&Seen<'_, P>) -> Vec<String> + 'static,
    ) -> Plain<P> {
        self.awaited = Some(Box::new(awaited));
        self
    }

    /// What liars, forgers and a network that corrupts make of a message; none if they cannot.
    #[must_use]
    pub fn alter(
        mut self,
        alter: impl FnMut(&P::Message, Choose<'_>) -> Option<P::Message> + 'static,
    ) -> Plain<P> {
        self.alter = Some(Box::new(alter));
        self
    }

    /// This is done to a node in each of its lives, between restore and start: a bug is planted.
    #[must_use]
    pub fn each_life(mut self, prepare: impl Fn(&mut P) + 'static) -> Plain<P> {
        self.each_life = Some(Box::new(prepare));
        self
    }

    /// What a reader of a trace wants to know of a node.
    #[must_use]
    pub fn portrait(
        mut self,
        portrait: impl Fn(&P) -> BTreeMap<String, String> + 'static,
    ) -> Plain<P> {
        self.portrait = Some(Box::new(portrait));
        self
    }

    /// Whether a node leads, for faults that look for the leader.
    #[must_use]
    pub fn leads(mut self, leads: impl Fn(&P) -> bool + 'static) -> Plain<P> {
        self.leads = Some(Box::new(leads));
        self
    }

    /// A number that differs for different messages; without it, their text is hashed, which is
    /// slower than most protocols.
    #[must_use]
    pub fn fingerprint(mut self, fingerprint: impl Fn(&P::Message) -> u64 + 'static) -> Plain<P> {
        self.fingerprint = Some(Box::new(fingerprint));
        self
    }

    /// What a campaign should have seen at least once, told with [`Hands::mark`].
    #[must_use]
    pub fn sometimes(mut self, marks: &'static [&'static str]) -> Plain<P> {
        self.marks = marks;
        self
    }

    fn seen<'a>(
        told: &'a [Vec<Told<P::Indication>>],
        nodes: &'a Nodes<'_, Plain<P>>,
        now: u64,
    ) -> Seen<'a, P> {
        Seen { now, seats: &*nodes.seats, told }
    }
}

impl<P: Protocol> World for Plain<P>
where
    P::Record: Clone,
{
    type Node = P;
    type Disk = PlainDisk<P::Record>;

    fn prepare(&mut self, nodes: usize, _hands: &mut Hands<'_, Self>) {
        self.ids = (0..nodes).map(|node| self.id(node)).collect();
        self.told = (0..nodes).map(|_| Vec::new()).collect();
    }

    fn disk(&mut self, _node: usize) -> PlainDisk<P::Record> {
        PlainDisk {
            records: Vec::new(),
            synced: 0,
            full: false,
            fails: false,
            lies: false,
            rotten: None,
        }
    }

    fn boot(&mut self, node: usize, disk: &mut Self::Disk) -> Result<P, BootError> {
        if let Some(record) = disk.rotten {
            return Err(BootError::Never(format!("record {record} is damaged")));
        }
        if !disk.lies {
            // Whoever reads its records back makes sure that they stay.
            disk.synced = disk.records.len();
        }
        let config = (self.config)(self.id(node), &self.ids);
        let mut state = P::restore(&config, &mut disk.records.iter().cloned());
        if let Some(prepare) = &self.each_life {
            prepare(&mut state);
        }
        Ok(state)
    }

    fn append(&mut self, _node: usize, disk: &mut Self::Disk, records: &mut Vec<P::Record>) {
        disk.records.append(records);
    }

    fn sync(&mut self, _node: usize, disk: &mut Self::Disk) -> Result<(), SyncError> {
        if disk.fails {
            // What a failed sync leaves is not known: here it is the least.
            disk.fails = false;
            disk.records.truncate(disk.synced);
            return Err(SyncError::Fatal("a sync failed".to_owned()));
        }
        if disk.full {
            return Err(SyncError::Full);
        }
        if !disk.lies {
            disk.synced = disk.records.len();
        }
        Ok(())
    }

    fn power_cut(&mut self, _node: usize, disk: &mut Self::Disk, choose: Choose<'_>) {
        let open = disk.records.len() - disk.synced;
        if open > 0 {
            disk.records.truncate(disk.synced + choose(open + 1));
        }
    }

    fn damage(
        &mut self,
        _node: usize,
        disk: &mut Self::Disk,
        fault: Fault,
        choose: Choose<'_>,
    ) -> Option<String> {
        match fault {
            Fault::SyncError => disk.fails = true,
            Fault::SyncLie => disk.lies = true,
            Fault::DiskFull => disk.full = true,
            Fault::BitRot | Fault::Misdirected if disk.synced > 0 => {
                let record = choose(disk.synced);
                disk.rotten = Some(record);
                return Some(format!("record {record} is damaged"));
            }
            _ => return None,
        }
        Some(fault.meaning().to_owned())
    }

    fn mend(&mut self, _node: usize, disk: &mut Self::Disk, fault: Fault) {
        match fault {
            Fault::SyncError => disk.fails = false,
            Fault::SyncLie => disk.lies = false,
            Fault::DiskFull => disk.full = false,
            _ => {}
        }
    }

    fn start(&mut self, _nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        if let Some(Workload { every, .. }) = &self.workload {
            hands.alarm(*every, WORK);
        }
    }

    fn on_alarm(&mut self, _alarm: u64, nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        self.now = hands.now();
        let Some(Workload { every, work }) = &mut self.workload else { return };
        let site = super::Site::new(super::About::Client, usize::MAX);
        let gap = 1 + hands.draw(site, 2 * every.as_nanos().max(1) as u64);
        hands.alarm(Duration::from_nanos(gap), WORK);
        hands.count_operation();
        work(nodes, hands);
    }

    fn on_indication(
        &mut self,
        node: usize,
        _state: &P,
        indication: P::Indication,
        hands: &mut Hands<'_, Self>,
    ) {
        hands.tell(Kind::Tell, |step| {
            step.node = Some(node);
            step.text = format!("{indication:?}");
        });
        let told = &mut self.told[node];
        if told.len() == TOLD_MAX {
            told.drain(..TOLD_MAX / 2);
        }
        told.push(Told { at: hands.now(), indication });
    }

    fn on_turn_end(
        &mut self,
        _node: usize,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        self.now = hands.now();
        let seen = Self::seen(&self.told, nodes, self.now);
        for Property { name, holds } in &mut self.properties {
            if let Err(why) = holds(&seen) {
                hands.broken(Broken::new(name, why));
            }
        }
    }

    fn on_calm(&mut self, nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        if let Some(work) = &mut self.calm {
            work(nodes, hands);
        }
    }

    fn has_recovered(&mut self, nodes: &mut Nodes<'_, Self>) -> bool {
        let Some(recovered) = &mut self.recovered else { return true };
        recovered(&Self::seen(&self.told, nodes, self.now))
    }

    fn awaited(&mut self, nodes: &mut Nodes<'_, Self>) -> Vec<String> {
        let Some(awaited) = &mut self.awaited else { return Vec::new() };
        awaited(&Self::seen(&self.told, nodes, self.now))
    }

    fn leader(&self, nodes: &Nodes<'_, Self>) -> Option<usize> {
        let leads = self.leads.as_ref()?;
        nodes.up().find(|(_, state)| leads(state)).map(|(node, _)| node)
    }

    fn fingerprint(&self, message: &P::Message) -> u64 {
        match &self.fingerprint {
            Some(fingerprint) => fingerprint(message),
            None => hash_of_text(message),
        }
    }

    fn alter(&mut self, message: &P::Message, choose: Choose<'_>) -> Option<P::Message> {
        self.alter.as_mut().and_then(|alter| alter(message, choose))
    }

    fn describe_request(&self, request: &P::Request) -> Option<String> {
        Some(format!("{request:?}"))
    }

    fn portrait(&self, node: &P) -> BTreeMap<String, String> {
        self.portrait.as_ref().map_or_else(BTreeMap::new, |portrait| portrait(node))
    }

    fn marks(&self) -> &'static [&'static str] {
        self.marks
    }
}

/// A hash of what `{:?}` writes, without building the text (Fowler, Noll and Vo, FNV-1a).
pub fn hash_of_text(value: &impl fmt::Debug) -> u64 {
    struct Fnv(u64);
    impl fmt::Write for Fnv {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            for byte in text.bytes() {
                self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
            }
            Ok(())
        }
    }
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    let written = fmt::write(&mut hash, format_args!("{value:?}"));
    written.expect("only a broken Debug implementation fails");
    hash.0
}
