//! From a request on the client port to the one who answers it.
//!
//! gRPC and plain HTTP share the port, as clients of etcd expect. gRPC is told by HTTP/2 and its
//! content type, and goes by the name of the service straight to the generated code, without a
//! router in between: this is the data path. Everything else goes to the HTTP router.
//!
//! ```text
//! HTTP/2 + application/grpc, let in by the gate (`auth/gate.rs`):
//!                             /etcdserverpb.KV/*            kv.rs
//!                             /etcdserverpb.Lease/*         lease.rs
//!                             /etcdserverpb.Cluster/*       cluster.rs
//!                             /etcdserverpb.Maintenance/*   maintenance.rs
//!                             /etcdserverpb.Watch/Watch      watch.rs
//!                             /v3lockpb.Lock/*              lock.rs
//!                             /v3electionpb.Election/*      election.rs
//!                             /grpc.health.v1.Health/*      health.rs
//!                             /etcdserverpb.Auth/*          auth.rs
//!                             /quoratepb.Limits/*           limits.rs
//!                             any other                     Unimplemented, with its name
//! anything below /v3/          JSON over HTTP                the gateway, and by it one of these
//! anything else               /version /health /metrics     http.rs
//!                             /livez /readyz /guarantees
//! ```

use super::auth::Auth;
use super::calls::{Call, Calls};
use super::cluster::Cluster;
use super::election::Election;
use super::errors::ApiError;
use super::health::Health;
use super::kv::Kv;
use super::lease::Lease;
use super::limits::Limits as LimitsService;
use super::lock::Lock;
use super::maintenance::Maintenance;
use super::queue::Queue;
use super::watch::Watch;
use super::{GRPC_OVERHEAD_BYTES_MAX, Limits, Serves, http, large};
use crate::audit::{Audit, Open, PeerAddress};
use crate::auth::Gate;
use crate::gateway::{self, Gateway, Visitors};
use crate::handle::Handle;
use crate::overload::{Held, Manner, Metered, Room, Shed};
use crate::proto::etcdserverpb::auth_server::AuthServer;
use crate::proto::etcdserverpb::cluster_server::ClusterServer;
use crate::proto::etcdserverpb::kv_server::KvServer;
use crate::proto::etcdserverpb::lease_server::LeaseServer;
use crate::proto::etcdserverpb::maintenance_server::MaintenanceServer;
use crate::proto::health::health_server::HealthServer;
use crate::proto::quoratepb::limits_server::LimitsServer;
use crate::proto::v3electionpb::election_server::ElectionServer;
use crate::proto::v3lockpb::lock_server::LockServer;
use axum::Router;
use hyper::header::{CONTENT_TYPE, HeaderMap};
use hyper::{Request, Response, Version};
use quorate_replica::store::{self, Credential};
use std::convert::Infallible;
use std::future::{self, Future};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Body as AnyBody, Bytes, Service, StdError};

/// Metadata with which a client asks to be refused when no leader is known.
const REQUIRE_LEADER: &str = "hasleader";

