//! What goes wrong between the nodes: partitions of every kind, and messages that have to wait.
//!
//! In a network that may lose messages a cut loses them; in a reliable one it holds them back, and
//! they arrive when it has healed.

use super::super::choices::{About, Site};
use super::super::faults::Fault;
use super::super::kernel::Kernel;
use super::super::mutant::Mutant;
use super::super::queue::Event;
use super::super::world::World;
use super::{MILLISECOND, Undo};

impl<W: World> Kernel<W> {
    pub(super) fn part(&mut self, fault: Fault) {
        let lasts = self.some_time(fault);
        let group = match fault {
            Fault::IsolateLeader => {
                let leader = self.with_world(|world, nodes, _| world.leader(nodes));
                leader.into_iter().collect()
            }
            _ => self.some_group(fault),
        };
        self.part_from(group, fault, lasts);
    }

    /// Some nodes and all others do not hear each other, in the way of that fault.
    pub(in super::super) fn part_from(&mut self, group: Vec<usize>, fault: Fault, lasts: u64) {
        let nodes = self.nodes();
        if group.is_empty() || nodes < 2 {
            return;
        }
        let inside = |node: usize| group.contains(&node);
        let bridge = (0..nodes).find(|node| !inside(*node)).unwrap_or(0);
        let all = (0..nodes).flat_map(|from| (0..nodes).map(move |to| (from, to)));
        let pairs: Vec<(usize, usize)> = all
            .filter(|(from, to)| match fault {
                Fault::OneWay => inside(*from) && !inside(*to),
                Fault::PartialCut => {
                    let (one, other) = (group[0], (group[0] + 1) % nodes);
                    (*from, *to) == (one, other) || (*from, *to) == (other, one)
                }
                Fault::Bridge => inside(*from) != inside(*to) && *from != bridge && *to != bridge,
                _ => inside(*from) != inside(*to),
            })
            .collect();
        let held = pairs.iter().any(|(from, to)| self.net.is_held(*from, *to));
        if held && self.keeps_bounds() {
            return;
        }
        if fault == Fault::Flapping {
            let times = 1 + self.shape(fault, 5);
            return self.flap(pairs, times);
        }
        self.cut(&pairs);
        let text = self.cut_words(&pairs);
        self.activate(fault, group, lasts, Undo::Mend(pairs), text);
    }

    fn cut_words(&self, pairs: &[(usize, usize)]) -> String {
        let name = |node: usize| self.shells[node].id;
        let words: Vec<String> = pairs
            .iter()
            .filter(|(from, to)| from < to || !pairs.contains(&(*to, *from)))
            .map(|(from, to)| match pairs.contains(&(*to, *from)) {
                true => format!("{} x {}", name(*from), name(*to)),
                false => format!("{} -x-> {}", name(*from), name(*to)),
            })
            .collect();
        words.join(", ")
    }

    pub(super) fn flap(&mut self, pairs: Vec<(usize, usize)>, left: u64) {
        let lasts = self.some_time(Fault::Flapping).min(500 * MILLISECOND);
        self.cut(&pairs);
        let text = self.cut_words(&pairs);
        let mut nodes: Vec<usize> = pairs.iter().map(|pair| pair.0).collect();
        nodes.dedup();
        self.activate(Fault::Flapping, nodes, lasts, Undo::Flap(pairs, left), text);
    }

    /// In a reliable network what is cut arrives later.
    fn cut(&mut self, pairs: &[(usize, usize)]) {
        for (from, to) in pairs {
            if from < to && self.plan.planted(Mutant::PartitionLeaks) {
                continue;
            }
            match self.is_lossy() {
                true => self.net.cut(*from, *to),
                false => self.net.hold(*from, *to),
            }
        }
    }

    pub(super) fn mend(&mut self, pairs: &[(usize, usize)]) {
        if !self.is_lossy() {
            return self.release(pairs);
        }
        for (from, to) in pairs {
            if from < to && self.plan.planted(Mutant::PartitionLeaks) {
                continue;
            }
            self.net.mend(*from, *to);
        }
    }

    pub(super) fn release(&mut self, pairs: &[(usize, usize)]) {
        for (from, to) in pairs {
            for message in self.net.release(*from, *to) {
                let site = Site::new(About::Shape, Fault::Hold as usize);
                let after = self.choices.draw(site, 10 * MILLISECOND);
                self.queue.push(self.now + after, Event::Deliver { message });
            }
        }
    }

    pub(super) fn hold(&mut self) {
        let node = self.some_node(Fault::Hold);
        let lasts = self.some_time(Fault::Hold);
        let others = (0..self.nodes()).filter(|to| *to != node);
        let pairs: Vec<(usize, usize)> = others.map(|to| (node, to)).collect();
        let held = pairs.iter().any(|(from, to)| self.net.is_held(*from, *to));
        if held && self.keeps_bounds() {
            return;
        }
        for (from, to) in &pairs {
            self.net.hold(*from, *to);
        }
        let text = format!("what {} sends is held back", self.shells[node].id);
        self.activate(Fault::Hold, vec![node], lasts, Undo::Release(pairs), text);
    }

    /// Half a minute at most, and then everything arrives: delivery is eventual.
    pub(super) fn starve(&mut self) {
        let node = self.some_node(Fault::Starve);
        let peer = self.some_node(Fault::Starve);
        let lasts = MILLISECOND * (1_000 + self.shape(Fault::Starve, 29_000));
        let all = self.shape(Fault::Starve, 2) == 1;
        let senders = (0..self.nodes()).filter(|from| *from != node && (all || *from == peer));
        let pairs: Vec<(usize, usize)> = senders.map(|from| (from, node)).collect();
        if pairs.is_empty() {
            return;
        }
        for (from, to) in &pairs {
            self.net.hold(*from, *to);
        }
        let from = if all { "all".to_owned() } else { self.shells[peer].id.to_string() };
        let text = format!("what {from} send to {} has to wait", self.shells[node].id);
        self.activate(Fault::Starve, vec![node], lasts, Undo::Release(pairs), text);
    }

    pub(super) fn slow_link(&mut self) {
        let from = self.some_node(Fault::SlowLink);
        let to =
            (from + 1 + self.some_node(Fault::SlowLink) % (self.nodes() - 1).max(1)) % self.nodes();
        let lasts = self.some_time(Fault::SlowLink);
        let by = MILLISECOND * (1 + self.shape(Fault::SlowLink, 500));
        self.net.slow_down(from, to, by);
        let text = format!(
            "{} -> {} takes {} ms more",
            self.shells[from].id,
            self.shells[to].id,
            by / MILLISECOND
        );
        self.activate(Fault::SlowLink, vec![from, to], lasts, Undo::SpeedUp(from, to, by), text);
    }
}
