//! Linearizable reads without the log.
//!
//! A leader notes its commit index, then asks a quorum whether it still leads. Once it does, a read
//! at the noted index is linearizable: no later leader can have committed anything before the read
//! was asked for. All reads of a batch share a round of heartbeats; a follower asks the leader for
//! the index on behalf of all its readers.
//!
//! ```text
//!    reads of a batch -> round 7 of heartbeats ->  quorum answers round >= 7 -> ReadReady
//!                        noted: commit index                                    (noted index)
//! ```
//!
//! Nobody is answered before the leader has committed an entry of its own term, because until then
//! it does not know how far its predecessors committed. Where lease reads are on and a lease is
//! held, no round is begun at all (`lease.rs`).
//!
//! Source: dissertation 6.4.

use super::lease::Ground;
use super::mutant::Mutant;
use super::progress::Progress;
use super::{Body, Indication, Raft, Role};
use quorate_core::{Context, Index, NodeId, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Reads that wait at one member; one more is refused.
const READS_WAITING_MAX: usize = 100_000;

/// Who wants to know.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Asker {
    Here {
        ticket: u64,
    },
    /// Who does not want to rest on clocks.
    Confirming {
        ticket: u64,
    },
    There {
        id: NodeId,
        life: u64,
        batch: u64,
    },
}

/// The rounds of heartbeats of a leader, and the reads that wait for them.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Rounds {
    /// Number of the last round. Unique in a term, since a leader never leads a term twice.
    last: u64,
    /// Reads that no round asks for yet.
    fresh: Vec<Asker>,
    waiting: VecDeque<Waiting>,
    /// Reads in `fresh` and `waiting`.
    count: usize,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Waiting {
    round: u64,
    read_index: Index,
    askers: Vec<Asker>,
}

impl Rounds {
    /// Begins a round which does not speak for the fresh reads.
    pub(super) fn begin(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The fresh reads wait for the last round.
    fn bind_fresh(&mut self, read_index: Index) {
        let askers = std::mem::take(&mut self.fresh);
        self.waiting.push_back(Waiting { round: self.last, read_index, askers });
    }

    /// The fresh reads that may rest on a lease.
    pub(super) fn take_leasable(&mut self) -> Vec<Asker> {
        let stays = |asker: &Asker| matches!(asker, Asker::Confirming { .. });
        let (stay, go): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.fresh).into_iter().partition(stays);
        self.fresh = stay;
        self.count -= go.len();
        go
    }

    /// Every waiting read is fresh again.
    fn ask_again(&mut self) {
        let waiting = std::mem::take(&mut self.waiting);
        self.fresh.extend(waiting.into_iter().flat_map(|waiting| waiting.askers));
    }

    pub(super) fn invariants(&self) {
        let waiting: usize = self.waiting.iter().map(|waiting| waiting.askers.len()).sum();
        assert_eq!(self.count, self.fresh.len() + waiting, "reads are counted wrong");
        assert!(self.waiting.iter().all(|waiting| waiting.round <= self.last));
    }
}

/// The reads that were asked for at a member which does not lead.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Questions {
    fresh: Vec<u64>,
    asked: VecDeque<Asked>,
    /// Number of the last question in this life.
    last_batch: u64,
    /// An answer to this life has arrived, so the record that began it is durable, so that its
    /// number is ours alone and questions need not wait for the disk.
    life_is_durable: bool,
    /// Tickets in `fresh` and `asked`.
    count: usize,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Asked {
    batch: u64,
    at: Time,
    tickets: Vec<u64>,
}

impl Questions {
    fn push(&mut self, ticket: u64) {
        self.count += 1;
        self.fresh.push(ticket);
    }

    /// Every unanswered question is asked again, of whoever leads then.
    pub(super) fn ask_again(&mut self) {
        let asked = std::mem::take(&mut self.asked);
        self.fresh.extend(asked.into_iter().flat_map(|asked| asked.tickets));
    }

    /// A question or its answer may have been lost.
    pub(super) fn ask_again_if_older_than(&mut self, age: Duration, now: Time) {
        if self.asked.front().is_some_and(|asked| now.since(asked.at) > age) {
            self.ask_again();
        }
    }

    /// The reads of a leader that steps down go on as those of a follower; followers ask again
    /// themselves.
    pub(super) fn take_over(&mut self, rounds: Rounds) {
        let waiting = rounds.waiting.into_iter().flat_map(|waiting| waiting.askers);
        for asker in rounds.fresh.into_iter().chain(waiting) {
            if let Asker::Here { ticket } | Asker::Confirming { ticket } = asker {
                self.push(ticket);
            }
        }
    }

    pub(super) fn take_all(&mut self) -> Vec<u64> {
        self.ask_again();
        self.count = 0;
        std::mem::take(&mut self.fresh)
    }
}

impl Raft {
    /// Somebody here wants to read.
    pub(super) fn read(&mut self, asker: Asker, cx: &mut Context<'_, Raft>) {
        let (Asker::Here { ticket } | Asker::Confirming { ticket }) = asker else {
            panic!("{asker:?} does not ask here")
        };
        match &mut self.role {
            Role::Leader(leader) if leader.rounds.count < READS_WAITING_MAX => {
                leader.rounds.count += 1;
                leader.rounds.fresh.push(asker);
            }
            Role::Follower if self.questions.count < READS_WAITING_MAX => {
                self.questions.push(ticket);
            }
            _ => cx.indicate(Indication::ReadRefused { ticket }),
        }
    }

