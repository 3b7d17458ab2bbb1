//! Whom to ask: the endpoints given, or also the members that one of them knows.

use crate::client::{self, Endpoint};
use crate::output;
use clap::Args;
use quorate_server::proto::etcdserverpb::MemberListRequest;
use quorate_server::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_server::url::Url;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::transport::Channel;

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
    #[arg(long, value_name = "HOST:PORT,..")]
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
}

impl Whom {
    /// Where to begin. None, with a line that says why, if what was given names nobody.
    pub(crate) fn endpoints(&self) -> Option<Vec<Endpoint>> {
        let given = self.endpoints.as_deref().unwrap_or(client::ENDPOINTS_DEFAULT);
        client::parse_endpoints(given, &self.security)
            .map_err(|error| output::complain(format_args!("--endpoints: {error}")))
            .ok()
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

/// Names by id, from the first endpoint that answers; adds the members that it knows to
/// `endpoints` if they are to be asked.
pub(crate) async fn find(
    endpoints: &mut Vec<Endpoint>,
    scope: Scope,
    timeout: Duration,
) -> BTreeMap<u64, String> {
    let mut names = BTreeMap::new();
    for endpoint in endpoints.clone() {
        let Some(members) = members(&client::channel(&endpoint), timeout).await else { continue };
        for (id, name, url) in members {
            names.insert(id, name);
            let Some(url) = url else { continue };
            if scope == Scope::WithNeighbours && !endpoints.iter().any(|known| same(known, &url)) {
                endpoints.push(endpoint.beside(url));
            }
        }
        break;
    }
    names
}

/// The members that one of them knows: id, name, first client address.
async fn members(channel: &Channel, timeout: Duration) -> Option<Vec<(u64, String, Option<Url>)>> {
    let mut cluster = ClusterClient::new(channel.clone());
    let answer = cluster.member_list(MemberListRequest::default());
    let answer = tokio::time::timeout(timeout, answer).await.ok()?.ok()?.into_inner();
    let member = |member: quorate_server::proto::etcdserverpb::Member| {
        let url = member.client_ur_ls.first().and_then(|url| url.parse().ok());
        (member.id, member.name, url)
    };
    Some(answer.members.into_iter().map(member).collect())
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