/// What a member serves that does not vote: its own state, and how it is. Of reads those that do
/// not ask for the latest (`kv.rs`). The health is ours; etcd's learners keep it to themselves.
const LEARNER_SERVES: [&str; 6] = [
    "/etcdserverpb.KV/Range",
    "/etcdserverpb.KV/RangeStream",
    "/etcdserverpb.Maintenance/Status",
    "/etcdserverpb.Maintenance/Snapshot",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// What a member without a store serves: who is here, and how it is.
const WITNESS_SERVES: [&str; 4] = [
    "/etcdserverpb.Cluster/MemberList",
    "/etcdserverpb.Maintenance/Status",
    "/grpc.health.v1.Health/Check",
    "/grpc.health.v1.Health/Watch",
];

/// Methods whose requests do not end, so that each message is a request of its own.
const ENDLESS: [&str; 2] = ["/etcdserverpb.Watch/Watch", "/etcdserverpb.Lease/LeaseKeepAlive"];

/// Everyone who answers on the client port.
#[derive(Clone, Debug)]
pub(crate) struct Dispatch {
    handle: Handle,
    gate: Gate,
    auth: AuthServer<Auth>,
    kv: KvServer<Kv>,
    lease: LeaseServer<Lease>,
    cluster: ClusterServer<Cluster>,
    maintenance: MaintenanceServer<Maintenance>,
    health: HealthServer<Health>,
    lock: LockServer<Lock>,
    election: ElectionServer<Election>,
    watch: Watch,
    limits: LimitsServer<LimitsService>,
    http: Router,
    /// Absent if it is switched off.
    gateway: Option<Gateway>,
    /// Under which names plain HTTP is served.
    visitors: Arc<Visitors>,
    calls: Arc<Calls>,
    audit: Option<Audit>,
}

impl Dispatch {
    /// Everyone, over one replica.
    pub(crate) fn new(serves: Serves, limits: &Limits) -> Dispatch {
        let Serves { handle, gate, audit, calls, visitors } = serves;
        let visitors = Arc::new(visitors);
        let message_bytes_max = limits.request_bytes_max.saturating_add(GRPC_OVERHEAD_BYTES_MAX);
        let admitted = store::Limits {
            txn_ops_max: limits.txn_ops_max,
            request_bytes_max: limits.request_bytes_max,
        };
        let kv = KvServer::new(Kv::new(handle.clone(), gate.clone(), admitted))
            .max_decoding_message_size(message_bytes_max)
            .max_encoding_message_size(usize::MAX);
        let (ttl_min, leaderless_max) = (limits.lease_ttl_min, limits.leaderless_max);
        let lease = Lease::new(handle.clone(), gate.clone(), admitted, ttl_min, leaderless_max);
        let queue = Queue::new(handle.clone(), gate.clone(), admitted);
        Dispatch {
            auth: AuthServer::new(Auth::new(handle.clone(), gate.clone())),
            kv,
            lease: LeaseServer::new(lease).max_encoding_message_size(usize::MAX),
            cluster: ClusterServer::new(Cluster::new(handle.clone())),
            maintenance: MaintenanceServer::new(Maintenance::new(handle.clone(), gate.clone())),
            health: HealthServer::new(Health::new(handle.clone())),
            lock: LockServer::new(Lock::new(queue.clone()))
                .max_decoding_message_size(message_bytes_max),
            election: ElectionServer::new(Election::new(queue))
                .max_decoding_message_size(message_bytes_max)
                .max_encoding_message_size(usize::MAX),
            watch: Watch::new(handle.clone(), message_bytes_max, limits.watch_progress_every),
            limits: LimitsServer::new(LimitsService::new(handle.clone(), gate.clone())),
            http: http::router(handle.clone(), Arc::clone(&calls)),
            gateway: limits.gateway.then(|| Gateway::new(message_bytes_max, Arc::clone(&visitors))),
            visitors,
            calls,
            audit,
            gate,
            handle,
        }
    }

    /// Answers one request as it comes from a connection: its body takes room, and has its time.
    pub(crate) fn take<B>(self: &Arc<Dispatch>, mut request: Request<B>) -> Answering
    where
        B: AnyBody<Data = Bytes> + Send + Unpin + 'static,
        B::Error: Into<StdError>,
    {
        let overload = self.handle.overload();
        let held = match overload.hold(request.extensions_mut().remove::<Arc<Room>>()) {
            Ok(held) => held,
            Err(shed) => return Answering::of(refused(&request, shed)),
        };
        let (manner, within) = (self.manner(&request), overload.read_timeout());
        let body_held = Arc::clone(&held);
        let request = request.map(|body| Metered::new(body, body_held, manner, within));
        Answering { held: Some(held), ..self.answer(request) }
    }

    /// How the body of a request is read.
    fn manner<B>(&self, request: &Request<B>) -> Manner {
        let path = request.uri().path();
        if is_grpc(request.version(), request.headers()) {
            return if ENDLESS.contains(&path) { Manner::Messages } else { Manner::Whole };
        }
        if Gateway::serves(path) && Gateway::is_endless(path) {
            Manner::Unseen
        } else {
            Manner::Whole
        }
    }

    /// Answers one request; a failure is an answer too.
    pub(crate) fn answer<B>(self: &Arc<Dispatch>, mut request: Request<B>) -> Answering
    where
        B: AnyBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send,
    {
        if is_grpc(request.version(), request.headers()) {
            let call = self.calls.begin(request.uri().path());
            let counted = Some((call, Arc::clone(&self.calls)));
            let recorded =
                self.audit.as_ref().map(|audit| Box::new(Open::begin(audit, &mut request)));
            return Answering { counted, recorded, ..Answering::of(self.answer_grpc(request)) };
        }
        if !self.visitors.knows_host(&request) {
            return Answering::of(now(gateway::misdirected()));
        }
        if let Some(gateway) = self.gateway_to(request.uri().path()) {
            let dispatch = Arc::clone(self);
            // A certificate stands for no user here, as in etcd.
            let from = request.extensions().get::<PeerAddress>().copied();
            let request = request.map(Body::new);
            // The bodies of such calls are of one type, so that this does not nest for ever.
            let serve = async move |mut request: Request<Body>| {
                from.map(|from| request.extensions_mut().insert(from));
                dispatch.answer(request).await.unwrap_or_else(|never| match never {})
            };
            let answer = async move { Ok(gateway.answer(request, serve).await) };
            return Answering::of(Box::pin(answer));
        }
        let mut http = self.http.clone();
        let request = request.map(axum::body::Body::new);
        let answer = async move { Ok(http.call(request).await?.map(Body::new)) };
        Answering::of(Box::pin(answer))
    }

    /// The gateway, if that path is one of its.
    fn gateway_to(&self, path: &str) -> Option<Gateway> {
        self.gateway.clone().filter(|_| Gateway::serves(path))
    }

    fn answer_grpc<B>(self: &Arc<Dispatch>, mut request: Request<B>) -> Answer
    where
        B: AnyBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send,
    {
        if requires_leader(request.headers()) && self.handle.status().leader.is_none() {
            return now(Status::from(ApiError::NoLeader).into_http());
        }
        match self.gate.admit(&request) {
            Ok(credential) => {
                carry(&mut request, credential);
                self.pass_on(request)
            }
            Err(why) => {
                let dispatch = Arc::clone(self);
                Box::pin(async move {
                    let head = head_of(&request);
                    match dispatch.gate.admit_anew(why, &head).await {
                        Ok(credential) => {
                            carry(&mut request, credential);
                            dispatch.pass_on(request).await
                        }
                        Err(why) => Ok(Status::from(why).into_http()),
                    }
                })
            }
        }
    }

    /// Passes a call that was let in on to the one who answers it.
    fn pass_on<B>(&self, request: Request<B>) -> Answer
    where
        B: AnyBody<Data = Bytes> + Send + 'static,
        B::Error: Into<StdError> + Send,
    {
        let requires_leader = requires_leader(request.headers());
        let path = request.uri().path();
        if self.handle.is_witness() && !WITNESS_SERVES.contains(&path) {
            return now(Status::from(ApiError::Witness).into_http());
        }
        if self.handle.is_learner() && !LEARNER_SERVES.contains(&path) {
            return now(Status::from(ApiError::NotSupportedForLearner).into_http());
        }
        match service(path) {
            "etcdserverpb.KV" => self.kv.clone().call(request),
            "etcdserverpb.Lease" => self.lease.clone().call(request),
            _ if path == "/etcdserverpb.Watch/Watch" => {
                let watch = self.watch.clone();
                Box::pin(async move { Ok(watch.answer(request, requires_leader).await) })
            }
            "etcdserverpb.Maintenance" => self.maintenance.clone().call(request),
            "etcdserverpb.Cluster" => self.cluster.clone().call(request),
            "grpc.health.v1.Health" => self.health.clone().call(request),
            "v3lockpb.Lock" => self.lock.clone().call(request),
            "v3electionpb.Election" => self.election.clone().call(request),
            "etcdserverpb.Auth" => self.auth.clone().call(request),
            "quoratepb.Limits" => self.limits.clone().call(request),
            _ => now(not_served(path).into_http()),
        }
    }
}

/// An answer in the making.
type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

/// The answer to one request. It is kept small, because the task of a request is moved several
/// times before it runs.
pub(crate) struct Answering {
    answer: Answer,
    /// Of a gRPC call: where it is counted.
    counted: Option<(Call, Arc<Calls>)>,
    /// And where it is recorded, if anywhere.
    recorded: Option<Box<Open>>,
    /// The room that its request takes until then.
    held: Option<Arc<Held>>,
}

impl Answering {
    fn of(answer: Answer) -> Answering {
        Answering { answer, counted: None, recorded: None, held: None }
    }
}

impl Future for Answering {
    type Output = Result<Response<Body>, Infallible>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let response = ready!(self.answer.as_mut().poll(cx))?;
        self.held = None;
        let Some((call, calls)) = &self.counted else { return Poll::Ready(Ok(response)) };
        let response = finished(response);
        calls.end(call, response.headers());
        if let Some(recorded) = self.recorded.take() {
            recorded.end(response.headers());
        }
        Poll::Ready(Ok(response))
    }
}

