//! Whom to ask: the endpoints given, or also the members that one of them knows.

use crate::client;
use crate::client::Channel;
use quorate_server::proto::etcdserverpb::MemberListRequest;
use quorate_server::proto::etcdserverpb::cluster_client::ClusterClient;
use quorate_server::url::Url;
use std::collections::BTreeMap;
use std::time::Duration;

/// Who is asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Scope {
    /// The endpoints given.
    Given,
    /// Also the members they know of.
    WithNeighbours,
}

/// Names by id, from the first endpoint that answers; adds the members that it knows to
/// `endpoints` if they are to be asked.
pub(crate) async fn find(
    endpoints: &mut Vec<Url>,
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
                endpoints.push(url);
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
    fn localhost_is_one_place() {
        let url = |text: &str| text.parse::<Url>().expect(text);
        assert!(same(&url("http://localhost:1"), &url("http://127.0.0.1:1")));
        assert!(!same(&url("http://localhost:1"), &url("http://127.0.0.1:2")));
        assert!(!same(&url("http://a:1"), &url("http://b:1")));
    }
}
