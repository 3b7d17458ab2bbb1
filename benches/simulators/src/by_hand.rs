//! The ceiling: what somebody writes who needs this one experiment and nothing else. A heap of
//! (time, sequence, event), five boxed nodes, and a buffer for what they want.

use crate::work::{BEAT, BEGIN, DELAY_MAX, DELAY_MIN, NODES, WINDOW, Work, peers};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
enum Event {
    Message { from: u8, to: u8, payload: u64 },
    Timer { node: u8 },
}

enum Want {
    Send { to: u8, payload: u64 },
    Timer { after: u64 },
}

trait Node {
    fn on_message(&mut self, from: u8, payload: u64, wants: &mut Vec<Want>);
    fn on_timer(&mut self, wants: &mut Vec<Want>);
}

struct Flooder {
    node: usize,
}

impl Node for Flooder {
    fn on_message(&mut self, from: u8, payload: u64, wants: &mut Vec<Want>) {
        wants.push(Want::Send { to: from, payload: payload + 1 });
    }

    fn on_timer(&mut self, wants: &mut Vec<Want>) {
        for peer in peers(self.node) {
            wants.extend((0..WINDOW).map(|_| Want::Send { to: peer as u8, payload: 0 }));
        }
    }
}

struct Beater {
    node: usize,
    heard: u64,
}

impl Node for Beater {
    fn on_message(&mut self, _: u8, payload: u64, _: &mut Vec<Want>) {
        self.heard += payload;
    }

    fn on_timer(&mut self, wants: &mut Vec<Want>) {
        wants.extend(peers(self.node).map(|peer| Want::Send { to: peer as u8, payload: 1 }));
        wants.push(Want::Timer { after: BEAT.as_nanos() as u64 });
    }
}

struct Random([u64; 4]);

impl Random {
    fn new(seed: u64) -> Random {
        Random([seed ^ 0x9e37_79b9_7f4a_7c15, seed.rotate_left(17) | 1, !seed, 0x2545_f491])
    }

    /// xoshiro256++, as in the simulator it is compared with.
    fn below(&mut self, bound: u64) -> u64 {
        let s = &mut self.0;
        let drawn = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        ((u128::from(drawn) * u128::from(bound)) >> 64) as u64
    }
}

/// See [`crate::work::Candidate::run`].
pub fn run(work: Work, seed: u64, simulated: Duration) -> u64 {
    let end = simulated.as_nanos() as u64;
    let mut random = Random::new(seed);
    let mut heap: BinaryHeap<Reverse<(u64, u64, Event)>> = BinaryHeap::new();
    let mut nodes: Vec<Box<dyn Node>> = (0..NODES)
        .map(|node| match work {
            Work::Flood => Box::new(Flooder { node }) as Box<dyn Node>,
            Work::Heartbeat => Box::new(Beater { node, heard: 0 }),
        })
        .collect();
    let mut queued = 0;
    for node in 0..NODES as u8 {
        heap.push(Reverse((BEGIN.as_nanos() as u64, queued, Event::Timer { node })));
        queued += 1;
    }
    let span = (DELAY_MAX - DELAY_MIN).as_nanos() as u64 + 1;
    let mut wants = Vec::new();
    let mut delivered = 0;
    while let Some(Reverse((now, _, event))) = heap.pop() {
        if now > end {
            break;
        }
        let node = match event {
            Event::Message { from, to, payload } => {
                delivered += 1;
                nodes[to as usize].on_message(from, payload, &mut wants);
                to
            }
            Event::Timer { node } => {
                nodes[node as usize].on_timer(&mut wants);
                node
            }
        };
        for want in wants.drain(..) {
            let next = match want {
                Want::Send { to, payload } => {
                    let at = now + DELAY_MIN.as_nanos() as u64 + random.below(span);
                    (at, queued, Event::Message { from: node, to, payload })
                }
                Want::Timer { after } => (now + after, queued, Event::Timer { node }),
            };
            heap.push(Reverse(next));
            queued += 1;
        }
    }
    delivered
}
