//! Timekeeping: what time it truly is, how wrong that may be, and who says otherwise.
//!
//! **Problem.** Promises that rest on clocks hold while the clocks keep their bounds, and nobody
//! knows whether they do who has asked nobody. Time must not be asked through the replica: its loop
//! has other work, and a stamp that waited in a queue is worth little.
//!
//! **Idea.** The synchronizer of `quorate_protocols::time` runs beside the replica, on tasks of its
//! own. Members ask each other with frames of a kind of their own on the links that they have;
//! servers that `--time-source` names are asked over NTP; the clocks of the host are looked at each
//! second.
//! A stamp is taken when a frame has been read, and just before one is written: what passes between
//! that and the wire is delay, and delay is counted into the error.
//!
//! ```text
//!   host clocks --- look, each second -----+
//!   peers --------- links, a kind of ------+--> Keeper ---> GET /time, metrics, bounds()
//!   NTP servers --- UDP, 16 to 64 s -------+    (synchronizer)
//! ```
//!
//! **Guarantees.** Those of the synchronizer. Nothing is set or adjusted: the clock of the host is
//! its daemon's. Nothing of the replica depends on the wall clock.
//!
//! **Bounds.** [`SERVERS_MAX`] servers, [`PEERS_MAX`] peers: those beyond are not asked. What a
//! source says that cannot be is refused, counted, and named in the report. Of the questions of a
//! peer 64 a second are answered on each link; those beyond are dropped, and whoever asked asks
//! again at its next poll.
//!
//! | file | |
//! |---|---|
//! | `keeper.rs` | what is known, without any socket |
//! | `host_clock.rs` | steps and suspends |
//! | `rate.rs` | whether clocks of members run equally fast |
//! | `server.rs` `ntp.rs` `source.rs` | servers: asking, packets, names |
//! | `wire.rs` | the bytes between members |
//! | `report.rs` | what is told |
//!
//! **Source.** Mills et al., RFC 5905 (2010).

mod host_clock;
mod keeper;
mod ntp;
mod rate;
mod report;
mod server;
mod source;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

pub use rate::ClockRate;
pub use report::{DriftReport, ErrorReport, RateReport, SourceReport, TimeReport};
pub use source::{BadTimeSource, TimeSource};

use crate::config::Config;
use crate::metrics::Metrics;
use crate::peers::Link;
use host_clock::{Event, Readings};
use keeper::{Keeper, Outgoing};
use quorate_core::NodeId;
use quorate_drivers::live::monotonic_now;
use quorate_protocols::time::dispersion::DriftBound;
use quorate_protocols::time::exchange::Exchange;
use quorate_protocols::time::synchronizer::{Message, PEERS_MAX, SourceId};
use quorate_replica::members::Members;
use server::Asked;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

pub use quorate_protocols::time::synchronizer::SERVERS_MAX;

/// What is assumed of a host's clock, which says nothing of its error: RFC 5905, MAXDISP, which
/// stands for a clock that knows nothing.
pub(crate) const HOST_CLOCK_ERROR: Duration = Duration::from_secs(16);
/// Between two looks at the clocks of the host.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Between two questions to a peer, unless told otherwise.
pub const TIME_POLL_DEFAULT: Duration = Duration::from_secs(2);
/// The least of it.
pub const TIME_POLL_MIN: Duration = Duration::from_millis(100);
/// The most of it.
pub const TIME_POLL_MAX: Duration = Duration::from_secs(64);
/// The state of a member that was told to ask nobody.
pub(crate) const OFF: &str = "off";

/// How wrong what a member takes for the true time may be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClockError {
    /// By at most so much.
    Within(Duration),
    /// No server of the time is asked: what clocks of members say of each other is no error that
    /// anybody has measured.
    NoServer,
    /// Servers are asked, and none is believed.
    NoneBelieved,
}

/// What others may rely on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ClockBounds {
    /// How well the true time is known.
    pub error: ClockError,
    /// How fast the clock here runs beside those of the peers.
    pub rate: ClockRate,
    /// What is assumed of every clock.
    pub drift_bound: DriftBound,
}

impl ClockBounds {
    /// Of a member that has asked nobody.
    pub const UNKNOWN: ClockBounds = ClockBounds {
        error: ClockError::NoServer,
        rate: ClockRate::Unknown,
        drift_bound: DriftBound::new(200_000),
    };
}

impl Default for ClockBounds {
    fn default() -> ClockBounds {
        ClockBounds::UNKNOWN
    }
}

/// The way to peers, once there is one.
#[derive(Debug)]
struct Wires {
    links: BTreeMap<NodeId, Arc<Link>>,
    metrics: Arc<Metrics>,
}

/// What this member knows of the time, for all its tasks.
#[derive(Debug)]
pub(crate) struct Timekeeper {
    name: String,
    member: u64,
    keeper: Mutex<Keeper>,
    wires: OnceLock<Wires>,
    sources: Vec<TimeSource>,
    is_off: bool,
    disrupted: Notify,
}

