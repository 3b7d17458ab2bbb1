//! Raft in changing weather: links that become slow, that lose messages, disks that hesitate; and
//! nobody fails. Whoever elects another leader there has taken the weather for a failure.
//!
//! **Problem.** A timeout that adapts is asked for two things: to be short when a leader is gone,
//! and to err as little as a long one. Worlds in which members fail all the time show the first and
//! not the second.
//!
//! **Idea.** No fault takes part. The world itself changes how links and disks behave, by a script,
//! and looks at the terms after each turn:
//!
//! ```text
//!   0 s      5 s               8 s              20 s            26 s           30 s
//!   election | from here on    | RTT times      | RTT as        | times        | end
//!            | one term, ever  | `factor`       | before        | `factor`     |
//! ```
//!
//! Each member proposes in turn, so that the log grows while the weather changes. In bursts all
//! disks are slow together, which is what a machine that is short of them does.
//!
//! Or the leader's disk stands still for good, and with it that of one member which is asked to
//! take over, so that another has to.
//!
//! **Judged.** `false-election`: after the warm-up no member is ever in another term than the one
//! in which the leader was elected; the leader is alive, always. `liveness`: most of what was
//! proposed is committed by everybody, so that silence is no success. `hand-over`: when the
//! leader's disk stands still, another member leads within [`LEADS_WITHIN`].

use super::own;
use bytes::Bytes;
use quorate_core::{Protocol, Term};
use quorate_drivers::simulate::{
    About, BootError, Broken, Choose, Hands, Links, Nodes, Site, SyncError, World,
};
#[cfg(feature = "mutants")]
use quorate_protocols::consensus::raft::Mutant;
use quorate_protocols::consensus::raft::{
    Config, Configuration, Indication, Message, Raft, Record, Request, RoleName,
};
use std::time::Duration;

/// From here on the term must stay.
const WARM: Duration = Duration::from_secs(5);
/// When the RTT changes: up, back, up.
const CHANGES: [Duration; 3] =
    [Duration::from_secs(8), Duration::from_secs(20), Duration::from_secs(26)];
/// How long a run lasts.
pub const LASTS: Duration = Duration::from_secs(30);
/// Between two proposals: seldom, because each is a sign of life of the leader's.
const PROPOSE_EVERY: Duration = Duration::from_millis(400);
/// Syncs of a disk that is well: from, and up to so much longer.
const SYNC: (Duration, Duration) = (Duration::from_micros(100), Duration::from_millis(2));
/// Syncs in a burst.
const SLOW_SYNC: (Duration, Duration) = (Duration::from_millis(20), Duration::from_millis(130));
/// A burst lasts so long, and the next one begins after this and up to as much again.
const BURST: Duration = Duration::from_millis(500);

/// When the leader's disk stands still, if it does.
const STALLS: Duration = Duration::from_secs(10);
/// Somebody with a disk leads so soon after it: a timeout until the disk is known to stand still,
/// and two elections, of which the first is disturbed by a successor that cannot.
pub const LEADS_WITHIN: Duration = Duration::from_millis(4_500);

const PROPOSE: u64 = 0;
const WARMED_UP: u64 = 1;
const BURST_BEGINS: u64 = 2;
const BURST_ENDS: u64 = 3;
const DISK_STALLS: u64 = 4;
const LEADS_NOW: u64 = 5;
/// And one for each change of the RTT: up if it is even.
const CHANGE: u64 = 6;

/// How disks behave.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Disks {
    /// Each sync takes up to 2 ms.
    Well,
    /// Twice in three seconds or so all are slow for half a second: 20 to 150 ms a sync.
    InBursts,
    /// That of the leader takes nothing any more from the tenth second on.
    LeaderStalls,
    /// And that of another member neither, from the moment at which it campaigns.
    SuccessorStalls,
}

/// The weather of a run, and how long members wait in it.
#[derive(Clone, Debug)]
pub struct Weather {
    /// Round trip at the beginning. A tenth of it, up or down, is jitter.
    pub rtt: Duration,
    /// The RTT becomes so many times as long.
    pub factor: u32,
    /// Messages that are lost, each by itself. Unit: parts per million.
    pub loss_rate: u64,
    /// How disks behave.
    pub disks: Disks,
    /// The least silence that means failure.
    pub timeout_min: Duration,
    /// The longest; the same as the least makes it fixed.
    pub timeout: Duration,
}

