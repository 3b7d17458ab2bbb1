//! What truly happened before what, for the tests of clocks: random traces of a few processes that
//! exchange messages, and the closure of their causality, computed without any clock.
//!
//! Source: Lamport, "Time, Clocks, and the Ordering of Events in a Distributed System" (1978): the
//! definition of "happened before".

/// Traces that each clock is tried on.
pub(super) const TRACES: u64 = 100_000;
/// Events of one trace, so that the past of each fits into a word.
const EVENTS_MAX: u64 = 32;

/// Numbers that look random (Steele, Lea and Flood 2014: SplitMix64).
pub(super) struct Dice(pub(super) u64);

impl Dice {
    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }
}

/// What a process does.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    /// Something of its own.
    Local,
    /// It sends a message, which arrives any number of times, or never.
    Send,
    /// It receives what was sent in that event.
    Receive(usize),
}

/// One event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Event {
    pub(super) process: usize,
    pub(super) act: Act,
    /// The events that happened before it, as bits.
    past: u64,
}

/// A trace: the events of all processes in an order in which they may have happened.
#[derive(Clone, Debug)]
pub(super) struct Trace {
    pub(super) processes: usize,
    pub(super) events: Vec<Event>,
}

impl Trace {
    pub(super) fn random(seed: u64) -> Trace {
        let mut dice = Dice(seed);
        let processes = 2 + dice.below(3) as usize;
        let mut trace = Trace { processes, events: Vec::new() };
        for _ in 0..4 + dice.below(EVENTS_MAX - 4) {
            let process = dice.below(processes as u64) as usize;
            let is_sent = |event: &Event| event.act == Act::Send && event.process != process;
            let sent: Vec<usize> =
                (0..trace.events.len()).filter(|at| is_sent(&trace.events[*at])).collect();
            let act = match dice.below(3) {
                0 => Act::Local,
                1 if !sent.is_empty() => Act::Receive(sent[dice.below(sent.len() as u64) as usize]),
                _ => Act::Send,
            };
            trace.push(process, act);
        }
        trace
    }

    fn push(&mut self, process: usize, act: Act) {
        let with = |at: usize| self.events[at].past | 1 << at;
        let own = self.events.iter().rposition(|event| event.process == process);
        let mut past = own.map_or(0, with);
        if let Act::Receive(from) = act {
            past |= with(from);
        }
        self.events.push(Event { process, act, past });
    }

    /// True if the event `one` happened before the event `other`: it may have caused it.
    pub(super) fn happened_before(&self, one: usize, other: usize) -> bool {
        self.events[other].past >> one & 1 == 1
    }

    /// All pairs of different events.
    pub(super) fn pairs(&self) -> impl Iterator<Item = (usize, usize)> {
        let count = self.events.len();
        (0..count)
            .flat_map(move |one| (0..count).map(move |other| (one, other)))
            .filter(|(one, other)| one != other)
    }
}

#[test]
fn the_past_of_an_event_is_what_the_definition_says() {
    let mut trace = Trace { processes: 3, events: Vec::new() };
    for (process, act) in [
        (0, Act::Send),
        (1, Act::Local),
        (1, Act::Receive(0)),
        (1, Act::Send),
        (2, Act::Receive(3)),
        (0, Act::Local),
    ] {
        trace.push(process, act);
    }
    assert!(trace.happened_before(0, 4), "through the second process");
    assert!(trace.happened_before(1, 3) && trace.happened_before(0, 5));
    assert!(!trace.happened_before(4, 5) && !trace.happened_before(5, 4), "concurrent");
    assert!(!trace.happened_before(1, 0) && !trace.happened_before(0, 1));
}
