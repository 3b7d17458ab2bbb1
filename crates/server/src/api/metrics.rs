//! `/metrics`: what a Prometheus server collects.
//!
//! Names, labels and types are etcd's to the letter wherever there is something of that meaning
//! here, so that dashboards and alerts written for etcd go on working; what is our own begins with
//! `quorate_`. The text is written here and not by a library, because those write the newer
//! OpenMetrics, which renames counters (`etcd_server_health_success` could not be told).
//!
//! Source: Prometheus, "Exposition formats", text format 0.0.4; `/metrics` of an etcd 3.5.1.

use super::calls::{CODES, Calls};
use super::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::guarantees::{Standing, State, View};
use crate::handle::{Handle, Status};
use crate::metrics::{BUCKETS, Histogram, Metrics};
use crate::overload::{PRIORITIES, Why};
use crate::timekeeping::TimeReport;
use crate::tls::{Door, Gauges};
use crate::witness::Clue;
use quorate_core::NodeId;
use quorate_protocols::consensus::raft::Ground;
use quorate_replica::AppliedCommands;
use quorate_replica::store::{LimitRule, Store, Used};
use std::fmt::{Display, Write};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// What a Prometheus server takes the text for.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Where everything that is told comes from.
pub(super) struct Sources<'a> {
    pub(super) handle: &'a Handle,
    pub(super) metrics: &'a Metrics,
    pub(super) calls: &'a Calls,
    pub(super) store: &'a Store,
}

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// The text, family by family.
#[derive(Default)]
struct Page {
    text: String,
    name: &'static str,
}

type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Begins a family.
    fn family(&mut self, kind: Kind, name: &'static str, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name = name;
        self.push(format_args!("# HELP {name} {help}\n# TYPE {name} {kind}\n"));
    }

    fn push(&mut self, text: std::fmt::Arguments<'_>) {
        self.text.write_fmt(text).expect("memory does not fail");
    }

    fn sample(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        let name = self.name;
        self.push(format_args!("{name}{suffix}"));
        for (at, (label, text)) in labels.iter().enumerate() {
            let before = if at == 0 { '{' } else { ',' };
            // No label of ours holds anything that would have to be escaped.
            self.push(format_args!("{before}{label}=\"{text}\""));
        }
        let end = if labels.is_empty() { "" } else { "}" };
        self.push(format_args!("{end} {value}\n"));
    }

    fn counter(&mut self, name: &'static str, value: u64, help: &str) {
        self.family(Kind::Counter, name, help);
        self.sample("", &[], value);
    }

    fn gauge(&mut self, name: &'static str, value: impl Display, help: &str) {
        self.family(Kind::Gauge, name, help);
        self.sample("", &[], value);
    }

    /// A gauge of 1 that tells something by its label.
    fn fact(&mut self, name: &'static str, label: &str, value: &str, help: &str) {
        self.family(Kind::Gauge, name, help);
        self.sample("", &[(label, value)], 1);
    }

    fn histogram(&mut self, labels: Labels<'_>, histogram: &Histogram) {
        let counts = histogram.counts();
        let mut upto = 0;
        for (bucket, count) in counts.iter().enumerate() {
            upto += count;
            let bound = match bucket {
                BUCKETS => "+Inf".to_owned(),
                bucket => seconds(Histogram::bound(bucket)),
            };
            let labels = [labels, &[("le", &bound[..])]].concat();
            self.sample("_bucket", &labels, upto);
        }
        self.sample("_sum", labels, seconds(histogram.sum()));
        self.sample("_count", labels, upto);
    }
}

/// Everything, as one page.
pub(super) fn page(sources: &Sources<'_>) -> String {
    let status = sources.handle.status();
    let mut page = Page::default();
    server(&mut page, sources, &status);
    store(&mut page, sources, &status);
    disk(&mut page, sources.metrics, &status);
    scrub(&mut page, sources);
    network(&mut page, sources);
    overload(&mut page, sources);
    guarantees(&mut page, &sources.handle.assumptions());
    time(&mut page, &sources.handle.time().report());
    calls(&mut page, sources.calls);
    tls(&mut page, &sources.metrics.tls);
    dns(&mut page, sources.metrics);
    process(&mut page);
    page.text
}

