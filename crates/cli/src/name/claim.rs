//! The keys of one instance: put where they belong, if they are ours to put.
//!
//! An instance has two keys, of which one is there: it is healthy, or it is withdrawn. Both are
//! read, and then changed in one transaction if they are still as they were read. So nobody sees
//! both or neither, and an instance that somebody else has registered meanwhile is not taken back.

use crate::client::Channel;
use crate::lock::members::{AskError, Members};
use quorate_server::naming::{Directory, Standing};
use quorate_server::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::request_op::Request as Op;
use quorate_server::proto::etcdserverpb::response_op::Response as Answer;
use quorate_server::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use quorate_server::proto::mvccpb::KeyValue;
use std::time::Duration;
use tokio::time::Instant;
use tonic::{Response, Status};

/// How long one attempt may take.
const EACH: Duration = Duration::from_secs(2);

/// What becomes of an instance that is registered under a lease of somebody else.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taking {
    /// It is ours now: who comes later knows better.
    Over,
    /// It is left alone.
    OwnOnly,
}

/// What came of it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Claimed {
    /// It is as it should be; it had to be written.
    Written,
    /// It was as it should be.
    AsItWas,
    /// Somebody else has registered it.
    Replaced,
}

/// What is to be.
#[derive(Clone, Debug)]
pub(super) struct Claim<'a> {
    pub(super) directory: &'a Directory,
    pub(super) name: &'a str,
    pub(super) addr: &'a str,
    pub(super) standing: Standing,
    pub(super) value: Vec<u8>,
    /// The present lease, and older ones that may still live.
    pub(super) leases: &'a [i64],
    pub(super) taking: Taking,
}

impl Claim<'_> {
    /// Does it, however often that takes.
    ///
    /// Errors: refused, for example because the lease is gone; or not answered until `until`.
    pub(super) async fn make(
        &self,
        members: &Members,
        until: Option<Instant>,
    ) -> Result<Claimed, AskError> {
        members
            .ask(Some(EACH), until, async |channel| self.attempt(channel).await.map(Response::new))
            .await
    }

    async fn attempt(&self, channel: Channel) -> Result<Claimed, Status> {
        let mut kv = KvClient::new(channel);
        let lease = *self.leases.last().expect("it is made under a lease");
        let key = |standing| self.directory.key(self.name, self.addr, standing);
        let other = match self.standing {
            Standing::Healthy => Standing::Withdrawn,
            Standing::Withdrawn => Standing::Healthy,
        };
        let (here, there) = (key(self.standing), key(other));
        let [found_here, found_there] = both(&mut kv, &here, &there).await?;
        let is_ours = |found: &Option<KeyValue>| {
            found.as_ref().is_none_or(|kv| self.leases.contains(&kv.lease))
        };
        if self.taking == Taking::OwnOnly && !(is_ours(&found_here) && is_ours(&found_there)) {
            return Ok(Claimed::Replaced);
        }
        let is_right = |kv: &KeyValue| kv.lease == lease && kv.value == self.value;
        if found_there.is_none() && found_here.as_ref().is_some_and(is_right) {
            return Ok(Claimed::AsItWas);
        }
        let put = Op::RequestPut(PutRequest {
            key: here.clone().into(),
            value: self.value.clone().into(),
            lease,
            ..PutRequest::default()
        });
        let delete = Op::RequestDeleteRange(DeleteRangeRequest {
            key: there.clone().into(),
            ..DeleteRangeRequest::default()
        });
        let txn = TxnRequest {
            compare: vec![unchanged(here, &found_here), unchanged(there, &found_there)],
            success: [put, delete].map(op).into(),
            failure: Vec::new(),
        };
        match kv.txn(txn).await?.into_inner().succeeded {
            true => Ok(Claimed::Written),
            // Read again, and judged again.
            false => Err(Status::aborted("it was changed meanwhile")),
        }
    }
}

fn op(request: Op) -> RequestOp {
    RequestOp { request: Some(request) }
}

async fn both(
    kv: &mut KvClient<Channel>,
    here: &str,
    there: &str,
) -> Result<[Option<KeyValue>; 2], Status> {
    let range = |key: &str| {
        Op::RequestRange(RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() })
    };
    let success = [range(here), range(there)].map(op).into();
    let answer = kv.txn(TxnRequest { success, ..TxnRequest::default() }).await?.into_inner();
    let mut found = answer.responses.into_iter().map(|response| match response.response {
        Some(Answer::ResponseRange(range)) => range.kvs.into_iter().next(),
        _ => None,
    });
    Ok([found.next().flatten(), found.next().flatten()])
}

/// True if the key still is as it was found.
fn unchanged(key: String, found: &Option<KeyValue>) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Mod.into(),
        key: key.into(),
        target_union: Some(TargetUnion::ModRevision(
            found.as_ref().map_or(0, |kv| kv.mod_revision),
        )),
        ..Compare::default()
    }
}
