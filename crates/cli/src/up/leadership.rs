//! Who leads, from what the members say of themselves. Pure.

/// What one member said when it was last asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Said {
    /// Its id.
    pub(super) id: u64,
    /// The leader it knows; 0 for none.
    pub(super) leader: u64,
    /// Its term.
    pub(super) term: u64,
}

/// What an operator wants to hear of.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    /// The member with this index leads.
    Leader { member: usize, term: u64 },
    /// Nobody leads.
    None,
}

/// Turns answers into changes.
#[derive(Debug, Default)]
pub(super) struct Leadership {
    ids: Vec<u64>, // by member, 0 while unknown
    told: Option<Change>,
    rounds_without: u32,
}

/// So many rounds without a leader are told; one alone is an election as it should be.
const ROUNDS_WITHOUT_MIN: u32 = 2;

impl Leadership {
    /// One round of answers, by member; `None` if a member did not answer.
    pub(super) fn observe(&mut self, answers: &[Option<Said>]) -> Option<Change> {
        self.ids.resize(answers.len(), 0);
        for (id, said) in self.ids.iter_mut().zip(answers) {
            *id = said.map_or(*id, |said| said.id);
        }
        let change = match self.leader(answers) {
            Some(change) => {
                self.rounds_without = 0;
                change
            }
            None => {
                self.rounds_without += 1;
                // Before the first leader there is nothing to miss.
                if self.rounds_without < ROUNDS_WITHOUT_MIN || self.told.is_none() {
                    return None;
                }
                Change::None
            }
        };
        if self.told == Some(change) {
            return None;
        }
        self.told = Some(change);
        Some(change)
    }

    /// The leader of the highest term that anybody knows of, if it runs.
    fn leader(&self, answers: &[Option<Said>]) -> Option<Change> {
        let said = answers.iter().flatten().filter(|said| said.leader != 0);
        let newest = said.max_by_key(|said| said.term)?;
        let member = self.ids.iter().position(|id| *id == newest.leader)?;
        // A follower believes in a dead leader for an election timeout; we know better.
        answers[member]?;
        Some(Change::Leader { member, term: newest.term })
    }
}

/// True if every member answered and all know the same leader.
pub(super) fn all_serve(answers: &[Option<Said>]) -> bool {
    let leaders = || answers.iter().map(|said| said.map_or(0, |said| said.leader));
    leaders().all(|leader| leader != 0 && Some(leader) == leaders().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(id: u64, leader: u64, term: u64) -> Option<Said> {
        Some(Said { id, leader, term })
    }

    #[test]
    fn changes_are_told_once() {
        let mut leadership = Leadership::default();
        let none = [said(11, 0, 1), said(12, 0, 1), None];
        assert_eq!(leadership.observe(&none), None, "starting is no loss");
        assert_eq!(leadership.observe(&none), None);
        let first = [said(11, 12, 2), said(12, 12, 2), None];
        assert_eq!(leadership.observe(&first), Some(Change::Leader { member: 1, term: 2 }));
        assert_eq!(leadership.observe(&first), None);
        let split = [said(11, 13, 3), said(12, 12, 2), said(13, 13, 3)];
        assert_eq!(leadership.observe(&split), Some(Change::Leader { member: 2, term: 3 }));
    }

    #[test]
    fn a_dead_leader_is_told_after_two_rounds() {
        let mut leadership = Leadership::default();
        let all = [said(11, 12, 2), said(12, 12, 2), said(13, 12, 2)];
        assert!(leadership.observe(&all).is_some());
        let dead = [said(11, 12, 2), None, said(13, 12, 2)];
        assert_eq!(leadership.observe(&dead), None);
        assert_eq!(leadership.observe(&dead), Some(Change::None));
        assert_eq!(leadership.observe(&dead), None);
        assert_eq!(leadership.observe(&all), Some(Change::Leader { member: 1, term: 2 }));
    }

    #[test]
    fn a_cluster_serves_when_all_agree() {
        assert!(all_serve(&[said(11, 12, 2), said(12, 12, 2)]));
        assert!(!all_serve(&[said(11, 12, 2), None]));
        assert!(!all_serve(&[said(11, 12, 2), said(12, 0, 2)]));
        assert!(!all_serve(&[said(11, 12, 2), said(12, 11, 2)]));
    }
}
