//! Every flag of etcd 3.4, 3.5 and 3.6, and what quorate does with it.
//!
//! This table is the one place that knows: command line, environment, YAML file and `--help` all
//! read it, so a flag cannot be known to one and unknown to another. Nothing is silently ignored:
//! what quorate does not need is *accepted* with a warning that says why, and what would weaken
//! security or change the meaning of the data if ignored is refused until it is supported.
//!
//! Sources: `etcd --help` of 3.4.23; etcd `server/etcdmain/help.go` and `server/embed/config.go`
//! of 3.5 and 3.6.

use crate::serve::flag::Kind::{Bool, Count, Duration, Integer, List, Repeated, Text};
use crate::serve::flag::{Flag, Group};

const DISCOVERY: &str = "discovery is not supported yet; list the members in --initial-cluster";
const NO_V2: &str = "the v2 API is not served; etcd 3.6 removed it too";
const NO_BOLT: &str = "storage is not bbolt, so there is nothing to tune";
const COMPARE: &str = "comparing state after compactions is not configurable";
const LEASES: &str = "how leases outlive a leader is not configurable";
const PACED: &str = "compaction frees the store in slices of bounded work by itself";
const NO_DEFRAG: &str = "space is reused without defragmentation";
const NO_TRACES: &str = "distributed tracing is not supported yet";
const ROTATION: &str = "log rotation is not supported yet; let logrotate (copytruncate) do it";

/// All flags in the order of `--help`.
pub(crate) const GROUPS: &[Group] = &[
    Group { title: "Member", flags: MEMBER },
    Group { title: "Of quorate alone", flags: OWN },
    Group { title: "Clustering", flags: CLUSTERING },
    Group { title: "Security", flags: SECURITY },
    Group { title: "Auth", flags: AUTH },
    Group { title: "Naming", flags: NAMING },
    Group { title: "Profiling and Monitoring", flags: MONITORING },
    Group { title: "Logging", flags: LOGGING },
    Group { title: "Consistency checks and limits", flags: CHECKS },
    Group { title: "v2 proxy and v2 API (removed)", flags: V2 },
    Group { title: "Tracing", flags: TRACING },
    Group { title: "Unsafe", flags: UNSAFE },
    Group { title: "Experimental (names of etcd 3.4 and 3.5)", flags: EXPERIMENTAL },
];

/// All flags.
pub(crate) fn flags() -> impl Iterator<Item = &'static Flag> {
    GROUPS.iter().flat_map(|group| group.flags)
}

/// The flag of that name.
pub(crate) fn find(name: &str) -> Option<&'static Flag> {
    flags().find(|flag| flag.name == name)
}

