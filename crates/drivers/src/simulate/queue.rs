//! What will happen, in the order of true time.
//!
//! One binary heap. Two events of the same instant happen in the order in which they were queued,
//! so that order never depends on the heap. What an event carries lies in a [`Slab`], so that the
//! heap moves small values only.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Something that will happen.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Event {
    /// A message arrives: its place in the slab of messages.
    Deliver { message: u32 },
    /// A timer fires, unless it was set anew since.
    Timer { node: u16, slot: u16, set: u32 },
    /// The layer above asks: its place in the slab of requests.
    Request { node: u16, request: u32 },
    /// A sync ends.
    Synced { node: u16, life: u32 },
    /// A node that was busy, or stood still, looks at what has piled up.
    Awake { node: u16 },
    /// A crashed node starts again.
    Boot { node: u16, life: u32 },
    /// An alarm of the world.
    Alarm { alarm: u64 },
    /// The time to think about faults of one kind.
    Nemesis { kind: u16 },
    /// A fault ends.
    Heal { fault: u32 },
    /// The faults of the run end.
    Calm,
    /// The run ends.
    End,
}

/// The events to come.
#[derive(Debug, Default)]
pub(super) struct Queue {
    heap: BinaryHeap<Reverse<(u64, u64, Event)>>,
    queued: u64,
}

impl Queue {
    /// Queues an event for true time `at`.
    pub(super) fn push(&mut self, at: u64, event: Event) {
        self.heap.push(Reverse((at, self.queued, event)));
        self.queued += 1;
    }

    /// Messages and syncs that are due later than `at` are due then.
    pub(super) fn hasten(&mut self, at: u64) {
        let heap = std::mem::take(&mut self.heap).into_vec();
        let sooner = |Reverse((due, number, event))| match event {
            Event::Deliver { .. } | Event::Synced { .. } => Reverse((at.min(due), number, event)),
            _ => Reverse((due, number, event)),
        };
        self.heap = heap.into_iter().map(sooner).collect();
    }

    /// The next event and its time.
    pub(super) fn pop(&mut self) -> Option<(u64, Event)> {
        self.heap.pop().map(|Reverse((at, _, event))| (at, event))
    }
}

/// Values with small numbers that are used again.
#[derive(Debug)]
pub(super) struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<u32>,
}

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Slab { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    pub(super) fn insert(&mut self, value: T) -> u32 {
        match self.free.pop() {
            Some(place) => {
                self.places[place as usize] = Some(value);
                place
            }
            None => {
                self.places.push(Some(value));
                (self.places.len() - 1) as u32
            }
        }
    }

    /// Panics: if there is nothing at that place.
    pub(super) fn get(&self, place: u32) -> &T {
        self.places[place as usize].as_ref().expect("looked at before it is taken")
    }

    /// Panics: if there is nothing at that place.
    pub(super) fn take(&mut self, place: u32) -> T {
        let value = self.places[place as usize].take().expect("each value is taken once");
        self.free.push(place);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_of_one_instant_keep_the_order_in_which_they_were_queued() {
        let mut queue = Queue::default();
        queue.push(5, Event::End);
        queue.push(1, Event::Calm);
        queue.push(5, Event::Calm);
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, [(1, Event::Calm), (5, Event::End), (5, Event::Calm)]);
        assert_eq!(queue.pop(), None);
    }

    #[test]
    fn places_are_used_again() {
        let mut slab = Slab::default();
        let (first, second) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.take(first), 'a');
        assert_eq!(slab.insert('c'), first);
        assert_eq!(slab.take(second), 'b');
    }
}