    pub(super) fn on_read_index(
        &mut self,
        from: NodeId,
        life: u64,
        batch: u64,
        cx: &mut Context<'_, Raft>,
    ) {
        match &mut self.role {
            Role::Leader(leader) if leader.rounds.count < READS_WAITING_MAX => {
                leader.rounds.count += 1;
                leader.rounds.fresh.push(Asker::There { id: from, life, batch });
            }
            _ => {
                let reply = Body::ReadIndexReply { life, batch, read_index: None };
                cx.send(from, self.say(reply));
            }
        }
    }

    pub(super) fn on_read_index_reply(
        &mut self,
        life: u64,
        batch: u64,
        read_index: Option<(Index, Ground)>,
        cx: &mut Context<'_, Raft>,
    ) {
        if life != self.life && !self.planted(Mutant::ReadAnswerOfFormerLife) {
            return;
        }
        self.questions.life_is_durable = true;
        let Some(at) = self.questions.asked.iter().position(|asked| asked.batch == batch) else {
            return;
        };
        let asked = self.questions.asked.remove(at).expect("the question that was found");
        self.questions.count -= asked.tickets.len();
        for ticket in asked.tickets {
            cx.indicate(match read_index {
                Some((read_index, ground)) => Indication::ReadReady { ticket, read_index, ground },
                None => Indication::ReadRefused { ticket },
            });
        }
    }

    /// Asks the leader for the readers that came since the last flush.
    pub(super) fn flush_questions(&mut self, cx: &mut Context<'_, Raft>) {
        let Some(leader) = self.leader else { return };
        if self.questions.fresh.is_empty() {
            return;
        }
        self.questions.last_batch += 1;
        let batch = self.questions.last_batch;
        let tickets = std::mem::take(&mut self.questions.fresh);
        self.questions.asked.push_back(Asked { batch, at: cx.now, tickets });
        let question = self.say(Body::ReadIndex { life: self.life, batch });
        match self.questions.life_is_durable {
            true => cx.send(leader, question),
            false => cx.send_once_durable(leader, question),
        }
    }

    /// No leader was found in time.
    pub(super) fn refuse_reads(&mut self, cx: &mut Context<'_, Raft>) {
        for ticket in self.questions.take_all() {
            cx.indicate(Indication::ReadRefused { ticket });
        }
    }

    /// This process stood still, and much may have happened meanwhile.
    pub(super) fn ask_reads_again(&mut self) {
        match &mut self.role {
            Role::Leader(leader) => leader.rounds.ask_again(),
            Role::Follower | Role::PreCandidate(_) | Role::Candidate(_) => {
                self.questions.ask_again();
            }
        }
    }

    fn has_fresh_reads(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if !leader.rounds.fresh.is_empty())
    }

    /// Answers the reads that came since the last flush by lease, or starts a round for them.
    pub(super) fn flush_rounds(&mut self, cx: &mut Context<'_, Raft>) {
        let may_answer = self.has_committed_in_term() || self.planted(Mutant::ReadBeforeOwnCommit);
        if !self.has_fresh_reads() || !may_answer {
            return;
        }
        self.read_by_lease(cx);
        if !self.has_fresh_reads() {
            return;
        }
        if !self.planted(Mutant::ReadJoinsOldRound) {
            self.start_round(cx);
        }
        let commit = self.commit;
        let Role::Leader(leader) = &mut self.role else { return };
        leader.rounds.bind_fresh(commit);
        self.confirm_reads(cx);
    }

    pub(super) fn on_heartbeat_reply(
        &mut self,
        from: NodeId,
        round: u64,
        promise: Duration,
        cx: &mut Context<'_, Raft>,
    ) {
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        if round > leader.rounds.last {
            return; // no follower of ours says this
        }
        progress.hear();
        progress.answered(round);
        progress.answer.end(round, cx.now);
        let waits = !leader.rounds.waiting.is_empty();
        self.hear_promise(from, round, promise, cx.now);
        if waits {
            self.confirm_reads(cx);
        }
    }

    /// As a leader: the last round of heartbeats of this term that a quorum has answered. None if
    /// this member does not lead.
    pub fn answered_round(&self) -> Option<u64> {
        let own = self.id();
        let Role::Leader(leader) = &self.role else { return None };
        Some(self.agreed(|id| match id == own {
            true => leader.rounds.last,
            false => leader.progress.get(&id).map_or(0, Progress::round),
        }))
    }

    /// Answers the reads whose round a quorum has heard.
    fn confirm_reads(&mut self, cx: &mut Context<'_, Raft>) {
        let own = self.id();
        let Role::Leader(leader) = &self.role else { return };
        let round = |id: NodeId| match id == own {
            true => leader.rounds.last,
            false => leader.progress.get(&id).map_or(0, Progress::round),
        };
        let mut confirmed = self.agreed(round);
        let leases = self.planted(Mutant::LeaseRead) && self.is_heard_by_quorum();
        if leases || self.planted(Mutant::ReadWithoutQuorum) {
            confirmed = u64::MAX;
        }
        let term = self.term;
        let Role::Leader(leader) = &mut self.role else { return };
        let rounds = &mut leader.rounds;
        while rounds.waiting.front().is_some_and(|waiting| waiting.round <= confirmed) {
            let Some(Waiting { read_index, askers, .. }) = rounds.waiting.pop_front() else {
                return;
            };
            rounds.count -= askers.len();
            let ground = Ground::Round;
            for asker in askers {
                match asker {
                    Asker::Here { ticket } | Asker::Confirming { ticket } => {
                        cx.indicate(Indication::ReadReady { ticket, read_index, ground });
                    }
                    Asker::There { id, life, batch } => {
                        let read_index = Some((read_index, ground));
                        let body = Body::ReadIndexReply { life, batch, read_index };
                        cx.send(id, super::Message { term, body });
                    }
                }
            }
        }
    }
}
