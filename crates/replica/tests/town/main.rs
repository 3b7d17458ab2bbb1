//! Replicas among each other, driven by hand: every message delivered in order, every record
//! durable at once, time moved by the test.

mod lease;
mod streets;
mod walk;
mod writes;

use bytes::Bytes;
use quorate_core::{NodeId, Protocol};
use quorate_protocols::consensus::raft::Configuration;
use quorate_replica::members::{Members, Seat};
use quorate_replica::store::{
    Command, DeleteRange, Keys, LeaseTime, Mutant, Outcome, Put, Revision, Store,
};
use quorate_replica::{
    Checkpoint, Indication, LessorMutant, Plant, Refusal, ReplicaMutant, Request, Ticket,
};
use std::time::Duration;
use streets::{Town, UNCOMMITTED_BYTES_MAX};

fn put(key: &str, value: &str) -> Command {
    let (key, value) = (Bytes::copy_from_slice(key.as_bytes()), Bytes::from(value.to_owned()));
    Command::Put(Put { key, value, ..Put::default() })
}

fn delete(key: &'static str) -> Command {
    let keys = Keys { key: Bytes::from_static(key.as_bytes()), range_end: Bytes::new() };
    Command::DeleteRange(DeleteRange { keys, prev_kv: false })
}

fn settled() -> Town {
    settled_with(None)
}

fn settled_with(mutant: Option<LessorMutant>) -> Town {
    let mut town = Town::with(mutant.map(Plant::Lessor));
    town.pass(Duration::from_secs(5));
    town.leader();
    town
}

#[test]
fn a_write_is_answered_by_whoever_was_asked_once_it_is_applied_there() {
    let mut town = settled();
    for at in [town.leader(), town.follower()] {
        let ticket = town.write(at, &put("k", "v"));
        let answer = town.answer(at, ticket).expect("answered").as_ref().expect("applied");
        assert_eq!(answer.outcome, Ok(Outcome::Put { prev: None }));
        assert_eq!(answer.revision, town.nodes[&at].node.store().revision());
    }
    town.pass(Duration::from_secs(1));
    for house in town.nodes.values() {
        assert_eq!(house.node.store().revision(), Revision(3), "each write moves it by one");
    }
}

#[test]
fn a_read_is_served_at_a_follower_only_when_its_state_is_fresh_enough() {
    let mut town = settled();
    let (leader, follower) = (town.leader(), town.follower());
    let ticket = town.read(follower);
    let readable = |want: Ticket| {
        move |told: &Indication| match told {
            Indication::Readable { ticket, .. } => *ticket == want,
            _ => false,
        }
    };
    assert!(town.told(follower, readable(ticket)));
    town.cut_off = vec![follower];
    let written = town.write(leader, &put("k", "new"));
    assert!(matches!(town.answer(leader, written), Some(Ok(_))), "two of three suffice");
    let ticket = town.read(follower);
    assert!(!town.told(follower, readable(ticket)), "it does not know what it missed");
    town.cut_off.clear();
    town.pass(Duration::from_secs(2));
    assert!(town.told(follower, readable(ticket)), "a read is asked again until it can be served");
    assert_eq!(town.nodes[&follower].node.store().revision(), Revision(2));
}

fn check_a_leader_is_kept(plant: Option<Plant>) {
    for standstill_ms in [1_500, 4_000, 30_000] {
        let mut town = Town::with(plant);
        town.pass(Duration::from_secs(5));
        let leader = town.leader();
        let term = town.nodes[&leader].node.raft().term();
        for id in [1, 2, 3].map(NodeId) {
            town.freeze(id);
        }
        town.pass(Duration::from_millis(standstill_ms));
        // The leader comes last: the others find their timers due, and nothing from it.
        for id in [1, 2, 3].map(NodeId).into_iter().filter(|id| *id != leader) {
            town.thaw(id);
        }
        town.pass(Duration::from_millis(500));
        town.thaw(leader);
        town.pass(Duration::from_secs(5));
        assert_eq!(town.leader(), leader, "after {standstill_ms} ms");
        for house in town.nodes.values() {
            assert_eq!(house.node.raft().term(), term, "an election after {standstill_ms} ms");
        }
    }
}

#[test]
fn a_leader_is_kept_when_all_members_stood_still() {
    check_a_leader_is_kept(None);
    let plant = Some(Plant::Replica(ReplicaMutant::WakefulnessIgnored));
    let deposed = std::panic::catch_unwind(|| check_a_leader_is_kept(plant));
    assert!(deposed.is_err(), "nobody noticed an election that nobody needs");
}

#[test]
fn an_error_knows_whether_the_write_may_still_happen() {
    let mut town = settled();
    let (leader, follower) = (town.leader(), town.follower());
    town.cut_off = vec![leader];
    let sent = town.write(leader, &put("k", "lost?"));
    town.pass(Duration::from_secs(7));
    let why = town.refused(leader, sent).expect("given up");
    assert!(!why.is_definite(), "{why:?}: it stands in a log and may be committed");

    town.cut_off = town.nodes.keys().copied().collect();
    town.pass(Duration::from_secs(5));
    let never_sent = town.write(follower, &put("k", "never"));
    town.pass(Duration::from_secs(7));
    assert_eq!(town.refused(follower, never_sent), Some(Refusal::NoLeader));
    assert!(Refusal::NoLeader.is_definite());
}