const MEMBER: &[Flag] = &[
    Flag::used("name", Text, "default", "name of this member, unique in the cluster"),
    Flag::used("data-dir", Text, "${name}.etcd", "directory of everything the member remembers"),
    Flag::used("wal-dir", Text, "", "directory of the write-ahead log, if apart"),
    Flag::accepted("snapshot-count", Count, "10000", "checkpoints go by --checkpoint-bytes"),
    Flag::accepted("snapshot-catchup-entries", Count, "5000", "see --log-retain-bytes"),
    Flag::used("heartbeat-interval", Count, "50", "milliseconds between two heartbeats"),
    Flag::used("election-timeout", Count, "1000", "milliseconds of silence before an election"),
    Flag::used("initial-election-tick-advance", Bool, "true", "faster first election"),
    Flag::used("listen-peer-urls", List, "http://localhost:2380", "where to listen for peers"),
    Flag::used("listen-client-urls", List, "http://localhost:2379", "where to listen for clients"),
    Flag::later(
        "listen-client-http-urls",
        List,
        "",
        "gRPC and HTTP share one port here; use --listen-client-urls",
    ),
    Flag::accepted("max-snapshots", Count, "5", "old checkpoints are removed when a newer is safe"),
    Flag::accepted("max-wals", Count, "5", "log segments are removed when a checkpoint has them"),
    Flag::used(
        "quota-backend-bytes",
        Integer,
        "0",
        "bytes at which writes are refused (0: 2 GiB, negative: no limit)",
    ),
    Flag::accepted("backend-bbolt-freelist-type", Text, "map", NO_BOLT),
    Flag::accepted("backend-batch-interval", Duration, "", NO_BOLT),
    Flag::accepted("backend-batch-limit", Count, "0", NO_BOLT),
    Flag::used("max-txn-ops", Count, "128", "operations allowed in a transaction"),
    Flag::used("max-request-bytes", Count, "1572864", "largest client request in bytes"),
    Flag::used("max-concurrent-streams", Count, "16384", "streams per client connection"),
    Flag::used("grpc-keepalive-min-time", Duration, "5s", "clients that ping faster are cut off"),
    Flag::used("grpc-keepalive-interval", Duration, "2h", "server pings idle clients (0: never)"),
    Flag::used("grpc-keepalive-timeout", Duration, "20s", "wait for the answer (0: for ever)"),
    Flag::later("socket-reuse-port", Bool, "false", "two servers on one port are not supported")
        .yaml("socket-options.reuse-port"),
    Flag::accepted("socket-reuse-address", Bool, "false", "listeners always reuse addresses")
        .yaml("socket-options.reuse-address"),
    Flag::used("enable-grpc-gateway", Bool, "true", "serve the API as JSON below /v3/, too"),
    Flag::accepted("raft-read-timeout", Duration, "5s", "peer streams have their own deadlines"),
    Flag::accepted("raft-write-timeout", Duration, "5s", "peer streams have their own deadlines"),
    Flag::accepted("memory-mlock", Bool, "false", "no memory-mapped file has to stay in memory"),
    Flag::accepted(
        "wait-cluster-ready-timeout",
        Duration,
        "5s",
        "clients are served at once and wait for a leader themselves",
    ),
];

const OWN: &[Flag] = &[
    Flag::used(
        "election-timeout-min",
        Count,
        "0",
        "milliseconds of silence before an election when all goes well (0: five heartbeats)",
    ),
    Flag::used(
        "disk-sync-max",
        Duration,
        "0s",
        "a log that syncs slower breaks the assumption 'disk' (0s: the election timeout)",
    ),
    Flag::used(
        "loop-delay-max",
        Duration,
        "0s",
        "later turns break the assumption 'scheduling' (0s: half of election-timeout-min)",
    ),
    Flag::used(
        "lease-reads",
        Bool,
        "false",
        "answer reads without asking a quorum while voters promise and the clock runs well",
    ),
    Flag::used(
        "max-inflight-bytes",
        Count,
        "268435456",
        "bytes of client requests that one member holds; a quarter for one connection",
    ),
    Flag::used(
        "request-read-timeout",
        Duration,
        "30s",
        "a request that has not arrived after so long is refused",
    ),
    Flag::used(
        "overload-target",
        Duration,
        "500ms",
        "delay beyond which fewer requests are let in (0s: never)",
    ),
    Flag::used(
        "client-threads",
        Text,
        "auto",
        "threads that serve clients only; auto: half of the processors, none below four",
    ),
    Flag::used(
        "checkpoint-bytes",
        Count,
        "67108864",
        "bytes of log between two checkpoints, at least",
    ),
    Flag::used(
        "log-retain-bytes",
        Count,
        "67108864",
        "bytes of log kept in memory for slow followers",
    ),
    Flag::used(
        "scrub-interval",
        Duration,
        "24h",
        "pause between two looks at everything on disk; 0s: only when asked",
    ),
    Flag::used("scrub-rate", Count, "16777216", "bytes on disk read again in a second, at most"),
    Flag::used(
        "time-source",
        Repeated,
        "",
        "NTP servers that know the time, as ntp://HOST[:PORT]; may be repeated, up to 16",
    ),
    Flag::used(
        "clock-error-max",
        Duration,
        "20ms",
        "a time that may be wrong by more breaks the assumption 'clock-error', with time-source",
    ),
    Flag::used(
        "time-poll",
        Duration,
        "2s",
        "between two questions to a peer about the time (0: nobody is asked)",
    ),
];

