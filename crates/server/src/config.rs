//! Everything that can be set about one member, as plain values.
//!
//! Problem: etcd takes its settings from flags, environment variables and a YAML file, in many
//! notations. Idea: whoever reads those notations ends with one `Config`; the server never looks
//! at text. A `Config` that exists has passed [`Config::validate`]; what can only be judged when
//! there is no data yet is [`Config::verify_bootstrap`], because etcd ignores the `initial-*`
//! settings once a member has data.
//!
//! # Identities
//!
//! Member and cluster ids are derived from the same inputs as etcd's, so that members started
//! apart from each other agree without talking (the bytes differ from etcd's, which uses SHA-1):
//!
//! ```text
//! hash(parts)    = mix(fnv1a64(for each part: its length as u64 little-endian, then its bytes))
//! mix(h)         = the 64-bit finalizer of MurmurHash3 (fmix64); a result of 0 becomes 1
//! member id      = hash("quorate member", token, salt as u64 little-endian, each peer URL, sorted)
//!                  where a URL is written with http:// even if its scheme is https
//! cluster id     = hash("quorate cluster", token, each member id as u64 little-endian, sorted)
//! ```
//!
//! The salt is 0 for members of the first configuration; a member added later gets a salt that
//! was never used (for example the log index of the change), because the id of a removed member
//! must not return even if its URLs do. The scheme says how a member is reached and not who it is,
//! so that a cluster can be moved to TLS with its data. Lengths are hashed so that no two lists of
//! URLs collide by concatenation. This definition is stored data: changing it orphans every
//! existing member.
//!
//! Sources: etcd `server/etcdserver/api/membership/member.go`, `server/embed/config.go`;
//! Fowler, Noll and Vo, FNV-1a (draft-eastlake-fnv); Appleby, MurmurHash3.

mod error;

pub use error::ConfigError;

use crate::audit::{AuditSettings, FILE_BYTES_MIN, FILES_MIN};
use crate::auth::TokenKind;
use crate::dns::DnsSettings;
use crate::overload::{DELAY_TARGET, INFLIGHT_BYTES, READ_TIMEOUT};
use crate::scrub::ScrubSettings;
use crate::timekeeping::{
    SERVERS_MAX, TIME_POLL_DEFAULT, TIME_POLL_MAX, TIME_POLL_MIN, TimeSource,
};
use crate::tls::TlsConfig;
use crate::url::{Scheme, Url, UrlError};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

/// The longest election timeout; etcd's limit, beyond which clients give up first.
pub const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(50_000);

/// An election timeout must be at least this many heartbeats, so that one lost heartbeat or a
/// short pause starts no election.
pub const HEARTBEATS_PER_ELECTION_MIN: u32 = 5;

/// The largest `max_request_bytes`: a request must fit into one frame between members.
pub const REQUEST_BYTES_MAX: u64 = 32 << 20;

/// What [`Config::max_inflight_bytes`] is at least, beside two of the largest requests.
pub const INFLIGHT_BYTES_SPARE: u64 = 1 << 20;

/// Streams of one connection, unless told otherwise: more than any client needs, and with
/// next to nothing in each a bound on the memory that one connection can take.
pub const STREAMS_MAX: u32 = 16_384;

/// Bound on the error of the time, unless told otherwise.
pub const CLOCK_ERROR_DEFAULT: Duration = Duration::from_millis(20);
/// A smaller bound is broken by the delays of a network, a larger one says nothing about a clock.
pub const CLOCK_ERROR_RANGE: RangeInclusive<Duration> =
    Duration::from_millis(1)..=Duration::from_secs(10);

/// Delays that `disk_sync_max` and `loop_delay_max` may allow: what is measured is told in whole
/// milliseconds, and no election waits for longer.
pub const DELAY_RANGE: RangeInclusive<Duration> = Duration::from_millis(1)..=ELECTION_TIMEOUT_MAX;

