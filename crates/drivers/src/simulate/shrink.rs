//! The shrinker: from a run that breaks a property to a small one that breaks the same property.
//!
//! Problem: the run that a campaign finds has minutes, thousands of messages and a dozen faults,
//! and a handful of them matter. A reader wants the handful.
//!
//! Idea: the run is its choice log, so a smaller run is an edited log, and whether an edit still
//! tells the story is found by running it. An edit is kept if the *same property* breaks and the
//! measure falls. Then the log is recorded anew from that run, because an edited run may draw other
//! choices than the one that it was made from.
//!
//! | pass | edit | makes fewer |
//! |---|---|---|
//! | other seeds | none: another seed, half of the time, the kinds of faults that are left | of
//! everything |
//! | time | the phase of faults ends where the property breaks, or earlier | seconds |
//! | nodes, kinds | the plan | nodes, kinds of faults |
//! | slices | all entries of a stretch of time are deleted: what comes later comes earlier | seconds |
//! | faults, clients | entries are deleted, or set to 0 | faults, operations |
//! | deliveries | set to 1: this message is lost | messages |
//! | the rest | set to 0, then halved | delays, odd values |
//!
//! Each pass over a log is delta debugging (Zeller and Hildebrandt, "Simplifying and Isolating
//! Failure-Inducing Input", 2002) in its greedy form: large chunks first, then halves of them. That
//! a run is shrunk by what it was generated from is the trick of Hypothesis (MacIver and Donaldson,
//! "Test-Case Reduction via Test-Case Generation", 2020). A distributed system is chaotic, though:
//! one message less moves the delays of all later ones. So an edited log is read in two ways, in
//! turns: by order ([`Origin::Log`]), so that what follows closes up; and by true time where it
//! speaks of messages ([`Origin::Edited`]), so that an edit stays where it was made.
//!
//! The measure, in this order: [`Tally::size`](super::Tally::size), the events that make the story;
//! all events, so that it is told without idle time; the choices that are not 0; the bits of their
//! values.
//!
//! Bounds: the caller's budget of runs, and of whatever else it looks at. A result is there from
//! the first moment on, so that giving up early costs size and nothing else. The result depends on
//! the budget alone, not on time, unless the caller cancels by time.

use super::choices::{About, Choice, Site, split_mix};
use super::run::{Keep, Origin, Outcome, Plan, Violation};
use super::subject::Subject;
use super::tally::Tally;
use std::collections::BTreeSet;

/// Other seeds that are tried in one pass.
const SEEDS: u64 = 40;
/// Smallest parts into which the first round cuts a log; each round cuts finer by as much.
const FINENESS: usize = 8;
/// Rounds, at most; the last are as fine as a single choice for any log that fits.
const ROUNDS_MAX: u32 = 12;
/// Choices that are lowered one by one, at most.
const LOWERED_MAX: usize = 400;
/// A system is given so long to recover in an edited run, if something else breaks meanwhile.
/// Unit: nanoseconds.
const LIVENESS: u64 = 5_000_000_000;

/// How much may be spent.
pub struct Budget<'a> {
    /// Runs, at most.
    pub runs: u64,
    /// Asked before each run: true to stop.
    pub cancel: &'a dyn Fn() -> bool,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Shrinking {
    /// Runs so far.
    pub runs: u64,
    /// Events of the smallest story so far.
    pub size: u64,
    /// And its choices that are not 0.
    pub choices: usize,
}

/// The smallest run that was found.
#[derive(Clone, Debug)]
pub struct Shrunk {
    /// The plan of it.
    pub plan: Plan,
    /// Its choices: run it with [`Origin::Log`].
    pub log: Vec<Choice>,
    /// What breaks in it.
    pub violation: Violation,
    /// Its digest.
    pub digest: u64,
    /// Its events that a reader has to follow.
    pub size: u64,
    /// Those of the run that it was made from.
    pub size_before: u64,
    /// Runs that it took.
    pub runs: u64,
}

/// What is minimised, in this order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Measure {
    size: u64,
    events: u64,
    /// Choices that are not 0.
    odd: usize,
    bits: u64,
    /// What the plan leaves open: numbers of nodes, kinds of faults.
    open: usize,
}

