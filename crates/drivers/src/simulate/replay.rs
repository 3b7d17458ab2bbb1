//! A run as a file: its plan and its choices, from which it is run again.
//!
//! A seed names a run only together with a build; a shrunk run has no seed at all. The file names
//! it by what was chosen, site by site, in the order of the draws. Choices of 0 at the end of a
//! site are left out, because that is what a stream gives that has ended. A run that a person wants
//! to look at has a few dozen choices that are not 0, so the file is short enough to be read,
//! changed and run again.
//!
//! ```text
//! {"quorate_replay":1,"protocol":"register",..,"plan":{..},"sites":[
//!   {"about":"client","which":0,"values":[1,0,0,2]}, ..]}
//! ```

use super::choices::{About, Choice, Site};
use super::terms::Terms;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The version of the files that this build writes, and the only one that it reads.
pub const REPLAY_VERSION: u32 = 1;

/// What is in the file.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Replay {
    /// [`REPLAY_VERSION`].
    pub quorate_replay: u32,
    /// The build that wrote it.
    pub version: String,
    /// What is run.
    pub protocol: String,
    /// What its clients do.
    pub workload: String,
    /// The bug that is planted.
    pub mutant: Option<String>,
    /// The seed of the run from which this one was made.
    pub seed: u64,
    /// Under which plan.
    pub plan: Terms,
    /// The property that breaks.
    pub property: String,
    /// The digest of all events, in hexadecimal.
    pub digest: String,
    /// The choices.
    pub sites: Vec<Stream>,
}

/// The choices of one site, in the order of the draws.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Stream {
    /// What about.
    pub about: About,
    /// Which one of those.
    pub which: u32,
    /// What was taken. After the last it is 0.
    pub values: Vec<u64>,
}

/// The streams of a log.
pub fn streams(log: &[Choice]) -> Vec<Stream> {
    let mut sites: BTreeMap<Site, Vec<u64>> = BTreeMap::new();
    for choice in log {
        sites.entry(choice.site).or_default().push(choice.value);
    }
    let trimmed = |(Site { about, which }, mut values): (Site, Vec<u64>)| {
        let used = values.iter().rposition(|value| *value > 0).map_or(0, |last| last + 1);
        values.truncate(used);
        Stream { about, which, values }
    };
    sites.into_iter().map(trimmed).filter(|stream| !stream.values.is_empty()).collect()
}

impl Replay {
    /// The choices as a log. The bounds and times of the draws are not in the file; nothing that
    /// replays a log asks for them.
    pub fn log(&self) -> Vec<Choice> {
        let choice = |stream: &Stream, value: u64| Choice {
            site: Site { about: stream.about, which: stream.which },
            bound: u64::MAX,
            value,
            at: 0,
        };
        let of = |stream: &Stream| -> Vec<Choice> {
            stream.values.iter().map(|value| choice(stream, *value)).collect()
        };
        self.sites.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::altered::{anything, places};
    use super::super::example::RegisterWorld;
    use super::super::run::{Keep, Origin, Plan};
    use super::super::subject::Subject;
    use super::*;
    use proptest::prelude::*;
    use quorate_core::SystemModel;
    use std::time::Duration;

    fn recorded(plan: &Plan, seed: u64) -> Replay {
        let subject: &dyn Subject = &RegisterWorld::default;
        let outcome = subject.run(plan, Origin::Seed(seed), Keep::Choices);
        Replay {
            quorate_replay: REPLAY_VERSION,
            version: "1".to_owned(),
            protocol: "register".to_owned(),
            workload: "mixed".to_owned(),
            mutant: None,
            seed,
            plan: Terms::from(plan),
            property: String::new(),
            digest: format!("{:016x}", outcome.digest),
            sites: streams(&outcome.log.expect("a log was kept").entries),
        }
    }

    proptest! {
        #[test]
        fn an_altered_file_is_refused_or_run(
            changes in prop::collection::vec((any::<prop::sample::Index>(), anything()), 1..4),
            seed in 0..20u64,
        ) {
            let plan = Plan::of(SystemModel::DATA_CENTRE).lasting(Duration::from_millis(200));
            let mut written = serde_json::to_value(recorded(&plan, seed)).expect("written");
            for (at, value) in changes {
                let mut all = Vec::new();
                places(&written, "", &mut all);
                *written.pointer_mut(at.get::<String>(&all)).expect("a place") = value;
            }
            let Ok(altered) = serde_json::from_value::<Replay>(written) else { return Ok(()) };
            // A day of virtual time is allowed, and takes longer than a test should.
            let Ok(plan) = altered.plan.plan() else { return Ok(()) };
            let Some(plan) = (plan.safety < 10_000_000_000).then_some(plan) else { return Ok(()) };
            let subject: &dyn Subject = &RegisterWorld::default;
            let outcome = subject.run(&plan, Origin::Log(&altered.log()), Keep::Trace);
            if let Some(violation) = outcome.violation {
                prop_assert_ne!(violation.property, "crash", "{}", violation.why);
            }
        }
    }

    #[test]
    fn a_run_is_the_same_after_its_choices_were_written_and_read() {
        let plan = Plan::of(SystemModel::DATA_CENTRE);
        let subject: &dyn Subject = &RegisterWorld::default;
        for seed in 0..20 {
            let replay = recorded(&plan, seed);
            let text = serde_json::to_string(&replay).expect("it can be written");
            let read: Replay = serde_json::from_str(&text).expect("and read");
            let plan = read.plan.plan().expect("its own words");
            let again = subject.run(&plan, Origin::Log(&read.log()), Keep::Outcome);
            assert_eq!(format!("{:016x}", again.digest), read.digest, "seed {seed}");
        }
    }
}
