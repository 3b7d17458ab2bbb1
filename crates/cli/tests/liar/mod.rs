//! A small store that speaks the etcd v3 API, and lies now and then if told to.
//!
//! Without a lie its answers are those of one member with all its promises: that is the control of
//! every test that shows a lie to be caught.

use bytes::Bytes;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::compare::TargetUnion;
use quorate_server::proto::etcdserverpb::kv_server::{Kv, KvServer};
use quorate_server::proto::etcdserverpb::lease_server::{Lease, LeaseServer};
use quorate_server::proto::etcdserverpb::request_op::Request as Op;
use quorate_server::proto::etcdserverpb::response_op::Response as Answer;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use quorate_server::proto::etcdserverpb::watch_server::{Watch, WatchServer};
use quorate_server::proto::mvccpb::{Event, KeyValue};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tonic::codegen::BoxStream;
use tonic::codegen::tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

/// Of so many answers one is a lie.
const EVERY: u64 = 101;

/// What a server can do wrong.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Lie {
    None,
    /// A read of an earlier revision, which it admits.
    OldRevision,
    /// A value from before the last write, in an answer of the newest revision.
    OldValue,
    /// A flipped bit.
    FlippedBit,
    /// The value of another key.
    OtherKeysValue,
    /// Another intact value of the key, at the revision of the last one.
    OtherValueSameRevision,
    /// A value newer than the answer.
    FutureValue,
    /// A key is not found.
    LostKey,
    /// A write is acknowledged and forgotten.
    ForgottenWrite,
    /// A write is carried out twice.
    WriteTwice,
    /// A write is acknowledged at a revision that was there before.
    OldAcknowledgement,
    /// A key is left out of a range.
    RangeGap,
    /// Two keys of a range are exchanged.
    RangeOrder,
    /// A range counts wrongly.
    RangeCount,
    /// A range claims that there is more.
    RangeMore,
    /// A compare-and-swap is done though the comparison does not hold.
    BlindSwap,
    /// A comparison that holds is said to fail.
    RefusedSwap,
    /// A compare-and-swap is acknowledged and not done.
    ForgottenSwap,
    /// An event is left out.
    EventGap,
    /// An event is told twice.
    EventTwice,
    /// An event is exchanged with the one before.
    EventOrder,
    /// An event has a flipped bit.
    EventFlippedBit,
    /// An event goes to a watch that there is not.
    EventStray,
    /// From some moment on one watcher is told nothing.
    EventsEnd,
    /// A lease is granted and forgotten.
    ForgottenLease,
    /// A lease is granted twice.
    LeaseTwice,
    /// A lease lives shorter than was asked.
    ShortLease,
    /// A lease that is kept alive is said to be gone.
    GoneLease,
    /// A keep-alive is answered for another lease.
    OtherLease,
}

#[derive(Debug, Default)]
struct State {
    revision: i64,
    keys: BTreeMap<Bytes, KeyValue>,
    /// The pair before the last write.
    before: BTreeMap<Bytes, KeyValue>,
    leases: BTreeSet<i64>,
    next_lease: i64,
    watchers: Vec<Watcher>,
    answers: u64,
}

#[derive(Debug)]
struct Watcher {
    id: i64,
    sender: UnboundedSender<Result<pb::WatchResponse, Status>>,
    held: Option<Event>,
    is_muted: bool,
}

/// A running server; it ends with the test.
pub(crate) struct Liar {
    pub(crate) endpoint: String,
    _runtime: Runtime,
}

impl Liar {
    /// Starts one on a free port.
    pub(crate) fn start(lie: Lie) -> Liar {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
        let endpoint = listener.local_addr().expect("bound").to_string();
        let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
        let state = State { revision: 1, ..State::default() };
        let service = Service { lie, state: Arc::new(Mutex::new(state)) };
        let server = tonic::transport::Server::builder()
            .add_service(KvServer::new(service.clone()))
            .add_service(WatchServer::new(service.clone()))
            .add_service(LeaseServer::new(service));
        runtime.spawn(server.serve_with_incoming(incoming));
        Liar { endpoint, _runtime: runtime }
    }
}