/// Space quota if none is given, in bytes; etcd's default of 2 GiB.
pub const QUOTA_BACKEND_BYTES_DEFAULT: u64 = 2 << 30;

/// Settings of one member. Public fields: whoever builds it calls [`Config::validate`].
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Config {
    /// Name of this member, unique in `initial_cluster`.
    pub name: String,
    /// Directory of everything this member remembers; created if missing.
    pub data_dir: PathBuf,
    /// Directory of the write-ahead log, if it is to lie on another device.
    pub wal_dir: Option<PathBuf>,

    /// Where to listen for peers.
    pub listen_peer_urls: Vec<Url>,
    /// Where to listen for clients.
    pub listen_client_urls: Vec<Url>,
    /// Where to serve metrics and health besides the client addresses; may be empty.
    pub listen_metrics_urls: Vec<Url>,
    /// What clients are told to dial.
    pub advertise_client_urls: Vec<Url>,
    /// What peers are told to dial; part of this member's identity.
    pub initial_advertise_peer_urls: Vec<Url>,

    /// Members of the first configuration: name to peer URLs (sorted).
    pub initial_cluster: BTreeMap<String, Vec<Url>>,
    /// Whether a member without data starts a cluster or joins one.
    pub initial_cluster_state: ClusterState,
    /// Tells clusters apart that are configured with the same URLs.
    pub initial_cluster_token: String,
    /// Start a one-member cluster from this member's data. Gives up the promises of consensus.
    pub force_new_cluster: bool,

    /// Time between two heartbeats of a leader.
    pub heartbeat_interval: Duration,
    /// Silence after which a follower campaigns at the earliest, when the leader has been heard
    /// regularly and a quorum is fast. `None`: five heartbeats. Equal to `election_timeout`: always
    /// that.
    pub election_timeout_min: Option<Duration>,
    /// Silence after which a follower suspects the leader.
    pub election_timeout: Duration,
    /// Answer linearizable reads without asking a quorum while voters have promised not to elect
    /// another leader, and the clock is known to run well.
    pub lease_reads: bool,
    /// Let the first election of a freshly started member come early.
    pub initial_election_tick_advance: bool,
    /// Ask whether an election could be won before disturbing the cluster with a new term.
    pub pre_vote: bool,
    /// Refuse membership changes that would leave too few started members for a quorum.
    pub strict_reconfig_check: bool,
    /// How many learners a cluster may have.
    pub learners_max: u32,
    /// Make voters of learners that have caught up, without being asked.
    pub auto_promote: bool,

    /// Log that is written between two checkpoints, at least; more if the state is larger, so that
    /// checkpoints never cost more than the log does. Unit: bytes.
    pub checkpoint_bytes: u64,
    /// How what is on disk is read again.
    pub scrub: ScrubSettings,
    /// Log kept in memory for followers that are a little behind; those who are further behind are
    /// sent a checkpoint. Unit: bytes.
    pub log_retain_bytes: usize,
    /// Bytes of state at which writes that need space are refused; `None` for no limit.
    pub quota_backend_bytes: Option<u64>,
    /// When old revisions are compacted without being asked; `None` for never.
    pub auto_compaction: Option<AutoCompaction>,

    /// A log that takes longer to write and sync breaks the assumption `disk`. `None`:
    /// `election_timeout`. Range: [`DELAY_RANGE`].
    pub disk_sync_max: Option<Duration>,
    /// A loop that is later than this breaks the assumption `scheduling`. `None`: half of the
    /// shortest election timeout. Range: [`DELAY_RANGE`].
    pub loop_delay_max: Option<Duration>,

    /// Threads that serve clients only; none: they share that of the replica. `None` for as many
    /// as the processors suggest.
    pub client_threads: Option<usize>,
    /// Most operations in one branch of a transaction.
    pub max_txn_ops: u32,
    /// Largest request accepted from a client, in bytes.
    pub max_request_bytes: u64,
    /// Most streams one client connection may hold open.
    pub max_concurrent_streams: u32,
    /// Most bytes of requests that are in flight at a time; a further one is refused.
    pub max_inflight_bytes: u64,
    /// A request that has not arrived after so long is refused.
    pub request_read_timeout: Duration,
    /// Delay of requests beyond which fewer are let in; zero for never.
    pub overload_target: Duration,
    /// A client that pings more often than this is disconnected.
    pub grpc_keepalive_min_time: Duration,
    /// How often the server pings an idle client; zero for never.
    pub grpc_keepalive_interval: Duration,
    /// How long the server waits for the answer to such a ping; zero for ever.
    pub grpc_keepalive_timeout: Duration,
    /// Origins of pages that may use that beside the member's own; `*` for all.
    pub cors: Vec<String>,
    /// Names under which plain HTTP is served; empty, or with a `*`, for all.
    pub host_whitelist: Vec<String>,
    /// Serve the API as JSON below `/v3/` on the client addresses, too.
    pub enable_grpc_gateway: bool,
    /// How often an idle watch is told how far it has come.
    pub watch_progress_notify_interval: Duration,
    /// A warning is logged if applying takes longer.
    pub warning_apply_duration: Duration,
    /// A warning is logged if a unary request takes longer.
    pub warning_unary_request_duration: Duration,

    /// Certificates, who is let in by them, and which TLS is spoken.
    pub tls: TlsConfig,
    /// What login tokens are.
    pub auth_token: TokenKind,
    /// How long a login token lives.
    pub auth_token_ttl: Duration,
    /// Work factor of password hashes. Range: 4 to 31.
    pub bcrypt_cost: u32,

    /// Where and how calls are recorded; `None` for not at all.
    pub audit: Option<AuditSettings>,

    /// How names of services are told over DNS; `None` for not at all.
    pub dns: Option<DnsSettings>,

    /// Servers of the time that are asked over NTP. Range: at most [`SERVERS_MAX`].
    pub time_sources: Vec<TimeSource>,
    /// Between two questions to a peer about the time; zero asks nobody.
    pub time_poll: Duration,
    /// A time that may be wrong by more breaks the assumption `clock-error`. Range:
    /// [`CLOCK_ERROR_RANGE`].
    pub clock_error_max: Duration,

    /// Compare this member's state with its peers' before serving.
    pub initial_corrupt_check: bool,
    /// How often the members compare their state on request; zero for never.
    pub corrupt_check_time: Duration,
    /// Export histograms too.
    pub metrics: MetricsDetail,
    /// What is logged, how and where.
    pub log: LogConfig,
}