impl Timekeeper {
    /// Of the member that is configured so. It asks nobody yet.
    ///
    /// Peers that come later are asked from the next start on; who left does not answer.
    pub(crate) fn new(config: &Config, member: u64, members: &Members) -> Timekeeper {
        let others = members.iter().filter(|(id, _)| id.0 != member);
        let names = config.initial_members();
        let name = |id: NodeId, told: &str| match names.get(&id.0) {
            Some(name) if told.is_empty() => name.clone(),
            _ if told.is_empty() => format!("{:x}", id.0),
            _ => told.to_owned(),
        };
        let peers: BTreeMap<NodeId, String> =
            others.map(|(id, seat)| (id, name(id, &seat.name))).take(PEERS_MAX).collect();
        let sources: Vec<TimeSource> =
            config.time_sources.iter().take(usize::from(SERVERS_MAX)).cloned().collect();
        let settings = keeper::settings(
            NodeId(member),
            peers.keys().copied().collect(),
            sources.len() as u16,
            config.time_poll.max(TIME_POLL_MIN),
        );
        let mut names = BTreeMap::from([(SourceId::Own, SourceId::Own.to_string())]);
        names.extend(peers.into_iter().map(|(id, name)| (SourceId::Peer(id), name)));
        let servers = sources.iter().zip(0..);
        names.extend(servers.map(|(source, at)| (SourceId::Server(at), source.to_string())));
        Timekeeper {
            name: config.name.clone(),
            member,
            keeper: Mutex::new(Keeper::new(&settings, names, member)),
            wires: OnceLock::new(),
            sources,
            is_off: config.time_poll.is_zero(),
            disrupted: Notify::new(),
        }
    }

    /// Begins to ask peers and servers, unless it was told not to. To be called once, within the
    /// runtime; the tasks end with it.
    pub(crate) fn start(
        self: &Arc<Self>,
        links: BTreeMap<NodeId, Arc<Link>>,
        metrics: Arc<Metrics>,
    ) {
        if self.is_off {
            return;
        }
        let is_first = self.wires.set(Wires { links, metrics }).is_ok();
        assert!(is_first, "a timekeeper is started once");
        let outgoing = self.lock().start(Readings::take());
        self.send(outgoing);
        tokio::spawn(Arc::clone(self).look_forever());
        for (source, number) in self.sources.iter().zip(0..) {
            tokio::spawn(server::ask_forever(Arc::clone(self), number, source.clone()));
        }
    }

    /// What others may rely on now.
    pub(crate) fn bounds(&self) -> ClockBounds {
        self.lock().bounds(monotonic_now())
    }

    /// Everything that is told.
    pub(crate) fn report(&self) -> TimeReport {
        let readings = Readings::take();
        let report = report::of(&self.lock(), readings, self.is_off);
        TimeReport { name: self.name.clone(), member_id: format!("{:x}", self.member), ..report }
    }

    /// A peer asks or answers: the frame has just been read.
    pub(crate) fn heard(&self, from: NodeId, message: Message) {
        if self.is_off {
            return;
        }
        let outgoing = self.lock().message(from, message, monotonic_now());
        self.send(outgoing);
    }

    /// A server has answered; so many packets had not.
    fn exchanged(&self, server: u16, exchange: Exchange, strangers: u64) {
        let mut keeper = self.lock();
        keeper.exchanged(server, exchange, monotonic_now());
        self.server_log(&mut keeper, server, Asked::Answered, strangers);
    }

    /// A server did not answer, or not usefully.
    fn not_answered(&self, server: u16, asked: Asked, strangers: u64) {
        self.server_log(&mut self.lock(), server, asked, strangers);
    }

    fn server_log(&self, keeper: &mut Keeper, server: u16, asked: Asked, strangers: u64) {
        let name = keeper.name(SourceId::Server(server));
        let log = &mut keeper.servers[usize::from(server)];
        log.strangers = log.strangers.saturating_add(strangers);
        if log.asked == asked {
            return;
        }
        match &asked {
            Asked::NotYet => {}
            Asked::Answered => tracing::info!(source = name, "a source of the time answers"),
            Asked::Unreachable { why } | Asked::Refused { why } | Asked::GivenUp { why } => {
                tracing::warn!(source = name, why, "a source of the time is of no use");
            }
        }
        log.asked = asked;
    }

    /// Returns when what was known has been forgotten, and all should be asked anew.
    async fn disrupted(&self) {
        self.disrupted.notified().await;
    }

    async fn look_forever(self: Arc<Self>) {
        loop {
            let due = self.lock().poll_at().since(monotonic_now());
            sleep(due.min(LOOK_EVERY).max(Duration::from_millis(1))).await;
            let (outgoing, event) = self.lock().look(Readings::take());
            self.send(outgoing);
            match event {
                None => {}
                Some(Event::Stepped(by)) => tracing::warn!(
                    %by,
                    "the wall clock of the host was set; it is not believed for a while"
                ),
                Some(Event::Suspended(asleep)) => {
                    tracing::warn!(?asleep, "the host was suspended; asking for the time anew");
                    self.disrupted.notify_waiters();
                }
            }
        }
    }

    fn send(&self, outgoing: Outgoing) {
        let Some(wires) = self.wires.get() else { return };
        for (to, message) in outgoing {
            let Some(link) = wires.links.get(&to) else { continue };
            let bytes = link.push_time(&message);
            if let Some(peer) = wires.metrics.peer(to) {
                peer.traffic.sent_bytes.add(bytes as u64);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Keeper> {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
