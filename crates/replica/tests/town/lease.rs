//! Leases among three replicas, in virtual time: each promise of `lessor/mod.rs`, and for each the
//! planted mistake that breaks it.

use crate::settled_with;
use crate::streets::Town;
use bytes::Bytes;
use quorate_core::{NodeId, Protocol};
use quorate_protocols::consensus::raft::RoleName;
use quorate_replica::store::{Command, Countdown, LeaseName, LeaseTime, Outcome, Put};
use quorate_replica::{LeaseAnswer, LeaseAsk, LessorMutant, Refusal, Request};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const ID: i64 = 7;

/// What the leader's grace and pace may add to the life of a lease, with an election timeout of a
/// second. Unit: milliseconds.
const SLACK: u64 = 2_500;

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn grant(town: &mut Town, at: NodeId, id: i64, ttl: u64) {
    let command = Command::LeaseGrant { id, ttl, at: LeaseTime(0) };
    let ticket = town.write(at, &command);
    let answer = town.answer(at, ticket).expect("answered").as_ref().expect("applied");
    assert_eq!(answer.outcome, Ok(Outcome::LeaseGrant { ttl }));
}

fn attach(town: &mut Town, id: i64, key: &str) {
    let key = Bytes::copy_from_slice(key.as_bytes());
    let leader = town.leader();
    town.write(leader, &Command::Put(Put { key, lease: id, ..Put::default() }));
}

fn keep_alive(town: &mut Town, at: NodeId, id: i64) -> Option<Result<LeaseAnswer, Refusal>> {
    let ticket = town.ask(at, LeaseAsk::KeepAlive { id });
    town.lease_answer(at, ticket)
}

fn left(town: &mut Town, at: NodeId, id: i64) -> Option<u64> {
    let ticket = town.ask(at, LeaseAsk::TimeToLive { id });
    match town.lease_answer(at, ticket) {
        Some(Ok(LeaseAnswer::Lives { left, .. })) => Some(left),
        Some(Ok(LeaseAnswer::Gone)) => None,
        other => panic!("no answer: {other:?}"),
    }
}

fn lives(town: &Town, at: NodeId, id: i64) -> bool {
    town.nodes[&at].node.store().lease(id).is_some()
}

fn log_end(town: &Town, at: NodeId) -> u64 {
    town.nodes[&at].node.raft().last().index.0
}

/// Cuts the leader off and waits until another one leads; answers with both.
fn change_leader(town: &mut Town) -> (NodeId, NodeId) {
    let old = town.leader();
    town.cut_off = vec![old];
    for _ in 0..100 {
        town.pass(millis(100));
        let leads = |id: &NodeId| town.nodes[id].node.raft().role() == RoleName::Leader;
        if let Some(new) = town.nodes.keys().copied().find(|id| *id != old && leads(id)) {
            town.pass(millis(100));
            return (old, new);
        }
    }
    panic!("nobody took over");
}

/// A story must end well, and badly with each of these mistakes.
fn story(told: fn(Option<LessorMutant>), mutants: &[LessorMutant]) {
    told(None);
    for mutant in mutants {
        let caught = catch_unwind(AssertUnwindSafe(|| told(Some(*mutant)))).is_err();
        assert!(caught, "{mutant:?} is not noticed");
    }
}

#[test]
fn a_lease_ends_at_its_time_with_all_its_keys_at_one_revision() {
    let mut town = settled_with(None);
    let follower = town.follower();
    grant(&mut town, follower, ID, 10);
    for key in ["b", "a", "c"] {
        attach(&mut town, ID, key);
    }
    assert_eq!(left(&mut town, follower, ID), Some(10_000));
    let revision = town.nodes[&follower].node.store().revision();
    town.pass(millis(9_900));
    assert!(lives(&town, follower, ID));
    assert_eq!(left(&mut town, follower, ID), Some(100));
    town.pass(millis(400));
    assert_eq!(left(&mut town, follower, ID), None, "gone is an answer, not an error");
    assert_eq!(keep_alive(&mut town, follower, ID), Some(Ok(LeaseAnswer::Gone)));
    town.pass(secs(1));
    for house in town.nodes.values() {
        assert_eq!(house.node.store().revision(), revision.next());
        assert_eq!(house.node.store().keys(), 0);
    }
}

