//! Replication: one log, copied.
//!
//! ```text
//!    propose --> leader: write ----------------- synced --> Appended to itself --+
//!                  |                                                             v
//!                  +--> Append --> follower: write -- synced --> Appended --> commit
//! ```
//!
//! The leader sends while it writes. It advances `next` before it hears an answer, and a follower
//! whose log differs says where it could agree, so that finding the place takes a round per
//! *term*, not per entry. Proposals of one batch of events travel in one append per follower.
//!
//! Sources: paper 5.3 and 5.4.2; dissertation 10.2.1 (write in parallel).

use super::mutant::Mutant;
use super::patience::Stopwatch;
use super::progress::{Allowance, Limits, Progress};
use super::record::{Entry, Payload, Record};
use super::{Body, Indication, Leader, Raft, Refusal, Request, Role, Timer};
use bytes::Bytes;
use quorate_core::{Context, Index, NodeId, Position, Time};
use std::cmp::Reverse;
use std::time::Duration;

impl Raft {
    /// Answers a request that this member cannot serve at all.
    pub(super) fn refuse(&mut self, request: Request, cx: &mut Context<'_, Raft>) {
        match request {
            Request::Propose { command } => {
                cx.indicate(Indication::Refused { command, why: Refusal::NoLeader });
            }
            Request::Read { ticket } | Request::Confirm { ticket } => {
                cx.indicate(Indication::ReadRefused { ticket })
            }
            _ => {}
        }
    }

    pub(super) fn propose(&mut self, command: Bytes, cx: &mut Context<'_, Raft>) {
        let refusal = match &self.role {
            Role::Leader(_) => self.admit(&command),
            _ if self.leader.is_none() => Some(Refusal::NoLeader),
            _ if self.forwards.fresh_bytes() + command.len()
                > self.config.uncommitted_bytes_max =>
            {
                Some(Refusal::Overloaded)
            }
            _ => None,
        };
        match refusal {
            Some(why) => cx.indicate(Indication::Refused { command, why }),
            None if self.is_leader() => self.append_own(Payload::Command(command), cx),
            None => self.forwards.push(command),
        }
    }

    /// Why a leader does not take `command`, if it does not. One that is alone is always taken.
    pub(super) fn admit(&self, command: &Bytes) -> Option<Refusal> {
        let Role::Leader(leader) = &self.role else { return Some(Refusal::NoLeader) };
        // Others may commit faster than our own disk writes: then that is what must be waited for.
        let unsynced = leader.progress.get(&self.id()).map_or(0, Progress::inflight_bytes);
        let bytes = leader.uncommitted_bytes.max(unsynced);
        if self.transfer.is_some() {
            Some(Refusal::Transferring)
        } else if bytes > 0 && bytes + command.len() > self.config.uncommitted_bytes_max {
            Some(Refusal::Overloaded)
        } else {
            None
        }
    }

    /// Appends to the leader's own log.
    pub(super) fn append_own(&mut self, payload: Payload, cx: &mut Context<'_, Raft>) {
        let position = Position { term: self.term, index: self.log.last().index.next() };
        let entry = Entry { position, payload };
        let Role::Leader(leader) = &mut self.role else {
            panic!("only a leader appends, at {position}");
        };
        leader.uncommitted_bytes += entry.size();
        if let Some(own) = leader.progress.get_mut(&self.config.id) {
            own.sent(position.index, entry.size());
            own.clock_append(position.index, cx.now);
        }
        self.append(entry, cx);
        self.owed.acknowledgement = Some(position.index);
    }

    fn append(&mut self, entry: Entry, cx: &mut Context<'_, Raft>) {
        let changes_members = matches!(entry.payload, Payload::Membership(_));
        self.persist(cx); // on disk, no entry is of a term that is not known there
        cx.write(Record::Entry(entry.clone()));
        self.log.append(entry);
        self.owed.commit_hint = true;
        if changes_members {
            self.serve_members();
        }
    }

