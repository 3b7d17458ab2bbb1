//! A plan in words and numbers, as reports and logs of choices keep it.
//!
//! What is read from a file was perhaps edited, and a plan that is none would be found by an
//! assertion in the middle of a run, or by nobody: so everything is looked at here, before there is
//! a [`Plan`].
//!
//! Bounds: those of [`Terms`], each with the number that it allows.

use super::faults::{Fault, UnknownFault};
use super::run::{Bounds, Forbidden, Plan, Switch};
use quorate_core::{ParseModelError, SystemModel};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Nodes of a run, at most.
pub const NODES_MAX: usize = 25;
/// Faults happen for so long in one run, at most, and recovery takes no longer: a day. Unit:
/// nanoseconds.
pub const TIME_MAX: u64 = 86_400_000_000_000;
/// The bounds on delays and steps, at most: a minute. Unit: nanoseconds.
pub const BOUND_MAX: u64 = 60_000_000_000;
/// The bound on drift, at most: five in a hundred. Unit: parts per thousand million.
pub const DRIFT_MAX: i64 = 50_000_000;

/// A plan in words and numbers.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Terms {
    /// The system model.
    pub model: String,
    /// Names of the faults that may take part, each once, and none that the model forbids.
    pub faults: Vec<String>,
    /// All of them take part in each run.
    pub all: bool,
    /// How many nodes there may be: one number at least. Range of each: 1 to [`NODES_MAX`].
    pub nodes: Vec<usize>,
    /// Unit: nanoseconds. Range: up to [`TIME_MAX`].
    pub safety: u64,
    /// Unit: nanoseconds. Range: 1 to [`TIME_MAX`].
    pub liveness: u64,
    /// Unit: nanoseconds. Range: up to [`BOUND_MAX`].
    pub delay_max: u64,
    /// Unit: nanoseconds. Range: up to [`BOUND_MAX`].
    pub step_max: u64,
    /// Unit: parts per thousand million. Range: 0 to [`DRIFT_MAX`].
    pub drift: i64,
    /// Whether our own code may take its rare paths on purpose.
    #[serde(default = "super::trace::on")]
    pub buggify: Switch,
}

/// Why terms are no plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum TermsError {
    /// There is no such model.
    Model(ParseModelError),
    /// There is no such fault.
    Fault(UnknownFault),
    /// The model forbids it.
    Forbidden(Forbidden),
    /// It is named twice.
    Twice(Fault),
    /// No number of nodes is named, or more numbers than there can be.
    Nodes {
        /// So many.
        numbers: usize,
    },
    /// A number that is none for this.
    Range {
        /// The field.
        field: &'static str,
        /// What it says.
        found: i128,
        /// The least that it may be.
        from: i128,
        /// And the most.
        to: i128,
    },
}

impl fmt::Display for TermsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the plan in it is none: ")?;
        match self {
            TermsError::Model(error) => write!(f, "model: {error}"),
            TermsError::Fault(error) => write!(f, "faults: {error}"),
            TermsError::Forbidden(error) => write!(f, "faults: {error}"),
            TermsError::Twice(fault) => write!(f, "faults: '{fault}' is named twice"),
            TermsError::Nodes { numbers } => write!(
                f,
                "nodes: it names {numbers} numbers of nodes, and may name 1 to {NODES_MAX}"
            ),
            TermsError::Range { field, found, from, to } => {
                write!(f, "{field}: {found} is not in {from}..={to}")
            }
        }
    }
}

impl std::error::Error for TermsError {}

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
            buggify: plan.buggify,
        }
    }
}

impl Terms {
    /// The plan that they describe.
    ///
    /// Errors: the first word or number that no plan can have.
    pub fn plan(&self) -> Result<Plan, TermsError> {
        let model: SystemModel = self.model.parse().map_err(TermsError::Model)?;
        let faults = self.known_faults()?;
        if self.nodes.is_empty() || self.nodes.len() > NODES_MAX {
            return Err(TermsError::Nodes { numbers: self.nodes.len() });
        }
        for nodes in &self.nodes {
            within("nodes", *nodes as i128, 1, NODES_MAX as i128)?;
        }
        within("safety", self.safety.into(), 0, TIME_MAX.into())?;
        within("liveness", self.liveness.into(), 1, TIME_MAX.into())?;
        within("delay_max", self.delay_max.into(), 0, BOUND_MAX.into())?;
        within("step_max", self.step_max.into(), 0, BOUND_MAX.into())?;
        within("drift", self.drift.into(), 0, DRIFT_MAX.into())?;
        let (delay_max, step_max, drift) = (self.delay_max, self.step_max, self.drift);
        let plan = Plan {
            all: self.all,
            nodes: self.nodes.clone(),
            safety: self.safety,
            liveness: self.liveness,
            bounds: Bounds { delay_max, step_max, drift },
            buggify: self.buggify,
            ..Plan::of(model)
        };
        plan.with_faults(&faults).map_err(TermsError::Forbidden)
    }

