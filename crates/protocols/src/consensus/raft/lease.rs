//! Lease reads: linearizable reads that rest on the rate of clocks, and ask nobody.
//!
//! **Problem.** A read that is confirmed by a round of heartbeats costs a round trip. A leader that
//! answers at once because it heard a quorum lately is wrong as soon as those who answered elect
//! another one early: on evidence, because their patience is shorter than it believes, or because
//! they have forgotten.
//!
//! **Idea.** A lease rests on what voters *promise*, not on how they are configured. A heartbeat
//! asks for a promise of some length; who takes it will, for so long on its own clock from the
//! receipt, neither vote nor stand, whatever it hears, and says in its answer for how long. The
//! leader counts from the moment at which the heartbeat *left*, and takes off what two clocks may
//! gain on each other:
//!
//! ```text
//!   leader    sent ---- may read by lease -----|
//!                \        length x (1 - d) / (1 + d)
//!   voter         received ---- neither votes nor stands ----|
//!                               length
//! ```
//!
//! The end of the lease is the latest instant up to which a quorum has promised so. Its own vote
//! counts: who leads votes for nobody. Until then no other leader can have been elected, hence the
//! commit index here is at least as high as any at which a command was acknowledged.
//!
//! **What a read needs.** An instant after it was asked, at which the lease held. The instant of an
//! event (`cx.now`) is read after everything that the event brings had arrived, so it is one. A
//! member that stands still between that and its answer answers late, and not wrongly: what it
//! shows was the latest after the question.
//!
//! **Guarantees.** Those of `read.rs`, if no clock of a member that promises or reads runs off by
//! more than [`LeaseTerms::drift_ppm`] while somebody vouches for it ([`Request::TrustClock`]), and
//! counts while its machine sleeps. A member for whose clock nobody vouches neither promises nor
//! reads by lease; its reads take a round at once.
//!
//! **What ends it.** Another term. [`Body::TimeoutNow`]: whoever campaigns on it is not held by any
//! promise, and the message may arrive at any time, so that a leader which has sent one reads by
//! rounds until its term ends. A member that has just started may have promised in its former life,
//! and holds what it may have promised at most.
//!
//! **Left out.** Leases that a new leader inherits; promises on disk.
//!
//! **Bounds.** [`SENDS_MAX`] instants at a leader, one for each member, two for itself.
//!
//! Sources: dissertation 6.4.1; Gray and Cheriton, "Leases" (1989), section 5, for clocks that
//! drift.

use super::mutant::Mutant;
use super::read::Asker;
use super::{Body, Indication, Raft, Role};
use quorate_core::{Context, NodeId, Time};
use std::collections::VecDeque;
use std::time::Duration;

/// Instants at which rounds left, kept by a leader: as many as one lease has room for.
const SENDS_MAX: u32 = 32;

const MILLION: u128 = 1_000_000;

/// What a member promises, and what it believes of clocks.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct LeaseTerms {
    /// A leader asks for promises of this length, and no member promises more. A member that was
    /// down for less, and comes back with a shorter one, may break what it promised. Range: at most
    /// the shortest election timeout, or elections come later than they could.
    pub length: Duration,
    /// The clock of a member for which somebody vouches runs off by no more, either way. Unit:
    /// parts per million. Range: below a million.
    pub drift_ppm: u32,
}

impl LeaseTerms {
    /// What a promise of this length on another clock surely lasts on ours.
    pub fn surely(&self, promise: Duration) -> Duration {
        let drift = u128::from(self.drift_ppm).min(MILLION);
        let nanos = promise.as_nanos() * (MILLION - drift) / (MILLION + drift);
        // Each of the two readings on either side is rounded to a nanosecond.
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX).saturating_sub(4))
    }
}

/// What the answer to a read rests on.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Ground {
    /// A quorum was asked.
    Round,
    /// The leader's lease.
    Lease,
}

/// When rounds of heartbeats left, by their numbers: not all of them, however fast they follow
/// each other. What was promised to a round was promised to those before it.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Sends(VecDeque<(u64, Time)>);

