//! The planted bugs of clocks, of those who synchronize them, and of clients who trust the time,
//! that a campaign must catch.

use super::catalogue::{case, five, raft, three};
use super::plant::{ClientMutant, HostMutant, MutantCase, Plant, Work, WorldName};
use crate::time::ClockMutant;
use quorate_drivers::simulate::Fault;
use quorate_protocols::consensus::raft::Mutant as Raft;
use quorate_protocols::time::synchronizer::Mutant as Time;

/// The planted bugs of clocks.
pub const CLOCKS: &[MutantCase] = &[
    case(
        Plant::Client(ClientMutant::LockWithoutLeaseCheck),
        ("lock", "etcd#11456; etcd#11457"),
        "a lock is held after its lease has ended",
        WorldName::Service,
        three(&[Fault::Pause], &[Work::Lock, Work::Lease]),
    ),
    case(
        Plant::Client(ClientMutant::LockWithoutFencing),
        ("lock", "Kleppmann 2016"),
        "who lost a lock while it stood still writes all the same",
        WorldName::Service,
        three(&[Fault::Pause], &[Work::Lock, Work::Lease]),
    ),
    case(
        Plant::Host(HostMutant::LeaseOnWallClock),
        ("linearizable-reads", "etcd#12291; Ongaro 2014, 6.4.1"),
        "a lease is measured by a clock that is set",
        WorldName::Raft,
        three(&[Fault::StepBack, Fault::StepForward, Fault::IsolateLeader], &[Work::Read]),
    ),
    case(
        Plant::Host(HostMutant::LeaseClockStops),
        ("linearizable-reads", "clock_gettime(2), CLOCK_MONOTONIC"),
        "a lease is measured by a clock that stops in suspend",
        WorldName::Raft,
        three(&[Fault::Pause, Fault::IsolateLeader, Fault::Loss], &[Work::Read]),
    ),
    case(
        Plant::Host(HostMutant::ClockMonitorBlind),
        ("linearizable-reads", "Gray and Cheriton 1989, section 5"),
        "a clock that has left its bound is vouched for",
        WorldName::Raft,
        three(&[Fault::WildDrift, Fault::Freeze, Fault::IsolateLeader], &[Work::Read]),
    ),
    case(
        raft(Raft::LeaseMarginForgotten),
        ("linearizable-reads", "Gray and Cheriton 1989, section 5"),
        "a lease allows for no drift between two clocks",
        WorldName::Raft,
        three(&[Fault::IsolateLeader, Fault::Partition], &[Work::Read]),
    ),
    case(
        raft(Raft::LeaseFromAnswer),
        ("linearizable-reads", "Ongaro 2014, 6.4.1"),
        "a lease is counted from when the answer came",
        WorldName::Raft,
        three(&[Fault::IsolateLeader, Fault::Tail, Fault::SlowLink, Fault::Pause], &[Work::Read]),
    ),
    case(
        raft(Raft::PromiseForgotten),
        ("linearizable-reads", "Gray and Cheriton 1989, section 2"),
        "a member that restarts is not bound by what it promised",
        WorldName::Raft,
        three(&[Fault::PartialCut, Fault::CrashLoop, Fault::Kill], &[Work::Read]),
    ),
    case(
        raft(Raft::PromiseYieldsToEvidence),
        ("linearizable-reads", "found in our own design"),
        "a member that is told of the leader's end breaks its promise",
        WorldName::Raft,
        three(&[Fault::IsolateLeader, Fault::Loss], &[Work::Read]),
    ),
    case(
        raft(Raft::LeaseOutlivesTransfer),
        ("linearizable-reads", "Ongaro 2014, 6.4.1"),
        "a leader that has handed over reads by its lease",
        WorldName::Raft,
        three(&[Fault::IsolateLeader, Fault::Loss, Fault::SlowLink], &[Work::Read, Work::Transfer]),
    ),
    case(
        Plant::Time(Time::DispersionLeftOut),
        ("interval", "RFC 5905, section 4"),
        "what was once known of the time is never worth less",
        WorldName::Time,
        three(&[Fault::Partition], &[]),
    ),
    case(
        Plant::Time(Time::DelayIgnored),
        ("interval", "Lundelius and Lynch 1984"),
        "the middle of a round trip is taken for the truth",
        WorldName::Time,
        three(&[Fault::SlowLink, Fault::Tail], &[]),
    ),
    case(
        Plant::Time(Time::FilterInverted),
        ("filter", "RFC 5905, section 10"),
        "the worst of the last exchanges is taken",
        WorldName::Time,
        three(&[Fault::Tail], &[]),
    ),
    case(
        Plant::Time(Time::AgeByWallClock),
        ("interval", "etcd#12291"),
        "ages are measured by a wall clock that is set",
        WorldName::Time,
        three(&[Fault::StepForward, Fault::StepBack, Fault::LeapSecond], &[]),
    ),
    case(
        Plant::Time(Time::OverlapOfMost),
        ("interval", "Marzullo 1990"),
        "a liar that stays close moves the overlap",
        WorldName::Time,
        five(&[], &[]),
    ),
    case(
        Plant::Time(Time::AnswerOfAnyQuestion),
        ("interval", "RFC 5905, section 8"),
        "an old answer is matched with a new question",
        WorldName::Time,
        three(&[Fault::Duplicate, Fault::Tail], &[]),
    ),
    case(
        Plant::Time(Time::StaleReadingServed),
        ("interval", "RFC 5905, section 7.3"),
        "an old reading is handed on as if it were fresh",
        WorldName::Time,
        three(&[Fault::Loss], &[]),
    ),
    case(
        Plant::Time(Time::UnfitHasVoice),
        ("no-contradiction", "RFC 5905, section 11.2.1"),
        "a source that says that it knows nothing is counted among those that know",
        WorldName::Time,
        three(&[], &[]),
    ),
    case(
        Plant::Clock(ClockMutant::SuspendNotCounted),
        ("interval", "clock_gettime(2), CLOCK_MONOTONIC"),
        "a clock does not count while its machine sleeps",
        WorldName::Time,
        three(&[Fault::Pause], &[]),
    ),
    case(
        Plant::Clock(ClockMutant::RestoreUnnoticed),
        ("interval", "etcd#20418"),
        "a clock goes on from the snapshot of its machine",
        WorldName::Time,
        three(&[Fault::Pause], &[]),
    ),
];