#[derive(Clone, Debug)]
struct Service {
    lie: Lie,
    state: Arc<Mutex<State>>,
}

impl Service {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nobody panics with the lock")
    }
}

impl State {
    /// True if it is time for this lie.
    fn lies(&mut self, lie: Lie, among: &[Lie]) -> bool {
        if !among.contains(&lie) {
            return false;
        }
        self.answers += 1;
        self.answers > 3 * EVERY && self.answers.is_multiple_of(EVERY)
    }

    fn header(&self) -> Option<pb::ResponseHeader> {
        Some(pb::ResponseHeader { revision: self.revision, ..pb::ResponseHeader::default() })
    }

    fn put(&mut self, request: pb::PutRequest, lie: Lie) {
        let old = self.keys.get(&request.key).cloned().unwrap_or_default();
        let is_new = old.version == 0;
        let pair = KeyValue {
            key: request.key.clone(),
            value: request.value,
            create_revision: if is_new { self.revision } else { old.create_revision },
            mod_revision: self.revision,
            version: old.version + 1,
            lease: request.lease,
        };
        if !is_new {
            self.before.insert(request.key.clone(), old);
        }
        self.keys.insert(request.key, pair.clone());
        self.tell(pair, lie);
    }

    fn tell(&mut self, pair: KeyValue, lie: Lie) {
        use Lie::{EventFlippedBit, EventGap, EventOrder, EventStray, EventTwice, EventsEnd};
        let event = Event { kv: Some(pair), ..Event::default() };
        let header = self.header();
        for at in 0..self.watchers.len() {
            let events = [EventGap, EventTwice, EventOrder, EventFlippedBit, EventStray, EventsEnd];
            let is_lie = self.lies(lie, &events);
            let watcher = &mut self.watchers[at];
            let mut events = vec![event.clone()];
            let mut id = watcher.id;
            match lie {
                EventGap if is_lie => events.clear(),
                EventTwice if is_lie => events.push(event.clone()),
                EventOrder if is_lie => watcher.held = events.pop(),
                EventFlippedBit if is_lie => flip(events[0].kv.as_mut().expect("a pair")),
                EventStray if is_lie => id += 1_000_000,
                EventsEnd if is_lie => watcher.is_muted = true,
                _ => events.extend(watcher.held.take()),
            }
            if !events.is_empty() && !watcher.is_muted {
                let answer =
                    pb::WatchResponse { header, watch_id: id, events, ..Default::default() };
                let _ = watcher.sender.send(Ok(answer)); // whose client is gone
            }
        }
    }

    fn range(&mut self, request: &pb::RangeRequest, lie: Lie) -> pb::RangeResponse {
        let end = &request.range_end;
        let is_in = |key: &Bytes| match end.is_empty() {
            true => *key == request.key,
            false => *key >= request.key && key < end,
        };
        let all: Vec<KeyValue> =
            self.keys.values().filter(|pair| is_in(&pair.key)).cloned().collect();
        let count = all.len() as i64;
        let limit = if request.limit > 0 { request.limit as usize } else { usize::MAX };
        let kvs: Vec<KeyValue> = all.into_iter().take(limit).collect();
        let more = (kvs.len() as i64) < count;
        let mut answer = pb::RangeResponse { header: self.header(), kvs, more, count };
        // What fills and audits a key space has a limit; lies there are tested by other lies.
        if request.limit == 0 {
            self.distort(&mut answer, lie);
        }
        answer
    }

