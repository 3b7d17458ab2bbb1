//! What the three notations mean, by tables.

use crate::serve::flag::{Kind, Standing};
use crate::serve::{Request, UsageError, request, table};
use quorate_server::Config;
use quorate_server::audit::{AuditCalls, AuditSettings};
use quorate_server::auth::{JwtSettings, TokenKind};
use quorate_server::config::{
    AutoCompaction, ClusterState, LogFormat, LogLevel, LogOutput, MetricsDetail,
};
use quorate_server::dns::{DnsAccess, DnsSettings, WhenStale};
use quorate_server::scrub::ScrubSettings;
use quorate_server::tls::{Side, TlsConfig, TlsVersion};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// The flags of `etcd --help`, version 3.4.23 (without `--config-file` and `--version`).
const ETCD_3_4: &str = "
    name data-dir wal-dir snapshot-count heartbeat-interval election-timeout
    initial-election-tick-advance listen-peer-urls listen-client-urls max-snapshots max-wals
    quota-backend-bytes backend-batch-interval backend-batch-limit max-txn-ops max-request-bytes
    max-concurrent-streams grpc-keepalive-min-time grpc-keepalive-interval grpc-keepalive-timeout
    initial-advertise-peer-urls initial-cluster initial-cluster-state initial-cluster-token
    advertise-client-urls discovery discovery-fallback discovery-proxy discovery-srv
    discovery-srv-name strict-reconfig-check pre-vote auto-compaction-retention
    auto-compaction-mode enable-v2 cert-file key-file client-cert-auth client-crl-file
    client-cert-allowed-hostname trusted-ca-file auto-tls peer-cert-file peer-key-file
    peer-client-cert-auth peer-trusted-ca-file peer-cert-allowed-cn peer-cert-allowed-hostname
    peer-auto-tls peer-crl-file cipher-suites cors host-whitelist auth-token bcrypt-cost
    auth-token-ttl enable-pprof metrics listen-metrics-urls logger log-outputs log-level proxy
    proxy-failure-wait proxy-refresh-interval proxy-dial-timeout proxy-write-timeout
    proxy-read-timeout experimental-initial-corrupt-check experimental-corrupt-check-time
    experimental-enable-v2v3 experimental-backend-bbolt-freelist-type
    experimental-enable-lease-checkpoint experimental-compaction-batch-limit
    experimental-peer-skip-client-san-verification experimental-watch-progress-notify-interval
    experimental-warning-apply-duration force-new-cluster debug log-package-levels";

