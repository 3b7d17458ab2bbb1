//! The network between the nodes: delays, losses, and what faults make of the links.
//!
//! ```text
//!   send --> cut? --> held? --> lost? --> queue --> delay --> delivered, once or twice
//! ```
//!
//! All that is drawn is drawn when a message is sent, at sites of its link, so that an edit of one
//! message leaves those of other links as they were. What is cut is decided again at arrival: a
//! partition stops what is under way.

use super::choices::{About, Choices, Site};

/// How links behave when nothing is wrong with them. Units: nanoseconds, and parts per million.
#[derive(Clone, Debug, PartialEq)]
pub struct Links {
    /// The least delay.
    pub delay_min: u64,
    /// What jitter adds to it, at most.
    pub delay_span: u64,
    /// How often a message takes very long.
    pub tail_rate: u64,
    /// What that adds, at most.
    pub tail_span: u64,
    /// How often a message is lost.
    pub loss_rate: u64,
    /// How often a message is doubled.
    pub twice_rate: u64,
    /// Messages of a link do not overtake each other, as those of a connection.
    pub in_order: bool,
    /// A message occupies its link for so long; 0 for a link without limit.
    pub message_time: u64,
    /// So many messages may wait for a link of limited speed; one more is lost.
    pub queue_max: u64,
}

impl Default for Links {
    /// A data centre on a good day: 0.1 to 1 ms.
    fn default() -> Self {
        Links {
            delay_min: 100_000,
            delay_span: 900_000,
            tail_rate: 0,
            tail_span: 0,
            loss_rate: 0,
            twice_rate: 0,
            in_order: false,
            message_time: 0,
            queue_max: 0,
        }
    }
}

/// What becomes of a message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Fate {
    /// It arrives at this time.
    Arrives(u64),
    /// It arrives at both of these times.
    Twice(u64, u64),
    /// It is held back until further notice.
    Held,
    /// It is lost, and why.
    Lost(&'static str),
}

#[derive(Clone, Debug, Default)]
struct Link {
    /// Faults that cut it, at present.
    cuts: u16,
    /// Faults that hold its messages back.
    holds: u16,
    /// Added to each delay.
    slower: u64,
    /// The last arrival, for links that keep their order.
    last: u64,
    /// The link is busy until then.
    busy: u64,
    held: Vec<u32>,
}

/// All links of a run.
#[derive(Debug)]
pub(super) struct Net {
    nodes: usize,
    pub(super) links: Links,
    /// No message is under way for longer, unless it is held back. Unit: nanoseconds.
    delay_max: u64,
    table: Vec<Link>,
    /// Messages that took long, and those that found others in the queue of their link.
    pub(super) late: u64,
    pub(super) congested: u64,
}

impl Net {
    pub(super) fn new(nodes: usize, links: Links, delay_max: u64) -> Net {
        let table = vec![Link::default(); nodes * nodes];
        Net { nodes, links, delay_max, table, late: 0, congested: 0 }
    }

    fn at(&mut self, from: usize, to: usize) -> &mut Link {
        &mut self.table[from * self.nodes + to]
    }

    /// What becomes of a message that is sent now.
    #[inline]
    pub(super) fn send(&mut self, from: usize, to: usize, now: u64, choices: &mut Choices) -> Fate {
        let link = &mut self.table[from * self.nodes + to];
        if link.holds > 0 {
            return Fate::Held;
        }
        if link.cuts > 0 {
            return Fate::Lost("cut off");
        }
        let links = &self.links;
        if choices.chance(Site::link(About::Loss, from, to), links.loss_rate) {
            return Fate::Lost("lost");
        }
        let mut start = now;
        if links.message_time > 0 {
            start = link.busy.max(now);
            self.congested += u64::from(start > now);
            if start - now > links.message_time * links.queue_max {
                return Fate::Lost("the queue is full");
            }
            start += links.message_time;
            link.busy = start;
        }
        let site = Site::link(About::Delay, from, to);
        let latest = now.saturating_add(self.delay_max);
        let (delay, is_late) = delay(links, site, choices);
        self.late += u64::from(is_late);
        let mut at = (start + delay + link.slower).min(latest);
        if links.in_order {
            at = at.max(link.last);
            link.last = at;
        }
        if choices.chance(Site::link(About::Twice, from, to), links.twice_rate) {
            let (delay, _) = self::delay(links, site, choices);
            return Fate::Twice(at, (start + delay + link.slower).min(latest));
        }
        Fate::Arrives(at)
    }

