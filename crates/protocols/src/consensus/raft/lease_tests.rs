//! Lease reads, rule by rule; each with the planted bug that it notices, if there is one.

use super::paper_tests::{Cluster, id, notices};
use super::{
    Body, Cause, Ground, Indication, LeaseTerms, Mutant, Record, Request, RoleName, Timer, Verdict,
};
use quorate_core::{Position, Term, Time};
use std::time::Duration;

const MS: Duration = Duration::from_millis(1);
/// What is promised, and what of it a leader counts on: each clock may be off by a tenth.
const LENGTH: Duration = Duration::from_millis(990);
const SURELY: Duration = Duration::from_millis(810);

/// Three voters of whom the first leads, with lease reads and clocks that are vouched for.
fn leased(mutant: Option<Mutant>) -> Cluster {
    let mut cluster = Cluster::tuned(3, 0, mutant, |config| {
        config.lease_reads = Some(LeaseTerms { length: LENGTH, drift_ppm: 100_000 });
    });
    (1..=3).for_each(|number| trust(&mut cluster, number));
    cluster.elect(1);
    cluster.heartbeat(1);
    cluster
}

fn trust(cluster: &mut Cluster, number: u64) {
    let until = cluster.now.after(3_600_000 * MS);
    cluster.request(number, Request::TrustClock { until });
}

fn pass(cluster: &mut Cluster, time: Duration) {
    cluster.now = cluster.now.after(time);
}

fn by(ground: Ground) -> impl Fn(&Indication) -> bool {
    move |what| matches!(what, Indication::ReadReady { ground: of, .. } if *of == ground)
}

/// Asks the leader for a read. True if it answers at once, and asks nobody.
fn reads_at_once(cluster: &mut Cluster) -> bool {
    let before = cluster.told(1, by(Ground::Lease));
    cluster.request(1, Request::Read { ticket: 7 });
    let asked = !cluster.mail.is_empty();
    cluster.mail.clear();
    let told = cluster.told(1, by(Ground::Lease)) > before;
    assert_ne!(told, asked, "either it knows, or it asks");
    told
}

/// Whether a member would vote for another one now, in a later term.
fn votes(cluster: &mut Cluster, number: u64, cause: Cause) -> bool {
    let (term, last) = (cluster.raft(number).term(), cluster.raft(number).last());
    cluster.mail.clear();
    let candidate = if number == 3 { 2 } else { 3 };
    cluster.post(candidate, number, term.0 + 1, Body::Vote { last, cause });
    let granted = |body: &Body| matches!(body, Body::VoteReply { verdict: Verdict::Granted });
    let yes = cluster.mail.iter().any(|(_, _, message)| granted(&message.body));
    cluster.mail.clear();
    yes
}

#[test]
fn dissertation_6_4_1_a_leader_reads_without_a_round_until_its_lease_ends() {
    notices(Mutant::LeaseMarginForgotten, |mutant| {
        let mut cluster = leased(mutant);
        assert!(reads_at_once(&mut cluster));
        pass(&mut cluster, SURELY - MS);
        assert!(reads_at_once(&mut cluster));
        pass(&mut cluster, MS);
        assert!(!reads_at_once(&mut cluster), "what two clocks may gain on each other is over");
    });
}

#[test]
fn dissertation_6_4_1_a_lease_is_counted_from_when_the_round_left() {
    notices(Mutant::LeaseFromAnswer, |mutant| {
        let mut cluster = leased(mutant);
        pass(&mut cluster, 2 * SURELY);
        cluster.timer(1, Timer::Heartbeat);
        pass(&mut cluster, SURELY - MS);
        cluster.settle();
        assert!(reads_at_once(&mut cluster));
        pass(&mut cluster, MS);
        assert!(!reads_at_once(&mut cluster), "the answer was long under way");
    });
}

