//! What surrounds the nodes of a run: their disks below, their clients above, and what must hold.
//!
//! The kernel knows messages, timers, clocks and power. A [`World`] knows what a record is on a
//! disk, who asks for what, and which properties the answers must have. It is handed [`Hands`] with
//! which it asks, draws, and says that something is broken; it never sees the queue.

use super::choices::{Choices, Site};
use super::faults::Fault;
use super::network::{Links, Net};
use super::node::Shell;
use super::oscillator::{EPOCH, NodeClocks};
use super::run::Switch;
use super::tally::Tally;
use super::trace::{Kind, Step};
use quorate_core::{NodeId, Protocol, Time, WallTime};
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a sync did not make anything durable.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SyncError {
    /// There is no space: nothing is in doubt, and it is tried again.
    Full,
    /// The log is lost for this life: the node must stop.
    Fatal(String),
}

/// Why a node did not begin a life.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BootError {
    /// What hinders it may pass: its supervisor tries again.
    Again(String),
    /// It must not come back: what it had promised is lost. Only damage of its disk may do that;
    /// any other node that says so breaks the property `recovery`.
    Never(String),
}

/// A property that does not hold.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Broken {
    /// Its name, stable: the same in every run that breaks it.
    pub property: &'static str,
    /// What contradicts it.
    pub why: String,
}

impl Broken {
    /// `property` does not hold, because of `why`.
    pub fn new(property: &'static str, why: impl Into<String>) -> Broken {
        Broken { property, why: why.into() }
    }
}

/// Draws numbers below a bound, for what is not about the kernel.
pub type Choose<'a> = &'a mut dyn FnMut(usize) -> usize;

/// Everything of a run that is not the nodes.
pub trait World: Sized {
    /// What runs on each node.
    type Node: Protocol;
    /// What a node keeps when it crashes.
    type Disk;

    /// The name of node number `node`; must be different for each.
    fn id(&self, node: usize) -> NodeId {
        NodeId(node as u64 + 1)
    }

