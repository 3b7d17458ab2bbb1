//! Who makes things go wrong: begins faults, ends them, and heals everything when the calm comes.
//!
//! Kinds of faults that are rates of the links (loss, doubling) work from the first moment to the
//! calm; the others are thought about now and then, each kind at a pace of its own, and each has a
//! begin and an end. What they do is drawn at sites of their kind.
//!
//! | what goes wrong | file |
//! |---|---|
//! | links | `nemesis/links.rs` |
//! | nodes | `nemesis/nodes.rs` |
//! | disks | `nemesis/disks.rs` |
//! | clocks | `nemesis/clocks.rs` |
//! | messages, by liars | `malice.rs` |

mod clocks;
mod disks;
mod links;
mod nodes;

use super::ambush::Ambush;
use super::choices::{About, Site};
use super::faults::Fault;
use super::kernel::Kernel;
use super::malice::Malice;
use super::mutant::Mutant;
use super::network::{Links, Net};
use super::queue::Event;
use super::run::Plan;
use super::setup::{Promise, Shape};
use super::tally::Tally;
use super::trace::Kind;
use super::world::World;
use std::collections::BTreeMap;

const MILLISECOND: u64 = 1_000_000;

/// Whether a node loses its power, or only its process.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Power {
    /// What was not synced may be gone.
    Fails,
    /// What was written is still there.
    Stays,
}

/// What ends a fault.
#[derive(Debug)]
pub(super) enum Undo {
    Mend(Vec<(usize, usize)>),
    /// Cut again, so many times more.
    Flap(Vec<(usize, usize)>, u64),
    Release(Vec<(usize, usize)>),
    SpeedUp(usize, usize, u64),
    Resume(usize),
    Steady(usize, u64),
    SendOmission(usize),
    ReceiveOmission(usize),
    Disk(usize, Fault),
    FastDisk(usize, u64),
    Rate(usize),
    CrashAgain(usize, u64),
    CallOff,
    /// It was over at once, as the jump of a clock, or ends by itself, as the stall of a disk.
    Nothing,
}

/// The state of the faults of a run.
#[derive(Debug)]
pub(super) struct Nemesis<M> {
    pub(super) shape: Shape,
    pub(super) malice: Malice<M>,
    pub(super) ambush: Option<Ambush>,
    active: BTreeMap<u32, (Fault, Undo)>,
    begun: u32,
    calm: bool,
    pub(super) lost: u64,
    pub(super) twice: u64,
}

impl<M> Nemesis<M> {
    pub(super) fn new(plan: &Plan, shape: Shape) -> Nemesis<M> {
        let malice = Malice::new(plan, &shape);
        let active = BTreeMap::new();
        let (ambush, calm) = (None, false);
        Nemesis { shape, malice, ambush, active, begun: 0, calm, lost: 0, twice: 0 }
    }

    /// True if somebody lies, or the network alters messages.
    pub(super) fn is_malicious(&self) -> bool {
        self.malice.is_active()
    }

    /// Counts what is not counted when it happens.
    pub(super) fn settle(&self, net: &Net, tally: &mut Tally) {
        tally.faults(Fault::Tail, net.late);
        tally.faults(Fault::Congestion, net.congested);
        tally.faults(Fault::Loss, self.lost);
        tally.faults(Fault::Duplicate, self.twice);
        for (fault, count) in self.malice.counts() {
            tally.faults(fault, count);
        }
    }
}

impl<W: World> Kernel<W> {
    pub(super) fn begin_nemesis(&mut self) {
        for (kind, enabled) in self.nemesis.shape.enabled.iter().enumerate() {
            if !is_rate(enabled.fault) {
                self.queue.push(enabled.period, Event::Nemesis { kind: kind as u16 });
            }
        }
        self.begin_malice();
    }

    /// The time to think about one kind of fault.
    pub(super) fn think(&mut self, kind: usize) {
        if self.nemesis.calm {
            return;
        }
        let enabled = self.nemesis.shape.enabled[kind].clone();
        self.queue.push(self.now + enabled.period, Event::Nemesis { kind: kind as u16 });
        let site = Site::new(About::Fault, enabled.fault as usize);
        if self.choices.chance(site, enabled.rate) {
            self.begin_fault(enabled.fault);
        }
    }

