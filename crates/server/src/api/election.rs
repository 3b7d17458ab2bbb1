//! The Election service: one leader at a time, who shows a value; see [`super::queue`].
//!
//! Leadership is owning the oldest key of the line. `Proclaim` and `Resign` hold for the key that
//! the caller was elected with and for no later one: its name together with its create revision.
//! `Observe` tells every leader and every value in their order, from the log of changes; etcd's
//! servers read the present leader anew after each one, and so may leave some out.
//!
//! **Bounds.** Who observes keeps the keys of the line, and at most [`NEWS_MAX`] leaders that are
//! not sent yet.

use super::convert;
use super::dispatch::requires_leader;
use super::queue::{Candidate, Queue, equal, first, one};
use crate::auth::Asker;
use crate::handle::Consistency;
use crate::proto::v3electionpb as pb;
use crate::proto::v3electionpb::election_server;
use quorate_replica::store::line::keys_of;
use quorate_replica::store::{
    Command, DeleteRange, Event, KeyValue, Keys, Op, Operand, Outcome, Put, Revision, Store, Txn,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::mpsc;
use tonic::codegen::Bytes;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// What etcd's client says when there is no leader,
const NO_LEADER: &str = "election: no leader";
/// when the caller is not the leader any more,
const NOT_LEADER: &str = "election: not leader";
/// and its server when a request does not say who was elected.
const NO_LEADER_KEY: &str = "\"leader\" field must be provided";
/// The lease of a candidate ended while it waited. Not said by etcd, which does not look.
const EXPIRED: &str = "election: session is expired";

/// Leaders that are found in one look at the changes; more are found in the next.
const NEWS_MAX: usize = 256;

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Election {
    queue: Queue,
}

impl Election {
    /// The service.
    pub(super) fn new(queue: Queue) -> Election {
        Election { queue }
    }

    async fn observe_into(
        &self,
        name: Bytes,
        asker: Asker,
        requires_leader: bool,
        out: &mpsc::Sender<Result<pb::LeaderResponse, Status>>,
    ) -> Result<(), Status> {
        let keys = keys_of(&name);
        let mut bell = self.queue.bell(requires_leader).await?;
        let mut snapshot = self.queue.judged(&keys, &asker, Consistency::Linearizable).await?;
        bell.set(0, keys.clone(), snapshot.store.revision().next())?;
        let (mut observer, mut news) = Observer::begin(&snapshot.store, &keys);
        loop {
            for (at, kv) in news.drain(..) {
                let header = Some(self.queue.headers.at(at, snapshot.term));
                let kv = Some(convert::pair(&kv, false));
                if out.send(Ok(pb::LeaderResponse { header, kv })).await.is_err() {
                    return Ok(());
                }
            }
            if observer.next > snapshot.store.revision() {
                drop(snapshot);
                let rung = tokio::select! {
                    rung = bell.rung() => rung?,
                    () = out.closed() => return Ok(()),
                };
                observer.skip_to(rung);
                let present = Consistency::Serializable;
                snapshot = self.queue.judged(&keys, &asker, present).await?;
            }
            news = observer.follow(&snapshot.store, &keys);
        }
    }
}

/// The keys of a line, as they were before some revision.
#[derive(Debug, Default)]
struct Observer {
    /// By creation: the first of them leads.
    candidates: BTreeMap<(Revision, Bytes), Arc<KeyValue>>,
    created: BTreeMap<Bytes, Revision>,
    /// The next revision that may change something.
    next: Revision,
    /// What was told last: creation and last change of the leader's key.
    told: Option<(Revision, Revision)>,
}

/// A leader with its value, and since which revision.
type News = Vec<(Revision, Arc<KeyValue>)>;

impl Observer {
    fn begin(store: &Store, keys: &Keys) -> (Observer, News) {
        let mut observer = Observer::default();
        let news = observer.read_anew(store, keys);
        (observer, news)
    }

    /// Takes the state for what it is, and does not ask how it came to be.
    fn read_anew(&mut self, store: &Store, keys: &Keys) -> News {
        let all = quorate_replica::store::Range { keys: keys.clone(), ..Default::default() };
        (self.candidates, self.created) = Default::default();
        for kv in store.range(&all).expect("the latest can be read").kvs {
            self.put(kv);
        }
        self.next = store.revision().next();
        self.told(store.revision()).into_iter().collect()
    }

    /// Nothing happened before this revision.
    fn skip_to(&mut self, revision: Revision) {
        self.next = self.next.max(revision);
    }

    /// The leaders and values from the next revision on, as far as there is room for them.
    fn follow(&mut self, store: &Store, keys: &Keys) -> News {
        let Ok(changes) = store.changes(self.next) else {
            return self.read_anew(store, keys); // Too far behind: the past is forgotten.
        };
        let mut news = News::new();
        let mut at = self.next;
        for event in changes {
            if event.revision() > at {
                news.extend(self.told(at));
                at = event.revision();
                if news.len() >= NEWS_MAX {
                    self.next = at;
                    return news;
                }
            }
            if keys.contains(&event.kv.key) {
                self.take(event);
            }
        }
        news.extend(self.told(at));
        self.next = store.revision().next();
        news
    }

    fn take(&mut self, event: &Event) {
        if let Some(created) = self.created.remove(&event.kv.key) {
            self.candidates.remove(&(created, event.kv.key.clone()));
        }
        if !event.is_delete() {
            self.put(Arc::clone(&event.kv));
        }
    }

    fn put(&mut self, kv: Arc<KeyValue>) {
        self.created.insert(kv.key.clone(), kv.create_revision);
        self.candidates.insert((kv.create_revision, kv.key.clone()), kv);
    }

    /// The leader, if there is one and it was not told yet.
    fn told(&mut self, at: Revision) -> Option<(Revision, Arc<KeyValue>)> {
        let (_, kv) = self.candidates.first_key_value()?;
        let now = Some((kv.create_revision, kv.mod_revision));
        let kv = Arc::clone(kv);
        (std::mem::replace(&mut self.told, now) != now).then_some((at, kv))
    }
}

/// Who says to have been elected.
fn elected(leader: Option<pb::LeaderKey>) -> Result<pb::LeaderKey, Status> {
    leader.ok_or_else(|| Status::unknown(NO_LEADER_KEY))
}

fn succeeded(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Txn { succeeded: true, .. })
}

