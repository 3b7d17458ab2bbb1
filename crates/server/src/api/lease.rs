//! The Lease service: keys that live as long as their client says so.
//!
//! Granting and revoking are writes. Keeping alive and asking what is left are questions to the
//! leader's lessor, whichever member was asked; they wait while the leader changes. A stream of
//! keep-alives is answered in its order, with at most [`IN_FLIGHT_MAX`] on their way: further ones
//! stay in the connection, which holds the client back.

use super::conditions::{self, Takes};
use super::convert;
use super::dispatch::requires_leader;
use super::errors::ApiError;
use super::header::Headers;
use crate::auth::{Asker, Gate};
use crate::handle::{Consistency, Handle, LeaseReceiver};
use crate::identity::random;
use crate::overload::{Asked, Kind, Touched, patience};
use crate::proto::etcdserverpb as pb;
use crate::proto::etcdserverpb::lease_server;
use bytes::Bytes;
use quorate_replica::store::{Asking, Command, Limits, Outcome, Store};
use quorate_replica::{LeaseAnswer, LeaseAsk, Refusal};
use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::spawn_blocking;
use tokio::time::timeout;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

/// Keep-alives of one stream that wait for their answers.
const IN_FLIGHT_MAX: usize = 128;

/// A member draws an id so often before it gives up; one drawn twice is not to be expected.
const DRAWS_MAX: usize = 4;

/// A lease with more keys is listed off the threads that serve sockets.
const INLINE_KEYS_MAX: usize = 10_000;

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Lease {
    handle: Handle,
    headers: Headers,
    gate: Gate,
    limits: Limits,
    /// The shortest time to live that is granted. Unit: seconds.
    ttl_min: u64,
    /// A stream that asks for a leader ends after so long without one.
    leaderless_max: Duration,
}

impl Lease {
    /// The service.
    pub(crate) fn new(
        handle: Handle,
        gate: Gate,
        limits: Limits,
        ttl_min: u64,
        leaderless_max: Duration,
    ) -> Lease {
        let headers = Headers::of(&handle);
        Lease { handle, headers, gate, limits, ttl_min, leaderless_max }
    }

    async fn write(
        &self,
        asker: &Asker,
        command: &Command,
    ) -> Result<(pb::ResponseHeader, Outcome), ApiError> {
        self.limits.admit(command)?;
        let applied = self.gate.write(asker, command).await?;
        Ok((self.headers.at(applied.revision, applied.term), applied.outcome?))
    }

    fn header(&self) -> pb::ResponseHeader {
        let status = self.handle.status();
        self.headers.at(status.revision, status.term)
    }
}

#[tonic::async_trait]
impl lease_server::Lease for Lease {
    async fn lease_grant(
        &self,
        request: Request<pb::LeaseGrantRequest>,
    ) -> Result<Response<pb::LeaseGrantResponse>, Status> {
        let (metadata, extensions, request) = request.into_parts();
        conditions::read(&metadata, Takes::Nothing)?;
        let asker = Asker::of(&extensions);
        let ttl = u64::try_from(request.ttl).unwrap_or(0).max(self.ttl_min);
        for draw in 1.. {
            let id = if request.id == 0 { drawn_id()? } else { request.id };
            // The leader writes its clock into the command.
            let command = Command::LeaseGrant { id, ttl, at: Default::default() };
            let (credential, patience) = (&asker.credential, patience(&metadata));
            let asked = Asked { credential, touched: Touched::Command(&command), patience };
            let pass = self.handle.overload().enter(&asked, Kind::Write)?;
            let (header, outcome) = match self.write(&asker, &command).await {
                Err(ApiError::LeaseExists) if request.id == 0 && draw < DRAWS_MAX => continue,
                answer => answer?,
            };
            pass.answered();
            let Outcome::LeaseGrant { ttl } = outcome else {
                panic!("a grant was answered with {outcome:?}")
            };
            let (header, ttl) = (Some(header), convert::signed(ttl));
            let error = String::new();
            return Ok(Response::new(pb::LeaseGrantResponse { header, id, ttl, error }));
        }
        unreachable!("the last draw is answered")
    }

    async fn lease_revoke(
        &self,
        request: Request<pb::LeaseRevokeRequest>,
    ) -> Result<Response<pb::LeaseRevokeResponse>, Status> {
        let (metadata, extensions, pb::LeaseRevokeRequest { id }) = request.into_parts();
        let guard = conditions::read(&metadata, Takes::Fences)?;
        let command = Command::LeaseRevoke { id };
        let applied = self.gate.write_guarded(&Asker::of(&extensions), &guard, &command).await?;
        applied.outcome.map_err(|why| conditions::refused(&guard, why))?;
        let header = self.headers.at(applied.revision, applied.term);
        Ok(Response::new(pb::LeaseRevokeResponse { header: Some(header) }))
    }

