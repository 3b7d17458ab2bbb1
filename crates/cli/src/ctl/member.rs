//! Who the members are, and changing them.
//!
//! A member is named by its id, as `member list` prints it, or by its name. What is printed has
//! etcdctl's form, down to the lines of `member add` that start the new member.

use super::call::{CallError, Effect};
use super::print::header_json;
use super::{Caller, CtlError};
use crate::neighbours::{self, Witnesses};
use clap::{Args, Subcommand};
use quorate_server::api::cluster::{REPLACES, WITNESS};
use quorate_server::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_server::proto::etcdserverpb::{
    Member as Told, MemberAddRequest, MemberAddResponse, MemberListRequest, MemberPromoteRequest,
    MemberRemoveRequest, MemberUpdateRequest, ResponseHeader,
};
use serde_json::{Value, json};
use tonic::metadata::AsciiMetadataValue;
use tonic::{Request, Response};

const EXAMPLES: &str = "\
Examples:
  quorate member list
  quorate member add m4 --peer-urls=http://10.0.0.4:2380
  quorate member add m5 --peer-urls=http://10.0.0.5:2380 --learner
  quorate member add w1 --peer-urls=http://10.0.0.7:2380 --witness
  quorate member promote m5
  quorate member replace m2 m6 http://10.0.0.6:2380
  quorate member remove m1

A new member is started with the settings that 'add' and 'replace' print, and an empty data
directory. It votes once it holds the log; a learner once it is promoted. 'replace' swaps the two in
one step when the new member is ready, and may be repeated if its outcome is unknown.
Exit status: 0 done, 1 refused or outcome unknown, 2 usage or no endpoint reachable.";

/// The commands about members.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Member {
    #[command(subcommand)]
    pub(super) command: MemberCommand,
}

#[derive(Debug, Subcommand)]
pub(super) enum MemberCommand {
    /// The members
    List {
        /// What the member asked knows, without consulting the others
        #[arg(long)]
        serializable: bool,
    },
    /// Give a new member its seat; prints how to start it
    Add {
        /// Its name
        name: String,
        /// Where its peers will reach it
        #[arg(long, value_name = "URL,..", value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
        /// It listens, until it is promoted
        #[arg(long)]
        learner: bool,
        /// It votes and keeps the log, and no data: a small machine will do
        #[arg(long, conflicts_with = "learner")]
        witness: bool,
    },
    /// Remove a member; it stops
    Remove {
        /// Its id or name
        member: String,
    },
    /// Tell where the peers of a member reach it now
    Update {
        /// Its id or name
        member: String,
        /// Where its peers reach it
        #[arg(long, value_name = "URL,..", value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
    },
    /// Let a learner vote
    Promote {
        /// Its id or name
        member: String,
    },
    /// Give the place of a member to a new one, in one step once that is ready
    Replace {
        /// Id or name of the one that leaves
        old: String,
        /// Name of the new one
        name: String,
        /// Where the peers of the new one will reach it
        #[arg(value_name = "PEER_URLS", value_delimiter = ',', required = true)]
        peer_urls: Vec<String>,
    },
}

impl Member {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        match &self.command {
            MemberCommand::List { serializable } => list(caller, !serializable).await,
            MemberCommand::Add { name, peer_urls, learner, witness } => {
                let request = || {
                    let (peer_ur_ls, is_learner) = (peer_urls.clone(), *learner);
                    let mut request = Request::new(MemberAddRequest { peer_ur_ls, is_learner });
                    if *witness {
                        let value = AsciiMetadataValue::from_static("true");
                        request.metadata_mut().insert(WITNESS, value);
                    }
                    request
                };
                let answer = add(caller, request).await?;
                let manner = match (*learner, *witness) {
                    (true, _) => " as learner ",
                    (_, true) => " as witness ",
                    _ => " ",
                };
                let verb = format!("added{manner}to");
                Ok(added(caller, &answer, (name, None), &verb))
            }
            MemberCommand::Replace { old, name, peer_urls } => {
                let old = caller.replaced(old, name).await?;
                let request = || {
                    let peer_ur_ls = peer_urls.clone();
                    let request = MemberAddRequest { peer_ur_ls, is_learner: false };
                    let mut request = Request::new(request);
                    let id = AsciiMetadataValue::try_from(format!("{old:x}"));
                    request.metadata_mut().insert(REPLACES, id.expect("digits are text"));
                    request
                };
                let answer = add(caller, request).await?;
                let verb = format!("takes the place of {old:x} in");
                Ok(added(caller, &answer, (name, Some(old)), &verb))
            }
            MemberCommand::Remove { member } => {
                let id = caller.member(member).await?;
                let answer = caller.call(Effect::Write, async |to| {
                    ClusterClient::new(to).member_remove(MemberRemoveRequest { id }).await
                });
                let answer = answer.await?;
                Ok(done(caller, id, "removed from", answer.header, &answer.members))
            }
            MemberCommand::Update { member, peer_urls } => {
                let id = caller.member(member).await?;
                let answer = caller.call(Effect::Write, async |to| {
                    let request = MemberUpdateRequest { id, peer_ur_ls: peer_urls.clone() };
                    ClusterClient::new(to).member_update(request).await
                });
                let answer = answer.await?;
                Ok(done(caller, id, "updated in", answer.header, &answer.members))
            }
            MemberCommand::Promote { member } => {
                let id = caller.member(member).await?;
                let answer = caller.call(Effect::Write, async |to| {
                    ClusterClient::new(to).member_promote(MemberPromoteRequest { id }).await
                });
                let answer = answer.await?;
                Ok(done(caller, id, "promoted in", answer.header, &answer.members))
            }
        }
    }
}

