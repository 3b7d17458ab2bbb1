//! A Raft message as something else: what a liar says, and what a network makes of it that alters.
//!
//! One field of a message gets another value of its type, near to the true one, because a lie that
//! is far off is noticed at once. What results is still a message: a checksum would be in order.

use bytes::Bytes;
use quorate_core::{Index, Position, Term};
use quorate_drivers::simulate::Choose;
use quorate_protocols::consensus::raft::{Body, Cause, Entry, Ground, Message, Payload, Verdict};
use std::time::Duration;

/// The message with one field changed.
pub(super) fn alter(message: &Message, choose: Choose<'_>) -> Message {
    let mut altered = message.clone();
    if choose(4) == 0 {
        altered.term = Term(near(altered.term.0, choose));
        return altered;
    }
    match &mut altered.body {
        Body::PreVote { campaign, last } => match choose(2) {
            0 => campaign.0 = near(campaign.0, choose),
            _ => *last = near_position(*last, choose),
        },
        Body::PreVoteReply { verdict, .. } | Body::VoteReply { verdict } => {
            *verdict = opposite(*verdict);
        }
        Body::Vote { last, cause } => match choose(2) {
            0 => *last = near_position(*last, choose),
            _ => *cause = Cause::Transfer,
        },
        Body::Append { prev, entries, commit } => match choose(4) {
            0 => *prev = near_position(*prev, choose),
            1 => commit.0 = near(commit.0, choose),
            2 => drop(entries.pop()),
            _ => alter_entry(entries, choose),
        },
        Body::Appended { matched } => matched.0 = near(matched.0, choose),
        Body::AppendRejected { prev, hint } => match choose(2) {
            0 => prev.0 = near(prev.0, choose),
            _ => *hint = near_position(*hint, choose),
        },
        Body::Heartbeat { round, commit, .. } => match choose(2) {
            0 => *round = near(*round, choose),
            _ => commit.0 = near(commit.0, choose),
        },
        Body::Committed { commit } => commit.0 = near(commit.0, choose),
        Body::HeartbeatReply { round, .. } => *round = near(*round, choose),
        Body::Forward { batch, commands, .. } => match choose(2) {
            0 => *batch = near(*batch, choose),
            _ => drop(commands.pop()),
        },
        Body::ForwardRefused { first, .. } => *first = near(u64::from(*first), choose) as u32,
        Body::ReadIndex { batch, .. } => *batch = near(*batch, choose),
        Body::ReadIndexReply { read_index, .. } => {
            *read_index = read_index.map(|(index, ground)| (Index(near(index.0, choose)), ground));
        }
        Body::TimeoutNow => {
            altered.body = Body::HeartbeatReply { round: 1, promise: Duration::ZERO };
        }
    }
    altered
}

fn near(value: u64, choose: Choose<'_>) -> u64 {
    match choose(4) {
        0 => value.saturating_add(1),
        1 => value.saturating_sub(1),
        2 => value.saturating_add(1 + choose(10) as u64),
        _ => value / 2,
    }
}

fn near_position(position: Position, choose: Choose<'_>) -> Position {
    match choose(2) {
        0 => Position { term: Term(near(position.term.0, choose)), ..position },
        _ => Position { index: Index(near(position.index.0, choose)), ..position },
    }
}

fn opposite(verdict: Verdict) -> Verdict {
    match verdict {
        Verdict::Granted => Verdict::Denied,
        Verdict::Denied => Verdict::Granted,
    }
}

fn alter_entry(entries: &mut [Entry], choose: Choose<'_>) {
    if entries.is_empty() {
        return;
    }
    let chosen = choose(entries.len());
    entries[chosen].payload = match choose(2) {
        0 => Payload::Noop,
        _ => Payload::Command(Bytes::copy_from_slice(&(choose(1_000) as u64).to_le_bytes())),
    };
}

/// The message in the field's words.
pub(super) fn describe(message: &Message) -> String {
    let term = message.term;
    match &message.body {
        Body::PreVote { campaign, last } => format!("PreVote for term {campaign}, log ends {last}"),
        Body::PreVoteReply { campaign, verdict } => format!("PreVote {campaign}: {verdict:?}"),
        Body::Vote { last, cause } => format!("Vote term {term}, log ends {last}, {cause:?}"),
        Body::VoteReply { verdict } => format!("Vote term {term}: {verdict:?}"),
        Body::Append { prev, entries, commit } => {
            let entries: Vec<String> = entries.iter().map(describe_entry).collect();
            let entries = entries.join(" ");
            format!("Append term {term} after {prev} [{entries}] commit {commit}")
        }
        Body::Appended { matched } => format!("Appended term {term} up to {matched}"),
        Body::AppendRejected { prev, hint } => {
            format!("Append rejected term {term} after {prev}, hint {hint}")
        }
        Body::Heartbeat { round, commit, lease, .. } => {
            let lease = in_millis("wants a promise", *lease);
            format!("Heartbeat term {term} round {round} commit {commit}{lease}")
        }
        Body::Committed { commit } => format!("Committed term {term} up to {commit}"),
        Body::HeartbeatReply { round, promise } => {
            let promise = in_millis("promises", *promise);
            format!("Heartbeat reply term {term} round {round}{promise}")
        }
        Body::Forward { batch, commands, .. } => {
            format!("Forward batch {batch}, {} commands", commands.len())
        }
        Body::ForwardRefused { batch, first, why, .. } => {
            format!("Forward batch {batch} refused from {first}: {why:?}")
        }
        Body::ReadIndex { life, batch } => format!("ReadIndex of life {life}, batch {batch}"),
        Body::ReadIndexReply { life, batch, read_index } => match read_index {
            Some((index, Ground::Round)) => {
                format!("ReadIndex for life {life}, batch {batch}: {index}")
            }
            Some((index, Ground::Lease)) => {
                format!("ReadIndex for life {life}, batch {batch}: {index}, by lease")
            }
            None => format!("ReadIndex for life {life}, batch {batch}: refused"),
        },
        Body::TimeoutNow => format!("TimeoutNow term {term}"),
    }
}

/// Nothing for none.
fn in_millis(what: &str, span: Duration) -> String {
    if span.is_zero() { String::new() } else { format!(", {what} for {} ms", span.as_millis()) }
}

fn describe_entry(entry: &Entry) -> String {
    match &entry.payload {
        Payload::Noop => format!("{} noop", entry.position),
        Payload::Command(command) => {
            format!("{} command {}", entry.position, super::command_number(command))
        }
        Payload::Membership(_) => format!("{} members", entry.position),
    }
}
