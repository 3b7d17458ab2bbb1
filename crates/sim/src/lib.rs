//! The service and the shelf under simulation: worlds, workloads, properties, mutants.

pub mod service;
