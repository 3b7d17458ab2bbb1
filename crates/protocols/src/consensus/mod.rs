//! Agreement: many nodes, one sequence of decisions.

pub mod raft;
