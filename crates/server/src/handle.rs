//! The one way from the API into a replica: a bounded queue of typed questions.

use crate::guarantees::{View, Vitals};
use crate::host::{Ask, Shared, Snapshot};
use crate::metrics::Metrics;
use crate::overload::Overload;
use crate::reply::Reply;
use crate::scrub::ScrubReport;
use crate::timekeeping::Timekeeper;
use crate::watch::Hub;
use bytes::Bytes;
use quorate_core::{NodeId, Term};
use quorate_drivers::live::monotonic_now;
use quorate_replica::members::{Members, MembersCommand, MembersError};
use quorate_replica::store::{
    Alarm, Auth, Caller, Command, Guard, KvError, Outcome, Range, Revision, Store, Txn,
};
use quorate_replica::{AppliedCommands, LeaseAnswer, LeaseAsk, Ticket, seal};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{oneshot, watch};

pub use quorate_replica::Refusal;

/// Requests of this member that may wait for an answer; one more is refused at once.
pub(crate) const REQUESTS_MAX: usize = 16_384;
/// A range that may visit more keys than this is computed off the threads that serve sockets.
const INLINE_KEYS_MAX: u64 = 10_000;

/// Where the answer to a question about a lease arrives. An error means that the replica ended.
pub(crate) type LeaseReceiver = oneshot::Receiver<Result<LeaseAnswer, Refusal>>;

/// A read, answered from one snapshot.
#[derive(Clone, Debug)]
pub enum Read {
    /// A range.
    Range(Range),
    /// A transaction without writes.
    Txn(Txn),
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began.
    Linearizable,
    /// The state of this member, however old.
    Serializable,
    /// The state of this member, if it is proven to be no older than this; else as
    /// [`Consistency::Linearizable`].
    Bounded {
        /// The age.
        at_most: Duration,
    },
}

/// What the store answered, and when.
#[derive(Clone, Debug)]
pub struct Applied {
    /// Revision of the store after a write, or at which a read was served.
    pub revision: Revision,
    /// Term of this member at that moment.
    pub term: Term,
    /// The answer itself.
    pub outcome: Result<Outcome, KvError>,
    /// Of a read: how old what was read can be at most, if that was asked.
    pub staleness: Option<Duration>,
}

/// A member of the cluster as clients see it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Member {
    /// Its id.
    pub id: u64,
    /// Its name; empty until it has started.
    pub name: String,
    /// Where its peers reach it.
    pub peer_urls: Vec<String>,
    /// Where clients reach it; empty until it has started.
    pub client_urls: Vec<String>,
    /// True if it does not vote.
    pub is_learner: bool,
    /// True if it keeps no store.
    pub is_witness: bool,
}

/// A member's view of itself.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// The leader, if one is known.
    pub leader: Option<NodeId>,
    /// Current term.
    pub term: Term,
    /// Last entry known to be committed.
    pub commit_index: u64,
    /// Last entry applied to the store.
    pub applied_index: u64,
    /// Revision of the store.
    pub revision: Revision,
    /// Bytes on disk: log and checkpoints.
    pub db_size: u64,
    /// Bytes of keys and values that are readable.
    pub db_size_in_use: u64,
    /// Bytes at which writes begin to be refused; 0 for no limit.
    pub db_size_quota: u64,
    /// True if this member does not vote.
    pub is_learner: bool,
    /// True if this member keeps no store.
    pub is_witness: bool,
    /// Puts, deletes and transactions that this member applied in this life.
    pub applied_commands: AppliedCommands,
    /// The active alarms of the cluster, as this member knows them.
    pub alarms: Vec<Alarm>,
    /// Conditions an operator should know of, one sentence each.
    pub errors: Vec<String>,
    /// What its promises rest on.
    pub(crate) vitals: Vitals,
}

/// A request of a client that was refused, or given up by its client, if it is dropped.
struct Unserved<'a>(Option<&'a Shared>);

impl Unserved<'_> {
    fn serve(mut self) {
        self.0 = None;
    }
}

impl Drop for Unserved<'_> {
    fn drop(&mut self) {
        self.0.into_iter().for_each(Shared::count_unserved);
    }
}

