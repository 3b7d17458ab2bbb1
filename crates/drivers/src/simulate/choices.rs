//! The choice log: everything that a run leaves open is drawn here, as (site, bound, value).
//!
//! Problem: a simulator must replay a run, vary it, make a failing one smaller, and enumerate all
//! of a small space. With a bare random generator these are four mechanisms, and the third is
//! hardly possible: take one number away and every later one means something else.
//!
//! Idea: each draw names its *site*, what the choice is about, such as "delay on the link from
//! n1 to n2", and the number of options. Value 0 is always the simplest option: no fault, the least
//! delay, the first node. Where the value comes from is exchangeable:
//!
//! | source | a run is |
//! |---|---|
//! | a seed | one sample; its distribution over sites is what swarm testing varies |
//! | a log | replayed; each site reads a stream of its own, so that an entry which is deleted or lowered leaves the others where they were; a stream that has ended gives 0 |
//! | an edited log | the same, but what is drawn for a message, timer or sync is found by its true time |
//! | a path | one of all: [`Choices::next_path`] steps through every combination |
//!
//! The generator is xoshiro256++ (Blackman and Vigna, "Scrambled Linear Pseudorandom Number
//! Generators", 2021), seeded by SplitMix64: pinned, so that a seed means the same for ever.
//! Enumeration by replaying a path is the trick of TigerBeetle's exhaustigen.
//!
//! Bounds: a log is kept only on request; 32 bytes an entry, at most [`LOG_MAX`] entries, beyond
//! which the run still goes on and the log says that it is incomplete.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Entries of a log, at most.
pub const LOG_MAX: usize = 16 << 20;

/// One in so many draws is the unit of a rate.
pub const MILLION: u64 = 1_000_000;

/// What a choice is about. Order: the order of a log that is sorted by site.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum About {
    /// The shape of the run: nodes, faults that take part, rates.
    Setup,
    /// Whether a message that could be delivered is. The seed never loses one here; an edited log
    /// may, where the model allows it.
    Deliver,
    /// The delay of a message.
    Delay,
    /// The loss of a message.
    Loss,
    /// The doubling of a message.
    Twice,
    /// The jitter of a timer.
    Timer,
    /// A choice of the protocol itself.
    Protocol,
    /// How long a sync takes.
    Sync,
    /// What a crash leaves on a disk.
    Crash,
    /// Whether a fault begins.
    Fault,
    /// How a fault looks: whom it hits, for how long.
    Shape,
    /// What a faulty node or an arbitrary network does with a message.
    Malice,
    /// Whether a client does something, and what.
    Client,
    /// How a client does it.
    Detail,
}

/// A place where choices are made: what about, and which one of those.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Site {
    /// What about.
    pub about: About,
    /// Which node, link, client or kind of fault.
    pub which: u32,
}

impl Site {
    /// The site number `which` of those about `about`.
    pub const fn new(about: About, which: usize) -> Site {
        Site { about, which: which as u32 }
    }

    /// The site of the link between two nodes: the same however many nodes there are.
    pub(super) const fn link(about: About, from: usize, to: usize) -> Site {
        Site::new(about, from << 16 | to)
    }
}

impl fmt::Debug for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}]", self.about, self.which)
    }
}

/// One entry of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Choice {
    /// What about.
    pub site: Site,
    /// There were so many options.
    pub bound: u64,
    /// This one was taken.
    pub value: u64,
    /// True time of the draw. Unit: nanoseconds.
    pub at: u64,
}

/// A log of choices, in the order in which they were drawn.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ChoiceLog {
    /// The entries.
    pub entries: Vec<Choice>,
    /// More were drawn than a log holds.
    pub incomplete: bool,
}

/// Where choices come from, and the log of them.
#[derive(Debug)]
pub struct Choices {
    source: Source,
    log: Option<ChoiceLog>,
    /// What is drawn is no longer noted.
    closed: bool,
    /// True time, as the kernel sets it.
    pub(super) now: u64,
}

#[derive(Debug)]
enum Source {
    Seed(Xoshiro),
    Log(BTreeMap<Site, Stream>),
    Path { path: Vec<(u64, u64)>, depth: usize },
}

/// The choices of one site that are read back.
#[derive(Debug, Default)]
struct Stream {
    /// When each was drawn, and what.
    entries: Vec<(u64, u64)>,
    next: usize,
    /// A draw reads what was drawn at the same true time, not what is next.
    timed: bool,
}