/// What a member without data does first.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ClusterState {
    /// Starts a cluster together with the others of `initial_cluster`.
    New,
    /// Joins a cluster to which it has been added.
    Existing,
}

/// When old revisions go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AutoCompaction {
    /// Keep what is younger than this.
    Periodic(Duration),
    /// Keep this many revisions.
    Revision(u64),
}

/// How much is exported at `/metrics`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum MetricsDetail {
    /// Counters and gauges.
    Basic,
    /// Histograms per method as well.
    Extensive,
}

/// What is logged, how and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LogConfig {
    /// The least important lines that are written.
    pub level: LogLevel,
    /// How a line looks.
    pub format: LogFormat,
    /// Where lines go; each line goes to all of them. At least one.
    pub outputs: Vec<LogOutput>,
}

/// Importance of a log line; etcd's `panic` and `fatal` are `Error` here.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogLevel {
    /// Everything.
    Debug,
    /// What an operator may want to know.
    Info,
    /// What an operator should know.
    Warn,
    /// What an operator must know.
    Error,
}

/// How a log line looks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// One JSON object per line with `level`, `ts`, `caller`, `msg`, as etcd's.
    Json,
    /// For eyes.
    Text,
}

/// A place for log lines.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LogOutput {
    /// Standard error.
    Stderr,
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl Default for Config {
    /// etcd's defaults (3.6): one member named `default` on the local host.
    fn default() -> Config {
        let client = Url::parse_list("http://localhost:2379").expect("a constant");
        let peer = Url::parse_list("http://localhost:2380").expect("a constant");
        Config {
            name: "default".to_owned(),
            data_dir: PathBuf::from("default.etcd"),
            wal_dir: None,
            listen_peer_urls: peer.clone(),
            listen_client_urls: client.clone(),
            listen_metrics_urls: Vec::new(),
            advertise_client_urls: client,
            initial_advertise_peer_urls: peer.clone(),
            initial_cluster: BTreeMap::from([("default".to_owned(), peer)]),
            initial_cluster_state: ClusterState::New,
            initial_cluster_token: "etcd-cluster".to_owned(),
            force_new_cluster: false,
            heartbeat_interval: Duration::from_millis(50),
            election_timeout_min: None,
            election_timeout: Duration::from_millis(1_000),
            lease_reads: false,
            initial_election_tick_advance: true,
            pre_vote: true,
            strict_reconfig_check: true,
            learners_max: 1,
            auto_promote: false,
            checkpoint_bytes: 64 << 20,
            scrub: ScrubSettings::default(),
            client_threads: None,
            log_retain_bytes: 64 << 20,
            quota_backend_bytes: Some(QUOTA_BACKEND_BYTES_DEFAULT),
            auto_compaction: None,
            disk_sync_max: None,
            loop_delay_max: None,
            max_txn_ops: 128,
            max_request_bytes: 1_572_864,
            max_concurrent_streams: STREAMS_MAX,
            max_inflight_bytes: INFLIGHT_BYTES,
            request_read_timeout: READ_TIMEOUT,
            overload_target: DELAY_TARGET,
            grpc_keepalive_min_time: Duration::from_secs(5),
            grpc_keepalive_interval: Duration::from_secs(2 * 60 * 60),
            grpc_keepalive_timeout: Duration::from_secs(20),
            cors: Vec::new(),
            host_whitelist: vec!["*".to_owned()],
            enable_grpc_gateway: true,
            watch_progress_notify_interval: Duration::from_secs(10 * 60),
            warning_apply_duration: Duration::from_millis(100),
            warning_unary_request_duration: Duration::from_millis(300),
            tls: TlsConfig::default(),
            auth_token: TokenKind::Simple,
            auth_token_ttl: Duration::from_secs(300),
            bcrypt_cost: 10,
            audit: None,
            dns: None,
            time_sources: Vec::new(),
            time_poll: TIME_POLL_DEFAULT,
            clock_error_max: CLOCK_ERROR_DEFAULT,
            initial_corrupt_check: false,
            corrupt_check_time: Duration::ZERO,
            metrics: MetricsDetail::Basic,
            log: LogConfig {
                level: LogLevel::Info,
                format: LogFormat::Json,
                outputs: vec![LogOutput::Stderr],
            },
        }
    }
}

