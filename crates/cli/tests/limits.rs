//! Members that run out of something: room for a checkpoint, room for the log, descriptors; members
//! that are flooded; and clients that may take no more than they were given.
//!
//! A full disk cannot be had without the rights of root; a limit on the size of a file makes the
//! same calls fail. The signal that comes with it is ignored, as a full disk sends none.

mod support;

use quorate_server::proto::etcdserverpb::PutRequest;
use serde_json::Value;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use support::client::{Client, Freshness, assert_filled, fill};
use support::cluster::{Cluster, SOON, Settings, binary};
use support::files::files_below;
use support::floods::{Flood, ping, reset, settings as empty_settings};
use support::net::loopback;
use support::report;
use tokio::task::JoinSet;

/// Size of a value. Unit: bytes.
const VALUE_BYTES: usize = 1_000;

/// Writes to files fail beyond this. `ulimit -f` counts in units of 512 bytes.
const FILE_BYTES_MAX: usize = 512 << 10;

/// More than a file may have, all together, and much more than a segment of the log.
const KEYS: usize = 2 * FILE_BYTES_MAX / VALUE_BYTES;

/// Descriptors that a member may have in the test of their number.
const DESCRIPTORS_MAX: usize = 64;

fn small_files() -> String {
    format!("trap '' XFSZ; ulimit -f {}", FILE_BYTES_MAX / 512)
}

/// Checkpoints and segments of the log of about 64 KiB, so that a checkpoint outgrows the limit
/// while the log does not.
fn settings(members: usize) -> Settings {
    Settings::of(members).with("--checkpoint-bytes", 64 << 10)
}

/// What member `i` says is wrong.
async fn errors(cluster: &Cluster, i: usize) -> String {
    cluster.client(i).status().await.expect("a status").errors.join("; ")
}