impl Sends {
    /// A round leaves. What is older than `length` promises nothing any more.
    pub(super) fn note(&mut self, round: u64, length: Duration, now: Time) {
        while self.0.front().is_some_and(|(_, at)| now.since(*at) > length) {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(_, at)| now.since(*at) >= length / SENDS_MAX) {
            self.0.push_back((round, now));
        }
        // One at each end of the length.
        assert!(self.0.len() <= SENDS_MAX as usize + 2, "instants are not thinned out");
    }

    /// When it left, or an earlier one did.
    fn at(&self, round: u64) -> Option<Time> {
        self.0.iter().rev().find(|(number, _)| *number <= round).map(|(_, at)| *at)
    }
}

/// What a member has promised, and whether its clock may be believed.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Promise {
    /// Until then it neither votes nor stands.
    until: Time,
    /// Until then somebody vouches for its clock.
    trusted_until: Time,
    /// Nothing was promised since it began anew, so that doubts which last do not make it last.
    begun_anew: bool,
}

impl Raft {
    /// True while this member leads and may read by lease.
    pub fn holds_lease(&self, now: Time) -> bool {
        let Role::Leader(leader) = &self.role else { return false };
        let handed_over = leader.handed_over && !self.planted(Mutant::LeaseOutlivesTransfer);
        let own = self.id();
        let ends = |id: NodeId| match id == own {
            true => Time::from_nanos(u64::MAX),
            false => leader.progress.get(&id).map_or(Time::default(), |of| of.promised_until),
        };
        self.trusted_terms(now).is_some() && !handed_over && now < self.agreed(ends)
    }

    /// True while this member has promised neither to vote nor to stand.
    pub fn has_promised(&self, now: Time) -> bool {
        now < self.promise.until
    }

    /// The terms, while somebody vouches for the clock.
    fn trusted_terms(&self, now: Time) -> Option<LeaseTerms> {
        self.config.lease_reads.filter(|_| now < self.promise.trusted_until)
    }

    /// What is left of the promise.
    pub(super) fn promise_left(&self, now: Time) -> Duration {
        self.promise.until.since(now)
    }

    /// A life begins: the one before may have promised what is not on disk.
    pub(super) fn keep_former_promise(&mut self, now: Time) {
        if !self.planted(Mutant::PromiseForgotten) {
            let length = self.config.lease_reads.map_or(Duration::ZERO, |terms| terms.length);
            self.promise.until = now.after(length);
            self.promise.begun_anew = true;
        }
    }

    /// Somebody vouches for the clock until then, or no longer.
    pub(super) fn trust_clock(&mut self, until: Time, now: Time) {
        self.promise.trusted_until = until;
        if until <= now && self.has_promised(now) && !self.promise.begun_anew {
            // What was measured of it lately may have been too long: it begins anew, once.
            self.keep_former_promise(now);
        }
    }

    /// What a leader asks of those who hear its heartbeat. Zero: nothing.
    pub(super) fn wanted_promise(&self, now: Time) -> Duration {
        let Role::Leader(leader) = &self.role else { return Duration::ZERO };
        let terms = self.trusted_terms(now).filter(|_| !leader.handed_over);
        terms.map_or(Duration::ZERO, |terms| terms.length)
    }

    /// The leader asks for a promise. Returns the one that is made.
    pub(super) fn make_promise(&mut self, wanted: Duration, now: Time) -> Duration {
        let Some(terms) = self.trusted_terms(now) else { return Duration::ZERO };
        let promise = wanted.min(terms.length);
        self.promise.until = self.promise.until.max(now.after(promise));
        self.promise.begun_anew = false;
        promise
    }

    /// Whoever is suspected is protected all the same, as long as it was promised.
    pub(super) fn take_evidence(&mut self) {
        if self.planted(Mutant::PromiseYieldsToEvidence) {
            self.promise.until = Time::default();
        }
    }

