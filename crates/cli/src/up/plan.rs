//! Which members a local cluster has, where they listen and how they are started.
//!
//! ```text
//! member       n1      n2      n3            n_i
//! client       P       P+10    P+20          P + 10 (i-1)
//! peer         P+1     P+11    P+21          P + 10 (i-1) + 1
//! ```

use super::security::Security;
use serde::{Deserialize, Serialize};
use std::path::Path;

/// Members if none are asked for: the fewest that outlive the loss of one.
pub(super) const NODES_DEFAULT: u16 = 3;

/// Beyond this a larger cluster only gets slower; etcd advises at most seven.
pub(super) const NODES_MAX: u16 = 9;

/// First client port if none is asked for.
pub(super) const PORT_BASE_DEFAULT: u16 = 2379;

/// Ports between two members.
const PORT_STRIDE: u16 = 10;

/// What defines a local cluster; kept in its directory.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Plan {
    /// Who wrote it, and in which version of this format.
    pub(super) format: String,
    /// Number of members.
    pub(super) nodes: u16,
    /// Client port of the first.
    pub(super) port_base: u16,
    /// Keeps members of different clusters apart.
    pub(super) token: String,
    /// Whether it is served over TLS.
    #[serde(default, skip_serializing_if = "Transport::is_plain")]
    pub(super) transport: Transport,
}

/// How bytes travel to and between members.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Transport {
    /// As they are.
    #[default]
    Plain,
    /// Over TLS, with certificates on both sides.
    Tls,
}

impl Transport {
    fn is_plain(&self) -> bool {
        *self == Transport::Plain
    }

    /// What URLs begin with.
    pub(super) fn scheme(self) -> &'static str {
        match self {
            Transport::Plain => "http",
            Transport::Tls => "https",
        }
    }
}

/// One member of a plan.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Member {
    /// `n1`, `n2` and so on.
    pub(super) name: String,
    /// Where clients connect.
    pub(super) client_port: u16,
    /// Where peers connect.
    pub(super) peer_port: u16,
}

impl Member {
    /// What a client dials.
    pub(super) fn endpoint(&self) -> String {
        format!("127.0.0.1:{}", self.client_port)
    }

    fn peer_url(&self, transport: Transport) -> String {
        format!("{}://127.0.0.1:{}", transport.scheme(), self.peer_port)
    }
}

impl Plan {
    /// The `format` that this version writes and reads.
    pub(super) const FORMAT: &'static str = "quorate up 1";

    /// True if every port exists.
    pub(super) fn fits(&self) -> bool {
        let last = u32::from(self.port_base)
            + u32::from(PORT_STRIDE) * u32::from(self.nodes.saturating_sub(1))
            + 1;
        self.port_base > 0 && last <= u32::from(u16::MAX)
    }

    /// The members in order.
    ///
    /// Panics: if the plan does not fit; it is checked when it is made or read.
    pub(super) fn members(&self) -> Vec<Member> {
        assert!(self.fits(), "a plan whose ports do not exist was let through");
        let member = |i: u16| Member {
            name: format!("n{}", i + 1),
            client_port: self.port_base + PORT_STRIDE * i,
            peer_port: self.port_base + PORT_STRIDE * i + 1,
        };
        (0..self.nodes).map(member).collect()
    }

    /// The flags that start a member; etcd's own, so that any etcd understands them.
    pub(super) fn flags(&self, member: &Member, directory: &Path) -> Vec<String> {
        let client = format!("{}://{}", self.transport.scheme(), member.endpoint());
        let peer = member.peer_url(self.transport);
        let cluster: Vec<String> = self
            .members()
            .iter()
            .map(|member| format!("{}={}", member.name, member.peer_url(self.transport)))
            .collect();
        let mut flags = vec![
            ("name", member.name.clone()),
            ("data-dir", directory.join(&member.name).display().to_string()),
            ("listen-client-urls", client.clone()),
            ("advertise-client-urls", client),
            ("listen-peer-urls", peer.clone()),
            ("initial-advertise-peer-urls", peer),
            ("initial-cluster", cluster.join(",")),
            ("initial-cluster-token", self.token.clone()),
            ("initial-cluster-state", "new".to_owned()),
        ];
        if self.transport == Transport::Tls {
            flags.extend(Security::of(directory).flags(&member.name));
        }
        flags.into_iter().map(|(name, value)| format!("--{name}={value}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(nodes: u16, port_base: u16) -> Plan {
        let transport = Transport::Plain;
        Plan { format: Plan::FORMAT.to_owned(), nodes, port_base, token: "t".to_owned(), transport }
    }

    #[test]
    fn ports_follow_the_drawing() {
        let members = plan(3, 2379).members();
        let ports: Vec<_> = members.iter().map(|m| (m.client_port, m.peer_port)).collect();
        assert_eq!(ports, [(2379, 2380), (2389, 2390), (2399, 2400)]);
        assert_eq!(members[2].name, "n3");
    }

    #[test]
    fn the_last_port_must_exist() {
        assert!(plan(1, 65_534).fits());
        assert!(!plan(1, 65_535).fits());
        assert!(plan(3, 65_514).fits());
        assert!(!plan(3, 65_515).fits());
        assert!(!plan(3, 0).fits());
    }

    #[test]
    fn a_member_understands_its_flags() {
        let plain = plan(3, 2379);
        let secured = Plan { transport: Transport::Tls, ..plan(3, 2379) };
        let ids = |plan: &Plan| -> Vec<u64> {
            let config = |member| understood(plan, member);
            plan.members().iter().map(|member| config(member).member_id()).collect()
        };
        assert_eq!(ids(&plain), ids(&secured), "TLS makes nobody another");
        assert!(!serde_json::to_string(&plain).expect("text").contains("transport"));
        for (plan, member) in [&plain, &secured]
            .iter()
            .flat_map(|plan| plan.members().into_iter().map(move |member| (plan, member)))
        {
            let config = understood(plan, &member);
            assert_eq!(config.verify_bootstrap(), Ok(()));
            assert_eq!(config.initial_cluster.len(), 3);
            assert_eq!(config.data_dir, Path::new("/d").join(&member.name));
        }
    }

    fn understood(plan: &Plan, member: &Member) -> quorate_server::Config {
        let flags = plan.flags(member, Path::new("/d"));
        let request = crate::serve::request(&flags, &Default::default(), |_| unreachable!());
        let Ok(crate::serve::Request::Serve { config, warnings }) = request else {
            panic!("{flags:?} is understood as {request:?}");
        };
        assert_eq!(warnings, [""; 0]);
        *config
    }
}
