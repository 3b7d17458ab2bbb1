//! Whom to ask: the endpoints given, or also the members that one of them knows.

use crate::client::{self, Channel, Endpoint};
use crate::login::{Login, LoginFlags};
use crate::output;
use clap::Args;
use quorate_server::api::cluster::WITNESSES;
use quorate_server::proto::etcdserverpb::MemberListRequest;
use quorate_server::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_server::url::Url;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::metadata::MetadataMap;

/// Who is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scope {
    /// The endpoints given.
    Given,
    /// Also the members they know of.
    WithNeighbours,
}

/// The flags of commands that ask every member for itself.
#[derive(Args, Debug)]
pub(crate) struct Whom {
    /// Whom to ask [default: 127.0.0.1:2379 and the members it knows]
    #[arg(long, value_name = "HOST:PORT,..", env = "ETCDCTL_ENDPOINTS", hide_env = true)]
    endpoints: Option<String>,
    #[command(flatten)]
    security: client::Security,
    /// Seconds to wait for each answer
    #[arg(long, value_name = "SECONDS", default_value_t = 2)]
    #[arg(value_parser = clap::value_parser!(u64).range(1..=3600))]
    timeout: u64,
    /// One JSON object instead of tables
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    login: LoginFlags,
}

impl Whom {
    /// Where to begin. None, with a line that says why, if what was given names nobody.
    pub(crate) fn endpoints(&self) -> Option<Vec<Endpoint>> {
        let given = self.endpoints.as_deref().unwrap_or(client::ENDPOINTS_DEFAULT);
        client::parse_endpoints(given, &self.security).map_err(|error| output::complain(error)).ok()
    }

    /// As whom: a cluster with users tells its members, and who leads them, to nobody else. `Err`,
    /// with a line that says why, if the password cannot be read.
    pub(crate) fn login(&self) -> Result<Option<Login>, Unread> {
        self.login.read().map_err(|error| {
            output::complain(error);
            Unread
        })
    }

    /// Who is asked: those who were named, or all.
    pub(crate) fn scope(&self) -> Scope {
        if self.endpoints.is_some() { Scope::Given } else { Scope::WithNeighbours }
    }

    /// For each answer.
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }
}

/// The flags do not say as whom to ask; what is wrong was told.
#[derive(Debug)]
pub(crate) struct Unread;

/// Names by id, from the first endpoint that answers `login`, or anybody; adds the members that it
/// knows to `endpoints` if they are to be asked.
pub(crate) async fn find(
    endpoints: &mut Vec<Endpoint>,
    login: Option<&Login>,
    scope: Scope,
    timeout: Duration,
) -> Known {
    let mut found = Known::default();
    for endpoint in endpoints.clone() {
        let mut channel = client::channel(&endpoint);
        if let Some(login) = login {
            // Refused, it asks as nobody, which is as good where everybody may know.
            let _ = login.enter_within(timeout, &mut channel).await;
        }
        let Some((members, witnesses)) = members(&channel, timeout).await else { continue };
        found.witnesses = witnesses;
        for (id, name, url) in members {
            found.names.insert(id, name);
            let Some(url) = url else { continue };
            if scope == Scope::WithNeighbours && !endpoints.iter().any(|known| same(known, &url)) {
                endpoints.push(endpoint.beside(url));
            }
        }
        break;
    }
    found
}

/// What a member told of the members.
#[derive(Debug, Default)]
pub(crate) struct Known {
    /// Their names, by id.
    pub(crate) names: BTreeMap<u64, String>,
    /// Those who keep no data.
    pub(crate) witnesses: Witnesses,
}

/// Members that keep no data, by id, and where each says what becomes of it.
pub(crate) type Witnesses = BTreeMap<u64, Option<Url>>;

/// The witnesses that the metadata of an answer names.
pub(crate) fn witnesses(metadata: &MetadataMap) -> Witnesses {
    let told = metadata.get(WITNESSES).and_then(|told| told.to_str().ok()).unwrap_or_default();
    let each = told.split(',').filter_map(|one| one.split_once('='));
    each.filter_map(|(id, url)| Some((u64::from_str_radix(id, 16).ok()?, url.parse().ok())))
        .collect()
}

/// A member as another one knows it: id, name, first client address.
type Neighbour = (u64, String, Option<Url>);

/// The members that one of them knows, and the witnesses among them.
async fn members(channel: &Channel, timeout: Duration) -> Option<(Vec<Neighbour>, Witnesses)> {
    let mut cluster = ClusterClient::new(channel.clone());
    let answer = cluster.member_list(MemberListRequest::default());
    let answer = tokio::time::timeout(timeout, answer).await.ok()?.ok()?;
    let witnesses = witnesses(answer.metadata());
    let answer = answer.into_inner();
    let member = |member: quorate_server::proto::etcdserverpb::Member| {
        let own = member.client_ur_ls.first().and_then(|url| url.parse().ok());
        let url = own.or_else(|| witnesses.get(&member.id).cloned().flatten());
        (member.id, member.name, url)
    };
    let members = answer.members.into_iter().map(member).collect();
    Some((members, witnesses))
}

/// What to tell who asked the members of several clusters as if they were of one. `found`: who,
/// and the cluster it says it belongs to; an empty one is not known.
pub(crate) fn mixed(found: &[(String, String)]) -> Option<String> {
    let mut clusters: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (member, cluster) in found.iter().filter(|(_, cluster)| !cluster.is_empty()) {
        clusters.entry(cluster).or_default().push(member);
    }
    if clusters.len() < 2 {
        return None;
    }
    let each = clusters.iter().map(|(id, members)| format!("{id}: {}", members.join(", ")));
    let each = each.collect::<Vec<_>>().join("; ");
    Some(format!("these are members of {} clusters; ask each by itself ({each})", clusters.len()))
}

/// The same place, though one is called `localhost`.
fn same(a: &Url, b: &Url) -> bool {
    let host = |url: &Url| {
        if url.host() == "localhost" { "127.0.0.1".into() } else { url.host().to_owned() }
    };
    a.port() == b.port() && host(a) == host(b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_of_several_clusters_are_told_apart() {
        let found = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(member, id)| ((*member).into(), (*id).into()));
            mixed(&pairs.collect::<Vec<(String, String)>>())
        };
        assert_eq!(found(&[]), None);
        assert_eq!(found(&[("a:1", "c1"), ("b:1", "c1"), ("old:1", "")]), None);
        let warning = "these are members of 2 clusters; ask each by itself (c1: a:1, c:1; f0: b:1)";
        let told = found(&[("a:1", "c1"), ("b:1", "f0"), ("c:1", "c1")]);
        assert_eq!(told.as_deref(), Some(warning));
    }

    #[test]
    fn localhost_is_one_place() {
        let url = |text: &str| text.parse::<Url>().expect(text);
        assert!(same(&url("http://localhost:1"), &url("http://127.0.0.1:1")));
        assert!(!same(&url("http://localhost:1"), &url("http://127.0.0.1:2")));
        assert!(!same(&url("http://a:1"), &url("http://b:1")));
    }
}