impl Config {
    /// Checks what can be judged without looking at the disk.
    ///
    /// Errors: the first setting that cannot work.
    pub fn validate(&self) -> Result<(), ConfigError> {
        self.validate_timing()?;
        self.validate_urls()?;
        self.validate_time()?;
        self.tls.validate(self).map_err(ConfigError::Tls)?;
        range("bcrypt-cost", self.bcrypt_cost.into(), 4, 31)?;
        if let Some(audit) = &self.audit {
            range("audit-log-file-bytes", audit.file_bytes, FILE_BYTES_MIN, u64::MAX)?;
            range("audit-log-files", audit.files.into(), FILES_MIN.into(), u32::MAX.into())?;
        }
        if let Some(dns) = &self.dns {
            dns.validate()?;
        }
        let bytes_min = 2 * self.max_request_bytes.min(REQUEST_BYTES_MAX) + INFLIGHT_BYTES_SPARE;
        range("max-inflight-bytes", self.max_inflight_bytes, bytes_min, u64::MAX)?;
        if self.request_read_timeout.is_zero() {
            return Err(ConfigError::Zero { flag: "request-read-timeout" });
        }
        range("max-txn-ops", self.max_txn_ops.into(), 1, u32::MAX.into())?;
        range("max-request-bytes", self.max_request_bytes, 1, REQUEST_BYTES_MAX)?;
        range("checkpoint-bytes", self.checkpoint_bytes, 1, u64::MAX)?;
        range("scrub-rate", self.scrub.rate, 64 << 10, u64::MAX)?;
        range("max-concurrent-streams", self.max_concurrent_streams.into(), 1, u32::MAX.into())
    }