impl Stream {
    fn read(&mut self, site: Site, now: u64) -> u64 {
        while self.timed && self.entries.get(self.next).is_some_and(|(at, _)| *at < now) {
            self.next += 1;
        }
        match self.entries.get(self.next) {
            Some((at, value)) if !self.timed || *at == now => {
                self.next += 1;
                *value
            }
            // Timers that all go off at once would be the most special case, not the simplest.
            _ if self.timed && site.about == About::Timer => {
                let mut state = now ^ u64::from(site.which) << 48;
                split_mix(&mut state) >> 34
            }
            _ => 0,
        }
    }
}

impl About {
    /// True for what is drawn again and again while a run goes on, once for each message, timer
    /// or sync.
    fn is_of_the_moment(self) -> bool {
        match self {
            About::Deliver | About::Delay | About::Loss | About::Twice | About::Timer => true,
            About::Protocol | About::Sync | About::Malice => true,
            About::Setup | About::Crash | About::Fault | About::Shape => false,
            About::Client | About::Detail => false,
        }
    }
}

impl Choices {
    /// Drawn at random.
    pub fn from_seed(seed: u64) -> Choices {
        Choices { source: Source::Seed(Xoshiro::new(seed)), log: None, closed: false, now: 0 }
    }

    /// Read back, site by site. What the log does not hold is 0.
    pub fn from_log(log: &[Choice]) -> Choices {
        Choices::from_streams(log, |_| false)
    }

    /// Read back from a log that was edited. What is drawn for a message, a timer or a sync is what
    /// was drawn at the same true time, so that an edit changes what it leads to, and nothing
    /// beside it; where there is nothing, timers have any jitter, and all else is 0.
    pub(super) fn from_edited(log: &[Choice]) -> Choices {
        Choices::from_streams(log, About::is_of_the_moment)
    }

    fn from_streams(log: &[Choice], is_timed: impl Fn(About) -> bool) -> Choices {
        let mut streams: BTreeMap<Site, Stream> = BTreeMap::new();
        for choice in log {
            let stream = streams.entry(choice.site).or_default();
            stream.timed = is_timed(choice.site.about);
            stream.entries.push((choice.at, choice.value));
        }
        Choices { source: Source::Log(streams), log: None, closed: false, now: 0 }
    }

    /// The first of all combinations: every value 0. See [`Choices::next_path`].
    pub fn from_path(path: Vec<(u64, u64)>) -> Choices {
        Choices { source: Source::Path { path, depth: 0 }, log: None, closed: false, now: 0 }
    }

    /// From now on, what is drawn is also noted.
    #[must_use]
    pub fn logged(mut self) -> Choices {
        self.log = Some(ChoiceLog::default());
        self
    }

    /// A number below `bound`.
    ///
    /// Panics: if `bound` is zero.
    #[inline]
    pub fn draw(&mut self, site: Site, bound: u64) -> u64 {
        assert!(bound > 0, "a choice among nothing at {site:?}");
        match (&mut self.source, &self.log) {
            // Nearly every draw of a campaign.
            (Source::Seed(generator), None) => generator.below(bound),
            _ => self.draw_and_note(site, bound),
        }
    }

    fn draw_and_note(&mut self, site: Site, bound: u64) -> u64 {
        let value = match &mut self.source {
            Source::Seed(generator) => generator.below(bound),
            Source::Log(streams) => read(streams, site, bound, self.now),
            Source::Path { path, depth } => walk(path, depth, bound),
        };
        self.note(site, bound, value);
        value
    }

    /// True in `per_million` of a million draws. A rate of 0 draws nothing.
    ///
    /// A choice of two, 0 for "no": the rate is how a seed weighs them, and no part of the log. So
    /// the log of a run without faults is all zeros, and an edit can undo a certainty.
    #[inline]
    pub fn chance(&mut self, site: Site, per_million: u64) -> bool {
        per_million > 0 && self.weighed(site, per_million)
    }

    fn weighed(&mut self, site: Site, per_million: u64) -> bool {
        let value = match &mut self.source {
            Source::Seed(generator) => {
                u64::from(generator.below(MILLION) >= MILLION - per_million.min(MILLION))
            }
            Source::Log(streams) => read(streams, site, 2, self.now),
            Source::Path { path, depth } => walk(path, depth, 2),
        };
        self.note(site, 2, value);
        value == 1
    }