#[tonic::async_trait]
impl election_server::Election for Election {
    async fn campaign(
        &self,
        request: Request<pb::CampaignRequest>,
    ) -> Result<Response<pb::CampaignResponse>, Status> {
        let requires_leader = requires_leader(request.metadata().as_ref());
        let (_, extensions, request) = request.into_parts();
        let pb::CampaignRequest { name, lease, value } = request;
        let candidate = Candidate {
            name: name.clone(),
            lease,
            value: Some(value),
            requires_leader,
            asker: Asker::of(&extensions),
            expired: EXPIRED,
        };
        let served = self.queue.stand(candidate).await?;
        let rev = convert::signed(served.created.0);
        let leader = pb::LeaderKey { name, key: served.key, rev, lease: served.lease };
        let header = Some(served.header);
        Ok(Response::new(pb::CampaignResponse { header, leader: Some(leader) }))
    }

    async fn proclaim(
        &self,
        request: Request<pb::ProclaimRequest>,
    ) -> Result<Response<pb::ProclaimResponse>, Status> {
        let (_, extensions, pb::ProclaimRequest { leader, value }) = request.into_parts();
        let pb::LeaderKey { key, rev, lease, .. } = elected(leader)?;
        let compare = vec![equal(&key, Operand::Create(rev))];
        // A leader without a lease in its proof keeps the one that it has.
        let put = Put { key, value, lease, ignore_lease: lease == 0, ..Put::default() };
        let command =
            Command::Txn(Txn { compare, success: vec![Op::Put(put)], failure: Vec::new() });
        let (header, outcome) = self.queue.write(&Asker::of(&extensions), &command).await?;
        match succeeded(&outcome) {
            true => Ok(Response::new(pb::ProclaimResponse { header: Some(header) })),
            false => Err(Status::unknown(NOT_LEADER)),
        }
    }

