//! From settings to the configuration they mean.

use crate::serve::error::UsageError;
use crate::serve::naming::naming;
use crate::serve::security::security;
use crate::serve::settings::Settings;
use quorate_server::Config;
use quorate_server::audit::{AuditCalls, AuditSettings, FILE_BYTES_DEFAULT, FILES_DEFAULT};
use quorate_server::auth::{JwtError, JwtSettings, TokenKind};
use quorate_server::config::{
    AutoCompaction, ClusterState, LogFormat, LogLevel, LogOutput, MetricsDetail,
    QUOTA_BACKEND_BYTES_DEFAULT,
};
use quorate_server::url::Url;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(60 * 60);

/// etcd's feature gates (3.6). All but one switch something that is always on, or not needed, here.
const FEATURE_GATES: [&str; 9] = [
    "AllAlpha",
    "AllBeta",
    "CompactHashCheck",
    "InitialCorruptCheck",
    "LeaseCheckpoint",
    "LeaseCheckpointPersist",
    "SetMemberLocalAddr",
    "StopGRPCServiceOnDefrag",
    "TxnModeWriteWithSharedBuffer",
];

/// The configuration, checked.
///
/// Errors: a value that cannot be used, or values that contradict each other.
pub(super) fn build(settings: &mut Settings) -> Result<Config, UsageError> {
    let mut config = Config::default();
    member(settings, &mut config)?;
    urls(settings, &mut config)?;
    cluster(settings, &mut config)?;
    limits(settings, &mut config)?;
    security(settings, &mut config)?;
    access(settings, &mut config)?;
    config.dns = naming(settings)?;
    observation(settings, &mut config)?;
    time(settings, &mut config)?;
    feature_gates(settings, &mut config)?;
    config.validate()?;
    Ok(config)
}

fn member(settings: &Settings, config: &mut Config) -> Result<(), UsageError> {
    if let Some(name) = settings.text("name") {
        config.name = name.to_owned();
    }
    config.data_dir = match settings.text("data-dir") {
        Some(path) => PathBuf::from(path),
        None => PathBuf::from(format!("{}.etcd", config.name)),
    };
    config.wal_dir = settings.text("wal-dir").map(PathBuf::from);
    let ms = Duration::from_millis(1);
    settings.duration_in("heartbeat-interval", ms, &mut config.heartbeat_interval)?;
    settings.duration_in("election-timeout", ms, &mut config.election_timeout)?;
    let mut min = Duration::ZERO;
    settings.duration_in("election-timeout-min", ms, &mut min)?;
    config.election_timeout_min = Some(min).filter(|min| !min.is_zero());
    settings.switch("lease-reads", &mut config.lease_reads);
    settings.switch("initial-election-tick-advance", &mut config.initial_election_tick_advance);
    settings.switch("pre-vote", &mut config.pre_vote);
    settings.switch("strict-reconfig-check", &mut config.strict_reconfig_check);
    settings.switch("force-new-cluster", &mut config.force_new_cluster);
    settings.switch("auto-promote", &mut config.auto_promote);
    Ok(())
}

fn urls(settings: &Settings, config: &mut Config) -> Result<(), UsageError> {
    let lists = [
        ("listen-peer-urls", &mut config.listen_peer_urls),
        ("listen-client-urls", &mut config.listen_client_urls),
        ("listen-metrics-urls", &mut config.listen_metrics_urls),
        ("advertise-client-urls", &mut config.advertise_client_urls),
        ("initial-advertise-peer-urls", &mut config.initial_advertise_peer_urls),
    ];
    for (name, target) in lists {
        if let Some(text) = settings.text(name) {
            let url_error = |error| UsageError::Url { given: settings.given(name), error };
            *target = Url::parse_list(text).map_err(url_error)?;
        }
    }
    if settings.has("listen-client-urls") && !settings.has("advertise-client-urls") {
        return Err(UsageError::AdvertiseUnset);
    }
    Ok(())
}

fn cluster(settings: &Settings, config: &mut Config) -> Result<(), UsageError> {
    config.initial_cluster = match settings.text("initial-cluster") {
        Some(text) => initial_cluster(text)?,
        None => [(config.name.clone(), config.initial_advertise_peer_urls.clone())].into(),
    };
    if let Some(text) = settings.text("initial-cluster-state") {
        config.initial_cluster_state = match text {
            "new" => ClusterState::New,
            "existing" => ClusterState::Existing,
            _ => return Err(settings.bad("initial-cluster-state", "new or existing")),
        };
    }
    if let Some(token) = settings.text("initial-cluster-token") {
        config.initial_cluster_token = token.to_owned();
    }
    settings.number("max-learners", &mut config.learners_max)
}

/// Parses `NAME=URL,NAME=URL`; a name may come several times.
fn initial_cluster(text: &str) -> Result<BTreeMap<String, Vec<Url>>, UsageError> {
    let mut cluster = BTreeMap::<String, Vec<Url>>::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let malformed = || UsageError::InitialCluster { part: part.to_owned() };
        let (name, url) = part.split_once('=').ok_or_else(malformed)?;
        if name.is_empty() || url.is_empty() {
            return Err(malformed());
        }
        let url_error = |error| UsageError::Url { given: "--initial-cluster".to_owned(), error };
        cluster.entry(name.to_owned()).or_default().push(url.parse().map_err(url_error)?);
    }
    cluster.values_mut().for_each(|urls| urls.sort());
    Ok(cluster)
}