#[test]
fn a_lease_rests_on_a_quorum_with_the_leader_in_it() {
    let mut cluster = leased(None);
    pass(&mut cluster, SURELY / 2);
    cluster.away.insert(id(3));
    cluster.heartbeat(1);
    pass(&mut cluster, SURELY / 2);
    assert!(reads_at_once(&mut cluster), "one of two others is enough");
    cluster.away.insert(id(2));
    cluster.heartbeat(1);
    pass(&mut cluster, SURELY / 2);
    assert!(!reads_at_once(&mut cluster));
}

#[test]
fn who_has_promised_neither_votes_nor_stands_until_its_own_clock_says_so() {
    let mut cluster = leased(None);
    cluster.away.insert(id(1));
    pass(&mut cluster, LENGTH - MS);
    cluster.timer(2, Timer::Election);
    assert_eq!(cluster.raft(2).role(), RoleName::Follower, "it does not stand");
    assert!(!votes(&mut cluster, 2, Cause::Silence));
    pass(&mut cluster, 2 * MS);
    cluster.elect(2);
    assert_eq!(cluster.raft(2).role(), RoleName::Leader);
}

#[test]
fn evidence_does_not_break_a_promise() {
    notices(Mutant::PromiseYieldsToEvidence, |mutant| {
        let mut cluster = leased(mutant);
        cluster.away.insert(id(1));
        for member in [2, 3] {
            cluster.request(member, Request::Suspect { peer: id(1) });
        }
        cluster.timer(2, Timer::Election);
        cluster.settle();
        assert_eq!(cluster.raft(2).role(), RoleName::Follower);
        assert!(reads_at_once(&mut cluster), "so the leader may count on it");
        pass(&mut cluster, LENGTH);
        cluster.timer(2, Timer::Election);
        cluster.settle();
        assert_eq!(cluster.raft(2).role(), RoleName::Leader, "evidence still saves the timeout");
    });
}

#[test]
fn a_term_that_moved_on_frees_nobody() {
    let mut cluster = leased(None);
    let term = cluster.raft(2).term().0 + 1;
    cluster.post(3, 2, term, Body::VoteReply { verdict: Verdict::Denied });
    assert_eq!(cluster.raft(2).term(), Term(term), "it has heard of another term");
    cluster.mail.clear();
    let last = cluster.raft(2).last();
    cluster.post(3, 2, term, Body::Vote { last, cause: Cause::Silence });
    let denied = Body::VoteReply { verdict: Verdict::Denied };
    assert!(cluster.mail.iter().all(|(_, _, message)| message.body == denied));
}

#[test]
fn a_restart_forgets_no_promise() {
    notices(Mutant::PromiseForgotten, |mutant| {
        let mut cluster = leased(mutant);
        let records: Vec<Record> = cluster.records[&id(2)].clone();
        cluster.restart(2, records);
        assert!(!votes(&mut cluster, 2, Cause::Silence));
        cluster.timer(2, Timer::Election);
        assert_eq!(cluster.raft(2).role(), RoleName::Follower);
        pass(&mut cluster, LENGTH);
        assert!(votes(&mut cluster, 2, Cause::Silence));
    });
}

#[test]
fn a_hand_over_is_free_of_promises_and_ends_the_lease_for_the_rest_of_the_term() {
    notices(Mutant::LeaseOutlivesTransfer, |mutant| {
        let mut cluster = leased(mutant);
        cluster.away.insert(id(2)); // It is asked to campaign, and nobody knows when it hears it.
        cluster.request(1, Request::TransferLeadership { to: id(2) });
        assert!(!reads_at_once(&mut cluster));
        cluster.timer(1, Timer::Transfer);
        cluster.heartbeat(1);
        assert!(!reads_at_once(&mut cluster), "given up, and still under way");
        assert!(votes(&mut cluster, 3, Cause::Transfer));
    });
}