/// A refusal before anybody has looked at the request.
fn refused<B>(request: &Request<B>, shed: Shed) -> Answer {
    let status = Status::from(shed);
    now(match is_grpc(request.version(), request.headers()) {
        true => status.into_http(),
        false => gateway::refusal(&status),
    })
}

fn now(response: Response<Body>) -> Answer {
    Box::pin(future::ready(Ok(response)))
}

/// As etcd tells them apart.
fn is_grpc(version: Version, headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    version == Version::HTTP_2 && content_type.starts_with(b"application/grpc")
}

pub(super) fn requires_leader(headers: &HeaderMap) -> bool {
    headers.get(REQUIRE_LEADER).is_some_and(|value| value == "true")
}

/// What is left to do to an answer of any service: a refusal from below us gets its words, and a
/// list that is made while it is sent gets its body.
fn finished(response: Response<Body>) -> Response<Body> {
    large::exchange(told_too_large(response))
}

/// A message that is too large to be received at all is refused below us, with a code that etcd
/// has for revisions. To the client it is a request that is too large.
fn told_too_large(response: Response<Body>) -> Response<Body> {
    let is = |name, begin: &str| {
        let value = response.headers().get(name).map_or(&b""[..], |value| value.as_bytes());
        value.starts_with(begin.as_bytes())
    };
    // A call that was answered has its status in the trailers, so this looks at refusals only.
    if is("grpc-status", "11") && is("grpc-message", "Error,%20decoded%20message%20length") {
        return Status::from(ApiError::RequestTooLarge).into_http();
    }
    response
}