fn grant() -> Command {
    Command::LeaseGrant { id: 7, ttl: 10, at: LeaseTime(0) }
}

#[test]
fn what_a_leader_cannot_take_is_refused_at_once_by_the_follower_that_was_asked() {
    let mut town = settled();
    let (leader, follower) = (town.leader(), town.follower());
    let large = "x".repeat(UNCOMMITTED_BYTES_MAX);
    let taken = town.submit(leader, &put("large", &large));
    let refused = [put("k", "v"), grant()].map(|command| town.submit(follower, &command));
    town.settle();
    assert!(matches!(town.answer(leader, taken), Some(Ok(_))));
    for ticket in refused {
        assert_eq!(town.refused(follower, ticket), Some(Refusal::TooManyRequests), "{ticket:?}");
    }
    assert!(Refusal::TooManyRequests.is_definite());
    town.pass(Duration::from_secs(7));
    assert_eq!(town.nodes[&leader].node.store().revision(), Revision(2), "nothing came later");
    assert!(town.nodes[&leader].node.store().lease(7).is_none());
}

#[test]
fn what_comes_while_leadership_is_handed_over_is_written_afterwards() {
    let mut town = settled();
    let (leader, follower) = (town.leader(), town.follower());
    let is_third = |id: &NodeId| *id != leader && *id != follower;
    let third = town.nodes.keys().copied().find(is_third).expect("one more");
    town.cut_off = vec![third];
    town.write(leader, &put("k", "not at the third"));
    town.call(leader, |node, cx| node.on_request(Request::MoveLeader { to: third }, cx));
    let tickets = [put("k", "v"), grant()].map(|command| town.write(follower, &command));
    assert!(tickets.iter().all(|ticket| town.answer(follower, *ticket).is_none()));
    town.pass(Duration::from_secs(2));
    for ticket in tickets {
        assert!(matches!(town.answer(follower, ticket), Some(Ok(_))), "{ticket:?}");
    }
}

#[test]
fn what_waits_for_a_leader_is_written_once_there_is_one() {
    let mut town = Town::new();
    let ticket = town.write(NodeId(2), &put("k", "early"));
    assert!(town.answer(NodeId(2), ticket).is_none());
    town.pass(Duration::from_secs(4));
    assert!(matches!(town.answer(NodeId(2), ticket), Some(Ok(_))));
}

#[test]
fn a_command_of_a_former_life_is_no_answer_to_a_question_of_this_one() {
    let mut town = settled();
    let follower = town.follower();
    let others: Vec<NodeId> = town.nodes.keys().copied().filter(|id| *id != follower).collect();
    let old = town.write(follower, &put("old", "1"));
    assert!(town.answer(follower, old).is_some());
    // Started anew with the log it has: the old command is applied again, to nobody's question.
    let records = town.nodes[&follower].records.clone();
    town.cut_off = others;
    town.start(follower, None, records);
    town.pass(Duration::from_secs(1));
    town.cut_off.clear();
    town.pass(Duration::from_secs(4));
    assert!(town.answer(follower, old).is_none(), "an old ticket was answered in a new life");
    assert_eq!(town.nodes[&follower].node.store().revision(), Revision(2));
}

#[test]
fn a_restart_from_a_checkpoint_and_the_log_after_it_loses_nothing() {
    let mut town = settled();
    let (leader, follower) = (town.leader(), town.follower());
    town.write(leader, &put("a", "1"));
    town.pass(Duration::from_secs(1));
    let checkpoint = town.nodes[&follower].node.checkpoint();
    town.write(leader, &put("b", "2"));
    town.pass(Duration::from_secs(1));
    let before = town.nodes[&follower].node.store().digest();
    let records = town.nodes[&follower].records.clone();
    town.start(follower, Some(checkpoint), records);
    town.pass(Duration::from_secs(2));
    assert_eq!(town.nodes[&follower].node.store().digest(), before);
}

#[test]
fn a_checkpoint_of_a_peer_replaces_a_state_that_is_behind_and_no_other() {
    let mut town = settled();
    let (leader, follower) = (town.leader(), town.follower());
    let old = town.nodes[&leader].node.checkpoint();
    town.cut_off = vec![follower];
    for value in ["1", "2", "3"] {
        town.write(leader, &put("k", value));
    }
    let ahead = town.nodes[&leader].node.checkpoint();
    let revision = ahead.store.revision();
    let install = |checkpoint| Request::Install(Box::new(checkpoint));
    town.call(follower, |node, cx| node.on_request(install(ahead), cx));
    assert_eq!(town.nodes[&follower].node.store().revision(), revision);
    town.call(follower, |node, cx| node.on_request(install(old), cx));
    assert_eq!(town.nodes[&follower].node.store().revision(), revision, "it never goes back");
    town.cut_off.clear();
    town.pass(Duration::from_secs(2));
    town.write(leader, &put("k", "4"));
    town.pass(Duration::from_secs(1));
    let digest = |id: &NodeId| town.nodes[id].node.store().digest();
    assert_eq!(digest(&leader), digest(&follower));
}