/// Every flag that is used, mostly with a value other than its default.
const ALL_USED: [(&str, &str); 98] = [
    ("name", "a"),
    ("data-dir", "/d"),
    ("wal-dir", "/w"),
    ("checkpoint-bytes", "7"),
    ("log-retain-bytes", "8"),
    ("scrub-interval", "1h"),
    ("scrub-rate", "65536"),
    ("heartbeat-interval", "20"),
    ("election-timeout", "200"),
    ("election-timeout-min", "150"),
    ("initial-election-tick-advance", "false"),
    ("listen-peer-urls", "http://10.0.0.1:1,http://127.0.0.1:1"),
    ("listen-client-urls", "http://10.0.0.1:2"),
    ("quota-backend-bytes", "4294967296"),
    ("lease-reads", "true"),
    ("client-threads", "3"),
    ("disk-sync-max", "700ms"),
    ("loop-delay-max", "60ms"),
    ("max-txn-ops", "9"),
    ("max-request-bytes", "1000"),
    ("max-concurrent-streams", "10"),
    ("max-inflight-bytes", "2000000"),
    ("request-read-timeout", "5s"),
    ("overload-target", "90ms"),
    ("cors", "https://ui.example"),
    ("host-whitelist", "m1,m2"),
    ("grpc-keepalive-min-time", "6s"),
    ("grpc-keepalive-interval", "1h30m"),
    ("grpc-keepalive-timeout", "21s"),
    ("enable-grpc-gateway", "false"),
    ("initial-advertise-peer-urls", "http://10.0.0.1:1"),
    ("initial-cluster", "a=http://10.0.0.1:1,b=http://b:1,b=http://bb:1"),
    ("initial-cluster-state", "existing"),
    ("initial-cluster-token", "t"),
    ("advertise-client-urls", "http://10.0.0.1:2"),
    ("strict-reconfig-check", "false"),
    ("pre-vote", "false"),
    ("auto-compaction-mode", "revision"),
    ("auto-compaction-retention", "1000"),
    ("max-learners", "2"),
    ("auto-promote", "true"),
    ("force-new-cluster", "true"),
    ("auth-token", "jwt,priv-key=k,sign-method=HS256,ttl=10m"),
    ("bcrypt-cost", "4"),
    ("auth-token-ttl", "301"),
    ("audit-log", "/a"),
    ("audit-log-calls", "all"),
    ("audit-log-file-bytes", "65536"),
    ("audit-log-files", "3"),
    ("listen-dns", "127.0.0.1:53,[::1]:53"),
    ("dns-zone", "svc.example."),
    ("dns-prefix", "n/"),
    ("dns-ttl", "7s"),
    ("dns-max-stale", "8s"),
    ("dns-serve-stale", "true"),
    ("dns-public", "true"),
    ("dns-rate", "9"),
    ("metrics", "extensive"),
    ("listen-metrics-urls", "http://127.0.0.1:3"),
    ("log-outputs", "stdout,/var/log/quorate.log"),
    ("log-level", "warn"),
    ("log-format", "console"),
    ("debug", "true"),
    ("corrupt-check-time", "11s"),
    ("watch-progress-notify-interval", "14s"),
    ("warning-apply-duration", "15ms"),
    ("warning-unary-request-duration", "16ms"),
    ("feature-gates", "InitialCorruptCheck=true"),
    ("experimental-initial-corrupt-check", "true"),
    ("experimental-max-learners", "2"),
    ("max-snapshots", "3"),
    ("time-source", "ntp://10.0.0.9,ntp://[::1]:1123"),
    ("time-poll", "500ms"),
    ("clock-error-max", "5ms"),
    ("cert-file", "/c"),
    ("key-file", "/k"),
    ("client-cert-file", "/cc"),
    ("client-key-file", "/ck"),
    ("client-cert-auth", "true"),
    ("client-crl-file", "/r"),
    ("client-cert-allowed-hostname", "h1,h2"),
    ("trusted-ca-file", "/ca"),
    ("auto-tls", "true"),
    ("peer-cert-file", "/pc"),
    ("peer-key-file", "/pk"),
    ("peer-client-cert-file", "/pcc"),
    ("peer-client-key-file", "/pck"),
    ("peer-client-cert-auth", "true"),
    ("peer-trusted-ca-file", "/pca"),
    ("peer-cert-allowed-cn", "a,b"),
    ("peer-cert-allowed-hostname", ""),
    ("peer-auto-tls", "true"),
    ("peer-crl-file", "/pr"),
    ("peer-skip-client-san-verification", "true"),
    ("cipher-suites", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"),
    ("tls-min-version", "TLS1.2"),
    ("tls-max-version", "TLS1.2"),
    ("self-signed-cert-validity", "2"),
];

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn ask(
    flags: &[String],
    variables: &[(&str, &str)],
    file: Option<&str>,
) -> Result<(Config, Vec<String>), UsageError> {
    let variables: BTreeMap<String, String> =
        variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    let read = |path: &str| match file {
        Some(text) if path == "f.yml" => Ok(text.to_owned()),
        _ => Err(std::io::ErrorKind::NotFound.into()),
    };
    match request(flags, &variables, read)? {
        Request::Serve { config, warnings } => Ok((*config, warnings)),
        other => panic!("asked to serve, understood {other:?}"),
    }
}

fn by_flags(text: &str) -> Result<(Config, Vec<String>), UsageError> {
    ask(&words(text), &[], None)
}

fn by_file(text: &str) -> Result<(Config, Vec<String>), UsageError> {
    ask(&words("--config-file f.yml"), &[], Some(text))
}

fn refusal(text: &str) -> String {
    by_flags(text).expect_err(text).to_string()
}

/// What of `ALL_USED` is about TLS.
fn everything_of_tls() -> TlsConfig {
    let path = |text: &str| Some(PathBuf::from(text));
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    TlsConfig {
        client: Side {
            cert_file: path("/c"),
            key_file: path("/k"),
            dial_cert_file: path("/cc"),
            dial_key_file: path("/ck"),
            trusted_ca_file: path("/ca"),
            crl_file: path("/r"),
            client_cert_auth: true,
            allowed_cn: Vec::new(),
            allowed_hostname: names(&["h1", "h2"]),
            auto: true,
            skip_client_san_verification: false,
        },
        peer: Side {
            cert_file: path("/pc"),
            key_file: path("/pk"),
            dial_cert_file: path("/pcc"),
            dial_key_file: path("/pck"),
            trusted_ca_file: path("/pca"),
            crl_file: path("/pr"),
            client_cert_auth: true,
            allowed_cn: names(&["a", "b"]),
            allowed_hostname: Vec::new(),
            auto: true,
            skip_client_san_verification: true,
        },
        cipher_suites: names(&["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]),
        version_min: TlsVersion::Tls12,
        version_max: TlsVersion::Tls12,
        self_signed_years: 2,
    }
}

/// All of `ALL_USED`, as it must be understood.
fn everything() -> Config {
    let urls = |text| quorate_server::url::Url::parse_list(text).expect(text);
    let cluster = [
        ("a".to_owned(), urls("http://10.0.0.1:1")),
        ("b".to_owned(), urls("http://b:1,http://bb:1")),
    ];
    let mut config = Config {
        name: "a".to_owned(),
        data_dir: PathBuf::from("/d"),
        wal_dir: Some(PathBuf::from("/w")),
        listen_peer_urls: urls("http://10.0.0.1:1,http://127.0.0.1:1"),
        listen_client_urls: urls("http://10.0.0.1:2"),
        listen_metrics_urls: urls("http://127.0.0.1:3"),
        advertise_client_urls: urls("http://10.0.0.1:2"),
        initial_advertise_peer_urls: urls("http://10.0.0.1:1"),
        initial_cluster: cluster.into(),
        initial_cluster_state: ClusterState::Existing,
        initial_cluster_token: "t".to_owned(),
        force_new_cluster: true,
        heartbeat_interval: Duration::from_millis(20),
        election_timeout: Duration::from_millis(200),
        election_timeout_min: Some(Duration::from_millis(150)),
        initial_election_tick_advance: false,
        pre_vote: false,
        strict_reconfig_check: false,
        learners_max: 2,
        auto_promote: true,
        checkpoint_bytes: 7,
        disk_sync_max: Some(Duration::from_millis(700)),
        loop_delay_max: Some(Duration::from_millis(60)),
        lease_reads: true,
        client_threads: Some(3),
        log_retain_bytes: 8,
        scrub: ScrubSettings { interval: Duration::from_secs(3_600), rate: 65_536 },
        quota_backend_bytes: Some(4 << 30),
        auto_compaction: Some(AutoCompaction::Revision(1_000)),
        max_txn_ops: 9,
        max_request_bytes: 1_000,
        max_concurrent_streams: 10,
        max_inflight_bytes: 2_000_000,
        request_read_timeout: Duration::from_secs(5),
        overload_target: Duration::from_millis(90),
        cors: vec!["https://ui.example".to_owned()],
        host_whitelist: vec!["m1".to_owned(), "m2".to_owned()],
        grpc_keepalive_min_time: Duration::from_secs(6),
        grpc_keepalive_interval: Duration::from_secs(90 * 60),
        grpc_keepalive_timeout: Duration::from_secs(21),
        enable_grpc_gateway: false,
        watch_progress_notify_interval: Duration::from_secs(14),
        warning_apply_duration: Duration::from_millis(15),
        warning_unary_request_duration: Duration::from_millis(16),
        auth_token: TokenKind::Jwt(JwtSettings {
            pub_key: None,
            priv_key: Some("k".into()),
            algorithm: "HS256".parse().expect("it is known"),
            ttl: Duration::from_secs(600),
        }),
        tls: everything_of_tls(),
        auth_token_ttl: Duration::from_secs(301),
        bcrypt_cost: 4,
        audit: Some(AuditSettings {
            dir: "/a".into(),
            calls: AuditCalls::All,
            file_bytes: 65_536,
            files: 3,
        }),
        dns: Some(DnsSettings {
            listen: ["127.0.0.1:53", "[::1]:53"].map(|at| at.parse().expect("an address")).into(),
            zone: "svc.example.".to_owned(),
            prefix: "n/".to_owned(),
            ttl: Duration::from_secs(7),
            max_stale: Duration::from_secs(8),
            when_stale: WhenStale::Serve,
            access: DnsAccess::Public,
            rate: 9,
        }),
        time_sources: vec![
            "ntp://10.0.0.9:123".parse().expect("a source"),
            "ntp://[::1]:1123".parse().expect("a source"),
        ],
        time_poll: Duration::from_millis(500),
        clock_error_max: Duration::from_millis(5),
        initial_corrupt_check: true,
        corrupt_check_time: Duration::from_secs(11),
        metrics: MetricsDetail::Extensive,
        log: Config::default().log,
    };
    config.log.level = LogLevel::Warn;
    config.log.format = LogFormat::Text;
    config.log.outputs = vec![LogOutput::Stdout, LogOutput::File("/var/log/quorate.log".into())];
    config
}

#[test]
fn every_flag_of_etcd_3_4_is_known() {
    let listed: BTreeSet<&str> = ETCD_3_4.split_whitespace().collect();
    assert_eq!(listed.len(), 80);
    for name in listed {
        assert!(table::find(name).is_some(), "--{name}");
    }
}

#[test]
fn flags_variables_and_file_mean_the_same() {
    let joined: Vec<String> = ALL_USED.iter().map(|(name, v)| format!("--{name}={v}")).collect();
    let (config, _) = ask(&joined, &[], None).expect("--flag=value");
    assert_eq!(config, everything());

    let mut apart = Vec::new();
    for (name, value) in ALL_USED {
        // A boolean takes no separate value, as in Go.
        if table::find(name).expect(name).kind == Kind::Bool {
            apart.push(format!("-{name}={value}"));
        } else {
            apart.extend([format!("-{name}"), value.to_owned()]);
        }
    }
    let (config, _) = ask(&apart, &[], None).expect("-flag value");
    assert_eq!(config, everything());

    let variables: Vec<(String, &str)> =
        ALL_USED.iter().map(|(n, v)| (table::find(n).expect(n).variable(), *v)).collect();
    let variables: Vec<(&str, &str)> = variables.iter().map(|(n, v)| (n.as_str(), *v)).collect();
    let (config, _) = ask(&[], &variables, None).expect("variables");
    assert_eq!(config, everything());

    let (config, _) = by_file(&all_in_a_file()).expect("a file");
    assert_eq!(config, everything());
}

/// What is about TLS stands in sections.
fn all_in_a_file() -> String {
    let mut sections: BTreeMap<&str, String> = BTreeMap::new();
    for (name, value) in ALL_USED {
        let key = table::find(name).expect(name).yaml;
        let (section, line) = match key.split_once('.') {
            Some((section, key)) => (section, format!("  {key}: {value}\n")),
            None => ("", format!("{key}: {value}\n")),
        };
        sections.entry(section).or_default().push_str(&line);
    }
    let section = |(name, lines): (&str, String)| match name {
        "" => lines,
        name => format!("{name}:\n{lines}"),
    };
    sections.into_iter().map(section).collect()
}

#[test]
fn every_used_flag_is_tried_above_and_its_default_is_the_default() {
    let tried: BTreeSet<&str> = ALL_USED.iter().map(|(name, _)| *name).collect();
    let mut explicit = Vec::new();
    for flag in table::flags() {
        if matches!(flag.standing, Standing::Used(_)) {
            assert!(tried.contains(flag.name), "--{} is in no test", flag.name);
        }
        if !flag.default.contains('$') && !matches!(flag.standing, Standing::Renamed(_)) {
            explicit.push(format!("--{}={}", flag.name, flag.default));
        }
    }
    let (config, warnings) = ask(&explicit, &[], None).expect("the defaults that --help prints");
    assert_eq!(config, Config::default());
    assert_eq!(warnings, [""; 0]);
}

#[test]
fn a_flag_wins_over_its_variable_and_a_file_over_both() {
    let name = |result: Result<(Config, Vec<String>), UsageError>| {
        let (config, warnings) = result.expect("valid");
        (config.name, warnings)
    };
    let variables = [("ETCD_NAME", "variable")];
    assert_eq!(name(ask(&[], &variables, None)), ("variable".to_owned(), vec![]));

    let (winner, warnings) = name(ask(&words("--name flag"), &variables, None));
    assert_eq!(winner, "flag");
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].contains("ETCD_NAME") && warnings[0].contains("shadowed"), "{warnings:?}");

    let flags = words("--config-file f.yml --name flag");
    let (winner, warnings) = name(ask(&flags, &variables, Some("name: file")));
    assert_eq!(winner, "file");
    assert_eq!(warnings, ["--name is ignored because a configuration file is given"]);

    let variables = [("ETCD_NAME", "variable"), ("ETCD_CONFIG_FILE", "f.yml")];
    assert_eq!(name(ask(&[], &variables, Some("name: file"))).0, "file");
    assert_eq!(name(ask(&[], &variables, Some(""))).0, "default", "the file alone counts");
}

#[test]
fn later_flags_replace_earlier_ones_and_empty_variables_are_none() {
    assert_eq!(by_flags("--name a --name b").expect("valid").0.name, "b");
    let (config, warnings) = ask(&[], &[("ETCD_NAME", "")], None).expect("valid");
    assert_eq!((config.name.as_str(), warnings.len()), ("default", 0));
}

#[test]
fn sources_of_the_time_add_up_and_sixteen_are_enough() {
    let sources = |text: &str| by_flags(text).expect(text).0.time_sources;
    let texts = |text: &str| sources(text).iter().map(ToString::to_string).collect::<Vec<_>>();
    let three = ["ntp://a:123", "ntp://b:7", "ntp://c:123"];
    assert_eq!(texts("--time-source ntp://a,ntp://b:7 --time-source=ntp://c"), three);
    let file = "time-source: [ntp://a, 'ntp://b:7', ntp://c]";
    let (config, _) = by_file(file).expect("a sequence");
    assert_eq!(config.time_sources, sources("--time-source ntp://a,ntp://b:7,ntp://c"));
    let flags = |count: u16| (0..count).map(|at| format!("--time-source ntp://h{at} ")).collect();
    let flags: [String; 2] = [16, 17].map(flags);
    assert_eq!(sources(&flags[0]).len(), 16);
    assert!(refusal(&flags[1]).contains("17 sources; name at most 16"));
}

#[test]
fn booleans_as_go_reads_them() {
    let cases = [
        ("--pre-vote", true),
        ("--pre-vote=true", true),
        ("--pre-vote=T", true),
        ("-pre-vote=1", true),
        ("--pre-vote=false", false),
        ("--pre-vote=0", false),
        ("--pre-vote=F", false),
    ];
    for (text, wanted) in cases {
        assert_eq!(by_flags(text).expect(text).0.pre_vote, wanted, "{text}");
    }
    let refusal = refusal("--pre-vote false");
    assert_eq!(refusal, "'false' is not a valid flag; write --pre-vote=false");
}

#[test]
fn mistakes_are_named_with_what_to_do() {
    let cases = [
        ("--listen-client-url x", "--listen-client-url; did you mean --listen-client-urls?"),
        ("--frobnicate", "not defined: --frobnicate; see 'quorate serve --help'"),
        ("gateway", "'gateway' is not a valid flag"),
        ("--lease-reads maybe", "write --lease-reads=true or --lease-reads=false"),
        ("--name", "flag needs an argument: --name"),
        ("--snapshot-count=many", "invalid value \"many\" for --snapshot-count"),
        ("--snapshot-count=-1", "invalid value \"-1\" for --snapshot-count"),
        ("--max-txn-ops=5000000000", "a smaller number"),
        ("--grpc-keepalive-timeout=5", "a duration like 100ms, 5s or 2h"),
        ("--pre-vote=maybe", "write true or false"),
        ("--max-wals=x", "--max-wals"),
        ("--initial-cluster-state=old", "new or existing"),
        ("--time-source=pool.ntp.org", "--time-source: \"pool.ntp.org\" is not of the form ntp://"),
        ("--time-source=ntp://a:99999", "no port; write ntp://HOST, ntp://HOST:PORT"),
        ("--time-source ntp://a --time-source ntp://a:123", "names ntp://a:123 twice"),
        ("--time-source=ntp://a --time-poll=0s", "leave one of them out"),
        ("--time-poll=1ms", "write 100ms to 64s, or 0 to ask nobody"),
        ("--clock-error-max=0s", "out of range; write 1ms to 10s"),
        ("--clock-error-max=1h", "out of range; write 1ms to 10s"),
        ("--disk-sync-max=1ns", "--disk-sync-max[1ns] is out of range; write 1ms to 50s"),
        ("--loop-delay-max=0.5ms", "out of range; write 1ms to 50s"),
        ("--time-poll=often", "a duration like 100ms, 5s or 2h"),
        ("--initial-cluster=a", "cannot understand \"a\""),
        ("--initial-cluster==http://a:1", "cannot understand"),
        ("--initial-cluster=a=ftp://a:1", "--initial-cluster: URL scheme must be http"),
        ("--log-level=loud", "debug, info, warn or error"),
        ("--metrics=some", "basic or extensive"),
        ("--auto-compaction-mode=yearly", "periodic or revision"),
        ("--auto-compaction-retention=soon", "hours (12) or a duration (90m)"),
        ("--auto-compaction-mode=revision --auto-compaction-retention=5m", "number of revisions"),
        ("--listen-client-urls=http://127.0.0.1:1", "--advertise-client-urls is required"),
        ("--auth-token=jwt", "--auth-token: jwt needs sign-method"),
        ("--auth-token=jwt,sign-method=RS256", "jwt needs pub-key"),
        ("--auth-token=jwt,sign-method=none", "is not supported; write RS256"),
        ("--audit-log-calls=some", "write changes or all"),
        ("--audit-log=a --audit-log-files=1", "--audit-log-files=1 is out of range; write 2 to"),
        ("--audit-log=a --audit-log-file-bytes=9", "--audit-log-file-bytes=9 is out of range"),
        ("--listen-dns=localhost:53", "write IP:PORT,.."),
        ("--listen-dns=127.0.0.1:53 --dns-zone=a..b", "is no zone; write a name of DNS"),
        ("--listen-dns=127.0.0.1:53 --dns-max-stale=0s", "is out of range"),
        ("--dns-rate=5000000000", "a smaller number"),
        ("--auth-token=complex", "simple or jwt,sign-method=..,.."),
        ("--listen-peer-urls=unix:///tmp/s", "unix sockets are not supported"),
        ("--listen-peer-urls=https://127.0.0.1:1", "(--peer-cert-file, --peer-key-file) must be"),
        (
            "--listen-client-urls=https://127.0.0.1:1 --advertise-client-urls=https://a:1",
            "auto-tls",
        ),
        ("--cert-file=c", "--cert-file needs --key-file"),
        ("--peer-cert-allowed-cn=x", "--peer-cert-allowed-cn needs --peer-trusted-ca-file"),
        ("--client-cert-auth", "--client-cert-auth needs --trusted-ca-file"),
        ("--tls-min-version=TLS1.1", "write TLS1.2 or TLS1.3"),
        ("--cipher-suites=TLS_NONE", "unexpected TLS cipher suite"),
        ("--self-signed-cert-validity=0", "write 1 to 100"),
        ("--listen-peer-urls=http://example.com:1", "expected IP in URL for binding"),
        ("--election-timeout=200", "should be at least as 5 times"),
        ("--feature-gates=Levitation=true", "feature gates that etcd has"),
        ("--config-file other.yml", "cannot read the configuration file other.yml"),
    ];
    for (flags, message) in cases {
        let refusal = refusal(flags);
        assert!(refusal.contains(message), "{flags}: {refusal}");
    }
}

#[test]
fn what_would_weaken_security_or_meaning_is_refused() {
    let cases = "
        --discovery=http://d/1
        --discovery-srv=example.com --enable-v2
        --experimental-enable-v2v3=/v2";
    for flags in cases.split_whitespace() {
        let refusal = refusal(flags);
        let name = flags.split('=').next().expect("a flag");
        assert!(refusal.starts_with(name), "{flags}: {refusal}");
        assert!(refusal.contains("is not supported: "), "{flags}: {refusal}");
    }
    let file = "discovery-srv: example.com";
    let refusal = by_file(file).expect_err("discovery").to_string();
    assert!(refusal.contains("\"discovery-srv\" in f.yml"), "{refusal}");
}

#[test]
fn what_is_not_needed_is_accepted_with_one_warning() {
    let (config, warnings) =
        by_flags("--max-wals=9 --unsafe-no-fsync --enable-pprof=false").expect("accepted");
    assert_eq!(config, Config::default());
    assert_eq!(warnings.len(), 2, "a default needs no warning: {warnings:?}");
    assert!(warnings[0].starts_with("--max-wals is accepted and not needed: "), "{warnings:?}");
    assert!(warnings[1].contains("every acknowledged write is synced"), "{warnings:?}");

    let (_, warnings) = by_flags("--experimental-memory-mlock").expect("accepted");
    assert!(warnings[0].contains("its name is now --memory-mlock"), "{warnings:?}");
    assert_eq!(warnings.len(), 2);
}

#[test]
fn strange_variables_are_a_warning_and_strange_keys_an_error() {
    let variables = [("ETCD_PORT", "tcp://10.0.0.1"), ("ETCDCTL_API", "3"), ("HOME", "/")];
    let (_, warnings) = ask(&[], &variables, None).expect("a warning");
    assert_eq!(warnings, ["unrecognized environment variable ETCD_PORT"]);

    let section = "peer-transport-security:\n  certfile: x";
    let cases = [
        ("nmae: x", "unknown key \"nmae\" in f.yml; did you mean \"name\"?"),
        ("frobnication: x", "unknown key \"frobnication\" in f.yml; see"),
        (section, "did you mean \"peer-transport-security.cert-file\"?"),
        ("name:\n  a: b", "unknown key \"name"),
        ("name: [[a]]", "a plain value or a list of plain values"),
        ("- a", "one table of KEY: VALUE lines"),
        ("name: \"a", "cannot understand the configuration file f.yml"),
        ("snapshot-count: many", "invalid value \"many\" for \"snapshot-count\" in f.yml"),
    ];
    for (file, message) in cases {
        let refusal = by_file(file).expect_err(file).to_string();
        assert!(refusal.contains(message), "{file}: {refusal}");
    }
}

#[test]
fn a_file_like_etcds_sample_is_understood() {
    let file = "
# Human-readable name for this member.
name: 'default'
data-dir:
wal-dir:
snapshot-count: 10000
heartbeat-interval: 100
election-timeout: 1000
quota-backend-bytes: 0
listen-peer-urls: http://localhost:2380
listen-client-urls: http://localhost:2379
max-snapshots: 5
max-wals: 5
cors:
initial-advertise-peer-urls: http://localhost:2380
advertise-client-urls: http://localhost:2379
discovery:
discovery-fallback: 'proxy'
initial-cluster:
initial-cluster-token: 'etcd-cluster'
initial-cluster-state: 'new'
strict-reconfig-check: false
enable-pprof: true
proxy: 'off'
proxy-failure-wait: 5000
client-transport-security:
  cert-file:
  key-file:
  client-cert-auth: false
  trusted-ca-file:
  auto-tls: false
peer-transport-security:
log-level: debug
logger: zap
log-outputs: [stderr]
force-new-cluster: false
auto-compaction-mode: periodic
auto-compaction-retention: \"1\"
grpc-keepalive-timeout: 30000000000
cipher-suites: []
tls-min-version: 'TLS1.2'
";
    let (config, warnings) = by_file(file).expect("the sample");
    let mut wanted = Config { strict_reconfig_check: false, ..Config::default() };
    wanted.heartbeat_interval = Duration::from_millis(100);
    wanted.log.level = LogLevel::Debug;
    wanted.auto_compaction = Some(AutoCompaction::Periodic(Duration::from_secs(3_600)));
    wanted.grpc_keepalive_timeout = Duration::from_secs(30);
    assert_eq!(config, wanted);
    assert_eq!(warnings.len(), 1, "enable-pprof only: {warnings:?}");
}

#[test]
fn values_with_a_meaning_of_their_own() {
    let quota = |text: &str| by_flags(text).expect(text).0.quota_backend_bytes;
    assert_eq!(quota("--quota-backend-bytes=0"), Some(2 << 30));
    assert_eq!(quota("--quota-backend-bytes=-1"), None);
    let compaction = |text: &str| by_flags(text).expect(text).0.auto_compaction;
    assert_eq!(compaction("--auto-compaction-retention=0"), None);
    assert_eq!(compaction("--auto-compaction-retention=0s"), None);
    let minutes = Some(AutoCompaction::Periodic(Duration::from_secs(300)));
    assert_eq!(compaction("--auto-compaction-retention=5m"), minutes);
    let (config, _) = by_flags("--name x --initial-advertise-peer-urls http://x:1").expect("x");
    assert_eq!(config.data_dir, PathBuf::from("x.etcd"));
    assert_eq!(config.verify_bootstrap(), Ok(()), "the cluster defaults to this member alone");
}

#[test]
fn help_and_version_come_first() {
    let ask = |text: &str| request(&words(text), &BTreeMap::new(), |_| Ok(String::new()));
    assert!(matches!(ask("--help"), Ok(Request::Help)));
    assert!(matches!(ask("-h"), Ok(Request::Help)));
    assert!(ask("--version --name").is_err(), "a broken line is still an error");
    assert!(matches!(ask("--version"), Ok(Request::Version)));
    let help = crate::serve::long_help();
    for flag in table::flags() {
        assert!(help.contains(&format!("  --{}", flag.name)), "--{}", flag.name);
    }
    let version = crate::serve::etcd_version();
    let third = version.lines().next().and_then(|line| line.split(' ').nth(2));
    assert!(third.is_some_and(|text| text.starts_with("3.")), "{version}");
}