impl Measure {
    fn of(tally: &Tally, plan: &Plan, log: &[Choice]) -> Measure {
        let Tally { size, events, .. } = *tally;
        let odd = log.iter().filter(|choice| choice.value > 0);
        let bits = odd.clone().map(|choice| u64::from(64 - choice.value.leading_zeros())).sum();
        Measure { size, events, odd: odd.count(), bits, open: plan.nodes.len() + plan.faults.len() }
    }
}

/// What is done to the chosen entries of a log.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Edit {
    /// Later entries of the same sites take their places, or what those entries are about is
    /// drawn as if nobody had chosen.
    Delete,
    /// The time from the first to the last of them is cut out: what comes later comes earlier.
    Cut,
    /// The simplest option.
    Zero,
    /// The delivery is a loss.
    Lose,
    /// Half the value.
    Halve,
}

/// Makes the run of `seed` smaller.
///
/// None if it does not break a property when it is replayed from its log.
pub fn shrink(
    subject: &dyn Subject,
    plan: &Plan,
    seed: u64,
    budget: &Budget<'_>,
    report: &mut dyn FnMut(Shrinking),
) -> Option<Shrunk> {
    let first = subject.run(plan, Origin::Seed(seed), Keep::Choices);
    let violation = first.violation?;
    let log = first.log.filter(|log| !log.incomplete)?.entries;
    let replayed = subject.run(plan, Origin::Log(&log), Keep::Outcome);
    if replayed.digest != first.digest {
        return None;
    }
    let size_before = first.tally.size;
    let measure = Measure::of(&first.tally, plan, &log);
    let digest = first.digest;
    let best = Best { plan: plan.clone(), log, measure, violation, digest };
    let mut shrinker = Shrinker { subject, best, runs: 2, seed, by_order: true, budget, report };
    shrinker.shrink();
    let Best { plan, log, measure, violation, digest } = shrinker.best;
    let size = measure.size;
    Some(Shrunk { plan, log, violation, digest, size, size_before, runs: shrinker.runs })
}

struct Best {
    plan: Plan,
    log: Vec<Choice>,
    measure: Measure,
    violation: Violation,
    digest: u64,
}

struct Shrinker<'a> {
    subject: &'a dyn Subject,
    best: Best,
    runs: u64,
    /// The generator of other seeds.
    seed: u64,
    /// Edited logs are read as [`Origin::Log`] says, and not as [`Origin::Edited`].
    by_order: bool,
    budget: &'a Budget<'a>,
    report: &'a mut dyn FnMut(Shrinking),
}

