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
//! A shard takes every N-th seed; [`Report::merge`] adds shards up, and refuses what does not
//! belong together. Run twice ([`Campaign::twice`]), each seed must give the same digest: a clock,
//! a thread or a hash order that leaks into a run is a violation of the property `determinism`.
//!
//! Bounds: [`AHEAD_MAX`] results wait for a slow seed before them; then the other threads wait too.

use super::run::{Bounds, Keep, Origin, Plan, Violation};
use super::subject::Subject;
use super::tally::Tally;
use super::trace::Step;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Condvar, Mutex, MutexGuard};

/// The version of reports that this build writes, and the only one that it reads.
pub const REPORT_VERSION: u32 = 1;
/// Results that may wait for one before them.
pub const AHEAD_MAX: usize = 4_096;
/// Shards of one campaign, at most.
pub const SHARDS_MAX: u64 = 10_000;
/// The property of a run that is not the same when it is run again.
pub const DETERMINISM: &str = "determinism";

/// Some of the seeds of a range: those whose remainder by `of` is `index`.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Seeds {
    /// The first.
    pub from: u64,
    /// The first that is no longer one of them.
    pub to: u64,
    /// Which shard.
    pub index: u64,
    /// Of how many. Range: 1 to [`SHARDS_MAX`].
    pub of: u64,
}

impl Seeds {
    /// All seeds of a range.
    pub fn range(from: u64, to: u64) -> Seeds {
        Seeds { from, to, index: 0, of: 1 }
    }

    /// The first at or after `seed`.
    fn next(&self, seed: u64) -> Option<u64> {
        let ahead = (self.index + self.of - seed % self.of) % self.of;
        seed.checked_add(ahead).filter(|seed| *seed < self.to)
    }

    /// A seed that is one of both.
    fn common(&self, other: &Seeds) -> Option<u64> {
        let (from, to) = (self.from.max(other.from), self.to.min(other.to));
        let both = Seeds { from, to, ..*self };
        let mut seed = both.next(from)?;
        for _ in 0..other.of {
            if seed % other.of == other.index {
                return Some(seed);
            }
            seed = both.next(seed.checked_add(1)?)?;
        }
        None
    }
}

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

/// A violation, and the seed that leads to it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Found {
    /// The seed.
    pub seed: u64,
    /// The property that broke.
    pub property: String,
    /// What contradicts it.
    pub why: String,
    /// True time of the violation. Unit: nanoseconds.
    pub at: u64,
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
            if let Some(Violation { property, why, at }) = done.violation {
                covered.seeds.to = seed + 1;
                covered.found = Some(Found { seed, property, why, at });
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
        violation = Some(Violation { property: DETERMINISM.to_owned(), why, at: 0 });
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

/// A plan in words and numbers, as reports and logs of choices keep it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Terms {
    /// The system model.
    pub model: String,
    /// Names of the faults that may take part.
    pub faults: Vec<String>,
    /// All of them take part in each run.
    pub all: bool,
    /// How many nodes there may be.
    pub nodes: Vec<usize>,
    /// Unit: nanoseconds.
    pub safety: u64,
    /// Unit: nanoseconds.
    pub liveness: u64,
    /// Unit: nanoseconds.
    pub delay_max: u64,
    /// Unit: nanoseconds.
    pub step_max: u64,
    /// Unit: parts per thousand million.
    pub drift: i64,
}

impl From<&Plan> for Terms {
    fn from(plan: &Plan) -> Terms {
        Terms {
            model: plan.model.to_string(),
            faults: plan.faults.iter().map(|fault| fault.name().to_owned()).collect(),
            all: plan.all,
            nodes: plan.nodes.clone(),
            safety: plan.safety,
            liveness: plan.liveness,
            delay_max: plan.bounds.delay_max,
            step_max: plan.bounds.step_max,
            drift: plan.bounds.drift,
        }
    }
}

impl Terms {
    /// The plan that they describe.
    ///
    /// Errors: says which word is none of this build.
    pub fn plan(&self) -> Result<Plan, String> {
        let model = self.model.parse().map_err(|error| format!("{error}"))?;
        let faults: Result<_, _> = self.faults.iter().map(|name| name.parse()).collect();
        if self.nodes.is_empty() || self.nodes.contains(&0) {
            return Err("a plan without nodes".to_owned());
        }
        Ok(Plan {
            model,
            faults: faults.map_err(|error| format!("{error}"))?,
            all: self.all,
            nodes: self.nodes.clone(),
            safety: self.safety,
            liveness: self.liveness,
            bounds: Bounds {
                delay_max: self.delay_max,
                step_max: self.step_max,
                drift: self.drift,
            },
            ..Plan::of(model)
        })
    }
}

/// A campaign, or several that belong together, as data.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub quorate_campaign: u32,
    /// The build that ran it.
    pub version: String,
    /// What was run.
    pub protocol: String,
    /// What its clients did.
    pub workload: String,
    /// The bug that was planted.
    pub mutant: Option<String>,
    /// Under which plan.
    pub plan: Terms,
    /// Which seeds; none of them twice.
    pub seeds: Vec<Seeds>,
    /// What they did.
    pub tally: Tally,
    /// The digest of their digests, in hexadecimal.
    pub digest: String,
    /// Marks that should have been seen in a campaign that is long enough, and were not.
    pub missing: Vec<String>,
    /// The smallest seed that breaks a property, of each campaign.
    pub violations: Vec<Found>,
}