    /// All faults end; who can return, returns.
    pub(super) fn stop_nemesis(&mut self) {
        self.nemesis.calm = true;
        let ends = |(id, (fault, _)): (&u32, &(Fault, Undo))| {
            // Where nothing is ever promised, the adversary goes on as long as it had planned to.
            (*fault != Fault::Starve).then_some(*id)
        };
        let active: Vec<u32> = self.nemesis.active.iter().filter_map(ends).collect();
        for fault in active {
            self.heal(fault);
        }
        let Links { delay_min, delay_span, in_order, .. } = self.net.links;
        self.net.links = Links { delay_min, delay_span, in_order, ..Links::default() };
        self.silence_traitors();
        if self.plan.is_live() && !self.plan.planted(Mutant::NeverStabilizes) {
            // From here on bounds hold, also for what is under way.
            let delay_max = self.plan.bounds.delay_max;
            self.queue.hasten(self.now + delay_max);
            self.net.settle(self.now, delay_max);
        }
        for at in 0..self.nodes() {
            let shell = &mut self.shells[at];
            (shell.busy_until, shell.stalled_until) = (self.now, self.now);
            self.queue.push(self.now, Event::Awake { node: at as u16 });
            shell.bendable().settle(self.now);
            shell.rearm(self.now, at, &mut self.queue);
            if self.seats[at].state.is_none() && !self.seats[at].dead {
                let (node, life) = (at as u16, self.shells[at].life);
                self.queue.push(self.now, Event::Boot { node, life });
            }
        }
    }

    pub(super) fn shape(&mut self, fault: Fault, bound: u64) -> u64 {
        self.choices.draw(Site::new(About::Shape, fault as usize), bound)
    }

    fn some_node(&mut self, fault: Fault) -> usize {
        let nodes = self.nodes() as u64;
        self.shape(fault, nodes) as usize
    }

    /// One of those that may be damaged, if there are any.
    fn some_victim(&mut self, fault: Fault) -> Option<usize> {
        let victims = self.nemesis.shape.victims.clone();
        let chosen = self.shape(fault, victims.len().max(1) as u64) as usize;
        victims.get(chosen).copied()
    }

    /// From a hundredth of a second to ten: short ones are as likely as long ones. Where bounds
    /// hold always, what delays a message or a step stays within its share of them.
    pub(super) fn some_time(&mut self, fault: Fault) -> u64 {
        let scale = [10, 100, 1_000, 5_000][self.shape(fault, 4) as usize];
        let time = MILLISECOND * (scale + self.shape(fault, scale + 1));
        match (self.nemesis.shape.promise, fault) {
            (Promise::Always { step, .. }, Fault::Pause | Fault::DiskStall) => time.min(step / 4),
            (Promise::Always { delay, .. }, Fault::Hold) => time.min(delay / 4),
            (Promise::Always { delay, .. }, fault) if fault.parts() && !self.is_lossy() => {
                time.min(delay / 4)
            }
            _ => time,
        }
    }

    /// True if bounds hold in the whole run, so that two faults which delay the same thing must not
    /// add up.
    fn keeps_bounds(&self) -> bool {
        matches!(self.nemesis.shape.promise, Promise::Always { .. })
    }

    /// A set of nodes, neither empty nor all.
    fn some_group(&mut self, fault: Fault) -> Vec<usize> {
        let nodes = self.nodes();
        let first = self.some_node(fault);
        let size = 1 + self.shape(fault, (nodes as u64 / 2).max(1)) as usize;
        (0..size).map(|i| (first + i) % nodes).collect()
    }

