//! Clocks that order events.

pub mod interval;
