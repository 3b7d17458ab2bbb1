//! Distributed protocols as sans-IO state machines.
//!
//! A table of contents:
//!
//! | problem | file | source | model it needs |
//! |---|---|---|---|
//! | replicated log | [`consensus::raft`] | Ongaro and Ousterhout (2014); Ongaro (2014) | fair-loss, crash-recovery, partial |
//! | who has crashed? ask, and know by when the answer must come | [`detectors::perfect`] | Chandra and Toueg (1996); Cachin et al. (2011) | reliable, crash-stop, synchronous |
//! | who has crashed? bounds are unknown: learn from mistakes | [`detectors::heartbeat`] | Chandra and Toueg (1996) | fair-loss, crash-recovery, partial |
//! | .. with a wanted rate of mistakes | [`detectors::chen`] | Chen, Toueg and Aguilera (2002) | fair-loss, crash-recovery, partial |
//! | .. as a level of suspicion | [`detectors::phi`] | Hayashibara et al. (2004) | fair-loss, crash-recovery, partial |
//! | .. from round trips | [`detectors::jacobson`] | Jacobson (1988) | fair-loss, crash-recovery, partial |
//! | .. from traffic that is there anyway | [`detectors::traffic`] | TigerBeetle (2024) | fair-loss, crash-recovery, partial |
//! | .. in large clusters, by gossip | [`detectors::swim`] | Das, Gupta and Motivala (2002); Dadgar et al. (2017) | fair-loss, crash-recovery, partial |
//! | am I on the smaller side of a split? | [`detectors::quorum_ping`] | Gifford (1979) | fair-loss, crash-recovery, partial; clean splits only |
//! | what others know of a crash | [`detectors::evidence`] | Leners et al. (2011) | as its sources |

pub mod consensus;
pub mod detectors;