    /// Checks what matters only while this member has no data: the first configuration.
    ///
    /// Errors: this member is not part of it as it describes itself, or members share an address.
    pub fn verify_bootstrap(&self) -> Result<(), ConfigError> {
        let Some(urls) = self.initial_cluster.get(&self.name) else {
            return Err(ConfigError::NameMissing { name: self.name.clone() });
        };
        let in_cluster: BTreeSet<&Url> = urls.iter().collect();
        let advertised: BTreeSet<&Url> = self.initial_advertise_peer_urls.iter().collect();
        if in_cluster != advertised {
            return Err(ConfigError::AdvertiseMismatch {
                name: self.name.clone(),
                in_cluster: join(urls),
                advertised: join(&self.initial_advertise_peer_urls),
            });
        }
        let mut seen = BTreeSet::new();
        for url in self.initial_cluster.values().flatten() {
            if !seen.insert(url) {
                return Err(ConfigError::DuplicateUrl { url: url.clone() });
            }
        }
        Ok(())
    }

    /// This member's id if it belongs to the first configuration. Range: never 0.
    ///
    /// A member that was added later learns its id from the cluster.
    pub fn member_id(&self) -> u64 {
        member_id(&self.initial_cluster_token, &self.initial_advertise_peer_urls, 0)
    }

    /// Id of the cluster that the first configuration makes. Range: never 0.
    pub fn cluster_id(&self) -> u64 {
        let ids: Vec<[u8; 8]> = self.initial_members().keys().map(|id| id.to_le_bytes()).collect();
        let mut parts = vec![&b"quorate cluster"[..], self.initial_cluster_token.as_bytes()];
        parts.extend(ids.iter().map(|id| &id[..]));
        stable_hash(&parts)
    }

    /// The members of the first configuration: id to name.
    pub fn initial_members(&self) -> BTreeMap<u64, String> {
        let token = &self.initial_cluster_token;
        let members = self.initial_cluster.iter();
        members.map(|(name, urls)| (member_id(token, urls, 0), name.clone())).collect()
    }

