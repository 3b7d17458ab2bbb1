//! The planted bugs that no campaign is asked for: tests of their crates catch them.

use super::catalogue::{lessor, raft, replica, store};
use super::plant::Plant;
use quorate_protocols::consensus::raft::Mutant;
use quorate_protocols::detectors::Mutant as Detector;
use quorate_replica::store::Mutant as Store;
use quorate_replica::{LessorMutant, ReplicaMutant};
use quorate_server::watch::Mutant as Watch;
use quorate_storage::Mutant as Storage;

/// The reason for those about users and roles.
const NOBODY_LOGS_IN: &str =
    "the workload has no users; caught by the tests of users and roles, and of watches";

/// The reason for those about quotas.
const NOBODY_SETS_LIMITS: &str = "the workload sets no limits; caught by the tests of quotas";

/// The planted bugs that no campaign is asked for, each with the reason.
pub const UNIT_ONLY: &[(Plant, &str)] = &[
    (
        replica(ReplicaMutant::ReconciledBehind),
        "an open gap: 4,407 runs break no promise, and no test of its crate is known to catch it",
    ),
    (
        replica(ReplicaMutant::HealedUnproven),
        "no state goes wrong in a campaign; caught by crates/sim/src/service/disk/placements.rs",
    ),
    (
        Plant::Detector(Detector::RttOfLastPing),
        "costs accuracy only where answers overtake pings; caught by its transcript",
    ),
    (
        Plant::Detector(Detector::QuorumOldAnswerCounted),
        "an answer that crosses a split is lost in the simulator; caught by its transcript",
    ),
    (
        Plant::Detector(Detector::HintSuffices),
        "evidence is no protocol; caught by the tests of its file",
    ),
    (
        Plant::Detector(Detector::OldExitNoticeTaken),
        "evidence is no protocol; caught by the tests of its file",
    ),
    (
        raft(Mutant::ElectionUnguarded),
        "shows only while a link stays cut, and the calm mends all links; caught by the \
         walks of its crate",
    ),
    (
        raft(Mutant::QuorumUnchecked),
        "shows only while a link stays cut, and the calm mends all links; caught by the \
         walks of its crate",
    ),
    (
        raft(Mutant::StalledCampaigns),
        "costs time while disks stand still, and the calm mends all disks; caught by \
         crates/sim/tests/weather.rs",
    ),
    (
        raft(Mutant::PatienceFrozen),
        "costs elections and no promise; caught by the weather of crates/sim/tests/weather.rs",
    ),
    (
        raft(Mutant::MarginLeftOut),
        "costs elections and no promise; caught by the weather of crates/sim/tests/weather.rs",
    ),
    (
        raft(Mutant::StaleAckCounted),
        "needs an answer held back over two elections, which a minute of processor time \
         seldom draws; caught by the tests of the rules",
    ),
    (
        replica(ReplicaMutant::CheckpointAhead),
        "a checkpoint is taken at the end of a turn, when nothing committed waits; caught by \
         the walk of replicas",
    ),
    (
        replica(ReplicaMutant::InstallKeepsCommitted),
        "what is below a checkpoint is passed over a second time when it is told of; caught \
         by the walk of replicas",
    ),
    (
        lessor(LessorMutant::InstalledUnstamped),
        "needs a member that hears no clock from its start, takes in a checkpoint and then leads: \
         one run of 15,000; caught by a story of the town",
    ),
    (
        Plant::Watch(Watch::MarkOverwritten),
        "a simulated watcher reads as soon as it is marked; caught by the tests of watches",
    ),
    (
        Plant::Watch(Watch::ProgressAhead),
        "a simulated watcher takes everything at once, so that nothing is left unsent; \
         caught by the tests of watches",
    ),
    (
        Plant::Watch(Watch::RestForgotten),
        "a simulated watcher takes everything at once; caught by the tests of watches",
    ),
    (
        lessor(LessorMutant::ClockForgotten),
        "lets leases live too long, for which the simulated service has no bound while \
         leaders change; caught by the walk of leases",
    ),
    (
        lessor(LessorMutant::StampTakenTwice),
        "needs a doubled grant that arrives after the end of its lease; caught by the walk \
         of leases",
    ),
    (
        store(Store::CountdownNotSaved),
        "lets leases live too long, for which the simulated service has no bound while \
         leaders change; caught by the tests of the store",
    ),
    (
        raft(Mutant::ReconfigureEarly),
        "joint consensus makes it harmless: a change that is not known to be committed is in \
         progress",
    ),
    (
        Plant::Storage(Storage::KeepCutTail),
        "shows only if a later batch ends exactly where a frame of the old tail begins",
    ),
    (
        Plant::Storage(Storage::ForgetSticky),
        "every compaction of the consensus writes these records again",
    ),
    (
        Plant::Storage(Storage::SingleCriticalCopy),
        "a member refuses to take part, which others make up for",
    ),
    (
        Plant::Storage(Storage::ManifestBeforeData),
        "recovery passes a damaged checkpoint over, and the log is still there",
    ),
    (
        Plant::Storage(Storage::TrustReceived),
        "the store has checksums of its own and refuses the state",
    ),
    (
        replica(ReplicaMutant::AnsweredTwice),
        "whoever surrounds a replica drops an answer that nobody waits for",
    ),
    (
        replica(ReplicaMutant::WakefulnessIgnored),
        "costs an election that nobody needs, and no promise",
    ),
    (store(Store::SweepForgotten), "costs space, and no promise"),
    (store(Store::DigestWithoutLease), "shows only between members of which one has another bug"),
    (
        store(Store::DigestWithoutCountdown),
        "shows only between members of which one has another bug",
    ),
    (store(Store::RegrantExpires), "the leader proposes an end only of the lease that it counts"),
    (store(Store::AlarmIgnored), "the workload raises no alarm"),
    (store(Store::AlarmForbidsDeletes), "the workload raises no alarm"),
    (store(Store::AlarmForgotten), "the workload raises no alarm"),
    (store(Store::NestedNotChecked), NOBODY_LOGS_IN),
    (store(Store::PrevKvNotChecked), NOBODY_LOGS_IN),
    (store(Store::ComparesNotChecked), NOBODY_LOGS_IN),
    (store(Store::RangeEndOffByOne), NOBODY_LOGS_IN),
    (store(Store::OpenEndIgnored), NOBODY_LOGS_IN),
    (store(Store::NotCheckedAtApply), NOBODY_LOGS_IN),
    (store(Store::LeaseKeysNotChecked), NOBODY_LOGS_IN),
    (store(Store::AuthForgotten), NOBODY_LOGS_IN),
    (store(Store::QuotaNotReturned), NOBODY_SETS_LIMITS),
    (store(Store::QuotaIgnored), NOBODY_SETS_LIMITS),
    (store(Store::LimitsForgotten), NOBODY_SETS_LIMITS),
    (Plant::Watch(Watch::RevokedGoesOn), NOBODY_LOGS_IN),
    (
        lessor(LessorMutant::RecordInAnyTerm),
        "a leader appends its records to its own log only, in its own term",
    ),
    (lessor(LessorMutant::RenewalWritten), "costs writes, and no promise"),
    (lessor(LessorMutant::ExpiryUnconfirmed), "what a deposed leader proposes is never committed"),
    (
        lessor(LessorMutant::AwakenedAtOnce),
        "ends what has run out; a renewal that waits in a socket is no promise",
    ),
    (lessor(LessorMutant::StormUnpaced), "costs a long turn, and no promise"),
];