    fn known_faults(&self) -> Result<Vec<Fault>, TermsError> {
        let mut faults: Vec<Fault> = Vec::new();
        for name in &self.faults {
            let fault = name.parse().map_err(TermsError::Fault)?;
            if faults.contains(&fault) {
                return Err(TermsError::Twice(fault));
            }
            faults.push(fault);
        }
        Ok(faults)
    }
}

fn within(field: &'static str, found: i128, from: i128, to: i128) -> Result<(), TermsError> {
    match (from..=to).contains(&found) {
        true => Ok(()),
        false => Err(TermsError::Range { field, found, from, to }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms() -> Terms {
        Terms::from(&Plan::of(SystemModel::DATA_CENTRE).with_nodes(4))
    }

    #[test]
    fn terms_are_the_plan() {
        for plan in [Plan::of(SystemModel::DATA_CENTRE), Plan::of(SystemModel::DATA_CENTRE).calm()]
        {
            let terms = Terms::from(&plan);
            assert_eq!(Terms::from(&terms.plan().expect("its own words")), terms);
        }
    }

    #[test]
    #[expect(clippy::type_complexity, reason = "a table of changes, and what is said of each")]
    fn each_field_has_its_bounds() {
        let refused = |change: fn(&mut Terms)| {
            let mut terms = terms();
            change(&mut terms);
            let text = terms.plan().expect_err("no plan").to_string();
            text.strip_prefix("the plan in it is none: ").expect("it says so").to_owned()
        };
        let cases: [(fn(&mut Terms), &str); 17] = [
            (|t| t.model = "network=smoke".to_owned(), "model: 'network=smoke' is no part"),
            (|t| t.model.push_str(",node=byzantine"), "model: it says two things of 'node'"),
            (|t| t.faults.push("gremlins".to_owned()), "faults: 'gremlins' is no fault"),
            (|t| t.faults.push("forge".to_owned()), "faults: network=fair-loss forbids the fault"),
            (|t| t.faults.push("crash".to_owned()), "faults: 'crash' is named twice"),
            (|t| t.nodes.clear(), "nodes: it names 0 numbers of nodes, and may name 1 to 25"),
            (|t| t.nodes = vec![3; 26], "nodes: it names 26 numbers of nodes"),
            (|t| t.nodes = vec![3, 0], "nodes: 0 is not in 1..=25"),
            (|t| t.nodes = vec![usize::MAX], "nodes: 18446744073709551615 is not in 1..=25"),
            (|t| t.safety = TIME_MAX + 1, "safety: 86400000000001 is not in 0..=86400000000000"),
            (|t| t.liveness = u64::MAX, "liveness: 18446744073709551615 is not in 1..="),
            (|t| t.liveness = 0, "liveness: 0 is not in 1..="),
            (|t| t.delay_max = BOUND_MAX + 1, "delay_max: 60000000001 is not in 0..=60000000000"),
            (|t| t.step_max = u64::MAX, "step_max: 18446744073709551615 is not in 0..="),
            (|t| t.drift = -1, "drift: -1 is not in 0..=50000000"),
            (|t| t.drift = i64::MIN, "drift: -9223372036854775808 is not in"),
            (|t| t.drift = DRIFT_MAX + 1, "drift: 50000001 is not in"),
        ];
        for (change, expected) in cases {
            let text = refused(change);
            assert!(text.starts_with(expected), "{text}");
        }
    }

    #[test]
    fn what_was_written_before_there_was_a_switch_is_read() {
        let mut written = serde_json::to_value(terms()).expect("it can be written");
        let object = written.as_object_mut().expect("an object");
        assert_eq!(object.remove("buggify"), Some("on".into()));
        assert_eq!(serde_json::from_value::<Terms>(written).expect("it is read"), terms());
    }
}
