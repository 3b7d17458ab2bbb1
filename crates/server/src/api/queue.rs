//! The line in which clients wait for a lock or for leadership: what both services share.
//!
//! **Problem.** One of several clients is to go on, the others are to wait in the order in which
//! they came; a client that is gone must not hold the others up.
//!
//! **Idea.** The recipe of etcd's clients, so that theirs and ours stand in one line: a candidate
//! is a key `NAME/LEASE` (the lease in hexadecimal) under the client's lease. The oldest key is
//! served, every other one waits for the key before its own, and the revision at which a key came
//! to life is its *token*, which grows from holder to holder.
//!
//! ```text
//!   jobs/1a  created 12   served          tells: nothing
//!   jobs/2b  created 15   waits for jobs/1a, and for its own end
//!   jobs/3c  created 19   waits for jobs/2b, and for its own end
//! ```
//!
//! **Guarantees.** Who had to wait is told that he is served only after a quorum has confirmed that
//! his key is there and the oldest, and the leader that his lease has time left: no wait, however
//! long, outlives its lease (etcd#11456; Kingsbury, "Jepsen: etcd 3.4.3", 2020). A lease that ends
//! ends the wait with an error at once, and not when the turn comes. When the client goes away,
//! its key goes as well, by a deletion that holds for what this call has written and for nothing
//! later: so a client that lost its member may ask another one with the same lease, keeps its
//! place, and the end of its first call does not take from it what the second was given.
//!
//! What etcd's servers do otherwise: there a second call with the same lease leaves the key as it
//! is, so either call can take it away; and a campaign is not confirmed after its wait.
//!
//! **Bounds.** Each wait is a stream of the hub ([`crate::watch`]) with two watchers, beyond whose
//! number it is refused with "too many requests". A step costs a look at every key of the line.
//!
//! Sources: etcd `client/v3/concurrency/{mutex,election,key}.go` and `server/etcdserver/api/v3lock`
//! (behaviour); Burrows, "The Chubby lock service" (2006), section 2.4 (sequencers).

use super::conditions;
use super::errors::ApiError;
use super::header::Headers;
use super::lease::drawn_id;
use crate::auth::{Asker, Gate};
use crate::handle::{Consistency, Handle, Refusal};
use crate::host::Snapshot;
use crate::proto::etcdserverpb::ResponseHeader;
use crate::watch::{Bell, Stream};
use bytes::Bytes;
use quorate_drivers::live::monotonic_now;
use quorate_replica::store::line::{key_of, keys_of, oldest};
use quorate_replica::store::{
    Asking, Caller, Command, Compare, DeleteRange, Guard, KeyValue, Keys, Limits, Op, Operand,
    Outcome, Put, Range, Relation, Revision, SortOrder, Store, Txn,
};
use quorate_replica::{LeaseAnswer, LeaseAsk};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tonic::Status;

/// The lease of a candidate that brings none, as in etcd. Nobody renews it. Unit: seconds.
const SESSION_TTL: u64 = 60;
/// Time between two attempts at what could not be done without a leader.
const PAUSE: Duration = Duration::from_millis(100);
/// A key is taken out of the line so often before that is left to the end of its lease.
const LEAVE_TRIES: usize = 20;

/// The lines of one member. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Queue {
    pub(super) handle: Handle,
    pub(super) headers: Headers,
    pub(super) gate: Gate,
    limits: Limits,
}

/// Who wants to stand in a line.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Of the line.
    pub(super) name: Bytes,
    /// What the key hangs on; 0 asks for one that nobody renews.
    pub(super) lease: i64,
    /// What the key shows. None: nothing, or what it shows already.
    pub(super) value: Option<Bytes>,
    /// The wait ends when no leader is known for long.
    pub(super) requires_leader: bool,
    pub(super) asker: Asker,
    /// What is said when the lease ends meanwhile.
    pub(super) expired: &'static str,
}

/// Who is served.
#[derive(Clone, Debug)]
pub(super) struct Served {
    pub(super) header: ResponseHeader,
    pub(super) key: Bytes,
    /// Its token.
    pub(super) created: Revision,
    pub(super) lease: i64,
}

/// A key in the line.
#[derive(Clone, Debug, Eq, PartialEq)]
struct Place {
    line: Keys,
    key: Bytes,
    created: Revision,
    /// The revision of what this call wrote.
    written: Revision,
    /// The key was there before this call.
    was_there: bool,
}

/// How a place stands in some state of the store.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Stand {
    /// It is the oldest.
    First,
    /// That key is the one before it.
    Behind(Bytes),
    /// It is not there any more.
    Gone,
}

