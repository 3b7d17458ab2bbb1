//! Standing in line for a lock or for leadership, and noticing when it is lost.

use super::members::{AskError, Members, wanting_leader};
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use quorate_server::proto::etcdserverpb::{RangeRequest, WatchCreateRequest, WatchRequest};
use quorate_server::proto::mvccpb::event::EventType;
use quorate_server::proto::v3electionpb::CampaignRequest;
use quorate_server::proto::v3electionpb::election_client::ElectionClient;
use quorate_server::proto::v3lockpb::LockRequest;
use quorate_server::proto::v3lockpb::lock_client::LockClient;
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;
use tonic::codegen::tokio_stream::StreamExt as _;
use tonic::codegen::{Bytes, tokio_stream};
use tonic::{Response, Status};

/// A patience of 0 asks whether it is free: so long may the answer take.
pub(super) const LEAST_PATIENCE: Duration = Duration::from_millis(500);

/// How long one look at the key may take.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// What is wanted.
#[derive(Clone, Debug)]
pub(super) enum Want {
    /// The lock of this name.
    Lock { name: String },
    /// To lead, and to show this value.
    Lead { name: String, value: String },
}

impl Want {
    fn name(&self) -> &str {
        match self {
            Want::Lock { name } | Want::Lead { name, .. } => name,
        }
    }
}

/// A key that is first in its line.
#[derive(Clone, Debug)]
pub(super) struct Hold {
    key: Bytes,
    /// Its create revision.
    token: i64,
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", String::from_utf8_lossy(&self.key), self.token)
    }
}

impl Hold {
    /// Waits until it is our turn.
    pub(super) async fn stand_in_line(
        members: &Members,
        want: &Want,
        lease: i64,
    ) -> Result<Hold, AskError> {
        let key = members
            .ask(None, None, async |channel| match want.clone() {
                Want::Lock { name } => {
                    let request = wanting_leader(LockRequest { name: name.into(), lease });
                    let answer = LockClient::new(channel).lock(request).await?;
                    Ok(answer.map(|locked| (locked.key, 0)))
                }
                Want::Lead { name, value } => {
                    let (name, value) = (name.into(), value.into());
                    let request = wanting_leader(CampaignRequest { name, lease, value });
                    let answer = ElectionClient::new(channel).campaign(request).await?;
                    let leader = answer.into_inner().leader.unwrap_or_default();
                    Ok(Response::new((leader.key, leader.rev)))
                }
            })
            .await?;
        let (key, token) = match key {
            // The answer to a lock does not tell when the key was created.
            (key, 0) => (key.clone(), created(members, &key).await?),
            known => known,
        };
        Ok(Hold { key, token })
    }

    /// What the command finds in its environment.
    pub(super) fn environment(&self, want: &Want) -> Vec<(&'static str, String)> {
        let key = String::from_utf8_lossy(&self.key).into_owned();
        let token = self.token.to_string();
        vec![
            ("QUORATE_LOCK_NAME", want.name().to_owned()),
            ("QUORATE_LOCK_KEY", key.clone()),
            ("QUORATE_FENCING_TOKEN", token.clone()),
            ("QUORATE_FENCE", format!("{key}={token}")),
            ("ETCD_LOCK_KEY", key),
            ("ETCD_LOCK_REV", token),
        ]
    }

    /// For programs.
    pub(super) fn json(&self, lease: i64) -> Value {
        let key = String::from_utf8_lossy(&self.key);
        json!({ "event": "held", "key": key, "token": self.token, "lease": format!("{lease:x}") })
    }

    /// Waits until the key is not ours any more; says why.
    pub(super) async fn watch(&self, members: &Members) -> String {
        let looking = members.ask(None, None, async |channel| {
            let mut kv = KvClient::new(channel.clone());
            let range = RangeRequest { key: self.key.clone(), ..RangeRequest::default() };
            let found = tokio::time::timeout(LOOK_WITHIN, kv.range(range)).await;
            let found = found
                .unwrap_or_else(|_| Err(Status::deadline_exceeded("no answer in time")))?
                .into_inner();
            if found.kvs.first().is_none_or(|kv| kv.create_revision != self.token) {
                return Ok(Response::new("the key is gone"));
            }
            let create = WatchCreateRequest {
                key: self.key.clone(),
                start_revision: found.header.map_or(0, |header| header.revision + 1),
                ..WatchCreateRequest::default()
            };
            let request_union = Some(RequestUnion::CreateRequest(create));
            // The stream stays open behind the one request.
            let requests =
                tokio_stream::once(WatchRequest { request_union }).chain(tokio_stream::pending());
            let mut events =
                WatchClient::new(channel).watch(wanting_leader(requests)).await?.into_inner();
            while let Some(message) = events.message().await? {
                if message.canceled {
                    return Err(Status::unavailable(message.cancel_reason));
                }
                let deleted = |event: &quorate_server::proto::mvccpb::Event| {
                    event.r#type == i32::from(EventType::Delete)
                };
                if message.events.iter().any(deleted) {
                    return Ok(Response::new("the key was deleted"));
                }
            }
            Err(Status::unavailable("the watch ended"))
        });
        match looking.await {
            Ok(why) => why.to_owned(),
            Err(why) => why.to_string(),
        }
    }
}

/// When a key of ours was created.
async fn created(members: &Members, key: &Bytes) -> Result<i64, AskError> {
    let found = members
        .ask(Some(LOOK_WITHIN), None, async |channel| {
            let range = RangeRequest { key: key.clone(), ..RangeRequest::default() };
            let found = KvClient::new(channel).range(range).await?.into_inner();
            let kv = found.kvs.first();
            // Gone already: the next look at the key says so.
            Ok(Response::new(kv.map_or(0, |kv| kv.create_revision)))
        })
        .await?;
    Ok(found)
}
