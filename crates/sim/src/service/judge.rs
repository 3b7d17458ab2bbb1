//! What is made of answers, and what must hold.

use super::clients::{Asked, Held, Owned, locks_under};
use super::members::{Answered, Operation};
use super::truth::{Change, wrote};
use super::{Errand, PROBE_EVERY, Service};
use bytes::Bytes;
use quorate_core::Term;
use quorate_drivers::simulate::trace::Kind;
use quorate_drivers::simulate::{Broken, Fault, Hands, Nodes};
use quorate_protocols::consensus::raft::{self, RoleName};
use quorate_replica::store::{Command, Op, Outcome, Put, Txn};
use quorate_replica::{Answer, LeaseAnswer, LeaseAsk, Message, Replica};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a campaign should have seen.
pub(super) const MARKS: &[&str] = &[
    "a checkpoint was written",
    "a follower was sent a checkpoint",
    "a lease ended by itself",
    "a lock was taken",
    "a new leader adopts an old entry",
    "a torn tail was cut off",
    "a watcher was cancelled by a compaction",
    "a write with an old token was refused",
    "an operation of unknown outcome took effect",
    "a damaged record was named",
];

/// Faults after which nothing is promised about the length of a lease.
const CLOCK_FAULTS: [Fault; 5] =
    [Fault::WildDrift, Fault::StepForward, Fault::StepBack, Fault::Freeze, Fault::LeapSecond];

fn linearizable(why: String) -> Broken {
    Broken::new("linearizable", why)
}

impl Service {
    /// A member has applied something.
    pub(super) fn applied(
        &mut self,
        node: usize,
        state: &Replica,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        let (at, digest) = (state.applied(), state.store().digest());
        let (term, known) = *self.digests.entry(at.index).or_insert((at.term, digest));
        if (term, known) != (at.term, digest) {
            return Err(Broken::new(
                "state-machine-safety",
                format!("at {} member {node} is in another state than was seen there", at.index),
            ));
        }
        let before = self.truth.latest();
        self.truth.learn(state.store())?;
        for _ in 0..std::mem::take(&mut self.truth.surprises) {
            hands.mark("an operation of unknown outcome took effect");
        }
        if at.index >= self.frontier {
            self.frontier = at.index;
            let trusted = self.trusts_clocks(hands);
            let ended = self.leases.look(state.store(), hands.now(), trusted)?;
            (0..ended).for_each(|_| hands.mark("a lease ended by itself"));
        }
        for revision in before + 1..=self.truth.latest() {
            self.explain_deletes(revision)?;
        }
        Ok(())
    }

    /// True if no clock has been off by more than the bound so far.
    pub(super) fn trusts_clocks(&self, hands: &Hands<'_, Self>) -> bool {
        !CLOCK_FAULTS.iter().any(|fault| hands.has_seen(*fault))
    }

    /// Every key that is deleted was asked to be, or hung on a lease that ended; and the keys of a
    /// lease go together.
    fn explain_deletes(&self, revision: u64) -> Result<(), Broken> {
        let deleted = |change: &&Change| change.version.version == 0;
        for change in self.truth.changes(revision).iter().filter(deleted) {
            let key = &change.key;
            let asked = self.operations.values().map(|operation| &operation.asked);
            if asked.chain(&self.doubtful).any(|asked| deletes(asked, key)) {
                continue;
            }
            let lease = self.truth.at(key, revision - 1).map_or(0, |version| version.lease);
            if lease == 0 || !self.leases.is_over(lease) {
                let why = format!("{key:?} was deleted at {revision}, and nobody had asked for it");
                return Err(Broken::new("lease", why));
            }
            let left = self.truth.keys_of_lease(lease, revision);
            if let Some(other) = left.first() {
                let why = format!("lease {lease} took {key:?} at {revision}, and left {other:?}");
                return Err(Broken::new("lease", why));
            }
        }
        Ok(())
    }

    pub(super) fn role_changed(
        &mut self,
        node: usize,
        state: &Replica,
        role: RoleName,
        term: Term,
        hands: &mut Hands<'_, Self>,
    ) {
        if role != RoleName::Leader {
            return;
        }
        self.new_leader = true;
        let (last, commit) = (state.raft().last(), state.raft().commit_index());
        // Its own first entry is there already.
        if last.index > commit.next() {
            hands.mark("a new leader adopts an old entry");
        }
        let leader = *self.led.entry(term).or_insert(node);
        if leader != node {
            let why = format!("members {leader} and {node} lead in term {term}");
            hands.broken(Broken::new("election-safety", why));
        }
    }

