//! Distributed protocols as sans-IO state machines.
