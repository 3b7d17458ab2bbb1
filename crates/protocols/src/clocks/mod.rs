//! Clocks that order events, and the types that keep their times apart.
//!
//! | problem | file | what it says of two events | source |
//! |---|---|---|---|
//! | an order that fits causality | [`lamport`] | if one may have caused the other, its time is smaller | Lamport (1978) |
//! | causality itself | [`vector_clock`] | exactly whether one may have caused the other | Fidge (1988); Mattern (1989) |
//! | values that were written concurrently | [`version_vector`] | which value replaces which | Preguiça et al. (2010) |
//! | both an order and the time of day | [`hybrid`] | as Lamport, and close to physical time | Kulkarni et al. (2014) |
//! | an order without messages | [`interval`] | one was before the other, or nobody knows | Corbett et al. (2012) |
//!
//! None of them is a [`Protocol`](quorate_core::Protocol): each is a value that rides on the
//! messages of one. Physical time comes from [`crate::time`].
//!
//! **Five kinds of time**, each a type, and none compares with another:
//!
//! ```compile_fail
//! use quorate_core::{NodeId, WallTime};
//! use quorate_protocols::clocks::lamport::LamportTime;
//! // Logical time counts events, and no nanoseconds.
//! let later = LamportTime { counter: 5, node: NodeId(1) } > WallTime::from_nanos(3);
//! ```
//! ```compile_fail
//! use quorate_core::WallTime;
//! use quorate_protocols::clocks::{hybrid::HybridTime, interval::TimeInterval};
//! // A hybrid time is no claim about the true time, so no interval contains it.
//! let now = TimeInterval::new(WallTime::from_nanos(1), WallTime::from_nanos(9));
//! now.contains(HybridTime { wall: WallTime::from_nanos(3), logical: 0 });
//! ```
//! ```compile_fail
//! use quorate_core::{Time, WallTime};
//! use quorate_protocols::clocks::interval::TimeInterval;
//! // An instant of a monotonic clock is no time of day.
//! let now = TimeInterval::new(WallTime::from_nanos(1), WallTime::from_nanos(9));
//! now.contains(Time::from_nanos(3));
//! ```
//! ```compile_fail
//! use quorate_core::WallTime;
//! use quorate_protocols::clocks::interval::TimeInterval;
//! // Intervals have no total order: ask for `order`, and be ready for `Unknown`.
//! let one = TimeInterval::new(WallTime::from_nanos(1), WallTime::from_nanos(5));
//! let other = TimeInterval::new(WallTime::from_nanos(4), WallTime::from_nanos(9));
//! let before = one < other;
//! ```
//! ```compile_fail
//! use quorate_protocols::clocks::vector_clock::VectorTime;
//! // Neither have vectors: ask for `causality`, and be ready for `Concurrent`.
//! let before = VectorTime::default() < VectorTime::default();
//! ```

#[cfg(test)]
mod causality;
pub mod hybrid;
pub mod interval;
pub mod lamport;
pub mod vector_clock;
pub mod version_vector;
