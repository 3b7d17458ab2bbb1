//! The planted bugs of changes of members that a campaign must catch.

use super::catalogue::{case, five, replica};
use super::plant::{MutantCase, Work, WorldName};
use quorate_drivers::simulate::Fault;
use quorate_replica::ReplicaMutant;

/// The planted bugs of the table of members, and of the leader who carries out what it says.
pub const MEMBERS: &[MutantCase] = &[
    case(
        replica(ReplicaMutant::PromotedEarly),
        ("membership", "etcd's API, MemberPromote"),
        "a learner votes before it holds the log",
        WorldName::Service,
        five(&[Fault::Partition, Fault::Loss], &[Work::Reconfigure]),
    ),
    case(
        replica(ReplicaMutant::RemovalUnsettled),
        ("membership", "Jepsen, Redis-Raft 1b3fbf6, 2020"),
        "a removal is answered while the member still votes",
        WorldName::Service,
        five(&[Fault::Partition, Fault::Loss], &[Work::Reconfigure]),
    ),
    case(
        replica(ReplicaMutant::ReplacedStays),
        ("membership", "etcd#6103"),
        "a member that was replaced goes on voting",
        WorldName::Service,
        five(&[Fault::Partition], &[Work::Reconfigure]),
    ),
    case(
        replica(ReplicaMutant::WitnessGivesCheckpoint),
        ("state-machine-safety", "Liskov and others (1991), Harp, section 4.1"),
        "a follower takes the empty state of a witness for the store",
        WorldName::Service,
        five(&[Fault::Partition, Fault::Crash], &[Work::Reconfigure]),
    ),
    case(
        replica(ReplicaMutant::WitnessLeadsOn),
        ("liveness", "Liskov and others (1991), Harp, section 4.1"),
        "an elected witness keeps the leadership, and nobody is served",
        WorldName::Service,
        five(&[Fault::Partition, Fault::Crash], &[Work::Reconfigure]),
    ),
];