    /// A client asks for something about a lease.
    pub(super) fn leases_asked(&mut self, command: &Command) {
        match command {
            Command::LeaseGrant { id, .. } => self.leases.asked(*id),
            Command::LeaseRevoke { id } => self.leases.revoking(*id),
            _ => {}
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
                self.refused(&operation, &format!("{why:?}"), hands)
            }
            Answered::Write(Err(_)) => {
                self.doubt(&operation, hands);
                self.lost_probe(&operation, hands);
                Ok(())
            }
            Answered::Read(Ok((revision, Ok(found)))) => {
                self.read_answered(&operation, revision.0, &found)
            }
            Answered::Lease(Ok(answer)) => self.lease_answered(&operation, answer, hands),
            Answered::Read(_) | Answered::Lease(Err(_)) | Answered::Moved => Ok(()),
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
        for put in puts_of(&operation.asked) {
            self.truth.doubt(&put.value);
        }
        let may_delete = matches!(
            operation.asked,
            Asked::Write(Command::DeleteRange(_) | Command::Txn(_) | Command::LeaseRevoke { .. })
        );
        if may_delete {
            self.doubtful.push(operation.asked.clone());
        }
    }

    /// The same once more, at the next member, as if it had not happened.
    fn retry(&mut self, operation: &Operation, hands: &mut Hands<'_, Self>) {
        let Asked::Write(command) = &operation.asked else { return };
        let up = (1..=self.nodes).map(|step| (operation.member + step) % self.nodes);
        if let Some(member) = up.into_iter().find(|member| self.members[*member].up) {
            let ticket = self.members[member].ticket();
            let request = self.sealed(member, ticket, command);
            hands.request(member, std::time::Duration::ZERO, request);
        }
    }

    pub(super) fn give_up(&mut self, number: u64, hands: &mut Hands<'_, Self>) {
        if let Some(operation) = self.operations.get(&number) {
            let (member, ticket) = (operation.member, operation.ticket);
            self.members[member].waiting.remove(&ticket);
            self.unknown(number, "the client has waited long enough", hands);
        }
    }

    fn refused(
        &mut self,
        operation: &Operation,
        why: &str,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        self.lost_probe(operation, hands);
        for put in puts_of(&operation.asked) {
            self.truth.refuse(&put.value, why)?;
        }
        Ok(())
    }