#[test]
fn nobody_reads_or_promises_on_a_clock_for_which_nobody_vouches() {
    let mut cluster = leased(None);
    cluster.request(1, Request::TrustClock { until: Time::default() });
    assert!(!reads_at_once(&mut cluster), "the leader's clock");
    trust(&mut cluster, 1);
    assert!(reads_at_once(&mut cluster));
    for member in [2, 3] {
        cluster.request(member, Request::TrustClock { until: Time::default() });
    }
    cluster.heartbeat(1);
    assert!(!reads_at_once(&mut cluster), "the clocks of those who promised");
    trust(&mut cluster, 1);
    let until = cluster.now.after(MS);
    (2..=3).for_each(|member| cluster.request(member, Request::TrustClock { until }));
    cluster.heartbeat(1);
    assert!(reads_at_once(&mut cluster));
    pass(&mut cluster, 2 * MS);
    cluster.heartbeat(1);
    assert!(!reads_at_once(&mut cluster), "a verdict that is not renewed ends by itself");
}

#[test]
fn a_member_without_lease_reads_promises_nothing() {
    let mut cluster = Cluster::tuned(3, 0, None, |config| {
        let terms = LeaseTerms { length: LENGTH, drift_ppm: 200 };
        config.lease_reads = Some(terms).filter(|_| config.id == id(1));
    });
    (1..=3).for_each(|number| trust(&mut cluster, number));
    cluster.elect(1);
    cluster.heartbeat(1);
    assert!(!reads_at_once(&mut cluster));
}

#[test]
fn a_promise_is_no_longer_than_the_voters_own_terms() {
    let mut cluster = Cluster::tuned(3, 0, None, |config| {
        let length = if config.id == id(1) { LENGTH } else { LENGTH / 9 };
        config.lease_reads = Some(LeaseTerms { length, drift_ppm: 100_000 });
    });
    (1..=3).for_each(|number| trust(&mut cluster, number));
    cluster.elect(1);
    cluster.heartbeat(1);
    pass(&mut cluster, SURELY / 9 - MS);
    assert!(reads_at_once(&mut cluster));
    pass(&mut cluster, MS);
    assert!(!reads_at_once(&mut cluster));
}

#[test]
fn dissertation_6_4_no_read_rests_on_a_lease_before_a_commit_of_the_own_term() {
    let mut cluster = leased(None);
    pass(&mut cluster, 3 * LENGTH);
    cluster.away.insert(id(1));
    cluster.timer(2, Timer::Election);
    while cluster.raft(2).role() != RoleName::Leader {
        let (from, to, message) = cluster.mail.pop_front().expect("an election under way");
        if ![from, to].contains(&id(1)) {
            cluster.run(to.0, |raft, cx| {
                quorate_core::Protocol::on_message(raft, from, message, cx);
            });
        }
    }
    cluster.mail.clear();
    cluster.request(2, Request::Read { ticket: 7 });
    let term = cluster.raft(2).term().0;
    cluster.timer(2, Timer::Heartbeat);
    cluster.post(3, 2, term, Body::HeartbeatReply { round: 1, promise: LENGTH });
    assert!(cluster.raft(2).holds_lease(cluster.now));
    assert_eq!(cluster.told(2, by(Ground::Lease)), 0, "its predecessor may have committed more");
    let matched = cluster.raft(2).last().index;
    for member in [2, 3] {
        cluster.post(member, 2, term, Body::Appended { matched });
    }
    assert_eq!(cluster.told(2, by(Ground::Lease)), 1);
}

#[test]
fn a_follower_is_answered_without_a_round_and_told_what_it_waits_for() {
    let mut cluster = leased(None);
    cluster.request(2, Request::Read { ticket: 9 });
    cluster.settle();
    assert_eq!(cluster.told(2, by(Ground::Lease)), 1);
    cluster.request(1, Request::Confirm { ticket: 8 });
    cluster.settle();
    assert_eq!(cluster.told(1, by(Ground::Round)), 1, "who wants no clock gets a round");
}

#[test]
fn a_deposed_leader_has_no_lease() {
    let mut cluster = leased(None);
    let (commit, prev) = (quorate_core::Index(0), Position::ZERO);
    let term = cluster.raft(1).term().0 + 1;
    cluster.post(2, 1, term, Body::Append { prev, entries: Vec::new(), commit });
    assert!(!cluster.raft(1).holds_lease(cluster.now));
}
