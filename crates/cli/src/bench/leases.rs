//! Leases: granting many, and keeping some alive.
//!
//! Every grant is a lease of its own, living at least as long as was asked, and known to the
//! cluster when the round is over; only then is it revoked, which is not measured. A lease that is
//! kept alive answers with its own id and a time to live; it can be gone only if it was not kept
//! for longer than that.

use super::cluster::Cluster;
use super::verdict::Wrong;
use super::work::{Client, Done, Failed};
use crate::client::Channel;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseKeepAliveResponse, LeaseLeasesRequest,
    LeaseRevokeRequest,
};
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

/// Time to live that is asked for: longer than a run. Unit: seconds.
const TTL: i64 = 3_600;

/// How long a member may take to know every lease: lists come from its own, perhaps stale state.
const KNOWN_WITHIN: Duration = Duration::from_secs(5);

/// Requests under way at one time, outside of what is measured.
const LANES: usize = 64;

/// The leases of one cluster that are not revoked yet.
#[derive(Debug, Default)]
pub(super) struct Leases {
    granted: Mutex<BTreeSet<i64>>,
}

impl Leases {
    fn lock(&self) -> MutexGuard<'_, BTreeSet<i64>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn enter(&self, id: i64, ttl: i64) -> Result<(), Wrong> {
        let promise = "a grant is a new lease that lives as long as was asked";
        if ttl < TTL {
            let expected = format!("a time to live of {TTL} s or more");
            return Err(Wrong { promise, expected, seen: format!("{ttl} s for lease {id:x}") });
        }
        if id <= 0 || !self.lock().insert(id) {
            let expected = "an id above 0 that no other lease has".to_owned();
            return Err(Wrong { promise, expected, seen: format!("id {id:x}") });
        }
        Ok(())
    }

    /// Those that client `index` of `clients` keeps alive.
    pub(super) fn share(&self, index: usize, clients: usize) -> Vec<Kept> {
        let until = Instant::now() + Duration::from_secs(TTL.unsigned_abs());
        let kept = |&id: &i64| Kept { id, until };
        self.lock().iter().skip(index).step_by(clients).map(kept).collect()
    }
}

/// A lease that a client keeps alive.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kept {
    id: i64,
    /// Until then it cannot have run out.
    until: Instant,
}

/// A stream of keep-alives.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Index of the connection it is on.
    link: usize,
    requests: mpsc::Sender<LeaseKeepAliveRequest>,
    answers: Streaming<LeaseKeepAliveResponse>,
}

impl Client {
    /// Grants a lease.
    pub(super) async fn grant(&mut self) -> Result<Done, Failed> {
        let leases = Arc::clone(&self.leases);
        let request = LeaseGrantRequest { ttl: TTL, id: 0 };
        let answer = self.link().lease.lease_grant(request).await?.into_inner();
        leases.enter(answer.id, answer.ttl)?;
        Ok(Done::Fully)
    }

    /// Keeps one of this client's leases alive.
    pub(super) async fn keep_alive(&mut self) -> Result<Done, Failed> {
        let turn = self.random.below(self.kept.len() as u64) as usize;
        let Kept { id, until } = self.kept[turn];
        let asked = Instant::now();
        let request = LeaseKeepAliveRequest { id };
        let mut keeper = match self.keeper.take() {
            Some(keeper) => {
                self.turn = keeper.link;
                let sent = keeper.requests.send(request).await;
                sent.map_err(|_| Status::unavailable("the stream of keep-alives has ended"))?;
                keeper
            }
            None => self.keeper(request).await?,
        };
        let answer = keeper.answers.message().await?;
        let answer = answer.ok_or_else(|| Status::unavailable("the stream has ended"))?;
        self.keeper = Some(keeper);
        let promise = "a keep-alive tells the time to live of its own lease";
        if answer.id != id {
            let expected = format!("an answer about lease {id:x}");
            let seen = format!("one about lease {:x}", answer.id);
            return Err(Wrong { promise, expected, seen }.into());
        }
        if answer.ttl >= TTL {
            self.kept[turn].until = asked + Duration::from_secs(answer.ttl.unsigned_abs());
            return Ok(Done::Fully);
        }
        if answer.ttl <= 0 && asked > until {
            return Err(Status::not_found("the lease has run out: nobody kept it alive").into());
        }
        let expected = format!("lease {id:x} with {TTL} s or more to live");
        Err(Wrong { promise, expected, seen: format!("{} s", answer.ttl) }.into())
    }

