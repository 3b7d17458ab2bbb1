//! The simulator.

pub mod show;
pub mod trace;