#[test]
fn a_doubled_grant_is_answered_as_one_and_does_not_bring_a_lease_back() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let follower = town.follower();
            town.copies = Some(Vec::new());
            let ticket =
                town.submit(follower, &Command::LeaseGrant { id: ID, ttl: 10, at: LeaseTime(0) });
            town.double();
            let answer = town.answer(follower, ticket).expect("answered").as_ref();
            let outcome = &answer.expect("applied").outcome;
            assert_eq!(*outcome, Ok(Outcome::LeaseGrant { ttl: 10 }));
            town.write(follower, &Command::LeaseRevoke { id: ID });
            let revoked = log_end(&town, follower);
            assert!(!lives(&town, follower, ID));
            town.echo();
            town.pass(secs(1));
            assert!(!lives(&town, follower, ID), "the second copy was granted after the end");
            assert_eq!(log_end(&town, follower), revoked);
        },
        &[LessorMutant::StampTakenTwice],
    );
}

#[test]
fn what_is_left_of_a_lease_survives_a_change_of_leader() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            town.pass(secs(30));
            let leader = town.leader();
            grant(&mut town, leader, ID, 20);
            let granted = town.now;
            town.pass(secs(8));
            let (_, new) = change_leader(&mut town);
            let spent = town.now.since(granted).as_millis() as u64;
            let left = left(&mut town, new, ID).expect("it lives");
            assert!(left >= 20_000 - spent, "{left} ms are left after {spent}");
            assert!(left <= 20_000 - spent + 200, "{left} ms are left after {spent}");
            town.pass(millis(left - 100));
            assert!(lives(&town, new, ID), "early");
            town.pass(millis(100 + SLACK));
            assert!(!lives(&town, new, ID), "it is forgotten to be ended");
        },
        &[LessorMutant::ClockForgotten, LessorMutant::GrantUnstamped],
    );
}

#[test]
fn a_checkpoint_brings_the_clock_that_its_leases_count_on() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let behind = town.follower();
            town.cut_off = vec![behind];
            town.pass(secs(30));
            // The others begin a new life, and know nothing of the time before.
            for id in town.nodes.keys().copied().filter(|id| *id != behind).collect::<Vec<_>>() {
                let records = town.nodes[&id].records.clone();
                town.start(id, None, records);
            }
            town.pass(secs(5));
            let leader = town.leader();
            grant(&mut town, leader, ID, 10);
            let granted = town.now;
            let checkpoint = town.nodes[&leader].node.checkpoint();
            let install = Request::Install(Box::new(checkpoint));
            town.call(behind, |node, cx| node.on_request(install, cx));
            town.cut_off.clear();
            let mut leads = false;
            for _ in 0..20 {
                town.call(leader, |node, cx| {
                    node.on_request(Request::MoveLeader { to: behind }, cx)
                });
                town.pass(millis(100));
                leads |= town.nodes[&behind].node.raft().role() == RoleName::Leader;
            }
            assert!(leads, "it never led");
            town.pass(secs(3));
            let spent = town.now.since(granted).as_millis() as u64;
            let left = left(&mut town, behind, ID).expect("it lives");
            assert!(left >= 10_000 - spent, "{left} ms are left after {spent}");
        },
        &[LessorMutant::InstalledUnstamped],
    );
}

#[test]
fn a_lease_that_is_renewed_gets_all_its_time_from_a_new_leader() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let follower = town.follower();
            grant(&mut town, follower, ID, 6);
            for _ in 0..10 {
                town.pass(secs(2));
                let kept = LeaseAnswer::Lives { left: 6_000, granted: 6 };
                assert_eq!(keep_alive(&mut town, follower, ID), Some(Ok(kept)));
            }
            let (_, new) = change_leader(&mut town);
            let left = left(&mut town, new, ID).expect("it lives");
            assert!((5_800..=6_000).contains(&left), "{left}");
            town.pass(millis(left - 100));
            assert!(lives(&town, new, ID), "early");
            town.pass(millis(100 + SLACK));
            assert!(!lives(&town, new, ID));
        },
        &[LessorMutant::FullTtlForgotten],
    );
}

#[test]
fn the_first_keep_alive_is_answered_when_everybody_knows_that_the_lease_is_renewed() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let leader = town.leader();
            grant(&mut town, leader, ID, 6);
            town.pass(millis(5_500));
            assert!(matches!(
                keep_alive(&mut town, leader, ID),
                Some(Ok(LeaseAnswer::Lives { .. }))
            ));
            let promised = town.now.after(secs(6));
            let (_, new) = change_leader(&mut town);
            while town.now < promised {
                assert!(lives(&town, new, ID), "early");
                town.pass(millis(50));
            }
        },
        &[LessorMutant::RenewalNotAwaited],
    );
}