/// Replicas whose third member starts from a state with a planted bug, then many writes.
fn with_a_bug(mutant: Option<Mutant>) -> Town {
    let mut town = misled(mutant);
    write_much(&mut town);
    town
}

fn write_much(town: &mut Town) {
    let leader = town.leader();
    for number in 0..40 {
        town.write(leader, &put("k", &number.to_string()));
        town.write(leader, &delete("k"));
    }
    town.pass(Duration::from_secs(3));
}

/// Replicas whose third member starts from a state with a planted bug.
fn misled(mutant: Option<Mutant>) -> Town {
    let mut town = settled();
    let wrong = NodeId(3);
    let mut store = Store::new();
    if let Some(mutant) = mutant {
        store.plant(mutant);
    }
    let position = quorate_core::Position::ZERO;
    let configuration = Configuration::of([1, 2, 3].map(NodeId));
    let records = town.nodes[&wrong].records.clone();
    town.start(
        wrong,
        Some(Checkpoint { position, configuration, members: Members::default(), store }),
        records,
    );
    town.pass(Duration::from_secs(5));
    town
}

/// As in an upgrade: of three versions without a table of members, one after another has one.
#[test]
fn who_knows_the_first_members_agrees_with_who_does_not() {
    let mut town = settled();
    let seat = |id: u64| (NodeId(id), Seat::of(vec![format!("http://10.0.0.{id}:2380")]));
    town.genesis = Members::of([1, 2, 3].map(seat));
    for upgraded in [1, 2, 3].map(NodeId) {
        let records = town.nodes[&upgraded].records.clone();
        town.start(upgraded, None, records);
        town.pass(Duration::from_secs(5));
        write_much(&mut town);
        for house in town.nodes.values() {
            assert_eq!((house.node.disputed(), house.node.fenced()), (None, None));
        }
    }
}

#[test]
fn a_dispute_lasts_until_a_quorum_shares_our_state_and_who_is_fenced_starts_none() {
    let mut town = misled(Some(Mutant::VersionKept));
    let wrong = NodeId(3);
    let away = [1, 2].map(NodeId).into_iter().find(|id| *id != town.leader()).expect("one of two");
    let here = NodeId(3 - away.0);
    town.cut_off = vec![away];
    write_much(&mut town);
    for id in [here, wrong] {
        let node = &town.nodes[&id].node;
        assert!(node.disputed().is_some(), "{id} is one against one");
        assert_eq!(node.fenced(), None, "{id} cannot know");
    }
    town.cut_off.clear();
    town.pass(Duration::from_secs(5));
    assert!(town.nodes[&wrong].node.fenced().is_some(), "two against one");
    for right in [here, away] {
        let node = &town.nodes[&right].node;
        assert_eq!((node.disputed(), node.fenced()), (None, None), "{right} is right");
    }
    // Whoever restarts has heard nobody: the one that is wrong must not be the first to be heard.
    let records = town.nodes[&away].records.clone();
    town.start(away, None, records);
    town.cut_off = vec![here];
    town.pass(Duration::from_secs(5));
    assert_eq!(town.nodes[&away].node.disputed(), None, "what is known to be wrong was told");
}

#[test]
fn a_replica_that_goes_another_way_is_fenced_and_serves_nothing() {
    let diverged = |told: &Indication| matches!(told, Indication::Diverged { .. });
    let mut town = with_a_bug(Some(Mutant::VersionKept));
    assert!(town.told(NodeId(3), diverged), "it finds itself out");
    for right in [1, 2].map(NodeId) {
        assert!(!town.told(right, diverged), "{right} is right");
        assert!(town.nodes[&right].node.fenced().is_none());
    }
    let ticket = town.write(NodeId(3), &put("k", "v"));
    assert_eq!(town.refused(NodeId(3), ticket), Some(Refusal::Corrupt));
    let ticket = town.read(NodeId(3));
    let refused = |told: &Indication| {
        let why = Refusal::Corrupt;
        matches!(told, Indication::ReadRefused { ticket: t, why: w } if *t == ticket && *w == why)
    };
    assert!(town.told(NodeId(3), refused));
    town.pass(Duration::from_secs(5));
    assert_ne!(town.leader(), NodeId(3), "and it does not lead");
}

#[test]
fn replicas_that_go_the_same_way_are_left_alone() {
    let diverged = |told: &Indication| {
        matches!(told, Indication::Diverged { .. } | Indication::Disputed { .. })
    };
    let town = with_a_bug(None);
    for id in [1, 2, 3].map(NodeId) {
        assert!(!town.told(id, diverged), "{id} was suspected");
    }
    let digests: Vec<u64> = town.nodes.values().map(|h| h.node.store().digest()).collect();
    assert!(digests.windows(2).all(|pair| pair[0] == pair[1]));
}
