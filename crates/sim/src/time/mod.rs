//! The synchronizer as a world of the simulator: clocks at hand of which some lie, oscillators that
//! wander, and a judge who knows the true time.
//!
//! ```text
//!   clock at hand --Reading--> Synchronizer --interval--> judge: does it contain the true time?
//!   wall clock -----Host------>      ^ |
//!    ^ steps, drift, freezes         | v
//!    faults                        network: delays, loss, partitions, liars
//! ```
//!
//! Each run draws how often clocks are read and peers are asked, how wrong each clock may be, which
//! ones lie (traitors included, no more than `f` of the `2f + 1` or more members), which fall
//! silent, which know nothing and say so, and how each oscillator wanders within 200 ppm. The
//! faults of clocks hit the *wall clock* of a member, which the synchronizer must not trust; the
//! monotonic one keeps its bound, and counts while its machine stands still.
//!
//! **Liveness.** When all faults have ended, every member that is up must be synchronized to 100
//! ms, if the honest clocks of those that are left are more than `f`.
//!
//! The workload `too-many-liars` bribes `f + 1` clocks to say the same. The interval breaks then,
//! as it must: nothing that a member sees tells it which majority is honest.

mod sources;

use quorate_core::{NodeId, Offset, Protocol, Time, WallTime};
use quorate_drivers::simulate::trace::Kind;
use quorate_drivers::simulate::{
    About, BootError, Broken, Choose, Hands, NodeClocks, Nodes, Oscillator, Site, Suspend,
    SyncError, World,
};
use quorate_protocols::time::discipline::Correction;
use quorate_protocols::time::dispersion::DriftBound;
use quorate_protocols::time::exchange::{SAMPLES_MAX, Sample};
#[cfg(feature = "mutants")]
use quorate_protocols::time::synchronizer::Mutant;
use quorate_protocols::time::synchronizer::{
    Config, Indication, Message, Request, SourceId, State, Synchronizer,
};
use sources::Reference;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

/// The properties, by name.
pub const PROPERTIES: &[&str] =
    &["interval", "innocent", "filter", "monotone", "no-contradiction", "crash", "liveness"];

/// The workload in which more lie than may.
pub const TOO_MANY_LIARS: &str = "too-many-liars";

const MARKS: &[&str] = &[
    "a member is synchronized",
    "a member runs freely",
    "a source is outvoted",
    "a source is readmitted",
    "the clock jumps",
    "an answer is refused",
    "the rate becomes known",
];

/// Oscillators keep this, per true second. Unit: parts per thousand million.
const DRIFT: u32 = 200_000;
/// What a member must know the time to, in the calm.
const ERROR_MAX: Duration = Duration::from_millis(100);
/// Old enough for a snapshot.
const SNAPSHOT_AGE: Duration = Duration::from_secs(3);

quorate_core::planted_bugs! {
    /// A mistake of the machine under a member, which the world makes on purpose.
    pub enum ClockMutant {
        /// The clock that a member calls monotonic stands still in a suspend (clock_gettime(2):
        /// CLOCK_MONOTONIC).
        SuspendNotCounted = "suspend-not-counted",
        /// A virtual machine goes on from a snapshot, and nobody tells the member (etcd#20418).
        RestoreUnnoticed = "restore-unnoticed",
    }
}

/// What is known of one member, beside its state.
#[derive(Clone, Debug)]
struct Watched {
    reference: Reference,
    /// The last samples of each source, by this life.
    samples: BTreeMap<SourceId, VecDeque<Sample>>,
    /// The last disciplined reading since the clock was set or stepped.
    reading: Option<WallTime>,
}

/// The synchronizer as a world. One value is one run.
#[derive(Debug, Default)]
pub struct TimeWorld {
    members: Vec<Watched>,
    poll: Duration,
    faulty_max: usize,
    too_many_liars: bool,
    oscillators: Vec<Oscillator>,
    /// Who was outvoted in this turn, by whom.
    suspects: Vec<(usize, SourceId)>,
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
    suspend: Suspend,
}

impl TimeWorld {
    /// With more liars than may be.
    #[must_use]
    pub fn with_too_many_liars() -> TimeWorld {
        TimeWorld { too_many_liars: true, ..TimeWorld::default() }
    }