#[test]
fn a_thousand_keep_alives_write_nothing() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let (leader, follower) = (town.leader(), town.follower());
            grant(&mut town, leader, ID, 6);
            assert!(matches!(
                keep_alive(&mut town, leader, ID),
                Some(Ok(LeaseAnswer::Lives { .. }))
            ));
            let end = log_end(&town, leader);
            for round in 0..1_000 {
                let at = if round % 2 == 0 { leader } else { follower };
                let kept = LeaseAnswer::Lives { left: 6_000, granted: 6 };
                assert_eq!(keep_alive(&mut town, at, ID), Some(Ok(kept)));
                town.pass(millis(50));
            }
            assert_eq!(log_end(&town, leader), end, "a keep-alive is not a write");
        },
        &[LessorMutant::RenewalWritten],
    );
}

#[test]
fn a_lease_that_nobody_renews_any_more_counts_down_everywhere() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let leader = town.leader();
            grant(&mut town, leader, ID, 20);
            keep_alive(&mut town, leader, ID).expect("answered").expect("kept");
            let kept = town.now;
            town.pass(secs(9));
            let countdown =
                |town: &Town, at| town.nodes[&at].node.store().lease(ID).map(|l| l.countdown);
            assert_eq!(countdown(&town, leader), Some(Countdown::Renewing));
            town.pass(secs(2));
            for id in [1, 2, 3].map(NodeId) {
                assert!(
                    matches!(countdown(&town, id), Some(Countdown::Counting { .. })),
                    "half its time"
                );
            }
            let (_, new) = change_leader(&mut town);
            let spent = town.now.since(kept).as_millis() as u64;
            let left_now = left(&mut town, new, ID).expect("it lives");
            assert!(
                (20_000 - spent..=20_200 - spent).contains(&left_now),
                "{left_now} after {spent}"
            );
            // And whoever renews it all the same has it renewed.
            keep_alive(&mut town, new, ID).expect("answered").expect("kept");
            assert_eq!(countdown(&town, new), Some(Countdown::Renewing));
        },
        &[LessorMutant::SettleForgotten],
    );
}

#[test]
fn a_leader_without_a_quorum_neither_renews_nor_ends_leases() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let leader = town.leader();
            grant(&mut town, leader, ID, 6);
            grant(&mut town, leader, 8, 6);
            keep_alive(&mut town, leader, ID).expect("answered").expect("kept");
            town.pass(millis(5_600));
            keep_alive(&mut town, leader, ID).expect("answered").expect("kept");
            town.cut_off = vec![leader];
            let end = log_end(&town, leader);
            assert_eq!(keep_alive(&mut town, leader, ID), None, "it cannot know that it leads");
            town.pass(millis(600));
            assert_eq!(town.nodes[&leader].node.raft().role(), RoleName::Leader, "so it thinks");
            assert_eq!(log_end(&town, leader), end, "no lease is ended on a suspicion");
            town.pass(secs(10));
            let ticket = town.ask(leader, LeaseAsk::KeepAlive { id: ID });
            town.pass(secs(7));
            assert_eq!(town.lease_answer(leader, ticket), Some(Err(Refusal::NoLeader)));
        },
        &[LessorMutant::AnsweredUnconfirmed, LessorMutant::ExpiryUnconfirmed],
    );
}

#[test]
fn a_record_of_a_deposed_leader_says_nothing() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let leader = town.leader();
            grant(&mut town, leader, ID, 60);
            let term = town.nodes[&leader].node.raft().term().0;
            let (_, new) = change_leader(&mut town);
            town.cut_off.clear();
            town.pass(secs(1));
            let name = LeaseName {
                id: ID,
                grant: town.nodes[&new].node.store().lease(ID).expect("granted").grant,
            };
            let before = town.nodes[&new].node.store().lease(ID).expect("granted").countdown;
            let countdown = Countdown::Counting { deadline: LeaseTime(1) };
            let at = LeaseTime(1 << 40);
            town.write(new, &Command::LeaseCountdown { term, at, leases: vec![(name, countdown)] });
            town.write(new, &Command::LeaseExpire { term, leases: vec![name] });
            for house in town.nodes.values() {
                let lease = house.node.store().lease(ID).expect("it was not ended");
                assert_eq!(lease.countdown, before);
                assert!(house.node.store().lease_clock() < at);
            }
        },
        &[LessorMutant::RecordInAnyTerm],
    );
}