/// A bound that is derived from others if it is zero.
fn bound(settings: &Settings, name: &str) -> Option<Duration> {
    let mut bound = Duration::ZERO;
    settings.duration(name, &mut bound);
    Some(bound).filter(|bound| !bound.is_zero())
}

/// What `--client-threads` takes.
const THREADS: &str = "\"auto\" or a number up to 65535";

fn limits(settings: &Settings, config: &mut Config) -> Result<(), UsageError> {
    config.disk_sync_max = bound(settings, "disk-sync-max");
    config.loop_delay_max = bound(settings, "loop-delay-max");
    settings.number("checkpoint-bytes", &mut config.checkpoint_bytes)?;
    settings.number("log-retain-bytes", &mut config.log_retain_bytes)?;
    settings.duration("scrub-interval", &mut config.scrub.interval);
    settings.number("scrub-rate", &mut config.scrub.rate)?;
    if let Some(text) = settings.text("client-threads").filter(|text| *text != "auto") {
        let threads = text.parse::<u16>().map_err(|_| settings.bad("client-threads", THREADS))?;
        config.client_threads = Some(threads.into());
    }
    settings.number("max-txn-ops", &mut config.max_txn_ops)?;
    settings.number("max-request-bytes", &mut config.max_request_bytes)?;
    settings.number("max-concurrent-streams", &mut config.max_concurrent_streams)?;
    settings.number("max-inflight-bytes", &mut config.max_inflight_bytes)?;
    settings.duration("request-read-timeout", &mut config.request_read_timeout);
    settings.duration("overload-target", &mut config.overload_target);
    settings.duration("grpc-keepalive-min-time", &mut config.grpc_keepalive_min_time);
    settings.duration("grpc-keepalive-interval", &mut config.grpc_keepalive_interval);
    settings.duration("grpc-keepalive-timeout", &mut config.grpc_keepalive_timeout);
    settings.duration("watch-progress-notify-interval", &mut config.watch_progress_notify_interval);
    if let Some(text) = settings.text("quota-backend-bytes") {
        config.quota_backend_bytes = match text.parse::<i64>() {
            Ok(0) => Some(QUOTA_BACKEND_BYTES_DEFAULT),
            Ok(bytes) => u64::try_from(bytes).ok(),
            Err(_) => return Err(settings.bad("quota-backend-bytes", "a number of bytes")),
        };
    }
    config.auto_compaction = auto_compaction(settings)?;
    Ok(())
}

/// Source: etcd `server/embed/etcd.go` parseCompactionRetention.
fn auto_compaction(settings: &Settings) -> Result<Option<AutoCompaction>, UsageError> {
    let mode = settings.text("auto-compaction-mode").unwrap_or("periodic");
    let retention = settings.text("auto-compaction-retention").unwrap_or("0");
    let number = retention.parse::<u32>().ok();
    let chosen = match (mode, number) {
        ("periodic" | "revision", Some(0)) => return Ok(None),
        ("revision", Some(count)) => AutoCompaction::Revision(count.into()),
        ("periodic", Some(hours)) => AutoCompaction::Periodic(HOUR.saturating_mul(hours)),
        ("periodic", None) => {
            let parsed = super::duration::parse(retention);
            let wanted = "hours (12) or a duration (90m)";
            let bad = || settings.bad("auto-compaction-retention", wanted);
            AutoCompaction::Periodic(parsed.ok_or_else(bad)?)
        }
        ("revision", None) => {
            return Err(settings.bad("auto-compaction-retention", "a number of revisions"));
        }
        _ => return Err(settings.bad("auto-compaction-mode", "periodic or revision")),
    };
    let off = chosen == AutoCompaction::Periodic(Duration::ZERO);
    Ok(if off { None } else { Some(chosen) })
}

fn access(settings: &Settings, config: &mut Config) -> Result<(), UsageError> {
    settings.switch("enable-grpc-gateway", &mut config.enable_grpc_gateway);
    let lists = [("cors", &mut config.cors), ("host-whitelist", &mut config.host_whitelist)];
    for (name, target) in lists {
        if let Some(text) = settings.text(name) {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            *target = parts.map(str::to_owned).collect();
        }
    }
    settings.number("bcrypt-cost", &mut config.bcrypt_cost)?;
    config.audit = audit(settings)?;
    let second = Duration::from_secs(1);
    settings.duration_in("auth-token-ttl", second, &mut config.auth_token_ttl)?;
    config.auth_token = match settings.text("auth-token") {
        None | Some("simple") => TokenKind::Simple,
        Some("jwt") => return Err(jwt_error(settings, JwtError::Missing { name: "sign-method" })),
        Some(text) => {
            let bad = || settings.bad("auth-token", "simple or jwt,sign-method=..,..");
            let options = text.strip_prefix("jwt,").ok_or_else(bad)?;
            let parsed = JwtSettings::parse(options, super::duration::parse);
            TokenKind::Jwt(parsed.map_err(|error| jwt_error(settings, error))?)
        }
    };
    Ok(())
}

