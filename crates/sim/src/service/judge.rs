//! What is made of answers, and what must hold.

use super::asks::Done;
use super::clients::{Asked, Held, Owned, locks_under};
use super::leases::{Clocks, End};
use super::members::{Answered, Operation, Read};
use super::truth::LeaseChange;
use super::{Errand, PROBE_EVERY, Service};
use bytes::Bytes;
use quorate_check::guarantees::revisions;
use quorate_check::history::ClientId;
use quorate_core::{Index, Position};
use quorate_drivers::simulate::trace::Kind;
use quorate_drivers::simulate::{Broken, Fault, Hands, Nodes, World as _};
use quorate_protocols::consensus::raft::{self, Payload, RoleName};
use quorate_replica::members::MembersCommand;
use quorate_replica::store::{self, Command, KvError, Outcome, Put, Store};
use quorate_replica::{Answer, LeaseAnswer, LeaseAsk, Message, Replica, open};
use std::collections::BTreeMap;

/// What a campaign should have seen.
pub(super) const MARKS: &[&str] = &[
    "a checkpoint was written",
    "a follower was sent a checkpoint",
    "a lease ended by itself",
    "a lock was taken",
    "a new leader adopts an old entry",
    "a torn tail was cut off",
    "a watcher was cancelled by a compaction",
    "a request was asked again and told its first answer",
    "a write of a former holder was fenced",
    "a write with an old token was refused",
    "an operation of unknown outcome took effect",
    "a damaged record was named",
    "a scrub found damage",
    "damage was repaired while a member ran",
    "a read rested on a lease",
];

/// Faults after which nothing is promised about the length of a lease.
const CLOCK_FAULTS: [Fault; 5] =
    [Fault::WildDrift, Fault::StepForward, Fault::StepBack, Fault::Freeze, Fault::LeapSecond];

fn broken(property: &'static str, why: String) -> Result<(), Broken> {
    Err(Broken::new(property, why))
}

impl Service {
    /// A witness has no store.
    fn keeps_nothing(&self, state: &Replica) -> Result<(), Broken> {
        match state.store().revision() == Store::new().revision() {
            true => Ok(()),
            false => broken("membership", format!("{} is a witness with data", state.raft().id())),
        }
    }

    /// A member has applied something.
    pub(super) fn applied(
        &mut self,
        node: usize,
        state: &Replica,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        let digest = state.digest();
        let at = state.applied();
        if at.index > self.logs.last() {
            for (position, payload) in self.logs.up_to(at)? {
                self.logs.choose(state.raft().term(), position);
                self.happens(position, payload, hands)?;
            }
            if !state.is_witness() {
                self.truth.compare(state.store())?;
            }
            for _ in 0..std::mem::take(&mut self.asks.surprises) {
                hands.mark("an operation of unknown outcome took effect");
            }
        }
        for state_as_of in [at, state.raft().base()] {
            self.logs.state_is_agreed(state.raft().id(), state_as_of)?;
        }
        if state.is_witness() {
            hands.mark("a witness passed over a command");
            return self.keeps_nothing(state);
        }
        let known = *self.digests.entry(at.index).or_insert(digest);
        match known == digest {
            true => Ok(()),
            false => broken(
                "state-machine-safety",
                format!("at {} member {node} is in another state than was seen there", at.index),
            ),
        }
    }

    /// The next entry of the log takes effect, for the first time at any member.
    fn happens(
        &mut self,
        position: Position,
        payload: Payload,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        self.reshaping.happens(position, &payload)?;
        let sealed = match payload {
            Payload::Command(sealed) if !is_change(&sealed) => sealed,
            _ => {
                self.truth.pass();
                return Ok(());
            }
        };
        let opened = open(sealed).and_then(|(life, ticket, encoded)| {
            Some(((life, ticket), store::Asked::decode(encoded).ok()?))
        });
        let Some((name, asked)) = opened else {
            return broken("once", format!("what is at {position} was asked by nobody"));
        };
        let place = (position.index, position.term);
        let did = self.asks.take_effect(name, &asked, place, &mut self.truth)?;
        let (now, clocks) = (hands.now(), self.trust_in_clocks(hands));
        for change in did.leases {
            match change {
                LeaseChange::Granted(id) => self.leases.began(id, now),
                LeaseChange::Revoked(id) => self.leases.ended(id, now, End::Revoked, clocks)?,
                LeaseChange::Expired(id) => {
                    hands.mark("a lease ended by itself");
                    self.leases.ended(id, now, End::Expired, clocks)?;
                }
            }
        }
        Ok(())
    }

