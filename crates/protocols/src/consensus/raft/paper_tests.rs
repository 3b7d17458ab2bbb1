//! A test for each rule, named after it, in a cluster whose disks are instant and whose links are
//! cut by hand. Where a rule has a planted bug, the test must fail with it.

use super::*;
use bytes::Bytes;
use quorate_core::{Effect, Release};
use std::collections::{BTreeSet, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

const TIMEOUT: Duration = Duration::from_millis(1_000);

pub(super) struct Cluster {
    pub(super) members: BTreeMap<NodeId, Raft>,
    pub(super) records: BTreeMap<NodeId, Vec<Record>>,
    pub(super) heard: Vec<(NodeId, Indication)>,
    pub(super) mail: VecDeque<(NodeId, NodeId, Message)>,
    /// Members that nobody reaches.
    pub(super) away: BTreeSet<NodeId>,
    pub(super) now: Time,
    pub(super) mutant: Option<Mutant>,
}

pub(super) fn id(number: u64) -> NodeId {
    NodeId(number)
}

fn ids(numbers: &[u64]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

impl Cluster {
    fn new(voters: u64, others: u64, mutant: Option<Mutant>) -> Cluster {
        Cluster::tuned(voters, others, mutant, |_| {})
    }

    /// With other settings than the usual ones.
    pub(super) fn tuned(
        voters: u64,
        others: u64,
        mutant: Option<Mutant>,
        tune: impl Fn(&mut Config),
    ) -> Cluster {
        let mut cluster = Cluster {
            members: BTreeMap::new(),
            records: BTreeMap::new(),
            heard: Vec::new(),
            mail: VecDeque::new(),
            away: BTreeSet::new(),
            now: Time::from_nanos(1),
            mutant,
        };
        for number in 1..=voters + others {
            let founders = 1..=if number <= voters { voters } else { 0 };
            let mut config = Config::new(id(number), Configuration::of(founders.map(NodeId)));
            tune(&mut config);
            cluster.start(config, Vec::new());
        }
        cluster
    }

    /// Three voters of whom the first leads.
    fn led(mutant: Option<Mutant>) -> Cluster {
        let mut cluster = Cluster::new(3, 2, mutant);
        cluster.elect(1);
        cluster
    }

    fn start(&mut self, config: Config, records: Vec<Record>) {
        let member = config.id;
        let raft = Raft::restore(&config, &mut records.iter().cloned()).with_mutant(self.mutant);
        self.records.insert(member, records);
        self.members.insert(member, raft);
        self.run(member.0, |raft, cx| raft.on_start(cx));
    }

    pub(super) fn restart(&mut self, number: u64, records: Vec<Record>) {
        let config = self.raft(number).config.clone();
        self.start(config, records);
    }

    pub(super) fn raft(&self, number: u64) -> &Raft {
        &self.members[&id(number)]
    }

    pub(super) fn run(
        &mut self,
        number: u64,
        event: impl FnOnce(&mut Raft, &mut Context<'_, Raft>),
    ) {
        let member = id(number);
        let raft = self.members.get_mut(&member).expect("a member");
        let mut effects = Vec::new();
        let mut choose = |_: usize| 0;
        let mut cx = Context::new(member, self.now, &mut choose, &mut effects);
        event(raft, &mut cx);
        raft.on_flush(&mut cx);
        raft.invariants();
        for effect in effects {
            match effect {
                Effect::Send { to, message, .. } => self.mail.push_back((member, to, message)),
                Effect::Write { record } => {
                    self.records.get_mut(&member).expect("a disk").push(record);
                }
                Effect::Indicate { indication } => self.heard.push((member, indication)),
                Effect::SetTimer { .. } | Effect::CancelTimer { .. } => {}
            }
        }
    }

    pub(super) fn post(&mut self, from: u64, to: u64, term: u64, body: Body) {
        let message = Message { term: Term(term), body };
        self.run(to, |raft, cx| raft.on_message(id(from), message, cx));
    }

    pub(super) fn request(&mut self, number: u64, request: Request) {
        self.run(number, |raft, cx| raft.on_request(request, cx));
    }

    pub(super) fn propose(&mut self, number: u64) {
        self.request(number, Request::Propose { command: Bytes::from_static(b"command") });
    }

    pub(super) fn timer(&mut self, number: u64, timer: Timer) {
        self.run(number, |raft, cx| raft.on_timer(timer, cx));
    }

    /// Delivers until nobody has anything to say.
    pub(super) fn settle(&mut self) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            let cut = from != to && (self.away.contains(&from) || self.away.contains(&to));
            if !cut && self.members.contains_key(&to) {
                self.run(to.0, |raft, cx| raft.on_message(from, message, cx));
            }
            let all: Vec<&Raft> = self.members.values().collect();
            safety(&all);
        }
    }

    /// As [`Cluster::settle`], but nothing that `number` writes becomes durable.
    fn settle_but(&mut self, number: u64) {
        while let Some((from, to, message)) = self.mail.pop_front() {
            if (from, to) != (id(number), id(number)) {
                self.run(to.0, |raft, cx| raft.on_message(from, message, cx));
            }
        }
    }

    pub(super) fn elect(&mut self, number: u64) {
        self.now = self.now.after(TIMEOUT * 3);
        self.timer(number, Timer::Election);
        self.settle();
    }

    pub(super) fn heartbeat(&mut self, number: u64) {
        self.timer(number, Timer::Heartbeat);
        self.settle();
    }

    pub(super) fn told(&self, number: u64, wanted: impl Fn(&Indication) -> bool) -> usize {
        self.heard.iter().filter(|(by, what)| *by == id(number) && wanted(what)).count()
    }
}

/// The test passes, and fails with the planted bug.
pub(super) fn notices(mutant: Mutant, test: impl Fn(Option<Mutant>)) {
    test(None);
    let outcome = catch_unwind(AssertUnwindSafe(|| test(Some(mutant))));
    assert!(outcome.is_err(), "{mutant:?} was not noticed");
}

fn entry(term: u64, index: u64) -> Entry {
    Entry { position: Position::new(term, index), payload: Payload::Noop }
}

fn hard_state(term: u64) -> Record {
    Record::HardState { term: Term(term), vote: None }
}

#[test]
fn paper_5_1_a_leader_that_sees_a_higher_term_follows() {
    let mut cluster = Cluster::led(None);
    cluster.post(2, 1, 9, Body::HeartbeatReply { round: 0, promise: Duration::ZERO });
    assert_eq!((cluster.raft(1).role(), cluster.raft(1).term()), (RoleName::Follower, Term(9)));
}

#[test]
fn paper_5_1_a_message_of_an_old_term_changes_nothing_and_is_corrected() {
    let mut cluster = Cluster::led(None);
    let before = cluster.raft(2).last();
    let body = Body::Append {
        prev: before,
        entries: vec![entry(0, before.index.0 + 1)],
        commit: Index(0),
    };
    cluster.post(3, 2, 0, body);
    assert_eq!(cluster.raft(2).last(), before);
    let (_, to, reply) = cluster.mail.pop_back().expect("a correction");
    assert_eq!((to, reply.term), (id(3), Term(1)));
}

#[test]
fn paper_5_2_a_majority_elects_a_leader_and_a_minority_does_not() {
    let mut cluster = Cluster::new(5, 0, None);
    cluster.away = ids(&[3, 4, 5]);
    cluster.elect(1);
    assert_eq!(cluster.raft(1).role(), RoleName::PreCandidate);
    cluster.away = ids(&[4, 5]);
    cluster.elect(1);
    assert_eq!(cluster.raft(1).role(), RoleName::Leader);
}

#[test]
fn paper_5_2_a_single_voter_elects_itself_at_once_and_commits() {
    let mut cluster = Cluster::new(1, 0, None);
    cluster.settle();
    cluster.propose(1);
    cluster.settle();
    assert_eq!(cluster.raft(1).commit_index(), Index(2));
}

#[test]
fn paper_5_2_a_vote_is_given_once_in_a_term_also_after_a_crash() {
    for mutant in [Mutant::VoteTwice, Mutant::VoteWithoutPersisting] {
        notices(mutant, |mutant| {
            let mut cluster = Cluster::new(3, 0, mutant);
            let body = Body::Vote { last: Position::new(0, 0), cause: Cause::Silence };
            cluster.post(1, 2, 5, body.clone());
            let records = cluster.records[&id(2)].clone();
            cluster.restart(2, records);
            cluster.mail.clear();
            cluster.post(3, 2, 5, body);
            let (_, _, reply) = cluster.mail.pop_back().expect("an answer");
            assert_eq!(reply.body, Body::VoteReply { verdict: Verdict::Denied });
        });
    }
}

#[test]
fn paper_5_2_a_vote_waits_until_it_is_remembered() {
    notices(Mutant::VoteBeforeDurable, |mutant| {
        let raft = Raft::restore(
            &Config::new(id(2), Configuration::of(ids(&[1, 2, 3]))),
            &mut [].into_iter(),
        );
        let mut raft = raft.with_mutant(mutant);
        let (mut effects, mut choose) = (Vec::new(), |_: usize| 0);
        let mut cx = Context::new(id(2), Time::from_nanos(1), &mut choose, &mut effects);
        let body = Body::Vote { last: Position::ZERO, cause: Cause::Silence };
        raft.on_message(id(1), Message { term: Term(5), body }, &mut cx);
        let vote = effects.iter().find_map(|effect| match effect {
            Effect::Send { message, release, .. } => Some((message.body.clone(), *release)),
            _ => None,
        });
        let granted = Body::VoteReply { verdict: Verdict::Granted };
        assert_eq!(vote, Some((granted, Release::OnceDurable)));
    });
}

#[test]
fn paper_5_2_a_vote_that_arrives_twice_counts_once() {
    notices(Mutant::DuplicateVotesCounted, |mutant| {
        let mut cluster = Cluster::new(5, 0, mutant);
        cluster.away = ids(&[4, 5]);
        cluster.timer(1, Timer::Election);
        for voter in [2, 3] {
            let body = Body::PreVoteReply { campaign: Term(1), verdict: Verdict::Granted };
            cluster.post(voter, 1, 0, body);
        }
        cluster.post(1, 1, 1, Body::VoteReply { verdict: Verdict::Granted });
        for _ in 0..3 {
            cluster.post(2, 1, 1, Body::VoteReply { verdict: Verdict::Granted });
        }
        assert_eq!(cluster.raft(1).role(), RoleName::Candidate);
    });
}

#[test]
fn paper_5_3_a_follower_without_the_previous_entry_says_where_it_could_agree() {
    let mut cluster = Cluster::new(3, 0, None);
    let records = [hard_state(3)]
        .into_iter()
        .chain([entry(1, 1), entry(1, 2), entry(2, 3), entry(3, 4)].map(Record::Entry));
    cluster.restart(2, records.collect());
    cluster.mail.clear();
    let append = |prev| Body::Append { prev, entries: Vec::new(), commit: Index(0) };
    cluster.post(1, 2, 5, append(Position::new(1, 4)));
    let (_, _, reply) = cluster.mail.pop_back().expect("an answer");
    assert_eq!(reply.body, Body::AppendRejected { prev: Index(4), hint: Position::new(1, 2) });
    cluster.post(1, 2, 5, append(Position::new(5, 9)));
    let (_, _, reply) = cluster.mail.pop_back().expect("an answer");
    assert_eq!(reply.body, Body::AppendRejected { prev: Index(9), hint: Position::new(3, 4) });
}

#[test]
fn paper_5_3_entries_that_conflict_are_replaced_and_others_are_kept() {
    let mut cluster = Cluster::new(3, 0, None);
    let records =
        [hard_state(1)].into_iter().chain([1, 2, 3].map(|at| Record::Entry(entry(1, at))));
    cluster.restart(2, records.collect());
    let append = |entries| Body::Append { prev: Position::new(1, 1), entries, commit: Index(0) };
    cluster.post(1, 2, 2, append(vec![entry(1, 2)]));
    assert_eq!(cluster.raft(2).last(), Position::new(1, 3), "an old append cuts nothing off");
    cluster.post(1, 2, 2, append(vec![entry(2, 2)]));
    assert_eq!(cluster.raft(2).last(), Position::new(2, 2));
}

#[test]
fn paper_5_3_a_follower_that_was_away_gets_what_it_missed() {
    let mut cluster = Cluster::led(None);
    cluster.away = ids(&[3]);
    for _ in 0..5 {
        cluster.propose(1);
        cluster.settle();
    }
    cluster.away.clear();
    cluster.heartbeat(1);
    cluster.heartbeat(1);
    cluster.heartbeat(1);
    assert_eq!(cluster.raft(3).last(), cluster.raft(1).last());
    assert_eq!(cluster.raft(3).commit_index(), Index(6));
}

#[test]
fn paper_5_3_proposals_of_one_batch_travel_in_one_append_per_follower() {
    let mut cluster = Cluster::led(None);
    cluster.run(1, |raft, cx| {
        for _ in 0..10 {
            raft.on_request(Request::Propose { command: Bytes::from_static(b"x") }, cx);
        }
    });
    let appends = cluster.mail.iter().filter(|(_, _, m)| matches!(m.body, Body::Append { .. }));
    assert_eq!(appends.count(), 2);
}

#[test]
fn paper_5_4_1_a_vote_goes_only_to_a_log_that_is_at_least_as_up_to_date() {
    notices(Mutant::VoteForAnyLog, |mutant| {
        for (last, verdict) in [
            (Position::new(1, 9), Verdict::Denied),
            (Position::new(2, 1), Verdict::Denied),
            (Position::new(2, 2), Verdict::Granted),
            (Position::new(3, 1), Verdict::Granted),
        ] {
            let mut cluster = Cluster::new(3, 0, mutant);
            let log = [entry(1, 1), entry(2, 2)].map(Record::Entry);
            cluster.restart(2, [hard_state(2)].into_iter().chain(log).collect());
            cluster.mail.clear();
            cluster.post(1, 2, 5, Body::Vote { last, cause: Cause::Silence });
            let (_, _, reply) = cluster.mail.pop_back().expect("an answer");
            assert_eq!(reply.body, Body::VoteReply { verdict }, "{last}");
        }
    });
}

#[test]
fn paper_5_4_2_an_entry_of_an_old_term_is_not_committed_by_counting() {
    notices(Mutant::CommitOldTerms, |mutant| {
        // Figure 8 (c): the entry 2@2 is on a majority, but the leader of term 4 has not yet
        // replicated an entry of its own.
        let mut leader = Cluster::new(3, 0, mutant);
        let log = [entry(1, 1), entry(2, 2)].map(Record::Entry);
        leader.restart(1, [hard_state(3)].into_iter().chain(log).collect());
        leader.timer(1, Timer::Election);
        let campaign = Term(4);
        leader.post(2, 1, 3, Body::PreVoteReply { campaign, verdict: Verdict::Granted });
        leader.post(1, 1, 4, Body::VoteReply { verdict: Verdict::Granted });
        leader.post(2, 1, 4, Body::VoteReply { verdict: Verdict::Granted });
        leader.post(1, 1, 4, Body::Appended { matched: Index(3) });
        leader.post(2, 1, 4, Body::Appended { matched: Index(2) });
        assert_eq!(leader.raft(1).commit_index(), Index(0));
        leader.post(2, 1, 4, Body::Appended { matched: Index(3) });
        assert_eq!(leader.raft(1).commit_index(), Index(3), "with an entry of its own, all");
    });
}

#[test]
fn paper_6_a_joint_configuration_needs_both_majorities() {
    notices(Mutant::JointBypassed, |mutant| {
        let mut cluster = Cluster::led(mutant);
        cluster.away = ids(&[2, 3]);
        let (voters, learners) = (ids(&[1, 4, 5]), BTreeSet::new());
        cluster.request(1, Request::Reconfigure { voters, learners });
        for _ in 0..4 {
            cluster.heartbeat(1);
        }
        assert_eq!(cluster.raft(4).last(), Position::new(1, 2), "the new voters have it");
        assert_eq!(cluster.raft(1).commit_index(), Index(1), "the old ones do not");
        cluster.away.clear();
        for _ in 0..4 {
            cluster.heartbeat(1);
        }
        assert_eq!(*cluster.raft(1).configuration(), Configuration::of(ids(&[1, 4, 5])));
        assert_eq!(cluster.told(3, |what| *what == Indication::Removed), 1);
    });
}

#[test]
fn paper_6_a_change_waits_for_a_commit_of_the_own_term() {
    notices(Mutant::ReconfigureEarly, |mutant| {
        let mut early = Cluster::new(3, 0, mutant);
        early.timer(1, Timer::Election);
        let campaign = Term(1);
        early.post(2, 1, 0, Body::PreVoteReply { campaign, verdict: Verdict::Granted });
        early.post(1, 1, 1, Body::VoteReply { verdict: Verdict::Granted });
        early.post(2, 1, 1, Body::VoteReply { verdict: Verdict::Granted });
        let (voters, learners) = (ids(&[1, 2]), BTreeSet::new());
        early.request(1, Request::Reconfigure { voters, learners });
        let why = ReconfigureRefusal::NotReady;
        assert_eq!(early.told(1, |what| *what == Indication::ReconfigureRefused { why }), 1);
    });
}

#[test]
fn paper_6_a_leader_that_is_not_in_the_new_configuration_steps_down() {
    let mut cluster = Cluster::led(None);
    let (voters, learners) = (ids(&[2, 3]), BTreeSet::new());
    cluster.request(1, Request::Reconfigure { voters, learners });
    cluster.settle();
    assert_eq!(cluster.raft(1).role(), RoleName::Learner);
    assert_eq!(cluster.told(1, |what| *what == Indication::Removed), 1);
    cluster.elect(2);
    assert_eq!(cluster.raft(2).role(), RoleName::Leader);
}

#[test]
fn paper_6_a_configuration_is_rolled_back_with_its_entry() {
    let mut cluster = Cluster::led(None);
    cluster.away = ids(&[1]);
    let (voters, learners) = (ids(&[1, 4]), BTreeSet::new());
    cluster.request(1, Request::Reconfigure { voters, learners });
    cluster.settle();
    assert!(cluster.raft(1).configuration().is_joint());
    cluster.elect(2);
    cluster.away.clear();
    cluster.heartbeat(2);
    cluster.heartbeat(2);
    assert_eq!(*cluster.raft(1).configuration(), Configuration::of(ids(&[1, 2, 3])));
}

#[test]
fn dissertation_4_2_1_a_learner_receives_but_does_not_count() {
    notices(Mutant::LearnerCounted, |mutant| {
        let mut cluster = Cluster::led(mutant);
        let (voters, learners) = (ids(&[1, 2, 3]), ids(&[4, 5]));
        cluster.request(1, Request::Reconfigure { voters, learners });
        for _ in 0..4 {
            cluster.heartbeat(1);
        }
        let commit = cluster.raft(1).commit_index();
        assert_eq!(cluster.raft(4).commit_index(), commit, "a learner learns");
        cluster.away = ids(&[2, 3]);
        cluster.propose(1);
        cluster.settle();
        assert_eq!(cluster.raft(4).last(), cluster.raft(1).last());
        assert_eq!(cluster.raft(1).commit_index(), commit);
    });
}

#[test]
fn dissertation_6_2_a_leader_that_hears_no_quorum_steps_down() {
    notices(Mutant::QuorumUnchecked, |mutant| {
        let mut cluster = Cluster::led(mutant);
        cluster.timer(1, Timer::Election);
        cluster.away = ids(&[2, 3]);
        cluster.timer(1, Timer::Election);
        assert_eq!(cluster.raft(1).role(), RoleName::Follower);
    });
}

#[test]
fn dissertation_9_6_who_hears_a_leader_answers_no_campaign() {
    let mut cluster = Cluster::led(None);
    cluster.heartbeat(1);
    cluster.timer(3, Timer::Election);
    cluster.settle();
    assert_eq!((cluster.raft(3).role(), cluster.raft(3).term()), (RoleName::PreCandidate, Term(1)));
    let last = Position::new(9, 9);
    cluster.post(4, 2, 9, Body::Vote { last, cause: Cause::Silence });
    assert_eq!(cluster.raft(2).term(), Term(1), "not even the term is taken over");
    cluster.post(4, 2, 9, Body::Vote { last, cause: Cause::Transfer });
    assert_eq!(cluster.raft(2).term(), Term(9), "unless the leader wants it");
}

#[test]
fn dissertation_9_6_a_pre_vote_does_not_raise_the_term() {
    notices(Mutant::ElectionUnguarded, |mutant| {
        let mut cluster = Cluster::led(mutant);
        cluster.away = ids(&[3]);
        for _ in 0..5 {
            cluster.elect(3);
        }
        assert_eq!(cluster.raft(3).term(), Term(1));
        cluster.away.clear();
        cluster.heartbeat(1);
        assert_eq!(cluster.raft(1).role(), RoleName::Leader);
        assert_eq!(cluster.raft(3).leader(), Some(id(1)));
    });
}

#[test]
fn dissertation_3_10_leadership_is_handed_over_without_waiting_for_a_timeout() {
    let mut cluster = Cluster::led(None);
    cluster.heartbeat(1);
    cluster.request(1, Request::TransferLeadership { to: id(3) });
    cluster.propose(1);
    cluster.settle();
    assert_eq!(cluster.raft(3).role(), RoleName::Leader);
    let refused =
        |what: &Indication| matches!(what, Indication::Refused { why: Refusal::Transferring, .. });
    assert_eq!(cluster.told(1, refused), 1);
    let ended = Indication::TransferEnded { to: id(3), outcome: TransferOutcome::Completed };
    assert_eq!(cluster.told(1, |what| *what == ended), 1);
}

/// A leader whose disk stands still is not stuck with one voter that cannot take over.
#[test]
fn a_stalled_leader_asks_every_voter_once_and_then_rests() {
    let mut cluster = Cluster::led(None);
    cluster.propose(1);
    cluster.settle_but(1);
    let mut asked = Vec::new();
    for _ in 0..4 {
        cluster.now = cluster.now.after(TIMEOUT + TIMEOUT / 4);
        cluster.timer(1, Timer::Heartbeat);
        let asks = |(_, to, message): &(NodeId, NodeId, Message)| {
            matches!(message.body, Body::TimeoutNow).then_some(*to)
        };
        asked.push(cluster.mail.iter().find_map(asks));
        cluster.mail.retain(|parcel| asks(parcel).is_none());
        cluster.settle_but(1);
        cluster.timer(1, Timer::Transfer); // Nothing came of it.
    }
    assert!(asked[..2].contains(&Some(id(2))) && asked[..2].contains(&Some(id(3))), "{asked:?}");
    assert_eq!(asked[2..], [None, None], "all were asked");
    cluster.now = cluster.now.after(10 * TIMEOUT);
    cluster.timer(1, Timer::Heartbeat);
    let again = cluster.mail.iter().any(|(_, _, message)| message.body == Body::TimeoutNow);
    assert!(again, "they may have recovered");
}

#[test]
fn dissertation_3_10_a_transfer_that_takes_too_long_is_given_up() {
    let mut cluster = Cluster::led(None);
    cluster.away = ids(&[3]);
    cluster.request(1, Request::TransferLeadership { to: id(3) });
    cluster.settle();
    cluster.timer(1, Timer::Transfer);
    cluster.propose(1);
    cluster.settle();
    assert_eq!(cluster.raft(1).commit_index(), Index(2));
    let ended = Indication::TransferEnded { to: id(3), outcome: TransferOutcome::Aborted };
    assert_eq!(cluster.told(1, |what| *what == ended), 1);
}

#[test]
fn news_wait_for_the_next_append_unless_the_follower_forwarded_the_entry() {
    let mut cluster = Cluster::led(None);
    let leader = cluster.members.get_mut(&id(1)).expect("a member");
    leader.config.news_delay = Duration::from_millis(1);
    cluster.propose(2);
    cluster.settle();
    let commits = |cluster: &Cluster| [1, 2, 3].map(|member| cluster.raft(member).commit_index().0);
    assert_eq!(commits(&cluster), [2, 2, 1], "the third asked for nothing");
    cluster.propose(1);
    cluster.settle();
    assert_eq!(commits(&cluster), [3, 2, 2], "the append brought the former news");
    cluster.timer(1, Timer::News);
    cluster.settle();
    assert_eq!(commits(&cluster), [3, 2, 2], "younger than the timer: they get another one");
    cluster.timer(1, Timer::News);
    cluster.settle();
    assert_eq!(commits(&cluster), [3, 3, 3]);
}

fn ready(what: &Indication) -> bool {
    matches!(what, Indication::ReadReady { .. })
}

#[test]
fn dissertation_6_4_a_read_waits_for_a_quorum() {
    for mutant in [Mutant::ReadWithoutQuorum, Mutant::ReadJoinsOldRound, Mutant::LeaseRead] {
        notices(mutant, |mutant| {
            let mut cluster = Cluster::led(mutant);
            cluster.heartbeat(1);
            cluster.away = ids(&[2, 3]);
            cluster.request(1, Request::Read { ticket: 7 });
            cluster.settle();
            assert_eq!(cluster.told(1, ready), 0, "what was heard before it says nothing");
            cluster.away.clear();
            cluster.heartbeat(1);
            assert_eq!(cluster.told(1, ready), 1);
        });
    }
}

#[test]
fn dissertation_6_4_a_read_waits_for_a_commit_of_the_own_term() {
    notices(Mutant::ReadBeforeOwnCommit, |mutant| {
        let mut cluster = Cluster::new(3, 0, mutant);
        cluster.timer(1, Timer::Election);
        let campaign = Term(1);
        cluster.post(2, 1, 0, Body::PreVoteReply { campaign, verdict: Verdict::Granted });
        cluster.post(1, 1, 1, Body::VoteReply { verdict: Verdict::Granted });
        cluster.post(2, 1, 1, Body::VoteReply { verdict: Verdict::Granted });
        cluster.mail.clear();
        cluster.request(1, Request::Read { ticket: 7 });
        cluster.settle();
        assert_eq!(cluster.told(1, ready), 0);
        cluster.post(1, 1, 1, Body::Appended { matched: Index(1) });
        cluster.post(2, 1, 1, Body::Appended { matched: Index(1) });
        cluster.settle();
        assert_eq!(cluster.told(1, ready), 1);
    });
}

#[test]
fn dissertation_6_4_a_follower_reads_by_asking_the_leader_once_for_all() {
    let mut cluster = Cluster::led(None);
    cluster.run(2, |raft, cx| {
        for ticket in 0..10 {
            raft.on_request(Request::Read { ticket }, cx);
        }
    });
    assert_eq!(cluster.mail.len(), 1);
    cluster.settle();
    assert_eq!(cluster.told(2, ready), 10);
}

#[test]
fn dissertation_6_4_an_answer_to_a_former_life_is_no_answer() {
    notices(Mutant::ReadAnswerOfFormerLife, |mutant| {
        let mut cluster = Cluster::led(mutant);
        cluster.request(2, Request::Read { ticket: 1 });
        let records = cluster.records[&id(2)].clone();
        cluster.restart(2, records);
        cluster.timer(1, Timer::Heartbeat);
        let (_, _, beat) = cluster.mail.pop_back().expect("a heartbeat");
        cluster.mail.clear();
        cluster.post(1, 2, 1, beat.body);
        cluster.request(2, Request::Read { ticket: 2 });
        let read_index = Some((Index(1), Ground::Round));
        cluster.post(1, 2, 1, Body::ReadIndexReply { life: 1, batch: 1, read_index });
        assert_eq!(cluster.told(2, ready), 0);
        cluster.post(1, 2, 1, Body::ReadIndexReply { life: 2, batch: 1, read_index });
        assert_eq!(cluster.told(2, ready), 1);
    });
}

#[test]
fn reads_are_asked_again_after_this_process_stood_still() {
    let mut cluster = Cluster::led(None);
    cluster.request(1, Request::Read { ticket: 7 });
    cluster.mail.clear();
    cluster.now = cluster.now.after(TIMEOUT * 2);
    let Role::Leader(leader) = &cluster.raft(1).role else { panic!("a leader") };
    let late = leader.progress[&id(1)].round().max(1);
    cluster.post(2, 1, 1, Body::HeartbeatReply { round: late, promise: Duration::ZERO });
    assert_eq!(cluster.told(1, ready), 0, "the old round confirms nothing");
    cluster.settle();
    assert_eq!(cluster.told(1, ready), 1);
}

#[test]
fn paper_7_an_append_whose_previous_entry_is_compacted_cuts_nothing_off() {
    notices(Mutant::PurgedPrevTruncates, |mutant| {
        let mut cluster = Cluster::led(mutant);
        for _ in 0..5 {
            cluster.propose(1);
            cluster.settle();
        }
        cluster.request(2, Request::Compact { upto: Index(5) });
        let entries = cluster.raft(1).entries().take(4).cloned().collect();
        let body = Body::Append { prev: Position::ZERO, entries, commit: Index(4) };
        cluster.post(1, 2, 1, body);
        assert_eq!(cluster.raft(2).last(), Position::new(1, 6));
    });
}

#[test]
fn paper_7_a_follower_that_is_too_far_behind_gets_a_state() {
    let mut cluster = Cluster::led(None);
    cluster.away = ids(&[3]);
    for _ in 0..5 {
        cluster.propose(1);
        cluster.settle();
    }
    cluster.request(1, Request::Compact { upto: Index(5) });
    cluster.away.clear();
    for _ in 0..3 {
        cluster.heartbeat(1);
    }
    assert_eq!(cluster.told(1, |what| *what == Indication::SnapshotWanted { by: id(3) }), 1);
    let position = Position::new(1, 5);
    let configuration = Configuration::of(ids(&[1, 2, 3]));
    cluster.request(3, Request::Installed { position, configuration });
    cluster.request(1, Request::SnapshotSent { to: id(3), position });
    cluster.settle();
    assert_eq!(cluster.raft(3).last(), cluster.raft(1).last());
    assert_eq!(cluster.raft(3).base(), position);
    let records = cluster.records[&id(3)].clone();
    cluster.restart(3, records);
    assert_eq!(cluster.raft(3).base(), position);
    assert_eq!(cluster.raft(3).last(), Position::new(1, 6));
}

#[test]
fn paper_7_what_is_forgotten_in_memory_is_found_again_after_a_restart() {
    let mut cluster = Cluster::led(None);
    for _ in 0..5 {
        cluster.propose(1);
        cluster.settle();
    }
    let before = cluster.records[&id(1)].len();
    cluster.request(1, Request::Forget { upto: Index(5) });
    assert_eq!(cluster.raft(1).base(), Position::new(1, 5));
    assert_eq!(cluster.records[&id(1)].len(), before, "nothing covers it yet, so nothing says so");
    let last = cluster.raft(1).last();
    cluster.request(1, Request::Forget { upto: Index(99) });
    assert_eq!(cluster.raft(1).base().index, cluster.raft(1).commit_index());
    let records = cluster.records[&id(1)].clone();
    cluster.restart(1, records);
    assert_eq!(cluster.raft(1).base(), Position::ZERO);
    assert_eq!(cluster.raft(1).last(), last);
}

#[test]
fn paper_7_a_crash_while_a_state_is_installed_commits_nothing_of_the_old_log() {
    let mut cluster = Cluster::new(3, 0, None);
    let log = [1, 2, 3, 4].map(|at| Record::Entry(entry(1, at)));
    cluster.restart(3, [hard_state(2)].into_iter().chain(log).collect());
    let before = cluster.records[&id(3)].len();
    let position = Position::new(2, 3);
    let configuration = Configuration::of(ids(&[1, 2, 3]));
    cluster.request(3, Request::Installed { position, configuration });
    let records = cluster.records[&id(3)].clone();
    for end in before..=records.len() {
        cluster.restart(3, records[..end].to_vec());
        let commit = cluster.raft(3).commit_index();
        assert!(commit == Index(0) || cluster.raft(3).base() == position, "{end}: {commit}");
    }
}

/// The disk of a member of term 2 whose second entry is damaged.
fn damaged() -> Vec<Record> {
    vec![
        hard_state(2),
        Record::Entry(entry(1, 1)),
        Record::Damaged { position: Some(Position::new(1, 2)) },
        Record::Entry(entry(2, 3)),
        Record::Commit(Index(3)),
    ]
}

#[test]
fn damage_a_member_with_a_hole_does_not_help_a_shorter_log_to_win() {
    notices(Mutant::MendingVotes, |mutant| {
        let mut cluster = Cluster::new(3, 0, mutant);
        cluster.restart(2, damaged());
        assert_eq!(cluster.raft(2).last(), Position::new(1, 1), "the log ends before the hole");
        assert!(cluster.raft(2).is_mending());
        cluster.elect(2);
        assert_eq!(cluster.raft(2).role(), RoleName::Follower, "it does not campaign");
        cluster.mail.clear();
        for (term, last, verdict) in
            [(5, Position::new(2, 2), Verdict::Denied), (6, Position::new(2, 3), Verdict::Granted)]
        {
            cluster.post(1, 2, term, Body::Vote { last, cause: Cause::Silence });
            let (_, _, reply) = cluster.mail.pop_back().expect("an answer");
            assert_eq!(reply.body, Body::VoteReply { verdict });
        }
    });
}

#[test]
fn damage_is_mended_by_the_leader_and_remembered_until_then() {
    let mut cluster = Cluster::new(3, 0, None);
    cluster.restart(2, damaged());
    let records = cluster.records[&id(2)].clone();
    cluster.restart(2, records);
    assert!(cluster.raft(2).is_mending());
    let entries = vec![entry(1, 2), entry(2, 3)];
    let body = Body::Append { prev: Position::new(1, 1), entries, commit: Index(3) };
    cluster.post(1, 2, 2, body);
    assert!(!cluster.raft(2).is_mending());
    let records = cluster.records[&id(2)].clone();
    cluster.restart(2, records);
    assert!(!cluster.raft(2).is_mending());
    assert_eq!(cluster.raft(2).last(), Position::new(2, 3));
}

#[test]
fn damage_a_leader_sends_again_what_an_acknowledging_follower_lost() {
    let mut cluster = Cluster::led(None);
    for _ in 0..4 {
        cluster.propose(1);
        cluster.settle();
    }
    let mut records = cluster.records[&id(2)].clone();
    let at = records.iter().position(
        |record| matches!(record, Record::Entry(entry) if entry.position.index == Index(3)),
    );
    let position = Some(Position::new(1, 3));
    records[at.expect("the third entry")] = Record::Damaged { position };
    cluster.restart(2, records);
    assert!(cluster.raft(2).is_mending());
    cluster.propose(1);
    cluster.settle();
    assert!(!cluster.raft(2).is_mending());
    assert_eq!(cluster.raft(2).last(), cluster.raft(1).last());
}

#[test]
fn damage_is_noticed_by_a_leader_that_has_nothing_to_send() {
    let mut cluster = Cluster::led(None);
    for _ in 0..4 {
        cluster.propose(1);
        cluster.settle();
    }
    let mut records = cluster.records[&id(2)].clone();
    let at = records.iter().position(
        |record| matches!(record, Record::Entry(entry) if entry.position.index == Index(3)),
    );
    let position = Some(Position::new(1, 3));
    records[at.expect("the third entry")] = Record::Damaged { position };
    cluster.restart(2, records);
    cluster.heartbeat(1);
    cluster.settle();
    assert!(!cluster.raft(2).is_mending());
    assert_eq!(cluster.raft(2).commit_index(), cluster.raft(1).commit_index());
}

#[test]
fn damage_of_the_last_vote_or_of_the_only_log_is_an_error() {
    let config = Config::new(id(2), Configuration::of(ids(&[1, 2, 3])));
    let lost_vote = [hard_state(1), Record::Damaged { position: None }];
    let raft = Raft::restore(&config, &mut lost_vote.into_iter());
    assert_eq!(raft.restore_error(), Some(RestoreError::VoteDamaged));
    let sole = Config::new(id(2), Configuration::of(ids(&[2])));
    let raft = Raft::restore(&sole, &mut damaged().into_iter());
    assert_eq!(raft.restore_error(), Some(RestoreError::NobodyToMendFrom));
}

#[test]
fn damage_is_none_when_a_checkpoint_outlives_the_term_it_came_in() {
    let configuration = Configuration::of(ids(&[1, 2, 3]));
    let config = Config::new(id(2), configuration.clone());
    let voted = Record::HardState { term: Term(1), vote: Some(id(3)) };
    let snapshot = Record::Snapshot { position: Position::new(2, 9), configuration };
    let records = [snapshot, voted, Record::Entry(entry(1, 1))];
    let raft = Raft::restore(&config, &mut records.into_iter());
    assert_eq!(raft.restore_error(), None);
    assert_eq!((raft.term(), raft.vote), (Term(2), None), "a vote of another term");
    assert_eq!(raft.last(), Position::new(2, 9));
}

#[test]
fn damage_of_a_record_of_unknown_kind_keeps_only_what_was_committed() {
    let config = Config::new(id(2), Configuration::of(ids(&[1, 2, 3])));
    let records = [
        hard_state(1),
        Record::Entry(entry(1, 1)),
        Record::Commit(Index(1)),
        Record::Entry(entry(1, 2)),
        Record::Damaged { position: None },
        hard_state(2),
        Record::Entry(entry(2, 3)),
    ];
    let raft = Raft::restore(&config, &mut records.into_iter());
    assert_eq!(raft.restore_error(), None);
    assert_eq!(raft.last(), Position::new(1, 1));
    assert!(raft.is_mending());
}

#[test]
fn bounds_a_leader_refuses_what_it_cannot_commit_in_time() {
    let mut cluster = Cluster::led(None);
    cluster.away = ids(&[2, 3]);
    cluster.members.get_mut(&id(1)).expect("the leader").config.uncommitted_bytes_max = 200;
    for _ in 0..20 {
        cluster.propose(1);
    }
    let refused =
        |what: &Indication| matches!(what, Indication::Refused { why: Refusal::Overloaded, .. });
    assert_eq!(cluster.told(1, refused), 15);
    cluster.settle();
    cluster.away.clear();
    for _ in 0..3 {
        cluster.heartbeat(1);
    }
    cluster.propose(1);
    cluster.settle();
    assert_eq!(cluster.raft(1).commit_index(), Index(7));
}

#[test]
fn progress_a_campaign_that_came_to_nothing_gives_the_next_one_more_time() {
    let mut config = Config::new(id(1), Configuration::of(ids(&[1, 2, 3])));
    config.election_timeout_min = TIMEOUT / 8;
    let mut raft = Raft::restore(&config, &mut [].into_iter());
    let (mut effects, mut choose) = (Vec::new(), |_: usize| 0);
    let mut now = Time::from_nanos(1);
    for round in 1..200 {
        now = now.after(Duration::from_millis(20));
        let (commit, pace, lease) = (Index(0), Duration::ZERO, Duration::ZERO);
        let body = Body::Heartbeat { round, commit, pace, lease };
        let mut cx = Context::new(id(1), now, &mut choose, &mut effects);
        raft.on_message(id(2), Message { term: Term(1), body }, &mut cx);
        raft.on_flush(&mut cx);
    }
    let waits = |effects: &[Effect<Raft>]| {
        effects.iter().rev().find_map(|effect| match effect {
            Effect::SetTimer { timer: Timer::Election, within } => Some(within.start),
            _ => None,
        })
    };
    let mut waited = vec![waits(&effects).expect("a timer")];
    for _ in 0..5 {
        now = now.after(TIMEOUT * 2);
        let mut cx = Context::new(id(1), now, &mut choose, &mut effects);
        raft.on_timer(Timer::Election, &mut cx);
        raft.on_flush(&mut cx);
        waited.push(waits(&effects).expect("a timer"));
    }
    assert!(waited[0] < TIMEOUT / 4, "{waited:?}");
    assert!(waited.is_sorted() && waited[5] == TIMEOUT, "{waited:?}");
}

/// Three voters; the leader's own disk takes nothing from now on.
fn led_with_a_hanging_disk(proposals: usize) -> Cluster {
    let mut cluster = Cluster::led(None);
    cluster.members.get_mut(&id(1)).expect("the leader").config.uncommitted_bytes_max = 200;
    for _ in 0..proposals {
        cluster.propose(1);
        cluster.settle_but(1);
    }
    cluster
}

#[test]
fn bounds_a_leader_refuses_what_its_own_disk_cannot_take_in_time() {
    let cluster = led_with_a_hanging_disk(20);
    let refused =
        |what: &Indication| matches!(what, Indication::Refused { why: Refusal::Overloaded, .. });
    assert!(cluster.raft(1).commit_index() > Index(1), "the others go on");
    assert_eq!(cluster.told(1, refused), 15);
}

#[test]
fn bounds_a_leader_whose_disk_hangs_while_others_go_on_steps_down() {
    let mut cluster = led_with_a_hanging_disk(1);
    for check in 0..4 {
        assert_eq!(cluster.raft(1).role(), RoleName::Leader, "at check {check}");
        cluster.timer(1, Timer::Heartbeat);
        cluster.settle_but(1);
        cluster.timer(1, Timer::Election);
        cluster.settle_but(1);
    }
    assert_eq!(cluster.raft(1).role(), RoleName::Follower);
}