/// What a quorum says to who believes to be first.
enum Confirmed {
    Yes(Snapshot),
    No,
    Expired,
}

impl Queue {
    /// The lines, with these limits on requests.
    pub(super) fn new(handle: Handle, gate: Gate, limits: Limits) -> Queue {
        let headers = Headers::of(&handle);
        Queue { handle, headers, gate, limits }
    }

    /// Stands in line until served.
    ///
    /// Errors: the lease has ended; what the store says; the member ends. The key is gone then, or
    /// goes with its lease.
    pub(super) async fn stand(&self, candidate: Candidate) -> Result<Served, Status> {
        let (reply, answer) = oneshot::channel();
        // A task of its own, so that it can clean up behind a client that goes away.
        tokio::spawn(self.clone().attend(candidate, reply));
        answer.await.unwrap_or_else(|_| Err(ApiError::Stopped.into()))
    }

    async fn attend(
        self,
        mut candidate: Candidate,
        mut reply: oneshot::Sender<Result<Served, Status>>,
    ) {
        let brings_lease = candidate.lease != 0;
        let joined = match brings_lease {
            true => Ok(()),
            false => self.lend(&mut candidate).await,
        };
        let joined = match joined {
            Ok(()) => self.join(&candidate).await,
            Err(why) => Err(why),
        };
        let (served, place) = match joined {
            Err(why) => (Err(why), None),
            Ok((place, Some(header))) => {
                let served = served(&candidate, &place, header);
                // What was first before this call is not for this call to take.
                (Ok(served), Some(place).filter(|place| !place.was_there))
            }
            Ok((place, None)) => {
                let served = tokio::select! {
                    served = self.wait(&candidate, &place) => served,
                    () = reply.closed() => Err(Status::cancelled("the client has gone away")),
                };
                (served, Some(place))
            }
        };
        let failed = served.is_err();
        let untold = reply.send(served).is_err();
        if !(failed || untold) {
            return;
        }
        match place {
            _ if !brings_lease => self.insist(Command::LeaseRevoke { id: candidate.lease }).await,
            Some(place) => self.insist(place.leaving()).await,
            None => {} // Whatever becomes of it, its lease is its client's.
        }
    }

    /// Grants a lease to a candidate that has none.
    async fn lend(&self, candidate: &mut Candidate) -> Result<(), Status> {
        candidate.lease = drawn_id()?;
        let (id, ttl) = (candidate.lease, SESSION_TTL);
        let command = Command::LeaseGrant { id, ttl, at: Default::default() };
        self.write(&candidate.asker, &command).await.map(|_| ())
    }

    /// Carries a command out for a client.
    pub(super) async fn write(
        &self,
        asker: &Asker,
        command: &Command,
    ) -> Result<(ResponseHeader, Outcome), Status> {
        self.write_guarded(asker, &Guard::default(), command).await
    }

    /// As [`Queue::write`], on these conditions.
    pub(super) async fn write_guarded(
        &self,
        asker: &Asker,
        guard: &Guard,
        command: &Command,
    ) -> Result<(ResponseHeader, Outcome), Status> {
        self.limits.admit(command).map_err(ApiError::from)?;
        let applied = self.gate.write_guarded(asker, guard, command).await?;
        let header = self.headers.at(applied.revision, applied.term);
        Ok((header, applied.outcome.map_err(|why| conditions::refused(guard, why))?))
    }

    /// Carries out what is only to be tidied up, if that can be done.
    async fn insist(&self, command: Command) {
        for _ in 0..LEAVE_TRIES {
            match self.handle.write_as(&Caller::Member, &command).await {
                Ok(_) | Err(Refusal::Stopping | Refusal::Corrupt) => return,
                Err(_) => sleep(PAUSE).await,
            }
        }
    }

    /// Writes the key. Answers with the header as well if there is nobody to wait for.
    async fn join(&self, candidate: &Candidate) -> Result<(Place, Option<ResponseHeader>), Status> {
        let (line, key) = (keys_of(&candidate.name), key_of(&candidate.name, candidate.lease));
        let command = joining(&line, &key, candidate);
        let (header, outcome) = self.write(&candidate.asker, &command).await?;
        let Outcome::Txn { succeeded, outcomes } = outcome else {
            panic!("a transaction was answered with {outcome:?}")
        };
        let written = Revision(u64::try_from(header.revision).expect("revisions are positive"));
        let found = |outcome: Option<&Outcome>| match outcome {
            Some(Outcome::Range(found)) => {
                found.kvs.first().map(|kv| kv.create_revision).expect("our own key is there")
            }
            other => panic!("a range was answered with {other:?}"),
        };
        let created = if succeeded { written } else { found(outcomes.first()) };
        let first = found(outcomes.last()) == created;
        let place = Place { line, key, created, written, was_there: !succeeded };
        Ok((place, first.then_some(header)))
    }

