//! The planted bugs of members that read their disks again and repair them.

use super::catalogue::{case, three};
use super::plant::{HostMutant, MutantCase, Plant, WorldName};
use quorate_drivers::simulate::Fault;
use quorate_storage::Mutant as Storage;

/// The planted bugs of the scrubber and of the repair that follows.
pub const REPAIRS: &[MutantCase] = &[
    case(
        Plant::Storage(Storage::ScrubReadsHeaders),
        ("repair", "Bairavasundaram et al. 2007"),
        "a running member looks at the headers of its log only",
        WorldName::Service,
        three(&[Fault::BitRot, Fault::Misdirected], &[]),
    ),
    case(
        Plant::Host(HostMutant::RepairReleasesFirst),
        ("repair", "etcd#11488"),
        "damaged segments are dropped before a checkpoint covers them",
        WorldName::Service,
        three(&[Fault::BitRot, Fault::Misdirected], &[]),
    ),
];
