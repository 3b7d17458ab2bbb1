//! What is to be done about damage on the disk of a member that runs.
//!
//! **Problem.** What is damaged in the log holds promises (a vote, entries that were acknowledged);
//! it must not be dropped before something whole holds them too. And a peer may not be there.
//!
//! **Idea.** The state in memory was built from what was whole, so nothing is asked of anybody:
//!
//! ```text
//!   damaged segment = the current one    seal it: term, vote and all that is sticky stand, synced,
//!                                        at the head of the next
//!   damaged checkpoint                   set it aside
//!   then, until two whole checkpoints    take one of the state in memory; where it has not moved
//!   cover the damage                     since the last one, have an entry written that moves it
//!   the ordinary release                 drops the damaged segments
//! ```
//!
//! **Guarantee.** Nothing is dropped but by the rule by which every member drops its log: it is
//! covered by the older one of two whole, durable checkpoints. So a crash at any step leaves a
//! member that the start can recover, and a single further fault still costs nothing. While the
//! state is known to differ from the others' ([`View::fenced`]) nothing is repaired from it.
//!
//! A value without I/O: it is shown what is there and answers with the next step.
//!
//! Source: the release rule is that of `shelf.rs`; see ADR 23.

use super::patrol::Found;
use quorate_core::{Index, Position};

/// Whole checkpoints that there are when all is well.
const CHECKPOINTS: usize = 2;

/// Damage that is to be repaired.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Repair {
    segment: Option<u32>,
    index: Index,
    /// Damaged, and not yet out of use.
    checkpoints: Vec<Position>,
    /// So many whole checkpoints there must be in the end.
    wanted: usize,
}

/// What is there when the next step is decided.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct View {
    /// The oldest segment of the log.
    pub oldest_segment: u32,
    /// The segment that is written to, as far as it is synced.
    pub current_segment: u32,
    /// The published checkpoints, newest first.
    pub checkpoints: Vec<Position>,
    /// Last entry in the state in memory.
    pub applied: Index,
    /// That state differs from a quorum's.
    pub fenced: bool,
}

/// What is to be done next.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Step {
    /// Nothing is left to do.
    Done,
    /// End the current segment of the log.
    Seal,
    /// Take this checkpoint out of use.
    SetAside(Position),
    /// Write a checkpoint of the state in memory.
    Checkpoint,
    /// Have an entry written: the state has not moved since the last checkpoint.
    Nudge,
    /// Look again later.
    Wait,
}

impl Repair {
    /// Of what was found. None: there is nothing to do.
    pub fn of(found: &Found) -> Option<Repair> {
        let checkpoints = found.checkpoints.clone();
        let wanted = if checkpoints.is_empty() { 0 } else { CHECKPOINTS };
        let repair = Repair { segment: found.segment, index: found.index, checkpoints, wanted };
        (repair.segment.is_some() || !repair.checkpoints.is_empty()).then_some(repair)
    }

    /// The next step. A checkpoint is named once: another one may take its very place.
    pub fn next(&mut self, view: &View) -> Step {
        if self.segment.is_some_and(|segment| segment >= view.current_segment) {
            return Step::Seal;
        }
        if view.fenced {
            return Step::Wait;
        }
        if let Some(damaged) = self.checkpoints.pop() {
            return Step::SetAside(damaged);
        }
        let log_is_whole = self.segment.is_none_or(|segment| segment < view.oldest_segment);
        if log_is_whole && view.checkpoints.len() >= self.wanted {
            return Step::Done;
        }
        let newest = view.checkpoints.first().map_or(Index(0), |newest| newest.index);
        if view.applied < self.index {
            Step::Wait
        } else if view.applied > newest {
            Step::Checkpoint
        } else {
            Step::Nudge
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(index: u64) -> Position {
        Position::new(1, index)
    }

    fn view() -> View {
        View {
            oldest_segment: 3,
            current_segment: 7,
            checkpoints: vec![at(80), at(50)],
            applied: Index(100),
            fenced: false,
        }
    }

    fn of_log(segment: u32, index: u64) -> Repair {
        let found = Found { segment: Some(segment), index: Index(index), ..Found::default() };
        Repair::of(&found).expect("there is something to do")
    }

    #[test]
    fn a_damaged_segment_goes_once_two_checkpoints_cover_it() {
        let mut repair = of_log(5, 90);
        assert_eq!(repair.next(&view()), Step::Checkpoint);
        let one = View { checkpoints: vec![at(100), at(80)], ..view() };
        assert_eq!(repair.next(&one), Step::Nudge, "the state has not moved since");
        assert_eq!(repair.next(&View { applied: Index(101), ..one.clone() }), Step::Checkpoint);
        let released = View { oldest_segment: 6, ..one };
        assert_eq!(repair.next(&released), Step::Done);
    }

    #[test]
    fn the_current_segment_is_sealed_first_even_by_a_fenced_member() {
        let fenced = View { fenced: true, ..view() };
        assert_eq!(of_log(7, 90).next(&fenced), Step::Seal);
        assert_eq!(of_log(6, 90).next(&fenced), Step::Wait, "its state is good for nothing");
    }

    #[test]
    fn what_is_not_applied_yet_is_waited_for() {
        assert_eq!(of_log(5, 101).next(&view()), Step::Wait);
    }

    #[test]
    fn a_damaged_checkpoint_is_set_aside_and_another_takes_its_place() {
        let found = Found { checkpoints: vec![at(50)], ..Found::default() };
        let mut repair = Repair::of(&found).expect("there is something to do");
        assert_eq!(repair.next(&view()), Step::SetAside(at(50)));
        let aside = View { checkpoints: vec![at(80)], ..view() };
        assert_eq!(repair.next(&aside), Step::Checkpoint);
        let idle = View { applied: Index(80), ..aside };
        assert_eq!(repair.next(&idle), Step::Nudge);
        let two = View { checkpoints: vec![at(81), at(80)], ..view() };
        assert_eq!(repair.next(&two), Step::Done);
    }

    #[test]
    fn the_newest_one_is_written_anew_in_its_place() {
        let found = Found { checkpoints: vec![at(100)], ..Found::default() };
        let mut repair = Repair::of(&found).expect("there is something to do");
        let damaged = View { checkpoints: vec![at(100), at(80)], ..view() };
        assert_eq!(repair.next(&damaged), Step::SetAside(at(100)));
        let aside = View { checkpoints: vec![at(80)], ..view() };
        assert_eq!(repair.next(&aside), Step::Checkpoint);
        assert_eq!(repair.next(&damaged), Step::Done, "that is another one");
    }
}