/// `/package.Service/Method` -> `package.Service`; empty if the path is none.
fn service(path: &str) -> &str {
    path.strip_prefix('/').and_then(|path| path.split_once('/')).map_or("", |(name, _)| name)
}

fn not_served(path: &str) -> Status {
    Status::unimplemented(format!("unknown service or method {path}"))
}

/// Services find out who asks among the extensions of a request.
fn carry<B>(request: &mut Request<B>, credential: Credential) {
    if credential != Credential::Nobody {
        request.extensions_mut().insert(credential);
    }
}

/// A request without its body, which need not be shared.
fn head_of<B>(request: &Request<B>) -> Request<()> {
    let mut head = Request::new(());
    *head.uri_mut() = request.uri().clone();
    *head.headers_mut() = request.headers().clone();
    *head.extensions_mut() = request.extensions().clone();
    head
}

#[cfg(test)]
mod tests {
    use super::{is_grpc, not_served, requires_leader, service, told_too_large};
    use hyper::Version;
    use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
    use tonic::{Code, Status};

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        headers
    }

    #[test]
    fn grpc_is_told_by_version_and_content_type() {
        for value in ["application/grpc", "application/grpc+proto"] {
            assert!(is_grpc(Version::HTTP_2, &headers(CONTENT_TYPE.as_str(), value)));
            assert!(!is_grpc(Version::HTTP_11, &headers(CONTENT_TYPE.as_str(), value)));
        }
        let json = headers(CONTENT_TYPE.as_str(), "application/json");
        assert!(!is_grpc(Version::HTTP_2, &json));
        assert!(!is_grpc(Version::HTTP_2, &HeaderMap::new()));
    }

    #[test]
    fn only_the_word_true_asks_for_a_leader() {
        assert!(requires_leader(&headers("hasleader", "true")));
        assert!(!requires_leader(&headers("hasleader", "false")));
        assert!(!requires_leader(&HeaderMap::new()));
    }

    #[test]
    fn the_service_is_the_first_part_of_the_path() {
        assert_eq!(service("/etcdserverpb.KV/Range"), "etcdserverpb.KV");
        for path in ["", "/", "etcdserverpb.KV/Range", "/etcdserverpb.KV"] {
            assert_eq!(service(path), "", "{path}");
        }
    }

    #[test]
    fn a_message_too_large_to_receive_is_a_request_too_large() {
        let below = |text: &str| Status::out_of_range(text).into_http();
        let told = |response| Status::from_header_map(told_too_large(response).headers());
        let text = "Error, decoded message length too large: found 9 bytes, the limit is: 8 bytes";
        let status = told(below(text)).expect("a refusal");
        assert_eq!(status.code(), Code::InvalidArgument);
        assert_eq!(status.message(), "etcdserver: request is too large");
        let text = "etcdserver: mvcc: required revision has been compacted";
        let status = told(below(text)).expect("a refusal");
        assert_eq!((status.code(), status.message()), (Code::OutOfRange, text));
    }

    #[test]
    fn what_is_not_served_says_so_by_its_name() {
        let unknown = not_served("/etcdserverpb.Wacth/Watch");
        assert_eq!(unknown.code(), Code::Unimplemented);
        assert_eq!(unknown.message(), "unknown service or method /etcdserverpb.Wacth/Watch");
    }
}