    /// A choice that no seed ever makes: it is there for those who edit a log.
    #[inline]
    pub(super) fn edited(&mut self, site: Site) -> bool {
        let is_drawn = matches!(self.source, Source::Seed(_)) && self.log.is_none();
        !is_drawn && self.edited_and_noted(site)
    }

    fn edited_and_noted(&mut self, site: Site) -> bool {
        let value = match &mut self.source {
            Source::Seed(_) | Source::Path { .. } => 0,
            Source::Log(streams) => read(streams, site, 2, self.now),
        };
        self.note(site, 2, value);
        value == 1
    }

    /// From now on, everything is drawn from a generator of its own, whose seed is the last choice
    /// that a log holds: nobody can edit what follows. All of a path goes on as it was.
    ///
    /// For the calm at the end of a run. It must be fair, or nothing could be demanded of it: a
    /// cluster whose timers all have the same jitter, as zeros have, elects nobody for ever.
    pub(super) fn close(&mut self, site: Site) {
        let seed = self.draw(site, 1 << 32);
        if !matches!(self.source, Source::Path { .. }) {
            self.source = Source::Seed(Xoshiro::new(seed));
            self.closed = true;
        }
    }

    /// The log, if one was kept.
    pub fn into_log(self) -> Option<ChoiceLog> {
        self.log
    }

    /// The next combination after the one that was drawn here: the last choice that has another
    /// option takes it, and those after it begin anew. None after the last.
    ///
    /// Panics: if the choices did not come from a path.
    pub fn next_path(self) -> Option<Vec<(u64, u64)>> {
        let Source::Path { mut path, depth } = self.source else {
            panic!("only a path has a next one")
        };
        path.truncate(depth);
        while let Some((value, bound)) = path.pop() {
            if value + 1 < bound {
                path.push((value + 1, bound));
                return Some(path);
            }
        }
        None
    }

    fn note(&mut self, site: Site, bound: u64, value: u64) {
        if let Some(log) = self.log.as_mut().filter(|_| !self.closed) {
            match log.entries.len() < LOG_MAX {
                true => log.entries.push(Choice { site, bound, value, at: self.now }),
                false => log.incomplete = true,
            }
        }
    }
}

fn read(streams: &mut BTreeMap<Site, Stream>, site: Site, bound: u64, now: u64) -> u64 {
    let Some(stream) = streams.get_mut(&site) else { return 0 };
    stream.read(site, now).min(bound - 1)
}

fn walk(path: &mut Vec<(u64, u64)>, depth: &mut usize, bound: u64) -> u64 {
    if path.len() == *depth {
        path.push((0, bound));
    }
    let (value, was) = path[*depth];
    assert_eq!(was, bound, "the same path led to another choice: something else decides");
    *depth += 1;
    value
}

/// xoshiro256++.
#[derive(Clone, Debug)]
struct Xoshiro([u64; 4]);

impl Xoshiro {
    fn new(seed: u64) -> Xoshiro {
        let mut state = seed;
        Xoshiro([0; 4].map(|_: u64| split_mix(&mut state)))
    }

    #[inline]
    fn next(&mut self) -> u64 {
        let s = &mut self.0;
        let result = s[0].wrapping_add(s[3]).rotate_left(23).wrapping_add(s[0]);
        let t = s[1] << 17;
        s[2] ^= s[0];
        s[3] ^= s[1];
        s[1] ^= s[2];
        s[0] ^= s[3];
        s[2] ^= t;
        s[3] = s[3].rotate_left(45);
        result
    }

    /// By multiplication (Lemire 2019), without rejection: the bias is below 2^-40 for the bounds
    /// that occur here.
    #[inline]
    fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// SplitMix64 (Steele, Lea and Flood 2014): spreads seeds that lie close together.
pub(super) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Site = Site::new(About::Delay, 1);
    const B: Site = Site::new(About::Delay, 2);

    fn draw_some(choices: &mut Choices) -> Vec<u64> {
        (0..40).map(|i| choices.draw(if i % 3 == 0 { A } else { B }, 10 + i)).collect()
    }

    #[test]
    fn the_generator_is_the_published_one() {
        let mut generator = Xoshiro([1, 2, 3, 4]);
        let first: Vec<u64> = (0..4).map(|_| generator.next()).collect();
        assert_eq!(first, [41_943_041, 58_720_359, 3_588_806_011_781_223, 3_591_011_842_654_386]);
    }