fn server(page: &mut Page, sources: &Sources<'_>, status: &Status) {
    let me = sources.handle.member_id();
    let metrics = sources.metrics;
    let leads = status.leader == Some(NodeId(me));
    page.fact("etcd_server_version", "server_version", ETCD_VERSION, "Version of the API.");
    let minor = ETCD_CLUSTER_VERSION.rsplit_once('.').map_or(ETCD_CLUSTER_VERSION, |(m, _)| m);
    page.fact("etcd_cluster_version", "cluster_version", minor, "Version of the cluster's API.");
    page.fact("etcd_server_id", "server_id", &format!("{me:x}"), "Id of this member.");
    let own = env!("CARGO_PKG_VERSION");
    page.fact("quorate_build_info", "version", own, "Version of this program.");
    let flag = |set| u8::from(set);
    let has_leader = flag(status.leader.is_some());
    page.gauge("etcd_server_has_leader", has_leader, "1 if a leader is known.");
    page.gauge("etcd_server_is_leader", flag(leads), "1 if this member leads.");
    page.gauge("etcd_server_is_learner", flag(status.is_learner), "1 if it does not vote.");
    page.gauge("quorate_is_witness", flag(status.is_witness), "1 if it keeps no data.");
    let name = "etcd_server_leader_changes_seen_total";
    page.counter(name, metrics.leader_changes.get(), "New leaders seen.");
    let name = "etcd_server_proposals_committed_total";
    page.gauge(name, status.commit_index, "Index of the last entry known to be committed.");
    let name = "etcd_server_proposals_applied_total";
    page.gauge(name, status.applied_index, "Index of the last entry applied.");
    let pending = sources.handle.waiting();
    page.gauge("etcd_server_proposals_pending", pending, "Requests that wait for an answer.");
    let name = "etcd_server_proposals_failed_total";
    page.counter(name, metrics.proposals_failed.get(), "Writes without success.");
    let name = "etcd_server_read_indexes_failed_total";
    page.counter(name, metrics.reads_failed.get(), "Linearizable reads that were refused.");
    let name = "quorate_reads_total";
    page.family(
        Kind::Counter,
        name,
        "Linearizable reads that were answered, by what they rest on.",
    );
    page.sample("", &[("by", "round")], metrics.reads_by(Ground::Round).get());
    page.sample("", &[("by", "lease")], metrics.reads_by(Ground::Lease).get());
    let name = "etcd_server_quota_backend_bytes";
    page.gauge(name, status.db_size_quota, "Bytes at which growth is refused; 0 is never.");
    let name = "etcd_server_health_success";
    page.counter(name, metrics.health_success.get(), "Health checks that found nothing wrong.");
    let name = "etcd_server_health_failures";
    page.counter(name, metrics.health_failures.get(), "Health checks that failed.");
    page.gauge("quorate_raft_term", status.term, "Current term.");
    page.family(Kind::Gauge, "quorate_alarms", "Active alarms of the cluster.");
    for alarm in &status.alarms {
        let (kind, member) = (alarm.kind.to_string(), format!("{:x}", alarm.member));
        page.sample("", &[("alarm", &kind), ("member", &member)], 1);
    }
    let name = "quorate_conditions";
    page.gauge(name, status.errors.len(), "Conditions that an operator should look at.");
}

fn store(page: &mut Page, sources: &Sources<'_>, status: &Status) {
    let store = sources.store;
    page.gauge("etcd_debugging_mvcc_keys_total", store.keys(), "Living keys.");
    let name = "etcd_debugging_mvcc_current_revision";
    page.gauge(name, store.revision().0, "Latest revision.");
    let name = "etcd_debugging_mvcc_compact_revision";
    page.gauge(name, store.compact_revision().0, "Oldest revision that can be read.");
    let AppliedCommands { puts, deletes, txns } = status.applied_commands;
    page.counter("etcd_mvcc_put_total", puts, "Puts applied by this member.");
    page.counter("etcd_debugging_mvcc_put_total", puts, "The same under its former name.");
    page.counter("etcd_mvcc_delete_total", deletes, "Deletes applied by this member.");
    page.counter("etcd_debugging_mvcc_delete_total", deletes, "The same.");
    page.counter("etcd_mvcc_txn_total", txns, "Transactions that write applied by this member.");
    page.counter("etcd_debugging_mvcc_txn_total", txns, "The same under its former name.");
    let ranges = sources.calls.iter().filter(|(method, _)| method.name.starts_with("Range"));
    let ranges = ranges.map(|(_, tally)| tally.started.get()).sum();
    page.counter("etcd_mvcc_range_total", ranges, "Ranges asked of this member.");
    page.counter("etcd_debugging_mvcc_range_total", ranges, "The same under its former name.");
    let (streams, watchers) = sources.handle.watch().counts();
    page.gauge("etcd_debugging_mvcc_watch_stream_total", streams, "Open streams of watches.");
    page.gauge("etcd_debugging_mvcc_watcher_total", watchers, "Watchers on them.");
    let name = "etcd_mvcc_db_total_size_in_bytes";
    page.gauge(name, status.db_size, "Bytes of log and checkpoints on disk.");
    let name = "etcd_mvcc_db_total_size_in_use_in_bytes";
    page.gauge(name, status.db_size_in_use, "Bytes of the versions in the store.");
}