    type LeaseKeepAliveStream = KeepAlives;

    async fn lease_keep_alive(
        &self,
        request: Request<Streaming<pb::LeaseKeepAliveRequest>>,
    ) -> Result<Response<KeepAlives>, Status> {
        let wanted = requires_leader(request.metadata().as_ref());
        let patience = self.leaderless_max;
        let leaderless: Option<Leaderless> =
            wanted.then(|| Box::pin(leaderless(self.handle.clone(), patience)) as Leaderless);
        Ok(Response::new(KeepAlives {
            service: self.clone(),
            requests: Requests::Open(Box::new(request.into_inner())),
            pending: VecDeque::new(),
            leaderless,
            ended: false,
        }))
    }

    async fn lease_time_to_live(
        &self,
        request: Request<pb::LeaseTimeToLiveRequest>,
    ) -> Result<Response<pb::LeaseTimeToLiveResponse>, Status> {
        let (_, extensions, request) = request.into_parts();
        let pb::LeaseTimeToLiveRequest { id, keys } = request;
        let asker = Asker::of(&extensions);
        let ask = LeaseAsk::TimeToLive { id };
        let receiver = self.handle.ask_lease(ask).map_err(ApiError::from)?;
        let answer = receiver.await.unwrap_or(Err(Refusal::Stopping)).map_err(ApiError::from)?;
        let header = self.header();
        let mut response = time_to_live(header, id, answer);
        if keys && answer != LeaseAnswer::Gone {
            let snapshot = self.handle.snapshot(Consistency::Linearizable).await;
            let snapshot = snapshot.map_err(ApiError::from)?;
            Gate::judge_read(&snapshot.store, &asker, Asking::LeaseKeys(id))?;
            response.header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
            match keys_of(snapshot.store, id).await {
                Some(keys) => response.keys = keys,
                None => response = time_to_live(header, id, LeaseAnswer::Gone),
            }
        }
        Ok(Response::new(response))
    }

    async fn lease_leases(
        &self,
        _: Request<pb::LeaseLeasesRequest>,
    ) -> Result<Response<pb::LeaseLeasesResponse>, Status> {
        let snapshot = self.handle.snapshot(Consistency::Linearizable).await;
        let snapshot = snapshot.map_err(ApiError::from)?;
        let header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
        let list = |store: &Store| {
            store.leases().map(|(id, _)| pb::LeaseStatus { id }).collect::<Vec<_>>()
        };
        let few = snapshot.store.leases().len() <= INLINE_KEYS_MAX;
        let leases = match few {
            true => list(&snapshot.store),
            false => {
                let listing = spawn_blocking(move || list(&snapshot.store));
                listing.await.expect("a read does not panic")
            }
        };
        Ok(Response::new(pb::LeaseLeasesResponse { header, leases }))
    }
}

/// A positive id.
pub(super) fn drawn_id() -> Result<i64, Status> {
    let drawn = random().map_err(|error| Status::internal(format!("drawing an id: {error}")))?;
    Ok(((drawn >> 1) as i64).max(1))
}

/// The keys of a lease; none if it is gone.
async fn keys_of(store: std::sync::Arc<Store>, id: i64) -> Option<Vec<Bytes>> {
    let list =
        move |store: &Store| store.lease(id).map(|lease| lease.keys().cloned().collect::<Vec<_>>());
    if store.lease(id)?.keys().len() <= INLINE_KEYS_MAX {
        return list(&store);
    }
    spawn_blocking(move || list(&store)).await.expect("a read does not panic")
}

fn time_to_live(
    header: pb::ResponseHeader,
    id: i64,
    answer: LeaseAnswer,
) -> pb::LeaseTimeToLiveResponse {
    let (ttl, granted_ttl) = match answer {
        LeaseAnswer::Gone => (-1, 0),
        LeaseAnswer::Lives { left, granted } => {
            (convert::signed(left / 1_000), convert::signed(granted))
        }
    };
    pb::LeaseTimeToLiveResponse { header: Some(header), id, ttl, granted_ttl, keys: Vec::new() }
}

/// Ends when no leader has been known for so long.
async fn leaderless(handle: Handle, patience: Duration) {
    let mut leader = handle.leader();
    loop {
        // An error means that the replica has ended, which is told to each request by itself.
        if leader.wait_for(|(_, leader)| leader.is_none()).await.is_err() {
            return std::future::pending().await;
        }
        if timeout(patience, leader.wait_for(|(_, leader)| leader.is_some())).await.is_err() {
            return;
        }
    }
}