    /// Settings that are understood but not in force yet, as flags: whoever sets one must be told.
    pub fn not_in_force(&self) -> Vec<&'static str> {
        let usual = Config::default();
        macro_rules! changed {
            ($($flag:literal: $field:ident,)*) => {
                [$(($flag, self.$field != usual.$field)),*]
            };
        }
        let settings = changed! {
            "corrupt-check-time": corrupt_check_time,
            "experimental-initial-corrupt-check": initial_corrupt_check,
            "grpc-keepalive-min-time": grpc_keepalive_min_time,
            "initial-election-tick-advance": initial_election_tick_advance,
            "pre-vote": pre_vote,
            "warning-apply-duration": warning_apply_duration,
            "warning-unary-request-duration": warning_unary_request_duration,
        };
        settings.iter().filter(|(_, set)| *set).map(|(flag, _)| *flag).collect()
    }

    /// See the field of this name.
    pub fn election_timeout_min(&self) -> Duration {
        let beats = self.heartbeat_interval.saturating_mul(HEARTBEATS_PER_ELECTION_MIN);
        self.election_timeout_min.unwrap_or(beats)
    }

    /// See the field of this name.
    pub fn disk_sync_max(&self) -> Duration {
        self.disk_sync_max.unwrap_or(self.election_timeout)
    }

    /// See the field of this name.
    pub fn loop_delay_max(&self) -> Duration {
        self.loop_delay_max.unwrap_or(self.election_timeout_min() / 2)
    }

    fn validate_timing(&self) -> Result<(), ConfigError> {
        let (heartbeat, election) = (self.heartbeat_interval, self.election_timeout);
        if heartbeat.is_zero() {
            return Err(ConfigError::Zero { flag: "heartbeat-interval" });
        }
        if election.is_zero() {
            return Err(ConfigError::Zero { flag: "election-timeout" });
        }
        let election_ms = election.as_millis();
        if heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION_MIN) > election {
            let heartbeat_ms = heartbeat.as_millis();
            return Err(ConfigError::ElectionTooShort { election_ms, heartbeat_ms });
        }
        if election > ELECTION_TIMEOUT_MAX {
            return Err(ConfigError::ElectionTooLong { election_ms });
        }
        let least = heartbeat.saturating_mul(HEARTBEATS_PER_ELECTION_MIN);
        let min = self.election_timeout_min();
        if !(least..=election).contains(&min) {
            let (min_ms, heartbeat_ms) = (min.as_millis(), heartbeat.as_millis());
            return Err(ConfigError::ElectionMin { min_ms, heartbeat_ms, election_ms });
        }
        let delays =
            [("disk-sync-max", self.disk_sync_max), ("loop-delay-max", self.loop_delay_max)];
        let mut given = delays.into_iter().filter_map(|(flag, delay)| Some((flag, delay?)));
        given.try_for_each(|(flag, delay)| bound(flag, delay, DELAY_RANGE))
    }

    fn validate_time(&self) -> Result<(), ConfigError> {
        let (sources, poll) = (&self.time_sources, self.time_poll);
        if sources.len() > usize::from(SERVERS_MAX) {
            return Err(ConfigError::TimeSources { count: sources.len() });
        }
        let mut seen = BTreeSet::new();
        if let Some(source) = sources.iter().find(|source| !seen.insert(*source)) {
            return Err(ConfigError::TimeSourceTwice { source: source.clone() });
        }
        if poll.is_zero() && !sources.is_empty() {
            return Err(ConfigError::TimeSourcesUnasked);
        }
        if !poll.is_zero() && !(TIME_POLL_MIN..=TIME_POLL_MAX).contains(&poll) {
            return Err(ConfigError::TimePoll { poll_ms: poll.as_millis() });
        }
        bound("clock-error-max", self.clock_error_max, CLOCK_ERROR_RANGE)
    }

    fn validate_urls(&self) -> Result<(), ConfigError> {
        let listen = [
            ("listen-peer-urls", &self.listen_peer_urls),
            ("listen-client-urls", &self.listen_client_urls),
        ];
        let advertise = [
            ("initial-advertise-peer-urls", &self.initial_advertise_peer_urls),
            ("advertise-client-urls", &self.advertise_client_urls),
        ];
        for (flag, urls) in listen.into_iter().chain(advertise) {
            if urls.is_empty() {
                return Err(ConfigError::Url { flag, error: UrlError::Empty });
            }
        }
        let metrics = ("listen-metrics-urls", &self.listen_metrics_urls);
        for (flag, urls) in listen.into_iter().chain([metrics]) {
            for url in urls {
                url.bind_address().map_err(|error| ConfigError::Url { flag, error })?;
            }
        }
        for (flag, urls) in advertise {
            if let Some(url) = urls.iter().find(|url| url.host().is_empty()) {
                return Err(ConfigError::EmptyHost { flag, url: url.clone() });
            }
        }
        Ok(())
    }
}

