//! What a leader knows of one follower, and how much it may send.
//!
//! ```text
//!              acknowledged                        rejected
//!    Probe ------------------> Replicate ------------------------> Probe
//!      |  one append at a time    |  appends pipelined, bounded      ^
//!      |                          |                                  |
//!      +--- needs what the log no longer holds ---> Snapshot --------+
//!                                                    sent or failed
//! ```
//!
//! All transitions are methods of this file. `matched` may go back in one case only: a follower
//! that lost acknowledged entries to its disk says so by rejecting them, and is sent them again.

use super::patience::Stopwatch;
use quorate_core::{Index, Time};
use std::collections::VecDeque;

/// What kind of conversation a leader has with a follower.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ProgressState {
    /// Looking for the place where the logs agree.
    Probe,
    /// Streaming entries without waiting for answers.
    Replicate,
    /// The layer above is sending a state, because the log no longer holds what is needed.
    Snapshot,
}

/// How much may be on its way to one follower.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) struct Limits {
    pub(super) appends_max: usize,
    pub(super) bytes_max: usize,
}

/// What may be sent to a follower now.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(super) enum Allowance {
    /// An append with as many entries as fit.
    Entries,
    /// An append without entries, to learn where the follower is.
    Empty,
    /// Nothing.
    Nothing,
}

