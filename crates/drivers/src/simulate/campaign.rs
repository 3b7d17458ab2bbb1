//! A campaign: one seed after the other, on several threads, until one breaks a property.
//!
//! Problem: a campaign must be worth as much as its seeds. On one core or on sixty-four, in one
//! process or on many machines, the same seeds must have the same result, or nobody can say what
//! was covered.
//!
//! Idea: seeds are begun in order, each is a run of its own, and what came of them is added up *in
//! the order of the seeds*. When one breaks a property, those after it are neither begun nor
//! counted, and those before it are finished first. So what is reported is a function of the first
//! seed and of the number of seeds covered, and a campaign that was ended by a clock can be
//! repeated as one over a range.
//!
//! A shard takes every N-th seed; `report.rs` adds shards up, and refuses what does not belong
//! together. Run twice ([`Campaign::twice`]), each seed must give the same digest: a clock,
//! a thread or a hash order that leaks into a run is a violation of the property `determinism`.
//!
//! Bounds: [`AHEAD_MAX`] results wait for a slow seed before them; then the other threads wait too.

use super::report::Found;
use super::run::{Keep, Origin, Plan, Violation};
use super::seeds::{SHARDS_MAX, Seeds};
use super::subject::Subject;
use super::tally::Tally;
use super::trace::Step;
use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};

/// Results that may wait for one before them.
pub const AHEAD_MAX: usize = 4_096;
/// The property of a run that is not the same when it is run again.
pub const DETERMINISM: &str = "determinism";

/// What is run, and how.
pub struct Campaign<'a> {
    /// What.
    pub subject: &'a dyn Subject,
    /// Under which plan.
    pub plan: &'a Plan,
    /// Which seeds.
    pub seeds: Seeds,
    /// On how many threads; one is that of the caller.
    pub jobs: usize,
    /// Runs each seed again, and compares.
    pub twice: bool,
    /// Asked before each seed: true to end. What was begun is finished.
    pub stop: &'a (dyn Fn() -> bool + Sync),
    /// Told after each seed what has been done so far.
    pub report: &'a (dyn Fn(&Tally) + Sync),
}

/// What came of a campaign.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Covered {
    /// The seeds that were run to their ends.
    pub seeds: Seeds,
    /// What they did.
    pub tally: Tally,
    /// The digest of their digests. It does not depend on their order.
    pub digest: u64,
    /// The violation of the smallest seed that has one.
    pub found: Option<Found>,
}

/// What came of one seed.
struct Done {
    tally: Tally,
    digest: u64,
    violation: Option<Violation>,
}

/// What the threads share.
struct Books {
    /// The next seed to begin.
    next: Option<u64>,
    /// The next seed to be added up.
    due: Option<u64>,
    waiting: BTreeMap<u64, Done>,
    covered: Covered,
    ended: bool,
}

impl Campaign<'_> {
    /// Runs it.
    ///
    /// Panics: if there is no thread to run it, or a shard that is none.
    pub fn run(&self) -> Covered {
        let Seeds { from, index, of, .. } = self.seeds;
        assert!(self.jobs > 0 && index < of && of <= SHARDS_MAX, "{:?}", self.seeds);
        let first = self.seeds.next(from);
        let seeds = Seeds { to: from, ..self.seeds };
        let covered = Covered { seeds, tally: Tally::default(), digest: 0, found: None };
        let waiting = BTreeMap::new();
        let books = Books { next: first, due: first, waiting, covered, ended: false };
        let (books, room) = (Mutex::new(books), Condvar::new());
        std::thread::scope(|scope| {
            for _ in 1..self.jobs {
                scope.spawn(|| self.work(&books, &room));
            }
            self.work(&books, &room);
        });
        books.into_inner().expect("no run panics: each is caught").covered
    }

    fn work(&self, books: &Mutex<Books>, room: &Condvar) {
        while let Some(seed) = self.begin(books, room) {
            let done = run_once(self.subject, self.plan, seed, self.twice);
            let mut books = lock(books);
            books.waiting.insert(seed, done);
            self.add_up(&mut books);
            room.notify_all();
        }
    }

    /// The next seed, if there is to be one.
    fn begin(&self, books: &Mutex<Books>, room: &Condvar) -> Option<u64> {
        let mut books = lock(books);
        while books.waiting.len() >= AHEAD_MAX && !books.ended {
            books = room.wait(books).expect("no run panics: each is caught");
        }
        if books.ended || (self.stop)() {
            return None;
        }
        let seed = books.next?;
        books.next = seed.checked_add(1).and_then(|next| self.seeds.next(next));
        Some(seed)
    }

    /// Adds up what is there, in the order of the seeds, up to the first violation.
    fn add_up(&self, books: &mut Books) {
        while let Some(seed) = books.due.filter(|_| !books.ended) {
            let Some(done) = books.waiting.remove(&seed) else { return };
            let covered = &mut books.covered;
            covered.tally.add(&done.tally);
            covered.digest = covered.digest.wrapping_add(mixed(seed, done.digest));
            let next = seed.checked_add(1);
            books.due = next.and_then(|next| self.seeds.next(next));
            covered.seeds.to = if books.due.is_none() { self.seeds.to } else { seed + 1 };
            if let Some(Violation { property, why, at, awaited }) = done.violation {
                covered.seeds.to = seed + 1;
                covered.found = Some(Found { seed, property, why, at, awaited });
                books.ended = true;
            }
            (self.report)(&books.covered.tally);
        }
    }
}

fn lock<'a>(books: &'a Mutex<Books>) -> MutexGuard<'a, Books> {
    books.lock().expect("no run panics: each is caught")
}

