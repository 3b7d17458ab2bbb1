//! Following changes until somebody has seen enough.
//!
//! A watch outlives its connection: when a stream breaks it is begun again, at the next endpoint,
//! from the revision after the last one that was printed, so that no event is left out or printed
//! twice. It ends when no endpoint answers for as long as an answer is waited for, or when the
//! server says that the history is gone, and then says from where it may be begun again.
//!
//! A watch of quiet keys would be left behind by compactions without noticing, until its stream
//! breaks. So it asks every few seconds how far it is, whether that is printed or not. It goes on
//! from the answer before the last one: older versions of etcd may answer before an event that they
//! have not sent yet.

use super::call::CallError;
use super::keys::{KeyFlags, KeyRange};
use super::print::{self, Show};
use super::{Caller, CtlError};
use crate::client::{self, Endpoint};
use crate::output;
use clap::Args;
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use quorate_server::proto::etcdserverpb::{
    WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
};
use quorate_server::proto::mvccpb::Event;
use quorate_server::proto::mvccpb::event::EventType;
use serde_json::json;
use std::ops::ControlFlow;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Status};

/// Pause before an endpoint is tried again.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

/// Time between two questions how far the watch is.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

const EXAMPLES: &str = "\
Examples:
  quorate ctl watch config/ --prefix
  quorate ctl watch config/a --rev 42 --prev-kv
  quorate ctl watch job/ --prefix --count 1 --json
  quorate ctl watch '' --prefix --progress

Prints each event as PUT or DELETE, the key, and the value. Ends with Ctrl-C, or after --count
events. A connection that breaks is replaced; no event is left out or printed twice. If the history
from there on is compacted before a member answers, the watch ends and says so.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Watch {
    /// The key
    key: String,
    #[command(flatten)]
    keys: KeyFlags,
    /// Begin with the events of this revision [default: with what happens from now on]
    #[arg(long, value_name = "REVISION")]
    #[arg(value_parser = clap::value_parser!(i64).range(1..))]
    rev: Option<i64>,
    /// Also print what was there before
    #[arg(long)]
    prev_kv: bool,
    /// Also print how far the watch is, every few seconds
    #[arg(long)]
    progress: bool,
    /// End after so many events
    #[arg(long, value_name = "N")]
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
}

/// How far a watch is.
struct Following<'a> {
    watch: &'a Watch,
    caller: &'a Caller,
    /// The revision to go on from; 0 is "from now on".
    next: i64,
    /// The revision of the last answer about progress on this stream; 0 if there was none.
    progress: i64,
    printed: u64,
    was_created: bool,
}

impl Watch {
    /// Watches.
    pub(super) async fn run(&self, caller: &Caller) -> Result<(), CtlError> {
        let next = self.rev.unwrap_or(0);
        let mut following =
            Following { watch: self, caller, next, progress: 0, printed: 0, was_created: false };
        tokio::select! {
            _ = tokio::signal::ctrl_c() => Ok(()),
            outcome = following.on_any_endpoint() => outcome,
        }
    }
}