    #[test]
    fn a_log_replays_what_a_seed_drew() {
        let mut drawn = Choices::from_seed(7).logged();
        let first = draw_some(&mut drawn);
        let log = drawn.into_log().expect("a log was kept");
        assert_eq!(draw_some(&mut Choices::from_log(&log.entries)), first);
    }

    #[test]
    fn deleting_an_entry_leaves_other_sites_alone_and_an_ended_stream_gives_0() {
        let mut drawn = Choices::from_seed(7).logged();
        draw_some(&mut drawn);
        let mut entries = drawn.into_log().expect("a log was kept").entries;
        let of_b: Vec<u64> = entries.iter().filter(|c| c.site == B).map(|c| c.value).collect();
        entries.retain(|choice| choice.site == B);
        let mut edited = Choices::from_log(&entries);
        assert_eq!(edited.draw(A, 100), 0);
        for value in of_b {
            assert_eq!(edited.draw(B, 100), value);
        }
        assert_eq!(edited.draw(B, 100), 0);
    }

    #[test]
    fn paths_enumerate_every_combination_once() {
        let mut seen = Vec::new();
        let mut next = Some(Vec::new());
        while let Some(path) = next {
            let mut choices = Choices::from_path(path);
            let first = choices.draw(A, 3);
            // The second choice is there only on some paths.
            let second = if first > 0 { choices.draw(B, 2) } else { 9 };
            seen.push((first, second));
            next = choices.next_path();
        }
        assert_eq!(seen, [(0, 9), (1, 0), (1, 1), (2, 0), (2, 1)]);
    }

    #[test]
    fn in_an_edited_log_a_message_finds_its_choices_by_time_and_a_fault_by_order() {
        let fault = Site::new(About::Fault, 1);
        let choice = |site, value, at| Choice { site, bound: 100, value, at };
        let log = [
            choice(A, 7, 10),
            choice(A, 8, 20),
            choice(A, 9, 20),
            choice(A, 10, 30),
            choice(fault, 11, 10),
            choice(fault, 12, 30),
        ];
        let mut edited = Choices::from_edited(&log);
        let mut draw = |site, at| {
            edited.now = at;
            edited.draw(site, 100)
        };
        assert_eq!((draw(A, 5), draw(A, 10)), (0, 7), "a message more takes nothing away");
        assert_eq!((draw(A, 20), draw(A, 20)), (8, 9));
        assert_eq!((draw(A, 20), draw(A, 31)), (0, 0));
        assert_eq!((draw(fault, 77), draw(fault, 99), draw(fault, 99)), (11, 12, 0));
    }

    #[test]
    fn what_follows_the_end_of_a_log_is_drawn_from_its_last_choice() {
        let mut drawn = Choices::from_seed(7).logged();
        draw_some(&mut drawn);
        drawn.close(Site::new(About::Setup, 9));
        let after = draw_some(&mut drawn);
        let log = drawn.into_log().expect("a log was kept").entries;
        assert_eq!(log.len(), 41, "what followed is not in it");
        let mut again = Choices::from_log(&log[39..]);
        again.close(Site::new(About::Setup, 9));
        assert_eq!(draw_some(&mut again), after, "whatever became of the entries before");
    }

    #[test]
    fn a_chance_has_its_rate() {
        let mut choices = Choices::from_seed(1);
        let hits = (0..100_000).filter(|_| choices.chance(A, 50_000)).count();
        assert!((4_700..5_300).contains(&hits), "{hits} of 100,000 at 5 %");
        assert!(!choices.chance(A, 0));
        assert!(choices.chance(A, MILLION));
    }

    #[test]
    fn a_chance_is_logged_as_yes_or_no_and_even_a_certain_one_can_be_edited_away() {
        let mut drawn = Choices::from_seed(1).logged();
        let hits: Vec<bool> = (0..100).map(|_| drawn.chance(A, 300_000)).collect();
        assert!(drawn.chance(A, MILLION));
        let mut log = drawn.into_log().expect("a log was kept").entries;
        assert!(log.iter().all(|choice| choice.bound == 2 && choice.value < 2));
        log[100].value = 0;
        let mut edited = Choices::from_log(&log);
        assert_eq!((0..100).map(|_| edited.chance(A, 1)).collect::<Vec<_>>(), hits);
        assert!(!edited.chance(A, MILLION));
    }
}
