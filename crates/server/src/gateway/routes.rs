//! Which path is which method.
//!
//! The paths are etcd's. Those of 3.3 began with `/v3beta`; there are clients that try it first.

/// Where the gateway begins.
const PREFIXES: [&str; 2] = ["/v3/", "/v3beta/"];

const AUTH: &str = "etcdserverpb.Auth";
const CLUSTER: &str = "etcdserverpb.Cluster";
const ELECTION: &str = "v3electionpb.Election";
const KV: &str = "etcdserverpb.KV";
const LEASE: &str = "etcdserverpb.Lease";
const LIMITS: &str = "quoratepb.Limits";
const LOCK: &str = "v3lockpb.Lock";
const MAINTENANCE: &str = "etcdserverpb.Maintenance";
const WATCH: &str = "etcdserverpb.Watch";

/// Path below the prefix, service, method; in the order of the paths.
pub(super) const ROUTES: &[(&str, &str, &str)] = &[
    ("auth/authenticate", AUTH, "Authenticate"),
    ("auth/disable", AUTH, "AuthDisable"),
    ("auth/enable", AUTH, "AuthEnable"),
    ("auth/role/add", AUTH, "RoleAdd"),
    ("auth/role/delete", AUTH, "RoleDelete"),
    ("auth/role/get", AUTH, "RoleGet"),
    ("auth/role/grant", AUTH, "RoleGrantPermission"),
    ("auth/role/list", AUTH, "RoleList"),
    ("auth/role/revoke", AUTH, "RoleRevokePermission"),
    ("auth/status", AUTH, "AuthStatus"),
    ("auth/user/add", AUTH, "UserAdd"),
    ("auth/user/changepw", AUTH, "UserChangePassword"),
    ("auth/user/delete", AUTH, "UserDelete"),
    ("auth/user/get", AUTH, "UserGet"),
    ("auth/user/grant", AUTH, "UserGrantRole"),
    ("auth/user/list", AUTH, "UserList"),
    ("auth/user/revoke", AUTH, "UserRevokeRole"),
    ("cluster/member/add", CLUSTER, "MemberAdd"),
    ("cluster/member/list", CLUSTER, "MemberList"),
    ("cluster/member/promote", CLUSTER, "MemberPromote"),
    ("cluster/member/remove", CLUSTER, "MemberRemove"),
    ("cluster/member/update", CLUSTER, "MemberUpdate"),
    ("election/campaign", ELECTION, "Campaign"),
    ("election/leader", ELECTION, "Leader"),
    ("election/observe", ELECTION, "Observe"),
    ("election/proclaim", ELECTION, "Proclaim"),
    ("election/resign", ELECTION, "Resign"),
    ("kv/compaction", KV, "Compact"),
    ("kv/deleterange", KV, "DeleteRange"),
    ("kv/lease/leases", LEASE, "LeaseLeases"),
    ("kv/lease/revoke", LEASE, "LeaseRevoke"),
    ("kv/lease/timetolive", LEASE, "LeaseTimeToLive"),
    ("kv/put", KV, "Put"),
    ("kv/range", KV, "Range"),
    ("kv/txn", KV, "Txn"),
    ("lease/grant", LEASE, "LeaseGrant"),
    ("lease/keepalive", LEASE, "LeaseKeepAlive"),
    ("lease/leases", LEASE, "LeaseLeases"),
    ("lease/revoke", LEASE, "LeaseRevoke"),
    ("lease/timetolive", LEASE, "LeaseTimeToLive"),
    ("limit/list", LIMITS, "LimitList"),
    ("limit/remove", LIMITS, "LimitRemove"),
    ("limit/set", LIMITS, "LimitSet"),
    ("lock/lock", LOCK, "Lock"),
    ("lock/unlock", LOCK, "Unlock"),
    ("maintenance/alarm", MAINTENANCE, "Alarm"),
    ("maintenance/defragment", MAINTENANCE, "Defragment"),
    ("maintenance/downgrade", MAINTENANCE, "Downgrade"),
    ("maintenance/hash", MAINTENANCE, "HashKV"),
    ("maintenance/snapshot", MAINTENANCE, "Snapshot"),
    ("maintenance/status", MAINTENANCE, "Status"),
    ("maintenance/transfer-leadership", MAINTENANCE, "MoveLeader"),
    ("watch", WATCH, "Watch"),
];

/// Whether a path is of the gateway, known or not.
pub(super) fn is_below(path: &str) -> bool {
    PREFIXES.iter().any(|prefix| path.starts_with(prefix))
}

/// Service and method of a path.
pub(super) fn method(path: &str) -> Option<(&'static str, &'static str)> {
    let path = PREFIXES.iter().find_map(|prefix| path.strip_prefix(prefix))?;
    let found = ROUTES.binary_search_by(|(known, ..)| (*known).cmp(path)).ok()?;
    let (_, service, method) = ROUTES[found];
    Some((service, method))
}