impl Shrinker<'_> {
    fn shrink(&mut self) {
        let mut fineness = FINENESS;
        for round in 0..ROUNDS_MAX {
            let before = self.best.measure;
            self.by_order = round % 2 == 0;
            self.time();
            self.nodes();
            self.kinds();
            self.other_seeds();
            self.slices(fineness);
            self.edits(fineness);
            if self.is_spent()
                || (self.best.measure == before && fineness > self.best.log.len() && !self.by_order)
            {
                break;
            }
            if !self.by_order {
                fineness = fineness.saturating_mul(FINENESS);
            }
        }
    }

    /// An edited log is read by time and by order in turns: what stands still in one of them often
    /// moves in the other.
    fn origin<'log>(&self, edited: &'log [Choice]) -> Origin<'log> {
        match self.by_order {
            false => Origin::Edited(edited),
            true => Origin::Log(edited),
        }
    }

    fn is_spent(&self) -> bool {
        self.runs >= self.budget.runs || (self.budget.cancel)()
    }

    /// Runs an edited run, and keeps it if it is smaller. False when nothing may be spent either.
    fn attempt(&mut self, plan: Plan, origin: Origin<'_>) -> bool {
        if self.is_spent() {
            return false;
        }
        self.runs += 1;
        let Outcome { violation, log, tally, digest, .. } =
            self.subject.run(&plan, origin, Keep::Choices);
        let Some(violation) = violation else { return false };
        let Some(log) = log.filter(|log| !log.incomplete) else { return false };
        if violation.property != self.best.violation.property {
            return false;
        }
        let log = log.entries;
        let measure = Measure::of(&tally, &plan, &log);
        let is_smaller = measure < self.best.measure
            || (measure == self.best.measure && violation.at < self.best.violation.at);
        if is_smaller {
            self.best = Best { plan, log, measure, violation, digest };
            let Measure { size, odd, .. } = measure;
            (self.report)(Shrinking { runs: self.runs, size, choices: odd });
        }
        is_smaller
    }

    fn attempt_plan(&mut self, plan: Plan) -> bool {
        let log = self.best.log.clone();
        self.attempt(plan, self.origin(&log))
    }

    /// The faults end when the property breaks. If it breaks later than they end, they end earlier.
    fn time(&mut self) {
        let is_liveness = self.best.violation.property == "liveness";
        loop {
            let plan = &mut self.best.plan;
            let at = self.best.violation.at;
            if at < plan.safety {
                // Nothing of the run changes: its events lie before. An edited run that has come
                // so far without a violation is of no use, and need not recover.
                plan.safety = at + 1;
                plan.liveness = 1;
                return;
            }
            if !is_liveness {
                plan.liveness = plan.liveness.min(LIVENESS);
            }
            let mut shorter = plan.clone();
            shorter.safety /= 2;
            if shorter.safety == 0 || !self.attempt_plan(shorter) {
                return;
            }
        }
    }

    /// Fewer nodes: the smallest number at which the property still breaks.
    fn nodes(&mut self) {
        let mut counts = self.best.plan.nodes.clone();
        counts.sort_unstable();
        for count in counts {
            if self.best.plan.nodes == [count] {
                return;
            }
            let plan = self.best.plan.clone().with_nodes(count);
            if self.attempt_plan(plan) {
                return;
            }
        }
    }

    /// Fewer kinds of faults: none, then without each half, quarter, and so on of them.
    fn kinds(&mut self) {
        let mut chunk = self.best.plan.faults.len();
        while chunk > 0 {
            let mut from = 0;
            while from < self.best.plan.faults.len() {
                let mut plan = self.best.plan.clone();
                plan.faults.drain(from..(from + chunk).min(plan.faults.len()));
                if !self.attempt_plan(plan) {
                    from += chunk;
                }
            }
            chunk /= 2;
        }
    }

    /// Searching anew in a smaller world is often faster than making a large run smaller.
    fn other_seeds(&mut self) {
        for number in 0..SEEDS {
            let mut plan = self.best.plan.clone();
            // No kind is left that is not needed.
            plan.all = true;
            plan.safety = (plan.safety / (1 + number % 2)).max(1);
            let seed = split_mix(&mut self.seed);
            if self.attempt(plan, Origin::Seed(seed)) {
                self.time();
            }
        }
    }

    /// Stretches of time are cut out, large ones first.
    fn slices(&mut self, fineness: usize) {
        self.sweep(Edit::Cut, fineness, |_| true);
    }

    fn edits(&mut self, fineness: usize) {
        let is = |about: About| move |choice: &Choice| choice.site.about == about;
        let odd =
            |about: About| move |choice: &Choice| choice.site.about == about && choice.value > 0;
        for about in [About::Fault, About::Client] {
            self.sweep(Edit::Zero, fineness, odd(about));
            self.sweep(Edit::Delete, fineness, is(about));
        }
        self.sweep(Edit::Lose, fineness, |choice| {
            choice.site.about == About::Deliver && choice.value == 0
        });
        self.setup();
        self.sites();
        for about in [
            About::Deliver,
            About::Loss,
            About::Twice,
            About::Malice,
            About::Crash,
            About::Shape,
            About::Detail,
            About::Protocol,
            About::Sync,
            About::Delay,
            About::Timer,
        ] {
            self.sweep(Edit::Zero, fineness, odd(about));
        }
        self.sweep(Edit::Halve, fineness, |choice| choice.value > 1);
        let many = self.best.log.iter().filter(|choice| choice.value > 1).count();
        if many <= LOWERED_MAX {
            self.lower();
        }
    }

    /// Whole sites are set to 0: the jitter of one node, the delays of one link.
    fn sites(&mut self) {
        let odd = self.best.log.iter().filter(|choice| choice.value > 0);
        let sites: BTreeSet<Site> = odd.map(|choice| choice.site).collect();
        for site in sites.into_iter().filter(|site| site.about != About::Setup) {
            self.sweep(Edit::Zero, 1, |choice| choice.site == site && choice.value > 0);
        }
    }

    /// Every option of every question of the set-up: they are few, and none is always the smallest.
    fn setup(&mut self) {
        let mut at = 0;
        while at < self.best.log.len() {
            let Choice { site, bound, value, .. } = self.best.log[at];
            if site.about == About::Setup && bound <= 4 {
                for other in (0..bound).filter(|other| *other != value) {
                    let mut log = self.best.log.clone();
                    log[at].value = other;
                    let plan = self.best.plan.clone();
                    self.attempt(plan, self.origin(&log));
                    if self.best.log.get(at).map(|choice| choice.site) != Some(site) {
                        break;
                    }
                }
            }
            at += 1;
        }
        self.sweep(Edit::Zero, usize::MAX, |choice| {
            choice.site.about == About::Setup && choice.value > 0
        });
    }

    /// Edits the chosen entries: all, halves, and so on down to `fineness` parts.
    fn sweep(&mut self, edit: Edit, fineness: usize, chosen: impl Fn(&Choice) -> bool) {
        let all = self.best.log.iter().filter(|choice| chosen(choice)).count();
        let smallest = all.checked_div(fineness).unwrap_or(0).max(1);
        let mut chunk = all;
        while chunk >= smallest && chunk > 0 {
            let mut from = 0;
            loop {
                let log = &self.best.log;
                let places = log.iter().enumerate().filter(|(_, choice)| chosen(choice));
                let places: Vec<usize> =
                    places.map(|(place, _)| place).skip(from).take(chunk).collect();
                if places.is_empty() || self.is_spent() {
                    break;
                }
                let edited = edited(log, &places, edit);
                let plan = self.best.plan.clone();
                if !self.attempt(plan, self.origin(&edited)) {
                    from += chunk;
                } else if edit == Edit::Halve {
                    // What was halved can still be chosen, and was not made to vanish.
                    from += 1;
                }
            }
            chunk /= 2;
        }
    }

    /// Each value that is left, as low as it goes: by bisection between 0 and what it is.
    fn lower(&mut self) {
        let mut at = 0;
        while at < self.best.log.len() && !self.is_spent() {
            let mut low = 0;
            while let Some(choice) = self.best.log.get(at).filter(|choice| choice.value > low + 1) {
                let middle = low + (choice.value - low) / 2;
                let mut log = self.best.log.clone();
                log[at].value = middle;
                let plan = self.best.plan.clone();
                if !self.attempt(plan, self.origin(&log)) {
                    low = middle;
                }
                if self.is_spent() {
                    return;
                }
            }
            at += 1;
        }
    }
}