fn disk(page: &mut Page, metrics: &Metrics, _: &Status) {
    let name = "etcd_disk_wal_fsync_duration_seconds";
    page.family(Kind::Histogram, name, "Writing and syncing a batch of the log.");
    page.histogram(&[], &metrics.log_sync);
    let name = "etcd_disk_backend_commit_duration_seconds";
    page.family(Kind::Histogram, name, "The same with the housekeeping of the log.");
    page.histogram(&[], &metrics.log_turn);
    let name = "quorate_checkpoint_duration_seconds";
    page.family(Kind::Histogram, name, "Writing a checkpoint.");
    page.histogram(&[], &metrics.checkpoint);
    if let Some(audit) = metrics.audit.get() {
        let name = "quorate_audit_records_written_total";
        page.counter(name, audit.written.get(), "Calls that are in the audit log.");
        let name = "quorate_audit_records_lost_total";
        page.counter(name, audit.lost.get(), "Calls that should be in the audit log and are not.");
    }
}

fn dns(page: &mut Page, metrics: &Metrics) {
    let counts = &metrics.dns;
    let name = "quorate_dns_queries_total";
    page.family(Kind::Counter, name, "Answered queries of DNS, by type and response code.");
    for (rtype, rcode, count) in counts.queries() {
        page.sample("", &[("type", rtype), ("code", rcode)], count);
    }
    let name = "quorate_dns_dropped_total";
    page.family(Kind::Counter, name, "Queries of DNS without an answer, by why.");
    for (why, count) in counts.dropped() {
        page.sample("", &[("why", why)], count);
    }
    let name = "quorate_dns_stale_answers_total";
    page.counter(name, counts.stale(), "Answers older than --dns-max-stale.");
}

/// Every state is a series, so that a rule can ask for one of them.
const TIME_STATES: [&str; 5] = ["synced", "freewheel", "unsynchronised", "stepped", "off"];

fn scrub(page: &mut Page, sources: &Sources<'_>) {
    let report = sources.handle.scrub_report();
    let name = "quorate_scrub_read_bytes_total";
    page.counter(name, report.bytes_total, "Bytes on disk that were read again.");
    let name = "quorate_scrub_rounds_total";
    page.counter(name, report.finished, "Looks at everything on disk that were finished.");
    let name = "quorate_scrub_last_finished_seconds";
    page.gauge(name, report.finished_at, "When the last one was, since 1970; 0: never.");
    let name = "quorate_scrub_damaged_total";
    page.counter(name, report.damaged_total, "Damaged places that were found.");
    let name = "quorate_scrub_repaired_total";
    page.counter(name, report.repaired_total, "Damaged places that were repaired.");
    let waiting = sources.handle.scrub_outstanding();
    let name = "quorate_scrub_unrepaired";
    page.gauge(name, waiting, "Damaged places that wait to be repaired.");
}

fn time(page: &mut Page, report: &TimeReport) {
    page.family(Kind::Gauge, "quorate_time_state", "1 at how well the time is known.");
    for state in TIME_STATES {
        page.sample("", &[("state", state)], u8::from(report.state == state));
    }
    if let Some(error) = &report.error {
        let name = "quorate_time_error_seconds";
        page.family(Kind::Gauge, name, "Bound on the error of the time, by its parts.");
        page.sample("", &[("part", "delay")], error.delay_seconds);
        page.sample("", &[("part", "drift")], error.drift_seconds);
        page.sample("", &[("part", "dispersion")], error.dispersion_seconds);
    }
    if let Some(offset) = report.offset_seconds {
        let name = "quorate_time_offset_seconds";
        page.gauge(name, offset, "How far the host's wall clock is ahead of the time.");
    }
    let name = "quorate_time_source_outvoted";
    page.family(Kind::Gauge, name, "1 if a source of the time contradicts the others.");
    for source in &report.sources {
        page.sample("", &[("source", &source.source)], u8::from(source.verdict == "outvoted"));
    }
}

