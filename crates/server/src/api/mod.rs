//! The client port: etcd's gRPC services and a little HTTP, over the [`Handle`] of a replica.
//!
//! A connection is one task, and each request on it another, on the thread of the replica or on
//! one for clients. What can pile up is bounded here: connections by
//! [`Limits::connections_max`], requests in flight on one by [`Limits::streams_max`], bytes of a
//! request by [`Limits::request_bytes_max`], and the time to finish when stopping by
//! [`Limits::drain`]. What reaches the replica is bounded by the handle itself.
//!
//! | file | holds |
//! |---|---|
//! | `listen.rs` `threads.rs` | accepting, connections, stopping; who serves them |
//! | `authority.rs` | a tolerance that grpc-go's clients need |
//! | `certificate.rs` | whose certificate a request came with |
//! | `dispatch.rs` | which service answers |
//! | `alarm.rs` | what is asked of alarms, pure |
//! | `auth.rs` `kv.rs` `lease.rs` `cluster.rs` `maintenance.rs` `snapshot.rs` `health.rs` `http.rs` | the |
//! | | services |
//! | `checks.rs` `metrics.rs` `calls.rs` | what probes and monitors ask |
//! | `lock.rs` `election.rs` `queue.rs` | the line for a lock or for leadership |
//! | `limits.rs` | rules for users and prefixes; see [`crate::overload`] |
//! | `large.rs` `watched.rs` | answers that are made while they are sent |
//! | `watch.rs` | the service whose answers do not end; see [`crate::watch`] |
//! | `convert.rs` | wire <-> store, pure |
//! | `conditions.rs` | locks and names that a write may carry, pure |
//! | `errors.rs` | etcd's codes and texts |

mod alarm;
mod auth;
mod authority;
mod calls;
mod certificate;
mod checks;
pub mod cluster;
pub mod conditions;
mod convert;
mod dispatch;
mod election;
mod errors;
pub mod freshness;
mod header;
mod health;
mod http;
mod kv;
mod large;
mod lease;
mod limits;
mod listen;
mod lock;
mod maintenance;
mod metrics;
mod queue;
mod snapshot;
mod threads;
mod watch;
mod watched;

pub use certificate::ClientCertificate;
pub use errors::ApiError;
pub(crate) use header::Headers;
pub use listen::ServeError;
pub(crate) use threads::Threads;

use crate::audit::Audit;
use crate::auth::Gate;
use crate::config::Config;
use crate::gateway::Visitors;
use crate::handle::Handle;
use crate::metrics::Metrics;
use crate::tls::Listener;
pub(crate) use calls::{CODES, Calls};
use dispatch::Dispatch;
use hyper::Request;
use hyper::body::Incoming;
use quorate_replica::lease_ttl_min;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tonic::body::Body;
use tonic::codegen::Service;

/// The version of etcd whose API this is. Clients decide by it what they may ask for: Kubernetes
/// relies on progress notifications from 3.5.8 on.
pub const ETCD_VERSION: &str = "3.5.17";

/// The API version of the cluster as a whole, which etcd tells beside that of the member.
pub const ETCD_CLUSTER_VERSION: &str = "3.5.0";

/// What a received message may have beyond the largest request, as in etcd.
const GRPC_OVERHEAD_BYTES_MAX: usize = 512 * 1024;

/// Connections of one member unless told otherwise; each takes a file descriptor and, busy with
/// small requests, some ten kilobytes.
const CONNECTIONS_MAX: usize = 16_384;

/// Election timeouts without a leader after which a stream that asked for one ends, as in etcd.
const LEADERLESS_ELECTIONS: u32 = 3;

/// Time to finish when stopping: below what the member as a whole allows itself.
const DRAIN: Duration = Duration::from_millis(1_500);

