//! The planted bugs of clocks, of those who synchronize them, and of clients who trust the time,
//! that a campaign must catch.

use super::catalogue::{case, five, three};
use super::plant::{ClientMutant, MutantCase, Plant, Work, WorldName};
use crate::time::ClockMutant;
use quorate_drivers::simulate::Fault;
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
