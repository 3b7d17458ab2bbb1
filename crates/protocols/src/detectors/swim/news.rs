//! What members tell each other about members, and which of two news counts.
//!
//! News about a member are ordered: by incarnation, which only the member itself raises, and for
//! the same incarnation alive < suspect < dead. The greatest that was heard counts, so it matters
//! neither in which order news arrive nor how often, and two members that have heard the same
//! agree.
//!
//! SWIM lets "dead" win over every incarnation. Here a member that was declared dead can contradict
//! with a higher incarnation, as in memberlist, because nodes return and partitions heal.
//!
//! Source: Das, Gupta and Motivala, "SWIM" (2002), section 4.2.

use super::super::{Mutant, Planted};
use quorate_core::NodeId;
use std::collections::BTreeMap;

/// News that travel with one message, at most.
pub const NEWS_MAX: usize = 6;

/// What is thought of a member. The order matters: the graver wins.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Standing {
    /// It answers.
    Alive,
    /// It did not answer, and may contradict.
    Suspect,
    /// It did not contradict in time.
    Dead,
}

/// What is thought of one member. Compared by incarnation, then standing.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct View {
    /// Raised by the member alone, when it contradicts.
    pub incarnation: u64,
    /// What is thought of that incarnation.
    pub standing: Standing,
}

/// A view that is passed on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct News {
    /// About whom.
    pub member: NodeId,
    /// What is thought of it.
    pub view: View,
}

impl View {
    /// What everybody thinks of everybody at first.
    pub const NEW: View = View { incarnation: 0, standing: Standing::Alive };

    /// True if this news counts where `known` is known.
    pub(super) fn overrides(self, known: View, planted: Planted) -> bool {
        match planted.is(Mutant::SwimIncarnationIgnored) {
            true => self.standing > known.standing,
            false => self > known,
        }
    }
}

/// The news that are still worth telling, one for each member at most.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub(super) struct Gossip {
    told: BTreeMap<NodeId, (View, u32)>,
}

impl Gossip {
    /// This is news. It replaces older ones about the same member.
    pub(super) fn add(&mut self, news: News) {
        self.told.insert(news.member, (news.view, 0));
    }

    /// News for one message, least told first; each is told `times` times and then dropped.
    pub(super) fn take(&mut self, times: u32) -> Vec<News> {
        let mut order: Vec<(u32, NodeId)> =
            self.told.iter().map(|(member, (_, count))| (*count, *member)).collect();
        order.sort();
        let mut news = Vec::new();
        for (_, member) in order.into_iter().take(NEWS_MAX) {
            let (view, count) = self.told.get_mut(&member).expect("it was just listed");
            news.push(News { member, view: *view });
            *count += 1;
            if *count >= times {
                self.told.remove(&member);
            }
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(incarnation: u64, standing: Standing) -> View {
        View { incarnation, standing }
    }

    /// Section 4.2: "Alive i overrides Suspect j, i > j", "Suspect i overrides Alive j, i >= j".
    #[test]
    fn a_higher_incarnation_wins_and_then_the_graver() {
        use Standing::{Alive, Dead, Suspect};
        let wins = |a: View, b: View| a.overrides(b, Planted::default());
        assert!(wins(view(1, Alive), view(0, Suspect)));
        assert!(!wins(view(1, Alive), view(1, Suspect)));
        assert!(wins(view(1, Suspect), view(1, Alive)));
        assert!(!wins(view(0, Suspect), view(1, Alive)));
        assert!(wins(view(1, Dead), view(1, Suspect)));
        assert!(wins(view(2, Alive), view(1, Dead)), "ours: the dead may contradict");
        assert!(!wins(view(1, Alive), view(1, Alive)), "old news are no news");
    }

    #[test]
    fn news_are_told_so_often_and_the_newest_first() {
        let mut gossip = Gossip::default();
        (1..=8).for_each(|id| gossip.add(News { member: NodeId(id), view: View::NEW }));
        let first = gossip.take(2);
        assert_eq!(first.len(), NEWS_MAX);
        let second = gossip.take(2);
        assert!(second.iter().take(2).all(|news| news.member.0 > 6), "those that were not told");
        (0..2).for_each(|_| drop(gossip.take(2)));
        assert!(gossip.take(2).is_empty());
    }
}
