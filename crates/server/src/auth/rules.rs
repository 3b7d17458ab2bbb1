//! What each method of the client port needs, in one table.
//!
//! A method that is not in it needs root, and a test holds the table against the definitions of the
//! services, so that a method which is added later is either ruled or refused.

/// What a method needs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// Nothing; a token that it carries is not looked at.
    Open,
    /// To be a user.
    User,
    /// The role root.
    Root,
    /// What its content says: the service asks for it.
    Content,
}

/// In the order in which they are called most.
const RULES: &[(&str, Rule)] = &[
    ("/etcdserverpb.KV/Range", Rule::Content),
    ("/etcdserverpb.KV/Put", Rule::Content),
    ("/etcdserverpb.KV/Txn", Rule::Content),
    ("/etcdserverpb.KV/DeleteRange", Rule::Content),
    ("/etcdserverpb.KV/RangeStream", Rule::Content),
    ("/etcdserverpb.KV/Compact", Rule::Root),
    ("/etcdserverpb.Watch/Watch", Rule::Content),
    ("/etcdserverpb.Lease/LeaseKeepAlive", Rule::User),
    ("/etcdserverpb.Lease/LeaseGrant", Rule::User),
    ("/etcdserverpb.Lease/LeaseRevoke", Rule::Content),
    ("/etcdserverpb.Lease/LeaseTimeToLive", Rule::User),
    ("/etcdserverpb.Lease/LeaseLeases", Rule::User),
    ("/etcdserverpb.Auth/Authenticate", Rule::Open),
    ("/etcdserverpb.Auth/AuthStatus", Rule::Root),
    ("/etcdserverpb.Auth/AuthEnable", Rule::Root),
    ("/etcdserverpb.Auth/AuthDisable", Rule::Root),
    ("/etcdserverpb.Auth/UserAdd", Rule::Root),
    ("/etcdserverpb.Auth/UserGet", Rule::Content),
    ("/etcdserverpb.Auth/UserList", Rule::Root),
    ("/etcdserverpb.Auth/UserDelete", Rule::Root),
    ("/etcdserverpb.Auth/UserChangePassword", Rule::Root),
    ("/etcdserverpb.Auth/UserGrantRole", Rule::Root),
    ("/etcdserverpb.Auth/UserRevokeRole", Rule::Root),
    ("/etcdserverpb.Auth/RoleAdd", Rule::Root),
    ("/etcdserverpb.Auth/RoleGet", Rule::Content),
    ("/etcdserverpb.Auth/RoleList", Rule::Root),
    ("/etcdserverpb.Auth/RoleDelete", Rule::Root),
    ("/etcdserverpb.Auth/RoleGrantPermission", Rule::Root),
    ("/etcdserverpb.Auth/RoleRevokePermission", Rule::Root),
    // Whoever looks for a member that serves has no user yet; as in etcd.
    ("/etcdserverpb.Maintenance/Status", Rule::Open),
    ("/etcdserverpb.Maintenance/Alarm", Rule::Root),
    ("/etcdserverpb.Maintenance/Defragment", Rule::Root),
    ("/etcdserverpb.Maintenance/Hash", Rule::Root),
    ("/etcdserverpb.Maintenance/HashKV", Rule::Root),
    ("/etcdserverpb.Maintenance/Snapshot", Rule::Root),
    ("/etcdserverpb.Maintenance/MoveLeader", Rule::Root),
    ("/etcdserverpb.Maintenance/Downgrade", Rule::Root),
    // Every client asks for it to learn of further members.
    ("/etcdserverpb.Cluster/MemberList", Rule::User),
    ("/etcdserverpb.Cluster/MemberAdd", Rule::Root),
    ("/etcdserverpb.Cluster/MemberRemove", Rule::Root),
    ("/etcdserverpb.Cluster/MemberUpdate", Rule::Root),
    ("/etcdserverpb.Cluster/MemberPromote", Rule::Root),
    ("/quoratepb.Limits/LimitSet", Rule::Root),
    ("/quoratepb.Limits/LimitList", Rule::Root),
    ("/quoratepb.Limits/LimitRemove", Rule::Root),
    ("/grpc.health.v1.Health/Check", Rule::Open),
    ("/grpc.health.v1.Health/Watch", Rule::Open),
    // They write and read keys, as every client could without them.
    ("/v3lockpb.Lock/Lock", Rule::Content),
    ("/v3lockpb.Lock/Unlock", Rule::Content),
    ("/v3electionpb.Election/Campaign", Rule::Content),
    ("/v3electionpb.Election/Proclaim", Rule::Content),
    ("/v3electionpb.Election/Leader", Rule::Content),
    ("/v3electionpb.Election/Observe", Rule::Content),
    ("/v3electionpb.Election/Resign", Rule::Content),
];

/// What the method needs. None: nobody has said.
pub(crate) fn rule(path: &str) -> Option<Rule> {
    RULES.iter().find(|(known, _)| *known == path).map(|(_, rule)| *rule)
}

#[cfg(test)]
mod tests {
    use super::{RULES, Rule, rule};
    use std::collections::BTreeSet;

    /// `service X {` and `rpc Y(` of all definitions, with their packages.
    fn methods() -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
        let mut open = vec![root];
        while let Some(path) = open.pop() {
            if path.is_dir() {
                let entries = std::fs::read_dir(&path).expect("it is a directory");
                open.extend(entries.map(|entry| entry.expect("an entry").path()));
                continue;
            }
            let text = std::fs::read_to_string(&path).expect("a definition");
            let (mut package, mut service) = ("", "");
            for line in text.lines().map(str::trim) {
                let word = |rest: &'static str| line.strip_prefix(rest);
                if let Some(rest) = word("package ") {
                    package = rest.trim_end_matches(';');
                } else if let Some(rest) = word("service ") {
                    service = rest.trim_end_matches(['{', ' ']);
                } else if let Some(rest) = word("rpc ") {
                    let name = rest.split('(').next().expect("there is a first part");
                    found.insert(format!("/{package}.{service}/{name}"));
                }
            }
        }
        found
    }

    #[test]
    fn every_method_of_every_service_has_a_rule() {
        let defined = methods();
        assert!(defined.len() > 40, "the definitions were read: {defined:?}");
        for method in &defined {
            assert!(rule(method).is_some(), "{method} has no rule: add it to RULES");
        }
        for (path, _) in RULES {
            assert!(defined.contains(*path), "{path} has a rule and no definition");
        }
    }

    #[test]
    fn only_what_tells_nothing_is_open() {
        let open: Vec<&str> =
            RULES.iter().filter(|(_, rule)| *rule == Rule::Open).map(|(path, _)| *path).collect();
        assert_eq!(
            open,
            [
                "/etcdserverpb.Auth/Authenticate",
                "/etcdserverpb.Maintenance/Status",
                "/grpc.health.v1.Health/Check",
                "/grpc.health.v1.Health/Watch",
            ]
        );
    }
}
