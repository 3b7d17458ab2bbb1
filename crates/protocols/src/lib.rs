//! Distributed protocols as sans-IO state machines.
//!
//! A table of contents:
//!
//! | problem | file | source | model it needs |
//! |---|---|---|---|
//! | replicated log | [`consensus::raft`] | Ongaro and Ousterhout (2014); Ongaro (2014) | fair-loss, crash-recovery, partial |

pub mod clocks;
pub mod consensus;
pub mod time;