const CLUSTERING: &[Flag] = &[
    Flag::used(
        "initial-advertise-peer-urls",
        List,
        "http://localhost:2380",
        "what peers are told to dial",
    ),
    Flag::used(
        "initial-cluster",
        List,
        "${name}=${initial-advertise-peer-urls}",
        "members of the first configuration: NAME=URL,NAME=URL",
    ),
    Flag::used("initial-cluster-state", Text, "new", "new: start a cluster; existing: join one"),
    Flag::used("initial-cluster-token", Text, "etcd-cluster", "tells clusters apart"),
    Flag::used(
        "advertise-client-urls",
        List,
        "http://localhost:2379",
        "what clients are told to dial",
    ),
    Flag::later("discovery", Text, "", DISCOVERY),
    Flag::later("discovery-token", Text, "", DISCOVERY),
    Flag::later("discovery-endpoints", List, "", DISCOVERY),
    Flag::later("discovery-srv", Text, "", DISCOVERY),
    Flag::later("discovery-srv-name", Text, "", DISCOVERY),
    Flag::later("discovery-proxy", Text, "", DISCOVERY),
    Flag::accepted("discovery-fallback", Text, "proxy", DISCOVERY),
    Flag::accepted("discovery-dial-timeout", Duration, "2s", DISCOVERY),
    Flag::accepted("discovery-request-timeout", Duration, "5s", DISCOVERY),
    Flag::accepted("discovery-keepalive-time", Duration, "2s", DISCOVERY),
    Flag::accepted("discovery-keepalive-timeout", Duration, "6s", DISCOVERY),
    Flag::later("discovery-insecure-transport", Bool, "true", DISCOVERY),
    Flag::accepted("discovery-insecure-skip-tls-verify", Bool, "false", DISCOVERY),
    Flag::later("discovery-cert", Text, "", DISCOVERY),
    Flag::later("discovery-key", Text, "", DISCOVERY),
    Flag::later("discovery-cacert", Text, "", DISCOVERY),
    Flag::later("discovery-user", Text, "", DISCOVERY),
    Flag::later("discovery-password", Text, "", DISCOVERY),
    Flag::used("strict-reconfig-check", Bool, "true", "refuse to lose quorum by a member change"),
    Flag::used("pre-vote", Bool, "true", "ask before disturbing a cluster with an election"),
    Flag::used(
        "auto-compaction-mode",
        Text,
        "periodic",
        "periodic: retention is a duration; revision: a number of revisions",
    ),
    Flag::used(
        "auto-compaction-retention",
        Text,
        "0",
        "how much history is kept: 5m, 12 (hours), 1000 (revisions); 0: all",
    ),
    Flag::used("max-learners", Count, "1", "learners allowed in the cluster"),
    Flag::used("auto-promote", Bool, "false", "make voters of learners that have caught up"),
];

