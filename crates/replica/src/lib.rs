//! The service as one deterministic machine.

pub mod store;