    /// Whether a clock has been off by more than the bound so far.
    pub(super) fn trust_in_clocks(&self, hands: &Hands<'_, Self>) -> Clocks {
        match CLOCK_FAULTS.iter().any(|fault| hands.has_seen(*fault)) {
            true => Clocks::Astray,
            false => Clocks::Trusted,
        }
    }

    pub(super) fn role_changed(
        &mut self,
        state: &Replica,
        role: RoleName,
        hands: &mut Hands<'_, Self>,
    ) {
        let (last, commit) = (state.raft().last(), state.raft().commit_index());
        // Its own first entry is there already.
        if role == RoleName::Leader && last.index > commit.next() {
            hands.mark("a new leader adopts an old entry");
        }
    }

    /// A client is answered.
    pub(super) fn answered(
        &mut self,
        number: u64,
        answered: Answered,
        hands: &mut Hands<'_, Self>,
    ) {
        let Some(operation) = self.operations.remove(&number) else { return };
        self.returned(&operation, &words(&answered), hands);
        let judged = match answered {
            Answered::Write(Ok(answer)) => self.write_answered(&operation, &answer, hands),
            Answered::Write(Err(why)) if why.is_definite() => {
                self.lost_probe(&operation, hands);
                self.asks.refuse(operation.name, &format!("{why:?}"))
            }
            Answered::Write(Err(_)) => {
                self.doubt(&operation, hands);
                self.lost_probe(&operation, hands);
                Ok(())
            }
            Answered::Read(Ok(read)) => self.read_answered(&operation, &read),
            Answered::Lease(Ok(answer)) => self.lease_answered(&operation, answer, hands),
            Answered::Read(Err(_)) | Answered::Lease(Err(_)) | Answered::Moved => Ok(()),
        };
        if let Err(broken) = judged {
            hands.broken(broken);
        }
    }

    /// The client goes on.
    fn returned(&mut self, operation: &Operation, text: &str, hands: &mut Hands<'_, Self>) {
        if let Some(client) = self.clients.get_mut(operation.client) {
            client.busy = false;
        }
        hands.tell(Kind::Return, |step| {
            (step.client, step.node) = (Some(operation.client), Some(operation.member));
            step.operation = Some(operation.number);
            text.clone_into(&mut step.text);
        });
    }

    /// Nobody will ever tell what became of it.
    pub(super) fn unknown(&mut self, number: u64, why: &str, hands: &mut Hands<'_, Self>) {
        let Some(operation) = self.operations.remove(&number) else { return };
        self.doubt(&operation, hands);
        self.returned(&operation, &format!("unknown: {why}"), hands);
        self.lost_probe(&operation, hands);
    }

    /// Whether it happened will not be known.
    fn doubt(&mut self, operation: &Operation, hands: &mut Hands<'_, Self>) {
        if self.plants.retried_blindly() && matches!(operation.asked, Asked::Write(_)) {
            self.retry(operation, hands);
        }
        self.ask_again(operation);
        self.asks.doubt(operation.name);
        for _ in 0..std::mem::take(&mut self.asks.surprises) {
            hands.mark("an operation of unknown outcome took effect");
        }
    }

    /// The same once more, at the next member, as if it had not happened.
    fn retry(&mut self, operation: &Operation, hands: &mut Hands<'_, Self>) {
        let Asked::Write(command) = operation.asked.clone() else { return };
        let up = (1..=self.nodes).map(|step| (operation.member + step) % self.nodes);
        if let Some(member) = up.into_iter().find(|member| self.members[*member].up) {
            let name = self.name(member);
            let request = self.sealed(name, operation.number, command.into());
            hands.request(member, std::time::Duration::ZERO, request);
        }
    }