/// The world. One value is one run.
#[derive(Clone, Debug)]
pub struct WeatherWorld {
    weather: Weather,
    nodes: usize,
    /// The term that must stay.
    term: Option<Term>,
    proposed: u64,
    committed: Vec<u64>,
    /// Their disks take nothing any more.
    stalled: Vec<usize>,
    /// Its disk will not outlive its campaign.
    doomed: Option<usize>,
    #[cfg(feature = "mutants")]
    mutant: Option<Mutant>,
}

impl WeatherWorld {
    /// Members in that weather.
    pub fn new(weather: Weather) -> WeatherWorld {
        WeatherWorld {
            weather,
            nodes: 0,
            term: None,
            proposed: 0,
            committed: Vec::new(),
            stalled: Vec::new(),
            doomed: None,
            #[cfg(feature = "mutants")]
            mutant: None,
        }
    }

    /// With a known mistake in every member.
    #[cfg(feature = "mutants")]
    #[must_use]
    pub fn with_mutant(self, mutant: Mutant) -> WeatherWorld {
        WeatherWorld { mutant: Some(mutant), ..self }
    }

    fn links(&self, factor: u32) -> Links {
        let one_way = self.weather.rtt.as_nanos() as u64 / 2 * u64::from(factor);
        let (delay_min, delay_span) = (one_way * 9 / 10, one_way / 5);
        let loss_rate = if self.term.is_some() { self.weather.loss_rate } else { 0 };
        Links { delay_min, delay_span, loss_rate, ..Links::default() }
    }

    fn warmed_up(&mut self, nodes: &Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        let mut leaders = nodes.up().filter(|(_, raft)| raft.role() == RoleName::Leader);
        match (leaders.next(), leaders.next()) {
            (Some((_, leader)), None) => self.term = Some(leader.term()),
            _ => hands.broken(Broken::new("liveness", "nobody leads when the run begins")),
        }
        hands.set_links(self.links(1));
    }

    fn stalls(&self) -> bool {
        matches!(self.weather.disks, Disks::LeaderStalls | Disks::SuccessorStalls)
    }

    fn disk_stalls(&mut self, nodes: &Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        let Some(leader) = self.leader(nodes) else { return };
        self.stalled.push(leader);
        if self.weather.disks == Disks::SuccessorStalls {
            let which = hands.draw(Site::new(About::Detail, 101), self.nodes as u64 - 1) as usize;
            self.doomed = Some((leader + 1 + which) % self.nodes);
        }
        hands.alarm(LEADS_WITHIN, LEADS_NOW);
    }

    fn leads_now(&self, nodes: &Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        let leader = self.leader(nodes).filter(|leader| !self.stalled.contains(leader));
        if leader.is_none() {
            let why =
                format!("nobody with a disk leads {LEADS_WITHIN:?} after the leader's stalled");
            hands.broken(Broken::new("hand-over", why));
        }
    }

    fn propose(&mut self, hands: &mut Hands<'_, Self>) {
        self.proposed += 1;
        let at = self.proposed as usize % self.nodes;
        let command = Bytes::copy_from_slice(&self.proposed.to_le_bytes());
        hands.request(at, Duration::ZERO, Request::Propose { command });
        hands.alarm(PROPOSE_EVERY, PROPOSE);
    }
}

impl World for WeatherWorld {
    type Node = Raft;
    type Disk = ();

    fn prepare(&mut self, nodes: usize, hands: &mut Hands<'_, Self>) {
        (self.nodes, self.committed) = (nodes, vec![0; nodes]);
        hands.set_links(self.links(1));
        hands.set_syncs(SYNC.0, SYNC.1);
    }

    fn disk(&mut self, _node: usize) {}

    fn boot(&mut self, node: usize, _disk: &mut ()) -> Result<Raft, BootError> {
        let config = Config {
            heartbeat_interval: Duration::from_millis(50),
            election_timeout: self.weather.timeout,
            election_timeout_min: self.weather.timeout_min,
            ..Config::new(own(node), Configuration::of((0..self.nodes).map(own)))
        };
        let raft = Raft::restore(&config, &mut std::iter::empty());
        #[cfg(feature = "mutants")]
        let raft = raft.with_mutant(self.mutant);
        Ok(raft)
    }

