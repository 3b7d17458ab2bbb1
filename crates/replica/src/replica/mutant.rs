//! Mistakes of a replica that can be planted, and how any mistake gets into one.

use super::{Answer, Indication, Replica};
use crate::envelope::{self, Ticket};
#[cfg(feature = "mutants")]
use crate::lessor::LessorMutant;
use crate::store::{Command, Outcome, Store};
use bytes::Bytes;
use quorate_core::{Context, Position};
#[cfg(feature = "mutants")]
use quorate_protocols::consensus::raft;

quorate_core::planted_bugs! {
    /// A mistake made on purpose; plantable with the cargo feature `mutants` only.
    pub enum ReplicaMutant {
        /// A read is answered as soon as its index is known, applied or not (dissertation 6.4,
        /// step 4).
        ReadBeforeApplied = "read-before-applied",
        /// A put is answered as soon as it is proposed (Jepsen, Redis-Raft 1b3fbf6, 2020).
        AnsweredWhenProposed = "answered-when-proposed",
        /// A write is asked for again until it is answered (dissertation 6.3).
        AskedAgain = "asked-again",
        /// What was sent and not answered in time is said not to have happened (Jepsen's
        /// "indeterminate", taken for a failure).
        TimeoutIsDefinite = "timeout-is-definite",
        /// A command that another member, or a former life, asked for answers a question of ours
        /// which has its number.
        LifeIgnored = "life-ignored",
        /// A write is not forgotten when it is answered.
        AnsweredTwice = "answered-twice",
        /// A checkpoint claims everything that is committed, applied or not (ZOOKEEPER-3642).
        CheckpointAhead = "checkpoint-ahead",
        /// A checkpoint claims less than it holds, so that a command is applied twice (etcd#13766:
        /// the applied index apart from the state).
        CheckpointBehind = "checkpoint-behind",
        /// A checkpoint that is older than the state replaces it (paper, section 7: "a stale
        /// snapshot").
        InstallGoesBack = "install-goes-back",
        /// What was committed before a checkpoint came is applied after it all the same.
        InstallKeepsCommitted = "install-keeps-committed",
        /// Who stood still believes that the leader was silent.
        WakefulnessIgnored = "wakefulness-ignored",
        /// A learner is made a voter before it holds the log (etcd's API, MemberPromote: "in sync
        /// with leader").
        PromotedEarly = "promoted-early",
        /// A removal is answered as soon as it is wanted, while the member still counts (Jepsen,
        /// Redis-Raft, 2020: a removal that takes effect at another moment than it is told).
        RemovalUnsettled = "removal-unsettled",
        /// A leader brings about what it knows to be wanted before it knows all that is (raft-dev,
        /// 2015: a change before the first commit of the term).
        ReconciledBehind = "reconciled-behind",
        /// A member that was replaced stays beside the one that took its place.
        ReplacedStays = "replaced-stays",
        /// A witness gives its checkpoint, which holds nothing, to whoever is behind.
        WitnessGivesCheckpoint = "witness-gives-checkpoint",
        /// A witness that was elected stays the leader, though it can serve nobody.
        WitnessLeadsOn = "witness-leads-on",
        /// A state that is in doubt is believed as soon as nobody contradicts, whoever shares it.
        HealedUnproven = "healed-unproven",
    }
}

/// A mistake of some part of a replica.
#[cfg(feature = "mutants")]
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Plant {
    /// Of the consensus.
    Raft(raft::Mutant),
    /// Of the store.
    Store(crate::store::Mutant),
    /// Of the lessor.
    Lessor(LessorMutant),
    /// Of what holds them together.
    Replica(ReplicaMutant),
}

#[cfg(feature = "mutants")]
impl Plant {
    /// The name on a command line and in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Plant::Raft(mutant) => mutant.name(),
            Plant::Store(mutant) => mutant.name(),
            Plant::Lessor(mutant) => mutant.name(),
            Plant::Replica(mutant) => mutant.name(),
        }
    }
}

impl Replica {
    /// Plants a mistake. To be called in each life, between restore and start.
    #[cfg(feature = "mutants")]
    pub fn plant(&mut self, plant: Plant) {
        match plant {
            Plant::Raft(mutant) => self.raft.plant(mutant),
            Plant::Store(mutant) => self.store.plant(mutant),
            Plant::Lessor(mutant) => self.lessor.plant(mutant),
            Plant::Replica(mutant) => self.planted.plant(mutant),
        }
    }

    pub(super) fn planted(&self, mutant: ReplicaMutant) -> bool {
        self.planted.is(mutant)
    }

    /// A state from elsewhere, with the mistake of the one that it takes the place of.
    pub(super) fn replanted(&self, store: Store) -> Store {
        #[cfg(feature = "mutants")]
        let store = store.planted_like(&self.store);
        store
    }

    /// The last entry that a checkpoint of now says it covers.
    pub(super) fn covered(&self) -> Position {
        let at = if self.planted(ReplicaMutant::CheckpointAhead) {
            self.raft.commit_index()
        } else if self.planted(ReplicaMutant::CheckpointBehind) {
            self.applied.index.prev()
        } else {
            return self.applied;
        };
        self.raft.position_at(at).unwrap_or(self.applied)
    }

    /// Planted bug: answers a plain put as if it were applied.
    pub(super) fn answer_early(
        &mut self,
        ticket: Ticket,
        command: Bytes,
        cx: &mut Context<'_, Self>,
    ) {
        let opened = envelope::open(command);
        let command = opened.and_then(|(_, _, encoded)| Command::decode(encoded).ok());
        let plain = |put: &crate::store::Put| {
            !(put.prev_kv || put.ignore_value || put.ignore_lease) && put.lease == 0
        };
        if !matches!(command, Some(Command::Put(put)) if plain(&put)) {
            return;
        }
        if self.writes.remove(&ticket).is_none() {
            return;
        }
        let (revision, term) = (self.store.revision().next(), self.raft.term());
        let outcome = Ok(Outcome::Put { prev: None });
        let answer = Ok(Answer { revision, term, outcome });
        cx.indicate(Indication::Answered { ticket, answer });
    }
}
