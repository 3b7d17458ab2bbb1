//! Who makes things go wrong: begins faults, ends them, and heals everything when the calm comes.
//!
//! Kinds of faults that are rates of the links (loss, doubling) work from the first moment to the
//! calm; the others are thought about now and then, each kind at a pace of its own, and each has a
//! begin and an end. What they do is drawn at sites of their kind.

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
const SECOND: i64 = 1_000_000_000;

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
            shell.clock.settle(self.now);
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
                self.shells[node].paused -= 1;
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
            Undo::FastDisk(node, by) => self.shells[node].sync_extra -= by,
            Undo::Rate(node) => {
                self.shells[node].clock.set_rate(self.now, 0);
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

    fn part(&mut self, fault: Fault) {
        let lasts = self.some_time(fault);
        let group = match fault {
            Fault::IsolateLeader => {
                let leader = self.with_world(|world, nodes, _| world.leader(nodes));
                leader.into_iter().collect()
            }
            _ => self.some_group(fault),
        };
        self.part_from(group, fault, lasts);
    }

    /// Some nodes and all others do not hear each other, in the way of that fault.
    pub(super) fn part_from(&mut self, group: Vec<usize>, fault: Fault, lasts: u64) {
        let nodes = self.nodes();
        if group.is_empty() || nodes < 2 {
            return;
        }
        let inside = |node: usize| group.contains(&node);
        let bridge = (0..nodes).find(|node| !inside(*node)).unwrap_or(0);
        let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        let pairs: Vec<(usize, usize)> = all
            .filter(|(from, to)| match fault {
                Fault::OneWay => inside(*from) && !inside(*to),
                Fault::PartialCut => {
                    let (one, other) = (group[0], (group[0] + 1) % nodes);
                    (*from, *to) == (one, other) || (*from, *to) == (other, one)
                }
                Fault::Bridge => inside(*from) != inside(*to) && *from != bridge && *to != bridge,
                _ => inside(*from) != inside(*to),
            })
            .collect();
        let held = pairs.iter().any(|(from, to)| self.net.is_held(*from, *to));
        if held && self.keeps_bounds() {
            return;
        }
        if fault == Fault::Flapping {
            let times = 1 + self.shape(fault, 5);
            return self.flap(pairs, times);
        }
        self.cut(&pairs);
        let text = self.cut_words(&pairs);
        self.activate(fault, group, lasts, Undo::Mend(pairs), text);
    }

    fn cut_words(&self, pairs: &[(usize, usize)]) -> String {
        let name = |node: usize| self.shells[node].id;
        let words: Vec<String> = pairs
            .iter()
            .filter(|(from, to)| from < to || !pairs.contains(&(*to, *from)))
            .map(|(from, to)| match pairs.contains(&(*to, *from)) {
                true => format!("{} x {}", name(*from), name(*to)),
                false => format!("{} -x-> {}", name(*from), name(*to)),
            })
            .collect();
        words.join(", ")
    }

    fn flap(&mut self, pairs: Vec<(usize, usize)>, left: u64) {
        let lasts = self.some_time(Fault::Flapping).min(500 * MILLISECOND);
        self.cut(&pairs);
        let text = self.cut_words(&pairs);
        let mut nodes: Vec<usize> = pairs.iter().map(|pair| pair.0).collect();
        nodes.dedup();
        self.activate(Fault::Flapping, nodes, lasts, Undo::Flap(pairs, left), text);
    }

    /// In a reliable network what is cut arrives later.
    fn cut(&mut self, pairs: &[(usize, usize)]) {
        for (from, to) in pairs {
            if from < to && self.plan.planted(Mutant::PartitionLeaks) {
                continue;
            }
            match self.is_lossy() {
                true => self.net.cut(*from, *to),
                false => self.net.hold(*from, *to),
            }
        }
    }

    fn mend(&mut self, pairs: &[(usize, usize)]) {
        if !self.is_lossy() {
            return self.release(pairs);
        }
        for (from, to) in pairs {
            if from < to && self.plan.planted(Mutant::PartitionLeaks) {
                continue;
            }
            self.net.mend(*from, *to);
        }
    }

    fn release(&mut self, pairs: &[(usize, usize)]) {
        for (from, to) in pairs {
            for message in self.net.release(*from, *to) {
                let site = Site::new(About::Shape, Fault::Hold as usize);
                let after = self.choices.draw(site, 10 * MILLISECOND);
                self.queue.push(self.now + after, Event::Deliver { message });
            }
        }
    }

    fn hold(&mut self) {
        let node = self.some_node(Fault::Hold);
        let lasts = self.some_time(Fault::Hold);
        let others = (0..self.nodes()).filter(|to| *to != node);
        let pairs: Vec<(usize, usize)> = others.map(|to| (node, to)).collect();
        let held = pairs.iter().any(|(from, to)| self.net.is_held(*from, *to));
        if held && self.keeps_bounds() {
            return;
        }
        for (from, to) in &pairs {
            self.net.hold(*from, *to);
        }
        let text = format!("what {} sends is held back", self.shells[node].id);
        self.activate(Fault::Hold, vec![node], lasts, Undo::Release(pairs), text);
    }

    /// Half a minute at most, and then everything arrives: delivery is eventual.
    fn starve(&mut self) {
        let node = self.some_node(Fault::Starve);
        let peer = self.some_node(Fault::Starve);
        let lasts = MILLISECOND * (1_000 + self.shape(Fault::Starve, 29_000));
        let all = self.shape(Fault::Starve, 2) == 1;
        let senders = (0..self.nodes()).filter(|from| *from != node && (all || *from == peer));
        let pairs: Vec<(usize, usize)> = senders.map(|from| (from, node)).collect();
        if pairs.is_empty() {
            return;
        }
        for (from, to) in &pairs {
            self.net.hold(*from, *to);
        }
        let from = if all { "all".to_owned() } else { self.shells[peer].id.to_string() };
        let text = format!("what {from} send to {} has to wait", self.shells[node].id);
        self.activate(Fault::Starve, vec![node], lasts, Undo::Release(pairs), text);
    }

    fn slow_link(&mut self) {
        let from = self.some_node(Fault::SlowLink);
        let to =
            (from + 1 + self.some_node(Fault::SlowLink) % (self.nodes() - 1).max(1)) % self.nodes();
        let lasts = self.some_time(Fault::SlowLink);
        let by = MILLISECOND * (1 + self.shape(Fault::SlowLink, 500));
        self.net.slow_down(from, to, by);
        let text = format!(
            "{} -> {} takes {} ms more",
            self.shells[from].id,
            self.shells[to].id,
            by / MILLISECOND
        );
        self.activate(Fault::SlowLink, vec![from, to], lasts, Undo::SpeedUp(from, to, by), text);
    }

    fn down(&mut self, fault: Fault) {
        let node = match fault {
            Fault::CrashStop => self.some_victim(fault),
            _ => Some(self.some_node(fault)),
        };
        let Some(node) = node.filter(|node| self.seats[*node].state.is_some()) else { return };
        let away = self.some_time(fault);
        self.injected(fault);
        match fault {
            Fault::CrashStop => {
                self.crash(node, Power::Fails, "it dies for ever");
                match self.plan.planted(Mutant::ReturnsFromDeath) {
                    true => self.restart_after(node, away),
                    false => self.seats[node].dead = true,
                }
            }
            Fault::Kill => {
                self.crash(node, Power::Stays, "the process is killed");
                self.restart_after(node, away);
            }
            Fault::CrashLoop => {
                let times = 1 + self.shape(fault, 4);
                self.crash(node, Power::Fails, "the power fails");
                self.restart_after(node, away.min(100 * MILLISECOND));
                self.crash_again(node, times);
            }
            _ => {
                self.crash(node, Power::Fails, "the power fails");
                self.restart_after(node, away);
            }
        }
    }

    fn crash_again(&mut self, node: usize, left: u64) {
        if left == 0 {
            return;
        }
        let after = 10 * MILLISECOND + self.shape(Fault::CrashLoop, 200) * MILLISECOND;
        let undo = Undo::CrashAgain(node, left - 1);
        self.activate(Fault::CrashLoop, vec![node], after, undo, "it will crash again".to_owned());
    }

    fn blackout(&mut self) {
        self.injected(Fault::Blackout);
        for node in 0..self.nodes() {
            let away = self.some_time(Fault::Blackout);
            if self.seats[node].state.is_some() {
                self.crash(node, Power::Fails, "the power fails everywhere");
                self.restart_after(node, away);
            }
        }
    }

    fn stand_still(&mut self, fault: Fault) {
        let node = self.some_node(fault);
        let lasts = self.some_time(fault);
        let shell = &self.shells[node];
        if self.keeps_bounds() && (shell.paused > 0 || shell.step_time > 0) {
            return;
        }
        if fault == Fault::Pause {
            self.shells[node].paused += 1;
            self.record(Kind::Pause, |step| {
                step.node = Some(node);
                step.text = "stands still".to_owned();
            });
            return self.activate(fault, vec![node], lasts, Undo::Resume(node), String::new());
        }
        let mut by = MILLISECOND * (1 + self.shape(fault, 50));
        if let Promise::Always { step, .. } = self.nemesis.shape.promise {
            by = by.min(step);
        }
        self.shells[node].step_time += by;
        let text = format!("each step takes {} ms more", by / MILLISECOND);
        self.activate(fault, vec![node], lasts, Undo::Steady(node, by), text);
    }

    fn omit(&mut self, fault: Fault) {
        let node = self.some_node(fault);
        if !self.is_lossy() && !self.nemesis.shape.traitors.contains(&node) {
            return;
        }
        let lasts = self.some_time(fault);
        let rate = [200_000, 500_000, 1_000_000][self.shape(fault, 3) as usize];
        let undo = match fault {
            Fault::SendOmission => {
                self.shells[node].send_omission = rate;
                Undo::SendOmission(node)
            }
            _ => {
                self.shells[node].receive_omission = rate;
                Undo::ReceiveOmission(node)
            }
        };
        let text = format!("{} of 100 messages", rate / 10_000);
        self.activate(fault, vec![node], lasts, undo, text);
    }

    /// Why a message is not seen by a node, if it is not.
    pub(super) fn omitted(&mut self, at: usize) -> Option<&'static str> {
        let rate = self.shells[at].receive_omission;
        let site = Site::new(About::Malice, at);
        self.choices.chance(site, rate).then_some("receive omission")
    }

    fn harm_disk(&mut self, fault: Fault) {
        let node =
            if fault.damages() { self.some_victim(fault) } else { Some(self.some_node(fault)) };
        let Some(node) = node else { return };
        if fault == Fault::SyncLie && !self.nemesis.shape.traitors.contains(&node) {
            return;
        }
        let lasts = self.some_time(fault);
        let site = Site::new(About::Shape, fault as usize);
        let choices = &mut self.choices;
        let mut choose = |options: usize| choices.draw(site, options as u64) as usize;
        let disk = &mut self.seats[node].disk;
        if let Some(text) = self.world.damage(node, disk, fault, &mut choose) {
            self.activate(fault, vec![node], lasts, Undo::Disk(node, fault), text);
            // Damage at rest is found when it is read: at the next start.
            if fault.damages() && self.shape(fault, 2) == 1 && self.seats[node].state.is_some() {
                self.crash(node, Power::Stays, "it is started anew");
                self.restart_after(node, 10 * MILLISECOND);
            }
        }
    }

    fn slow_disk(&mut self, fault: Fault) {
        let node = self.some_node(fault);
        let lasts = self.some_time(fault);
        if fault == Fault::DiskStall {
            let shell = &mut self.shells[node];
            shell.stalled_until = shell.stalled_until.max(self.now + lasts);
            let undo = Undo::FastDisk(node, 0);
            return self.activate(
                fault,
                vec![node],
                lasts,
                undo,
                "the disk stands still".to_owned(),
            );
        }
        let by = MILLISECOND * (1 + self.shape(fault, 200));
        self.shells[node].sync_extra += by;
        let text = format!("each sync takes {} ms more", by / MILLISECOND);
        self.activate(fault, vec![node], lasts, Undo::FastDisk(node, by), text);
    }

    fn bend_clock(&mut self, fault: Fault) {
        let node = self.some_node(fault);
        let lasts = self.some_time(fault);
        let most = match fault {
            Fault::WildDrift => 50_000_000,
            // A second that is spread over a thousand.
            Fault::LeapSecond => 1_000_000,
            _ => self.plan.bounds.drift,
        };
        let rate = match (fault, self.shape(fault, 2)) {
            (Fault::Freeze, _) => -1_000_000_000,
            (_, 0) => most,
            _ => -most,
        };
        self.shells[node].clock.set_rate(self.now, rate);
        self.shells[node].rearm(self.now, node, &mut self.queue);
        let text = format!("the clock of {} runs {} ppm off", self.shells[node].id, rate / 1_000);
        self.activate(fault, vec![node], lasts, Undo::Rate(node), text);
    }

    fn step_clock(&mut self, fault: Fault) {
        if fault == Fault::LeapSecond && self.shape(fault, 2) == 0 {
            return self.bend_clock(fault);
        }
        let node = self.some_node(fault);
        let by = match (fault, self.shape(fault, 2)) {
            (Fault::LeapSecond, 0) => SECOND,
            (Fault::LeapSecond, _) => -SECOND,
            _ => (1 + self.shape(fault, 10)) as i64 * SECOND,
        };
        let by = if fault == Fault::StepBack { -by } else { by };
        self.shells[node].clock.step(self.now, by);
        self.shells[node].rearm(self.now, node, &mut self.queue);
        let text = format!("the clock of {} jumps by {} s", self.shells[node].id, by / SECOND);
        self.activate(fault, vec![node], 0, Undo::FastDisk(node, 0), text);
    }

    /// A traitor comes back with nothing on its disk.
    fn forget(&mut self) {
        let traitors = self.nemesis.shape.traitors.clone();
        let chosen = self.shape(Fault::Amnesia, traitors.len().max(1) as u64) as usize;
        let Some(node) = traitors.get(chosen).copied() else { return };
        if self.seats[node].state.is_some() {
            self.injected(Fault::Amnesia);
            self.crash(node, Power::Fails, "it forgets everything");
            self.seats[node].disk = self.world.disk(node);
            self.restart_after(node, 10 * MILLISECOND);
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