    /// With a known mistake in every member.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(mutant: Mutant) -> TimeWorld {
        TimeWorld { mutant: Some(mutant), ..TimeWorld::default() }
    }

    /// With a known mistake in every machine.
    #[must_use]
    pub fn on_machines_with(mutant: ClockMutant) -> TimeWorld {
        let suspend = match mutant {
            ClockMutant::SuspendNotCounted => Suspend::Stops,
            ClockMutant::RestoreUnnoticed => Suspend::Restored(SNAPSHOT_AGE),
        };
        TimeWorld { suspend, ..TimeWorld::default() }
    }

    fn config(&self, node: usize) -> Config {
        let id = name(node);
        let peers: BTreeSet<NodeId> =
            (0..self.members.len()).map(name).filter(|peer| *peer != id).collect();
        Config {
            faulty_max: self.faulty_max,
            drift: bound(),
            poll: self.poll,
            fresh: 4 * self.poll + Duration::from_secs(2),
            error_max: Some(sources::UNFIT),
            ..Config::new(id, peers, 0)
        }
    }

    /// Some of those that are no traitors are liars, so that all together are no more than may be.
    fn choose_liars(&mut self, nodes: &Nodes<'_, TimeWorld>, hands: &mut Hands<'_, TimeWorld>) {
        let honest: Vec<usize> = (0..nodes.len()).filter(|node| nodes.is_correct(*node)).collect();
        let left = self.faulty_max - (nodes.len() - honest.len()).min(self.faulty_max);
        let site = Site::new(About::Detail, 2);
        let count = match self.too_many_liars {
            true => self.faulty_max + 1,
            false => hands.draw(site, left as u64 + 1) as usize,
        };
        let first = hands.draw(site, honest.len() as u64) as usize;
        // Who says that it knows nothing has no voice, so any number may do so. In most runs nobody
        // does: the fewer know, the less a liar can do.
        let detail = Site::new(About::Detail, 3);
        let others = honest.len().saturating_sub(count) as u64;
        let unfit = match self.too_many_liars || others == 0 || hands.draw(detail, 4) > 0 {
            true => 0,
            false => hands.draw(detail, others) as usize,
        };
        for place in count..count + unfit {
            let node = honest[(first + place) % honest.len()];
            self.members[node].reference.unsettle(node, hands);
        }
        for place in 0..count.min(honest.len()) {
            let node = honest[(first + place) % honest.len()];
            match self.too_many_liars {
                true => self.members[node].reference.bribe(),
                false => self.members[node].reference.corrupt(node, hands),
            }
            hands.tell(Kind::Note, |step| {
                (step.node, step.text) = (Some(node), "the clock at hand lies".to_owned());
            });
        }
    }

    /// Reads both clocks of a member, and tells it.
    fn read(&mut self, node: usize, hands: &mut Hands<'_, TimeWorld>) {
        let at = hands.clock(node);
        if let Some((wall, error)) = self.members[node].reference.read(node, hands) {
            hands.request(node, Duration::ZERO, Request::Reading { at, wall, error });
        }
        if let Some(wall) = hands.wall(node) {
            hands.request(node, Duration::ZERO, Request::Host { at, wall });
        }
    }

    fn is_honest(&self, node: usize, nodes: &Nodes<'_, TimeWorld>) -> bool {
        nodes.is_correct(node) && !self.members[node].reference.lies()
    }

    /// What must hold of a member at every moment.
    fn judge(
        &mut self,
        node: usize,
        nodes: &Nodes<'_, TimeWorld>,
        hands: &mut Hands<'_, TimeWorld>,
    ) -> Result<(), Broken> {
        let Some(member) = nodes.get(node).filter(|_| nodes.is_correct(node)) else {
            return Ok(());
        };
        let (now, truth) = (hands.clock(node), hands.true_time());
        if let Some(interval) = member.interval(now)
            && !interval.contains(truth)
        {
            let off = truth.offset_from(interval.middle());
            let why = format!(
                "n{} says that its error is at most {:?}, and it is {off}",
                node + 1,
                interval.error()
            );
            return Err(Broken::new("interval", why));
        }
        let reading = member.reading(now);
        let before = std::mem::replace(&mut self.members[node].reading, reading);
        if before > reading && reading.is_some() {
            let why = format!("n{} read {before:?} and then {reading:?}", node + 1);
            return Err(Broken::new("monotone", why));
        }
        if member.drift().is_some() {
            hands.mark("the rate becomes known");
        }
        self.judge_filter(node, member, now)
    }

    /// No source is judged by a worse exchange than the best of the last ones.
    fn judge_filter(&self, node: usize, member: &Synchronizer, now: Time) -> Result<(), Broken> {
        for status in member.sources(now) {
            let Some(samples) = self.members[node].samples.get(&status.source) else { continue };
            let best = samples.iter().map(|sample| error_of(sample, now)).min();
            let reported = status.error.total().as_nanos();
            if best.is_some_and(|best| reported > best) {
                let source = status.source;
                let best = best.unwrap_or_default();
                let why = format!(
                    "n{} reckons with {reported} ns for {source}; its best exchange has {best} ns",
                    node + 1
                );
                return Err(Broken::new("filter", why));
            }
        }
        Ok(())
    }

    fn judge_all(&mut self, nodes: &Nodes<'_, TimeWorld>, hands: &mut Hands<'_, TimeWorld>) {
        for node in 0..nodes.len() {
            if let Err(broken) = self.judge(node, nodes, hands) {
                hands.broken(broken);
            }
        }
    }

    /// Who is accused must be guilty.
    fn accused(&self, node: usize, source: SourceId) -> Result<(), Broken> {
        let of = match source {
            SourceId::Own => node,
            SourceId::Peer(peer) => peer.0 as usize - 1,
            SourceId::Server(_) => return Ok(()),
        };
        match self.members[of].reference.lies() || self.too_many_liars {
            true => Ok(()),
            false => Err(Broken::new("innocent", format!("n{} outvotes {source}", node + 1))),
        }
    }
}

