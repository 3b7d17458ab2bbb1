//! `/livez` and `/readyz`: whether this member lives, and whether it is to be sent requests.
//!
//! ```text
//!   /livez    serializable_read                        it answers from its own store
//!   /readyz   data_corruption serializable_read        and beyond that: no alarm of corruption,
//!             linearizable_read non_learner            a quorum, a vote
//! ```
//!
//! A member that is out of space is ready: it serves reads and the deletes that help. Paths,
//! queries and texts are etcd's: `?verbose` tells every check, `?exclude=NAME` leaves one out,
//! `/livez/NAME` asks for one alone; what failed is told in any case.
//!
//! Source: etcd `server/etcdserver/api/etcdhttp/health.go` (3.5.11).

use super::errors::ApiError;
use crate::handle::{Consistency, Handle, Read};
use bytes::Bytes;
use quorate_replica::store::{AlarmKind, Keys, Range};

/// One thing that is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Check {
    /// No alarm of corruption.
    DataCorruption,
    /// A read from this member's own store.
    SerializableRead,
    /// A read that needs a quorum.
    LinearizableRead,
    /// This member votes.
    NonLearner,
}

/// What is looked at for `/livez`.
pub(super) const LIVEZ: &[Check] = &[Check::SerializableRead];
/// What is looked at for `/readyz`.
pub(super) const READYZ: &[Check] =
    &[Check::DataCorruption, Check::SerializableRead, Check::LinearizableRead, Check::NonLearner];

/// What a probe is told.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Verdict {
    /// Nothing failed.
    pub(super) passed: bool,
    /// The body of the answer.
    pub(super) text: String,
}

impl Check {
    pub(super) fn name(self) -> &'static str {
        match self {
            Check::DataCorruption => "data_corruption",
            Check::SerializableRead => "serializable_read",
            Check::LinearizableRead => "linearizable_read",
            Check::NonLearner => "non_learner",
        }
    }

    async fn run(self, handle: &Handle) -> Result<(), String> {
        let refused = |error: ApiError| error.code_and_text().1.to_owned();
        match self {
            Check::DataCorruption => {
                let alarms = handle.status().alarms;
                match alarms.iter().any(|alarm| alarm.kind == AlarmKind::Corrupt) {
                    true => Err("alarm activated: CORRUPT".to_owned()),
                    false => Ok(()),
                }
            }
            Check::SerializableRead => {
                read(handle, Consistency::Serializable).await.map_err(refused)
            }
            Check::LinearizableRead => {
                read(handle, Consistency::Linearizable).await.map_err(refused)
            }
            Check::NonLearner if handle.status().is_learner => {
                Err("not supported for learner".to_owned())
            }
            Check::NonLearner => Ok(()),
        }
    }
}

/// The smallest read there is.
pub(super) async fn read(handle: &Handle, consistency: Consistency) -> Result<(), ApiError> {
    if consistency == Consistency::Linearizable && handle.status().leader.is_none() {
        return Err(ApiError::NoLeader); // Known at once; a probe should not have to wait.
    }
    if handle.is_witness() {
        return Ok(()); // It follows somebody, and has nothing to read.
    }
    let range = Range {
        keys: Keys { key: Bytes::from_static(b"\0"), range_end: Bytes::new() },
        limit: 1,
        keys_only: true,
        ..Range::default()
    };
    handle.read(Read::Range(range), consistency).await?;
    Ok(())
}

/// The checks that a query leaves.
pub(super) fn chosen(checks: &[Check], query: &str) -> Vec<Check> {
    let left = |check: &&Check| !values(query, "exclude").any(|name| name == check.name());
    checks.iter().filter(left).copied().collect()
}

/// The values of a name in a query; a name without a value has an empty one.
pub(super) fn values<'a>(query: &'a str, name: &'a str) -> impl Iterator<Item = &'a str> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    pairs.filter(move |(found, _)| *found == name).map(|(_, value)| value)
}

/// Runs the checks one after the other.
pub(super) async fn run(handle: &Handle, checks: &[Check], query: &str) -> Verdict {
    let mut results = Vec::new();
    for check in checks {
        results.push((*check, check.run(handle).await));
    }
    verdict(&results, values(query, "verbose").next().is_some())
}

fn verdict(results: &[(Check, Result<(), String>)], verbose: bool) -> Verdict {
    let mut text = String::new();
    for (check, result) in results {
        let name = check.name();
        text += &match result {
            Ok(()) => format!("[+]{name} ok\n"),
            Err(why) => format!("[-]{name} failed: {why}\n"),
        };
    }
    let passed = results.iter().all(|(_, result)| result.is_ok());
    match (passed, verbose) {
        (true, false) => text = "ok\n".to_owned(),
        (true, true) => text += "ok\n",
        (false, _) => text += "\n", // As Go's helper for errors ends its text.
    }
    Verdict { passed, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_is_short_unless_something_failed_or_all_was_asked_for() {
        let good = [(Check::DataCorruption, Ok(())), (Check::SerializableRead, Ok(()))];
        let told = |results: &[_], verbose| {
            let Verdict { passed, text } = verdict(results, verbose);
            (passed, text)
        };
        assert_eq!(told(&good, false), (true, "ok\n".to_owned()));
        let all = "[+]data_corruption ok\n[+]serializable_read ok\nok\n";
        assert_eq!(told(&good, true), (true, all.to_owned()));
        let bad = [
            (Check::SerializableRead, Ok(())),
            (Check::LinearizableRead, Err("etcdserver: no leader".to_owned())),
        ];
        let all = "[+]serializable_read ok\n[-]linearizable_read failed: etcdserver: no leader\n\n";
        for verbose in [false, true] {
            assert_eq!(told(&bad, verbose), (false, all.to_owned()));
        }
    }

    #[test]
    fn checks_can_be_left_out() {
        let query = "verbose&exclude=linearizable_read&exclude=non_learner&exclude=nothing";
        let left = chosen(READYZ, query);
        assert_eq!(left, [Check::DataCorruption, Check::SerializableRead]);
        assert_eq!(chosen(LIVEZ, ""), LIVEZ);
        assert!(values(query, "verbose").next().is_some());
        assert!(values("verbosely=1", "verbose").next().is_none());
    }
}
