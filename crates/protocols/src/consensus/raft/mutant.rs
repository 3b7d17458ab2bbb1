//! Planted bugs: each is a known mistake, one line long, which the tests must catch.
//!
//! A build without the feature `mutants` contains none of them.

/// A known mistake in an implementation of Raft.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(
    not(any(test, feature = "mutants")),
    expect(unreachable_pub, reason = "named outside of this crate by tests only")
)]
pub enum Mutant {
    /// A follower acknowledges entries before they are durable.
    AckBeforeDurable,
    /// A vote is given without being remembered (nodedb#161).
    VoteWithoutPersisting,
    /// The vote of an old term is kept in a new one, or given twice (camunda#1068).
    VoteTwice,
    /// Entries of earlier terms are committed by counting (Ongaro and Ousterhout 2014, figure 8).
    CommitOldTerms,
    /// A read is answered without a round of heartbeats (d-engine#381).
    ReadWithoutQuorum,
    /// A read is answered before the leader committed in its term (etcd#7331).
    ReadBeforeOwnCommit,
    /// Answers of a former life are taken for answers of this one (etcd#20418).
    ReadAnswerOfFormerLife,
    /// A repeated vote is counted again.
    DuplicateVotesCounted,
    /// Only the new majority counts during a change of members.
    JointBypassed,
    /// Learners count as voters.
    LearnerCounted,
    /// An append whose previous entry is compacted is taken for a conflict (openraft#511).
    PurgedPrevTruncates,
    /// A member whose log is damaged campaigns and votes as if nothing had happened.
    MendingVotes,
    /// A change of members is begun before the first commit of the term (raft-dev 2015).
    ReconfigureEarly,
    /// The candidate's log is not compared.
    VoteForAnyLog,
    /// The leader takes a doubled forward.
    ForwardTakenTwice,
    /// The leader notes only the batches of which it took something.
    RefusedForwardForgotten,
}