    async fn leader(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<pb::LeaderResponse>, Status> {
        let (_, extensions, pb::LeaderRequest { name }) = request.into_parts();
        let keys = keys_of(&name);
        let asker = Asker::of(&extensions);
        let snapshot = self.queue.judged(&keys, &asker, Consistency::Linearizable).await?;
        let kv = first(&snapshot.store, &keys).ok_or_else(|| Status::unknown(NO_LEADER))?;
        let header = Some(self.queue.headers.at(snapshot.store.revision(), snapshot.term));
        Ok(Response::new(pb::LeaderResponse { header, kv: Some(convert::pair(&kv, false)) }))
    }

    type ObserveStream = ReceiverStream<Result<pb::LeaderResponse, Status>>;

    async fn observe(
        &self,
        request: Request<pb::LeaderRequest>,
    ) -> Result<Response<Self::ObserveStream>, Status> {
        let requires_leader = requires_leader(request.metadata().as_ref());
        let (_, extensions, pb::LeaderRequest { name }) = request.into_parts();
        let asker = Asker::of(&extensions);
        let (out, news) = mpsc::channel(1);
        let service = self.clone();
        tokio::spawn(async move {
            let ended = service.observe_into(name, asker, requires_leader, &out).await;
            if let Err(status) = ended {
                let _ = out.send(Err(status)).await; // It may be the client who has gone away.
            }
        });
        Ok(Response::new(ReceiverStream::new(news)))
    }

    async fn resign(
        &self,
        request: Request<pb::ResignRequest>,
    ) -> Result<Response<pb::ResignResponse>, Status> {
        let (_, extensions, pb::ResignRequest { leader }) = request.into_parts();
        let pb::LeaderKey { key, rev, .. } = elected(leader)?;
        let delete = DeleteRange { keys: one(&key), prev_kv: false };
        let compare = vec![equal(&key, Operand::Create(rev))];
        let success = vec![Op::DeleteRange(delete)];
        let command = Command::Txn(Txn { compare, success, failure: Vec::new() });
        let (header, _) = self.queue.write(&Asker::of(&extensions), &command).await?;
        Ok(Response::new(pb::ResignResponse { header: Some(header) }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(store: &mut Store, key: &'static str, value: String) {
        let (key, value) = (Bytes::from(key), Bytes::from(value));
        store.apply(&Command::Put(Put { key, value, ..Put::default() }));
    }

    fn delete(store: &mut Store, key: &'static str) {
        let keys = one(&Bytes::from(key));
        store.apply(&Command::DeleteRange(DeleteRange { keys, prev_kv: false }));
    }

    fn told(news: News) -> Vec<(u64, String)> {
        let text = |kv: &KeyValue| String::from_utf8(kv.value.to_vec()).expect("text");
        news.iter().map(|(at, kv)| (at.0, text(kv))).collect()
    }

    #[test]
    fn every_leader_and_every_value_is_told_in_order_however_late() {
        let (mut store, keys) = (Store::new(), keys_of(b"boss"));
        let (mut observer, news) = Observer::begin(&store, &keys);
        assert!(news.is_empty());
        put(&mut store, "boss/2", "two".to_owned()); // 2
        put(&mut store, "boss/1", "one".to_owned()); // 3, behind it
        put(&mut store, "boss/2", "two again".to_owned()); // 4
        put(&mut store, "boss", "no candidate".to_owned()); // 5
        delete(&mut store, "boss/2"); // 6
        delete(&mut store, "boss/1"); // 7
        put(&mut store, "boss/2", "back".to_owned()); // 8
        let text = |at, text: &str| (at, text.to_owned());
        let all = [text(2, "two"), text(4, "two again"), text(6, "one"), text(8, "back")];
        assert_eq!(told(observer.follow(&store, &keys)), all);
        assert!(observer.follow(&store, &keys).is_empty(), "nothing is told twice");
        // Who begins now is told the present leader.
        assert_eq!(told(Observer::begin(&store, &keys).1), [text(8, "back")]);
    }

    #[test]
    fn news_come_in_parts_and_a_forgotten_past_is_left_out() {
        let (mut store, keys) = (Store::new(), keys_of(b"boss"));
        let (mut observer, _) = Observer::begin(&store, &keys);
        for number in 0..NEWS_MAX + 5 {
            put(&mut store, "boss/1", number.to_string());
        }
        assert_eq!(observer.follow(&store, &keys).len(), NEWS_MAX);
        assert!(observer.next <= store.revision());
        assert_eq!(observer.follow(&store, &keys).len(), 5);
        put(&mut store, "boss/1", "forgotten".to_owned());
        put(&mut store, "boss/1", "last".to_owned());
        let revision = store.revision();
        store.apply(&Command::Compact { revision });
        store.sweep(usize::MAX);
        assert_eq!(told(observer.follow(&store, &keys)), [(revision.0, "last".to_owned())]);
    }
}
