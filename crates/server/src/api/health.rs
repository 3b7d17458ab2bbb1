//! Health as load balancers and probes ask for it: over gRPC and over HTTP.
//!
//! A member is healthy for gRPC if it knows a leader; for HTTP, as in etcd, if beyond that a
//! read succeeds. With `serializable=true` the HTTP probe asks whether this member serves reads
//! of its own, whatever the cluster does, which is what a liveness probe should ask.

use super::checks;
use super::errors::ApiError;
use crate::handle::{Consistency, Handle};
use crate::proto::health as pb;
use crate::proto::health::health_check_response::ServingStatus;
use crate::proto::health::health_server;
use quorate_core::NodeId;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};
use tonic::codegen::tokio_stream::Stream;
use tonic::{Request, Response, Status};

/// How often a watch of the health looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Services whose health can be asked for; the empty name is the server as a whole.
const SERVICES: &[&str] =
    &["", "etcdserverpb.Cluster", "etcdserverpb.KV", "etcdserverpb.Maintenance"];

/// The gRPC service.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    handle: Handle,
}

impl Health {
    /// The service.
    pub(crate) fn new(handle: Handle) -> Health {
        Health { handle }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<pb::HealthCheckResponse>, Status> {
        if !SERVICES.contains(&request.into_inner().service.as_str()) {
            return Err(Status::not_found("unknown service"));
        }
        Ok(Response::new(response(serving(self.handle.status().leader))))
    }

    type WatchStream = Changes;

    async fn watch(
        &self,
        request: Request<pb::HealthCheckRequest>,
    ) -> Result<Response<Changes>, Status> {
        let known = SERVICES.contains(&request.into_inner().service.as_str());
        let handle = known.then(|| self.handle.clone());
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Response::new(Changes { handle, look, told: None }))
    }
}

/// The health now, then every change of it.
#[derive(Debug)]
pub(crate) struct Changes {
    /// Absent if the service is unknown: then nothing will ever change.
    handle: Option<Handle>,
    look: Interval,
    told: Option<ServingStatus>,
}

impl Stream for Changes {
    type Item = Result<pb::HealthCheckResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            ready!(self.look.poll_tick(cx));
            let now = match &self.handle {
                Some(handle) => serving(handle.status().leader),
                None => ServingStatus::ServiceUnknown,
            };
            if self.told != Some(now) {
                self.told = Some(now);
                return Poll::Ready(Some(Ok(response(now))));
            }
        }
    }
}

/// What the HTTP probe finds: `Err` holds the reason, in etcd's words.
pub(crate) async fn probe(handle: &Handle, consistency: Consistency) -> Result<(), String> {
    if consistency == Consistency::Linearizable && handle.status().leader.is_none() {
        return Err("RAFT NO LEADER".to_owned());
    }
    verdict(checks::read(handle, consistency).await)
}

/// The body of `/health`.
pub(crate) fn health_json(verdict: &Result<(), String>) -> String {
    match verdict {
        Ok(()) => r#"{"health":"true","reason":""}"#.to_owned(),
        // Reasons are our own texts, without anything that JSON would have to escape.
        Err(reason) => format!(r#"{{"health":"false","reason":"{reason}"}}"#),
    }
}

fn verdict(read: Result<(), ApiError>) -> Result<(), String> {
    read.map_err(|error| {
        let (_, text) = error.code_and_text();
        format!("RANGE ERROR:{text}")
    })
}

fn serving(leader: Option<NodeId>) -> ServingStatus {
    if leader.is_some() { ServingStatus::Serving } else { ServingStatus::NotServing }
}

fn response(status: ServingStatus) -> pb::HealthCheckResponse {
    pb::HealthCheckResponse { status: status.into() }
}

#[cfg(test)]
mod tests {
    use super::{health_json, response, serving, verdict};
    use crate::api::ApiError;
    use quorate_core::NodeId;

    #[test]
    fn a_member_serves_while_it_knows_a_leader() {
        assert_eq!(response(serving(Some(NodeId(1)))).status, 1);
        assert_eq!(response(serving(None)).status, 2);
    }

    #[test]
    fn the_http_answer_is_etcds() {
        assert_eq!(health_json(&verdict(Ok(()))), r#"{"health":"true","reason":""}"#);
        assert_eq!(
            health_json(&verdict(Err(ApiError::TimedOut))),
            r#"{"health":"false","reason":"RANGE ERROR:etcdserver: request timed out"}"#
        );
    }
}
