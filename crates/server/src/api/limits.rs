//! The Limits service: rules for users and prefixes, which are commands of the log.
//!
//! They are part of the state and no matter of one member, see [`crate::overload`] for how each
//! keeps to them.

use super::errors::ApiError;
use super::header::Headers;
use crate::auth::{Asker, Gate};
use crate::handle::{Consistency, Handle};
use crate::proto::quoratepb as pb;
use crate::proto::quoratepb::limits_server;
use bytes::Bytes;
use quorate_replica::store::{
    Asking, Command, KvError, LimitCommand, LimitRule, Outcome, Priority, Quota, Used,
};
use tonic::{Code, Request, Response, Status};

/// The service, over one replica.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    handle: Handle,
    headers: Headers,
    gate: Gate,
}

impl Limits {
    /// The service.
    pub(crate) fn new(handle: Handle, gate: Gate) -> Limits {
        let headers = Headers::of(&handle);
        Limits { handle, headers, gate }
    }

    async fn change(
        &self,
        asker: &Asker,
        command: LimitCommand,
    ) -> Result<Option<crate::proto::etcdserverpb::ResponseHeader>, Status> {
        if !self.handle.may_limit() {
            return Err(Status::failed_precondition(
                "quorate: a member runs a version that knows no limits, or too few members were \
                 met yet; upgrade all members, and ask again",
            ));
        }
        let applied = self.gate.write(asker, &Command::Limit(command)).await?;
        let outcome = applied.outcome.map_err(refused)?;
        assert_eq!(outcome, Outcome::Limit, "a change of limits was answered otherwise");
        tracing::info!("limits have changed");
        Ok(Some(self.headers.at(applied.revision, applied.term)))
    }
}

fn refused(why: KvError) -> Status {
    match why {
        KvError::Limit(why) => {
            let code = match why {
                quorate_replica::store::LimitError::NotFound => Code::NotFound,
                quorate_replica::store::LimitError::TooMany => Code::ResourceExhausted,
                _ => Code::InvalidArgument,
            };
            Status::new(code, why.to_string())
        }
        why => ApiError::from(why).into(),
    }
}

fn some(number: u64) -> Option<u64> {
    Some(number).filter(|number| *number > 0)
}

/// A rule as it is kept.
///
/// Errors: there is none, or its priority is of no known kind.
fn rule(rule: Option<pb::LimitRule>) -> Result<LimitRule, Status> {
    let rule = rule.ok_or_else(|| Status::invalid_argument("quorate: no rule is given"))?;
    let priority = match u8::try_from(rule.priority) {
        Ok(0) => None,
        code => Some(code.ok().and_then(Priority::of_code).ok_or_else(|| {
            Status::invalid_argument("quorate: a priority is LOW, NORMAL or HIGH")
        })?),
    };
    Ok(LimitRule {
        name: Bytes::from(rule.name),
        user: Bytes::from(rule.user),
        prefix: rule.prefix,
        per_second: some(rule.per_second),
        burst: some(rule.burst),
        in_flight: some(rule.in_flight),
        priority,
        quota: Quota { bytes: rule.bytes, keys: rule.keys },
    })
}

fn wire((rule, used): (&LimitRule, Used)) -> pb::LimitUse {
    let text = |name: &Bytes| String::from_utf8_lossy(name).into_owned();
    let told = pb::LimitRule {
        name: text(&rule.name),
        user: text(&rule.user),
        prefix: rule.prefix.clone(),
        per_second: rule.per_second.unwrap_or(0),
        burst: rule.burst.unwrap_or(0),
        in_flight: rule.in_flight.unwrap_or(0),
        priority: rule.priority.map_or(0, |priority| priority.code().into()),
        bytes: rule.quota.bytes,
        keys: rule.quota.keys,
    };
    pb::LimitUse { rule: Some(told), bytes: used.bytes, keys: used.keys }
}

#[tonic::async_trait]
impl limits_server::Limits for Limits {
    async fn limit_set(
        &self,
        request: Request<pb::LimitSetRequest>,
    ) -> Result<Response<pb::LimitSetResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let rule = rule(request.into_inner().rule)?;
        rule.check().map_err(|why| refused(KvError::Limit(why)))?;
        let header = self.change(&asker, LimitCommand::Set(rule)).await?;
        Ok(Response::new(pb::LimitSetResponse { header }))
    }

    async fn limit_list(
        &self,
        request: Request<pb::LimitListRequest>,
    ) -> Result<Response<pb::LimitListResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let snapshot = self.handle.snapshot(Consistency::Linearizable).await;
        let snapshot = snapshot.map_err(ApiError::from)?;
        Gate::judge_read(&snapshot.store, &asker, Asking::Root)?;
        let header = Some(self.headers.at(snapshot.store.revision(), snapshot.term));
        let limits = snapshot.store.limits().map(wire).collect();
        Ok(Response::new(pb::LimitListResponse { header, limits }))
    }

    async fn limit_remove(
        &self,
        request: Request<pb::LimitRemoveRequest>,
    ) -> Result<Response<pb::LimitRemoveResponse>, Status> {
        let asker = Asker::of(request.extensions());
        let name = Bytes::from(request.into_inner().name);
        let header = self.change(&asker, LimitCommand::Remove { name }).await?;
        Ok(Response::new(pb::LimitRemoveResponse { header }))
    }
}