/// Why two reports do not belong together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MergeError {
    /// They differ in this.
    Differ {
        /// In what.
        what: &'static str,
        /// One says.
        one: String,
        /// The other says.
        other: String,
    },
    /// Both have run this seed: it would count twice.
    Overlap {
        /// The seed.
        seed: u64,
    },
}

impl fmt::Display for MergeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            MergeError::Differ { what, one, other } => {
                write!(f, "they are of different campaigns: the {what} is {one}, and {other}")
            }
            MergeError::Overlap { seed } => write!(
                f,
                "seed {seed} was run by both, and would count twice; give each machine another \
                 --shard, or other --seeds"
            ),
        }
    }
}

impl std::error::Error for MergeError {}

impl Report {
    /// Adds another one to it.
    ///
    /// Errors: they are of different builds, protocols or plans, or have a seed in common.
    pub fn merge(&mut self, other: &Report) -> Result<(), MergeError> {
        let texts = |report: &Report| {
            let plan = serde_json::to_string(&report.plan).unwrap_or_default();
            let mutant = report.mutant.clone().unwrap_or_else(|| "none".to_owned());
            [
                ("version", report.version.clone()),
                ("protocol", report.protocol.clone()),
                ("workload", report.workload.clone()),
                ("mutant", mutant),
                ("plan", plan),
            ]
        };
        for ((what, one), (_, other)) in texts(self).into_iter().zip(texts(other)) {
            if one != other {
                return Err(MergeError::Differ { what, one, other });
            }
        }
        for one in &self.seeds {
            if let Some(seed) = other.seeds.iter().find_map(|other| one.common(other)) {
                return Err(MergeError::Overlap { seed });
            }
        }
        self.seeds.extend(&other.seeds);
        self.seeds.sort_by_key(|seeds| (seeds.from, seeds.index, seeds.to));
        self.tally.add(&other.tally);
        let number = |text: &str| u64::from_str_radix(text, 16).unwrap_or(0);
        self.digest = format!("{:016x}", number(&self.digest).wrapping_add(number(&other.digest)));
        self.missing.retain(|mark| other.missing.contains(mark));
        self.violations.extend(other.violations.iter().cloned());
        self.violations.sort_by_key(|found| found.seed);
        Ok(())
    }
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

    fn of_covered(covered: &Covered, plan: &Plan) -> Report {
        Report {
            quorate_campaign: REPORT_VERSION,
            version: "1".to_owned(),
            protocol: "register".to_owned(),
            workload: "mixed".to_owned(),
            mutant: None,
            plan: plan.into(),
            seeds: vec![covered.seeds],
            tally: covered.tally.clone(),
            digest: format!("{:016x}", covered.digest),
            missing: Vec::new(),
            violations: covered.found.iter().cloned().collect(),
        }
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
    fn shards_add_up_to_the_whole() {
        let plan = strong();
        let whole = of_covered(&run(&plan, Seeds::range(3, 50), 2), &plan);
        let shard = |index| {
            let seeds = Seeds { index, of: 3, ..Seeds::range(3, 50) };
            of_covered(&run(&plan, seeds, 1), &plan)
        };
        let mut merged = shard(2);
        merged.merge(&shard(0)).expect("they belong together");
        merged.merge(&shard(1)).expect("they belong together");
        assert_eq!((&merged.tally, &merged.digest), (&whole.tally, &whole.digest));
        let text = serde_json::to_string(&merged).expect("it can be written");
        assert_eq!(serde_json::from_str::<Report>(&text).expect("and read"), merged);
    }

    #[test]
    fn what_does_not_belong_together_is_refused() {
        let plan = strong();
        let report = of_covered(&run(&plan, Seeds::range(0, 4), 1), &plan);
        let mut twice = report.clone();
        assert_eq!(twice.merge(&report), Err(MergeError::Overlap { seed: 0 }));
        let seeds = Seeds { index: 1, of: 2, ..Seeds::range(3, 9) };
        let other = Report { seeds: vec![seeds], ..report.clone() };
        assert_eq!(twice.merge(&other), Err(MergeError::Overlap { seed: 3 }));
        let seeds = Seeds { index: 0, of: 2, ..Seeds::range(3, 9) };
        let other = Report { seeds: vec![seeds], ..report.clone() };
        assert_eq!(report.clone().merge(&other), Ok(()));
        let other = Report { protocol: "raft".to_owned(), ..other };
        let refused = report.clone().merge(&other).expect_err("another protocol");
        assert!(refused.to_string().contains("the protocol is register, and raft"), "{refused}");
        let mut other = Report { protocol: "register".to_owned(), ..other };
        other.plan.nodes = vec![7];
        let refused = report.clone().merge(&other).expect_err("another plan");
        assert!(matches!(refused, MergeError::Differ { what: "plan", .. }), "{refused}");
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

    #[test]
    fn terms_are_the_plan() {
        let plan = Plan::of(SystemModel::DATA_CENTRE).with_nodes(4);
        let terms = Terms::from(&plan);
        assert_eq!(Terms::from(&terms.plan().expect("its own words")), terms);
        let unknown = Terms { faults: vec!["gremlins".to_owned()], ..terms };
        assert!(unknown.plan().expect_err("no such fault").contains("gremlins"));
    }
}