    pub(super) fn on_append(
        &mut self,
        from: NodeId,
        prev: Position,
        entries: Vec<Entry>,
        commit: Index,
        cx: &mut Context<'_, Raft>,
    ) {
        if !is_consecutive(prev, &entries) {
            return; // no leader says this: a peer of another kind
        }
        self.hear_leader(from, cx);
        let base = self.log.base();
        let compacted = prev.index < base.index && !self.planted(Mutant::PurgedPrevTruncates);
        if !compacted && !self.log.contains(prev) {
            if (base.index..=self.log.last().index).contains(&prev.index) {
                self.assert_uncommitted(prev.index);
            }
            if prev.index < base.index {
                // Only the mutant comes here: it takes what was compacted for a conflict.
                self.log = super::Log::new(Position::ZERO, self.configuration().clone());
                (self.commit, self.indicated) = (Index(0), Index(0));
                return;
            }
            let limit = Position { term: prev.term, index: prev.index.prev() };
            let hint = self.log.agreeing(limit);
            return cx.send(from, self.say(Body::AppendRejected { prev: prev.index, hint }));
        }
        let matched = Index(prev.index.0 + entries.len() as u64).max(base.index);
        self.adopt(entries, cx);
        if self.planted(Mutant::TruncatesAlways) {
            self.log.truncate_after(matched.max(self.commit));
        }
        self.owed.acknowledgement = self.owed.acknowledgement.max(Some(matched));
        let beyond = self.planted(Mutant::CommitBeyondMatch);
        self.advance_commit(if beyond { commit } else { commit.min(matched) });
    }

    /// Takes over the leader's entries, cutting off ours where they differ.
    fn adopt(&mut self, entries: Vec<Entry>, cx: &mut Context<'_, Raft>) {
        for entry in entries {
            let position = entry.position;
            if position.index <= self.log.base().index || self.log.contains(position) {
                continue;
            }
            let conflicts = position.index <= self.log.last().index;
            if conflicts && self.planted(Mutant::ConflictKept) {
                continue;
            }
            if conflicts {
                self.assert_uncommitted(position.index);
                self.log.truncate_after(position.index.prev());
            }
            self.append(entry, cx);
        }
    }

    fn assert_uncommitted(&self, index: Index) {
        assert!(index > self.commit, "entry {index} conflicts, but {} is committed", self.commit);
    }

    /// Pays for what was written in this batch: a hint along with the entries, and one
    /// acknowledgement for all of them, once they are durable.
    pub(super) fn flush_writes(&mut self, cx: &mut Context<'_, Raft>) {
        let last = self.log.last();
        if self.mending.is_some_and(|end| last >= end) {
            self.mending = None;
            cx.write(Record::Mended);
        }
        if std::mem::take(&mut self.owed.commit_hint) && self.commit > self.hinted {
            self.hinted = self.commit;
            cx.write(Record::Commit(self.commit));
        }
        let Some(matched) = self.owed.acknowledgement.take() else { return };
        let Some(leader) = self.leader else { return };
        let acknowledgement = self.say(Body::Appended { matched });
        if self.planted(Mutant::AckBeforeDurable) {
            return cx.send(leader, acknowledgement);
        }
        cx.send_once_durable(leader, acknowledgement);
    }

    pub(super) fn on_appended(&mut self, from: NodeId, matched: Index, cx: &mut Context<'_, Raft>) {
        let last = self.log.last().index;
        let base = self.log.base().index;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        if matched > last {
            return; // no follower of ours says this
        }
        progress.hear();
        progress.acknowledge(matched, base);
        progress.disk.end(matched.0, cx.now);
        self.commit_by_counting();
        self.hand_over_if_ready(from, cx);
    }

