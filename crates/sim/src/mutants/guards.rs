//! The planted bugs of locks that the store enforces, and of requests that take effect once.

use super::catalogue::{case, store, three};
use super::plant::{MutantCase, Work, WorldName};
use quorate_drivers::simulate::Fault;
use quorate_replica::store::Mutant as Store;

/// The planted bugs of fences and named requests.
pub const GUARDS: &[MutantCase] = &[
    case(
        store(Store::FenceIgnored),
        ("lock", "Kleppmann, \"How to do distributed locking\" 2016"),
        "the token of a fenced write is not looked at",
        WorldName::Service,
        three(&[Fault::Pause], &[Work::Fence]),
    ),
    case(
        store(Store::FenceByName),
        ("lock", "Kleppmann, \"How to do distributed locking\" 2016"),
        "a fence asks whether the lock is held, and not by whom",
        WorldName::Service,
        three(&[Fault::Pause], &[Work::Fence]),
    ),
    case(
        store(Store::RequestRepeated),
        ("once", "Jepsen, jetcd 0.8.2, 2024"),
        "a request that is asked again is carried out again",
        WorldName::Service,
        three(&[Fault::IsolateLeader, Fault::Partition, Fault::Crash], &[Work::Named]),
    ),
    case(
        store(Store::RequestsForgotten),
        ("state-machine-safety", "Ongaro 2014, 6.3: sessions are part of the snapshot"),
        "a checkpoint loses the answers that are kept for requests",
        WorldName::Service,
        three(
            &[Fault::IsolateLeader, Fault::Partition, Fault::Crash],
            &[Work::Named, Work::Checkpoint],
        ),
    ),
];