/// Bounds of the client port.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a request that is replicated; a larger one is refused.
    pub request_bytes_max: usize,
    /// Connections; a further one is closed as soon as it is accepted.
    pub connections_max: usize,
    /// Requests in flight on one connection; the client holds further ones back.
    pub streams_max: u32,
    /// Bytes of the requests in flight on one connection; a further one is refused.
    pub connection_bytes_max: usize,
    /// Cost of a transaction in operations; a larger one is refused.
    pub txn_ops_max: usize,
    /// The shortest lease that is granted, in seconds.
    pub lease_ttl_min: u64,
    /// A stream whose client asked for a leader ends after so long without one.
    pub leaderless_max: Duration,
    /// An HTTP/2 connection that is silent this long is asked for a sign of life,
    pub ping_every: Duration,
    /// and given up after so long without one.
    pub pong_within: Duration,
    /// How often a watcher that hears nothing else is told how far it has come, if it wants that.
    pub watch_progress_every: Duration,
    /// Whether the API is served as JSON, too.
    pub gateway: bool,
    /// How long requests in flight may take when stopping; then their connections are cut.
    pub drain: Duration,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Limits {
        Limits {
            request_bytes_max: usize::try_from(config.max_request_bytes).unwrap_or(usize::MAX),
            connections_max: CONNECTIONS_MAX,
            streams_max: config.max_concurrent_streams,
            connection_bytes_max: connection_bytes_max(config),
            txn_ops_max: usize::try_from(config.max_txn_ops).unwrap_or(usize::MAX),
            lease_ttl_min: lease_ttl_min(config.election_timeout),
            leaderless_max: LEADERLESS_ELECTIONS * config.election_timeout,
            ping_every: config.grpc_keepalive_interval,
            pong_within: config.grpc_keepalive_timeout,
            watch_progress_every: config.watch_progress_notify_interval,
            gateway: config.enable_grpc_gateway,
            drain: DRAIN,
        }
    }
}

/// A quarter of what the member has room for, and room for one of the largest requests, as JSON.
fn connection_bytes_max(config: &Config) -> usize {
    let one = 2 * config.max_request_bytes + GRPC_OVERHEAD_BYTES_MAX as u64;
    usize::try_from((config.max_inflight_bytes / 4).max(one)).unwrap_or(usize::MAX)
}

/// What every request goes through.
#[derive(Debug)]
pub(crate) struct Serves {
    /// The replica.
    pub(crate) handle: Handle,
    /// Who lets requests in.
    pub(crate) gate: Gate,
    /// Who records them, if somebody does.
    pub(crate) audit: Option<Audit>,
    /// Who counts them.
    pub(crate) calls: Arc<Calls>,
    /// Pages of browsers that may ask.
    pub(crate) visitors: Visitors,
}

/// Serves the API on `listeners` until `shutdown` completes: then nothing new is accepted, and
/// what is in flight is finished within [`Limits::drain`].
///
/// Errors: if there is no listener, or one cannot accept any more.
pub(crate) async fn serve(
    serves: Serves,
    listeners: Vec<Listener>,
    threads: Threads,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let metrics = Arc::clone(serves.handle.metrics());
    let dispatch = Arc::new(Dispatch::new(serves, &limits));
    let answer = move |request| dispatch.take(request);
    listen::serve(answer, listeners, threads, limits, metrics, shutdown).await
}

/// Serves the HTTP side alone (metrics, health, version) on further listeners, as [`serve`] does.
pub(crate) async fn serve_http(
    handle: Handle,
    calls: Arc<Calls>,
    listeners: Vec<Listener>,
    limits: Limits,
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    // What monitors send and receive is none of the clients' traffic.
    let metrics = Arc::new(Metrics::default());
    let router = http::router(handle, calls);
    let answer = move |request: Request<Incoming>| {
        let mut router = router.clone();
        async move {
            let response = router.call(request.map(axum::body::Body::new)).await?;
            Ok(response.map(Body::new))
        }
    };
    listen::serve(answer, listeners, Threads::default(), limits, metrics, shutdown).await
}
