//! What a campaign prints, and how the campaigns of several machines are added up.
//!
//! A report that is merged was a file, which may have been edited, cut off, or written by somebody
//! else. [`Report::check`] looks at everything in it that is counted with, before anything is; so a
//! merge of what passed never panics, and never takes long.
//!
//! Bounds: [`RANGES_MAX`] ranges of seeds, [`NAMES_MAX`] names, and no count above [`COUNT_MAX`].

use super::faults::{Fault, UnknownFault};
use super::seeds::{SHARDS_MAX, Seeds, SeedsError};
use super::tally::Tally;
use super::terms::{Terms, TermsError};
use serde::{Deserialize, Serialize};
use std::fmt;

/// The version of reports that this build writes, and the only one that it reads.
pub const REPORT_VERSION: u32 = 1;
/// Ranges of seeds in one report, at most.
pub const RANGES_MAX: usize = SHARDS_MAX as usize;
/// Names of marks, faults and violations in one report, at most, of each kind.
pub const NAMES_MAX: usize = 10_000;
/// A count is at most this, so that two of them can be added up.
pub const COUNT_MAX: u64 = 1 << 62;

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
    /// If it is `liveness`: what the system still owed in the end.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub awaited: Vec<String>,
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

/// Why a report is none that a campaign could have printed.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReportError {
    /// Its plan is none.
    Terms(TermsError),
    /// A range of its seeds is none.
    Seeds(SeedsError),
    /// It counts a fault that there is not.
    Fault(UnknownFault),
    /// Two of its ranges have this seed.
    Twice {
        /// The seed.
        seed: u64,
    },
    /// It says that a seed breaks a property, and that seed is none of its own.
    Stranger {
        /// The seed.
        seed: u64,
    },
    /// Its number of runs is not that of its seeds.
    Runs {
        /// So many runs.
        runs: u64,
        /// So many seeds.
        seeds: u128,
    },
    /// It has more of these than a report can have.
    Many {
        /// Of what.
        what: &'static str,
        /// So many.
        found: usize,
        /// So many there may be.
        most: usize,
    },
    /// A count that is too large to be one.
    Count {
        /// Of what.
        what: String,
    },
    /// Its digest is no number in hexadecimal.
    Digest(String),
}

impl fmt::Display for ReportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReportError::Terms(error) => write!(f, "{error}")?,
            ReportError::Seeds(error) => write!(f, "{error}")?,
            ReportError::Fault(error) => write!(f, "its tally: {error}")?,
            ReportError::Twice { seed } => write!(f, "two of its ranges have the seed {seed}")?,
            ReportError::Stranger { seed } => {
                write!(f, "it says that seed {seed} breaks a property, and has not run it")?;
            }
            ReportError::Runs { runs, seeds } => {
                write!(f, "it counts {runs} runs, and names {seeds} seeds")?;
            }
            ReportError::Many { what, found, most } => {
                write!(f, "it has {found} {what}, and there can be {most}")?;
            }
            ReportError::Count { what } => {
                write!(f, "its count of {what:?} is larger than {COUNT_MAX}")?;
            }
            ReportError::Digest(text) => {
                write!(f, "its digest {text:?} is no number in hexadecimal")?;
            }
        }
        f.write_str("; no campaign prints that, so it was altered: run that campaign again")
    }
}

impl std::error::Error for ReportError {}

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
    /// Together they are more than one report can be.
    Sum(ReportError),
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
            MergeError::Sum(error) => write!(f, "together with those before it, {error}"),
        }
    }
}

impl std::error::Error for MergeError {}

impl Report {
    /// Errors: says what no campaign could have printed.
    pub fn check(&self) -> Result<(), ReportError> {
        self.check_sizes()?;
        self.plan.plan().map_err(ReportError::Terms)?;
        self.seeds.iter().try_for_each(Seeds::check).map_err(ReportError::Seeds)?;
        for (at, one) in self.seeds.iter().enumerate() {
            if let Some(seed) = self.seeds[..at].iter().find_map(|other| one.common(other)) {
                return Err(ReportError::Twice { seed });
            }
        }
        let seeds: u128 = self.seeds.iter().map(|seeds| u128::from(seeds.count())).sum();
        if seeds != u128::from(self.tally.runs) {
            return Err(ReportError::Runs { runs: self.tally.runs, seeds });
        }
        for name in self.tally.faults.keys() {
            name.parse::<Fault>().map_err(ReportError::Fault)?;
        }
        for Found { seed, .. } in &self.violations {
            if !self.seeds.iter().any(|seeds| seeds.contains(*seed)) {
                return Err(ReportError::Stranger { seed: *seed });
            }
        }
        number(&self.digest).map(drop)
    }

    fn check_sizes(&self) -> Result<(), ReportError> {
        let tally = &self.tally;
        let sizes = [
            ("ranges of seeds", self.seeds.len(), RANGES_MAX),
            ("kinds of faults", tally.faults.len(), NAMES_MAX),
            ("marks", tally.marks.len(), NAMES_MAX),
            ("marks that were not seen", self.missing.len(), NAMES_MAX),
            ("violations", self.violations.len(), NAMES_MAX),
        ];
        if let Some((what, found, most)) = sizes.into_iter().find(|(_, found, most)| found > most) {
            return Err(ReportError::Many { what, found, most });
        }
        match tally.counts().find(|(_, count)| *count > COUNT_MAX) {
            Some((what, _)) => Err(ReportError::Count { what: what.to_owned() }),
            None => Ok(()),
        }
    }