    fn distort(&mut self, answer: &mut pb::RangeResponse, lie: Lie) {
        use Lie::{
            FlippedBit, FutureValue, LostKey, OldRevision, OldValue, OtherKeysValue,
            OtherValueSameRevision, RangeCount, RangeGap, RangeMore, RangeOrder,
        };
        let reads = [
            FlippedBit,
            FutureValue,
            LostKey,
            OldRevision,
            OldValue,
            OtherKeysValue,
            OtherValueSameRevision,
            RangeCount,
            RangeGap,
            RangeMore,
            RangeOrder,
        ];
        if !self.lies(lie, &reads) || answer.kvs.is_empty() {
            return;
        }
        let key = answer.kvs[0].key.clone();
        let other = self.keys.values().find(|pair| pair.key != key).expect("another").clone();
        let revision = &mut answer.header.as_mut().expect("a header").revision;
        match lie {
            OldRevision => *revision -= 10,
            FlippedBit => flip(&mut answer.kvs[0]),
            FutureValue => answer.kvs[0].mod_revision = *revision + 1,
            OtherKeysValue => answer.kvs[0].value = other.value,
            OldValue | OtherValueSameRevision => {
                let Some(before) = self.before.get(&key) else { return };
                let revision = answer.kvs[0].mod_revision;
                answer.kvs[0] = before.clone();
                if lie == OtherValueSameRevision {
                    answer.kvs[0].mod_revision = revision;
                }
            }
            LostKey => (answer.kvs, answer.count) = (Vec::new(), 0),
            RangeGap => drop(answer.kvs.remove(answer.kvs.len() / 2)),
            RangeOrder => answer.kvs.swap(0, 1),
            RangeCount => answer.count += 1,
            _ => answer.more = true,
        }
    }

    fn carry_out(&mut self, op: pb::RequestOp, lie: Lie) -> pb::ResponseOp {
        let response = match op.request {
            Some(Op::RequestPut(put)) => {
                self.put(put, lie);
                Answer::ResponsePut(pb::PutResponse::default())
            }
            Some(Op::RequestRange(range)) => Answer::ResponseRange(self.range(&range, lie)),
            _ => panic!("the load generator asks for nothing else"),
        };
        pb::ResponseOp { response: Some(response) }
    }
}

fn flip(pair: &mut KeyValue) {
    let mut value = pair.value.to_vec();
    value[60] ^= 4;
    pair.value = value.into();
}

fn unasked() -> Status {
    Status::unimplemented("the load generator does not ask for this")
}

#[tonic::async_trait]
impl Kv for Service {
    async fn range(
        &self,
        request: Request<pb::RangeRequest>,
    ) -> Result<Response<pb::RangeResponse>, Status> {
        Ok(Response::new(self.lock().range(request.get_ref(), self.lie)))
    }

    async fn put(
        &self,
        request: Request<pb::PutRequest>,
    ) -> Result<Response<pb::PutResponse>, Status> {
        let mut state = self.lock();
        if state.lies(self.lie, &[Lie::ForgottenWrite]) {
            state.revision += 1;
        } else if state.lies(self.lie, &[Lie::WriteTwice]) {
            for _ in 0..2 {
                state.revision += 1;
                state.put(request.get_ref().clone(), self.lie);
            }
        } else if !state.lies(self.lie, &[Lie::OldAcknowledgement]) {
            state.revision += 1;
            state.put(request.into_inner(), self.lie);
        }
        Ok(Response::new(pb::PutResponse { header: state.header(), prev_kv: None }))
    }

    async fn txn(
        &self,
        request: Request<pb::TxnRequest>,
    ) -> Result<Response<pb::TxnResponse>, Status> {
        let request = request.into_inner();
        let mut state = self.lock();
        let mut succeeded = request.compare.iter().all(|compare| {
            let revision = state.keys.get(&compare.key).map_or(0, |pair| pair.mod_revision);
            compare.target_union == Some(TargetUnion::ModRevision(revision))
        });
        let is_swap = !request.compare.is_empty();
        if is_swap && !succeeded && self.lie == Lie::BlindSwap {
            succeeded = true;
        }
        if is_swap && state.lies(self.lie, &[Lie::RefusedSwap]) {
            succeeded = false;
        }
        if is_swap && succeeded && state.lies(self.lie, &[Lie::ForgottenSwap]) {
            state.revision += 1;
            let response = Some(Answer::ResponsePut(pb::PutResponse::default()));
            let responses = vec![pb::ResponseOp { response }];
            let header = state.header();
            return Ok(Response::new(pb::TxnResponse { header, succeeded, responses }));
        }
        let ops = if succeeded { request.success } else { request.failure };
        if ops.iter().any(|op| matches!(op.request, Some(Op::RequestPut(_)))) {
            state.revision += 1;
        }
        let responses = ops.into_iter().map(|op| state.carry_out(op, self.lie)).collect();
        let header = state.header();
        Ok(Response::new(pb::TxnResponse { header, succeeded, responses }))
    }

