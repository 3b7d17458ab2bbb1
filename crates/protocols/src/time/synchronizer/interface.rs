//! What the layer above knows of the synchronizer: configuration, requests and indications.

use super::super::discipline::Correction;
use super::super::dispersion::DriftBound;
use super::super::exchange::{BadExchange, ErrorSplit, Exchange, Sample};
use quorate_core::{NodeId, Offset, Time, WallTime};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// What a member knows before its first event.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Config {
    /// This member.
    pub id: NodeId,
    /// The members that it asks. Range: at most [`super::PEERS_MAX`], without itself.
    pub peers: BTreeSet<NodeId>,
    /// Servers that the layer above asks: [`SourceId::Server`] below this number. Range: at most
    /// [`super::SERVERS_MAX`].
    pub servers: u16,
    /// So many of all sources, its own clock included, may lie.
    pub faulty_max: usize,
    /// How far the monotonic clock of this member may run off.
    pub drift: DriftBound,
    /// Between two questions to a peer; up to a quarter more, so that members do not ask in step.
    pub poll: Duration,
    /// A source that was not heard for so long says nothing new.
    pub fresh: Duration,
    /// A source whose error is that large knows nothing: it is shown, and has no voice. `None`: all
    /// have one. RFC 5905, section 11.2.1, calls such a source unfit.
    pub error_max: Option<Duration>,
}

impl Config {
    /// Usual settings: a question every two seconds, and as many liars as can be outvoted when the
    /// clock at hand, the peers and the servers are all heard.
    pub fn new(id: NodeId, peers: BTreeSet<NodeId>, servers: u16) -> Config {
        let sources = 1 + peers.len() + usize::from(servers);
        let poll = Duration::from_secs(2);
        Config {
            id,
            peers,
            servers,
            faulty_max: (sources - 1) / 2,
            drift: DriftBound::default(),
            poll,
            fresh: 4 * poll,
            error_max: None,
        }
    }
}

/// Between members.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Message {
    /// What does your clock say?
    Ask {
        /// Chosen by the asker, once; comes back in the answer.
        ticket: u64,
    },
    /// This.
    Answer {
        /// As asked.
        ticket: u64,
        /// When the question arrived.
        received: WallTime,
        /// When the answer left.
        answered: WallTime,
        /// Both may be off by so much.
        error: Duration,
    },
    /// There is no clock at hand.
    NoClock {
        /// As asked.
        ticket: u64,
    },
}

/// Alarms of a member.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Timer {
    /// It is time to ask the peers.
    Poll,
}

/// Who says what time it is.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum SourceId {
    /// The clock at hand: what the layer above says in [`Request::Reading`].
    Own,
    /// The clock at hand of a peer.
    Peer(NodeId),
    /// A server that the layer above asks, by its number.
    Server(u16),
}

impl fmt::Display for SourceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SourceId::Own => f.write_str("own clock"),
            SourceId::Peer(peer) => write!(f, "{peer}"),
            SourceId::Server(number) => write!(f, "server {number}"),
        }
    }
}

/// What the layer above may ask.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Request {
    /// The clock at hand, which peers are told of too, says this. Both clocks were read at the same
    /// instant.
    Reading {
        /// By the monotonic clock.
        at: Time,
        /// By the clock at hand.
        wall: WallTime,
        /// How far that may be off: of a host that is kept in time, what its daemon says.
        error: Duration,
    },
    /// A server was asked, and has answered.
    Exchanged {
        /// Its number.
        server: u16,
        /// The four timestamps.
        exchange: Exchange,
    },
    /// The system's wall clock shows this: to be compared, not to be believed.
    Host {
        /// By the monotonic clock, at the same instant.
        at: Time,
        /// What it shows.
        wall: WallTime,
    },
    /// The monotonic clock has lost count: a suspend that it does not count, a virtual machine that
    /// was restored. All that was known is forgotten.
    Disrupted,
}

/// How well the time is known.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub enum State {
    /// Not at all: too few sources were ever heard, or they contradict each other.
    #[default]
    Unsynchronised,
    /// Enough sources were heard lately, and share an instant: more than may lie.
    Synced,
    /// They are no longer heard: the clock runs by its own rate, and the error grows.
    Freewheel,
    /// The last correction was too large to be slewed, or contradicts what was claimed before.
    Stepped,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            State::Unsynchronised => "unsynchronised",
            State::Synced => "synced",
            State::Freewheel => "freewheel",
            State::Stepped => "stepped",
        })
    }
}

/// What a member tells the layer above.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Indication {
    /// A source was heard.
    Measured {
        /// Which.
        source: SourceId,
        /// What it said.
        sample: Sample,
    },
    /// A source said what cannot be.
    Refused {
        /// Which.
        source: SourceId,
        /// Why it cannot be.
        why: BadExchange,
    },
    /// The time is known better or worse than before.
    StateChanged {
        /// How.
        state: State,
    },
    /// The disciplined clock was set, or has jumped.
    Corrected {
        /// By what.
        correction: Correction,
    },
    /// A source contradicts the others: it is wrong, if no more lie than may.
    Outvoted {
        /// Which.
        source: SourceId,
    },
    /// A source that was outvoted agrees again.
    Readmitted {
        /// Which.
        source: SourceId,
    },
    /// More sources lie than may: no instant is shared by enough of them.
    Contradiction {
        /// So many were heard, ever.
        heard: usize,
        /// So many of them share an instant, at most.
        sharing: usize,
    },
}

/// What is known of one source.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct SourceStatus {
    /// Which.
    pub source: SourceId,
    /// What it says the time is.
    pub reading: WallTime,
    /// How far it is ahead of the disciplined clock; none before that is set.
    pub offset: Option<Offset>,
    /// How far it may be off at present, and why.
    pub error: ErrorSplit,
    /// The delay of its best exchange.
    pub delay: Duration,
    /// It was last heard so long ago.
    pub age: Duration,
    /// It contradicts the others.
    pub is_outvoted: bool,
    /// Its error is beyond [`Config::error_max`].
    pub is_unfit: bool,
    /// Answers that could not be.
    pub refused: u64,
}