/// A handle on this process's replica. Cheap to clone; every method may be called from any task.
///
/// Bound: at most 16,384 requests wait at one time; beyond that the answer is
/// [`Refusal::TooManyRequests`].
#[derive(Clone, Debug)]
pub struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    /// What the scrubber of this member says of itself.
    pub fn scrub_report(&self) -> ScrubReport {
        let mut report = self.shared.scrub.report();
        report.member = format!("{:x}", self.shared.member_id);
        report
    }

    /// Damaged places that it found and that wait to be repaired.
    pub fn scrub_outstanding(&self) -> u64 {
        self.shared.scrub.outstanding()
    }

    /// Asks for a look at the whole disk. Answers with its number: it is over once
    /// [`ScrubReport::finished`] is no less.
    pub fn scrub_now(&self) -> u64 {
        self.shared.scrub.ask()
    }

    pub(crate) fn new(shared: Arc<Shared>) -> Handle {
        Handle { shared }
    }

    /// Id of the cluster.
    pub fn cluster_id(&self) -> u64 {
        self.shared.cluster_id
    }

    /// What this member knows of the time.
    pub(crate) fn time(&self) -> &Timekeeper {
        &self.shared.time
    }

    /// Id of this member.
    pub fn member_id(&self) -> u64 {
        self.shared.member_id
    }

    /// Replicates a command and answers with what it did when it was applied here. Whether the
    /// caller may ask for it is judged then.
    ///
    /// Errors: [`Refusal::is_definite`] tells whether the command may still be carried out.
    pub async fn write_as(&self, caller: &Caller, command: &Command) -> Result<Applied, Refusal> {
        self.write_guarded(caller, &Guard::default(), command).await
    }

    /// As [`Handle::write_as`], on these conditions.
    pub async fn write_guarded(
        &self,
        caller: &Caller,
        guard: &Guard,
        command: &Command,
    ) -> Result<Applied, Refusal> {
        let (reply, answer) = self.reply()?;
        let ticket = Ticket(self.shared.next_ticket.fetch_add(1, Ordering::Relaxed));
        let mut envelope = Vec::with_capacity(128);
        seal(self.shared.life, ticket, &mut envelope);
        guard.encode(&mut envelope);
        caller.encode(&mut envelope);
        command.encode(&mut envelope);
        let ask = Ask::Write { ticket, envelope: Bytes::from(envelope), reply };
        self.shared.inbox.ask(ask).map_err(|_| Refusal::TooManyRequests)?;
        // A host that drops its replies has ended; the command may be on its way to the leader.
        let unserved = Unserved(Some(&self.shared));
        let answer = answer.await.map_err(|_| Refusal::Stopping)??;
        unserved.serve();
        let quorate_replica::Answer { revision, term, outcome } = answer;
        Ok(Applied { revision, term, outcome, staleness: None })
    }

    /// Reads one snapshot.
    pub async fn read(&self, read: Read, consistency: Consistency) -> Result<Applied, Refusal> {
        Ok(self.read_of(self.snapshot(consistency).await?, read).await)
    }

    /// Reads this snapshot.
    pub(crate) async fn read_of(&self, snapshot: Snapshot, read: Read) -> Applied {
        let staleness = snapshot.staleness;
        let store = snapshot.store;
        let revision = store.revision();
        let outcome = match may_be_long(&read, &store) {
            false => answer(&store, &read),
            true => {
                let computing = tokio::task::spawn_blocking(move || answer(&store, &read));
                computing.await.expect("a read does not panic")
            }
        };
        Applied { revision, term: snapshot.term, outcome, staleness }
    }

    /// A frozen copy of the store; it costs nothing to take and stays as it is.
    pub async fn snapshot(&self, consistency: Consistency) -> Result<Snapshot, Refusal> {
        let unserved = Unserved(Some(&self.shared));
        let snapshot = match consistency {
            Consistency::Linearizable => self.proven().await,
            Consistency::Serializable => self.present().await,
            Consistency::Bounded { at_most } => self.bounded(at_most).await,
        }?;
        unserved.serve();
        Ok(snapshot)
    }

    /// How long ago this member's state was last proven to be fresh. None if it never was.
    pub fn staleness(&self) -> Option<Duration> {
        self.shared.fresh_since().map(|since| monotonic_now().since(since))
    }

    async fn present(&self) -> Result<Snapshot, Refusal> {
        self.shared.is_whole()?;
        if let Some(snapshot) = self.shared.published() {
            return Ok(snapshot);
        }
        let (reply, snapshot) = self.reply()?;
        let ask = Ask::Publish { reply };
        self.shared.inbox.ask(ask).map_err(|_| Refusal::TooManyRequests)?;
        snapshot.await.map_err(|_| Refusal::Stopping)?
    }

    /// A quorum proves that the state is as of this call, at least.
    async fn proven(&self) -> Result<Snapshot, Refusal> {
        let asked = monotonic_now();
        let (reply, snapshot) = self.reply()?;
        let ask = Ask::Read { reply };
        self.shared.inbox.ask(ask).map_err(|_| Refusal::TooManyRequests)?;
        let snapshot = snapshot.await.map_err(|_| Refusal::Stopping)??;
        self.shared.proven_fresh(asked);
        Ok(snapshot)
    }

    /// The present state counts from the last proof, which is looked at first: what is read after
    /// it is no older.
    async fn bounded(&self, at_most: Duration) -> Result<Snapshot, Refusal> {
        let since = self.shared.fresh_since();
        if let Some(since) = since
            && monotonic_now().since(since) <= at_most
        {
            let snapshot = self.present().await?;
            let staleness = monotonic_now().since(since);
            if staleness <= at_most {
                return Ok(Snapshot { staleness: Some(staleness), ..snapshot });
            }
        }
        let asked = monotonic_now();
        let snapshot = self.proven().await?;
        Ok(Snapshot { staleness: Some(monotonic_now().since(asked)), ..snapshot })
    }

    /// Returns when this member has applied everything committed before the call.
    pub async fn barrier(&self) -> Result<(), Refusal> {
        self.proven().await.map(|_| ())
    }

    /// Asks the leader about a lease.
    pub(crate) fn ask_lease(&self, ask: LeaseAsk) -> Result<LeaseReceiver, Refusal> {
        let (reply, answer) = self.reply()?;
        let ask = Ask::Lease { ask, reply };
        self.shared.inbox.ask(ask).map_err(|_| Refusal::TooManyRequests)?;
        Ok(answer)
    }

    /// Follows term and leader.
    pub(crate) fn leader(&self) -> watch::Receiver<(Term, Option<NodeId>)> {
        self.shared.leader()
    }

    /// Hands leadership to `target`; must be asked of the leader.
    pub async fn move_leader(&self, target: NodeId) -> Result<(), Refusal> {
        let (reply, done) = self.reply()?;
        let ask = Ask::MoveLeader { to: target, reply };
        self.shared.inbox.ask(ask).map_err(|_| Refusal::TooManyRequests)?;
        done.await.map_err(|_| Refusal::Stopping)?
    }

    /// Users and roles as of the last turn, or None while authentication is off.
    pub(crate) fn auth_if_enabled(&self) -> Option<Arc<Auth>> {
        self.shared.auth.if_enabled()
    }

    /// True while this member knows that it does not know the present users and roles.
    pub(crate) fn auth_is_behind(&self) -> bool {
        self.shared.auth.is_behind()
    }

    /// Users and roles as of the last turn.
    pub(crate) fn auth(&self) -> Arc<Auth> {
        self.shared.auth.present()
    }

    /// Changes the members. Answers with the members after it.
    ///
    /// Errors: the inner one is definite; of the outer one [`Refusal::is_definite`] tells.
    pub async fn change_members(
        &self,
        command: &MembersCommand,
    ) -> Result<Result<Members, MembersError>, Refusal> {
        if !self.shared.may_change() {
            return Ok(Err(MembersError::NotCapable));
        }
        let (reply, answer) = self.reply()?;
        let ticket = Ticket(self.shared.next_ticket.fetch_add(1, Ordering::Relaxed));
        let mut envelope = Vec::new();
        seal(self.shared.life, ticket, &mut envelope);
        command.encode(&mut envelope);
        let ask = Ask::Change { ticket, envelope: Bytes::from(envelope), reply };
        self.shared.inbox.ask(ask).map_err(|_| Refusal::TooManyRequests)?;
        answer.await.map_err(|_| Refusal::Stopping)?
    }

    /// What this member lets in.
    pub(crate) fn overload(&self) -> &Overload {
        &self.shared.overload
    }

    /// True if changes of limits may be put into the log: all members understand them.
    pub(crate) fn may_limit(&self) -> bool {
        self.shared.may_limit()
    }

    /// True if this member does not vote, and so serves little.
    pub(crate) fn is_learner(&self) -> bool {
        self.shared.is_learner()
    }

    /// True if this member keeps no store, and so serves next to nothing.
    pub(crate) fn is_witness(&self) -> bool {
        self.shared.is_witness()
    }

    /// The table of the members, as this one knows it.
    pub fn table(&self) -> Members {
        self.shared.register.table()
    }

    /// Requests that wait for an answer.
    pub(crate) fn waiting(&self) -> usize {
        self.shared.waiting.load(Ordering::Relaxed)
    }

    /// What this member counts.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.shared.metrics
    }

    /// The members as this one knows them.
    pub fn members(&self) -> Vec<Member> {
        self.shared.register.members()
    }

    /// This member's view of itself.
    pub fn status(&self) -> Status {
        self.shared.status()
    }

    /// What this member's promises rest on, as of now.
    pub(crate) fn assumptions(&self) -> View {
        self.shared.guard().look(&self.shared)
    }

    /// Who watches.
    pub(crate) fn watch(&self) -> &Arc<Hub> {
        &self.shared.watch
    }

    fn reply<T>(&self) -> Result<(Reply<T>, oneshot::Receiver<T>), Refusal> {
        Reply::new(&self.shared.waiting, REQUESTS_MAX).ok_or(Refusal::TooManyRequests)
    }
}

fn answer(store: &Store, read: &Read) -> Result<Outcome, KvError> {
    match read {
        Read::Range(range) => store.range(range).map(Outcome::Range),
        Read::Txn(txn) => store.read(txn),
    }
}

/// A guess from above: what a read may visit at most.
fn may_be_long(read: &Read, store: &Store) -> bool {
    let single = |range: &Range| range.keys.range_end.is_empty();
    let short = |range: &Range| single(range) || (range.limit > 0 && range.limit < INLINE_KEYS_MAX);
    match read {
        Read::Range(range) => !short(range) && store.keys() > INLINE_KEYS_MAX,
        Read::Txn(_) => store.keys() > INLINE_KEYS_MAX,
    }
}