    type RangeStreamStream = BoxStream<pb::RangeStreamResponse>;

    async fn range_stream(
        &self,
        _: Request<pb::RangeRequest>,
    ) -> Result<Response<Self::RangeStreamStream>, Status> {
        Err(unasked())
    }

    async fn delete_range(
        &self,
        _: Request<pb::DeleteRangeRequest>,
    ) -> Result<Response<pb::DeleteRangeResponse>, Status> {
        Err(unasked())
    }

    async fn compact(
        &self,
        _: Request<pb::CompactionRequest>,
    ) -> Result<Response<pb::CompactionResponse>, Status> {
        Err(unasked())
    }
}

#[tonic::async_trait]
impl Watch for Service {
    type WatchStream = BoxStream<pb::WatchResponse>;

    async fn watch(
        &self,
        request: Request<Streaming<pb::WatchRequest>>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, answers) = unbounded_channel();
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let Some(RequestUnion::CreateRequest(create)) = request.request_union else {
                    continue;
                };
                let mut state = service.lock();
                let (header, watch_id) = (state.header(), create.watch_id);
                let created = true;
                let answer = pb::WatchResponse { header, watch_id, created, ..Default::default() };
                let _ = sender.send(Ok(answer)); // whose client is gone
                let sender = sender.clone();
                let watcher = Watcher { id: watch_id, sender, held: None, is_muted: false };
                state.watchers.push(watcher);
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }
}

#[tonic::async_trait]
impl Lease for Service {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let mut state = self.lock();
        let mut ttl = request.get_ref().ttl;
        if !state.lies(self.lie, &[Lie::LeaseTwice]) {
            state.next_lease += 1;
        }
        let id = state.next_lease;
        if state.lies(self.lie, &[Lie::ShortLease]) {
            ttl /= 2;
        }
        if !state.lies(self.lie, &[Lie::ForgottenLease]) {
            state.leases.insert(id);
        }
        let header = state.header();
        Ok(Response::new(pb::LeaseGrantResponse { header, id, ttl, error: String::new() }))
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let mut state = self.lock();
        if !state.leases.remove(&request.get_ref().id) {
            return Err(Status::not_found("etcdserver: requested lease not found"));
        }
        Ok(Response::new(pb::LeaseRevokeResponse { header: state.header() }))
    }

    type LeaseKeepAliveStream = BoxStream<pb::LeaseKeepAliveResponse>;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<Self::LeaseKeepAliveStream>, Status> {
        let mut requests = request.into_inner();
        let (sender, answers) = unbounded_channel();
        let service = self.clone();
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let mut state = service.lock();
                let is_lie = state.lies(service.lie, &[Lie::GoneLease, Lie::OtherLease]);
                let ttl = if is_lie && service.lie == Lie::GoneLease { 0 } else { 3_600 };
                let shift = i64::from(is_lie && service.lie == Lie::OtherLease);
                let (header, id) = (state.header(), request.id + shift);
                let _ = sender.send(Ok(pb::LeaseKeepAliveResponse { header, id, ttl }));
            }
        });
        Ok(Response::new(Box::pin(UnboundedReceiverStream::new(answers))))
    }

    async fn lease_time_to_live(
        &self,
        _: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        Err(unasked())
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let state = self.lock();
        let leases = state.leases.iter().map(|&id| pb::LeaseStatus { id }).collect();
        Ok(Response::new(pb::LeaseLeasesResponse { header: state.header(), leases }))
    }
}
