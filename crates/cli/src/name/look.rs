//! Reads the instances of a name, all at one revision.

use super::{Failure, Flags};
use crate::client::Channel;
use crate::lock::members::{AskError, FIRST_CONTACT, Members};
use quorate_server::naming::{Directory, Record, Standing, range_end};
use quorate_server::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::request_op::Request as Op;
use quorate_server::proto::etcdserverpb::response_op::Response as Answer;
use quorate_server::proto::etcdserverpb::{
    LeaseTimeToLiveRequest, MemberListRequest, RangeRequest, RequestOp, TxnRequest,
};
use quorate_server::proto::mvccpb::KeyValue;
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::Instant;
use tonic::{Response, Status};

/// Instances of a name that are read, of each standing; further ones are counted, and not shown.
pub(super) const INSTANCES_MAX: i64 = 10_000;

/// How long one attempt may take.
const EACH: Duration = Duration::from_secs(5);

/// One instance, as it was found.
#[derive(Clone, Debug)]
pub(super) struct Instance {
    /// The last part of its key; mostly its address.
    pub(super) key: String,
    pub(super) record: Record,
    pub(super) standing: Standing,
    pub(super) lease: i64,
    pub(super) mod_revision: i64,
    /// What its lease has left. Unit: seconds. None if it has none, or it was not asked for.
    pub(super) ttl_left: Option<i64>,
}

impl Instance {
    /// None if the value is not that of an instance, or the key is no one's.
    pub(super) fn of(directory: &Directory, kv: &KeyValue) -> Option<Instance> {
        let key = std::str::from_utf8(&kv.key).ok()?;
        let (_, standing, key) = directory.read(key)?;
        let record = Record::parse(&kv.value)?;
        let (key, lease, mod_revision) = (key.to_owned(), kv.lease, kv.mod_revision);
        Some(Instance { key, record, standing, lease, mod_revision, ttl_left: None })
    }

    /// Where it is, or what its key says.
    pub(super) fn addr(&self) -> &str {
        if self.record.addr.is_empty() { &self.key } else { &self.record.addr }
    }

    /// How long it has been there, by the clock of its registrar and ours.
    pub(super) fn age(&self) -> Option<Duration> {
        let since = self.record.terms().since;
        let since = (since > 0).then(|| UNIX_EPOCH + Duration::from_secs(since))?;
        Some(SystemTime::now().duration_since(since).unwrap_or_default())
    }
}

/// A name at one revision.
#[derive(Debug)]
pub(super) struct Listing {
    pub(super) revision: i64,
    /// Who answered: its name, or its id.
    pub(super) member: String,
    pub(super) instances: Vec<Instance>,
    /// Keys whose values are not those of instances.
    pub(super) unreadable: usize,
    /// Instances beyond [`INSTANCES_MAX`].
    pub(super) further: i64,
}

/// Reads a name, with what its leases have left.
pub(super) async fn look(flags: &Flags, name: &str) -> Result<Listing, Failure> {
    let (members, directory) = (flags.members()?, flags.directory());
    let until = Some(Instant::now() + FIRST_CONTACT);
    let listing = members.ask(Some(EACH), until, async |channel| {
        let mut listing = read(&directory, name, channel.clone()).await?;
        let leases: BTreeMap<i64, Option<i64>> =
            listing.instances.iter().map(|instance| (instance.lease, None)).collect();
        let mut left = BTreeMap::new();
        for lease in leases.into_keys().filter(|lease| *lease != 0) {
            let request = LeaseTimeToLiveRequest { id: lease, keys: false };
            let answer = LeaseClient::new(channel.clone()).lease_time_to_live(request).await?;
            left.insert(lease, answer.into_inner().ttl);
        }
        for instance in &mut listing.instances {
            instance.ttl_left = left.get(&instance.lease).copied();
        }
        listing.member = called(channel, &listing.member).await;
        Ok(Response::new(listing))
    });
    Ok(listing.await?)
}

/// Reads a name, for as long as it takes.
pub(super) async fn read_patiently(
    members: &Members,
    directory: &Directory,
    name: &str,
    until: Option<Instant>,
) -> Result<Listing, AskError> {
    members
        .ask(Some(EACH), until, async |channel| {
            read(directory, name, channel).await.map(Response::new)
        })
        .await
}

async fn read(directory: &Directory, name: &str, channel: Channel) -> Result<Listing, Status> {
    let range = |standing| {
        let prefix = directory.keys_of(name, standing);
        let range_end = range_end(&prefix).into();
        let key = prefix.into();
        let limit = INSTANCES_MAX;
        let range = RangeRequest { key, range_end, limit, ..RangeRequest::default() };
        RequestOp { request: Some(Op::RequestRange(range)) }
    };
    let success = vec![range(Standing::Healthy), range(Standing::Withdrawn)];
    let request = TxnRequest { success, ..TxnRequest::default() };
    let mut kv = KvClient::new(channel).max_decoding_message_size(usize::MAX);
    let answer = kv.txn(request).await?.into_inner();
    let header = answer.header.unwrap_or_default();
    let (mut instances, mut unreadable, mut further) = (Vec::new(), 0, 0);
    for response in answer.responses {
        let Some(Answer::ResponseRange(range)) = response.response else { continue };
        further += range.count.saturating_sub(range.kvs.len() as i64);
        for kv in &range.kvs {
            match Instance::of(directory, kv) {
                Some(instance) => instances.push(instance),
                None => unreadable += 1,
            }
        }
    }
    let (revision, member) = (header.revision, format!("{:x}", header.member_id));
    Ok(Listing { revision, member, instances, unreadable, further })
}

/// The name of the member of this id, if the members are told.
async fn called(channel: Channel, id: &str) -> String {
    let asked = ClusterClient::new(channel).member_list(MemberListRequest::default()).await;
    let members = asked.map(|answer| answer.into_inner().members).unwrap_or_default();
    let known = members.into_iter().find(|member| format!("{:x}", member.id) == id);
    known.map(|member| member.name).filter(|name| !name.is_empty()).unwrap_or_else(|| id.to_owned())
}