    /// Before the first node boots: draw what the world leaves open. There are `nodes` of them.
    fn prepare(&mut self, _nodes: usize, _hands: &mut Hands<'_, Self>) {}

    /// The clocks of that node; none for an exact one, which the faults of clocks bend. Asked once,
    /// after [`World::prepare`].
    fn clocks(&mut self, _node: usize) -> Option<NodeClocks> {
        None
    }

    /// An empty disk for that node.
    fn disk(&mut self, node: usize) -> Self::Disk;

    /// A node begins a life with what is on its disk.
    ///
    /// Errors: it cannot, now or ever.
    fn boot(&mut self, node: usize, disk: &mut Self::Disk) -> Result<Self::Node, BootError>;

    /// Writes records, without making them durable. Empties `records`.
    fn append(
        &mut self,
        node: usize,
        disk: &mut Self::Disk,
        records: &mut Vec<<Self::Node as Protocol>::Record>,
    );

    /// Makes durable what was appended.
    fn sync(&mut self, node: usize, disk: &mut Self::Disk) -> Result<(), SyncError>;

    /// The power of the node fails: of what was not synced, `choose` decides.
    fn power_cut(&mut self, node: usize, disk: &mut Self::Disk, choose: Choose<'_>);

    /// The power fails while the node starts: `choose` decides how far its recovery has come, and
    /// what of it the disk has. If nothing is done here, it had written nothing.
    fn cut_start_short(&mut self, _node: usize, _disk: &mut Self::Disk, _choose: Choose<'_>) {}

    /// The process dies, and the machine goes on: what was appended stays.
    fn killed(&mut self, _node: usize, _disk: &mut Self::Disk) {}

    /// Something goes wrong with a disk. Returns what, or none if that cannot happen here.
    fn damage(
        &mut self,
        _node: usize,
        _disk: &mut Self::Disk,
        _fault: Fault,
        _choose: Choose<'_>,
    ) -> Option<String> {
        None
    }

    /// It no longer goes wrong; what is damaged stays so.
    fn mend(&mut self, _node: usize, _disk: &mut Self::Disk, _fault: Fault) {}

    /// The run begins.
    fn start(&mut self, _nodes: &mut Nodes<'_, Self>, _hands: &mut Hands<'_, Self>) {}

    /// An alarm that was set with [`Hands::alarm`].
    fn on_alarm(
        &mut self,
        _alarm: u64,
        _nodes: &mut Nodes<'_, Self>,
        _hands: &mut Hands<'_, Self>,
    ) {
    }

    /// A correct node tells the layer above something.
    fn on_indication(
        &mut self,
        _node: usize,
        _state: &Self::Node,
        _indication: <Self::Node as Protocol>::Indication,
        _hands: &mut Hands<'_, Self>,
    ) {
    }

    /// A turn of a correct node is over: check what concerns it.
    fn on_turn_end(
        &mut self,
        _node: usize,
        _nodes: &mut Nodes<'_, Self>,
        _hands: &mut Hands<'_, Self>,
    ) {
    }

    /// A fault begins at this instant: for a world in which somebody watches for it. Not called for
    /// those that are rates of links and liars, which have no begin.
    fn on_fault(
        &mut self,
        _fault: Fault,
        _nodes: &mut Nodes<'_, Self>,
        _hands: &mut Hands<'_, Self>,
    ) {
    }

    /// A node has lost its life.
    fn on_down(&mut self, _node: usize, _hands: &mut Hands<'_, Self>) {}

    /// All faults have ended, and whoever is not dead starts at this moment: from now on the system
    /// must come to serve. Dead are at most those that the plan may damage or kill: a minority.
    fn on_calm(&mut self, _nodes: &mut Nodes<'_, Self>, _hands: &mut Hands<'_, Self>) {}

    /// True once the system has served again. Asked after each step of the calm.
    fn has_recovered(&mut self, _nodes: &mut Nodes<'_, Self>) -> bool {
        true
    }

    /// What is still owed, in a few words for each member, client or promise: asked if the system
    /// has not recovered when its time is up. Empty if the world cannot say.
    fn awaited(&mut self, _nodes: &mut Nodes<'_, Self>) -> Vec<String> {
        Vec::new()
    }

    /// The run is over: judge what can only be judged then.
    fn finish(
        &mut self,
        _nodes: &mut Nodes<'_, Self>,
        _hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        Ok(())
    }

    /// The node that leads, for faults that look for it.
    fn leader(&self, _nodes: &Nodes<'_, Self>) -> Option<usize> {
        None
    }

    /// A number that differs for different messages: part of the digest of the run.
    fn fingerprint(&self, _message: &<Self::Node as Protocol>::Message) -> u64 {
        0
    }

    /// The message as something else, of the same type: what corruption, forgery and lies make of
    /// it. None if the world knows no way, or a checksum would notice.
    fn alter(
        &mut self,
        _message: &<Self::Node as Protocol>::Message,
        _choose: Choose<'_>,
    ) -> Option<<Self::Node as Protocol>::Message> {
        None
    }

    /// A message in the field's words.
    fn describe(&self, message: &<Self::Node as Protocol>::Message) -> String {
        format!("{message:?}")
    }

    /// A request in the field's words, if a trace should tell of it when it reaches its node; none
    /// if the world tells of its clients itself.
    fn describe_request(&self, _request: &<Self::Node as Protocol>::Request) -> Option<String> {
        None
    }

    /// What a reader wants to know of a node: role, term, commit index.
    fn portrait(&self, _node: &Self::Node) -> BTreeMap<String, String> {
        BTreeMap::new()
    }

    /// Names of the clients, for traces.
    fn clients(&self) -> Vec<String> {
        Vec::new()
    }

    /// What a campaign should have seen at least once.
    fn marks(&self) -> &'static [&'static str] {
        &[]
    }
}

/// One node as a world sees it.
#[derive(Debug)]
pub(super) struct Seat<N, D> {
    pub(super) state: Option<N>,
    pub(super) disk: D,
    /// It does what its protocol says.
    pub(super) correct: bool,
    /// It will not come back in this run.
    pub(super) dead: bool,
    /// Its disk was damaged, or lost, by a fault that damages for good.
    pub(super) damaged: bool,
}

/// The nodes of a run.
pub struct Nodes<'a, W: World> {
    pub(super) seats: &'a mut [Seat<W::Node, W::Disk>],
}

impl<W: World> Nodes<'_, W> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.seats.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.seats.is_empty()
    }

    /// The node, if it is up.
    pub fn get(&self, node: usize) -> Option<&W::Node> {
        self.seats[node].state.as_ref()
    }

    /// The node, if it is up, and its disk.
    pub fn with_disk(&mut self, node: usize) -> (Option<&W::Node>, &mut W::Disk) {
        let seat = &mut self.seats[node];
        (seat.state.as_ref(), &mut seat.disk)
    }

    /// False if it is Byzantine: then nothing is promised of it.
    pub fn is_correct(&self, node: usize) -> bool {
        self.seats[node].correct
    }

    /// True if it will not come back in this run.
    pub fn is_dead(&self, node: usize) -> bool {
        self.seats[node].dead
    }