    /// A member has promised, when it heard this round. One that no longer does may have forgotten
    /// what it promised before.
    pub(super) fn hear_promise(&mut self, from: NodeId, round: u64, promise: Duration, now: Time) {
        let Some(terms) = self.config.lease_reads else { return };
        let promise = promise.min(terms.length); // Nobody was asked for more.
        let margin = !self.planted(Mutant::LeaseMarginForgotten);
        let lasts = if margin { terms.surely(promise) } else { promise };
        let from_answer = self.planted(Mutant::LeaseFromAnswer);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        let sent = if from_answer { Some(now) } else { leader.sends.at(round) };
        match sent {
            _ if promise.is_zero() => progress.promised_until = Time::default(),
            Some(sent) => {
                progress.promised_until = progress.promised_until.max(sent.after(lasts));
            }
            None => {} // It came too late to promise anything.
        }
    }

    /// Answers the fresh reads that may rest on the lease, if there is one. The others, and all of
    /// them without a lease, take a round.
    pub(super) fn read_by_lease(&mut self, cx: &mut Context<'_, Raft>) {
        if !self.holds_lease(cx.now) {
            return;
        }
        let (term, read_index, ground) = (self.term, self.commit, Ground::Lease);
        let Role::Leader(leader) = &mut self.role else { return };
        for asker in leader.rounds.take_leasable() {
            let (to, life, batch) = match asker {
                Asker::Here { ticket } | Asker::Confirming { ticket } => {
                    cx.indicate(Indication::ReadReady { ticket, read_index, ground });
                    continue;
                }
                Asker::There { id, life, batch } => (id, life, batch),
            };
            let read_index = Some((read_index, ground));
            let body = Body::ReadIndexReply { life, batch, read_index };
            cx.send(to, super::Message { term, body });
            // No heartbeat of a round brings it the news for which its readers now wait.
            let Some(progress) = leader.progress.get_mut(&to) else { continue };
            let commit = self.commit.min(progress.matched());
            if commit > progress.commit_sent() {
                progress.told_commit(commit);
                cx.send(to, super::Message { term, body: Body::Committed { commit } });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(millis: u64) -> Time {
        Time::from_nanos(millis * 1_000_000)
    }

    #[test]
    fn both_clocks_are_counted_in_the_margin() {
        let terms = LeaseTerms { length: 1_000 * MS, drift_ppm: 200 };
        let lost = 1_000 * MS - terms.surely(1_000 * MS);
        assert_eq!(lost.as_micros(), 399, "twice 200 us, less what is of second order");
        let wild = LeaseTerms { length: 1_000 * MS, drift_ppm: 1_000_000 };
        assert_eq!(wild.surely(1_000 * MS), Duration::ZERO, "a clock that may stand still");
    }

    /// The voter's clock runs as fast, and the leader's as slowly, as the bound allows.
    #[test]
    fn a_lease_ends_before_the_promise_whatever_the_clocks_do_within_the_bound() {
        for drift_ppm in [0, 1, 200, 50_000, 110_000, 500_000, 999_999] {
            for nanos in [0, 1, 999, 1_000_003, 250_000_000, 49_999_999_999] {
                let promise = Duration::from_nanos(nanos);
                let lease = LeaseTerms { length: promise, drift_ppm }.surely(promise).as_nanos();
                let drift = u128::from(drift_ppm);
                let lasts = (MILLION * MILLION * lease).div_ceil(MILLION - drift);
                let held = MILLION * MILLION * u128::from(nanos) / (MILLION + drift);
                assert!(lease == 0 || lasts <= held, "{drift_ppm} ppm, {nanos} ns");
            }
        }
    }

    #[test]
    fn a_round_that_was_not_noted_left_no_earlier_than_the_one_before() {
        let mut sends = Sends::default();
        for round in 0..10_000 {
            sends.note(round, 320 * MS, at(round));
        }
        assert!(sends.0.len() <= SENDS_MAX as usize + 2);
        assert_eq!(sends.at(9_680), Some(at(9_680)));
        assert_eq!(sends.at(9_685), Some(at(9_680)));
        assert_eq!(sends.at(9_000), None, "whatever it was promised is over");
    }
}
