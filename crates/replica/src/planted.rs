//! Which planted bug a part of a replica has, if any.
//!
//! A value, not a global: mutated and clean replicas run side by side in one process.

#[cfg(not(feature = "mutants"))]
use std::marker::PhantomData;

/// The bug of family `M` that is planted, if any.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planted<M> {
    #[cfg(feature = "mutants")]
    bug: Option<M>,
    #[cfg(not(feature = "mutants"))]
    bug: PhantomData<M>,
}

impl<M> Default for Planted<M> {
    fn default() -> Planted<M> {
        Planted { bug: Default::default() }
    }
}

impl<M: Copy + PartialEq> Planted<M> {
    /// Plants one.
    #[cfg(feature = "mutants")]
    pub(crate) fn plant(&mut self, bug: M) {
        self.bug = Some(bug);
    }

    /// True if this one is planted.
    #[cfg(feature = "mutants")]
    pub(crate) fn is(self, bug: M) -> bool {
        self.bug == Some(bug)
    }

    /// Without the feature none can be planted, and the compiler drops the questions.
    #[cfg(not(feature = "mutants"))]
    pub(crate) fn is(self, _: M) -> bool {
        false
    }
}
