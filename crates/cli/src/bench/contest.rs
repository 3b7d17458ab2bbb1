//! Rounds of several clusters, interleaved.
//!
//! A machine is never equally quick for long. So clusters take turns, round by round, and the
//! order is reversed each time (A B, B A, A B, ..): what gets slowly worse or better meets all of
//! them alike. What is shown are medians over the rounds.

use super::cluster::{Cluster, Kind};
use super::fill::{self, FillError, Gaps, Totals};
use super::leases;
use super::ledger::Counters;
use super::progress::Progress;
use super::record::Round;
use super::round::{self, Load, RoundError};
use super::stamp::STAMP_BYTES;
use super::verdict::{Finding, Wrong};
use super::work::{Failed, Work};
use crate::client;
use std::fmt;

/// Why there are no figures.
#[derive(Debug)]
pub(super) enum ContestError {
    /// A server answers wrongly.
    Wrong(Finding),
    /// A round could not be run.
    Round { cluster: String, error: RoundError },
    /// A key space could not be filled or read.
    Fill { cluster: String, error: FillError },
}

impl fmt::Display for ContestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ContestError::Wrong(finding) => finding.fmt(f),
            ContestError::Round { cluster, error } => write!(f, "{cluster}: {error}"),
            ContestError::Fill { cluster, error } => write!(f, "{cluster}: {error}"),
        }
    }
}

/// A cluster and its rounds.
#[derive(Debug)]
pub(super) struct Contestant {
    /// The cluster.
    pub(super) cluster: Cluster,
    /// Its rounds, in order.
    pub(super) rounds: Vec<Round>,
    before: Totals,
}

/// Runs all rounds of all clusters.
pub(super) fn run(
    load: &Load,
    clusters: Vec<Cluster>,
    rounds: u64,
    progress: &mut Progress,
) -> Result<Vec<Contestant>, ContestError> {
    let mut contestants = Vec::new();
    for cluster in clusters {
        let load = &load.of(&cluster);
        let mut before = Totals::default();
        if let Some(gaps) = load.work.gaps() {
            before = fill(&cluster, load, gaps, progress)?;
        }
        if let Work::KeepAlive { leases } = load.work {
            judged(&cluster, client::block_on(leases::prepare(&cluster, leases)))?;
        }
        contestants.push(Contestant { cluster, rounds: Vec::new(), before });
    }
    for number in 0..rounds {
        let mut order: Vec<usize> = (0..contestants.len()).collect();
        if number % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let contestant = &mut contestants[at];
            let cluster = &contestant.cluster;
            progress.begin(format!("{} {}/{rounds}", cluster.name, number + 1));
            let round = round::run(&load.of(cluster), cluster, number, progress);
            let round = round.map_err(|error| round_failed(cluster, error))?;
            contestant.rounds.push(round);
            if load.work == Work::Grant {
                judged(cluster, client::block_on(leases::settle(cluster)))?;
            }
        }
    }
    for contestant in &contestants {
        settle(&load.of(&contestant.cluster), contestant, progress)?;
    }
    progress.end();
    Ok(contestants)
}

/// Makes all keys of a cluster known.
pub(super) fn fill(
    cluster: &Cluster,
    load: &Load,
    gaps: Gaps,
    progress: &mut Progress,
) -> Result<Totals, ContestError> {
    let prepared = client::block_on(fill::prepare(cluster, &load.filling, gaps, progress));
    prepared.map_err(|error| fill_failed(cluster, error))
}

/// Everything that was acknowledged is there, and adds up.
fn settle(
    load: &Load,
    contestant: &Contestant,
    progress: &mut Progress,
) -> Result<(), ContestError> {
    let cluster = &contestant.cluster;
    judged(cluster, client::block_on(leases::settle(cluster)))?;
    if !load.work.writes() {
        return Ok(());
    }
    let bytes = STAMP_BYTES + load.filling.len();
    let after = client::block_on(fill::audit(cluster, bytes, progress));
    let after = after.map_err(|error| fill_failed(cluster, error))?;
    if load.work.counters() == Counters::Ignored {
        return Ok(());
    }
    let (certain, perhaps) = cluster.ledger.swaps();
    let grown = after.counters.saturating_sub(contestant.before.counters);
    if (certain..=certain + perhaps).contains(&grown) {
        return Ok(());
    }
    let wrong = Wrong {
        promise: "compare-and-swaps add up",
        expected: format!(
            "counters that grew by {certain}, the number of swaps acknowledged ({perhaps} had an \
             unknown outcome)"
        ),
        seen: format!("counters that grew by {grown}"),
    };
    cluster.verdict.condemn(&cluster.name, wrong);
    Err(round_failed(cluster, RoundError::Condemned))
}

/// A failure outside of the rounds.
fn judged(cluster: &Cluster, outcome: Result<(), Failed>) -> Result<(), ContestError> {
    outcome.map_err(|failed| match failed {
        Failed::Status(status) => {
            let endpoint = cluster.endpoints[0].authority();
            fill_failed(cluster, FillError::Failed { endpoint, status })
        }
        Failed::Wrong(wrong) => {
            cluster.verdict.condemn(&cluster.endpoints[0].authority(), wrong);
            fill_failed(cluster, FillError::Condemned)
        }
    })
}

fn round_failed(cluster: &Cluster, error: RoundError) -> ContestError {
    explained(cluster, ContestError::Round { cluster: cluster.name.clone(), error })
}

fn fill_failed(cluster: &Cluster, error: FillError) -> ContestError {
    explained(cluster, ContestError::Fill { cluster: cluster.name.clone(), error })
}

/// A wrong answer explains every failure of its cluster.
fn explained(cluster: &Cluster, error: ContestError) -> ContestError {
    cluster.verdict.finding().cloned().map_or(error, ContestError::Wrong)
}

impl Load {
    /// What this cluster is asked: the yardstick only understands its own questions.
    fn of(&self, cluster: &Cluster) -> Load {
        let mut load = self.clone();
        if cluster.kind == Kind::Echo {
            load.work = Work::Echo;
        }
        load
    }
}

impl Work {
    /// What must be done about keys before, if it works on keys.
    fn gaps(self) -> Option<Gaps> {
        match self {
            Work::Put | Work::Watch { .. } => Some(Gaps::Left),
            Work::Get(_) | Work::Mixed { .. } | Work::Swap | Work::Range { .. } | Work::List => {
                Some(Gaps::Filled)
            }
            Work::Grant | Work::KeepAlive { .. } | Work::Age | Work::Echo => None,
        }
    }

    fn writes(self) -> bool {
        matches!(self, Work::Put | Work::Mixed { .. } | Work::Swap | Work::Watch { .. })
    }

    /// What the counters of its values say.
    pub(super) fn counters(self) -> Counters {
        if self == Work::Swap { Counters::Counted } else { Counters::Ignored }
    }
}