    /// A bell, and what there is at the moment.
    pub(super) async fn bell(&self, requires_leader: bool) -> Result<Bell, ApiError> {
        let stream = Stream::open(self.handle.watch(), requires_leader)?;
        let snapshot = self.handle.snapshot(Consistency::Serializable).await?;
        Ok(Bell::new(stream, snapshot.store.history(), monotonic_now(), requires_leader))
    }

    async fn wait(&self, candidate: &Candidate, place: &Place) -> Result<Served, Status> {
        let mut bell = self.bell(candidate.requires_leader).await?;
        loop {
            let store = match self.handle.snapshot(Consistency::Serializable).await {
                Ok(snapshot) => snapshot.store,
                Err(why) => {
                    pause(&bell, why).await?;
                    continue;
                }
            };
            match place.stand(&store) {
                Stand::Gone => return Err(Status::unknown(candidate.expired)),
                Stand::Behind(before) => {
                    let from = store.revision().next();
                    drop(store);
                    bell.set(0, one(&place.key), from)?;
                    bell.set(1, one(&before), from)?;
                    bell.rung().await?;
                }
                Stand::First => match self.confirm(candidate, place).await {
                    Ok(Confirmed::Yes(snapshot)) => {
                        let header = self.headers.at(snapshot.store.revision(), snapshot.term);
                        return Ok(served(candidate, place, header));
                    }
                    Ok(Confirmed::No) => {}
                    Ok(Confirmed::Expired) => return Err(Status::unknown(candidate.expired)),
                    Err(why) => pause(&bell, why).await?,
                },
            }
        }
    }

    /// Asks a quorum whether the place is what this member takes it to be, and the leader whether
    /// its lease has time left.
    async fn confirm(&self, candidate: &Candidate, place: &Place) -> Result<Confirmed, Refusal> {
        let snapshot = self.handle.snapshot(Consistency::Linearizable).await?;
        match place.stand(&snapshot.store) {
            Stand::First => {}
            Stand::Behind(_) => return Ok(Confirmed::No),
            Stand::Gone => return Ok(Confirmed::Expired),
        }
        let answer = self.handle.ask_lease(LeaseAsk::TimeToLive { id: candidate.lease })?;
        match answer.await.unwrap_or(Err(Refusal::Stopping))? {
            LeaseAnswer::Gone | LeaseAnswer::Lives { left: 0, .. } => Ok(Confirmed::Expired),
            LeaseAnswer::Lives { .. } => Ok(Confirmed::Yes(snapshot)),
        }
    }

    /// A snapshot, judged for whoever wants to read this line.
    pub(super) async fn judged(
        &self,
        line: &Keys,
        asker: &Asker,
        consistency: Consistency,
    ) -> Result<Snapshot, ApiError> {
        let snapshot = self.handle.snapshot(consistency).await?;
        Gate::judge_read(&snapshot.store, asker, Asking::Range(&oldest(line)))?;
        Ok(snapshot)
    }
}

/// Waits a little after a refusal that may be over soon.
///
/// Errors: it will not be; the member ends.
async fn pause(bell: &Bell, why: Refusal) -> Result<(), ApiError> {
    bell.is_going_on()?;
    match why {
        Refusal::Stopping | Refusal::Corrupt | Refusal::Learner | Refusal::Witness => {
            Err(why.into())
        }
        _ => {
            sleep(PAUSE).await;
            Ok(())
        }
    }
}

fn served(candidate: &Candidate, place: &Place, header: ResponseHeader) -> Served {
    let (key, created) = (place.key.clone(), place.created);
    Served { header, key, created, lease: candidate.lease }
}

impl Place {
    fn stand(&self, store: &Store) -> Stand {
        if store.get(&self.key).is_none_or(|kv| kv.create_revision != self.created) {
            return Stand::Gone;
        }
        let before = Range {
            sort_order: SortOrder::Descend,
            max_create_revision: Revision(self.created.0 - 1),
            keys_only: true,
            ..oldest(&self.line)
        };
        let found = store.range(&before).expect("the latest can be read");
        match found.kvs.first() {
            Some(kv) => Stand::Behind(kv.key.clone()),
            None => Stand::First,
        }
    }

