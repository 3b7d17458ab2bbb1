//! Every change of a cluster, from a revision on.
//!
//! A response of a watch tells whole revisions; so what was taken in ends with one, and the next
//! feed goes on after it.

use super::source::MESSAGE_BYTES_MAX;
use super::{BackupError, Source};
use crate::client::{self, Channel};
use quorate_server::archive::{KeyValue, Revision};
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use quorate_server::proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use quorate_server::proto::mvccpb::Event;
use quorate_server::proto::mvccpb::event::EventType;
use std::fmt;
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status, Streaming};

/// Questions that may be on their way.
const ASKS_MAX: usize = 4;

/// A watch on everything.
pub(super) struct Feed {
    requests: mpsc::Sender<WatchRequest>,
    answers: Streaming<WatchResponse>,
}

/// What a feed tells.
#[derive(Debug)]
pub(super) struct News {
    /// Changes, in their order; whole revisions.
    pub(super) changes: Vec<KeyValue>,
    /// The revision of the cluster as it was sent.
    pub(super) revision: u64,
}

/// Why a feed has ended.
#[derive(Debug)]
pub(super) enum FeedError {
    /// Changes that were asked for are compacted.
    Compacted {
        /// The oldest revision that is there.
        oldest: u64,
    },
    /// The connection, the member, or its leader is gone: another may do.
    Lost(String),
    /// It would be answered the same again.
    Refused(String),
}

impl fmt::Display for FeedError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FeedError::Compacted { oldest } => {
                write!(f, "changes before revision {oldest} are compacted")
            }
            FeedError::Lost(why) | FeedError::Refused(why) => f.write_str(why),
        }
    }
}

impl From<Status> for FeedError {
    fn from(status: Status) -> FeedError {
        use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented};
        let message = client::reason(&status);
        match status.code() {
            InvalidArgument | PermissionDenied | Unimplemented => FeedError::Refused(message),
            // A token ends, and logging in anew helps.
            Unauthenticated if !message.contains("token") => FeedError::Refused(message),
            _ => FeedError::Lost(message),
        }
    }
}

impl From<BackupError> for FeedError {
    fn from(error: BackupError) -> FeedError {
        match error {
            BackupError::Unreachable { .. } => FeedError::Lost(error.to_string()),
            other => FeedError::Refused(other.to_string()),
        }
    }
}

impl Feed {
    /// Everything from revision `from` on, over this connection.
    pub(super) async fn open(
        channel: Channel,
        source: &Source<'_>,
        from: u64,
    ) -> Result<Feed, FeedError> {
        let (requests, stream) = mpsc::channel(ASKS_MAX);
        let create = WatchCreateRequest {
            // Both together are all keys.
            key: vec![0].into(),
            range_end: vec![0].into(),
            start_revision: i64::try_from(from).unwrap_or(i64::MAX),
            progress_notify: true,
            ..WatchCreateRequest::default()
        };
        let create = WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) };
        requests.try_send(create).expect("room for one");
        let mut call = Request::new(ReceiverStream::new(stream));
        // A member without a leader would stay silent; this makes it end the stream.
        call.metadata_mut().insert("hasleader", "true".parse().expect("a word"));
        let mut client = WatchClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let answers = tokio::time::timeout(source.timeout, client.watch(call)).await;
        let answers = answers.map_err(|_| FeedError::Lost("no answer in time".to_owned()))?;
        Ok(Feed { requests, answers: answers?.into_inner() })
    }

    /// Asks for the revision of the cluster: it comes as [`News`].
    pub(super) fn ask_progress(&self) {
        let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
        // A stream that has ended is noticed by reading it.
        let _ = self.requests.try_send(WatchRequest { request_union: Some(ask) });
    }

    /// What comes next. May be dropped at any time without losing anything.
    pub(super) async fn next(&mut self) -> Result<News, FeedError> {
        let answer = self.answers.message().await?;
        let answer = answer.ok_or_else(|| FeedError::Lost("the watch has ended".to_owned()))?;
        if answer.compact_revision != 0 {
            return Err(FeedError::Compacted { oldest: answer.compact_revision.max(0) as u64 });
        }
        if answer.canceled {
            let why = format!("the watch was canceled: {}", answer.cancel_reason);
            let is_lost = answer.cancel_reason.is_empty() || why.contains("no leader");
            return Err(if is_lost { FeedError::Lost(why) } else { FeedError::Refused(why) });
        }
        let revision = answer.header.as_ref().map_or(0, |header| header.revision.max(0) as u64);
        let changes = answer.events.into_iter().filter_map(change).collect();
        Ok(News { changes, revision })
    }
}

fn change(event: Event) -> Option<KeyValue> {
    let is_put = event.r#type() == EventType::Put;
    let pair = event.kv?;
    let number = |number: i64| Revision(number.max(0) as u64);
    let gone = KeyValue { mod_revision: number(pair.mod_revision), ..KeyValue::default() };
    Some(match is_put {
        false => KeyValue { key: pair.key, ..gone },
        true => KeyValue {
            key: pair.key,
            value: pair.value,
            create_revision: number(pair.create_revision),
            version: pair.version.max(1) as u64,
            lease: pair.lease,
            ..gone
        },
    })
}
