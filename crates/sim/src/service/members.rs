//! What surrounds a simulated member on its own machine: who waits for which answer, who watches
//! there, and when its checkpoints are taken.

use super::clients::Asked;
use quorate_core::{Index, NodeId, Position, Time};
use quorate_replica::store::{Found, KvError, Range, Revision, Store};
use quorate_replica::{Answer, LeaseAnswer, Life, Refusal, Ticket};
use quorate_server::checkpointing::Checkpointing;
use quorate_server::watch::desk::{DeskOptions, WatchDesk};
use std::collections::BTreeMap;
use std::time::Duration;

/// What watchers that take fragments are told is split at this size, so small that two changes of
/// one revision do not fit. Unit: bytes.
const FRAGMENT_BYTES: usize = 64;

/// One operation under way.
#[derive(Debug)]
pub(super) struct Operation {
    pub(super) number: u64,
    pub(super) client: usize,
    pub(super) asked: Asked,
    /// True time at which it was asked.
    pub(super) at: u64,
    /// The latest index that anybody had been told of then: a read sees no less.
    pub(super) floor: Index,
    /// The member that was asked.
    pub(super) member: usize,
    /// How that member knows the question.
    pub(super) name: (Life, Ticket),
}

/// The answer to a read.
#[derive(Debug)]
pub(super) struct Read {
    /// The last entry of the log that the member had applied.
    pub(super) index: Index,
    pub(super) revision: Revision,
    pub(super) found: Result<Found, KvError>,
}

impl Read {
    /// What a member finds in the state that it had after this entry.
    pub(super) fn of(index: Index, store: &Store, range: &Range) -> Read {
        Read { index, revision: store.revision(), found: store.range(range) }
    }
}

/// What a member answered.
#[derive(Debug)]
pub(super) enum Answered {
    Write(Result<Answer, Refusal>),
    Read(Result<Read, Refusal>),
    Lease(Result<LeaseAnswer, Refusal>),
    Moved,
}

/// One member's surroundings. All but its number is of this life.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) lives: u64,
    pub(super) up: bool,
    next_ticket: u64,
    /// Operations that wait here, by ticket.
    pub(super) waiting: BTreeMap<Ticket, u64>,
    /// Answers of this turn, told when it is over.
    pub(super) owed: Vec<(u64, Answered)>,
    /// Operations that ask for a change of leader.
    pub(super) moving: Vec<u64>,
    /// Followers that asked for a checkpoint in this turn.
    pub(super) wanted: Vec<NodeId>,
    pub(super) desk: WatchDesk,
    pub(super) checkpointing: Checkpointing,
    /// A batch is on its way to the disk.
    pub(super) syncing: bool,
    /// A checkpoint is there, so that a part of the log can go when no batch is on its way.
    pub(super) releasing: bool,
    /// The end of the log is not yet marked as synced, since then (0: since the last sync). True
    /// time, in nanoseconds.
    pub(super) unmarked: Option<u64>,
    /// Something on its disk has turned since it last began to look.
    pub(super) turned: bool,
    /// Looks at its disk that are to come, or repairs under way.
    pub(super) looks: u32,
    /// Where its state stood after the last turn.
    pub(super) applied: Position,
}

impl Member {
    pub(super) fn new(id: NodeId) -> Member {
        Member {
            lives: 0,
            up: false,
            next_ticket: 1,
            waiting: BTreeMap::new(),
            owed: Vec::new(),
            moving: Vec::new(),
            wanted: Vec::new(),
            desk: desk(id),
            checkpointing: Checkpointing::new(u64::MAX),
            syncing: false,
            releasing: false,
            unmarked: Some(0),
            turned: false,
            looks: 0,
            applied: Position::ZERO,
        }
    }

    /// A new life begins. What waited in the last one is lost.
    pub(super) fn begin(&mut self, id: NodeId, checkpoint_bytes: u64) -> Life {
        let lives = self.lives + 1;
        *self = Member::new(id);
        self.lives = lives;
        self.up = true;
        self.checkpointing = Checkpointing::new(checkpoint_bytes);
        Life(id.0 * 1_000_000 + lives)
    }

    /// The mark of this life.
    pub(super) fn life(&self, id: NodeId) -> Life {
        Life(id.0 * 1_000_000 + self.lives)
    }

    pub(super) fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket - 1)
    }
}

fn desk(id: NodeId) -> WatchDesk {
    WatchDesk::new(DeskOptions {
        cluster_id: 1,
        member_id: id.0,
        fragment_bytes: FRAGMENT_BYTES,
        progress_every: Duration::from_secs(2),
        leader_patience: Duration::from_secs(3),
    })
}

/// True time as a moment of the desk's clock.
pub(super) fn moment(now: u64) -> Time {
    Time::from_nanos(now)
}