fn edited(log: &[Choice], places: &[usize], edit: Edit) -> Vec<Choice> {
    let mut edited = log.to_vec();
    for place in places {
        let value = &mut edited[*place].value;
        *value = match edit {
            Edit::Delete | Edit::Cut => *value,
            Edit::Zero => 0,
            Edit::Lose => 1,
            Edit::Halve => *value / 2,
        };
    }
    if edit == Edit::Cut {
        let (first, last) = (places[0], places[places.len() - 1]);
        let until = log.get(last + 1).map_or(log[last].at, |choice| choice.at);
        for choice in &mut edited[last + 1..] {
            choice.at -= until - log[first].at;
        }
    }
    if matches!(edit, Edit::Delete | Edit::Cut) {
        let mut gone = places.iter().peekable();
        let mut place = 0;
        edited.retain(|_| {
            let is_gone = gone.next_if(|next| **next == place).is_some();
            place += 1;
            !is_gone
        });
    }
    edited
}

#[cfg(test)]
mod tests {
    use super::super::example::RegisterWorld;
    use super::*;
    use quorate_core::SystemModel;

    fn broken(plan: &Plan) -> impl Iterator<Item = u64> {
        let is_broken = |seed: &u64| {
            let subject: &dyn Subject = &RegisterWorld::default;
            subject.run(plan, Origin::Seed(*seed), Keep::Outcome).violation.is_some()
        };
        (0..200).filter(is_broken)
    }

    fn shrink_within(plan: &Plan, seed: u64, runs: u64) -> Shrunk {
        let budget = Budget { runs, cancel: &|| false };
        shrink(&RegisterWorld::default, plan, seed, &budget, &mut |_| ()).expect("it breaks")
    }