    async fn keeper(&mut self, first: LeaseKeepAliveRequest) -> Result<Keeper, Status> {
        let (requests, stream) = mpsc::channel(1);
        // A server answers the call with its first answer, so the question must be there before.
        requests.try_send(first).expect("room for one");
        let answers = self.link().lease.lease_keep_alive(ReceiverStream::new(stream)).await?;
        Ok(Keeper { link: self.turn, requests, answers: answers.into_inner() })
    }
}

/// Grants the leases that will be kept alive.
pub(super) async fn prepare(cluster: &Cluster, count: u64) -> Result<(), Failed> {
    let lease = connect(cluster).await?;
    let leases = Arc::clone(&cluster.leases);
    in_lanes(0..count, |_| {
        let (mut lease, leases) = (lease.clone(), Arc::clone(&leases));
        async move {
            let answer = lease.lease_grant(LeaseGrantRequest { ttl: TTL, id: 0 }).await?;
            leases.enter(answer.get_ref().id, answer.get_ref().ttl)?;
            Ok(())
        }
    })
    .await
}

/// Every lease is known; then they are revoked.
pub(super) async fn settle(cluster: &Cluster) -> Result<(), Failed> {
    let lease = connect(cluster).await?;
    let granted = cluster.leases.lock().clone();
    if granted.is_empty() {
        return Ok(());
    }
    let deadline = Instant::now() + KNOWN_WITHIN;
    loop {
        let known = lease.clone().lease_leases(LeaseLeasesRequest {}).await?.into_inner();
        let known: BTreeSet<i64> = known.leases.iter().map(|lease| lease.id).collect();
        let Some(lost) = granted.difference(&known).next() else { break };
        if Instant::now() > deadline {
            return Err(Failed::Wrong(Wrong {
                promise: "a lease that was granted is known",
                expected: format!("lease {lost:x} among all leases, within {KNOWN_WITHIN:?}"),
                seen: format!("{} others", known.len()),
            }));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    in_lanes(granted.into_iter(), |id| revoke(lease.clone(), id)).await?;
    cluster.leases.lock().clear();
    Ok(())
}

async fn revoke(mut lease: LeaseClient<Channel>, id: i64) -> Result<(), Failed> {
    match lease.lease_revoke(LeaseRevokeRequest { id }).await {
        Ok(_) => Ok(()),
        Err(status) if status.code() == Code::NotFound => Err(Failed::Wrong(Wrong {
            promise: "a lease that was granted is known",
            expected: format!("lease {id:x} to be revoked"),
            seen: status.message().to_owned(),
        })),
        Err(status) => Err(Failed::Status(status)),
    }
}

async fn connect(cluster: &Cluster) -> Result<LeaseClient<Channel>, Failed> {
    let channel = cluster.connect(&cluster.endpoints[0]).await;
    let channel = channel.map_err(Status::unavailable)?;
    Ok(LeaseClient::new(channel).max_decoding_message_size(usize::MAX))
}

/// Does `step` for each, a bounded number at a time.
async fn in_lanes<T: Send + 'static, F>(
    all: impl Iterator<Item = T>,
    step: impl Fn(T) -> F,
) -> Result<(), Failed>
where
    F: Future<Output = Result<(), Failed>> + Send + 'static,
{
    let mut lanes = JoinSet::new();
    for one in all {
        if lanes.len() >= LANES {
            lanes.join_next().await.expect("a lane is busy").expect("no lane panics")?;
        }
        lanes.spawn(step(one));
    }
    while let Some(lane) = lanes.join_next().await {
        lane.expect("no lane panics")?;
    }
    Ok(())
}