    pub(super) fn give_up(&mut self, number: u64, hands: &mut Hands<'_, Self>) {
        if let Some(operation) = self.operations.get(&number) {
            let (member, (_, ticket)) = (operation.member, operation.name);
            self.members[member].waiting.remove(&ticket);
            self.unknown(number, "the client has waited long enough", hands);
        }
    }

    /// The answer to a write is the one that follows from its place in the log. That this place is
    /// after all that was answered before it was asked needs no look: it was not in the log then.
    fn write_answered(
        &mut self,
        operation: &Operation,
        answer: &Answer,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        let Some(command) = operation.asked.command() else { return Ok(()) };
        let (number, revision) = (operation.number, answer.revision.0);
        let Done { index, stand, outcome, repeated } = self.asks.told(operation.name)?;
        if revision != stand.revision {
            let why = format!(
                "operation {number} is answered at revision {revision}, and took effect at {}",
                stand.revision
            );
            return broken("linearizable", why);
        }
        if answer.outcome != outcome {
            let guard = operation.asked.guard();
            let property = match command {
                _ if guard.request.is_some() => "once",
                _ if !guard.fences.is_empty() => "lock",
                Command::LeaseGrant { .. } | Command::LeaseRevoke { .. } => "lease",
                _ => "mvcc",
            };
            let why = format!(
                "operation {number} is answered {:?} instead of {outcome:?}",
                answer.outcome
            );
            return broken(property, why);
        }
        match repeated {
            // Told as it was then.
            true => hands.mark("a request was asked again and told its first answer"),
            false => self.tells(operation, revision)?,
        }
        if matches!(answer.outcome, Err(KvError::Fenced { .. })) {
            hands.mark("a write of a former holder was fenced");
        }
        self.floor = self.floor.max(index);
        match &answer.outcome {
            Ok(outcome) => self.take_effect(operation, command, revision, outcome, hands),
            Err(_) => {
                self.lost_probe(operation, hands);
                Ok(())
            }
        }
    }

    /// No member tells an older revision than it told before in this life; and no client, whatever
    /// members it asks for the latest, is told an older one than it was told before.
    fn tells(&mut self, operation: &Operation, revision: u64) -> Result<(), Broken> {
        let as_member = ClientId(operation.name.0.0);
        let as_client = ClientId(operation.client as u64);
        // Who asks all members at a time whether they serve is no client.
        let is_client = operation.client < self.clients.len();
        let is_latest = !matches!(operation.asked, Asked::Serializable(_));
        let mut judged = self.told_by.on_answer(as_member, revisions::Answer::Read, revision);
        if let Some(client) = self.clients.get_mut(operation.client) {
            client.seen = client.seen.max(revision);
        }
        if is_client && is_latest && judged.is_ok() {
            judged = self.told_to.on_answer(as_client, revisions::Answer::Read, revision);
        }
        judged.map_err(|found| Broken::new("monotone-revisions", found.story))
    }

