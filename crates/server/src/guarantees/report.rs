//! The table as `/guarantees` tells it, and as whoever asks for it reads it.

use super::assumption::millis;
use super::watchman::View;
use crate::handle::Handle;
use quorate_core::NodeId;
use serde::{Deserialize, Serialize};

/// What one member promises at one moment.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Its name.
    pub member: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// The id of its cluster, in hexadecimal; empty if an older member does not tell.
    #[serde(default)]
    pub cluster: String,
    /// The leader that it knows, in hexadecimal.
    pub leader: Option<String>,
    /// Since when it serves no writes and no linearizable reads. Unit: milliseconds.
    pub read_only_for_ms: Option<u64>,
    /// Requests that were refused, or given up by clients, while there was no quorum, since the
    /// member started.
    pub unserved_total: u64,
    /// How old its state can be at most; none if it was never proven fresh. Unit: milliseconds.
    pub age_ms: Option<u64>,
    /// What promises rest on.
    pub assumptions: Vec<AssumptionReport>,
    /// What is promised.
    pub promises: Vec<PromiseReport>,
}

/// One assumption.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AssumptionReport {
    /// Which.
    pub name: String,
    /// What is measured.
    pub meaning: String,
    /// `holds`, `broken` or `not measured`.
    pub state: String,
    /// The value, if it was measured.
    pub measured: Option<u64>,
    /// The largest with which it holds; none if there is no limit.
    pub bound: Option<u64>,
    /// Of both: `ms`, `bytes`, or nothing if things are counted.
    pub unit: String,
    /// What else there is to say.
    pub detail: Option<String>,
    /// For how long it has been so. Unit: milliseconds.
    pub for_ms: u64,
    /// How often it broke since the member started.
    pub broken_total: u64,
}

/// One promise.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PromiseReport {
    /// What is done.
    pub operation: String,
    /// How.
    pub mode: String,
    /// `holds`, `weaker`, `withdrawn` or `off`.
    pub state: String,
    /// What is promised now, or what happens instead.
    pub promise: String,
    /// The assumptions it rests on.
    pub rests_on: Vec<String>,
    /// The one that made it less.
    pub because: Option<String>,
}

impl Report {
    /// True if less is promised than when all is well.
    pub fn is_less(&self) -> bool {
        self.promises.iter().any(|promise| matches!(&promise.state[..], "weaker" | "withdrawn"))
    }

    pub(super) fn of(handle: &Handle, view: &View) -> Report {
        let id = handle.member_id();
        let own = handle.members().into_iter().find(|member| member.id == id);
        let hex = |NodeId(id): NodeId| format!("{id:x}");
        Report {
            member: own.map(|member| member.name).unwrap_or_default(),
            id: hex(NodeId(id)),
            cluster: format!("{:x}", handle.cluster_id()),
            leader: view.measured.leader.map(hex),
            read_only_for_ms: view.read_only_for().map(millis),
            unserved_total: view.measured.unserved,
            age_ms: view.measured.age.map(millis),
            assumptions: assumptions(view),
            promises: promises(view),
        }
    }
}

fn assumptions(view: &View) -> Vec<AssumptionReport> {
    let each = view.assumptions.iter().zip(&view.kept);
    let told = each.map(|(assumption, kept)| AssumptionReport {
        name: assumption.name.text().to_owned(),
        meaning: assumption.name.meaning().to_owned(),
        state: assumption.standing.text().to_owned(),
        measured: assumption.value,
        bound: assumption.bound,
        unit: assumption.name.unit().text().to_owned(),
        detail: assumption.detail.map(str::to_owned),
        for_ms: millis(view.at.since(kept.since)),
        broken_total: kept.broken_total,
    });
    told.collect()
}

fn promises(view: &View) -> Vec<PromiseReport> {
    let told = view.rows.iter().map(|row| {
        let (operation, mode) = row.promise.names();
        PromiseReport {
            operation: operation.to_owned(),
            mode: mode.to_owned(),
            state: row.state.text().to_owned(),
            promise: row.words.to_string(),
            rests_on: row.promise.rests_on().iter().map(|name| name.text().to_owned()).collect(),
            because: row.because.map(|name| name.text().to_owned()),
        }
    });
    told.collect()
}
