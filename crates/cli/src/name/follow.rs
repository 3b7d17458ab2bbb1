//! `quorate name watch`: who comes and who goes.
//!
//! What is known is a listing and the changes after it. When a stream breaks, or its place in the
//! history was compacted, the name is listed anew, and what is told is the difference to what is
//! known: so nothing is missed and nothing told twice, though a change that was undone meanwhile is
//! not told at all.

use super::look::{self, Instance, Listing};
use super::show::instance_json;
use super::{Failure, Flags, asked};
use crate::client::{self, Channel};
use crate::lock::members::{FIRST_CONTACT, wanting_leader};
use crate::output;
use clap::Args;
use quorate_server::naming::{Directory, Standing, range_end};
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use quorate_server::proto::etcdserverpb::{WatchCreateRequest, WatchRequest};
use quorate_server::proto::mvccpb::Event;
use quorate_server::proto::mvccpb::event::EventType;
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tonic::codegen::tokio_stream::{self, StreamExt as _};
use tonic::{Response, Status};

/// Pause before a name is listed anew.
const AGAIN_AFTER: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  quorate name watch web
  quorate name watch web --json | while read event; do ./reload; done

Prints 'up' for each instance that is healthy now, how many these are, and then a line for each
that comes ('up'), goes or is withdrawn ('down'), or says something else of itself ('changed').
Ends with Ctrl-C. A connection that breaks is replaced, and what changed meanwhile is told.";

/// The flags of `quorate name watch`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Watch {
    /// The name
    name: String,
    #[command(flatten)]
    pub(super) flags: Flags,
}

/// What is known of a name.
struct Known<'a> {
    name: &'a str,
    json: bool,
    directory: Directory,
    instances: RefCell<BTreeMap<String, Instance>>,
    /// Everything up to this revision was told.
    revision: Cell<i64>,
}

/// Follows the name until a member refuses to tell of it.
pub(super) fn run(options: &Watch) -> Result<u8, Failure> {
    let name = asked(&options.name)?;
    client::block_on(follow(&options.flags, &name)).map(|()| 0)
}

async fn follow(flags: &Flags, name: &str) -> Result<(), Failure> {
    let (members, directory) = (flags.members()?, flags.directory());
    let known = Known {
        name,
        json: flags.json,
        directory: directory.clone(),
        instances: RefCell::default(),
        revision: Cell::new(0),
    };
    // Somebody has to be there at first; after that we wait for as long as it takes.
    let mut until = Some(Instant::now() + FIRST_CONTACT);
    loop {
        let listing = look::read_patiently(&members, &directory, name, until).await?;
        let is_first = known.revision.get() == 0;
        known.relist(listing);
        if is_first {
            known.tell_listed();
        }
        until = None;
        members.ask(None, None, async |channel| known.stream(channel).await).await?;
        sleep(AGAIN_AFTER).await;
    }
}

impl Known<'_> {
    /// Tells what is different from what is known.
    fn relist(&self, listing: Listing) {
        let mut instances = self.instances.borrow_mut();
        let healthy = listing.instances.into_iter().filter(|it| it.standing == Standing::Healthy);
        let found: BTreeMap<String, Instance> =
            healthy.map(|instance| (instance.key.clone(), instance)).collect();
        for (key, instance) in instances.iter().filter(|(key, _)| !found.contains_key(*key)) {
            self.tell("down", key, instance, listing.revision);
        }
        for (key, instance) in &found {
            match instances.get(key) {
                None => self.tell("up", key, instance, listing.revision),
                Some(known) if known.record != instance.record => {
                    self.tell("changed", key, instance, listing.revision);
                }
                Some(_) => {}
            }
        }
        *instances = found;
        self.revision.set(listing.revision);
    }

    /// Follows one stream to its end.
    ///
    /// Errors: there was none.
    async fn stream(&self, channel: Channel) -> Result<Response<()>, Status> {
        let prefix = self.directory.keys_of(self.name, Standing::Healthy);
        let create = WatchCreateRequest {
            range_end: range_end(&prefix).into(),
            key: prefix.into(),
            start_revision: self.revision.get() + 1,
            ..WatchCreateRequest::default()
        };
        let request_union = Some(RequestUnion::CreateRequest(create));
        // The stream stays open behind the one request.
        let requests =
            tokio_stream::once(WatchRequest { request_union }).chain(tokio_stream::pending());
        let mut client = WatchClient::new(channel).max_decoding_message_size(usize::MAX);
        let mut stream = client.watch(wanting_leader(requests)).await?.into_inner();
        // However it ends, the name is listed anew.
        while let Ok(Some(message)) = stream.message().await {
            message.events.iter().for_each(|event| self.take(event));
            let revision = message.header.map_or(0, |header| header.revision);
            if !message.events.is_empty() {
                self.revision.set(self.revision.get().max(revision));
            }
            if message.canceled {
                break;
            }
        }
        Ok(Response::new(()))
    }

    fn take(&self, event: &Event) {
        let Some(kv) = &event.kv else { return };
        let key = std::str::from_utf8(&kv.key).ok().and_then(|key| self.directory.read(key));
        let Some((_, _, key)) = key else { return };
        let mut instances = self.instances.borrow_mut();
        let present = match event.r#type() {
            EventType::Put => Instance::of(&self.directory, kv),
            EventType::Delete => None,
        };
        match (instances.remove(key), present) {
            (None, None) => {}
            (Some(gone), None) => self.tell("down", key, &gone, kv.mod_revision),
            (known, Some(instance)) => {
                match known {
                    None => self.tell("up", key, &instance, kv.mod_revision),
                    Some(known) if known.record != instance.record => {
                        self.tell("changed", key, &instance, kv.mod_revision);
                    }
                    Some(_) => {}
                }
                instances.insert(key.to_owned(), instance);
            }
        }
    }

    fn tell(&self, event: &str, key: &str, instance: &Instance, revision: i64) {
        if self.json {
            let mut told = instance_json(instance);
            told["event"] = json!(event);
            told["name"] = json!(self.name);
            told["key"] = json!(key);
            told["healthy"] = json!(event != "down");
            told["revision"] = json!(revision);
            return output::line(told);
        }
        let terms = instance.record.terms();
        let (addr, weight, priority) = (instance.addr(), terms.weight, terms.priority);
        output::line(format_args!(
            "{event:<7}  {addr}  weight {weight}, priority {priority}, at revision {revision}"
        ));
    }

    fn tell_listed(&self) {
        let (healthy, revision) = (self.instances.borrow().len(), self.revision.get());
        match self.json {
            true => output::line(json!({
                "event": "listed", "name": self.name, "healthy": healthy, "revision": revision,
            })),
            false => {
                output::line(format_args!("listed   {healthy} healthy, at revision {revision}"))
            }
        }
    }
}