fn overload(page: &mut Page, sources: &Sources<'_>) {
    let overload = sources.handle.overload();
    let name = "quorate_requests_admitted_total";
    page.family(Kind::Counter, name, "Reads and writes of clients that were let in.");
    for ((_, priority), count) in PRIORITIES.iter().zip(&overload.counts.admitted) {
        page.sample("", &[("priority", priority)], count.get());
    }
    let name = "quorate_requests_shed_total";
    page.family(Kind::Counter, name, "Requests of clients that were refused early.");
    for ((_, reason), counts) in Why::ALL.iter().zip(&overload.counts.shed) {
        for ((_, priority), count) in PRIORITIES.iter().zip(counts) {
            page.sample("", &[("reason", reason), ("priority", priority)], count.get());
        }
    }
    let name = "quorate_request_delay_seconds";
    page.family(Kind::Histogram, name, "From being let in to being answered by the replica.");
    page.histogram(&[], &overload.counts.delay);
    let name = "quorate_request_window";
    page.family(Kind::Gauge, name, "Requests of a kind that are let in at a time.");
    for (kind, limit) in ["write", "read"].iter().zip(overload.windows()) {
        page.sample("", &[("kind", kind)], limit);
    }
    let (used, max) = (overload.room.used(), overload.room.max());
    page.gauge("quorate_request_bytes", used, "Bytes of requests in flight.");
    page.gauge("quorate_request_bytes_max", max, "Bytes beyond which they are refused.");
    quotas(page, sources.store);
}

fn quotas(page: &mut Page, store: &Store) {
    let bounds = |(rule, used): (&LimitRule, Used)| {
        let name = String::from_utf8_lossy(&rule.name).into_owned();
        let bytes = rule.quota.bytes.map(|max| (name.clone(), "bytes", used.bytes, max));
        let keys = rule.quota.keys.map(|max| (name, "keys", used.keys, max));
        [bytes, keys].into_iter().flatten()
    };
    let bounds: Vec<_> = store.limits().flat_map(bounds).collect();
    page.family(Kind::Gauge, "quorate_quota_used", "What the prefix of a storage quota takes.");
    for (name, what, used, _) in &bounds {
        page.sample("", &[("limit", name), ("what", what)], used);
    }
    page.family(Kind::Gauge, "quorate_quota_max", "What it may take.");
    for (name, what, _, max) in &bounds {
        page.sample("", &[("limit", name), ("what", what)], max);
    }
}

fn network(page: &mut Page, sources: &Sources<'_>) {
    let Sources { metrics, handle, .. } = sources;
    let (sent, received) = (&metrics.clients.sent_bytes, &metrics.clients.received_bytes);
    let name = "etcd_network_client_grpc_sent_bytes_total";
    page.counter(name, sent.get(), "Bytes sent to clients.");
    let name = "etcd_network_client_grpc_received_bytes_total";
    page.counter(name, received.get(), "Bytes received from clients.");
    let me = format!("{:x}", handle.member_id());
    let peers = metrics.peers();
    let name = "etcd_network_peer_sent_bytes_total";
    page.family(Kind::Counter, name, "Bytes of messages sent to a peer.");
    for (peer, counted) in &peers {
        let peer = format!("{:x}", peer.0);
        page.sample("", &[("To", &peer)], counted.traffic.sent_bytes.get());
    }
    let name = "etcd_network_peer_received_bytes_total";
    page.family(Kind::Counter, name, "Bytes of messages received from a peer.");
    for (peer, counted) in &peers {
        let peer = format!("{:x}", peer.0);
        page.sample("", &[("From", &peer)], counted.traffic.received_bytes.get());
    }
    let name = "quorate_peer_evidence_total";
    page.family(Kind::Counter, name, "What was seen of a peer beside its messages.");
    for (peer, counted) in &peers {
        let peer = format!("{:x}", peer.0);
        for (kind, count) in Clue::KINDS.iter().zip(&counted.clues) {
            page.sample("", &[("To", &peer), ("kind", kind)], count.get());
        }
    }
    page.family(Kind::Gauge, "etcd_network_known_peers", "Peers of the configuration.");
    for peer in peers.keys() {
        let peer = format!("{:x}", peer.0);
        page.sample("", &[("Local", &me), ("Remote", &peer)], 1);
    }
}