const SECURITY: &[Flag] = &[
    Flag::used("cert-file", Text, "", "certificate that clients are shown")
        .yaml("client-transport-security.cert-file"),
    Flag::used("key-file", Text, "", "its key").yaml("client-transport-security.key-file"),
    Flag::used("client-cert-file", Text, "", "certificate for calls to clients' ports; checked")
        .yaml("client-transport-security.client-cert-file"),
    Flag::used("client-key-file", Text, "", "its key")
        .yaml("client-transport-security.client-key-file"),
    Flag::used("client-cert-auth", Bool, "false", "clients must show a certificate of the CA")
        .yaml("client-transport-security.client-cert-auth"),
    Flag::used("client-crl-file", Text, "", "certificates of clients that are no longer good"),
    Flag::used(
        "client-cert-allowed-hostname",
        List,
        "",
        "clients must show a certificate for one of these hosts",
    )
    .yaml("client-transport-security.allowed-hostname"),
    Flag::used("trusted-ca-file", Text, "", "CA of clients; if set, they must show a certificate")
        .yaml("client-transport-security.trusted-ca-file"),
    Flag::used("auto-tls", Bool, "false", "make a certificate for clients that signs itself")
        .yaml("client-transport-security.auto-tls"),
    Flag::used("peer-cert-file", Text, "", "certificate that peers are shown")
        .yaml("peer-transport-security.cert-file"),
    Flag::used("peer-key-file", Text, "", "its key").yaml("peer-transport-security.key-file"),
    Flag::used("peer-client-cert-file", Text, "", "certificate to call peers with, if another")
        .yaml("peer-transport-security.client-cert-file"),
    Flag::used("peer-client-key-file", Text, "", "its key")
        .yaml("peer-transport-security.client-key-file"),
    Flag::used("peer-client-cert-auth", Bool, "false", "peers must show a certificate of the CA")
        .yaml("peer-transport-security.client-cert-auth"),
    Flag::used("peer-trusted-ca-file", Text, "", "CA of peers; if set, they must show one")
        .yaml("peer-transport-security.trusted-ca-file"),
    Flag::used("peer-cert-allowed-cn", List, "", "peers must have one of these common names")
        .yaml("peer-transport-security.allowed-cn"),
    Flag::used(
        "peer-cert-allowed-hostname",
        List,
        "",
        "peers must show a certificate for one of these hosts",
    )
    .yaml("peer-transport-security.allowed-hostname"),
    Flag::used("peer-auto-tls", Bool, "false", "make a certificate for peers that signs itself")
        .yaml("peer-transport-security.auto-tls"),
    Flag::used("peer-crl-file", Text, "", "certificates of peers that are no longer good"),
    Flag::used(
        "peer-skip-client-san-verification",
        Bool,
        "false",
        "take peers from addresses that their certificates do not name",
    )
    .yaml("peer-transport-security.skip-client-san-verification"),
    Flag::used("cipher-suites", List, "", "suites of TLS 1.2 under Go's names; empty: all"),
    Flag::used("tls-min-version", Text, "TLS1.2", "oldest version of TLS: TLS1.2 or TLS1.3"),
    Flag::used("tls-max-version", Text, "", "newest version of TLS; empty: the newest there is"),
    Flag::used("self-signed-cert-validity", Count, "1", "years that --auto-tls's ones are good"),
    Flag::used(
        "cors",
        List,
        "",
        "origins of web pages that may use the gateway beside its own; *: all",
    ),
    Flag::used(
        "host-whitelist",
        List,
        "*",
        "names under which plain HTTP and the gateway are served; *: all",
    ),
];

const AUTH: &[Flag] = &[
    Flag::used(
        "auth-token",
        Text,
        "simple",
        "kind of login token: simple, or jwt,sign-method=..,..",
    ),
    Flag::used("bcrypt-cost", Count, "10", "work factor of password hashes, 4 to 31"),
    Flag::used("auth-token-ttl", Count, "300", "seconds a login token lives"),
    Flag::used("audit-log", Text, "", "directory of the audit log; without it none is kept"),
    Flag::used("audit-log-calls", Text, "changes", "which calls it holds: changes or all"),
    Flag::used("audit-log-file-bytes", Count, "67108864", "a fuller file is followed by the next"),
    Flag::used("audit-log-files", Count, "16", "so many files are kept, the oldest goes"),
];

const NAMING: &[Flag] = &[
    Flag::used("listen-dns", List, "", "IP:PORT,.. on which names are told over DNS"),
    Flag::used("dns-zone", Text, "quorate", "the zone: name NAME is NAME.quorate"),
    Flag::used("dns-prefix", Text, "names/", "prefix of the keys of the names that are told"),
    Flag::used("dns-ttl", Duration, "5s", "how long an answer may be kept, at most"),
    Flag::used("dns-max-stale", Duration, "5s", "how old an answer may be"),
    Flag::used("dns-serve-stale", Bool, "false", "rather tell older ones than SERVFAIL"),
    Flag::used("dns-public", Bool, "false", "tell them to everybody although there are users"),
    Flag::used("dns-rate", Count, "1000", "answers to one network in a second; 0 is no limit"),
];