    fn begin_fault(&mut self, fault: Fault) {
        self.with_world(|world, nodes, hands| world.on_fault(fault, nodes, hands));
        match fault {
            Fault::Partition | Fault::OneWay | Fault::Flapping => self.part(fault),
            Fault::PartialCut | Fault::Bridge | Fault::IsolateLeader => self.part(fault),
            Fault::Hold => self.hold(),
            Fault::SlowLink => self.slow_link(),
            Fault::Starve => self.starve(),
            Fault::Crash | Fault::Kill | Fault::CrashLoop | Fault::CrashStop => self.down(fault),
            Fault::Blackout => self.blackout(),
            Fault::Pause | Fault::SlowNode => self.stand_still(fault),
            Fault::SendOmission | Fault::ReceiveOmission => self.omit(fault),
            Fault::BitRot | Fault::Misdirected | Fault::SyncError | Fault::DiskFull => {
                self.harm_disk(fault);
            }
            Fault::SyncLie => self.harm_disk(fault),
            Fault::DiskStall | Fault::SlowDisk => self.slow_disk(fault),
            Fault::Drift | Fault::WildDrift | Fault::NtpOutage | Fault::Freeze => {
                self.bend_clock(fault);
            }
            Fault::StepForward | Fault::StepBack | Fault::LeapSecond => self.step_clock(fault),
            Fault::Amnesia => self.forget(),
            Fault::Ambush => self.lie_in_wait(),
            // Rates of links and of liars: they work all the time.
            Fault::Loss | Fault::Duplicate | Fault::Tail | Fault::Congestion => {}
            Fault::Corrupt | Fault::Replay | Fault::Forge => {}
            Fault::Twins | Fault::Withhold | Fault::Lie | Fault::Echo => {}
        }
    }

    /// A fault begins that ends after `lasts`.
    pub(super) fn activate(
        &mut self,
        fault: Fault,
        nodes: Vec<usize>,
        lasts: u64,
        undo: Undo,
        text: String,
    ) {
        let id = self.nemesis.begun;
        self.nemesis.begun += 1;
        self.nemesis.active.insert(id, (fault, undo));
        self.injected(fault);
        self.record(Kind::Fault, |step| {
            (step.fault, step.nodes) = (Some(u64::from(id)), nodes);
            step.text = format!("{fault}: {text}");
        });
        self.queue.push(self.now + lasts, Event::Heal { fault: id });
    }

    /// A fault ends.
    pub(super) fn heal(&mut self, id: u32) {
        let Some((fault, undo)) = self.nemesis.active.remove(&id) else { return };
        self.record(Kind::Heal, |step| {
            step.fault = Some(u64::from(id));
            step.text = format!("{fault} ends");
        });
        match undo {
            Undo::Mend(pairs) => self.mend(&pairs),
            Undo::Flap(pairs, left) => {
                self.mend(&pairs);
                if left > 0 && !self.nemesis.calm {
                    self.flap(pairs, left - 1);
                }
            }
            Undo::Release(_)
                if fault == Fault::Starve && self.plan.planted(Mutant::StarvesForEver) => {}
            Undo::Release(pairs) => self.release(&pairs),
            Undo::SpeedUp(from, to, by) => self.net.speed_up(from, to, by),
            Undo::Resume(node) => {
                self.shells[node].resume(self.now, node, &mut self.queue);
                self.record(Kind::Resume, |step| {
                    step.node = Some(node);
                    step.text = "goes on".to_owned();
                });
                self.queue.push(self.now, Event::Awake { node: node as u16 });
                self.start_late(node);
            }
            Undo::Steady(node, by) => self.shells[node].step_time -= by,
            Undo::SendOmission(node) => self.shells[node].send_omission = 0,
            Undo::ReceiveOmission(node) => self.shells[node].receive_omission = 0,
            Undo::Disk(node, fault) => {
                let face = self.shells[node].face;
                self.world.mend(face, &mut self.seats[node].disk, fault);
            }
            Undo::Nothing => {}
            Undo::FastDisk(node, by) => self.shells[node].sync_extra -= by,
            Undo::Rate(node) => {
                self.shells[node].bendable().set_rate(self.now, 0);
                self.shells[node].rearm(self.now, node, &mut self.queue);
            }
            Undo::CallOff => self.nemesis.ambush = None,
            Undo::CrashAgain(node, left) => {
                if !self.nemesis.calm && self.seats[node].state.is_some() {
                    self.crash(node, Power::Fails, "it crashes again");
                    self.restart_after(node, 10 * MILLISECOND);
                    self.crash_again(node, left);
                }
            }
        }
    }
}

/// True for what works all the time instead of beginning and ending.
fn is_rate(fault: Fault) -> bool {
    matches!(
        fault,
        Fault::Loss
            | Fault::Duplicate
            | Fault::Tail
            | Fault::Congestion
            | Fault::Corrupt
            | Fault::Replay
            | Fault::Forge
            | Fault::Twins
            | Fault::Withhold
            | Fault::Lie
            | Fault::Echo
    )
}