fn guarantees(page: &mut Page, view: &View) {
    let holds = |page: &mut Page, name: &str, holds: bool| {
        page.sample("", &[("name", name)], u8::from(holds));
    };
    page.family(Kind::Gauge, "quorate_assumption_holds", "1 if promises may rest on it.");
    for assumption in &view.assumptions {
        holds(page, assumption.name.text(), assumption.standing == Standing::Holds);
    }
    let name = "quorate_assumption_measured";
    page.family(Kind::Gauge, name, "Milliseconds, bytes or a count, by its name.");
    for assumption in &view.assumptions {
        if let Some(value) = assumption.value {
            page.sample("", &[("name", assumption.name.text())], value);
        }
    }
    let name = "quorate_assumption_bound";
    page.family(Kind::Gauge, name, "It holds up to this; absent if there is no limit.");
    for assumption in &view.assumptions {
        if let Some(bound) = assumption.bound {
            page.sample("", &[("name", assumption.name.text())], bound);
        }
    }
    let name = "quorate_assumption_broken_total";
    page.family(Kind::Counter, name, "How often it broke since the start.");
    for (assumption, kept) in view.assumptions.iter().zip(&view.kept) {
        page.sample("", &[("name", assumption.name.text())], kept.broken_total);
    }
    let lasted = view.read_only_for().unwrap_or_default().as_secs_f64();
    page.gauge("quorate_read_only_seconds", lasted, "For how long there has been no quorum.");
    let name = "quorate_unserved_without_quorum_total";
    page.counter(name, view.measured.unserved, "Requests not served for want of a quorum.");
    page.family(Kind::Gauge, "quorate_promise_holds", "1 if it is kept, 0 if less is promised.");
    for row in view.rows.iter().filter(|row| row.state != State::Off) {
        let (operation, mode) = row.promise.names();
        let labels = [("operation", operation), ("mode", mode)];
        page.sample("", &labels, u8::from(row.state == State::Holds));
    }
}

fn tls(page: &mut Page, gauges: &Gauges) {
    let doors = [Door::Client, Door::Peer];
    page.family(Kind::Counter, "quorate_tls_handshakes_total", "Handshakes that succeeded.");
    for door in doors {
        page.sample("", &[("listener", door.name())], gauges.of(door).shaken.get());
    }
    let name = "quorate_tls_handshake_failures_total";
    page.family(Kind::Counter, name, "Handshakes that failed.");
    for door in doors {
        for (reason, count) in gauges.of(door).failures() {
            page.sample("", &[("listener", door.name()), ("reason", reason.label())], count);
        }
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let name = "quorate_certificate_expiry_seconds";
    page.family(Kind::Gauge, name, "Until a certificate expires; negative: it has.");
    for (door, path, end) in gauges.ends() {
        let path = path.display().to_string().replace('\\', "\\\\").replace('"', "\\\"");
        let left = end.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX));
        page.sample("", &[("file", &path), ("listener", door)], left);
    }
    let name = "quorate_certificate_stale";
    page.family(Kind::Gauge, name, "1 if changed certificate files cannot be used.");
    for door in doors {
        page.sample("", &[("listener", door.name())], u8::from(gauges.of(door).is_stale()));
    }
    let name = "quorate_certificate_reloads_total";
    page.counter(name, gauges.reloaded.get(), "Changed certificate files taken into force.");
    let name = "quorate_certificate_reload_failures_total";
    page.counter(name, gauges.reload_failures.get(), "Changed certificate files refused.");
}

fn calls(page: &mut Page, calls: &Calls) {
    page.family(Kind::Counter, "grpc_server_started_total", "Calls begun.");
    for (method, tally) in calls.iter() {
        let labels = labels(method);
        page.sample("", &labels, tally.started.get());
    }
    page.family(Kind::Counter, "grpc_server_handled_total", "Calls answered.");
    for (method, tally) in calls.iter() {
        for (code, count) in CODES.iter().zip(&tally.handled) {
            let [name, service, kind] = labels(method);
            let labels = [("grpc_code", *code), name, service, kind];
            page.sample("", &labels, count.get());
        }
    }
    if calls.timed {
        let name = "grpc_server_handling_seconds";
        page.family(Kind::Histogram, name, "Until the head of the answer.");
        for (method, tally) in calls.iter() {
            page.histogram(&labels(method), &tally.took);
        }
    }
}