const MONITORING: &[Flag] = &[
    Flag::accepted("enable-pprof", Bool, "false", "there is no Go runtime to profile; use perf"),
    Flag::used("metrics", Text, "basic", "detail of exported metrics: basic or extensive"),
    Flag::used("listen-metrics-urls", List, "", "more addresses for metrics and health"),
];

const LOGGING: &[Flag] = &[
    Flag::accepted("logger", Text, "zap", "there is one logger; --log-format picks its form"),
    Flag::used("log-outputs", List, "default", "stderr, stdout or paths of files"),
    Flag::used("log-level", Text, "info", "debug, info, warn or error (panic, fatal: as error)"),
    Flag::used("log-format", Text, "json", "json, or console or text for eyes"),
    Flag::later("enable-log-rotation", Bool, "false", ROTATION),
    Flag::accepted("log-rotation-config-json", Text, "", ROTATION),
    Flag::used("debug", Bool, "false", "the same as --log-level=debug"),
    Flag::accepted("log-package-levels", Text, "", "use --log-level"),
];

const CHECKS: &[Flag] = &[
    Flag::used(
        "corrupt-check-time",
        Duration,
        "0s",
        "how often members compare their state on request (0: only the built-in check)",
    ),
    Flag::accepted("compact-hash-check-time", Duration, "1m", COMPARE),
    Flag::accepted("compaction-batch-limit", Count, "1000", PACED),
    Flag::accepted("compaction-sleep-interval", Duration, "10ms", PACED),
    Flag::used("watch-progress-notify-interval", Duration, "10m", "how often idle watches hear"),
    Flag::used("warning-apply-duration", Duration, "100ms", "applying slower than this is logged"),
    Flag::used(
        "warning-unary-request-duration",
        Duration,
        "300ms",
        "requests slower than this are logged",
    ),
    Flag::accepted("downgrade-check-time", Duration, "5s", "the version is part of the log"),
    Flag::accepted("bootstrap-defrag-threshold-megabytes", Count, "0", NO_DEFRAG),
    Flag::used(
        "feature-gates",
        List,
        "",
        "NAME=true|false pairs; InitialCorruptCheck is used, etcd's other gates are not needed",
    ),
];

const V2: &[Flag] = &[
    Flag::later("enable-v2", Bool, "false", NO_V2),
    Flag::accepted("v2-deprecation", Text, "not-yet", NO_V2),
    Flag::later("experimental-enable-v2v3", Text, "", NO_V2),
    Flag::later("proxy", Text, "off", NO_V2),
    Flag::accepted("proxy-failure-wait", Count, "5000", NO_V2),
    Flag::accepted("proxy-refresh-interval", Count, "30000", NO_V2),
    Flag::accepted("proxy-dial-timeout", Count, "1000", NO_V2),
    Flag::accepted("proxy-write-timeout", Count, "5000", NO_V2),
    Flag::accepted("proxy-read-timeout", Count, "0", NO_V2),
];

const TRACING: &[Flag] = &[
    Flag::accepted("enable-distributed-tracing", Bool, "false", NO_TRACES),
    Flag::accepted("distributed-tracing-address", Text, "localhost:4317", NO_TRACES),
    Flag::accepted("distributed-tracing-service-name", Text, "etcd", NO_TRACES),
    Flag::accepted("distributed-tracing-instance-id", Text, "", NO_TRACES),
    Flag::accepted("distributed-tracing-sampling-rate", Integer, "0", NO_TRACES),
];

const UNSAFE: &[Flag] = &[
    Flag::used(
        "force-new-cluster",
        Bool,
        "false",
        "make a cluster of this member's data alone; loses what only others held",
    ),
    Flag::accepted("unsafe-no-fsync", Bool, "false", "every acknowledged write is synced here"),
];

