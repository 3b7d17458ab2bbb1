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
//! | the true time, with liars | [`time::synchronizer`] | RFC 5905 (2010); Marzullo and Owicki (1983) | fair-loss, byzantine, partial; monotonic clocks with a drift bound |
//! | a clock that nobody corrects | [`time::dispersion`] | RFC 5905 (2010), section 4 | a drift bound |
//! | a late answer about the time | [`time::exchange`] | RFC 5905 (2010), sections 8 and 10 | a drift bound |
//! | several sources, of which some lie | [`time::marzullo`] | Marzullo (1984, 1990) | at most f liars |
//! | a clock that runs smoothly | [`time::discipline`] | RFC 5905 (2010), sections 11.3 and 12 | a drift bound |
//! | the time of one server | [`time::cristian`] | Cristian (1989) | fair-loss, crash-recovery, partial; a least delay that is known |
//! | one time for all, true or not | [`time::berkeley`] | Gusella and Zatti (1989) | fair-loss, crash-recovery, partial |
//! | an order that fits causality | [`clocks::lamport`] | Lamport (1978) | asynchronous |
//! | causality itself | [`clocks::vector_clock`] | Fidge (1988); Mattern (1989) | asynchronous |
//! | values written concurrently | [`clocks::version_vector`] | Preguiça et al. (2010) | asynchronous |
//! | an order close to the time of day | [`clocks::hybrid`] | Kulkarni et al. (2014) | asynchronous; clocks within an offset for closeness |
//! | an order without messages | [`clocks::interval`] | Corbett et al. (2012) | intervals that contain the true time |

pub mod clocks;
pub mod consensus;
pub mod detectors;
pub mod time;