impl Caller {
    async fn members(&self, linearizable: bool) -> Result<(Value, Vec<Told>), CallError> {
        self.listed(linearizable).await.map(|(_, header, members)| (header, members))
    }

    /// The members, and which of them are witnesses.
    async fn listed(&self, linearizable: bool) -> Result<(Witnesses, Value, Vec<Told>), CallError> {
        let answer = self.call(Effect::Read, async |to| {
            let request = MemberListRequest { linearizable };
            let answer = ClusterClient::new(to).member_list(request).await?;
            let witnesses = neighbours::witnesses(answer.metadata());
            Ok(Response::new((witnesses, answer.into_inner())))
        });
        let (witnesses, answer) = answer.await?;
        Ok((witnesses, header_json(answer.header.as_ref()), answer.members))
    }

    /// The id of the member with this id or name.
    async fn member(&self, text: &str) -> Result<u64, CtlError> {
        let (_, members) = self.members(false).await?;
        let named: Vec<u64> =
            members.iter().filter(|told| told.name == text).map(|told| told.id).collect();
        match (named[..].first(), named.len(), u64::from_str_radix(text, 16)) {
            (Some(id), 1, _) => Ok(*id),
            (_, 0, Ok(id)) => Ok(id),
            (_, count, _) => Err(CtlError::Member { text: text.to_owned(), count }),
        }
    }

    /// The id of the member that is, or was, to be replaced. Asked again by its name, it may be
    /// gone; then the new one knows nothing of the old name, and the id is wanted.
    async fn replaced(&self, old: &str, name: &str) -> Result<u64, CtlError> {
        match self.member(old).await {
            Err(CtlError::Member { text, count: 0 }) => {
                let (_, members) = self.members(false).await?;
                match members.iter().any(|told| told.name == name) {
                    true => Err(CtlError::Replaced { old: text, name: name.to_owned() }),
                    false => Err(CtlError::Member { text, count: 0 }),
                }
            }
            other => other,
        }
    }
}

async fn add(
    caller: &Caller,
    request: impl Fn() -> Request<MemberAddRequest>,
) -> Result<MemberAddResponse, CallError> {
    caller.call(Effect::Write, async |to| ClusterClient::new(to).member_add(request()).await).await
}

async fn list(caller: &Caller, linearizable: bool) -> Result<Value, CtlError> {
    let (witnesses, header, members) = caller.listed(linearizable).await?;
    for told in &members {
        let witness = if witnesses.contains_key(&told.id) { ", witness" } else { "" };
        let started = if told.name.is_empty() { "unstarted" } else { "started" };
        caller.say(format_args!(
            "{:x}, {started}, {}, {}, {}, {}{witness}",
            told.id,
            told.name,
            told.peer_ur_ls.join(","),
            told.client_ur_ls.join(","),
            told.is_learner
        ));
    }
    let mut listed = members_json(&members);
    for (told, json) in members.iter().zip(listed.as_array_mut().into_iter().flatten()) {
        json["is_witness"] = witnesses.contains_key(&told.id).into();
    }
    Ok(json!({ "header": header, "members": listed }))
}

/// How the new member is to be started, as etcdctl prints it: under which name, beside whom; the
/// one whose place it takes is left out.
fn added(
    caller: &Caller,
    answer: &MemberAddResponse,
    (name, instead_of): (&str, Option<u64>),
    verb: &str,
) -> Value {
    let new = answer.member.clone().unwrap_or_default();
    let cluster = answer.header.as_ref().map_or(0, |header| header.cluster_id);
    let mut each = Vec::new();
    for told in answer.members.iter().filter(|told| Some(told.id) != instead_of) {
        let hex = format!("{:x}", told.id);
        let known = if told.name.is_empty() { &hex } else { &told.name };
        let known = if told.id == new.id { name } else { known };
        each.extend(told.peer_ur_ls.iter().map(|url| format!("{known}={url}")));
    }
    let (initial, urls) = (each.join(","), new.peer_ur_ls.join(","));
    let env = json!({
        "ETCD_NAME": name,
        "ETCD_INITIAL_CLUSTER": initial,
        "ETCD_INITIAL_ADVERTISE_PEER_URLS": urls,
        "ETCD_INITIAL_CLUSTER_STATE": "existing",
    });
    caller.say(format_args!("Member {:x} {verb} cluster {cluster:x}", new.id));
    caller.say(format_args!(
        "\nETCD_NAME=\"{name}\"\nETCD_INITIAL_CLUSTER=\"{initial}\"\n\
         ETCD_INITIAL_ADVERTISE_PEER_URLS=\"{urls}\"\nETCD_INITIAL_CLUSTER_STATE=\"existing\""
    ));
    let header = header_json(answer.header.as_ref());
    let (member, members) = (member_json(&new), members_json(&answer.members));
    json!({ "header": header, "member": member, "members": members, "env": env })
}

fn done(
    caller: &Caller,
    id: u64,
    verb: &str,
    header: Option<ResponseHeader>,
    members: &[Told],
) -> Value {
    let cluster = header.as_ref().map_or(0, |header| header.cluster_id);
    caller.say(format_args!("Member {id:x} {verb} cluster {cluster:x}"));
    let header = header_json(header.as_ref());
    json!({ "header": header, "member_id": format!("{id:x}"), "members": members_json(members) })
}

fn members_json(members: &[Told]) -> Value {
    members.iter().map(member_json).collect()
}

fn member_json(told: &Told) -> Value {
    json!({
        "id": format!("{:x}", told.id),
        "name": told.name,
        "peer_urls": told.peer_ur_ls,
        "client_urls": told.client_ur_ls,
        "is_learner": told.is_learner,
    })
}