const EXPERIMENTAL: &[Flag] = &[
    Flag::used("experimental-initial-corrupt-check", Bool, "false", "compare state before serving"),
    Flag::renamed("experimental-corrupt-check-time", Duration, "corrupt-check-time"),
    Flag::accepted("experimental-compact-hash-check-enabled", Bool, "false", COMPARE),
    Flag::renamed("experimental-compact-hash-check-time", Duration, "compact-hash-check-time"),
    Flag::renamed("experimental-backend-bbolt-freelist-type", Text, "backend-bbolt-freelist-type"),
    Flag::accepted("experimental-enable-lease-checkpoint", Bool, "false", LEASES),
    Flag::accepted("experimental-enable-lease-checkpoint-persist", Bool, "false", LEASES),
    Flag::renamed("experimental-compaction-batch-limit", Count, "compaction-batch-limit"),
    Flag::renamed("experimental-compaction-sleep-interval", Duration, "compaction-sleep-interval"),
    Flag::renamed(
        "experimental-peer-skip-client-san-verification",
        Bool,
        "peer-skip-client-san-verification",
    ),
    Flag::renamed(
        "experimental-watch-progress-notify-interval",
        Duration,
        "watch-progress-notify-interval",
    ),
    Flag::renamed("experimental-warning-apply-duration", Duration, "warning-apply-duration"),
    Flag::renamed(
        "experimental-warning-unary-request-duration",
        Duration,
        "warning-unary-request-duration",
    ),
    Flag::renamed("experimental-downgrade-check-time", Duration, "downgrade-check-time"),
    Flag::renamed("experimental-max-learners", Count, "max-learners"),
    Flag::renamed("experimental-snapshot-catchup-entries", Count, "snapshot-catchup-entries"),
    Flag::renamed("experimental-memory-mlock", Bool, "memory-mlock"),
    Flag::renamed(
        "experimental-wait-cluster-ready-timeout",
        Duration,
        "wait-cluster-ready-timeout",
    ),
    Flag::renamed(
        "experimental-bootstrap-defrag-threshold-megabytes",
        Count,
        "bootstrap-defrag-threshold-megabytes",
    ),
    Flag::accepted(
        "experimental-txn-mode-write-with-shared-buffer",
        Bool,
        "true",
        "there is no read buffer to share or copy",
    ),
    Flag::accepted("experimental-stop-grpc-service-on-defrag", Bool, "false", NO_DEFRAG),
    Flag::accepted(
        "experimental-set-member-localaddr",
        Bool,
        "false",
        "the system picks the local address",
    ),
    Flag::renamed("experimental-enable-distributed-tracing", Bool, "enable-distributed-tracing"),
    Flag::renamed("experimental-distributed-tracing-address", Text, "distributed-tracing-address"),
    Flag::renamed(
        "experimental-distributed-tracing-service-name",
        Text,
        "distributed-tracing-service-name",
    ),
    Flag::renamed(
        "experimental-distributed-tracing-instance-id",
        Text,
        "distributed-tracing-instance-id",
    ),
    Flag::renamed(
        "experimental-distributed-tracing-sampling-rate",
        Integer,
        "distributed-tracing-sampling-rate",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::flag::Standing;
    use std::collections::BTreeSet;

    #[test]
    fn names_and_yaml_keys_are_unique() {
        let names: BTreeSet<_> = flags().map(|flag| flag.name).collect();
        assert_eq!(names.len(), flags().count());
        let keys: BTreeSet<_> = flags().map(|flag| flag.yaml).collect();
        assert_eq!(keys.len(), flags().count());
    }

    #[test]
    fn an_older_name_leads_to_a_flag_of_the_same_kind() {
        for flag in flags() {
            if let Standing::Renamed(new) = flag.standing {
                let target = find(new).unwrap_or_else(|| panic!("--{} leads nowhere", flag.name));
                assert_eq!(target.kind, flag.kind, "--{}", flag.name);
                assert!(!matches!(target.standing, Standing::Renamed(_)), "--{}", flag.name);
            }
        }
    }
}
