//! What members know of the time: from a real NTP server, from each other, and in spite of a liar.

mod support;

use serde_json::Value;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant, SystemTime};
use support::cluster::{Cluster, Settings, binary};
use support::net::{free_port, http_get};
use support::report;
use tempfile::TempDir;

/// Members know the time so soon after their start.
const SYNCED_WITHIN: Duration = Duration::from_secs(30);

/// A server of Debian's package `chrony`, which leaves the clock of this machine alone.
struct Chronyd {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chronyd {
    /// None if it is not installed.
    fn start() -> Option<Chronyd> {
        let paths = ["/usr/sbin/chronyd", "/usr/local/sbin/chronyd", "/usr/bin/chronyd"];
        let Some(program) = paths.into_iter().find(|path| Path::new(path).exists()) else {
            report("SKIPPED: a real server of the time (apt-get install chrony)");
            return None;
        };
        let dir = tempfile::Builder::new().prefix("quorate-test-").tempdir().expect("a directory");
        let port = free_udp_port();
        let (file, pid) = (dir.path().join("chrony.conf"), dir.path().join("chronyd.pid"));
        let text = format!(
            "local stratum 8\nport {port}\nbindaddress 127.0.0.1\nallow 127.0.0.0/8\ncmdport 0\n\
             bindcmdaddress /\npidfile {}\n",
            pid.display()
        );
        std::fs::write(&file, text).expect("a file");
        let child = Command::new(program)
            .args(["-d", "-x", "-U", "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chronyd starts");
        Some(Chronyd { child, address: (Ipv4Addr::LOCALHOST, port).into(), _dir: dir })
    }

    fn source(&self) -> String {
        format!("ntp://{}", self.address)
    }
}

fn free_udp_port() -> u16 {
    let is_free = |port: &u16| UdpSocket::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    std::iter::repeat_with(free_port).take(100).find(is_free).expect("a free port")
}

/// A server whose clock is an hour ahead; it ends with the process.
fn start_liar() -> String {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let address = socket.local_addr().expect("bound");
    std::thread::spawn(move || {
        let mut packet = [0; 128];
        while let Ok((_, client)) = socket.recv_from(&mut packet) {
            let since_1970 = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
            let seconds = (since_1970.as_secs() + 2_208_988_800 + 3_600) & 0xffff_ffff;
            let fraction = (u64::from(since_1970.subsec_nanos()) << 32) / 1_000_000_000;
            let stamp = ((seconds << 32) | fraction).to_be_bytes();
            let mut answer = [0; 48];
            (answer[0], answer[1], answer[3]) = (0b00_100_100, 1, -20_i8 as u8);
            answer[24..32].copy_from_slice(&packet[40..48]);
            answer[32..40].copy_from_slice(&stamp);
            answer[40..48].copy_from_slice(&stamp);
            socket.send_to(&answer, client).expect("loopback");
        }
    });
    format!("ntp://{address}")
}

fn status(cluster: &Cluster, flags: &[&str]) -> Output {
    let ports = cluster.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port));
    let endpoints = ports.collect::<Vec<_>>().join(",");
    let mut command = Command::new(binary());
    command.args(["time", "status", "--endpoints", &endpoints]).args(flags);
    command.output().expect("the binary runs")
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What `quorate time status --json` says once this holds of it.
async fn until(cluster: &Cluster, holds: impl Fn(&Value) -> bool) -> Value {
    let deadline = Instant::now() + SYNCED_WITHIN;
    loop {
        let output = status(cluster, &["--json"]);
        let told = json(&output);
        let synced = told["synced"].as_bool().expect("a verdict");
        assert_eq!(output.status.code(), Some(if synced { 0 } else { 1 }), "{told:#}");
        if synced && holds(&told) {
            return told;
        }
        assert!(Instant::now() < deadline, "not so in {SYNCED_WITHIN:?}: {told:#}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

fn members(told: &Value) -> &Vec<Value> {
    told["members"].as_array().expect("members")
}

/// The sources of a member of which that is the verdict.
fn sources<'a>(member: &'a Value, verdict: &str) -> Vec<&'a str> {
    let all = member["sources"].as_array().expect("sources").iter();
    all.filter(|s| s["verdict"] == verdict).map(|s| s["source"].as_str().expect("text")).collect()
}

/// The offset lies within the error, and that is the sum of its parts.
fn check_bounds(member: &Value, error_max: f64) {
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{member:#}"));
    let error = &member["error"];
    let total = number(&error["total_seconds"]);
    let offset = number(&member["offset_seconds"]);
    assert!(offset.abs() <= total, "the clock of this machine is that of the servers: {member:#}");
    assert!(total <= error_max, "{member:#}");
    let parts = ["delay_seconds", "drift_seconds", "dispersion_seconds"];
    let sum: f64 = parts.iter().map(|part| number(&error[part])).sum();
    assert!((sum - total).abs() < 1e-9, "{member:#}");
}

#[tokio::test]
async fn members_know_the_time_from_a_real_server_within_half_a_minute() {
    let Some(server) = Chronyd::start() else { return };
    let settings = Settings::of(3).with("--time-source", server.source());
    let cluster = Cluster::start(settings).await;
    let others_shown = |told: &Value| members(told).iter().all(|m| sources(m, "shown").len() == 3);
    let told = until(&cluster, others_shown).await;
    for member in members(&told) {
        assert_eq!(sources(member, "counts"), [server.source()]);
        check_bounds(member, 2.0);
    }
    let output = status(&cluster, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains(&server.source()) && text.contains("all are synced"), "{text}");
    let (_, metrics) = http_get(cluster.members[0].client_port, "/metrics").expect("metrics");
    for line in [
        "quorate_time_state{state=\"synced\"} 1",
        "quorate_time_error_seconds{part=\"delay\"} ",
        "quorate_time_offset_seconds ",
        &format!("quorate_time_source_outvoted{{source=\"{}\"}} 0", server.source()),
    ] {
        assert!(metrics.contains(line), "{line} is missing in {metrics}");
    }
    report(text);
}

#[tokio::test]
async fn a_server_that_lies_by_an_hour_is_outvoted_and_named() {
    let (Some(one), Some(two)) = (Chronyd::start(), Chronyd::start()) else { return };
    let liar = start_liar();
    let settings = Settings::of(3)
        .with("--time-source", one.source())
        .with("--time-source", &liar)
        .with("--time-source", two.source());
    let cluster = Cluster::start(settings).await;
    let named = |told: &Value| members(told).iter().all(|m| sources(m, "outvoted") == [&liar[..]]);
    let told = until(&cluster, named).await;
    for member in members(&told) {
        check_bounds(member, 2.0);
    }
    let text = String::from_utf8_lossy(&status(&cluster, &[]).stdout).into_owned();
    assert!(text.contains("outvoted") && text.contains(&liar), "{text}");
    assert!(cluster.log(0).contains("outvoted: it contradicts the others"), "told in the log");
}

#[tokio::test]
async fn a_clock_that_may_err_by_more_than_is_allowed_is_told_by_name() {
    let Some(server) = Chronyd::start() else { return };
    let settings =
        Settings::of(1).with("--time-source", server.source()).with("--clock-error-max", "1ms");
    let cluster = Cluster::start(settings).await;
    // Between two questions, 16 s apart, the bound grows by 3 ms: nobody knows how the clock runs.
    cluster.wait_log(0, &[" > 1 ms on m1: nothing that is offered rests on it"]).await;
    let (_, told) = http_get(cluster.members[0].client_port, "/metrics").expect("metrics");
    let broken = "quorate_assumption_broken_total{name=\"clock-error\"} ";
    let count = told.lines().find_map(|line| line.strip_prefix(broken)).expect("a counter");
    assert_ne!(count, "0");
}

#[tokio::test]
async fn members_without_a_server_know_how_far_they_are_apart_and_who_does_not_answer() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let all_count = |told: &Value| members(told).iter().all(|m| sources(m, "counts").len() == 3);
    let told = until(&cluster, all_count).await;
    for member in members(&told) {
        check_bounds(member, 17.0);
        for source in member["sources"].as_array().expect("sources") {
            let offset = source["offset_seconds"].as_f64().expect("heard").abs();
            let delay = source["error"]["delay_seconds"].as_f64().expect("heard");
            let drift = source["error"]["drift_seconds"].as_f64().expect("heard");
            assert!(offset <= delay + drift + 1e-4, "one machine has one clock: {source:#}");
        }
    }
    cluster.kill(1);
    let output = status(&cluster, &[]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("unreachable") && text.contains("not synced: 127.0.0.1:"), "{text}");
    cluster.kill_all();
    assert_eq!(status(&cluster, &[]).status.code(), Some(2), "nobody could be asked");
    let output = Command::new(binary()).args(["time", "status", "--endpoints", "nowhere"]).output();
    let output = output.expect("the binary runs");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--endpoints"), "{output:?}");
}