impl Following<'_> {
    async fn on_any_endpoint(&mut self) -> Result<(), CtlError> {
        let mut silent_since = Instant::now();
        loop {
            let mut tried = Vec::new();
            for endpoint in &self.caller.endpoints {
                let mut is_created = false;
                let reason = match self.on(endpoint, &mut is_created).await {
                    Ok(ControlFlow::Break(())) => return Ok(()),
                    Ok(ControlFlow::Continue(())) => "the stream has ended".to_owned(),
                    Err(Broken::Refused(message)) => {
                        let endpoint = endpoint.authority();
                        return Err(CallError::Refused { endpoint, message }.into());
                    }
                    Err(Broken::Lost(reason)) => reason,
                };
                if is_created {
                    self.was_created = true;
                    silent_since = Instant::now();
                    let (at, next) = (endpoint.authority(), self.next);
                    output::complain(format_args!("{at}: {reason}; going on from revision {next}"));
                }
                tried.push((endpoint.authority(), reason));
            }
            // A watch that never was has nothing to go on from.
            if !self.was_created || silent_since.elapsed() >= self.caller.timeout {
                return Err(CallError::Unreachable { tried }.into());
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    async fn on(
        &mut self,
        endpoint: &Endpoint,
        is_created: &mut bool,
    ) -> Result<ControlFlow<()>, Broken> {
        let channel = client::connect(endpoint).await;
        let mut channel = channel.map_err(|error| Broken::Lost(client::root_cause(&error)))?;
        if let Some(login) = &self.caller.login {
            login.enter(&mut channel).await.map_err(Broken::from)?;
        }
        self.progress = 0;
        let (requests, stream) = mpsc::channel(1);
        requests.try_send(self.create()).expect("room for one");
        let mut call = Request::new(ReceiverStream::new(stream));
        // A member without a leader would stay silent; this makes it end the stream.
        call.metadata_mut().insert("hasleader", "true".parse().expect("a word"));
        let mut client =
            WatchClient::new(channel).max_decoding_message_size(super::MESSAGE_BYTES_MAX);
        let answers = tokio::time::timeout(self.caller.timeout, client.watch(call)).await;
        let answers = answers.map_err(|_| Broken::Lost("no answer in time".to_owned()))?;
        let mut answers = answers.map_err(Broken::from)?.into_inner();
        loop {
            let answer = tokio::select! {
                answer = answers.message() => answer.map_err(Broken::from)?,
                () = tokio::time::sleep(PROGRESS_EVERY) => {
                    let ask = RequestUnion::ProgressRequest(WatchProgressRequest {});
                    // A stream that has ended is noticed by reading it.
                    let _ = requests.try_send(WatchRequest { request_union: Some(ask) });
                    continue;
                }
            };
            let Some(answer) = answer else { return Ok(ControlFlow::Continue(())) };
            *is_created |= answer.created && !answer.canceled;
            if self.take(&answer)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
    }

    fn create(&self) -> WatchRequest {
        let range = KeyRange::new(&self.watch.key, &self.watch.keys);
        let create = WatchCreateRequest {
            key: range.key.into(),
            range_end: range.range_end.into(),
            start_revision: self.next,
            progress_notify: self.watch.progress,
            prev_kv: self.watch.prev_kv,
            ..WatchCreateRequest::default()
        };
        WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    }

    fn take(&mut self, answer: &WatchResponse) -> Result<ControlFlow<()>, Broken> {
        if answer.compact_revision != 0 {
            let oldest = answer.compact_revision;
            return Err(Broken::Refused(format!(
                "the history from revision {} on is compacted; repeat with --rev {oldest} or later",
                self.next
            )));
        }
        if answer.canceled {
            let reason = &answer.cancel_reason;
            return Err(if reason.is_empty() || reason.contains("no leader") {
                Broken::Lost(format!("the watch was canceled: {reason}"))
            } else {
                Broken::Refused(format!("the watch was canceled: {reason}"))
            });
        }
        let revision = answer.header.as_ref().map_or(0, |header| header.revision);
        if answer.created && self.next == 0 {
            self.next = revision + 1;
        }
        let is_progress = answer.events.is_empty() && !answer.created;
        if is_progress {
            self.next = self.next.max(self.progress + 1);
            self.progress = revision;
            if self.watch.progress {
                self.say_progress(revision);
            }
        }
        for event in &answer.events {
            self.say(event);
            self.printed += 1;
            if self.watch.count == Some(self.printed) {
                return Ok(ControlFlow::Break(()));
            }
        }
        // A revision is told whole, so that the next one is what is missing.
        let last = answer.events.last().and_then(|event| event.kv.as_ref());
        self.next = last.map_or(self.next, |pair| self.next.max(pair.mod_revision + 1));
        Ok(ControlFlow::Continue(()))
    }

    fn say(&self, event: &Event) {
        let is_put = event.r#type() == EventType::Put;
        if self.caller.json {
            let kind = if is_put { "put" } else { "delete" };
            let kv = event.kv.as_ref().map(print::pair_json);
            let prev = event.prev_kv.as_ref().map(print::pair_json);
            return output::line(json!({ "type": kind, "kv": kv, "prev_kv": prev }));
        }
        output::line(if is_put { "PUT" } else { "DELETE" });
        for pair in event.prev_kv.iter().chain(&event.kv) {
            print::pair(pair, Show::Everything);
        }
    }

    fn say_progress(&self, revision: i64) {
        if self.caller.json {
            output::line(json!({ "type": "progress", "revision": revision }));
        } else {
            output::line(format_args!("progress notify: {revision}"));
        }
    }
}

/// Why a stream has ended.
enum Broken {
    /// Another endpoint may do better.
    Lost(String),
    /// None will.
    Refused(String),
}

impl From<Status> for Broken {
    fn from(status: Status) -> Broken {
        use tonic::Code::{InvalidArgument, PermissionDenied, Unauthenticated, Unimplemented};
        let message = status.message().to_owned();
        match status.code() {
            InvalidArgument | PermissionDenied | Unauthenticated | Unimplemented => {
                Broken::Refused(message)
            }
            _ => Broken::Lost(message),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_server::proto::etcdserverpb::ResponseHeader;
    use quorate_server::proto::mvccpb::KeyValue;

    #[test]
    fn a_quiet_watch_goes_on_from_the_progress_before_the_last() {
        let keys = KeyFlags { prefix: false, from_key: false, range_end: None };
        let (key, rev, prev_kv, progress, count) = ("k".to_owned(), None, false, false, None);
        let watch = Watch { key, keys, rev, prev_kv, progress, count };
        let caller = Caller {
            endpoints: Vec::new(),
            timeout: PROGRESS_EVERY,
            login: None,
            conditions: Default::default(),
            json: true,
            budget: Default::default(),
        };
        let (watch, caller) = (&watch, &caller);
        let mut following =
            Following { watch, caller, next: 0, progress: 0, printed: 0, was_created: false };
        let mut hear = |revision, answer| {
            let header = Some(ResponseHeader { revision, ..ResponseHeader::default() });
            let taken = following.take(&WatchResponse { header, ..answer });
            assert!(taken.is_ok_and(|flow| flow.is_continue()));
            following.next
        };
        let quiet = WatchResponse::default;
        assert_eq!(hear(5, WatchResponse { created: true, ..quiet() }), 6);
        assert_eq!(hear(9, quiet()), 6, "an event up to 9 may still be on its way");
        let kv = Some(KeyValue { mod_revision: 8, ..KeyValue::default() });
        let events = vec![Event { kv, ..Event::default() }];
        assert_eq!(hear(9, WatchResponse { events, ..quiet() }), 9);
        assert_eq!(hear(30, quiet()), 10);
        assert_eq!(hear(31, quiet()), 31);
    }
}
