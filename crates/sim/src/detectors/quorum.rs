//! Quorum ping in the simulator: one side of a clean split writes, and its trap is seen.

use super::planted;
use quorate_drivers::simulate::{Broken, Hands, Nodes, Plain};
use quorate_protocols::detectors::Mutant;
use quorate_protocols::detectors::quorum_ping::{Action, Config, Mode, QuorumPing};
use std::time::Duration;

/// The period of rounds.
const EVERY: Duration = Duration::from_millis(200);
/// How often somebody looks.
const LOOKS: Duration = Duration::from_millis(20);

const TRAP: &str = "two that do not hear each other both write";
const EVEN: &str = "nobody writes";

/// The present split, if it is a clean one, and when each node had counted how often.
#[derive(Debug, Default)]
struct Split {
    /// For each node, whether it is on the side of the first.
    with_first: Vec<bool>,
    counted_before: Vec<Option<u64>>,
}

type World = Plain<QuorumPing>;

pub(super) fn world(mutant: Option<Mutant>) -> World {
    let mut split = Split::default();
    World::new(|_, all| Config {
        nodes: all.iter().copied().collect(),
        every: EVERY,
        action: Action::ReadOnly,
    })
    .each_life(move |node| planted(mutant, |mutant| node.plant(mutant)))
    .workload(LOOKS, move |nodes, hands| split.look(nodes, hands))
    .recovered(|seen| {
        let up = seen.up().count();
        let writes = seen.up().filter(|(_, node)| node.mode() == Mode::Writes).count();
        writes == if up > seen.len() / 2 { up } else { 0 }
    })
    .portrait(|node| [("mode".to_owned(), format!("{:?}", node.mode()))].into_iter().collect())
    .sometimes(&[TRAP, EVEN])
}

impl Split {
    fn look(&mut self, nodes: &mut Nodes<'_, World>, hands: &mut Hands<'_, World>) {
        let count = nodes.len();
        let counted = |node: usize| nodes.get(node).map(QuorumPing::rounds_counted);
        let writes =
            |node: usize| nodes.get(node).is_some_and(|state| state.mode() == Mode::Writes);
        let writers: Vec<usize> = (0..count).filter(|node| writes(*node)).collect();
        let deaf = |a: usize, b: usize| hands.is_cut(a, b) && hands.is_cut(b, a);
        let is_trapped = writers.iter().any(|a| writers.iter().any(|b| deaf(*a, *b)));
        let sides = clean(count, |a, b| hands.is_cut(a, b));
        if is_trapped {
            hands.mark(TRAP);
        }
        if writers.is_empty() {
            hands.mark(EVEN);
        }
        let Some(sides) = sides else {
            return *self = Split::default();
        };
        if sides != self.with_first {
            self.counted_before = (0..count).map(counted).collect();
            self.with_first = sides;
        }
        // Its first count since may be of a round that began before the split; a node that has
        // begun a new life since has counted nothing that is older.
        let has_counted = |node: &&usize| match (counted(**node), self.counted_before[**node]) {
            (Some(now), Some(before)) if now >= before => now >= before + 2,
            _ => false,
        };
        let current: Vec<usize> = writers.iter().filter(has_counted).copied().collect();
        let other = |node: &&usize| self.with_first[**node] != self.with_first[current[0]];
        if let Some(node) = current.iter().find(other) {
            let why = format!(
                "n{} and n{} are on two sides of a split, have both counted twice in it, and both \
                 write",
                current[0] + 1,
                node + 1
            );
            hands.broken(Broken::new("one-side", why));
        }
    }
}

/// Who is on the side of the first node, if the nodes are split in two: each hears its own side
/// only.
fn clean(count: usize, is_cut: impl Fn(usize, usize) -> bool) -> Option<Vec<bool>> {
    let with_first: Vec<bool> = (0..count).map(|node| node == 0 || !is_cut(0, node)).collect();
    let mut pairs = (0..count).flat_map(|a| (0..count).map(move |b| (a, b)));
    let is_clean = pairs.all(|(a, b)| a == b || is_cut(a, b) == (with_first[a] != with_first[b]));
    (is_clean && with_first.contains(&false)).then_some(with_first)
}