    /// Adds another one to it. Both have passed [`Report::check`].
    ///
    /// Errors: they are of different builds, protocols or plans, have a seed in common, or are
    /// together more than a report can be. Then nothing has been added.
    pub fn merge(&mut self, other: &Report) -> Result<(), MergeError> {
        self.belongs_to(other)?;
        for one in &self.seeds {
            if let Some(seed) = other.seeds.iter().find_map(|other| one.common(other)) {
                return Err(MergeError::Overlap { seed });
            }
        }
        let mut sum = self.clone();
        sum.seeds.extend(&other.seeds);
        sum.seeds.sort_by_key(|seeds| (seeds.from, seeds.index, seeds.to));
        sum.tally.add(&other.tally);
        let (one, two) = (number(&self.digest), number(&other.digest));
        let digest = one.and_then(|one| Ok(one.wrapping_add(two?))).map_err(MergeError::Sum)?;
        sum.digest = format!("{digest:016x}");
        sum.missing.retain(|mark| other.missing.contains(mark));
        sum.violations.extend(other.violations.iter().cloned());
        sum.violations.sort_by_key(|found| found.seed);
        sum.check_sizes().map_err(MergeError::Sum)?;
        *self = sum;
        Ok(())
    }

    fn belongs_to(&self, other: &Report) -> Result<(), MergeError> {
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
        Ok(())
    }
}

fn number(digest: &str) -> Result<u64, ReportError> {
    u64::from_str_radix(digest, 16).map_err(|_| ReportError::Digest(digest.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::altered::{anything, places};
    use super::super::campaign::{Campaign, Covered};
    use super::super::example::RegisterWorld;
    use super::super::run::Plan;
    use super::*;
    use proptest::prelude::*;

    fn run(plan: &Plan, seeds: Seeds, jobs: usize) -> Covered {
        let subject = &RegisterWorld::default;
        let (stop, report) = (&|| false, &|_: &Tally| ());
        Campaign { subject, plan, seeds, jobs, twice: false, stop, report }.run()
    }

    fn strong() -> Plan {
        Plan::of("network=reliable,node=crash-stop,timing=synchronous".parse().expect("a model"))
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

    fn report() -> Report {
        of_covered(&run(&strong(), Seeds::range(0, 4), 1), &strong())
    }

    #[test]
    #[expect(clippy::type_complexity, reason = "a table of changes, and what is said of each")]
    fn what_no_campaign_prints_is_refused() {
        assert_eq!(report().check(), Ok(()));
        let found = |seed| Found {
            seed,
            property: "crash".to_owned(),
            why: String::new(),
            at: 0,
            awaited: Vec::new(),
        };
        assert_eq!(Report { violations: vec![found(3)], ..report() }.check(), Ok(()));
        let refused = |change: &dyn Fn(&mut Report)| {
            let mut report = report();
            change(&mut report);
            report.check().expect_err("altered").to_string()
        };
        let cases: [(&dyn Fn(&mut Report), &str); 10] = [
            (&|r| r.seeds[0].of = 0, "there is no shard 0/0"),
            (&|r| r.seeds[0].index = u64::MAX, "there is no shard 18446744073709551615/1"),
            (&|r| r.seeds[0].from = 9, "the seeds 9..4 end before they begin"),
            (&|r| r.seeds.push(r.seeds[0]), "two of its ranges have the seed 0"),
            (&|r| r.seeds = vec![r.seeds[0]; RANGES_MAX + 1], "it has 10001 ranges of seeds"),
            (&|r| r.tally.runs += 1, "it counts 5 runs, and names 4 seeds"),
            (&|r| r.tally.events = u64::MAX, "its count of \"events\" is larger than"),
            (
                &|r| {
                    r.tally.faults.insert("gnu".to_owned(), 1);
                },
                "its tally: 'gnu' is no fault",
            ),
            (&|r| r.digest = "0x12".to_owned(), "its digest \"0x12\" is no number"),
            (&|r| r.violations = vec![found(4)], "it says that seed 4 breaks a property"),
        ];
        for (change, expected) in cases {
            let text = refused(change);
            assert!(
                text.starts_with(expected) && text.ends_with("run that campaign again"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_sum_that_is_too_large_changes_nothing() {
        let (mut one, mut other) = (report(), report());
        other.seeds = vec![Seeds::range(4, 8)];
        one.tally.events = COUNT_MAX;
        other.tally.events = COUNT_MAX;
        let before = one.clone();
        let refused = one.merge(&other).expect_err("too large");
        assert!(refused.to_string().contains("its count of \"events\""), "{refused}");
        assert_eq!(one, before);
    }

    proptest! {
        #[test]
        fn altered_reports_are_refused_or_merged(
            changes in prop::collection::vec((any::<prop::sample::Index>(), anything()), 1..4),
        ) {
            let (one, mut other) = (report(), report());
            other.seeds = vec![Seeds::range(4, 8)];
            let mut written = serde_json::to_value(&other).expect("it can be written");
            for (at, value) in changes {
                let mut all = Vec::new();
                places(&written, "", &mut all);
                *written.pointer_mut(at.get::<String>(&all)).expect("a place") = value;
            }
            if let Ok(altered) = serde_json::from_value::<Report>(written)
                && altered.check().is_ok()
            {
                let _ = one.clone().merge(&altered);
                let mut both = altered.clone();
                let _ = both.merge(&one);
                let _ = Seeds::left_out(&both.seeds);
            }
        }
    }
}
