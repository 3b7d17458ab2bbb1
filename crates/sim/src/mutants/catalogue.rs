//! Every planted bug that a campaign must catch.

use super::plant::{ClientMutant, HostMutant, MutantCase, Needs, Plant, Work, WorldName};
use quorate_drivers::simulate::Fault;
use quorate_protocols::consensus::raft::Mutant;
use quorate_replica::store::Mutant as Store;
use quorate_replica::{LessorMutant, Plant as Part, ReplicaMutant};
use quorate_server::watch::Mutant as Watch;
use quorate_storage::Mutant as Storage;

pub(super) const fn raft(mutant: Mutant) -> Plant {
    Plant::Replica(Part::Raft(mutant))
}

pub(super) const fn store(mutant: Store) -> Plant {
    Plant::Replica(Part::Store(mutant))
}

pub(super) const fn lessor(mutant: LessorMutant) -> Plant {
    Plant::Replica(Part::Lessor(mutant))
}

pub(super) const fn replica(mutant: ReplicaMutant) -> Plant {
    Plant::Replica(Part::Replica(mutant))
}

pub(super) const fn case(
    plant: Plant,
    (breaks, source): (&'static str, &'static str),
    what: &'static str,
    world: WorldName,
    needs: Needs,
) -> MutantCase {
    MutantCase { name: plant.name(), plant, breaks, source, what, world, needs }
}

pub(super) const fn three(faults: &'static [Fault], work: &'static [Work]) -> Needs {
    Needs { faults, work, voters: 3 }
}

pub(super) const fn five(faults: &'static [Fault], work: &'static [Work]) -> Needs {
    Needs { faults, work, voters: 5 }
}

