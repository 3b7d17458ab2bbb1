//! Strangers who would like to keep a member busy with handshakes, and those who are served beside.

mod support;

use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::Write;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::cluster::{SOON, Settings};
use support::net::loopback;
use support::report;
use support::secured::{Secured, put};
use tokio::io::AsyncWriteExt;
use tokio::task::JoinSet;
use tonic::transport::Channel;

/// What the bounds on handshakes may take, and some room for what any load takes. Unit: MiB.
const GROWTH_MIB_MAX: u64 = 96;

/// What may be added between one moment of a flood and a later one. Unit: MiB.
const DRIFT_MIB_MAX: u64 = 24;

/// Those who send one byte after the other.
const DRIPPERS: usize = 400;

/// The beginning of a greeting that is 512 bytes long; zeroes follow, for as long as it takes.
const GREETING: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03";

/// The test holds the other end of every connection.
fn take_all_descriptors() {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).expect("a limit");
}

async fn member() -> Secured {
    take_all_descriptors();
    Secured::prepare(Settings::of(1)).closed().with_metrics_of(0).start().await
}

/// What goes on beside a flood: one who is connected, and those who come.
struct Guests<'a> {
    secured: &'a Secured,
    known: KvClient<Channel>,
    newcomers: u32,
    worst: Duration,
    /// Memory of the member, from moment to moment.
    memory: Vec<u64>,
}

impl Guests<'_> {
    fn of(secured: &Secured) -> Guests<'_> {
        let known = secured.kv(0, Some("client"));
        let memory = vec![secured.cluster.resident_bytes(0)];
        Guests { secured, known, newcomers: 0, worst: Duration::ZERO, memory }
    }

    async fn are_served(&mut self) {
        let asked = Instant::now();
        self.known.put(put("a", 1)).await.expect("who is known is served");
        self.worst = self.worst.max(asked.elapsed());
        let mut newcomer = self.secured.kv(0, Some("client"));
        newcomer.put(put("b", 1)).await.expect("who comes with a certificate is served");
        self.newcomers += 1;
        self.memory.push(self.secured.cluster.resident_bytes(0));
    }

    /// Nothing of it grew without a bound.
    fn sum_up(self) {
        let Guests { newcomers, worst, memory, .. } = self;
        let (before, middle) = (memory[0], memory[memory.len() / 2]);
        let [before, middle, end] = [before, middle, memory[memory.len() - 1]].map(|n| n >> 20);
        report(format!("{newcomers} newcomers, slowest put {worst:?}; {before} MiB before"));
        report(format!("{middle} MiB in the middle, {end} MiB at the end"));
        assert!(end < before + GROWTH_MIB_MAX, "{before} MiB became {end}");
        assert!(end < middle + DRIFT_MIB_MAX, "it goes on growing: {middle} MiB became {end}");
    }
}

fn failures(secured: &Secured, reason: &str) -> f64 {
    let name = "quorate_tls_handshake_failures_total{listener=\"client\",reason=";
    secured.metric(&format!("{name}\"{reason}\"")).expect("a counter")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_does_not_stop_others() {
    let secured = member().await;
    let port = secured.cluster.members[0].client_port;
    let leader_changes = secured.metric("etcd_server_leader_changes_seen_total");
    let mut guests = Guests::of(&secured);
    guests.are_served().await;
    // Those who begin and never go on,
    let dawdlers: Vec<TcpStream> = (0..1_500)
        .filter_map(|_| TcpStream::connect(loopback(port)).ok())
        .map(|mut stream| {
            let _ = stream.write_all(b"\x16\x03\x01"); // It may have been cut off already.
            stream
        })
        .collect();
    assert!(dawdlers.len() > 1_100, "{} dawdlers", dawdlers.len());
    // and those who shake hands as fast as they can, without a certificate.
    let stop = Arc::new(AtomicBool::new(false));
    let mut strangers = Vec::new();
    for _ in 0..16 {
        let (stop, client, endpoint) =
            (Arc::clone(&stop), secured.client(None), secured.endpoint(0));
        strangers.push(tokio::spawn(async move {
            let mut tried = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                let _ = client.connect(endpoint.clone()).await; // It is refused, sooner or later.
                tried += 1;
            }
            tried
        }));
    }
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) || guests.newcomers < 10 {
        assert!(began.elapsed() < SOON, "only {} were served", guests.newcomers);
        guests.are_served().await;
    }
    stop.store(true, Ordering::Relaxed);
    let mut tried = 0;
    for stranger in strangers {
        tried += stranger.await.expect("no panic");
    }
    report(format!("{tried} strangers"));
    assert!(tried > 100, "no flood");
    let after = secured.metric("etcd_server_leader_changes_seen_total");
    assert_eq!(leader_changes, after, "the flood cost the leader its office");
    assert!(failures(&secured, "crowded") > 0.0, "the oldest made room");
    assert!(failures(&secured, "no_certificate") > 100.0, "the others were refused");
    let lines = secured.cluster.log(0).lines().filter(|line| line.contains("rejected a")).count();
    assert!(lines < 100, "{lines} lines in the log");
    guests.sum_up();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_drips_a_greeting_is_cut_off_and_others_are_served() {
    let secured = member().await;
    let address = loopback(secured.cluster.members[0].client_port);
    let mut guests = Guests::of(&secured);
    let mut drippers = JoinSet::new();
    for _ in 0..DRIPPERS {
        drippers.spawn(async move {
            let mut stream = tokio::net::TcpStream::connect(address).await.expect("a port");
            let began = Instant::now();
            let greeting = GREETING.iter().copied().chain(std::iter::repeat(0));
            for byte in greeting.take(500) {
                if stream.write_all(&[byte]).await.is_err() {
                    return began.elapsed();
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            panic!("after {:?} it is still listened to", began.elapsed());
        });
    }
    let mut shortest = SOON;
    while !drippers.is_empty() {
        guests.are_served().await;
        while let Some(lived) = drippers.try_join_next() {
            shortest = shortest.min(lived.expect("it is cut off before its greeting is whole"));
        }
    }
    report(format!("{DRIPPERS} drippers, the first cut off after {shortest:?}"));
    assert!(shortest > Duration::from_secs(5), "who is merely slow is given time");
    assert!(failures(&secured, "slow") >= DRIPPERS as f64);
    assert_eq!(failures(&secured, "crowded"), 0.0);
    guests.sum_up();
}
