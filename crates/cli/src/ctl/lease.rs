//! Leases: keys that vanish unless somebody keeps them alive.
//!
//! Ids are hexadecimal, as everywhere. Keeping alive asks three times in a lease's life, and over
//! a new call each time, so that a member that dies in between is not waited for.

use super::call::Effect;
use super::print::header_json;
use super::{Caller, CtlError};
use crate::output;
use clap::{Args, Subcommand};
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::{
    LeaseGrantRequest, LeaseKeepAliveRequest, LeaseLeasesRequest, LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
};
use serde_json::{Value, json};
use std::time::Duration;
use tonic::codegen::tokio_stream;
use tonic::{Response, Status};

const EXAMPLES: &str = "\
Examples:
  quorate ctl lease grant 60
  quorate ctl put service/a 10.0.0.1 --lease 694d77aa9e38260f
  quorate ctl lease keep-alive 694d77aa9e38260f
  quorate ctl lease timetolive 694d77aa9e38260f --keys
  quorate ctl lease revoke 694d77aa9e38260f
  quorate ctl lease list";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Lease {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Begin a lease
    Grant {
        /// Seconds to live, if nobody keeps it alive; the server may grant more
        ttl: i64,
        /// An id of your own [default: the server chooses]
        #[arg(long, value_name = "ID", default_value = "0", hide_default_value = true)]
        #[arg(value_parser = id)]
        id: i64,
    },
    /// End a lease and delete its keys
    Revoke {
        /// The lease
        #[arg(value_parser = id)]
        id: i64,
    },
    /// Keep a lease alive until Ctrl-C
    KeepAlive {
        /// The lease
        #[arg(value_parser = id)]
        id: i64,
        /// Once, and no more
        #[arg(long)]
        once: bool,
    },
    /// How long a lease lives yet
    Timetolive {
        /// The lease
        #[arg(value_parser = id)]
        id: i64,
        /// Also which keys hang on it
        #[arg(long)]
        keys: bool,
    },
    /// All leases
    List,
}

/// Reads the hexadecimal id of a lease.
pub(super) fn id(text: &str) -> Result<i64, String> {
    i64::from_str_radix(text, 16).map_err(|_| "the hexadecimal id of a lease is wanted".to_owned())
}

impl Lease {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        match self.command {
            Command::Grant { ttl, id } => caller.grant(ttl, id).await,
            Command::Revoke { id } => caller.revoke(id).await,
            Command::KeepAlive { id, once } => caller.keep_alive(id, once).await,
            Command::Timetolive { id, keys } => caller.time_to_live(id, keys).await,
            Command::List => caller.leases().await,
        }
    }
}

impl Caller {
    async fn grant(&self, ttl: i64, id: i64) -> Result<Value, CtlError> {
        let answer = self
            .call(Effect::Write, async |channel| {
                LeaseClient::new(channel).lease_grant(LeaseGrantRequest { ttl, id }).await
            })
            .await?;
        self.say(format_args!("lease {:x} granted with TTL({}s)", answer.id, answer.ttl));
        let header = header_json(answer.header.as_ref());
        Ok(json!({ "header": header, "id": hex(answer.id), "ttl": answer.ttl }))
    }

    async fn revoke(&self, id: i64) -> Result<Value, CtlError> {
        let answer = self
            .call(Effect::Write, async |channel| {
                let request = self.conditions.fenced(LeaseRevokeRequest { id });
                LeaseClient::new(channel).lease_revoke(request).await
            })
            .await?;
        self.say(format_args!("lease {id:x} revoked"));
        Ok(json!({ "header": header_json(answer.header.as_ref()), "id": hex(id) }))
    }

    async fn keep_alive(&self, id: i64, once: bool) -> Result<Value, CtlError> {
        loop {
            let answer = self
                .call(Effect::Read, async |channel| {
                    let question = tokio_stream::once(LeaseKeepAliveRequest { id });
                    let mut answers =
                        LeaseClient::new(channel).lease_keep_alive(question).await?.into_inner();
                    let first = answers.message().await?;
                    first.map(Response::new).ok_or_else(|| Status::unavailable("no answer"))
                })
                .await?;
            if answer.ttl <= 0 {
                return Err(CtlError::LeaseGone { id });
            }
            self.say(format_args!("lease {id:x} keepalived with TTL({})", answer.ttl));
            let header = header_json(answer.header.as_ref());
            let object = json!({ "header": header, "id": hex(id), "ttl": answer.ttl });
            if once {
                return Ok(object);
            }
            if self.json {
                output::line(object);
            }
            let third = Duration::from_secs(answer.ttl.unsigned_abs()) / 3;
            tokio::select! {
                _ = tokio::signal::ctrl_c() => return Ok(Value::Null),
                () = tokio::time::sleep(third) => {}
            }
        }
    }

    async fn time_to_live(&self, id: i64, keys: bool) -> Result<Value, CtlError> {
        let answer = self
            .call(Effect::Read, async |channel| {
                LeaseClient::new(channel)
                    .lease_time_to_live(LeaseTimeToLiveRequest { id, keys })
                    .await
            })
            .await?;
        if answer.ttl < 0 {
            return Err(CtlError::LeaseGone { id });
        }
        let attached: Vec<_> = answer.keys.iter().map(|key| String::from_utf8_lossy(key)).collect();
        let (granted, ttl) = (answer.granted_ttl, answer.ttl);
        let shown =
            if keys { format!(", attached keys([{}])", attached.join(" ")) } else { String::new() };
        self.say(format_args!(
            "lease {id:x} granted with TTL({granted}s), remaining({ttl}s){shown}"
        ));
        let header = header_json(answer.header.as_ref());
        let mut object =
            json!({ "header": header, "id": hex(id), "ttl": ttl, "granted_ttl": granted });
        if keys {
            object["keys"] = json!(attached);
        }
        Ok(object)
    }

    async fn leases(&self) -> Result<Value, CtlError> {
        let answer = self
            .call(Effect::Read, async |channel| {
                let lease = LeaseClient::new(channel);
                lease
                    .max_decoding_message_size(super::MESSAGE_BYTES_MAX)
                    .lease_leases(LeaseLeasesRequest {})
                    .await
            })
            .await?;
        let leases: Vec<String> = answer.leases.iter().map(|lease| hex(lease.id)).collect();
        self.say(format_args!("found {} leases", leases.len()));
        leases.iter().for_each(|lease| self.say(lease));
        Ok(json!({ "header": header_json(answer.header.as_ref()), "leases": leases }))
    }
}

fn hex(id: i64) -> String {
    format!("{id:x}")
}