/// The id of a member; see the essay of this module. Range: never 0.
pub fn member_id(token: &str, peer_urls: &[Url], salt: u64) -> u64 {
    let plain = |url: &Url| url.clone().with_scheme(Scheme::Http).to_string();
    let mut urls: Vec<String> = peer_urls.iter().map(plain).collect();
    urls.sort();
    let salt = salt.to_le_bytes();
    let mut parts = vec![&b"quorate member"[..], token.as_bytes(), &salt];
    parts.extend(urls.iter().map(String::as_bytes));
    stable_hash(&parts)
}

fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for part in parts {
        for byte in (part.len() as u64).to_le_bytes().iter().chain(*part) {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    (hash ^ (hash >> 33)).max(1)
}

fn range(flag: &'static str, value: u64, min: u64, max: u64) -> Result<(), ConfigError> {
    if (min..=max).contains(&value) {
        Ok(())
    } else {
        Err(ConfigError::Range { flag, value, min, max })
    }
}

fn bound(
    flag: &'static str,
    bound: Duration,
    range: RangeInclusive<Duration>,
) -> Result<(), ConfigError> {
    match range.contains(&bound) {
        true => Ok(()),
        false => Err(ConfigError::Bound { flag, bound, range }),
    }
}

fn join(urls: &[Url]) -> String {
    urls.iter().map(Url::to_string).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn urls(text: &str) -> Vec<Url> {
        Url::parse_list(text).expect(text)
    }

    fn three() -> Config {
        let mut config = Config { name: "b".to_owned(), ..Config::default() };
        config.initial_advertise_peer_urls = urls("http://b:2380");
        config.initial_cluster = ["a", "b", "c"]
            .map(|name| (name.to_owned(), urls(&format!("http://{name}:2380"))))
            .into();
        config
    }

    #[test]
    fn defaults_are_valid_and_can_bootstrap() {
        let config = Config::default();
        assert_eq!(config.validate(), Ok(()));
        assert_eq!(config.verify_bootstrap(), Ok(()));
        assert_eq!(three().verify_bootstrap(), Ok(()));
    }

    #[test]
    fn a_setting_that_does_nothing_yet_is_told_when_it_is_set() {
        assert_eq!(Config::default().not_in_force(), [""; 0]);
        let config = Config { pre_vote: false, learners_max: 12, ..Config::default() };
        assert_eq!(config.not_in_force(), ["pre-vote"]);
    }

    #[test]
    fn ids_are_stored_data_and_never_change() {
        assert_eq!(three().member_id(), 0x2bb7_3613_4e1f_945d);
        assert_eq!(three().cluster_id(), 0xa099_1452_e1a1_85fc);
    }

    #[test]
    fn every_member_derives_the_same_cluster() {
        let mut other = three();
        other.name = "c".to_owned();
        other.initial_advertise_peer_urls = urls("http://c:2380");
        assert_eq!(other.cluster_id(), three().cluster_id());
        assert_ne!(other.member_id(), three().member_id());
        assert_eq!(three().initial_members()[&other.member_id()], "c");
        assert_eq!(three().initial_members().len(), 3);
    }

    #[test]
    fn token_salt_and_grouping_of_urls_make_different_members() {
        let two = urls("http://a:1,http://b:1");
        let swapped: Vec<Url> = two.iter().rev().cloned().collect();
        assert_eq!(member_id("t", &two, 0), member_id("t", &swapped, 0));
        let ids = BTreeSet::from([
            member_id("t", &two, 0),
            member_id("u", &two, 0),
            member_id("t", &two, 1),
            member_id("t", &two[..1], 0),
        ]);
        assert_eq!(ids.len(), 4);
    }

    struct Case {
        spoil: fn(&mut Config),
        message: &'static str,
    }

    fn case(spoil: fn(&mut Config), message: &'static str) -> Case {
        Case { spoil, message }
    }

    #[test]
    fn wrong_settings_are_refused_in_etcds_words() {
        let ms = Duration::from_millis;
        let cases = [
            case(|c| c.heartbeat_interval = Duration::ZERO, "--heartbeat-interval must be >0"),
            case(|c| c.election_timeout = Duration::ZERO, "--election-timeout must be >0"),
            case(
                |c| c.election_timeout = Duration::from_millis(249),
                "--election-timeout[249ms] should be at least as 5 times",
            ),
            case(
                |c| c.election_timeout_min = Some(Duration::from_millis(249)),
                "--election-timeout-min[249ms] must be at least 5 times",
            ),
            case(
                |c| c.election_timeout_min = Some(Duration::from_millis(1_001)),
                "at most --election-timeout[1000ms]",
            ),
            case(|c| c.election_timeout = Duration::from_secs(51), "is too long"),
            case(|c| c.listen_client_urls.clear(), "--listen-client-urls: no valid URLs given"),
            case(
                |c| c.listen_peer_urls = vec!["http://example.com:1".parse().expect("a url")],
                "expected IP in URL for binding (http://example.com:1)",
            ),
            case(
                |c| c.advertise_client_urls = vec!["http://:1".parse().expect("a url")],
                "unexpected empty host",
            ),
            case(
                |c| c.time_poll = Duration::from_millis(99),
                "--time-poll[99ms] is out of range; write 100ms to 64s, or 0",
            ),
            case(|c| c.time_poll = Duration::from_secs(65), "--time-poll[65000ms]"),
            case(
                |c| {
                    c.time_poll = Duration::ZERO;
                    c.time_sources = vec!["ntp://a".parse().expect("a source")];
                },
                "leave one of them out",
            ),
            case(
                |c| c.clock_error_max = Duration::from_micros(999),
                "--clock-error-max[999µs] is out of range; write 1ms to 10s",
            ),
            case(
                |c| c.disk_sync_max = Some(Duration::from_nanos(1)),
                "--disk-sync-max[1ns] is out of range; write 1ms to 50s",
            ),
            case(
                |c| c.loop_delay_max = Some(Duration::from_micros(500)),
                "--loop-delay-max[500µs] is out of range; write 1ms to 50s",
            ),
            case(|c| c.loop_delay_max = Some(Duration::from_secs(51)), "--loop-delay-max[51s]"),
            case(|c| c.clock_error_max = Duration::from_secs(11), "--clock-error-max[11s]"),
            case(
                |c| c.time_sources = vec!["ntp://a".parse().expect("a source"); 2],
                "names ntp://a:123 twice",
            ),
            case(
                |c| c.time_sources = vec!["ntp://a".parse().expect("a source"); 17],
                "17 sources; name at most 16",
            ),
            case(|c| c.bcrypt_cost = 32, "--bcrypt-cost=32 is out of range"),
        ];
        for Case { spoil, message } in cases {
            let mut config = Config::default();
            spoil(&mut config);
            let error = config.validate().expect_err(message).to_string();
            assert!(error.contains(message), "{error}");
        }
        let limit = Config { election_timeout: ms(250), ..Config::default() };
        assert_eq!(limit.validate(), Ok(()), "exactly five heartbeats are enough");
    }

    #[test]
    fn a_member_must_be_in_its_cluster_as_it_describes_itself() {
        let mut config = three();
        config.name = "z".to_owned();
        assert!(matches!(config.verify_bootstrap(), Err(ConfigError::NameMissing { .. })));
        let mut config = three();
        config.initial_advertise_peer_urls = urls("http://elsewhere:2380");
        assert!(matches!(config.verify_bootstrap(), Err(ConfigError::AdvertiseMismatch { .. })));
        let mut config = three();
        config.initial_cluster.insert("a".to_owned(), urls("http://b:2380"));
        assert!(matches!(config.verify_bootstrap(), Err(ConfigError::DuplicateUrl { .. })));
    }
}