/// Flags of a log that is not kept are looked at all the same.
fn audit(settings: &Settings) -> Result<Option<AuditSettings>, UsageError> {
    let calls = match settings.text("audit-log-calls") {
        None | Some("changes") => AuditCalls::Changes,
        Some("all") => AuditCalls::All,
        Some(_) => return Err(settings.bad("audit-log-calls", "changes or all")),
    };
    let (mut file_bytes, mut files) = (FILE_BYTES_DEFAULT, FILES_DEFAULT);
    settings.number("audit-log-file-bytes", &mut file_bytes)?;
    settings.number("audit-log-files", &mut files)?;
    let dir = settings.text("audit-log").filter(|dir| !dir.is_empty());
    Ok(dir.map(|dir| AuditSettings { dir: dir.into(), calls, file_bytes, files }))
}

fn jwt_error(settings: &Settings, error: JwtError) -> UsageError {
    UsageError::Jwt { given: settings.given("auth-token"), error }
}

fn observation(settings: &mut Settings, config: &mut Config) -> Result<(), UsageError> {
    settings.duration("corrupt-check-time", &mut config.corrupt_check_time);
    settings.switch("experimental-initial-corrupt-check", &mut config.initial_corrupt_check);
    settings.duration("warning-apply-duration", &mut config.warning_apply_duration);
    let unary = &mut config.warning_unary_request_duration;
    settings.duration("warning-unary-request-duration", unary);
    config.metrics = match settings.text("metrics") {
        None | Some("basic") => MetricsDetail::Basic,
        Some("extensive") => MetricsDetail::Extensive,
        Some(_) => return Err(settings.bad("metrics", "basic or extensive")),
    };
    let mut debug = false;
    settings.switch("debug", &mut debug);
    config.log.level = match settings.text("log-level") {
        None if debug => LogLevel::Debug,
        None | Some("info") => LogLevel::Info,
        Some("debug") => LogLevel::Debug,
        Some("warn" | "warning") => LogLevel::Warn,
        Some("error" | "dpanic" | "panic" | "fatal") => LogLevel::Error,
        Some(_) => return Err(settings.bad("log-level", "debug, info, warn or error")),
    };
    config.log.format = match settings.text("log-format") {
        None | Some("json") => LogFormat::Json,
        Some("text" | "console") => LogFormat::Text,
        Some(_) => return Err(settings.bad("log-format", "json, console or text")),
    };
    config.log.outputs = log_outputs(settings)?;
    Ok(())
}

fn time(settings: &Settings, config: &mut Config) -> Result<(), UsageError> {
    settings.duration("time-poll", &mut config.time_poll);
    settings.duration("clock-error-max", &mut config.clock_error_max);
    let text = settings.text("time-source").unwrap_or_default();
    let words = text.split(',').map(str::trim).filter(|word| !word.is_empty());
    let bad = |error| UsageError::TimeSource { given: settings.given("time-source"), error };
    config.time_sources = words.map(|word| word.parse().map_err(bad)).collect::<Result<_, _>>()?;
    Ok(())
}

fn log_outputs(settings: &mut Settings) -> Result<Vec<LogOutput>, UsageError> {
    let text = settings.text("log-outputs").unwrap_or("default").to_owned();
    let mut outputs = Vec::new();
    for word in text.split(',').map(str::trim).filter(|word| !word.is_empty()) {
        let output = match word {
            "default" | "stderr" => LogOutput::Stderr,
            "stdout" => LogOutput::Stdout,
            "systemd/journal" => {
                let warning =
                    "log output systemd/journal is written to stderr, which systemd reads";
                settings.warnings.push(warning.to_owned());
                LogOutput::Stderr
            }
            path => LogOutput::File(PathBuf::from(path)),
        };
        if !outputs.contains(&output) {
            outputs.push(output);
        }
    }
    if outputs.is_empty() {
        return Err(settings.bad("log-outputs", "stderr, stdout or a path"));
    }
    Ok(outputs)
}

fn feature_gates(settings: &mut Settings, config: &mut Config) -> Result<(), UsageError> {
    let Some(text) = settings.text("feature-gates").map(str::to_owned) else { return Ok(()) };
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, on) = match pair.split_once('=') {
            Some((name, "true")) => (name, true),
            Some((name, "false")) => (name, false),
            _ => return Err(settings.bad("feature-gates", "NAME=true|false pairs")),
        };
        match name {
            "InitialCorruptCheck" => config.initial_corrupt_check = on,
            name if FEATURE_GATES.contains(&name) => {
                let warning = format!("feature gate {name} is accepted and not needed");
                settings.warnings.push(warning);
            }
            _ => return Err(settings.bad("feature-gates", "feature gates that etcd has")),
        }
    }
    Ok(())
}