fn labels(method: &super::calls::Method) -> [(&'static str, &'static str); 3] {
    [("grpc_method", method.name), ("grpc_service", method.service), ("grpc_type", method.kind)]
}

/// What the system tells of this process; what it does not tell is left out.
fn process(page: &mut Page) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is a name and may hold anything; numbers begin behind it.
    let fields: Vec<u64> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().map(|word| word.parse().unwrap_or(0)).collect())
        .unwrap_or_default();
    let field = |number: usize| fields.get(number - 3).copied();
    let ticks = rustix::param::clock_ticks_per_second();
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        let spent = Duration::from_millis((user + system).saturating_mul(1_000) / ticks.max(1));
        let name = "process_cpu_seconds_total";
        page.family(Kind::Counter, name, "Processor time used.");
        page.sample("", &[], seconds(spent));
    }
    if let (Some(virtual_bytes), Some(pages)) = (field(23), field(24)) {
        let resident = pages.saturating_mul(rustix::param::page_size() as u64);
        page.gauge("process_virtual_memory_bytes", virtual_bytes, "Address space.");
        page.gauge("process_resident_memory_bytes", resident, "Memory in use.");
    }
    if let (Some(since), Some(booted)) = (field(22), booted()) {
        let started = booted + since / ticks.max(1);
        let name = "process_start_time_seconds";
        page.gauge(name, started, "Start of the process, in seconds since 1970.");
    }
    if let Ok(open) = std::fs::read_dir("/proc/self/fd") {
        page.gauge("process_open_fds", open.count(), "Open file descriptors.");
    }
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
    if let Some(limit) = limit {
        page.gauge("process_max_fds", limit, "Most file descriptors allowed.");
    }
}

/// Seconds from 1970 to the start of the system.
fn booted() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/stat").ok()?;
    stat.lines().find_map(|line| line.strip_prefix("btime ")).and_then(|word| word.parse().ok())
}

/// As a decimal number, without trailing zeros.
fn seconds(duration: Duration) -> String {
    let text = format!("{}.{:09}", duration.as_secs(), duration.subsec_nanos());
    let text = text.trim_end_matches('0');
    text.strip_suffix('.').unwrap_or(text).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_have_the_form_that_collectors_read() {
        let mut page = Page::default();
        page.counter("a_total", 3, "All of them.");
        page.fact("b", "version", "3.5", "Which.");
        page.family(Kind::Histogram, "c_seconds", "How long.");
        let histogram = Histogram::default();
        histogram.observe(Duration::from_micros(1_500));
        histogram.observe(Duration::from_secs(100));
        page.histogram(&[("x", "y")], &histogram);
        let begin = "# HELP a_total All of them.\n# TYPE a_total counter\na_total 3\n\
            # HELP b Which.\n# TYPE b gauge\nb{version=\"3.5\"} 1\n\
            # HELP c_seconds How long.\n# TYPE c_seconds histogram\n\
            c_seconds_bucket{x=\"y\",le=\"0.001\"} 0\nc_seconds_bucket{x=\"y\",le=\"0.002\"} 1\n";
        assert!(page.text.starts_with(begin), "{}", page.text);
        let end = "c_seconds_bucket{x=\"y\",le=\"8.192\"} 1\n\
            c_seconds_bucket{x=\"y\",le=\"+Inf\"} 2\n\
            c_seconds_sum{x=\"y\"} 100.0015\nc_seconds_count{x=\"y\"} 2\n";
        assert!(page.text.ends_with(end), "{}", page.text);
    }

    #[test]
    fn this_process_is_described() {
        let mut page = Page::default();
        process(&mut page);
        for name in
            ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"]
        {
            let line = page.text.lines().find(|line| line.starts_with(name)).expect(name);
            let value: f64 = line[name.len()..].trim().parse().expect("a number");
            assert!(value >= 0.0 && (name.contains("cpu") || value > 0.0), "{line}");
        }
    }
}
