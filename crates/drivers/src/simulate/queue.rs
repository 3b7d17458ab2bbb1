//! What will happen, in the order of true time.
//!
//! One binary heap. Two events of the same instant happen in the order in which they were queued,
//! so that order never depends on the heap. What an event carries lies in a [`Slab`], so that the
//! heap moves small values only.

/// Something that will happen.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
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
    /// The system has served for a while since it recovered.
    Aftermath,
    /// The run ends.
    End,
}

/// An event, when it is due, and how many were queued before it.
#[derive(Clone, Copy, Debug)]
struct Due {
    at: u64,
    number: u64,
    event: Event,
}

/// Bits of a digit, and how many values it has.
const DIGIT_BITS: u32 = 4;
const DIGITS: usize = 1 << DIGIT_BITS;
/// Digits of a time.
const LEVELS: usize = (u64::BITS / DIGIT_BITS) as usize;

/// The events to come, as a radix heap (Ahuja, Mehlhorn, Orlin and Tarjan, "Faster Algorithms for
/// the Shortest Path Problem", 1990): nothing is ever queued for a time that has passed, so an
/// event can lie in a bucket of the highest digit in which its time differs from that of the last
/// one that was popped.
///
/// ```text
///   last popped  0x 3 a 5 c
///   due          0x 3 a 5 c  -> now: first in, first out
///                0x 3 a 7 1  -> level 1, digit 7
///                0x 4 2 0 0  -> level 3, digit 4
/// ```
///
/// When there is nothing for now, the first bucket of the lowest level is dealt out to the levels
/// below it, around the earliest of its events. An event moves down only: 16 times at most and two
/// or three times as a rule; a move is a copy, where a binary heap has comparisons that no
/// processor can predict. All events of one instant lie in the same bucket, in the order in which
/// they were queued, and dealing a bucket out keeps their order.
#[derive(Debug)]
pub(super) struct Queue {
    /// Those due at `last`, of which `popped` are gone.
    now: Vec<Due>,
    popped: usize,
    last: u64,
    buckets: [[Vec<Due>; DIGITS]; LEVELS],
    /// Bit d of level n is set if its bucket d has events.
    filled: [u16; LEVELS],
    /// Bit n is set if level n has events.
    levels: u16,
    queued: u64,
}

impl Default for Queue {
    fn default() -> Self {
        Queue {
            now: Vec::new(),
            popped: 0,
            last: 0,
            buckets: [const { [const { Vec::new() }; DIGITS] }; LEVELS],
            filled: [0; LEVELS],
            levels: 0,
            queued: 0,
        }
    }
}

impl Queue {
    /// Queues an event for true time `at`.
    ///
    /// Panics: if that has passed.
    #[inline]
    pub(super) fn push(&mut self, at: u64, event: Event) {
        assert!(at >= self.last, "an event in the past: {event:?}");
        self.put(Due { at, number: self.queued, event });
        self.queued += 1;
    }

    #[inline]
    fn put(&mut self, due: Due) {
        let differs = due.at ^ self.last;
        if differs == 0 {
            return self.now.push(due);
        }
        let level = differs.ilog2() / DIGIT_BITS;
        let digit = (due.at >> (level * DIGIT_BITS)) as usize % DIGITS;
        let level = level as usize;
        self.buckets[level][digit].push(due);
        self.filled[level] |= 1 << digit;
        self.levels |= 1 << level;
    }

    /// Messages and syncs that are due later than `at` are due then.
    pub(super) fn hasten(&mut self, at: u64) {
        let mut all: Vec<Due> = self.now.drain(self.popped..).collect();
        self.now.clear();
        all.extend(self.buckets.iter_mut().flatten().flat_map(|bucket| bucket.drain(..)));
        (self.popped, self.levels, self.filled) = (0, 0, [0; LEVELS]);
        // Those of one instant are due in the order in which they were queued.
        all.sort_unstable_by_key(|due| due.number);
        for mut due in all {
            if let Event::Deliver { .. } | Event::Synced { .. } = due.event {
                due.at = at.min(due.at);
            }
            self.put(due);
        }
    }

