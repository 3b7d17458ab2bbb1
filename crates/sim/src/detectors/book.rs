//! Who is down since when, who suspects whom, and whether that is right.

use quorate_core::{NodeId, Protocol};
use quorate_drivers::simulate::{Hands, Plain, Seen};
use std::time::Duration;

/// Which accuracy a detector is held to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Accuracy {
    /// Nobody who is up is suspected, ever.
    Strong,
    /// Mistakes end.
    Eventual,
}

/// What is known of one node.
#[derive(Clone, Debug, Default)]
struct Page {
    /// When it was seen to go down, or come up. Unit: nanoseconds.
    since: u64,
    is_up: bool,
    /// Those that it suspects.
    suspects: Vec<usize>,
}

/// What the simulator knows of all of them.
#[derive(Debug)]
pub(super) struct Book {
    accuracy: Accuracy,
    detected: u64,
    now: u64,
    calm: Option<u64>,
    pages: Vec<Page>,
    /// Since when everybody has been right.
    right_since: Option<u64>,
    marks: [bool; 3],
}

impl Book {
    pub(super) fn new(accuracy: Accuracy, detected: Duration) -> Book {
        let detected = detected.as_nanos() as u64;
        let (pages, marks) = (Vec::new(), [false; 3]);
        Book { accuracy, detected, now: 0, calm: None, pages, right_since: None, marks }
    }

    /// The faults have ended.
    pub(super) fn calm(&mut self, now: u64) {
        self.calm = Some(now);
    }

    /// Looks at all nodes.
    pub(super) fn look<P: Protocol>(
        &mut self,
        seen: &Seen<'_, P>,
        suspects: fn(&P) -> Vec<NodeId>,
    ) -> &Book {
        self.now = seen.now;
        self.pages.resize_with(seen.len(), Page::default);
        for (node, page) in self.pages.iter_mut().enumerate() {
            let state = seen.get(node);
            if page.is_up != state.is_some() {
                (page.is_up, page.since) = (state.is_some(), seen.now);
            }
            let suspects = state.map(suspects).unwrap_or_default();
            page.suspects = suspects.iter().map(|id| id.0 as usize - 1).collect();
        }
        self.note();
        self
    }

    /// Pairs of who is up, and whom it suspects.
    fn suspicions(&self) -> impl Iterator<Item = (usize, usize)> {
        let up = self.pages.iter().enumerate().filter(|(_, page)| page.is_up);
        up.flat_map(|(node, page)| page.suspects.iter().map(move |suspect| (node, *suspect)))
    }

    fn note(&mut self) {
        let mistakes = self.suspicions().filter(|(_, suspect)| self.pages[*suspect].is_up).count();
        let all = self.suspicions().count();
        self.marks[0] |= all > mistakes;
        self.marks[2] |= self.marks[1] && mistakes == 0;
        self.marks[1] |= mistakes > 0;
        let up = self.pages.iter().filter(|page| page.is_up).count();
        let is_right = mistakes == 0 && all == up * (self.pages.len() - up);
        self.right_since = is_right.then(|| self.right_since.unwrap_or(self.now));
    }

    /// Tells what was seen.
    pub(super) fn marks<P: Protocol>(&mut self, hands: &mut Hands<'_, Plain<P>>)
    where
        P::Record: Clone,
    {
        let names = ["a crash was suspected", "a mistake was made", "a mistake was taken back"];
        for (name, was_seen) in names.into_iter().zip(&mut self.marks) {
            if std::mem::take(was_seen) {
                hands.mark(name);
            }
        }
    }

    /// Strong accuracy.
    pub(super) fn accuracy(&self) -> Result<(), String> {
        if self.accuracy == Accuracy::Eventual {
            return Ok(());
        }
        match self.suspicions().find(|(_, suspect)| self.pages[*suspect].is_up) {
            None => Ok(()),
            Some((node, suspect)) => {
                Err(format!("n{} suspects n{}, which is up", node + 1, suspect + 1))
            }
        }
    }

    /// Strong completeness, within the bound: always for the perfect one, else in the calm.
    pub(super) fn completeness(&self) -> Result<(), String> {
        let begin = match (self.accuracy, self.calm) {
            (Accuracy::Strong, _) => 0,
            (Accuracy::Eventual, Some(calm)) => calm,
            (Accuracy::Eventual, None) => return Ok(()),
        };
        for (node, page) in self.pages.iter().enumerate().filter(|(_, page)| page.is_up) {
            let is_down = |(_, down): &(usize, &Page)| !down.is_up;
            for (peer, down) in self.pages.iter().enumerate().filter(is_down) {
                let due = begin.max(page.since).max(down.since) + self.detected;
                if self.now > due && !page.suspects.contains(&peer) {
                    let late = (self.now - due) / 1_000_000;
                    let bound = self.detected / 1_000_000;
                    return Err(format!(
                        "n{} is down, and n{} should suspect it within {bound} ms: it is {late} \
                         ms late",
                        peer + 1,
                        node + 1
                    ));
                }
            }
        }
        Ok(())
    }

    /// True if everybody has been right for long enough, in the calm.
    pub(super) fn is_right(&self, now: u64) -> bool {
        let stable = super::STABLE.as_nanos() as u64;
        let begin =
            self.right_since.into_iter().zip(self.calm).map(|(right, calm)| right.max(calm));
        begin.into_iter().any(|begin| now >= begin + stable)
    }
}