    pub(super) fn on_append_rejected(&mut self, from: NodeId, prev: Index, hint: Position) {
        let agreeing = self.log.agreeing(hint).index.min(hint.index);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&from) else { return };
        progress.hear();
        if agreeing < prev {
            progress.reject(prev, agreeing);
        }
    }

    /// Commits what a quorum holds, if it is of our own term: an older entry on a majority can
    /// still be replaced (paper, figure 8), but not one that an entry of ours follows.
    fn commit_by_counting(&mut self) {
        let Role::Leader(leader) = &self.role else { return };
        let matched = |id: NodeId| leader.progress.get(&id).map_or(Index(0), Progress::matched);
        let held = self.agreed(matched);
        let is_ours = self.log.term_at(held) == Some(self.term);
        if held > self.commit && (is_ours || self.planted(Mutant::CommitOldTerms)) {
            self.advance_commit(held);
        }
    }

    /// Commits up to `commit`, as far as the log reaches.
    pub(super) fn advance_commit(&mut self, commit: Index) {
        self.commit = self.commit.max(commit.min(self.log.last().index));
    }

    /// Tells the layer above what is newly committed, in bounded portions.
    pub(super) fn indicate_committed(&mut self, cx: &mut Context<'_, Raft>) {
        while self.indicated < self.commit {
            let first = self.indicated.next();
            let alone = self.config.buggify.strikes(cx);
            let bytes_max = if alone { 0 } else { self.config.append_bytes_max };
            let count = self.log.fitting(first, self.commit, bytes_max);
            let entries: Vec<Entry> = self.log.slice(first, count).cloned().collect();
            let last = entries.last().expect("committed entries are in the log").position;
            self.indicated = last.index;
            if let Role::Leader(leader) = &mut self.role {
                let bytes: usize = entries.iter().map(Entry::size).sum();
                leader.uncommitted_bytes = leader.uncommitted_bytes.saturating_sub(bytes);
            }
            let changes_members =
                entries.iter().any(|e| matches!(e.payload, Payload::Membership(_)));
            cx.indicate(Indication::Committed { entries });
            if changes_members {
                self.configurations_committed(first, last.index, cx);
            }
        }
        self.complete_change(cx);
    }

    /// Sends each follower what it may get: entries, else news of the commit index.
    pub(super) fn flush_appends(&mut self, cx: &mut Context<'_, Raft>) {
        let own = self.id();
        let Role::Leader(leader) = &self.role else { return };
        let Some(mut next) = leader.progress.keys().next().copied() else { return };
        loop {
            if next != own {
                self.send_appends(next, cx);
                self.send_commit(next, cx);
            }
            let Role::Leader(leader) = &self.role else { return };
            let later = (std::ops::Bound::Excluded(next), std::ops::Bound::Unbounded);
            match leader.progress.range(later).next() {
                Some((id, _)) => next = *id,
                None => return,
            }
        }
    }

    /// Sends appends to one follower as long as full ones can be made and may be sent.
    fn send_appends(&mut self, to: NodeId, cx: &mut Context<'_, Raft>) {
        let limits = Limits {
            appends_max: self.config.inflight_max,
            bytes_max: self.config.inflight_bytes_max,
        };
        let is_member = self.configuration().contains(to);
        let (term, commit, last) = (self.term, self.commit, self.log.last().index);
        let buggify = self.config.buggify;
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        loop {
            let allowance = progress.allowance(last, limits);
            if allowance == Allowance::Nothing {
                return;
            }
            let first = progress.next();
            let lacks = first <= last && buggify.strikes(cx) && progress.is_heard() && is_member;
            let prev = self.log.term_at(first.prev()).filter(|_| !lacks);
            let Some(prev) = prev else {
                if progress.is_heard() && is_member {
                    progress.needs_snapshot();
                    cx.indicate(Indication::SnapshotWanted { by: to });
                }
                return;
            };
            let prev = Position { term: prev, index: first.prev() };
            let bytes_max = if buggify.strikes(cx) { 0 } else { self.config.append_bytes_max };
            let count = match allowance {
                Allowance::Entries => self.log.fitting(first, last, bytes_max),
                Allowance::Empty | Allowance::Nothing => 0,
            };
            let entries: Vec<Entry> = self.log.slice(first, count).cloned().collect();
            let end = Index(prev.index.0 + count as u64);
            let bytes = entries.iter().map(Entry::size).sum();
            progress.sent(end, bytes);
            if count > 0 {
                progress.clock_append(end, cx.now);
            }
            progress.told_commit(commit.min(progress.matched()));
            cx.send(to, super::Message { term, body: Body::Append { prev, entries, commit } });
            if end == last {
                // The append brings the whole log, and so the news with it.
                progress.told_commit(commit);
                return;
            }
        }
    }

    /// A follower answers its own clients, so it hears at once that what it forwarded is
    /// committed. Other news may wait a moment for the next append, which brings them for nothing.
    fn send_commit(&mut self, to: NodeId, cx: &mut Context<'_, Raft>) {
        let (term, commit, delay) = (self.term, self.commit, self.config.news_delay);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(progress) = leader.progress.get_mut(&to) else { return };
        let news = commit.min(progress.matched());
        if news <= progress.commit_sent() || self.config.buggify.strikes(cx) {
            return; // The next append or heartbeat brings them.
        }
        if delay.is_zero() || progress.waits_for_news() {
            progress.told_commit(news);
            cx.send(to, super::Message { term, body: Body::Committed { commit: news } });
        } else if leader.news.is_none() {
            leader.news = Some(commit);
            cx.set_timer(Timer::News, delay..delay + delay / 8 + Duration::from_nanos(1));
        }
    }

    /// Tells every follower now what is committed. For a layer above which is about to take long:
    /// who applies the same at the same time misses nobody meanwhile.
    pub fn tell_news(&mut self, cx: &mut Context<'_, Raft>) {
        let (own, term) = (self.id(), self.term);
        let Role::Leader(leader) = &mut self.role else { return };
        for (id, progress) in leader.progress.iter_mut().filter(|(id, _)| **id != own) {
            let news = self.commit.min(progress.matched());
            if news > progress.commit_sent() {
                progress.told_commit(news);
                cx.send(*id, super::Message { term, body: Body::Committed { commit: news } });
            }
        }
    }

    /// Tells what no append has told since the timer was set; younger news get a timer of their
    /// own when the turn ends.
    pub(super) fn on_news_timer(&mut self, cx: &mut Context<'_, Raft>) {
        let (own, term) = (self.id(), self.term);
        let Role::Leader(leader) = &mut self.role else { return };
        let Some(old) = leader.news.take() else { return };
        for (id, progress) in leader.progress.iter_mut().filter(|(id, _)| **id != own) {
            let news = self.commit.min(progress.matched());
            if progress.commit_sent() < old && news > progress.commit_sent() {
                progress.told_commit(news);
                cx.send(*id, super::Message { term, body: Body::Committed { commit: news } });
            }
        }
    }

    pub(super) fn on_committed(&mut self, from: NodeId, commit: Index, cx: &mut Context<'_, Raft>) {
        self.hear_leader(from, cx);
        self.advance_commit(commit);
    }

    pub(super) fn on_heartbeat(
        &mut self,
        from: NodeId,
        round: u64,
        commit: Index,
        lease: Duration,
        cx: &mut Context<'_, Raft>,
    ) {
        self.hear_leader(from, cx);
        self.advance_commit(commit);
        let promise = self.make_promise(lease, cx.now);
        cx.send(from, self.say(Body::HeartbeatReply { round, promise }));
        let hint = self.log.last();
        if commit > hint.index {
            // It believes that we hold what our disk lost. While nothing is proposed, no append
            // will find out.
            cx.send(from, self.say(Body::AppendRejected { prev: commit, hint }));
        }
        self.questions.ask_again_if_older_than(self.config.heartbeat_interval * 2, cx.now);
        self.forwards.forget_older_than(self.config.election_timeout, cx.now);
    }

    pub(super) fn on_heartbeat_timer(&mut self, cx: &mut Context<'_, Raft>) {
        let interval = self.config.heartbeat_interval;
        let forgets = self.planted(Mutant::LostAppendForgotten);
        let pace = self.pace(cx.now);
        let Role::Leader(leader) = &mut self.role else { return };
        leader.pace = pace;
        if !forgets {
            leader.progress.values_mut().for_each(Progress::tick);
        }
        if !self.config.buggify.strikes(cx) {
            self.start_round(cx);
        }
        self.remind_transferee(cx);
        self.spare_the_cluster(cx);
        cx.set_timer(Timer::Heartbeat, interval..interval + interval / 8 + Duration::from_nanos(1));
    }

    /// Sends a heartbeat of a new round to every follower.
    pub(super) fn start_round(&mut self, cx: &mut Context<'_, Raft>) {
        let own = self.id();
        let (term, commit) = (self.term, self.commit);
        let uncapped = self.planted(Mutant::HeartbeatCommitUncapped);
        let patience = self.config.election_timeout;
        let lease = self.wanted_promise(cx.now);
        let Role::Leader(leader) = &mut self.role else { return };
        let Leader { progress, rounds, sends, pace, .. } = leader.as_mut();
        let pace = *pace;
        let round = rounds.begin();
        if !lease.is_zero() {
            sends.note(round, lease, cx.now);
        }
        for (id, progress) in progress.iter_mut().filter(|(id, _)| **id != own) {
            let commit = if uncapped { commit } else { commit.min(progress.matched()) };
            progress.told_commit(commit);
            progress.answer.begin_anew(round, patience, cx.now);
            let body = Body::Heartbeat { round, commit, pace, lease };
            cx.send(*id, super::Message { term, body });
        }
    }

    /// A quorum answers within this time, and writes within this time, nearly always.
    fn pace(&self, now: Time) -> Duration {
        let Role::Leader(leader) = &self.role else { return Duration::ZERO };
        let of = |id: NodeId, watch: fn(&Progress) -> Stopwatch| {
            Reverse(leader.progress.get(&id).map_or(Duration::ZERO, |of| watch(of).bound(now)))
        };
        let answer = self.agreed(|id| of(id, |progress| progress.answer));
        let disk = self.agreed(|id| of(id, |progress| progress.disk));
        let pace = answer.0.max(disk.0);
        Duration::from_micros(u64::try_from(pace.as_micros()).unwrap_or(u64::MAX))
    }
}

/// True if `entries` can stand after `prev` in one log.
fn is_consecutive(prev: Position, entries: &[Entry]) -> bool {
    let mut before = prev;
    (prev.index > Index(0) || prev == Position::ZERO)
        && entries.iter().all(|entry| {
            let after = std::mem::replace(&mut before, entry.position);
            entry.position.index == after.index.next() && entry.position.term >= after.term
        })
}