    /// True if a message between the two is stopped at present.
    #[inline]
    pub(super) fn is_cut(&self, from: usize, to: usize) -> bool {
        self.table[from * self.nodes + to].cuts > 0
    }

    /// From `now` on no message is under way for longer than this, those before it included.
    pub(super) fn settle(&mut self, now: u64, delay_max: u64) {
        self.delay_max = delay_max;
        for link in &mut self.table {
            link.last = link.last.min(now + delay_max);
            link.busy = now;
        }
    }

    /// True if its messages are held back at present.
    pub(super) fn is_held(&self, from: usize, to: usize) -> bool {
        self.table[from * self.nodes + to].holds > 0
    }

    /// Keeps a message until the link is released.
    pub(super) fn keep(&mut self, from: usize, to: usize, message: u32) {
        self.at(from, to).held.push(message);
    }

    /// One more fault cuts the link.
    pub(super) fn cut(&mut self, from: usize, to: usize) {
        self.at(from, to).cuts += 1;
    }

    /// One fault less cuts it.
    pub(super) fn mend(&mut self, from: usize, to: usize) {
        self.at(from, to).cuts -= 1;
    }

    /// One more fault holds its messages back.
    pub(super) fn hold(&mut self, from: usize, to: usize) {
        self.at(from, to).holds += 1;
    }

    /// One fault less holds them; returns those that may go on.
    pub(super) fn release(&mut self, from: usize, to: usize) -> Vec<u32> {
        let link = self.at(from, to);
        link.holds -= 1;
        if link.holds > 0 { Vec::new() } else { std::mem::take(&mut link.held) }
    }

    /// Adds so many nanoseconds to each delay of the link.
    pub(super) fn slow_down(&mut self, from: usize, to: usize, by: u64) {
        self.at(from, to).slower += by;
    }

    /// Takes them away again.
    pub(super) fn speed_up(&mut self, from: usize, to: usize, by: u64) {
        self.at(from, to).slower -= by;
    }
}

/// How long a message takes, and whether that is out of the ordinary.
#[inline]
fn delay(links: &Links, site: Site, choices: &mut Choices) -> (u64, bool) {
    let mut delay = links.delay_min;
    if links.delay_span > 0 {
        delay += choices.draw(site, links.delay_span + 1);
    }
    let is_late = choices.chance(site, links.tail_rate);
    if is_late {
        delay += choices.draw(site, links.tail_span + 1);
    }
    (delay, is_late)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_keep_their_order_do() {
        let links = Links { in_order: true, ..Links::default() };
        let mut net = Net::new(2, links, u64::MAX);
        let mut choices = Choices::from_seed(3);
        let mut last = 0;
        for now in 0..1_000 {
            let Fate::Arrives(at) = net.send(0, 1, now, &mut choices) else {
                panic!("nothing is lost")
            };
            assert!(at >= last);
            last = at;
        }
    }

    #[test]
    fn a_cut_link_is_cut_until_the_last_fault_has_ended() {
        let mut net = Net::new(2, Links::default(), u64::MAX);
        let mut choices = Choices::from_seed(3);
        net.cut(0, 1);
        net.cut(0, 1);
        net.mend(0, 1);
        assert_eq!(net.send(0, 1, 0, &mut choices), Fate::Lost("cut off"));
        assert!(matches!(net.send(1, 0, 0, &mut choices), Fate::Arrives(_)), "one way only");
        net.mend(0, 1);
        assert!(!net.is_cut(0, 1));
    }

    #[test]
    fn a_link_of_limited_speed_queues_and_then_loses() {
        let links =
            Links { message_time: 1_000_000, queue_max: 3, delay_span: 0, ..Links::default() };
        let mut net = Net::new(2, links, u64::MAX);
        let mut choices = Choices::from_seed(3);
        let fates: Vec<Fate> = (0..6).map(|_| net.send(0, 1, 0, &mut choices)).collect();
        assert_eq!(fates[0], Fate::Arrives(1_100_000));
        assert_eq!(fates[3], Fate::Arrives(4_100_000));
        assert_eq!(fates[4], Fate::Lost("the queue is full"));
    }
}