#[tokio::test]
async fn a_checkpoint_that_cannot_be_written_stops_nothing() {
    let settings = Settings { prelude: small_files(), ..settings(1) };
    let mut cluster = Cluster::start(settings).await;
    fill(&cluster.client(0), "k", KEYS, VALUE_BYTES).await;
    cluster.wait_log(0, &["checkpoint could not be written"]).await;
    assert!(errors(&cluster, 0).await.contains("checkpoint failed"), "status keeps it secret");
    cluster.client(0).put("still", "serving").await.expect("a write");
    let before = cluster.wait_agreement().await;
    assert_filled(&before, "k", KEYS, VALUE_BYTES);

    // Nothing was lost meanwhile, and with room again the checkpoint is made.
    cluster.kill(0);
    cluster.set_prelude("");
    cluster.spawn(0);
    cluster.wait_ready().await;
    assert_eq!(cluster.wait_agreement().await, before, "the store after the restart");
    fill(&cluster.client(0), "more", KEYS, VALUE_BYTES).await;
    let deadline = Instant::now() + SOON;
    let large = |cluster: &Cluster| {
        let files = files_below(&cluster.members[0].checkpoint_dir());
        files.iter().any(|(_, bytes)| *bytes > FILE_BYTES_MAX as u64)
    };
    while !large(&cluster) {
        assert!(Instant::now() < deadline, "no checkpoint although there is room");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(errors(&cluster, 0).await, "", "an error that is over");
}

/// The log is what promises are made of: a member that cannot write it must end, not go on.
#[tokio::test]
async fn a_member_that_cannot_write_its_log_ends_and_the_others_go_on() {
    let mut cluster = Cluster::start(settings(3)).await;
    let limited = cluster.follower().await;
    cluster.stop(limited);
    cluster.set_prelude(&small_files());
    cluster.spawn(limited);
    cluster.wait_ready().await;
    // Longer than any file may become.
    let large = vec![7; 2 * FILE_BYTES_MAX];
    let leader = cluster.leader().await;
    cluster.client(leader).put("large", large.clone()).await.expect("two of three can write it");
    let status = cluster.wait_exit(limited, SOON);
    assert!(!status.success(), "it ended as if all were well");
    cluster.wait_log(limited, &["log could not be written"]).await;
    cluster.client(leader).put("k", "x").await.expect("the others go on");

    cluster.set_prelude("");
    cluster.spawn(limited);
    cluster.wait_ready().await;
    let store = cluster.wait_agreement().await;
    let found = store.kvs.iter().find(|kv| kv.key == b"large".as_slice()).expect("the key");
    assert!(found.value == large, "a large value came back as another one");
}

#[tokio::test]
async fn a_member_without_room_for_any_log_says_so_at_once() {
    let prelude = "trap '' XFSZ; ulimit -f 32".to_owned();
    let mut cluster = Cluster::prepare(Settings { prelude, ..settings(1) });
    cluster.spawn(0);
    assert!(!cluster.wait_exit(0, SOON).success(), "it ended as if all were well");
    let place = cluster.members[0].wal_dir().display().to_string();
    cluster.wait_log(0, &[&place]).await;
}

/// More connections than descriptors: those that fit are served, and when they are gone, so is the
/// trouble.
#[tokio::test]
async fn connections_beyond_all_descriptors_cost_only_themselves() {
    let prelude = format!("ulimit -n {DESCRIPTORS_MAX}");
    let mut cluster = Cluster::start(Settings { prelude, ..settings(3) }).await;
    cluster.client(0).put("k", "before").await.expect("a write");
    let ports = [cluster.members[0].client_port, cluster.members[0].peer_port];
    let connect = |port| TcpStream::connect_timeout(&loopback(port), Duration::from_secs(2));
    let hoard: Vec<TcpStream> =
        (0..4 * DESCRIPTORS_MAX).filter_map(|number| connect(ports[number % 2]).ok()).collect();
    assert!(hoard.len() > DESCRIPTORS_MAX, "the system itself refused");
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(hoard);
    assert!(cluster.is_alive(0), "it ended for want of descriptors");
    cluster.wait_ready().await;
    cluster.client(0).put("k", "after").await.expect("a write");
    fill(&cluster.client(0), "more", 200, VALUE_BYTES).await;
    cluster.wait_agreement().await;
}

/// What any of the floods may make a member hold, beside its bounds. Unit: MiB.
const GROWTH_MIB_MAX: u64 = 96;

/// Bytes of requests in flight that the flooded member allows.
const INFLIGHT_BYTES: usize = 16 << 20;

const PUT: &str = "/etcdserverpb.KV/Put";
const RANGE: &str = "/etcdserverpb.KV/Range";
const WATCH: &str = "/etcdserverpb.Watch/Watch";

/// One who writes beside a flood, to its end.
struct Guest {
    over: Arc<AtomicBool>,
    /// How often it was served, and its slowest write.
    serving: tokio::task::JoinHandle<(u32, Duration)>,
}

impl Guest {
    fn come(cluster: &Cluster) -> Guest {
        let (over, mut client) = (Arc::new(AtomicBool::new(false)), cluster.client(0));
        let end = Arc::clone(&over);
        let serving = tokio::spawn(async move {
            let (mut served, mut worst) = (0, Duration::ZERO);
            while !end.load(Ordering::Relaxed) {
                let asked = Instant::now();
                client.put("guest", format!("{served}")).await.expect("a guest is served");
                (served, worst) = (served + 1, worst.max(asked.elapsed()));
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            (served, worst)
        });
        Guest { over, serving }
    }

    async fn leave(self) -> (u32, Duration) {
        self.over.store(true, Ordering::Relaxed);
        self.serving.await.expect("a guest is served")
    }
}

/// Floods a member, beside a guest, and holds it against what it may take.
async fn endure(cluster: &mut Cluster, name: &str, flood: impl FnOnce(u16) + Send + 'static) {
    let (port, before) = (cluster.members[0].client_port, cluster.resident_bytes(0) >> 20);
    let guest = Guest::come(cluster);
    tokio::task::spawn_blocking(move || flood(port)).await.expect("the flood itself is sound");
    let after = cluster.resident_bytes(0) >> 20;
    let (served, worst) = guest.leave().await;
    report(format!("{name}: {before} MiB became {after}; {served} writes, slowest {worst:?}"));
    assert!(served > 0, "{name}: nobody was served");
    assert!(after < before + GROWTH_MIB_MAX, "{name}: {before} MiB became {after}");
    assert!(cluster.is_alive(0), "{name}: it ended");
}

/// Waits until it is so.
fn eventually(what: &str, holds: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// A request over HTTP/1.1 that says how long it is and then stops.
fn dribble(port: u16) -> TcpStream {
    let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
    let words = "POST /v3/kv/put HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n{";
    stream.write_all(words.as_bytes()).expect("a beginning");
    stream
}

fn bodies_without_end(port: u16) {
    let mut flood = Flood::connect(port);
    let message = vec![0; 100 << 10];
    let begun = [&[0][..], &(1_500_000_u32).to_be_bytes()].concat();
    for _ in 0..400 {
        let mut frames = Vec::new();
        let id = flood.open(&mut frames, PUT);
        if !(flood.write(&frames) && flood.send(id, &begun) && flood.send(id, &message)) {
            break;
        }
    }
    let refused = Arc::clone(&flood.answers);
    // A connection that goes on and on about what was refused is ended.
    eventually("what has no room was not refused", || {
        refused.heads.load(Ordering::Relaxed) > 50 || refused.over.load(Ordering::Relaxed) > 0
    });
    // And those that found room are refused when their time is over, if not all of them together.
    eventually("bodies may take for ever", || {
        refused.heads.load(Ordering::Relaxed) >= 400 || refused.over.load(Ordering::Relaxed) > 0
    });
}

fn resets(port: u16) {
    let mut flood = Flood::connect(port);
    for _ in 0..200 {
        let mut frames = Vec::new();
        for _ in 0..100 {
            let id = flood.open(&mut frames, RANGE);
            reset(&mut frames, id);
        }
        if !flood.write(&frames) {
            break;
        }
    }
    let answers = Arc::clone(&flood.answers);
    eventually("resets were taken for ever", || answers.over.load(Ordering::Relaxed) > 0);
}

/// Acknowledgements that nobody reads fill the socket, and then the member reads no more.
fn questions_without_reading(port: u16) {
    let mut flood = Flood::deaf(port);
    let mut frames = Vec::new();
    for _ in 0..1_000 {
        ping(&mut frames);
        empty_settings(&mut frames);
    }
    for _ in 0..1_000 {
        if !flood.write(&frames) {
            return;
        }
    }
}

fn slow_words(port: u16) {
    let begun: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
            let words: &[u8] = match number % 3 {
                0 => b"GET /version HTTP/1.1\r\nhost: a\r\nx: ",
                1 => b"PRI * HTTP/2.0\r\n\r\n",
                _ => b"P",
            };
            stream.write_all(words).expect("a beginning");
            stream
        })
        .collect();
    let bodies: Vec<TcpStream> = (0..100).map(|_| dribble(port)).collect();
    for mut body in bodies {
        body.set_read_timeout(Some(SOON)).expect("a limit");
        let mut answer = [0; 12];
        body.read_exact(&mut answer).expect("it is refused");
        assert_eq!(&answer, b"HTTP/1.1 504");
    }
    drop(begun);
}

/// Many ask for everything there is, and for every change, and read nothing of it.
fn slow_readers(port: u16) {
    let everything: &[u8] = b"\x0a\x01\0\x12\x01\0";
    let create: &[u8] = b"\x0a\x06\x0a\x01\0\x12\x01\0";
    let mut floods: Vec<Flood> = (0..10).map(|_| Flood::deaf(port)).collect();
    for flood in &mut floods {
        let mut frames = Vec::new();
        for _ in 0..20 {
            flood.ask(&mut frames, RANGE, everything);
            flood.ask(&mut frames, WATCH, create);
        }
        assert!(flood.write(&frames), "questions are taken");
    }
    std::thread::sleep(Duration::from_secs(2));
}

/// A transaction of very many operations, of very many levels, bytes that are no message, and a
/// length that nobody will ever send.
fn killers(port: u16) {
    let mut flood = Flood::connect(port);
    let mut frames = Vec::new();
    let txn = "/etcdserverpb.KV/Txn";
    // success: put of key "a"; as often as fits into a request.
    let many = b"\x12\x07\x12\x05\x0a\x01a\x12\x00".repeat(100_000);
    let mut deep = Vec::new();
    for _ in 0..5_000 {
        let mut op = vec![0x22];
        varint(&mut op, deep.len());
        op.extend(&deep);
        let mut outer = vec![0x12];
        varint(&mut outer, op.len());
        outer.extend(op);
        deep = outer;
    }
    flood.ask(&mut frames, txn, &[0xFF; 64]);
    flood.ask(&mut frames, "/etcdserverpb.KV/Nothing", b"");
    flood.ask(&mut frames, RANGE, b"");
    let huge = flood.open(&mut frames, PUT);
    assert!(flood.write(&frames), "questions are taken");
    assert!(flood.send(huge, &[0, 0xFF, 0xFF, 0xFF, 0xFF]), "a length");
    for message in [many, deep] {
        let mut frames = Vec::new();
        let id = flood.open(&mut frames, txn);
        let framed = [&[0][..], &(message.len() as u32).to_be_bytes(), &message].concat();
        assert!(flood.write(&frames) && flood.send(id, &framed), "it is taken");
    }
    let answers = Arc::clone(&flood.answers);
    // Those two wait for the end of their streams until their time is over.
    eventually("one was not answered", || answers.heads.load(Ordering::Relaxed) >= 6);
}

fn varint(out: &mut Vec<u8>, mut number: usize) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// One member, flooded by one after the other, serves everybody else and takes no more memory than
/// its bounds allow.
#[tokio::test(flavor = "multi_thread")]
async fn floods_leave_memory_flat_and_others_served() {
    let settings = Settings::of(1)
        .with("--max-inflight-bytes", INFLIGHT_BYTES)
        .with("--request-read-timeout", "2s");
    let mut cluster = Cluster::start(settings).await;
    fill(&cluster.client(0), "f", 5_000, VALUE_BYTES).await;
    endure(&mut cluster, "bodies without end", bodies_without_end).await;
    endure(&mut cluster, "resets", resets).await;
    endure(&mut cluster, "questions without reading", questions_without_reading).await;
    endure(&mut cluster, "slow words", slow_words).await;
    endure(&mut cluster, "slow readers", slow_readers).await;
    endure(&mut cluster, "killers", killers).await;
    let metrics = get(cluster.members[0].client_port, "/metrics");
    let told = |name: &str| {
        let line = metrics.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        value.unwrap_or_else(|| panic!("{name} is not told"))
    };
    assert!(told("quorate_requests_shed_total{reason=\"bytes\",priority=\"normal\"}") > 0.0);
    assert!(told("quorate_request_bytes ") < INFLIGHT_BYTES as f64);
    cluster.wait_agreement().await;
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

fn command(cluster: &Cluster, words: &str) -> Output {
    let endpoint = format!("127.0.0.1:{}", cluster.members[0].client_port);
    let mut command = Command::new(binary());
    command.args(words.split(' ')).args(["--endpoints", &endpoint]);
    command.output().expect("the binary runs")
}

/// What a command tells that must succeed.
fn told(cluster: &Cluster, words: &str) -> Value {
    let output = command(cluster, &format!("{words} --json"));
    assert!(output.status.success(), "{words}: {output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words}: {error}: {text}"))
}

/// What a command complains of that must end with `code`.
fn complaint(cluster: &Cluster, words: &str, code: i32) -> String {
    let output = command(cluster, words);
    assert_eq!(output.status.code(), Some(code), "{words}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

/// Writes as many keys at once, and tells how many were written; the others were refused in etcd's
/// words, with the time to ask again, and were not written.
async fn hurry((client, reader): (&Client, &Client), prefix: &str, count: usize) -> usize {
    let mut writes = JoinSet::new();
    for number in 0..count {
        let (mut kv, key) = (client.kv.clone(), format!("{prefix}{number:04}"));
        writes.spawn(async move {
            let request = PutRequest { key: key.into(), value: "v".into(), ..Default::default() };
            kv.put(request).await
        });
    }
    let mut written = 0;
    while let Some(answer) = writes.join_next().await {
        match answer.expect("no panic") {
            Ok(_) => written += 1,
            Err(status) => {
                assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status:?}");
                assert_eq!(status.message(), "etcdserver: too many requests");
                let told = |name| status.metadata().get(name).and_then(|text| text.to_str().ok());
                let again = told("grpc-retry-pushback-ms").expect("when to ask again");
                assert!(again.parse::<u64>().expect("a number") > 0);
                assert_eq!(
                    (told("quorate-shed"), told("quorate-limit")),
                    (Some("rate"), Some("r"))
                );
            }
        }
    }
    let store = reader.clone().all(Freshness::Linearizable).await.expect("a read");
    let there = store.kvs.iter().filter(|kv| kv.key.starts_with(prefix.as_bytes())).count();
    assert_eq!(there, written, "what was refused has not happened");
    written
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_cluster_are_kept_by_every_member_and_outlive_it() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let other = cluster.client(1);
    // A member says that limits are understood by all once it has met most of the others.
    let deadline = Instant::now() + SOON;
    let quota = "limit set q --prefix q/ --max-keys 3 --max-bytes 1KiB";
    while !command(&cluster, quota).status.success() {
        assert!(Instant::now() < deadline, "{:?}", command(&cluster, quota));
    }
    for number in 0..3 {
        other.clone().put(&format!("q/{number}"), "v").await.expect("there is room");
    }
    let words = complaint(&cluster, "ctl put q/3 v", 1);
    assert!(words.contains("storage quota \"q\" of 3 keys is used up"), "{words}");
    let value = "v".repeat(2_000);
    let words = complaint(&cluster, &format!("ctl put q/0 {value}"), 1);
    assert!(words.contains("of 1024 bytes is used up; nothing was written"), "{words}");
    told(&cluster, "ctl del q/1");
    told(&cluster, "ctl put q/3 v");

    told(&cluster, "limit set r --prefix r/ --rate 1 --burst 20 --priority low");
    cluster.wait_agreement().await;
    // A read of everything is about these keys as well, so another member is asked for it.
    let reader = cluster.client(2);
    for member in 0..2 {
        let client = cluster.client(member);
        let written = hurry((&client, &reader), &format!("r/{member}/"), 200).await;
        // Whoever compared the members has asked them for these keys, too.
        assert!((10..100).contains(&written), "member {member} took {written} of 200");
    }
    let unlimited = hurry((&other, &reader), "free/", 200).await;
    assert_eq!(unlimited, 200, "other keys are nobody's business");

    let listed = told(&cluster, "limit list");
    assert_eq!(listed["limits"][0]["keys"], 3);
    assert_eq!(listed["limits"][0]["bytes"], 12);
    assert_eq!(listed["limits"][1]["priority"], "low");
    let words = complaint(&cluster, "limit set bad --of-user ann --max-keys 1", 1);
    assert!(words.contains("a storage quota is of a prefix, not of a user"), "{words}");
    assert!(complaint(&cluster, "limit remove none", 1).contains("no rule has this name"));

    cluster.kill_all();
    cluster.spawn_all();
    cluster.wait_ready().await;
    let again = told(&cluster, "limit list");
    assert_eq!(again["limits"], listed["limits"]);
    assert!(complaint(&cluster, "ctl put q/9 v", 1).contains("is used up"));
    told(&cluster, "limit remove q");
    told(&cluster, "ctl put q/9 v");
    cluster.wait_agreement().await;
}