    /// Those that are up and correct.
    pub fn up(&self) -> impl Iterator<Item = (usize, &W::Node)> {
        let up = |(at, seat): (usize, &'_ Seat<W::Node, W::Disk>)| -> Option<usize> {
            (seat.correct && seat.state.is_some()).then_some(at)
        };
        let seats = &*self.seats;
        (0..seats.len()).filter_map(move |at| {
            let at = up((at, &seats[at]))?;
            Some((at, seats[at].state.as_ref()?))
        })
    }
}

/// What a world asks of the kernel.
pub(super) enum Todo<R> {
    Request { node: usize, after: u64, request: R },
    Alarm { after: u64, alarm: u64 },
    Links(Links),
    Syncs { min: u64, span: u64 },
}

/// The world's hands in the run.
pub struct Hands<'a, W: World> {
    pub(super) now: u64,
    pub(super) choices: &'a mut Choices,
    pub(super) todo: &'a mut Vec<Todo<<W::Node as Protocol>::Request>>,
    pub(super) tally: &'a mut Tally,
    pub(super) broken: &'a mut Option<Broken>,
    /// Steps that the world wants in the trace, if there is one.
    pub(super) told: Option<&'a mut Vec<Step>>,
    pub(super) net: &'a Net,
    pub(super) shells: &'a [Shell<W::Node>],
    pub(super) buggify: Switch,
}

impl<W: World> Hands<'_, W> {
    /// True time since the run began. Unit: nanoseconds.
    pub fn now(&self) -> u64 {
        self.now
    }

    /// The true time of day.
    pub fn true_time(&self) -> WallTime {
        WallTime::from_nanos((EPOCH + self.now) as i64)
    }

    /// What the monotonic clock of the node shows.
    pub fn clock(&self, node: usize) -> Time {
        Time::from_nanos(self.shells[node].clocks(self.now).0)
    }

    /// What the wall clock of the node shows, if its world gives it one ([`World::clocks`]).
    pub fn wall(&self, node: usize) -> Option<WallTime> {
        let wall = self.shells[node].clocks(self.now).1;
        wall.map(|wall| WallTime::from_nanos(wall as i64))
    }

    /// A number below `bound`.
    pub fn draw(&mut self, site: Site, bound: u64) -> u64 {
        self.choices.draw(site, bound)
    }

    /// True in `per_million` of a million cases.
    pub fn chance(&mut self, site: Site, per_million: u64) -> bool {
        self.choices.chance(site, per_million)
    }

    /// Asks a node, `after` from now, if it is up then and in the same life.
    pub fn request(
        &mut self,
        node: usize,
        after: Duration,
        request: <W::Node as Protocol>::Request,
    ) {
        let after = after.as_nanos() as u64;
        self.todo.push(Todo::Request { node, after, request });
    }

    /// Calls [`World::on_alarm`] with this number, `after` from now.
    pub fn alarm(&mut self, after: Duration, alarm: u64) {
        self.todo.push(Todo::Alarm { after: after.as_nanos() as u64, alarm });
    }

    /// From now on links behave like this as long as nothing is wrong with them: a weather that the
    /// world makes itself. Faults of links come on top of it.
    pub fn set_links(&mut self, links: Links) {
        self.todo.push(Todo::Links(links));
    }

    /// From now on a sync of a healthy disk takes `min`, and up to `span` longer.
    pub fn set_syncs(&mut self, min: Duration, span: Duration) {
        let nanoseconds = |time: Duration| time.as_nanos() as u64;
        self.todo.push(Todo::Syncs { min: nanoseconds(min), span: nanoseconds(span) });
    }

    /// True if messages from the one to the other are stopped at present.
    pub fn is_cut(&self, from: usize, to: usize) -> bool {
        self.net.is_cut(from, to)
    }

    /// Whether the code under test may take its rare paths on purpose in this run. A world draws
    /// which it takes in any case, so that the shape of a run does not depend on the switch.
    pub fn buggify(&self) -> Switch {
        self.buggify
    }

    /// This has happened: see [`World::marks`].
    pub fn mark(&mut self, name: &'static str) {
        self.tally.mark(name);
    }

    /// True if a fault of this kind has begun in this run.
    pub fn has_seen(&self, fault: Fault) -> bool {
        self.tally.faults.contains_key(fault.name())
    }

    /// A client has begun, or ended, an operation.
    pub fn count_operation(&mut self) {
        self.tally.operations += 1;
    }

    /// A property does not hold: the run ends here. The first one counts.
    pub fn broken(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
    }

    /// Notes a step, if anybody looks.
    pub fn tell(&mut self, kind: Kind, make: impl FnOnce(&mut Step)) {
        if let Some(told) = &mut self.told {
            let mut step = Step::new(kind, "");
            make(&mut step);
            told.push(step);
        }
    }

    /// True if somebody looks at the steps.
    pub fn is_watched(&self) -> bool {
        self.told.is_some()
    }
}
