//! Who may stay away for ever.
//!
//! A node that says at its start that it must never come back ([`BootError::Never`]) takes itself
//! out of the run, and out of what is asked of the run: a bug that looks like damage to the node
//! would so excuse itself. So it is asked why. Only a node whose disk was damaged by a fault of the
//! run has a reason; and of damaged and dead nodes there are never more than the plan's faults may
//! hit, a minority. Everybody else that stays away breaks the property `recovery`, and so does one
//! too many.
//!
//! [`BootError::Never`]: super::world::BootError::Never

use super::kernel::Kernel;
use super::world::{Broken, World};

impl<W: World> Kernel<W> {
    /// The node does not begin a life, and never will.
    pub(super) fn stays_away(&mut self, at: usize, why: &str) {
        let face = self.shells[at].face;
        self.seats[at].dead = true;
        self.note_of(face, format!("does not start: {why}"));
        if !self.seats[at].correct || at >= self.nodes() {
            return;
        }
        let id = self.shells[at].id;
        if !self.seats[at].damaged {
            let why = format!("{id} refuses to start, and nothing damaged its disk: {why}");
            self.broken.get_or_insert(Broken::new("recovery", why));
            return;
        }
        let (away, most) = (self.away(), self.nemesis.shape.victims.len());
        if away > most {
            let why = format!("{away} nodes are gone for ever, {id} the last of them: {why}");
            self.broken.get_or_insert(Broken::new("recovery", why));
        }
    }

    /// How many correct nodes will not come back.
    fn away(&self) -> usize {
        let seats = self.seats[..self.nodes()].iter();
        seats.filter(|seat| seat.correct && seat.dead).count()
    }
}