    /// Takes the key out of the line, unless somebody has written it since.
    fn leaving(&self) -> Command {
        let written = Operand::Mod(self.written.0 as i64);
        let delete = DeleteRange { keys: one(&self.key), prev_kv: false };
        let compare = vec![equal(&self.key, written)];
        let success = vec![Op::DeleteRange(delete)];
        Command::Txn(Txn { compare, success, failure: Vec::new() })
    }
}

/// Puts the key at the end of the line, or writes it anew where it stands.
fn joining(line: &Keys, key: &Bytes, candidate: &Candidate) -> Command {
    let lease = candidate.lease;
    let value = candidate.value.clone().unwrap_or_default();
    let put = Put { key: key.clone(), value, lease, ..Put::default() };
    let again = Put { ignore_value: candidate.value.is_none(), ..put.clone() };
    let own = Range { keys: one(key), ..Range::default() };
    Command::Txn(Txn {
        compare: vec![equal(key, Operand::Create(0))],
        success: vec![Op::Put(put), Op::Range(oldest(line))],
        failure: vec![Op::Range(own), Op::Put(again), Op::Range(oldest(line))],
    })
}

/// Who is served in this state.
pub(super) fn first(store: &Store, line: &Keys) -> Option<Arc<KeyValue>> {
    store.range(&oldest(line)).expect("the latest can be read").kvs.into_iter().next()
}

pub(super) fn one(key: &Bytes) -> Keys {
    Keys { key: key.clone(), range_end: Bytes::new() }
}

pub(super) fn equal(key: &Bytes, operand: Operand) -> Compare {
    Compare { keys: one(key), relation: Relation::Equal, operand }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(lease: i64) -> Candidate {
        Candidate {
            name: Bytes::from_static(b"jobs"),
            lease,
            value: None,
            requires_leader: false,
            asker: Asker::default(),
            expired: "expired",
        }
    }

    fn store_with_leases(ids: impl IntoIterator<Item = i64>) -> Store {
        let mut store = Store::new();
        for id in ids {
            let grant = Command::LeaseGrant { id, ttl: 60, at: Default::default() };
            store.apply(&grant).outcome.expect("a lease");
        }
        store
    }

    /// As [`Queue::join`] does it.
    fn join(store: &mut Store, lease: i64) -> Place {
        let (line, key) = (keys_of(b"jobs"), key_of(b"jobs", lease));
        let applied = store.apply(&joining(&line, &key, &candidate(lease)));
        let Ok(Outcome::Txn { succeeded, .. }) = applied.outcome else { panic!("{applied:?}") };
        let created = store.get(&key).expect("it was put").create_revision;
        Place { line, key, created, written: applied.revision, was_there: !succeeded }
    }

    #[test]
    fn each_waits_for_the_one_before() {
        let mut store = store_with_leases(1..=3);
        // The order of creation counts, not that of the names.
        let places = [3, 1, 2].map(|lease| join(&mut store, lease));
        let stands = |store: &Store| places.clone().map(|place| place.stand(store));
        let behind = |place: &Place| Stand::Behind(place.key.clone());
        let all = [Stand::First, behind(&places[0]), behind(&places[1])];
        assert_eq!(stands(&store), all);
        // Who gives up in the middle lets the next one move up, and nobody past the first.
        store.apply(&places[1].leaving());
        assert_eq!(stands(&store), [Stand::First, Stand::Gone, behind(&places[0])]);
        store.apply(&Command::LeaseRevoke { id: 3 });
        assert_eq!(stands(&store), [Stand::Gone, Stand::Gone, Stand::First]);
    }

    #[test]
    fn a_key_that_came_back_is_not_the_place_that_was_lost() {
        let mut store = store_with_leases(1..=2);
        let (first, lost) = (join(&mut store, 1), join(&mut store, 2));
        store.apply(&lost.leaving());
        let anew = join(&mut store, 2);
        store.apply(&first.leaving());
        assert_eq!((lost.key.clone(), lost.stand(&store)), (anew.key.clone(), Stand::Gone));
        assert_eq!(anew.stand(&store), Stand::First);
    }

    #[test]
    fn the_end_of_a_first_call_takes_nothing_from_a_second() {
        let mut store = store_with_leases(1..=2);
        join(&mut store, 1);
        let (call, again) = (join(&mut store, 2), join(&mut store, 2));
        assert_eq!((call.created, call.key.clone()), (again.created, again.key.clone()));
        assert!(again.was_there && !call.was_there);
        store.apply(&call.leaving());
        assert_ne!(again.stand(&store), Stand::Gone);
        store.apply(&again.leaving());
        assert_eq!(again.stand(&store), Stand::Gone);
    }
}