/// Different for the same digest of different seeds.
fn mixed(seed: u64, digest: u64) -> u64 {
    let mut state = seed ^ digest.rotate_left(32);
    super::choices::split_mix(&mut state)
}

fn run_once(subject: &dyn Subject, plan: &Plan, seed: u64, twice: bool) -> Done {
    let run = |keep| subject.run(plan, Origin::Seed(seed), keep);
    let outcome = run(Keep::Outcome);
    let mut violation = outcome.violation;
    if twice && run(Keep::Outcome).digest != outcome.digest {
        let (one, other) = (run(Keep::Trace), run(Keep::Trace));
        let steps = [one.steps.unwrap_or_default(), other.steps.unwrap_or_default()];
        let why = first_difference(&steps[0], &steps[1]);
        violation =
            Some(Violation { property: DETERMINISM.to_owned(), why, at: 0, awaited: Vec::new() });
    }
    Done { tally: outcome.tally, digest: outcome.digest, violation }
}

/// In words.
fn first_difference(one: &[Step], other: &[Step]) -> String {
    let differs = |at: &usize| one.get(*at) != other.get(*at);
    let Some(at) = (0..one.len().max(other.len())).find(differs) else {
        return "two runs had different digests, and two more, with traces, the same steps"
            .to_owned();
    };
    let told = |step: Option<&Step>| {
        step.map_or("nothing: it had ended".to_owned(), |step| {
            serde_json::to_string(step).unwrap_or_else(|error| error.to_string())
        })
    };
    format!(
        "two runs of it differ from step {at} on: {} and {}",
        told(one.get(at)),
        told(other.get(at))
    )
}

#[cfg(test)]
mod tests {
    use super::super::example::RegisterWorld;
    use super::super::run::Outcome;
    use super::*;
    use quorate_core::SystemModel;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn run(plan: &Plan, seeds: Seeds, jobs: usize) -> Covered {
        let subject = &RegisterWorld::default;
        let (stop, report) = (&|| false, &|_: &Tally| ());
        Campaign { subject, plan, seeds, jobs, twice: false, stop, report }.run()
    }

    fn strong() -> Plan {
        Plan::of("network=reliable,node=crash-stop,timing=synchronous".parse().expect("a model"))
    }

    #[test]
    fn the_register_keeps_its_promise_in_the_model_that_it_was_made_for() {
        let covered = run(&strong(), Seeds::range(0, 300), 2);
        assert_eq!(covered.found, None);
        assert_eq!(covered.tally.runs, 300);
        assert!(covered.tally.marks["a backup serves"] > 0, "{:?}", covered.tally);
        assert!(covered.tally.faults["crash-stop"] > 0);
    }

    #[test]
    fn the_number_of_threads_changes_nothing_with_and_without_a_violation() {
        for plan in [strong(), Plan::of(SystemModel::DATA_CENTRE)] {
            let one = run(&plan, Seeds::range(16, 80), 1);
            for jobs in [2, 5] {
                assert_eq!(run(&plan, Seeds::range(16, 80), jobs), one, "{jobs} threads");
            }
        }
    }

    #[test]
    fn the_smallest_seed_with_a_violation_is_reported_and_those_after_it_do_not_count() {
        let plan = Plan::of(SystemModel::DATA_CENTRE);
        let covered = run(&plan, Seeds::range(0, 100), 4);
        let found = covered.found.expect("it breaks soon");
        assert_eq!(covered.tally.runs, found.seed + 1);
        assert_eq!(covered.seeds, Seeds::range(0, found.seed + 1));
        let before = run(&plan, Seeds::range(0, found.seed), 1);
        assert_eq!(before.found, None);
        assert_eq!(before.tally.runs, found.seed);
    }

    #[test]
    fn a_campaign_that_is_stopped_says_how_far_it_came() {
        let (plan, asked) = (strong(), AtomicU64::new(0));
        let stop = || asked.fetch_add(1, Ordering::Relaxed) >= 7;
        let subject = &RegisterWorld::default;
        let seeds = Seeds::range(5, u64::MAX);
        let report = &|_: &Tally| ();
        let stopped =
            Campaign { subject, plan: &plan, seeds, jobs: 2, twice: false, stop: &stop, report };
        let stopped = stopped.run();
        assert_eq!(stopped.seeds, Seeds::range(5, 12));
        assert_eq!(run(&plan, stopped.seeds, 1), stopped, "it can be repeated as a range");
    }

    /// A world that asks a counter which every run shares, as one that looks at a clock would.
    #[test]
    fn a_run_that_is_not_the_same_when_it_is_run_again_is_found() {
        struct Leak(AtomicU64);
        impl Subject for Leak {
            fn run(&self, plan: &Plan, origin: Origin<'_>, keep: Keep) -> Outcome {
                let runs = self.0.fetch_add(1, Ordering::Relaxed);
                let mut plan = plan.clone();
                plan.safety += u64::from(runs == 3 || runs % 2 == 1 && runs > 3);
                (&RegisterWorld::default).run(&plan, origin, keep)
            }

            fn marks(&self) -> &'static [&'static str] {
                &[]
            }
        }
        let (plan, subject) = (strong(), Leak(AtomicU64::new(0)));
        let (stop, report) = (&|| false, &|_: &Tally| ());
        let seeds = Seeds::range(0, 10);
        let campaign =
            Campaign { subject: &subject, plan: &plan, seeds, jobs: 1, twice: true, stop, report };
        let found = campaign.run().found.expect("it leaks");
        assert_eq!((found.seed, found.property.as_str()), (1, DETERMINISM));
        assert!(found.why.contains("differ from step"), "{}", found.why);
    }
}
