//! Planted bugs of the simulator itself: each lets it do what the model of a run forbids, or not do
//! what it allows, and an audit from outside must notice.
//!
//! A build without the feature `mutants` contains none of them.

/// A mistake that a simulator can have.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[cfg_attr(
    not(any(test, feature = "mutants")),
    expect(unreachable_pub, reason = "named outside of this crate by tests only")
)]
pub enum Mutant {
    /// A partition lets messages of one direction through.
    PartitionLeaks,
    /// Something other than the seed goes into the generator.
    Unseeded,
    /// A power cut keeps what was not synced.
    CrashKeepsUnsynced,
    /// A reliable network delivers twice.
    DuplicatesInReliable,
    /// A clock that is set back is read as it is.
    ClockRunsBackwards,
    /// Delays of a synchronous system are not bounded.
    LateInSynchrony,
    /// A node that died for ever returns.
    ReturnsFromDeath,
    /// What an asynchronous network has starved never arrives.
    StarvesForEver,
    /// Traitors are among nodes that never lie.
    TraitorsAmongHonest,
    /// The bounds of a partially synchronous system do not come to hold.
    NeverStabilizes,
}