fn name(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

fn bound() -> DriftBound {
    DriftBound::of_data_sheet(DRIFT)
}

/// How wrong what a sample says may be at present: written down once more, from the paper.
fn error_of(sample: &Sample, now: Time) -> u128 {
    let age = now.since(sample.at).as_nanos();
    let drifted = (age * bound().ppb().0 as u128).div_ceil(1_000_000_000);
    sample.delay.as_nanos().div_ceil(2)
        + sample.error.as_nanos()
        + sample.drifted.as_nanos()
        + drifted
}

impl World for TimeWorld {
    type Node = Synchronizer;
    type Disk = ();

    fn prepare(&mut self, nodes: usize, hands: &mut Hands<'_, TimeWorld>) {
        let site = Site::new(About::Detail, 1);
        self.poll = Duration::from_millis([1_000, 250, 4_000][hands.draw(site, 3) as usize]);
        self.faulty_max = (nodes - 1) / 2;
        let watched = |node| Watched {
            reference: Reference::draw(node, hands),
            samples: BTreeMap::new(),
            reading: None,
        };
        self.members = (0..nodes).map(watched).collect();
        self.oscillators = (0..nodes).map(|node| oscillator(node, hands)).collect();
    }

    fn clocks(&mut self, node: usize) -> Option<NodeClocks> {
        let oscillator = self.oscillators.get(node)?.clone();
        Some(NodeClocks { oscillator, suspend: self.suspend })
    }

    fn disk(&mut self, _node: usize) {}

    fn boot(&mut self, node: usize, _disk: &mut ()) -> Result<Synchronizer, BootError> {
        let member = Synchronizer::restore(&self.config(node), &mut std::iter::empty());
        #[cfg(feature = "mutants")]
        let member = member.with_mutant(self.mutant);
        Ok(member)
    }

    fn append(&mut self, _node: usize, _disk: &mut (), _records: &mut Vec<Infallible>) {}

    fn sync(&mut self, _node: usize, _disk: &mut ()) -> Result<(), SyncError> {
        Ok(())
    }

    fn power_cut(&mut self, _node: usize, _disk: &mut (), _choose: Choose<'_>) {}

    fn start(&mut self, nodes: &mut Nodes<'_, TimeWorld>, hands: &mut Hands<'_, TimeWorld>) {
        self.choose_liars(nodes, hands);
        for node in 0..nodes.len() {
            hands.alarm(Duration::from_millis(node as u64), node as u64);
        }
    }

    fn on_alarm(
        &mut self,
        alarm: u64,
        nodes: &mut Nodes<'_, TimeWorld>,
        hands: &mut Hands<'_, TimeWorld>,
    ) {
        let node = alarm as usize;
        hands.alarm(self.members[node].reference.period, alarm);
        hands.count_operation();
        self.read(node, hands);
        self.judge_all(nodes, hands);
    }

    fn on_indication(
        &mut self,
        node: usize,
        _state: &Synchronizer,
        indication: Indication,
        hands: &mut Hands<'_, TimeWorld>,
    ) {
        hands.tell(Kind::Tell, |step| {
            (step.node, step.text) = (Some(node), format!("{indication:?}"));
        });
        match indication {
            Indication::Measured { source, sample } => {
                let samples = self.members[node].samples.entry(source).or_default();
                if samples.len() == SAMPLES_MAX {
                    samples.pop_front();
                }
                samples.push_back(sample);
            }
            Indication::StateChanged { state: State::Synced } => {
                hands.mark("a member is synchronized");
            }
            Indication::StateChanged { state: State::Freewheel } => {
                hands.mark("a member runs freely");
            }
            Indication::Corrected { correction } => {
                self.members[node].reading = None;
                if matches!(correction, Correction::Stepped(_)) {
                    hands.mark("the clock jumps");
                }
            }
            Indication::Outvoted { source } => {
                hands.mark("a source is outvoted");
                self.suspects.push((node, source));
            }
            Indication::Readmitted { .. } => hands.mark("a source is readmitted"),
            Indication::Refused { .. } => hands.mark("an answer is refused"),
            Indication::Contradiction { heard, sharing } if !self.too_many_liars => {
                let why = format!("only {sharing} of {heard} sources of n{} agree", node + 1);
                hands.broken(Broken::new("no-contradiction", why));
            }
            _ => {}
        }
    }

    fn on_turn_end(
        &mut self,
        node: usize,
        nodes: &mut Nodes<'_, TimeWorld>,
        hands: &mut Hands<'_, TimeWorld>,
    ) {
        for (accuser, source) in std::mem::take(&mut self.suspects) {
            let is_traitor = matches!(source, SourceId::Peer(peer)
                if !nodes.is_correct(peer.0 as usize - 1));
            if let (false, Err(broken)) = (is_traitor, self.accused(accuser, source)) {
                hands.broken(broken);
            }
        }
        if let Err(broken) = self.judge(node, nodes, hands) {
            hands.broken(broken);
        }
    }

    fn on_down(&mut self, node: usize, _hands: &mut Hands<'_, TimeWorld>) {
        self.members[node].samples.clear();
        self.members[node].reading = None;
    }

    fn on_calm(&mut self, _nodes: &mut Nodes<'_, TimeWorld>, _hands: &mut Hands<'_, TimeWorld>) {
        self.members.iter_mut().for_each(|member| member.reference.speak());
    }

    fn has_recovered(&mut self, nodes: &mut Nodes<'_, TimeWorld>) -> bool {
        let alive = |node: &usize| !nodes.is_dead(*node) && nodes.is_correct(*node);
        let honest = |node: &usize| self.is_honest(*node, nodes);
        let left = (0..nodes.len()).filter(alive).filter(honest).count();
        if left <= self.faulty_max {
            return true;
        }
        (0..nodes.len()).filter(alive).all(|node| {
            let member = nodes.get(node);
            // The error at its last review: it has hardly grown since.
            member.is_some_and(|member| {
                member.state() == State::Synced && member.error().is_some_and(|e| e <= ERROR_MAX)
            })
        })
    }

    fn fingerprint(&self, message: &Message) -> u64 {
        let words = match message {
            Message::Ask { ticket } => [1, *ticket, 0],
            Message::NoClock { ticket } => [2, *ticket, 0],
            Message::Answer { ticket, received, error, .. } => {
                [*ticket, received.as_nanos() as u64, error.as_nanos() as u64]
            }
        };
        words.iter().fold(7, |hash: u64, word| {
            (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(31)
        })
    }

    fn alter(&mut self, message: &Message, choose: Choose<'_>) -> Option<Message> {
        let Message::Answer { ticket, received, answered, error } = *message else { return None };
        let scale = [1_000, 1_000_000, 1_000_000_000, 3_600_000_000_000][choose(4)];
        let off = Offset::from_nanos((choose(2_001) as i64 - 1_000) * scale / 1_000);
        let (received, answered) = match choose(3) {
            0 => (received.moved(off), answered),
            1 => (received, answered.moved(off)),
            _ => (received.moved(off), answered.moved(off)),
        };
        let error = if choose(2) == 0 { error } else { Duration::ZERO };
        Some(Message::Answer { ticket, received, answered, error })
    }

    fn portrait(&self, member: &Synchronizer) -> BTreeMap<String, String> {
        let error = member.error().map_or("none".to_owned(), |error| format!("{error:?}"));
        let drift = member.drift().map_or("none".to_owned(), |drift| drift.rate.to_string());
        BTreeMap::from([
            ("state".to_owned(), member.state().to_string()),
            ("error".to_owned(), error),
            ("drift".to_owned(), drift),
        ])
    }

    fn marks(&self) -> &'static [&'static str] {
        if self.too_many_liars { &[] } else { MARKS }
    }
}

fn oscillator(node: usize, hands: &mut Hands<'_, TimeWorld>) -> Oscillator {
    let site = Site::new(About::Detail, 400 + node);
    Oscillator::drawn(i64::from(DRIFT), &mut |below| hands.draw(site, below))
}