/// What a leader knows of one follower.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct Progress {
    matched: Index,
    next: Index,
    flow: Flow,
    round: u64,
    commit_sent: Index,
    /// The last entry that it forwarded: it waits for the news that this is committed.
    forwarded: Index,
    heard: bool,
    /// It was heard in the time before that.
    heard_before: bool,
    moved: bool,
    /// It surely keeps what it promised until then, by the leader's clock.
    pub(super) promised_until: Time,
    /// From a heartbeat to its answer.
    pub(super) answer: Stopwatch,
    /// From an append to its acknowledgement, which waits for the disk.
    pub(super) disk: Stopwatch,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum Flow {
    Probe(Attempt),
    Replicate { inflight: VecDeque<(Index, usize)>, bytes: usize, nudge: bool },
    Snapshot,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Attempt {
    First,
    Again,
    Waiting,
}

impl Progress {
    /// A follower of whom nothing is known: its log may agree up to `last`.
    pub(super) fn new(last: Index) -> Progress {
        Progress {
            matched: Index(0),
            next: last.next(),
            flow: Flow::Probe(Attempt::First),
            round: 0,
            commit_sent: Index(0),
            forwarded: Index(0),
            heard: false,
            heard_before: false,
            moved: false,
            promised_until: Time::default(),
            answer: Stopwatch::default(),
            disk: Stopwatch::default(),
        }
    }

    /// A leader's own log, which ends at `last`: its disk is written to as a follower is sent to.
    pub(super) fn of_own(last: Index) -> Progress {
        let mut progress = Progress::new(last);
        progress.flow = Flow::Replicate { inflight: VecDeque::new(), bytes: 0, nudge: false };
        progress
    }

    /// Bytes that were sent and not acknowledged.
    pub(super) fn inflight_bytes(&self) -> usize {
        match &self.flow {
            Flow::Replicate { bytes, .. } => *bytes,
            Flow::Probe(_) | Flow::Snapshot => 0,
        }
    }

    /// Last index up to which the follower's durable log is known to be ours.
    pub(super) fn matched(&self) -> Index {
        self.matched
    }

    /// First index to send.
    pub(super) fn next(&self) -> Index {
        self.next
    }

    /// Latest round of heartbeats that the follower answered in this term.
    pub(super) fn round(&self) -> u64 {
        self.round
    }

    /// True if the follower was heard since the last call of [`Progress::forget_heard`].
    pub(super) fn is_heard(&self) -> bool {
        self.heard
    }

    /// The highest commit index that the follower was told.
    pub(super) fn commit_sent(&self) -> Index {
        self.commit_sent
    }

    pub(super) fn state(&self) -> ProgressState {
        match self.flow {
            Flow::Probe(_) => ProgressState::Probe,
            Flow::Replicate { .. } => ProgressState::Replicate,
            Flow::Snapshot => ProgressState::Snapshot,
        }
    }

    pub(super) fn hear(&mut self) {
        self.heard = true;
    }

    pub(super) fn forget_heard(&mut self) {
        self.heard_before = std::mem::take(&mut self.heard);
    }

    /// True if the follower was heard lately: since the last call but one of
    /// [`Progress::forget_heard`].
    pub(super) fn is_alive(&self) -> bool {
        self.heard || self.heard_before
    }

    pub(super) fn answered(&mut self, round: u64) {
        self.round = self.round.max(round);
    }

    /// True if it waits for news of an entry which it forwarded.
    pub(super) fn waits_for_news(&self) -> bool {
        self.forwarded > self.commit_sent
    }

    pub(super) fn forwarded(&mut self, last: Index) {
        self.forwarded = self.forwarded.max(last);
    }

    pub(super) fn told_commit(&mut self, commit: Index) {
        self.commit_sent = self.commit_sent.max(commit);
    }

    /// The follower holds our log, durably, up to `index`. `base` is the last index that our log
    /// no longer holds.
    pub(super) fn acknowledge(&mut self, index: Index, base: Index) {
        self.moved = true;
        self.matched = self.matched.max(index);
        match &mut self.flow {
            Flow::Probe(_) => self.replicate(),
            Flow::Replicate { inflight, bytes, .. } => {
                while inflight.front().is_some_and(|(last, _)| *last <= self.matched) {
                    *bytes -= inflight.pop_front().map_or(0, |(_, size)| size);
                }
                self.next = self.next.max(self.matched.next());
            }
            Flow::Snapshot if self.matched >= base => self.replicate(),
            Flow::Snapshot => self.next = self.next.max(self.matched.next()),
        }
    }

    /// The follower has no entry of ours at `prev`; the logs may agree at `agreeing`.
    pub(super) fn reject(&mut self, prev: Index, agreeing: Index) {
        assert!(agreeing < prev, "a rejection of {prev} that agrees at {agreeing}");
        match self.flow {
            Flow::Snapshot => return,
            Flow::Probe(_) if prev > self.matched && self.next != prev.next() => return, // stale
            Flow::Probe(_) | Flow::Replicate { .. } => {}
        }
        if prev <= self.matched {
            if agreeing >= self.matched {
                return; // stale: it was acknowledged since
            }
            self.matched = agreeing;
        }
        self.probe_after(agreeing.max(self.matched));
    }

    /// The follower holds a state as of `index`, as the layer above says.
    pub(super) fn snapshot_sent(&mut self, index: Index) {
        if self.flow == Flow::Snapshot {
            self.probe_after(index.max(self.matched));
        }
    }

    /// The follower got no state: find out what it holds, later.
    pub(super) fn snapshot_failed(&mut self) {
        if self.flow == Flow::Snapshot {
            self.next = self.matched.next();
            self.flow = Flow::Probe(Attempt::Waiting);
        }
    }

    /// An append that ends at `last`, with entries, leaves now.
    pub(super) fn clock_append(&mut self, last: Index, now: Time) {
        self.disk.begin(last.0, now);
    }

    /// The log no longer holds what the follower needs.
    pub(super) fn needs_snapshot(&mut self) {
        self.disk.give_up();
        self.flow = Flow::Snapshot;
    }

    /// What may be sent now, if the log ends at `last`.
    pub(super) fn allowance(&self, last: Index, limits: Limits) -> Allowance {
        match &self.flow {
            Flow::Probe(Attempt::First) => Allowance::Entries,
            Flow::Probe(Attempt::Again) => Allowance::Empty,
            Flow::Probe(Attempt::Waiting) | Flow::Snapshot => Allowance::Nothing,
            Flow::Replicate { inflight, bytes, nudge } => {
                let full = inflight.len() >= limits.appends_max || *bytes >= limits.bytes_max;
                match (self.next <= last && !full, nudge) {
                    (true, _) => Allowance::Entries,
                    (false, true) => Allowance::Empty,
                    (false, false) => Allowance::Nothing,
                }
            }
        }
    }

    /// An append that ends at `last` was sent, with entries of `size` bytes.
    pub(super) fn sent(&mut self, last: Index, size: usize) {
        match &mut self.flow {
            Flow::Probe(attempt) => *attempt = Attempt::Waiting,
            Flow::Replicate { inflight, bytes, nudge } => {
                *nudge = false;
                if last >= self.next {
                    inflight.push_back((last, size));
                    *bytes += size;
                    self.next = last.next();
                }
            }
            Flow::Snapshot => panic!("an append to a follower that needs a snapshot"),
        }
    }

    /// A heartbeat interval has passed: what was not answered is asked for again.
    pub(super) fn tick(&mut self) {
        match &mut self.flow {
            Flow::Probe(Attempt::First) | Flow::Snapshot => {}
            Flow::Probe(attempt) => *attempt = Attempt::Again,
            Flow::Replicate { nudge, .. } => {
                *nudge = !self.moved && self.next > self.matched.next()
            }
        }
        self.moved = false;
    }

    /// Panics if the parts contradict each other.
    pub(super) fn invariants(&self, last: Index) {
        assert!(self.matched < self.next, "matched {} but next is {}", self.matched, self.next);
        assert!(self.matched <= last, "matched {} beyond the log's end {last}", self.matched);
        if let Flow::Replicate { inflight, bytes, .. } = &self.flow {
            assert!(inflight.is_empty() == (*bytes == 0), "bytes without appends in flight");
            assert!(inflight.front().is_none_or(|(first, _)| *first > self.matched));
        }
    }

    fn replicate(&mut self) {
        self.next = self.matched.next();
        self.flow = Flow::Replicate { inflight: VecDeque::new(), bytes: 0, nudge: false };
    }

    fn probe_after(&mut self, index: Index) {
        self.disk.give_up();
        self.next = index.next();
        self.flow = Flow::Probe(Attempt::First);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: Limits = Limits { appends_max: 2, bytes_max: 100 };
    const LAST: Index = Index(50);

    #[test]
    fn a_probe_waits_for_its_answer_and_asks_again_without_entries() {
        let mut progress = Progress::new(LAST);
        assert_eq!(progress.allowance(LAST, LIMITS), Allowance::Entries);
        progress.sent(LAST, 0);
        assert_eq!(progress.allowance(LAST, LIMITS), Allowance::Nothing);
        progress.tick();
        assert_eq!(progress.allowance(LAST, LIMITS), Allowance::Empty);
    }

    #[test]
    fn a_stream_is_bounded_by_count_and_by_bytes() {
        let mut progress = Progress::new(Index(10));
        progress.acknowledge(Index(10), Index(0));
        progress.sent(Index(11), 10);
        assert_eq!(progress.allowance(LAST, LIMITS), Allowance::Entries);
        progress.sent(Index(12), 10);
        assert_eq!(progress.allowance(LAST, LIMITS), Allowance::Nothing, "two appends in flight");
        progress.acknowledge(Index(12), Index(0));
        progress.sent(Index(13), 100);
        assert_eq!(progress.allowance(LAST, LIMITS), Allowance::Nothing, "100 bytes in flight");
    }

    #[test]
    fn a_stream_that_got_stuck_is_nudged() {
        let mut progress = Progress::new(Index(10));
        progress.acknowledge(Index(10), Index(0));
        progress.sent(Index(50), 10);
        progress.tick(); // moved since the last tick
        assert_eq!(progress.allowance(LAST, LIMITS), Allowance::Nothing);
        progress.tick();
        assert_eq!(progress.allowance(LAST, LIMITS), Allowance::Empty);
    }

    #[test]
    fn a_follower_that_lost_what_it_acknowledged_is_sent_it_again() {
        let mut progress = Progress::new(Index(10));
        progress.acknowledge(Index(10), Index(0));
        progress.reject(Index(10), Index(4));
        assert_eq!((progress.matched(), progress.next()), (Index(4), Index(5)));
        assert_eq!(progress.state(), ProgressState::Probe);
    }

    #[test]
    fn a_late_rejection_is_ignored() {
        let mut progress = Progress::new(Index(10));
        progress.reject(Index(10), Index(7));
        assert_eq!(progress.next(), Index(8));
        progress.reject(Index(10), Index(2));
        assert_eq!(progress.next(), Index(8));
    }

    #[derive(Clone, Debug)]
    enum Event {
        Acknowledge(u64),
        Reject(u64, u64),
        Send(usize),
        Tick,
        Needs,
        Sent(u64),
        Failed,
    }

    fn event() -> impl Strategy<Value = Event> {
        prop_oneof![
            (0u64..50).prop_map(Event::Acknowledge),
            (1u64..50, 0u64..50).prop_map(|(prev, at)| Event::Reject(prev, at % prev)),
            (1usize..60).prop_map(Event::Send),
            Just(Event::Tick),
            Just(Event::Needs),
            (0u64..50).prop_map(Event::Sent),
            Just(Event::Failed),
        ]
    }

    proptest! {
        #[test]
        fn no_order_of_events_breaks_an_invariant(
            events in proptest::collection::vec(event(), 0..60),
        ) {
            let mut progress = Progress::new(Index(20));
            let mut unanswered = 0;
            for event in events {
                match event {
                    Event::Acknowledge(index) => progress.acknowledge(Index(index), Index(5)),
                    Event::Reject(prev, at) => progress.reject(Index(prev), Index(at)),
                    Event::Send(size) => match progress.allowance(LAST, LIMITS) {
                        Allowance::Entries if progress.next() <= LAST => {
                            progress.sent(progress.next(), size);
                        }
                        Allowance::Entries | Allowance::Empty => {
                            progress.sent(progress.next().prev(), 0);
                        }
                        Allowance::Nothing => unanswered += 1,
                    },
                    Event::Tick => progress.tick(),
                    Event::Needs => progress.needs_snapshot(),
                    Event::Sent(index) => progress.snapshot_sent(Index(index)),
                    Event::Failed => progress.snapshot_failed(),
                }
                progress.invariants(LAST);
            }
            prop_assert!(unanswered <= 60);
        }
    }
}
