//! How good a failure detector is: detection time, mistakes, and what they cost.
//!
//! **Problem.** "Fast" and "accurate" are had one at the cost of the other; a detector that is
//! better at one may have bought it with the other.
//!
//! **Idea.** Replay the delays of a link ([`Trace`]) through each detector of the shelf, and
//! measure what Chen, Toueg and Aguilera define:
//!
//! | | | |
//! |---|---|---|
//! | detection time | T_D | from a crash to the suspicion that stays |
//! | mistake rate | lambda_M | how often a correct peer comes to be suspected |
//! | mistake duration | T_M | how long such a suspicion lasts |
//! | query accuracy | P_A | the share of time in which a correct peer is trusted |
//!
//! Then compare detectors **at equal detection time**: each is set so that its mean detection time
//! is that of a fixed timeout ([`contest`]), and only then its mistakes are counted.
//!
//! | file | what |
//! |---|---|
//! | `trace.rs` | a trace, and its file format |
//! | `generate.rs` | synthetic traces, by name and seed |
//! | `subjects.rs` | the detectors, each with the one parameter that is swept |
//! | `measure.rs` | one detector on one trace |
//! | `contest.rs` | all detectors at equal detection time; the sweep behind a plot |
//! | `tune.rs` | Chen's configurator: parameters from wanted bounds, or why there are none |
//! | `plot.rs` | an SVG of detection time against mistake rate |
//!
//! **Limits.** Traces are one link. SWIM and quorum ping judge by many; the simulator judges them
//! (`crates/sim/src/detectors`). The perfect detector is the fixed timeout with a bound that is
//! true.
//!
//! **Bounds.** [`trace::HEARTBEATS_MAX`] heartbeats. Floating point stays in this module: the
//! detectors it measures compute with integers.
//!
//! Source: Chen, Toueg and Aguilera, "On the Quality of Service of Failure Detectors" (2002).

pub mod contest;
pub mod generate;
pub mod measure;
pub mod plot;
pub mod subjects;
pub mod trace;
pub mod tune;

pub use contest::{Contest, Row, contest};
pub use measure::Quality;
pub use subjects::Detector;
pub use trace::{Trace, TraceError};

/// One second. Unit: nanoseconds.
pub const SECOND: u64 = 1_000_000_000;
/// One millisecond. Unit: nanoseconds.
pub const MILLISECOND: u64 = 1_000_000;