    fn append(&mut self, node: usize, _disk: &mut (), records: &mut Vec<Record>) {
        let votes = |record: &Record| matches!(record, Record::HardState { .. });
        if self.doomed == Some(node) && records.iter().any(votes) {
            self.stalled.push(node);
        }
        records.clear(); // Nobody fails, so nobody reads them.
    }

    fn sync(&mut self, node: usize, _disk: &mut ()) -> Result<(), SyncError> {
        if self.stalled.contains(&node) { Err(SyncError::Full) } else { Ok(()) }
    }

    fn power_cut(&mut self, _node: usize, _disk: &mut (), _choose: Choose<'_>) {}

    fn start(&mut self, _nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        hands.alarm(PROPOSE_EVERY, PROPOSE);
        hands.alarm(WARM, WARMED_UP);
        for (number, at) in CHANGES.into_iter().enumerate() {
            // Anywhere between two heartbeats.
            let more = hands.draw(Site::new(About::Detail, number), 100_000_000);
            hands.alarm(at + Duration::from_nanos(more), CHANGE + number as u64);
        }
        match self.weather.disks {
            Disks::Well => {}
            Disks::InBursts => hands.alarm(WARM, BURST_BEGINS),
            Disks::LeaderStalls | Disks::SuccessorStalls => hands.alarm(STALLS, DISK_STALLS),
        }
    }

    fn on_alarm(&mut self, alarm: u64, nodes: &mut Nodes<'_, Self>, hands: &mut Hands<'_, Self>) {
        match alarm {
            PROPOSE => self.propose(hands),
            WARMED_UP => self.warmed_up(nodes, hands),
            BURST_BEGINS => {
                hands.set_syncs(SLOW_SYNC.0, SLOW_SYNC.1);
                hands.alarm(BURST, BURST_ENDS);
            }
            BURST_ENDS => {
                hands.set_syncs(SYNC.0, SYNC.1);
                let more = hands.draw(Site::new(About::Detail, 100), BURST.as_nanos() as u64);
                hands.alarm(BURST + Duration::from_nanos(more), BURST_BEGINS);
            }
            DISK_STALLS => self.disk_stalls(nodes, hands),
            LEADS_NOW => self.leads_now(nodes, hands),
            change => {
                let factor = if change % 2 == 0 { self.weather.factor } else { 1 };
                hands.set_links(self.links(factor));
            }
        }
    }

    fn on_indication(
        &mut self,
        node: usize,
        _state: &Raft,
        indication: Indication,
        _hands: &mut Hands<'_, Self>,
    ) {
        if let Indication::Committed { entries } = indication {
            self.committed[node] += entries.len() as u64;
        }
    }

    fn on_turn_end(
        &mut self,
        node: usize,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let (Some(raft), Some(term)) = (nodes.get(node), self.term) else { return };
        if raft.term() != term && self.stalled.is_empty() {
            let (name, now, patience) = (own(node), raft.term(), raft.patience());
            let why = format!(
                "{name} is in term {now}, and the leader of term {term} is alive; a silence of \
                 {patience:?} means to {name} that it is not"
            );
            hands.broken(Broken::new("false-election", why));
        }
    }

    fn finish(
        &mut self,
        _nodes: &mut Nodes<'_, Self>,
        _hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        if self.stalls() {
            return Ok(()); // A member without a disk commits nothing.
        }
        let least = self.committed.iter().min().copied().unwrap_or_default();
        if least * 10 < self.proposed * 8 {
            let why = format!("{} proposed, and a member has {least} of them", self.proposed);
            return Err(Broken::new("liveness", why));
        }
        Ok(())
    }

    fn leader(&self, nodes: &Nodes<'_, Self>) -> Option<usize> {
        let leaders = nodes.up().filter(|(_, raft)| raft.role() == RoleName::Leader);
        leaders.max_by_key(|(_, raft)| raft.term()).map(|(node, _)| node)
    }

    fn describe(&self, message: &Message) -> String {
        super::lies::describe(message)
    }
}