    /// The next event and its time.
    #[inline]
    pub(super) fn pop(&mut self) -> Option<(u64, Event)> {
        let Some(due) = self.now.get(self.popped).copied() else { return self.advance() };
        self.popped += 1;
        if self.popped == self.now.len() {
            self.now.clear();
            self.popped = 0;
        }
        Some((due.at, due.event))
    }

    /// Nothing is due now: goes on to the first event of the first bucket that has any.
    fn advance(&mut self) -> Option<(u64, Event)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros() as usize;
        let digit = self.filled[level].trailing_zeros() as usize;
        self.filled[level] &= self.filled[level] - 1;
        if self.filled[level] == 0 {
            self.levels &= !(1 << level);
        }
        let bucket = &mut self.buckets[level][digit];
        if let [due] = bucket[..] {
            bucket.clear();
            self.last = due.at;
            return Some((due.at, due.event));
        }
        let mut dealt = std::mem::take(bucket);
        self.last = dealt.iter().map(|due| due.at).fold(u64::MAX, u64::min);
        for due in dealt.drain(..) {
            self.put(due);
        }
        // Its memory is used again.
        self.buckets[level][digit] = dealt;
        self.pop()
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
    #[inline]
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
    #[inline]
    pub(super) fn get(&self, place: u32) -> &T {
        self.places[place as usize].as_ref().expect("looked at before it is taken")
    }

    /// Panics: if there is nothing at that place.
    #[inline]
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

    /// The same, kept in order the slow way.
    #[derive(Default)]
    struct Sorted(Vec<(u64, u64, Event)>);

    impl Sorted {
        fn pop(&mut self) -> Option<(u64, Event)> {
            let first = self.0.iter().enumerate().min_by_key(|(_, (at, number, _))| (*at, *number));
            let first = first.map(|(place, _)| place)?;
            let (at, _, event) = self.0.remove(first);
            Some((at, event))
        }

        fn hasten(&mut self, latest: u64) {
            for (at, _, event) in &mut self.0 {
                if let Event::Deliver { .. } | Event::Synced { .. } = event {
                    *at = latest.min(*at);
                }
            }
        }
    }

    #[test]
    fn it_pops_what_a_sorted_list_pops() {
        let mut random = 7;
        for _ in 0..100 {
            let (mut queue, mut sorted) = (Queue::default(), Sorted::default());
            let mut now = 0;
            for number in 0..400 {
                let drawn = super::super::choices::split_mix(&mut random);
                let span = [1, 4, 1_000, 10_000_000, u64::MAX / 2][(drawn % 5) as usize];
                let at = now + (drawn >> 8) % span;
                let event = match drawn >> 4 & 1 {
                    0 => Event::Deliver { message: number as u32 },
                    _ => Event::Alarm { alarm: number },
                };
                queue.push(at, event);
                sorted.0.push((at, number, event));
                if drawn >> 5 & 31 == 0 {
                    queue.hasten(now + 3);
                    sorted.hasten(now + 3);
                }
                if drawn >> 10 & 1 == 0 {
                    let popped = queue.pop();
                    assert_eq!(popped, sorted.pop());
                    // Far times would leave no room for later ones.
                    now = popped.map_or(now, |(at, _)| at.min(u64::MAX / 2));
                }
            }
            while let Some(expected) = sorted.pop() {
                assert_eq!(queue.pop(), Some(expected));
            }
            assert_eq!(queue.pop(), None);
        }
    }

    #[test]
    #[should_panic(expected = "an event in the past")]
    fn nothing_happens_in_the_past() {
        let mut queue = Queue::default();
        queue.push(5, Event::End);
        queue.pop();
        queue.push(4, Event::End);
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
