//! Planted bugs: what a simulation must find, or its silence means nothing.
//!
//! **Problem.** A campaign that ends without a violation says that the code is right, or that the
//! campaign is blind.
//!
//! **Idea.** Known mistakes are planted, one at a time: bugs that real systems had, and classics of
//! the literature, each a line or two long. A campaign must find every one, by the property that
//! it breaks, within its budget; and the same campaign must find nothing without it.
//!
//! ```text
//!    MutantCase { plant, breaks, needs, .. } --> a focused campaign --> caught, by which property
//! ```
//!
//! A plant is a value, and is put into each life of each member ([`Plant`] says how), so mutated
//! and clean clusters run side by side. The code of the mistakes stands where the right code does,
//! in a build with the cargo feature `mutants` only; without it this module has the question
//! [`mutants_available`] alone.
//!
//! **What is not in the catalogue** stands in [`UNIT_ONLY`] with the reason: what costs speed or
//! space and no promise, what another safeguard makes up for, and what needs more luck than a
//! budget has. Unit tests and walks of its crate catch it.
//!
//! Sources: DeMillo, Lipton and Sayward, "Hints on Test Data Selection" (1978) for the idea; each
//! case names its own.

#[cfg(feature = "mutants")]
mod catalogue;
#[cfg(feature = "mutants")]
mod clocks;
#[cfg(feature = "mutants")]
mod detectors;
#[cfg(feature = "mutants")]
mod guards;
#[cfg(feature = "mutants")]
mod hunt;
#[cfg(feature = "mutants")]
mod members;
#[cfg(feature = "mutants")]
mod plant;
#[cfg(feature = "mutants")]
mod repairs;
#[cfg(all(test, feature = "mutants"))]
mod tests;
#[cfg(feature = "mutants")]
mod unit_only;

#[cfg(feature = "mutants")]
pub use catalogue::CATALOGUE;
#[cfg(feature = "mutants")]
pub use clocks::CLOCKS;
#[cfg(feature = "mutants")]
pub use detectors::DETECTORS;
#[cfg(feature = "mutants")]
pub use guards::GUARDS;
#[cfg(feature = "mutants")]
pub use members::MEMBERS;
#[cfg(feature = "mutants")]
pub use plant::{
    ClientMutant, HostMutant, MutantCase, Needs, Plant, UnknownMutant, Work, WorldName, case_named,
};
#[cfg(feature = "mutants")]
pub use repairs::REPAIRS;
#[cfg(feature = "mutants")]
pub use unit_only::UNIT_ONLY;

/// Every planted bug that a campaign must catch: of the service, of its members, of Raft, of fences
/// and named requests, of clocks, and of detectors.
#[cfg(feature = "mutants")]
pub fn cases() -> impl Iterator<Item = &'static MutantCase> {
    CATALOGUE.iter().chain(GUARDS).chain(CLOCKS).chain(DETECTORS).chain(MEMBERS).chain(REPAIRS)
}

/// True if bugs can be planted in this build.
pub fn mutants_available() -> bool {
    cfg!(feature = "mutants")
}