    /// The story of the register is: a write, a fault, a failover or a restart, and a read or a
    /// write that does not know of the first. With three boots these are nine events, and
    /// heartbeats between them.
    #[test]
    fn most_stories_of_the_register_end_at_sixteen_events_and_one_kind_of_fault() {
        let plan = Plan::of(SystemModel::DATA_CENTRE);
        let shrunk: Vec<Shrunk> =
            broken(&plan).take(15).map(|seed| shrink_within(&plan, seed, 10_000)).collect();
        let mut sizes: Vec<u64> = shrunk.iter().map(|shrunk| shrunk.size).collect();
        sizes.sort_unstable();
        assert!(sizes[7] <= 16 && sizes[14] <= 40, "{sizes:?}");
        let kinds: Vec<usize> = shrunk.iter().map(|shrunk| shrunk.plan.faults.len()).collect();
        assert!(kinds.iter().all(|kinds| *kinds <= 2), "{kinds:?}");
        let nodes: Vec<&Vec<usize>> = shrunk.iter().map(|shrunk| &shrunk.plan.nodes).collect();
        let small = nodes.iter().filter(|nodes| ***nodes == [3]).count();
        assert!(small >= 12, "three nodes suffice: {nodes:?}");
    }

    #[test]
    fn the_log_of_the_result_replays_it_and_breaks_the_same_property() {
        let plan = Plan::of(SystemModel::DATA_CENTRE);
        for seed in broken(&plan).take(5) {
            let shrunk = shrink_within(&plan, seed, 2_000);
            assert!(shrunk.size <= shrunk.size_before && shrunk.runs <= 2_000);
            let subject: &dyn Subject = &RegisterWorld::default;
            let again = subject.run(&shrunk.plan, Origin::Log(&shrunk.log), Keep::Trace);
            assert_eq!(again.digest, shrunk.digest);
            assert_eq!(again.violation, Some(shrunk.violation));
            assert_eq!(again.tally.size, shrunk.size);
        }
    }

    #[test]
    fn a_larger_budget_never_gives_a_larger_story_and_none_gives_the_run_itself() {
        let plan = Plan::of(SystemModel::DATA_CENTRE);
        let seed = broken(&plan).next().expect("it breaks");
        let mut before = u64::MAX;
        for runs in [0, 50, 300, 3_000] {
            let shrunk = shrink_within(&plan, seed, runs);
            assert!(shrunk.size <= before, "{} after {before}", shrunk.size);
            assert!(runs > 0 || shrunk.size == shrunk.size_before);
            before = shrunk.size;
        }
        let cancelled = Budget { runs: u64::MAX, cancel: &|| true };
        let subject = RegisterWorld::default;
        let shrunk = shrink(&subject, &plan, seed, &cancelled, &mut |_| ()).expect("it breaks");
        assert_eq!(shrunk.runs, 2, "what was there from the first moment on");
    }

    #[test]
    fn a_run_that_breaks_nothing_is_no_story() {
        let plan = Plan::of(SystemModel::DATA_CENTRE).calm();
        let budget = Budget { runs: 100, cancel: &|| false };
        assert!(shrink(&RegisterWorld::default, &plan, 1, &budget, &mut |_| ()).is_none());
    }

    #[test]
    fn edits_do_what_they_say() {
        let site = Site::new(About::Delay, 1);
        let choice = |value| Choice { site, bound: 100, value, at: 10 * value };
        let log: Vec<Choice> = [7, 8, 9, 10].map(choice).to_vec();
        let values = |edit| -> Vec<u64> {
            edited(&log, &[1, 3], edit).iter().map(|choice| choice.value).collect()
        };
        assert_eq!(values(Edit::Delete), [7, 9]);
        assert_eq!(values(Edit::Zero), [7, 0, 9, 0]);
        assert_eq!(values(Edit::Lose), [7, 1, 9, 1]);
        assert_eq!(values(Edit::Halve), [7, 4, 9, 5]);
        let cut = edited(&log, &[1, 2], Edit::Cut);
        let left: Vec<(u64, u64)> = cut.iter().map(|choice| (choice.value, choice.at)).collect();
        assert_eq!(left, [(7, 70), (10, 80)], "what came at 100 comes when 80 was");
    }
}