/// The planted bugs that campaigns must catch, by theme.
pub const CATALOGUE: &[MutantCase] = &[
    // Elections.
    case(
        raft(Mutant::VoteWithoutPersisting),
        ("election-safety", "nodedb#161"),
        "a vote is given without being remembered",
        WorldName::Raft,
        three(&[Fault::Crash, Fault::Partition, Fault::Loss], &[]),
    ),
    case(
        raft(Mutant::VoteBeforeDurable),
        ("election-safety", "hashicorp/raft#661"),
        "a vote is given before it is durable",
        WorldName::Raft,
        three(&[Fault::Crash, Fault::Loss, Fault::SlowDisk], &[Work::RarePaths]),
    ),
    case(
        raft(Mutant::VoteTwice),
        ("election-safety", "camunda#1068"),
        "a second candidate of a term gets the vote too",
        WorldName::Raft,
        three(&[Fault::Partition, Fault::Loss], &[]),
    ),
    case(
        raft(Mutant::VoteForAnyLog),
        ("leader-completeness", "Ongaro and Ousterhout 2014, 5.4.1"),
        "the candidate's log is not compared",
        WorldName::Service,
        three(&[Fault::Partition, Fault::IsolateLeader], &[]),
    ),
    case(
        raft(Mutant::VoteByLength),
        ("leader-completeness", "Ongaro and Ousterhout 2014, 5.4.1"),
        "the longer log wins, whatever its last term",
        WorldName::Raft,
        three(
            &[
                Fault::Partition,
                Fault::IsolateLeader,
                Fault::Loss,
                Fault::Crash,
                Fault::Kill,
                Fault::Flapping,
            ],
            &[],
        ),
    ),
    case(
        raft(Mutant::DenialCounted),
        ("election-safety", "openraft#1220; databend#16175"),
        "a vote for another counts as one for us",
        WorldName::Raft,
        three(&[Fault::Partition, Fault::Loss], &[]),
    ),
    case(
        raft(Mutant::DuplicateVotesCounted),
        ("election-safety", "butaneprotocol/oracles#18"),
        "a vote that arrives twice counts twice",
        WorldName::Raft,
        five(&[Fault::Duplicate, Fault::Partition, Fault::Loss, Fault::Crash], &[]),
    ),
    case(
        raft(Mutant::StaleVoteCounted),
        ("election-safety", "Gjengset, \"Students' Guide to Raft\" 2016"),
        "a vote of an earlier term is counted",
        WorldName::Raft,
        five(&[Fault::Hold, Fault::Tail, Fault::Partition], &[]),
    ),
    case(
        raft(Mutant::HalfIsQuorum),
        ("election-safety", "elasticsearch#10407"),
        "half of the voters are a quorum",
        WorldName::Raft,
        three(&[Fault::Partition], &[]),
    ),
    // Replication.
    case(
        raft(Mutant::AckBeforeDurable),
        ("durable", "Jepsen, NATS 2.12.1"),
        "entries are acknowledged before they are durable",
        WorldName::Service,
        three(&[Fault::Crash, Fault::Blackout], &[]),
    ),
    case(
        raft(Mutant::CommitOldTerms),
        ("leader-completeness", "Ongaro and Ousterhout 2014, 5.4.2 and figure 8"),
        "entries of earlier terms are committed by counting",
        WorldName::Raft,
        three(&[Fault::Ambush, Fault::IsolateLeader, Fault::Partition], &[]),
    ),
    case(
        raft(Mutant::CommitBeyondMatch),
        ("state-machine-safety", "Ongaro and Ousterhout 2014, figure 2"),
        "a follower commits what no append has matched",
        WorldName::Service,
        three(&[Fault::Partition, Fault::IsolateLeader], &[]),
    ),
    case(
        raft(Mutant::HeartbeatCommitUncapped),
        ("state-machine-safety", "etcd#21178"),
        "a heartbeat commits what the follower is not known to hold",
        WorldName::Service,
        three(&[Fault::Partition, Fault::IsolateLeader], &[]),
    ),
    case(
        raft(Mutant::ConflictKept),
        ("log-matching", "Ongaro and Ousterhout 2014, figure 2"),
        "an entry that conflicts with the leader's is kept",
        WorldName::Raft,
        three(&[Fault::Partition, Fault::IsolateLeader], &[]),
    ),
    case(
        raft(Mutant::TruncatesAlways),
        ("leader-completeness", "Gjengset, \"Students' Guide to Raft\" 2016"),
        "a late append cuts off what follows its entries",
        WorldName::Service,
        three(&[Fault::Duplicate, Fault::Tail, Fault::Hold], &[]),
    ),
    case(
        raft(Mutant::StaleAppendAccepted),
        ("state-machine-safety", "Ongaro and Ousterhout 2014, figure 2"),
        "an append of a deposed leader is taken",
        WorldName::Raft,
        three(&[Fault::Hold, Fault::Tail, Fault::IsolateLeader], &[]),
    ),
    case(
        raft(Mutant::RestartTruncatesToCommit),
        ("durable", "KIP-101"),
        "a restart cuts the log off after what it knows to be committed",
        WorldName::Service,
        three(&[Fault::Crash, Fault::Kill, Fault::Blackout], &[]),
    ),
    case(
        raft(Mutant::LostAppendForgotten),
        ("liveness", "Ongaro and Ousterhout 2014, 5.3; scylladb#9552"),
        "what was lost on its way is never sent again",
        WorldName::Service,
        three(&[Fault::Loss], &[]),
    ),
    case(
        raft(Mutant::MendingVotes),
        ("leader-completeness", "Alagappan et al. 2018; tigerbeetle#426"),
        "a member with a damaged log votes and campaigns as if it were whole",
        WorldName::Service,
        three(&[Fault::BitRot, Fault::Crash, Fault::Kill], &[]),
    ),
    case(
        raft(Mutant::PurgedPrevTruncates),
        ("crash", "openraft#511"),
        "an append whose previous entry is compacted is taken for a conflict",
        WorldName::Service,
        three(&[Fault::Duplicate, Fault::Tail, Fault::Hold], &[Work::RarePaths, Work::Checkpoint]),
    ),
    case(
        raft(Mutant::TransferNeverEnds),
        ("liveness", "openraft#1747"),
        "a hand-over whose message was lost is never given up",
        WorldName::Service,
        three(&[Fault::Loss, Fault::Partition], &[Work::Transfer]),
    ),
    // Dedup.
    case(
        raft(Mutant::ForwardTakenTwice),
        ("once", "Ongaro 2014, 6.3"),
        "a forwarded batch that arrives twice is appended twice",
        WorldName::Service,
        three(&[Fault::Duplicate], &[Work::Read]),
    ),
    case(
        raft(Mutant::RefusedForwardForgotten),
        ("once", "Ongaro 2014, 6.3; found in our own review"),
        "a batch that was refused is taken when it arrives again",
        WorldName::Service,
        three(&[Fault::Duplicate], &[Work::Overload, Work::RarePaths]),
    ),
    case(
        replica(ReplicaMutant::AskedAgain),
        ("once", "Ongaro 2014, 6.3"),
        "a write is proposed again until it is answered",
        WorldName::Service,
        three(&[Fault::Loss, Fault::Partition, Fault::SlowDisk], &[Work::Read]),
    ),
    case(
        replica(ReplicaMutant::LifeIgnored),
        ("linearizable", "etcd#20418, the class of it"),
        "another member's command answers a question with the same number",
        WorldName::Service,
        three(&[], &[Work::Read]),
    ),
    case(
        replica(ReplicaMutant::TimeoutIsDefinite),
        ("once", "Jepsen, \"indeterminate\" operations"),
        "what may still happen is said not to have happened",
        WorldName::Service,
        three(&[Fault::Partition, Fault::IsolateLeader], &[Work::Read]),
    ),
    case(
        replica(ReplicaMutant::AnsweredWhenProposed),
        ("durable", "Jepsen, Redis-Raft 1b3fbf6"),
        "a put is answered before it is committed",
        WorldName::Service,
        three(&[Fault::IsolateLeader, Fault::Pause, Fault::Hold], &[Work::Read]),
    ),
    case(
        Plant::Client(ClientMutant::RetriedBlindly),
        ("once", "Ongaro 2014, 6.3"),
        "a client asks again for what may have happened",
        WorldName::Service,
        three(&[Fault::Loss, Fault::Partition], &[Work::Read]),
    ),
    // Reads.
    case(
        raft(Mutant::ReadWithoutQuorum),
        ("linearizable", "d-engine#381"),
        "a read is answered without asking a quorum",
        WorldName::Service,
        three(&[Fault::IsolateLeader, Fault::Pause, Fault::Hold], &[Work::Read]),
    ),
    case(
        raft(Mutant::ReadBeforeOwnCommit),
        ("linearizable", "etcd#7331; redisraft#22"),
        "a new leader reads before it has committed an entry of its own",
        WorldName::Service,
        three(&[Fault::Crash, Fault::Kill, Fault::IsolateLeader], &[Work::Read]),
    ),
    case(
        raft(Mutant::ReadJoinsOldRound),
        ("linearizable", "etcd#20418; Ongaro 2014, 6.4"),
        "a read is confirmed by what was heard before it was asked",
        WorldName::Service,
        three(&[Fault::Pause, Fault::IsolateLeader, Fault::Tail], &[Work::Read]),
    ),
    case(
        raft(Mutant::ReadAnswerOfFormerLife),
        ("linearizable-reads", "etcd#20418"),
        "an answer to a former life is taken for one to this",
        WorldName::Raft,
        three(&[Fault::CrashLoop, Fault::SlowLink], &[Work::Read]),
    ),
    case(
        raft(Mutant::LeaseRead),
        ("linearizable", "Ongaro 2014, 6.4.1; openraft#1651"),
        "a leader that heard a quorum lately reads at once, with no margin for clocks and pauses",
        WorldName::Service,
        three(&[Fault::Pause, Fault::IsolateLeader, Fault::WildDrift], &[Work::Read]),
    ),
    case(
        replica(ReplicaMutant::ReadBeforeApplied),
        ("linearizable", "Ongaro 2014, 6.4"),
        "a read does not wait until its index is applied",
        WorldName::Service,
        three(&[Fault::SlowNode, Fault::Loss], &[Work::Read, Work::RarePaths]),
    ),
    // Membership.
    case(
        raft(Mutant::JointBypassed),
        ("state-machine-safety", "Ongaro and Ousterhout 2014, 6; etcd-io/raft#372"),
        "only the new majority counts during a change",
        WorldName::Raft,
        three(&[Fault::Partition, Fault::Crash], &[Work::Reconfigure]),
    ),
    case(
        raft(Mutant::JointSkipped),
        ("state-machine-safety", "Ongaro and Ousterhout 2014, figure 10; redisraft#17"),
        "members are changed in one step",
        WorldName::Raft,
        three(&[Fault::Partition, Fault::Crash], &[Work::Reconfigure]),
    ),
    case(
        raft(Mutant::JointLeftEarly),
        ("state-machine-safety", "Ongaro and Ousterhout 2014, figure 11"),
        "the joint configuration is left before it is committed",
        WorldName::Raft,
        three(
            &[Fault::Partition, Fault::IsolateLeader, Fault::Loss, Fault::Crash, Fault::Kill],
            &[Work::Reconfigure],
        ),
    ),
    case(
        raft(Mutant::LearnerCounted),
        ("state-machine-safety", "Ongaro 2014, 4.2.1"),
        "learners count as voters",
        WorldName::Raft,
        three(&[Fault::Partition, Fault::Crash], &[Work::Reconfigure]),
    ),
    case(
        raft(Mutant::ConfigurationForgotten),
        ("state-machine-safety", "camunda#57386"),
        "a restart forgets a change that it does not know to be committed",
        WorldName::Raft,
        three(
            &[Fault::Partition, Fault::IsolateLeader, Fault::Loss, Fault::Crash, Fault::Kill],
            &[Work::Reconfigure],
        ),
    ),
    case(
        Plant::Host(HostMutant::LostDiskRejoins),
        ("durable", "Chandra et al., \"Paxos Made Live\" 2007, 5.1"),
        "a member that lost its disk takes part at once under its old name",
        WorldName::Service,
        three(&[Fault::Crash], &[]),
    ),
    // Log and recovery.
    case(
        Plant::Storage(Storage::ForgetSync),
        ("durable", "Jepsen, NATS 2.12.1; nats-server#7564"),
        "a sync returns without one",
        WorldName::Service,
        three(&[Fault::Crash, Fault::Blackout], &[]),
    ),
    case(
        Plant::Storage(Storage::SyncErrorIgnored),
        ("durable", "PostgreSQL, \"fsyncgate\" 2018; Rebello et al. 2020"),
        "a failed sync is taken for one that worked",
        WorldName::Service,
        three(&[Fault::SyncError, Fault::Crash, Fault::Blackout], &[]),
    ),
    case(
        Plant::Storage(Storage::TrustUnprovenTail),
        ("durable", "Rebello et al. 2020"),
        "what a failed sync left in the cache is built upon",
        WorldName::Service,
        three(&[Fault::SyncError, Fault::Kill, Fault::Crash, Fault::Blackout], &[]),
    ),
    case(
        Plant::Storage(Storage::AcceptBadPayload),
        ("digest", "Ganesan et al. 2017"),
        "a record is believed whatever its checksum says",
        WorldName::Service,
        three(&[Fault::BitRot, Fault::Kill, Fault::Crash], &[]),
    ),
    case(
        Plant::Storage(Storage::CorruptionIsTorn),
        ("durable", "Jepsen, NATS 2.12.1; Alagappan et al. 2018"),
        "damage is taken for a torn tail, and what follows it is dropped",
        WorldName::Service,
        three(&[Fault::BitRot, Fault::Kill, Fault::Crash], &[]),
    ),
    case(
        Plant::Storage(Storage::SegmentUnnamed),
        ("durable", "Pillai et al. 2014"),
        "a new segment is used before its name is durable",
        WorldName::Service,
        three(&[Fault::Crash, Fault::Blackout], &[Work::Checkpoint]),
    ),
    case(
        Plant::Storage(Storage::ReleaseTooFar),
        ("liveness", "RaftKeeper#392; matrixcube#556"),
        "the log is released beyond the oldest checkpoint",
        WorldName::Service,
        three(&[Fault::Blackout, Fault::Crash], &[Work::Checkpoint]),
    ),
    case(
        Plant::Storage(Storage::FullIsDone),
        ("durable", "Alquraan et al. 2018, the class of it"),
        "what a full disk did not take counts as written",
        WorldName::Service,
        three(&[Fault::DiskFull, Fault::Blackout], &[]),
    ),
    // Checkpoints.
    case(
        raft(Mutant::SnapshotKeepsLog),
        ("log-matching", "Ongaro and Ousterhout 2014, figure 13; ZOOKEEPER-3526"),
        "a state leaves a log in place that conflicts with it",
        WorldName::Service,
        three(&[Fault::IsolateLeader, Fault::Partition], &[Work::Checkpoint, Work::RarePaths]),
    ),
    case(
        raft(Mutant::SnapshotFailureForgotten),
        ("liveness", "etcd#10225"),
        "a state that could not be sent is never tried again",
        WorldName::Service,
        three(&[Fault::Partition, Fault::Crash, Fault::Kill], &[Work::Checkpoint, Work::RarePaths]),
    ),
    case(
        raft(Mutant::CheckpointTermIsDamage),
        ("recovery", "found in our own service"),
        "a checkpoint that outlives the term it came in is taken for damage of the last vote",
        WorldName::Service,
        three(
            &[Fault::Crash, Fault::CrashLoop, Fault::IsolateLeader, Fault::SlowDisk],
            &[Work::Checkpoint, Work::RarePaths],
        ),
    ),
    case(
        replica(ReplicaMutant::CheckpointBehind),
        ("digest", "etcd#13766; etcd#13854"),
        "a checkpoint claims less than it holds, so that a command is applied twice",
        WorldName::Service,
        three(&[Fault::Kill, Fault::Crash], &[Work::Checkpoint]),
    ),
    case(
        replica(ReplicaMutant::InstallGoesBack),
        ("crash", "Ongaro and Ousterhout 2014, 7"),
        "a checkpoint that is older than the state replaces it",
        WorldName::Service,
        three(&[Fault::Tail, Fault::SlowLink], &[Work::Checkpoint, Work::RarePaths]),
    ),
    // Store and watch.
    case(
        store(Store::VersionKept),
        ("mvcc", "etcd's API, KeyValue.version"),
        "a key that comes back goes on counting its versions",
        WorldName::Service,
        three(&[], &[Work::Delete, Work::Read]),
    ),
    case(
        store(Store::CompareAfterWrites),
        ("mvcc", "etcd#8102"),
        "a nested comparison sees the writes before it",
        WorldName::Service,
        three(&[], &[Work::Txn, Work::Read]),
    ),
    case(
        store(Store::PartialTxn),
        ("mvcc", "etcd#18679; Jepsen, etcd#14110"),
        "a refused transaction keeps its writes",
        WorldName::Service,
        three(&[], &[Work::Txn, Work::Lease, Work::Read]),
    ),
    case(
        store(Store::CompareAny),
        ("mvcc", "etcd's API, Compare.range_end"),
        "a comparison of a range is content with one key",
        WorldName::Service,
        three(&[], &[Work::Txn, Work::Read]),
    ),
    case(
        store(Store::CountHonoursLimit),
        ("mvcc", "etcd's API, RangeResponse.count"),
        "the count stops at the limit",
        WorldName::Service,
        three(&[], &[Work::Range, Work::Read]),
    ),
    case(
        store(Store::LatestForHistorical),
        ("mvcc", "Berenson et al. 1995, read skew"),
        "a read at an old revision sees the latest",
        WorldName::Service,
        three(&[], &[Work::History, Work::Delete]),
    ),
    case(
        store(Store::CompactionDropsLive),
        ("mvcc", "Bernstein and Goodman 1983"),
        "compaction drops the version in force at its revision",
        WorldName::Service,
        three(&[], &[Work::Compaction, Work::History, Work::Delete]),
    ),
    case(
        store(Store::SweepTooFar),
        ("mvcc", "etcd#18089, the other end of it"),
        "compaction frees one revision too many",
        WorldName::Service,
        three(&[], &[Work::Compaction, Work::History, Work::Delete]),
    ),
    case(
        store(Store::RevisionPerWrite),
        ("mvcc", "etcd#3875"),
        "each write of a transaction has a revision of its own",
        WorldName::Service,
        three(&[], &[Work::Txn, Work::Watch]),
    ),
    case(
        store(Store::TombstoneNotRestored),
        ("watch", "etcd#18089; etcd#19179"),
        "a state that is read back has lost the deletes at the compact revision",
        WorldName::Service,
        three(
            &[Fault::Kill, Fault::Crash],
            &[Work::Watch, Work::Delete, Work::Compaction, Work::Checkpoint],
        ),
    ),
    case(
        store(Store::CompactedChangesServed),
        ("watch", "etcd's API, WatchResponse.compact_revision"),
        "a watch of what is compacted gets what is left of it",
        WorldName::Service,
        three(&[], &[Work::Watch, Work::Compaction, Work::Delete]),
    ),
    case(
        store(Store::OldestRefused),
        ("mvcc", "etcd's API, CompactionRequest.revision"),
        "the revision that was compacted to cannot be read",
        WorldName::Service,
        three(&[], &[Work::Compaction, Work::History]),
    ),
    case(
        store(Store::FutureServed),
        ("mvcc", "etcd's API, RangeRequest.revision"),
        "a read of a revision that has not come finds the present",
        WorldName::Service,
        three(&[], &[Work::History]),
    ),
    case(
        store(Store::CompactionGoesBack),
        ("mvcc", "etcd's API, CompactionRequest.revision"),
        "an old compaction is taken after a newer one",
        WorldName::Service,
        three(&[], &[Work::Compaction]),
    ),
    case(
        Plant::Host(HostMutant::StaleCopy),
        ("monotone-revisions", "Terry et al. 1994, monotonic reads"),
        "a member answers from an old copy what it may, and from its state what it must",
        WorldName::Service,
        three(&[], &[Work::Read]),
    ),
    // The watch desk.
    case(
        Plant::Watch(Watch::CompactionInvented),
        ("watch", "etcd's API, WatchResponse.compact_revision"),
        "a watcher is told of a later compaction than there was, and skips what lies between",
        WorldName::Service,
        three(&[], &[Work::Watch, Work::Compaction]),
    ),
    case(
        Plant::Watch(Watch::CancelIgnored),
        ("watch", "etcd's API, WatchCancelRequest"),
        "a watcher that was cancelled goes on",
        WorldName::Service,
        three(&[], &[Work::Watch]),
    ),
    case(
        Plant::Watch(Watch::PrevForgotten),
        ("watch", "etcd's API, WatchCreateRequest.prev_kv"),
        "the pair before a change is left out",
        WorldName::Service,
        three(&[], &[Work::Watch]),
    ),
    case(
        Plant::Watch(Watch::DeleteAsPut),
        ("watch", "etcd's API, Event.type"),
        "a deletion is told as a put",
        WorldName::Service,
        three(&[], &[Work::Watch, Work::Delete]),
    ),
    case(
        Plant::Watch(Watch::RevisionSplit),
        ("watch", "etcd#9294"),
        "a message may end within a revision",
        WorldName::Service,
        three(&[], &[Work::Watch, Work::Txn]),
    ),
    case(
        Plant::Watch(Watch::LostAtJoin),
        ("watch", "etcd's API guarantees, reliability"),
        "the last change before a watch was entered is told to nobody",
        WorldName::Service,
        three(&[], &[Work::Watch]),
    ),
    case(
        Plant::Watch(Watch::TwiceAtJoin),
        ("watch", "etcd's API guarantees, uniqueness"),
        "a watch begins one revision too early",
        WorldName::Service,
        three(&[], &[Work::Watch]),
    ),
    case(
        Plant::Watch(Watch::FilterInverted),
        ("watch", "etcd's API, WatchCreateRequest.filters"),
        "filters let through what they should hold back",
        WorldName::Service,
        three(&[], &[Work::Watch, Work::Delete]),
    ),
    case(
        Plant::Watch(Watch::CompactionIgnored),
        ("watch", "etcd's API, WatchResponse.compact_revision"),
        "a watcher that a compaction has overtaken goes on",
        WorldName::Service,
        three(&[Fault::Pause], &[Work::Watch, Work::Compaction]),
    ),
    // Leases, locks, clocks.
    case(
        store(Store::KeyOutlivesLease),
        ("lease", "etcd's API, LeaseRevoke"),
        "a lease that ends leaves a key behind",
        WorldName::Service,
        three(&[], &[Work::Lease]),
    ),
    case(
        store(Store::RevokeMiscounted),
        ("lease", "etcd's API, LeaseRevoke"),
        "a revocation counts one key too many",
        WorldName::Service,
        three(&[], &[Work::Lease]),
    ),
    case(
        lessor(LessorMutant::LivingIsGone),
        ("lease", "etcd's API, LeaseKeepAliveResponse.TTL"),
        "a lease that nobody has renewed yet is said to be gone",
        WorldName::Service,
        three(&[], &[Work::Lease]),
    ),
    case(
        store(Store::KeyStaysAttached),
        ("lease", "etcd#6102"),
        "a key that moved to another lease ends with the former one",
        WorldName::Service,
        three(&[], &[Work::Lease]),
    ),
    case(
        store(Store::KeptLeaseDetaches),
        ("lease", "etcd#6093, the class of it"),
        "a key put again under its lease outlives it",
        WorldName::Service,
        three(&[], &[Work::Lease]),
    ),
    case(
        store(Store::RevisionPerLeaseKey),
        ("lease", "etcd's API guarantees, atomicity"),
        "each key of an ended lease goes at a revision of its own",
        WorldName::Service,
        three(&[], &[Work::Lease, Work::Watch]),
    ),
    case(
        lessor(LessorMutant::AnsweredUnconfirmed),
        ("lease", "Gray and Cheriton 1989, section 2; etcd#15247"),
        "a leader answers a keep-alive without asking whether it still leads",
        WorldName::Service,
        three(&[Fault::IsolateLeader], &[Work::Lease]),
    ),
    case(
        lessor(LessorMutant::RenewalNotAwaited),
        ("lease", "etcd#13491, the reverse of it"),
        "a renewal is answered before its successors know of it",
        WorldName::Service,
        three(&[Fault::Crash, Fault::Kill, Fault::IsolateLeader], &[Work::Lease]),
    ),
    case(
        lessor(LessorMutant::FullTtlForgotten),
        ("lease", "etcd#15247"),
        "a new leader ends leases that are being renewed",
        WorldName::Service,
        three(&[Fault::Crash, Fault::IsolateLeader], &[Work::Lease, Work::Transfer]),
    ),
    case(
        lessor(LessorMutant::GrantUnstamped),
        ("lease", "Gray and Cheriton 1989, section 5"),
        "a granted lease counts from the wrong moment",
        WorldName::Service,
        three(&[Fault::Crash, Fault::IsolateLeader], &[Work::Lease, Work::Transfer]),
    ),
    case(
        lessor(LessorMutant::SettleForgotten),
        ("lease", "etcd#17132"),
        "a lease that was renewed once never ends",
        WorldName::Service,
        three(&[], &[Work::Lease]),
    ),
];