#[test]
fn a_leader_that_wakes_up_lets_renewals_in_first() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let (leader, follower) = (town.leader(), town.follower());
            town.pass(secs(10));
            grant(&mut town, leader, ID, 4);
            town.pass(millis(2_900));
            // The whole machine sleeps, a little longer than an election takes.
            town.now = town.now.after(millis(1_200));
            town.pass(millis(50));
            assert_eq!(town.leader(), leader, "nobody had time to depose it");
            town.pass(millis(500));
            let answer = keep_alive(&mut town, follower, ID);
            let kept = LeaseAnswer::Lives { left: 4_000, granted: 4 };
            assert_eq!(answer, Some(Ok(kept)), "it was on its way all the time");
        },
        &[LessorMutant::AwakenedAtOnce],
    );
}

#[test]
fn a_client_that_keeps_renewing_loses_nothing_to_a_leader_that_stood_still() {
    let mut town = settled_with(None);
    let (leader, follower) = (town.leader(), town.follower());
    grant(&mut town, follower, ID, 6);
    grant(&mut town, follower, 8, 6);
    keep_alive(&mut town, follower, ID).expect("answered").expect("kept");
    town.freeze(leader);
    for _ in 0..20 {
        town.pass(millis(500));
        for id in [ID, 8] {
            town.ask(follower, LeaseAsk::KeepAlive { id });
        }
    }
    town.thaw(leader);
    for _ in 0..20 {
        town.pass(millis(500));
        for id in [ID, 8] {
            town.ask(leader, LeaseAsk::KeepAlive { id });
            assert!(town.nodes.keys().all(|at| lives(&town, *at, id)), "{id} was lost");
        }
    }
}

#[test]
fn a_storm_of_endings_is_paced() {
    story(
        |mutant| {
            let mut town = settled_with(mutant);
            let leader = town.leader();
            for id in 1..=350 {
                grant(&mut town, leader, id, 3);
            }
            town.pass(secs(3));
            let mut before = town.nodes[&leader].node.store().leases().len();
            let mut ticks = 0;
            while before > 0 {
                town.pass(millis(100));
                let after = town.nodes[&leader].node.store().leases().len();
                assert!(before - after <= 100, "{} at once", before - after);
                (before, ticks) = (after, ticks + 1);
                assert!(ticks < 10, "350 leases take no second");
            }
        },
        &[LessorMutant::StormUnpaced],
    );
}

#[test]
fn a_lease_with_many_keys_shares_its_record_with_no_other() {
    let mut town = settled_with(None);
    let leader = town.leader();
    for id in 1..=3 {
        grant(&mut town, leader, id, 60);
        for key in 0..6_000 {
            let key = Bytes::from(format!("{id}/{key:05}"));
            let put = Command::Put(Put { key, lease: id, ..Put::default() });
            town.tickets += 1;
            let ticket = quorate_replica::Ticket(town.tickets);
            let envelope = town.sealed(leader, ticket, &put);
            let request = Request::Write { ticket, envelope };
            town.call(leader, |node, cx| node.on_request(request, cx));
        }
        town.settle();
    }
    let end = log_end(&town, leader);
    town.pass(secs(65));
    assert_eq!(town.nodes[&leader].node.store().keys(), 0);
    // Two records: 6,000 keys and 6,000 more are too many for one. And one that told the clock.
    assert!((3..=5).contains(&(log_end(&town, leader) - end)), "{}", log_end(&town, leader) - end);
}

#[test]
fn leases_survive_a_restart_of_everybody() {
    let mut town = settled_with(None);
    let leader = town.leader();
    grant(&mut town, leader, ID, 100);
    grant(&mut town, leader, 8, 6);
    town.pass(secs(70));
    let granted = town.nodes[&leader].node.store().lease(ID).expect("lives").countdown;
    for id in [1, 2, 3].map(NodeId) {
        let records = town.nodes[&id].records.clone();
        town.start(id, None, records);
    }
    town.pass(secs(5));
    let leader = town.leader();
    let store = town.nodes[&leader].node.store();
    assert_eq!(store.lease(ID).expect("still lives").countdown, granted);
    assert!(store.lease(8).is_none());
    let left = left(&mut town, leader, ID).expect("lives");
    assert!((25_000..=45_000).contains(&left), "{left}: the log tells the clock every minute");
}