type Leaderless = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What the client still has to say.
enum Requests {
    Open(Box<Streaming<pb::LeaseKeepAliveRequest>>),
    /// It has said everything, or broke off.
    Ended(Option<Status>),
}

/// A keep-alive on its way.
struct Pending {
    id: i64,
    /// Of the moment before the lease was renewed, as in etcd.
    header: pb::ResponseHeader,
    answer: Result<LeaseReceiver, Refusal>,
}

/// The answers to a stream of keep-alives, in its order. Nothing is spawned: the connection drives
/// it, so it ends with it.
pub(crate) struct KeepAlives {
    service: Lease,
    requests: Requests,
    pending: VecDeque<Pending>,
    leaderless: Option<Leaderless>,
    ended: bool,
}

impl KeepAlives {
    /// Asks what has arrived, as far as there is room.
    fn take_in(&mut self, cx: &mut Context<'_>) {
        while self.pending.len() < IN_FLIGHT_MAX {
            let Requests::Open(requests) = &mut self.requests else { return };
            match Pin::new(&mut **requests).poll_next(cx) {
                Poll::Ready(Some(Ok(pb::LeaseKeepAliveRequest { id }))) => {
                    let header = self.service.header();
                    let answer = self.service.handle.ask_lease(LeaseAsk::KeepAlive { id });
                    self.pending.push_back(Pending { id, header, answer });
                }
                Poll::Ready(Some(Err(status))) => self.requests = Requests::Ended(Some(status)),
                Poll::Ready(None) => self.requests = Requests::Ended(None),
                Poll::Pending => return,
            }
        }
    }

    fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<pb::LeaseKeepAliveResponse, Status>>> {
        let Some(front) = self.pending.front_mut() else {
            return match &mut self.requests {
                Requests::Open(_) => Poll::Pending,
                Requests::Ended(status) => Poll::Ready(status.take().map(Err)),
            };
        };
        let answer = match &mut front.answer {
            Err(refusal) => Err(*refusal),
            Ok(receiver) => match Pin::new(receiver).poll(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(answer) => answer.unwrap_or(Err(Refusal::Stopping)),
            },
        };
        let Pending { id, header, .. } = self.pending.pop_front().expect("just seen");
        Poll::Ready(Some(match answer {
            Ok(answer) => Ok(kept_alive(header, id, answer)),
            Err(refusal) => Err(ApiError::from(refusal).into()),
        }))
    }
}

fn kept_alive(
    header: pb::ResponseHeader,
    id: i64,
    answer: LeaseAnswer,
) -> pb::LeaseKeepAliveResponse {
    let ttl = match answer {
        LeaseAnswer::Gone => 0,
        LeaseAnswer::Lives { granted, .. } => convert::signed(granted),
    };
    pb::LeaseKeepAliveResponse { header: Some(header), id, ttl }
}

impl Stream for KeepAlives {
    type Item = Result<pb::LeaseKeepAliveResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.ended {
            return Poll::Ready(None);
        }
        if let Some(leaderless) = &mut self.leaderless
            && leaderless.as_mut().poll(cx).is_ready()
        {
            self.ended = true;
            return Poll::Ready(Some(Err(ApiError::NoLeader.into())));
        }
        self.take_in(cx);
        let answer = self.poll_answer(cx);
        if let Poll::Ready(Some(Ok(_))) = answer {
            // There is room for one more, and nobody will wake us for it.
            self.take_in(cx);
        }
        self.ended = matches!(answer, Poll::Ready(None | Some(Err(_))));
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_lease_has_minus_one_second_left_and_is_kept_alive_for_none() {
        let header = pb::ResponseHeader::default();
        let told = time_to_live(header, 7, LeaseAnswer::Gone);
        assert_eq!((told.id, told.ttl, told.granted_ttl), (7, -1, 0));
        let kept = kept_alive(header, 7, LeaseAnswer::Gone);
        assert_eq!((kept.id, kept.ttl), (7, 0));
    }

    #[test]
    fn what_is_left_is_told_in_whole_seconds() {
        let header = pb::ResponseHeader::default();
        let answer = LeaseAnswer::Lives { left: 1_999, granted: 60 };
        let told = time_to_live(header, 7, answer);
        assert_eq!((told.ttl, told.granted_ttl), (1, 60));
        assert_eq!(kept_alive(header, 7, answer).ttl, 60);
    }

    #[test]
    fn a_drawn_id_is_positive() {
        for _ in 0..100 {
            assert!(drawn_id().expect("randomness") > 0);
        }
    }
}
