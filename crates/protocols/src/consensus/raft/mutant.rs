//! Planted bugs: each is a known mistake, a line or two long, which the tests must catch.
//!
//! A build without the feature `mutants` contains none of them.

#[cfg(any(test, feature = "mutants"))]
use super::{Raft, RestoreError};

quorate_core::planted_bugs! {
    /// A known mistake in an implementation of Raft.
    pub enum Mutant {
        /// A follower acknowledges entries before they are durable (Jepsen, NATS 2.12.1).
        AckBeforeDurable = "ack-before-durable",
        /// A vote is given without being remembered (nodedb#161).
        VoteWithoutPersisting = "vote-without-persisting",
        /// A vote is remembered, but given before that is durable (hashicorp/raft#661).
        VoteBeforeDurable = "vote-before-durable",
        /// The vote of an old term is kept in a new one, or given twice (camunda#1068).
        VoteTwice = "vote-twice",
        /// The candidate's log is not compared (paper 5.4.1).
        VoteForAnyLog = "vote-for-any-log",
        /// The longer log wins, whatever its last term (paper 5.4.1).
        VoteByLength = "vote-by-length",
        /// Whoever was heard of as voting counts as voting for us (openraft#1220).
        DenialCounted = "denial-counted",
        /// A repeated vote is counted again (butaneprotocol/oracles#18).
        DuplicateVotesCounted = "duplicate-votes-counted",
        /// A vote of an earlier term is counted in this one (Gjengset 2016, "term confusion").
        StaleVoteCounted = "stale-vote-counted",
        /// Half of the voters are a quorum (Elasticsearch's setting; elasticsearch#10407).
        HalfIsQuorum = "half-is-quorum",
        /// Whoever hears no leader campaigns at once, and those who hear one vote all the same
        /// (logcabin#56; Cloudflare, 2 November 2020).
        ElectionUnguarded = "election-unguarded",
        /// A leader that no quorum hears goes on leading (Cloudflare, 2 November 2020).
        QuorumUnchecked = "quorum-unchecked",
        /// Entries of earlier terms are committed by counting (paper, figure 8).
        CommitOldTerms = "commit-old-terms",
        /// A follower believes the leader's commit index beyond what an append has matched
        /// (paper, figure 2, AppendEntries rule 5).
        CommitBeyondMatch = "commit-beyond-match",
        /// A heartbeat tells the commit index, whatever the follower is known to hold
        /// (etcd#21178).
        HeartbeatCommitUncapped = "heartbeat-commit-uncapped",
        /// An entry that conflicts with the leader's is kept (paper, AppendEntries rule 3).
        ConflictKept = "conflict-kept",
        /// Whatever follows the entries of an append is cut off (Gjengset 2016).
        TruncatesAlways = "truncates-always",
        /// An append of an earlier term is taken (paper, AppendEntries rule 1).
        StaleAppendAccepted = "stale-append-accepted",
        /// An acknowledgement of an earlier term counts in this one (Gjengset 2016, "term
        /// confusion").
        StaleAckCounted = "stale-ack-counted",
        /// A restart cuts the log off after what is known to be committed (KIP-101).
        RestartTruncatesToCommit = "restart-truncates-to-commit",
        /// An append whose previous entry is compacted is taken for a conflict (openraft#511).
        PurgedPrevTruncates = "purged-prev-truncates",
        /// A member whose log is damaged campaigns and votes as if nothing had happened
        /// (Alagappan et al. 2018; tigerbeetle#426).
        MendingVotes = "mending-votes",
        /// A state replaces the log up to its position only, although the rest follows another
        /// entry (paper, figure 13, rule 7; ZOOKEEPER-3526).
        SnapshotKeepsLog = "snapshot-keeps-log",
        /// A state that could not be sent is never tried again (etcd#10225).
        SnapshotFailureForgotten = "snapshot-failure-forgotten",
        /// What was lost on its way to a follower is never sent again (paper 5.3).
        LostAppendForgotten = "lost-append-forgotten",
        /// A read is answered without a round of heartbeats (d-engine#381).
        ReadWithoutQuorum = "read-without-quorum",
        /// A read is answered before the leader committed in its term (etcd#7331).
        ReadBeforeOwnCommit = "read-before-own-commit",
        /// Answers of a former life are taken for answers of this one (etcd#20418).
        ReadAnswerOfFormerLife = "read-answer-of-former-life",
        /// A read is confirmed by a round of heartbeats that began before it (dissertation 6.4).
        ReadJoinsOldRound = "read-joins-old-round",
        /// A leader that heard a quorum lately answers reads at once, with no margin for clocks
        /// and pauses (dissertation 6.4.1).
        LeaseRead = "lease-read",
        /// A lease lasts as long as what was promised, whatever the clocks do (Gray and Cheriton
        /// 1989, section 5).
        LeaseMarginForgotten = "lease-margin-forgotten",
        /// A lease is counted from when the answer came, and not from when the question left
        /// (dissertation 6.4.1).
        LeaseFromAnswer = "lease-from-answer",
        /// A member that restarts is not bound by what it promised before (Gray and Cheriton 1989,
        /// section 2).
        PromiseForgotten = "promise-forgotten",
        /// A member that is told that the leader's process has ended breaks its promise at once.
        PromiseYieldsToEvidence = "promise-yields-to-evidence",
        /// A leader that has asked another to campaign reads by its lease all the same
        /// (dissertation 6.4.1).
        LeaseOutlivesTransfer = "lease-outlives-transfer",
        /// The leader takes a doubled forward (dissertation 6.3).
        ForwardTakenTwice = "forward-taken-twice",
        /// The leader notes only the batches of which it took something.
        RefusedForwardForgotten = "refused-forward-forgotten",
        /// A member whose disk has not taken its campaign begins another one, and pushes the term
        /// up each time; found in our own simulator.
        StalledCampaigns = "stalled-campaigns",
        /// Whatever was measured, a follower waits for the shortest silence that is allowed (Chen,
        /// Toueg and Aguilera 2002, section 5: a freshness point must follow the link).
        PatienceFrozen = "patience-frozen",
        /// A follower waits just as long as the longest silence that it has heard (Jacobson 1988,
        /// appendix A: a timeout needs the deviation, too).
        MarginLeftOut = "margin-left-out",
        /// A transfer of leadership whose message was lost goes on for ever
        /// (openraft#1747).
        TransferNeverEnds = "transfer-never-ends",
        /// Only the new majority counts during a change of members (paper 6).
        JointBypassed = "joint-bypassed",
        /// Members are changed in one step (paper 6, figure 10).
        JointSkipped = "joint-skipped",
        /// The joint configuration is left before it is committed (paper 6, figure 11).
        JointLeftEarly = "joint-left-early",
        /// Learners count as voters (dissertation 4.2.1).
        LearnerCounted = "learner-counted",
        /// A change of members is begun before the first commit of the term (raft-dev 2015).
        ReconfigureEarly = "reconfigure-early",
        /// A restart forgets a change of members that is not known to be committed
        /// (camunda#57386).
        ConfigurationForgotten = "configuration-forgotten",
        /// A checkpoint that outlived the crash which cut off the term it came in is taken for
        /// damage of the last vote; found in our own service.
        CheckpointTermIsDamage = "checkpoint-term-is-damage",
    }
}

#[cfg(any(test, feature = "mutants"))]
impl Raft {
    /// Puts a known mistake in this member. To be called between restore and start.
    pub fn plant(&mut self, mutant: Mutant) {
        self.mutant = Some(mutant);
        match mutant {
            Mutant::RestartTruncatesToCommit => self.log.truncate_after(self.commit),
            Mutant::ConfigurationForgotten => self.log.forget_configurations_after(self.commit),
            Mutant::CheckpointTermIsDamage if self.log.last().term > self.written_hard_state.0 => {
                self.restore_error = Some(RestoreError::VoteDamaged);
            }
            _ => {}
        }
    }

    /// This member with a known mistake in it, if there is to be one.
    pub fn with_mutant(mut self, mutant: Option<Mutant>) -> Raft {
        mutant.into_iter().for_each(|mutant| self.plant(mutant));
        self
    }
}