    fn write_answered(
        &mut self,
        operation: &Operation,
        answer: &Answer,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        let Asked::Write(command) = &operation.asked else { return Ok(()) };
        let revision = answer.revision.0;
        let outcome = match &answer.outcome {
            Ok(outcome) => outcome,
            Err(why) => return self.refused(operation, &why.to_string(), hands),
        };
        if revision < operation.floor {
            return Err(linearizable(format!(
                "operation {} is answered at revision {revision}, and {} was told before it began",
                operation.number, operation.floor
            )));
        }
        if wrote(std::slice::from_ref(outcome)) && revision <= operation.reached {
            return Err(linearizable(format!(
                "operation {} took effect at revision {revision}, before it began",
                operation.number
            )));
        }
        self.truth.judge(command, revision, outcome).map_err(|why| {
            linearizable(format!("operation {} at revision {revision}: {why}", operation.number))
        })?;
        self.floor = self.floor.max(revision);
        self.take_effect(operation, command, revision, outcome, hands)
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
        let Some(client) = self.clients.get_mut(operation.client) else {
            self.served[operation.member] = true;
            return Ok(());
        };
        match (command, outcome) {
            (Command::LeaseGrant { id, .. }, Outcome::LeaseGrant { ttl }) => {
                let until = operation.at + ttl * 1_000_000_000;
                client.leases.push(Owned { id: *id, until });
                self.leases.granted(*id, operation.at, *ttl)
            }
            (Command::Txn(txn), Outcome::Txn { succeeded, .. }) => {
                match locks_under(command).filter(|_| *succeeded) {
                    Some(lease) => {
                        hands.mark("a lock was taken");
                        client.held = Some(Held { token: revision, lease });
                    }
                    None => self.refuse_branch_not_taken(txn, *succeeded)?,
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn refuse_branch_not_taken(&mut self, txn: &Txn, succeeded: bool) -> Result<(), Broken> {
        if succeeded {
            return Ok(());
        }
        for op in &txn.success {
            if let Op::Put(put) = op {
                self.truth.refuse(&put.value, "compared false")?;
            }
        }
        Ok(())
    }

    fn read_answered(
        &mut self,
        operation: &Operation,
        revision: u64,
        found: &quorate_replica::store::Found,
    ) -> Result<(), Broken> {
        let range = match &operation.asked {
            Asked::Read(range) => {
                if revision < operation.floor {
                    return Err(linearizable(format!(
                        "read {} found revision {revision}, and {} was told before it began",
                        operation.number, operation.floor
                    )));
                }
                self.floor = self.floor.max(revision);
                range
            }
            Asked::Serializable(range) => range,
            _ => return Ok(()),
        };
        let member = &mut self.members[operation.member];
        if revision < member.told {
            let told = member.told;
            let why = format!("member told revision {told}, and then {revision}");
            return Err(Broken::new("monotone-revisions", why));
        }
        member.told = revision;
        self.truth.judge_read(range, revision, found).map_err(|why| {
            linearizable(format!("read {} at revision {revision}: {why}", operation.number))
        })
    }

    fn lease_answered(
        &mut self,
        operation: &Operation,
        answer: LeaseAnswer,
        hands: &mut Hands<'_, Self>,
    ) -> Result<(), Broken> {
        let Asked::Lease(LeaseAsk::KeepAlive { id }) = operation.asked else { return Ok(()) };
        let trusted = self.trusts_clocks(hands);
        match answer {
            LeaseAnswer::Lives { left, .. } => {
                if let Some(client) = self.clients.get_mut(operation.client) {
                    client.renewed(id, operation.at + left * 1_000_000);
                }
                self.leases.renewed(id, operation.at, left, trusted)
            }
            LeaseAnswer::Gone => {
                if let Some(client) = self.clients.get_mut(operation.client) {
                    client.forget(id);
                }
                Ok(())
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
        if self.served[member] || nodes.is_dead(member) {
            return;
        }
        if !self.members[member].up {
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

    /// The run is over.
    pub(super) fn judge_end(&mut self, nodes: &mut Nodes<'_, Self>) -> Result<(), Broken> {
        safety(nodes)?;
        if !self.calm || !self.served.iter().any(|served| *served) {
            return Ok(());
        }
        let latest = nodes.up().map(|(_, node)| node.store().revision().0).max().unwrap_or(0);
        match latest >= self.floor {
            true => Ok(()),
            false => Err(Broken::new(
                "durable",
                format!("revision {} was acknowledged, and all end at {latest}", self.floor),
            )),
        }
    }
}

/// What must hold across the logs of all members.
pub(super) fn safety(nodes: &Nodes<'_, Service>) -> Result<(), Broken> {
    let rafts: Vec<&raft::Raft> = nodes.up().map(|(_, node)| node.raft()).collect();
    let checked = catch_unwind(AssertUnwindSafe(|| raft::safety(&rafts)));
    checked.map_err(|panic| {
        let text = panic.downcast_ref::<String>().map_or("a property of Raft", String::as_str);
        Broken::new("raft", text)
    })
}

/// The puts of a command, each with a value of its own.
fn puts_of(asked: &Asked) -> Vec<&Put> {
    fn of_ops(ops: &[Op]) -> Vec<&Put> {
        ops.iter().flat_map(of_op).collect()
    }
    fn of_op(op: &Op) -> Vec<&Put> {
        match op {
            Op::Put(put) => vec![put],
            Op::Txn(txn) => of_ops(&txn.success),
            Op::Range(_) | Op::DeleteRange(_) => Vec::new(),
        }
    }
    match asked {
        Asked::Write(Command::Put(put)) => vec![put],
        Asked::Write(Command::Txn(txn)) => of_ops(&txn.success),
        _ => Vec::new(),
    }
}

/// True if this may delete the key, as far as the request tells.
fn deletes(asked: &Asked, key: &[u8]) -> bool {
    let within = |op: &Op| match op {
        Op::DeleteRange(delete) => delete.keys.contains(key),
        _ => false,
    };
    match asked {
        Asked::Write(Command::DeleteRange(delete)) => delete.keys.contains(key),
        Asked::Write(Command::Txn(txn)) => txn.success.iter().any(within),
        _ => false,
    }
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
        Answered::Read(Ok((revision, Ok(found)))) => {
            let values = found.kvs.iter().map(|kv| String::from_utf8_lossy(&kv.value).into_owned());
            let values: Vec<String> = values.take(3).collect();
            format!("[{}] at revision {}", values.join(" "), revision.0)
        }
        Answered::Read(Ok((_, Err(why)))) => format!("refused: {why}"),
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
                raft::Body::HeartbeatReply { round } => (4, *round),
                raft::Body::Committed { commit } => (5, commit.0),
                _ => (6, 0),
            };
            message.term.0 << 48 ^ number << 4 ^ kind
        }
        Message::Lease(_) => 7,
        Message::Apply => 8,
        Message::Digest { at, digest } => at.0 ^ digest.rotate_left(17),
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
                raft::Body::HeartbeatReply { round } => {
                    format!("HeartbeatReply term {term}: round {round}")
                }
                raft::Body::Committed { commit } => format!("Committed term {term}: {commit}"),
                body => format!("{body:?} term {term}"),
            }
        }
        Message::Lease(message) => format!("{message:?}"),
        Message::Apply => "Apply".to_owned(),
        Message::Digest { at, digest } => format!("Digest at {at}: {digest:016x}"),
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