    /// What the client knows now.
    fn take_effect(
        &mut self,
        operation: &Operation,
        command: &Command,
        revision: u64,
        outcome: &Outcome,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        let clocks = self.trust_in_clocks(hands);
        let Some(client) = self.clients.get_mut(operation.client) else {
            self.served[operation.member] = true;
            return Ok(());
        };
        match (command, outcome) {
            (Command::LeaseGrant { id, .. }, Outcome::LeaseGrant { ttl }) => {
                let until = operation.at + ttl * 1_000_000_000;
                client.leases.push(Owned { id: *id, until });
                self.leases.granted(*id, operation.at, *ttl, clocks)
            }
            (Command::Txn(_), Outcome::Txn { succeeded: true, .. }) => {
                if let Some(lease) = locks_under(command) {
                    hands.mark("a lock was taken");
                    client.held = Some(Held { token: revision, lease });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// A read is answered as of the index at which the member stands; of a linearizable one, that
    /// is no earlier than any that was told of before it was asked.
    fn read_answered(&mut self, operation: &Operation, read: &Read) -> Result<(), Broken> {
        let range = match &operation.asked {
            Asked::Read(range) | Asked::Serializable(range) => range,
            _ => return Ok(()),
        };
        let Read { index, revision, found } = read;
        self.tells(operation, revision.0)?;
        let number = operation.number;
        if matches!(operation.asked, Asked::Read(_)) {
            if *index < operation.floor {
                let floor = operation.floor;
                let why =
                    format!("read {number} sees {index}, and {floor} was told before it began");
                return broken("linearizable", why);
            }
            self.floor = self.floor.max(*index);
        }
        if self.truth.stand(*index).revision != revision.0 {
            let why = format!("read {number} at {index} tells of revision {}", revision.0);
            return broken("mvcc", why);
        }
        let expected = self.truth.read(range, *index);
        match *found == expected {
            true => Ok(()),
            false => broken(
                "mvcc",
                format!("read {number} at {index} is answered {found:?} instead of {expected:?}"),
            ),
        }
    }

    fn lease_answered(
        &mut self,
        operation: &Operation,
        answer: LeaseAnswer,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        let Asked::Lease(LeaseAsk::KeepAlive { id }) = operation.asked else { return Ok(()) };
        let clocks = self.trust_in_clocks(hands);
        let mut client = self.clients.get_mut(operation.client);
        match answer {
            LeaseAnswer::Lives { left, .. } => {
                if let Some(client) = &mut client {
                    client.renewed(id, operation.at + left * 1_000_000);
                }
                self.leases.renewed(id, operation.at, left, clocks)
            }
            LeaseAnswer::Gone => {
                if let Some(client) = &mut client {
                    client.forget(id);
                }
                self.leases.gone(id, operation.at)
            }
        }
    }

    /// Asks a member whether it serves.
    pub(super) fn probe(
        &mut self,
        member: usize,
        nodes: &mut Nodes<'_, Self>,
        hands: &mut Hands<'_, Self>,
    ) {
        let votes = self.reshaping.votes(self.id(member));
        if self.served[member] || nodes.is_dead(member) {
            return;
        }
        // A learner that votes in the end is asked then.
        if !votes || !self.members[member].up {
            return self.errand(PROBE_EVERY, Errand::Probe { member }, hands);
        }
        let key = Bytes::from_static(b"k/probe");
        let value = Bytes::from(format!("probe-{}", self.asked));
        let put = Command::Put(Put { key, value, ..Put::default() });
        let nobody = self.clients.len();
        self.ask((nobody, member), Asked::Write(put), nodes, hands);
    }

    /// A probe that was not answered is sent again.
    fn lost_probe(&mut self, operation: &Operation, hands: &mut Hands<'_, Self>) {
        if operation.client == self.clients.len() {
            let member = operation.member;
            self.errand(PROBE_EVERY, Errand::Probe { member }, hands);
        }
    }

    /// The run is over: what was told of is there.
    pub(super) fn judge_end(&mut self, nodes: &mut Nodes<'_, Self>) -> Result<(), Broken> {
        if !self.calm || !self.served.iter().any(|served| *served) {
            return Ok(());
        }
        let latest = nodes.up().map(|(_, node)| node.applied().index).max().unwrap_or(Index(0));
        match latest >= self.floor {
            true => Ok(()),
            false => broken(
                "durable",
                format!("{} was acknowledged, and all end at {latest}", self.floor),
            ),
        }
    }
}

/// True if a sealed command changes the members.
fn is_change(sealed: &Bytes) -> bool {
    open(sealed.clone()).is_some_and(|(_, _, body)| MembersCommand::is_one(&body))
}

fn words(answered: &Answered) -> String {
    match answered {
        Answered::Write(Ok(Answer { revision, outcome: Ok(outcome), .. })) => match outcome {
            Outcome::Txn { succeeded, .. } => format!("{succeeded} at revision {}", revision.0),
            _ => format!("ok at revision {}", revision.0),
        },
        Answered::Write(Ok(Answer { outcome: Err(why), .. })) => format!("refused: {why}"),
        Answered::Write(Err(why)) | Answered::Read(Err(why)) | Answered::Lease(Err(why)) => {
            format!("refused: {why:?}")
        }
        Answered::Read(Ok(Read { revision, found: Ok(found), .. })) => {
            let values = found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            let values: Vec<String> = values.take(3).collect();
            format!("[{}] at revision {}", values.join(" "), revision.0)
        }
        Answered::Read(Ok(Read { found: Err(why), .. })) => format!("refused: {why}"),
        Answered::Lease(Ok(LeaseAnswer::Lives { left, .. })) => format!("lives for {left} ms"),
        Answered::Lease(Ok(LeaseAnswer::Gone)) => "gone".to_owned(),
        Answered::Moved => "done".to_owned(),
    }
}

/// Numbers of a message, for the digest of the run.
pub(super) fn fingerprint(message: &Message) -> u64 {
    match message {
        Message::Raft(message) => {
            let (kind, number) = match &message.body {
                raft::Body::Append { prev, entries, commit } => {
                    (1, prev.index.0 << 24 ^ (entries.len() as u64) << 12 ^ commit.0)
                }
                raft::Body::Appended { matched } => (2, matched.0),
                raft::Body::Heartbeat { round, commit, .. } => (3, round << 20 ^ commit.0),
                raft::Body::HeartbeatReply { round, .. } => (4, *round),
                raft::Body::Committed { commit } => (5, commit.0),
                _ => (6, 0),
            };
            message.term.0 << 48 ^ number << 4 ^ kind
        }
        Message::Lease(_) => 7,
        Message::Apply => 8,
        Message::Digest { at, digest } => at.0 ^ digest.rotate_left(17),
        Message::Vet { envelope } => 9 ^ (envelope.len() as u64) << 4,
        Message::Vetoed { ticket, why, .. } => 10 ^ ticket.0 << 8 ^ (*why as u64) << 4,
    }
}

/// A message in the field's words.
pub(super) fn describe(message: &Message) -> String {
    match message {
        Message::Raft(message) => {
            let term = message.term;
            match &message.body {
                raft::Body::Append { prev, entries, commit } => match entries.len() {
                    0 => format!("Append term {term}: nothing after {prev}, commit {commit}"),
                    n => format!("Append term {term}: {n} after {prev}, commit {commit}"),
                },
                raft::Body::Appended { matched } => {
                    format!("Appended term {term}: matched up to {matched}")
                }
                raft::Body::Heartbeat { round, commit, .. } => {
                    format!("Heartbeat term {term}: round {round}, commit {commit}")
                }
                raft::Body::HeartbeatReply { round, .. } => {
                    format!("HeartbeatReply term {term}: round {round}")
                }
                raft::Body::Committed { commit } => format!("Committed term {term}: {commit}"),
                body => format!("{body:?} term {term}"),
            }
        }
        Message::Lease(message) => format!("{message:?}"),
        Message::Apply => "Apply".to_owned(),
        Message::Digest { at, digest } => format!("Digest at {at}: {digest:016x}"),
        Message::Vet { .. } => "Vet: a change of members".to_owned(),
        Message::Vetoed { why, .. } => format!("Vetoed: {why}"),
    }
}

/// What a reader wants to know of a member.
pub(super) fn portrait(node: &Replica) -> BTreeMap<String, String> {
    let raft = node.raft();
    let mut portrait = BTreeMap::new();
    let mut say = |name: &str, value: String| portrait.insert(name.to_owned(), value);
    say("role", format!("{:?}", raft.role()));
    say("term", raft.term().to_string());
    say("commit", raft.commit_index().to_string());
    say("last", raft.last().to_string());
    say("applied", node.applied().to_string());
    say("revision", node.store().revision().0.to_string());
    let followers: Vec<String> = raft
        .progress()
        .map(|(peer, matched, state)| format!("{peer} {state:?} up to {matched}"))
        .collect();
    if !followers.is_empty() {
        say("followers", followers.join(", "));
    }
    if node.fenced().is_some() {
        say("fenced", "yes".to_owned());
    }
    portrait
}
