//! Members that serve over TLS, as real processes, and those who must not get in.

mod support;

use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::{PutRequest, RangeRequest};
use quorate_server::tls::pki::{Authority, Existing, Issued, Wanted};
use quorate_server::tls::{Client, ClientFiles, Verify};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::cluster::{Cluster, SOON, Settings, binary};
use support::net::{free_ports, loopback};
use support::report;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Members over TLS, and the CA that has signed for them.
struct Secured {
    cluster: Cluster,
    ca: Authority,
    pki: TempDir,
    flags: Vec<(&'static str, String)>,
}

impl Secured {
    /// A CA, a certificate for each member and one for the client `root`; no process yet.
    fn prepare(settings: Settings) -> Secured {
        let pki = tempfile::tempdir().expect("a directory");
        let ca = Authority::create("test CA", 100).expect("a CA");
        let cluster = Cluster::prepare(settings);
        let secured = Secured { cluster, ca, pki, flags: Vec::new() };
        fs::write(secured.path("ca.crt"), secured.ca.own().cert_pem()).expect("a file");
        for member in &secured.cluster.members {
            secured.issue(&member.name, &Wanted::member("member", &["127.0.0.1"]));
        }
        secured.issue("client", &Wanted::client("root"));
        secured
    }

    fn path(&self, file: &str) -> PathBuf {
        self.pki.path().join(file)
    }

    fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    fn keep(&self, name: &str, issued: &Issued) {
        let (cert, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        issued.write(&cert, &key, Existing::Replace).expect("two files");
    }

    fn issue(&self, name: &str, wanted: &Wanted) {
        self.keep(name, &self.ca.issue(wanted).expect("a certificate"));
    }

    fn with(mut self, flag: &'static str, value: impl Into<String>) -> Secured {
        self.flags.push((flag, value.into()));
        self
    }

    /// Certificates are wanted of clients and of peers.
    fn closed(self) -> Secured {
        let ca = self.text("ca.crt");
        self.with("--trusted-ca-file", ca.clone()).with("--peer-trusted-ca-file", ca)
    }

    /// The flags of member `i`, all of whose URLs are https.
    fn flags(&self, i: usize) -> Vec<String> {
        let https = |word: String| word.replace("http://", "https://");
        let mut flags: Vec<String> = self.cluster.flags(i).into_iter().map(https).collect();
        let name = &self.cluster.members[i].name;
        let own = [
            ("--cert-file", format!("{name}.crt")),
            ("--key-file", format!("{name}.key")),
            ("--peer-cert-file", format!("{name}.crt")),
            ("--peer-key-file", format!("{name}.key")),
        ];
        flags.extend(own.iter().flat_map(|(flag, file)| [(*flag).to_owned(), self.text(file)]));
        flags.extend(
            self.flags.iter().flat_map(|(flag, value)| [(*flag).to_owned(), value.clone()]),
        );
        flags
    }

    fn spawn(&mut self, i: usize) {
        let flags = self.flags(i);
        self.cluster.spawn_with(i, &flags);
    }

    async fn start(mut self) -> Secured {
        for i in 0..self.cluster.members.len() {
            self.spawn(i);
        }
        for i in 0..self.cluster.members.len() {
            self.wait_ready(i).await;
        }
        self
    }

    /// Waits until member `i` answers a linearizable read.
    async fn wait_ready(&mut self, i: usize) {
        let deadline = Instant::now() + SOON;
        let mut kv = self.kv(i, Some("client"));
        loop {
            let read = RangeRequest { key: "ready?".into(), ..RangeRequest::default() };
            let failure = match kv.range(read).await {
                Ok(_) => return,
                Err(failure) => failure,
            };
            assert!(self.cluster.is_alive(i), "member {i} ended while it started");
            assert!(Instant::now() < deadline, "member {i} is not ready: {failure}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// How one calls who shows the pair of that name.
    fn client(&self, pair: Option<&str>) -> Client {
        let file = |ending: &str| pair.map(|name| self.path(&format!("{name}.{ending}")));
        let ca = Some(self.path("ca.crt"));
        let files = ClientFiles { ca, cert: file("crt"), key: file("key"), verify: Verify::Server };
        Client::new(&files).expect("good files")
    }

    fn endpoint(&self, i: usize) -> Endpoint {
        let url = format!("https://127.0.0.1:{}", self.cluster.members[i].client_port);
        Endpoint::from_shared(url).expect("a URL")
    }

    fn kv(&self, i: usize, pair: Option<&str>) -> KvClient<Channel> {
        KvClient::new(self.client(pair).channel(&self.endpoint(i)))
    }

    fn endpoints(&self) -> String {
        let ports = self.cluster.members.iter().map(|member| member.client_port);
        ports.map(|port| format!("https://127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// A command of `program` that trusts the CA and shows the pair of that name.
    fn tool(&self, program: &Tool, pair: Option<&str>, words: &str) -> Output {
        let mut command = match program {
            Tool::Etcdctl => Command::new("etcdctl"),
            Tool::Ours => {
                let mut command = Command::new(binary());
                command.arg("ctl");
                command
            }
        };
        command.env("ETCDCTL_API", "3").args(words.split(' '));
        command.arg(format!("--cacert={}", self.text("ca.crt")));
        if let Some(name) = pair {
            command.arg(format!("--cert={}", self.text(&format!("{name}.crt"))));
            command.arg(format!("--key={}", self.text(&format!("{name}.key"))));
        }
        command.arg(format!("--endpoints={}", self.endpoints())).output().expect("a program")
    }

    /// A figure of `/metrics`, asked on the plain port of [`Secured::with_metrics`].
    fn metric(&self, name: &str) -> Option<f64> {
        let (_, url) = self.flags.iter().find(|(flag, _)| *flag == "--listen-metrics-urls")?;
        let port = url.rsplit(':').next()?.parse().expect("a port");
        let (_, page) = support::net::http_get(port, "/metrics").expect("an answer");
        let line = page.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
    }

    fn with_metrics(self) -> Secured {
        let port = support::net::free_port();
        self.with("--listen-metrics-urls", format!("http://127.0.0.1:{port}"))
    }
}

enum Tool {
    Etcdctl,
    Ours,
}

fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The tools that are here; ours always is.
fn tools() -> Vec<Tool> {
    let mut tools = vec![Tool::Ours];
    if Command::new("etcdctl").arg("version").output().is_ok() {
        tools.push(Tool::Etcdctl);
    } else {
        report("SKIPPED: etcdctl not found on PATH; install etcd-client");
    }
    tools
}

fn put(key: &str, value: impl ToString) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_string().into(),
        ..PutRequest::default()
    }
}

#[tokio::test]
async fn clients_are_served_over_tls_and_only_over_tls() {
    let secured = Secured::prepare(Settings::of(1)).start().await;
    for tool in tools() {
        let done = secured.tool(&tool, None, "put hello world");
        assert!(done.status.success(), "{}", said(&done));
        let done = secured.tool(&tool, None, "get hello");
        assert_eq!(said(&done).lines().collect::<Vec<_>>(), ["hello", "world"]);
    }
    // Who trusts another CA refuses the member.
    let other = Authority::create("other", 10).expect("a CA");
    fs::write(secured.path("ca.crt"), other.own().cert_pem()).expect("a file");
    for tool in tools() {
        let words = match tool {
            Tool::Etcdctl => "get hello --dial-timeout=2s --command-timeout=2s",
            Tool::Ours => "get hello",
        };
        let refused = secured.tool(&tool, None, words);
        assert!(!refused.status.success(), "{}", said(&refused));
        if matches!(tool, Tool::Ours) {
            assert!(said(&refused).contains("unknown authority"), "{}", said(&refused));
        }
    }
    secured.cluster.wait_log(0, &["it does not know the ca of our certificate"]).await;
    // Without TLS: HTTP is told so, and so is gRPC.
    let port = secured.cluster.members[0].client_port;
    let (line, body) = support::net::http_get(port, "/version").expect("an answer");
    assert!(line.contains("400 Bad Request") && body.contains("HTTPS"), "{line} {body}");
    let plain = Command::new(binary())
        .args(["ctl", "get", "hello", &format!("--endpoints=http://127.0.0.1:{port}")])
        .output()
        .expect("our own");
    assert!(said(&plain).contains("TLS"), "{}", said(&plain));
    secured.cluster.wait_log(0, &["it speaks http/2 (grpc) without tls"]).await;
}

#[tokio::test]
async fn three_members_over_mutual_tls_lose_one_and_take_it_back() {
    let settings = Settings::of(3).with("--checkpoint-bytes", 20_000).with("--log-retain-bytes", 1);
    let mut secured = Secured::prepare(settings).closed().start().await;
    for tool in tools() {
        let done = secured.tool(&tool, Some("client"), "put hello world");
        assert!(done.status.success(), "{}", said(&done));
    }
    secured.cluster.kill(2);
    let mut kv = secured.kv(0, Some("client"));
    for number in 0..200 {
        let large = put(&format!("key-{number}"), "x".repeat(1_000));
        let deadline = Instant::now() + SOON;
        while let Err(failure) = kv.put(large.clone()).await {
            assert!(Instant::now() < deadline, "no majority serves: {failure}");
        }
    }
    secured.spawn(2);
    secured.wait_ready(2).await;
    // It came back by a checkpoint, which travels on a lane of its own.
    secured.cluster.wait_log(2, &["received a checkpoint"]).await;
    let read = RangeRequest { key: "key-199".into(), ..RangeRequest::default() };
    let answer = secured.kv(2, Some("client")).range(read).await.expect("an answer");
    assert_eq!(answer.into_inner().count, 1);
    for i in 0..3 {
        let log = secured.cluster.log(i);
        assert!(!log.contains("PRIVATE KEY"), "a key in a log");
    }
}

#[tokio::test]
async fn who_may_not_get_in_is_refused_and_the_log_says_why() {
    let secured = Secured::prepare(Settings::of(1)).closed().with_metrics();
    let revoked = secured.ca.issue(&Wanted::client("root")).expect("a certificate");
    secured.keep("revoked", &revoked);
    let list = secured.ca.revoke(&[revoked.serial()]).expect("a list");
    fs::write(secured.path("crl.pem"), list).expect("a file");
    let crl = secured.text("crl.pem");
    let secured = secured.with("--client-crl-file", crl).start().await;
    secured.issue("expired", &Wanted::client("root").lasting(-1));
    let foreign = Authority::create("test CA", 10).expect("another CA of the same name");
    secured.keep("foreign", &foreign.issue(&Wanted::client("root")).expect("a certificate"));
    let cases = [
        (None, "it showed no certificate", "no_certificate"),
        (Some("expired"), "its certificate has expired: good until", "expired"),
        (Some("foreign"), "signed by an unknown authority", "unknown_ca"),
        (Some("revoked"), "its certificate has been revoked", "revoked"),
    ];
    for (pair, reason, label) in cases {
        let outcome = secured.kv(0, pair).put(put("a", 1)).await;
        assert!(outcome.is_err(), "{pair:?} was let in");
        secured.cluster.wait_log(0, &[reason]).await;
        let log = secured.cluster.log(0);
        let line = log.lines().rfind(|line| line.contains(reason)).expect("just seen");
        assert!(line.contains("127.0.0.1:") && line.contains(label), "{line}");
        let name = "quorate_tls_handshake_failures_total{listener=\"client\",reason=\"";
        assert!(secured.metric(&format!("{name}{label}")) >= Some(1.0), "{label}");
    }
    for garbage in [&b"\0\x01\x02garbage"[..], b"\x16\x03\x01\0\x02hi", b"GET"] {
        let mut stream =
            TcpStream::connect(loopback(secured.cluster.members[0].client_port)).expect("a port");
        stream.write_all(garbage).expect("sends");
        stream.set_read_timeout(Some(SOON)).expect("a socket");
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer); // However it ends.
        assert!(answer.len() < 200, "{answer:?}");
    }
    secured.kv(0, Some("client")).put(put("a", 1)).await.expect("who may is served");
}

#[tokio::test]
async fn a_peer_must_have_an_allowed_name() {
    let secured = Secured::prepare(Settings::of(3)).closed();
    secured.issue("m3", &Wanted::member("stranger", &["127.0.0.1"]));
    let mut secured = secured.with("--peer-cert-allowed-cn", "member,operator");
    for i in 0..3 {
        secured.spawn(i);
    }
    secured.wait_ready(0).await;
    secured.wait_ready(1).await;
    secured.cluster.wait_log(0, &["its commonname \"stranger\" is not allowed"]).await;
    secured.cluster.wait_log(2, &["still waiting for a majority", "no tls with the peer"]).await;
    // With the right name it is let in.
    secured.issue("m3", &Wanted::member("member", &["127.0.0.1"]));
    secured.wait_ready(2).await;
}

#[tokio::test]
async fn a_peer_without_tls_and_one_with_too_much_are_told() {
    let mut secured = Secured::prepare(Settings::of(3)).closed();
    secured.spawn(0);
    secured.spawn(1);
    secured.cluster.spawn(2); // All its URLs are plain.
    secured.cluster.wait_log(0, &["without tls to a port that wants tls"]).await;
    secured.cluster.wait_log(2, &["this port speaks TLS: write https://"]).await;
    secured.cluster.wait_log(2, &["it speaks tls to a port without tls"]).await;
    secured.cluster.wait_log(0, &["it does not speak tls on this port: write http://"]).await;
}

#[tokio::test]
async fn certificates_are_renewed_under_load_and_no_request_fails() {
    let secured = Secured::prepare(Settings::of(1)).closed().with_metrics().start().await;
    let stop = Arc::new(AtomicBool::new(false));
    let done = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for number in 0..4 {
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        let (client, endpoint) = (secured.client(Some("client")), secured.endpoint(0));
        writers.push(tokio::spawn(async move {
            let mut kv = KvClient::new(client.channel(&endpoint));
            while !stop.load(Ordering::Relaxed) {
                // Half of them shake hands for every request.
                if number % 2 == 0 {
                    let channel = client.connect(endpoint.clone()).await.expect("a connection");
                    kv = KvClient::new(channel);
                }
                kv.put(put(&format!("w{number}"), 1)).await.expect("no request fails");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }
    let gauge = format!("quorate_certificate_expiry_seconds{{file=\"{}\"", secured.text("m1.crt"));
    let left = secured.metric(&gauge).expect("a gauge");
    assert!((364.0..=365.0).contains(&(left / 86_400.0)), "{left}");
    for round in 1..=3 {
        let wanted = Wanted::member("member", &["127.0.0.1"]).lasting(5);
        secured.issue("m1", &wanted);
        let deadline = Instant::now() + SOON;
        while secured.metric("quorate_certificate_reloads_total") < Some(f64::from(round)) {
            assert!(Instant::now() < deadline, "round {round} was not taken into force");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        // And each is really served: it is not the one before, nor a broken one.
        fs::write(secured.path("m1.crt"), "-----BEGIN CERTIFICATE-----\n").expect("a file");
        secured.cluster.wait_log(0, &["those read before stay in force"]).await;
        let before = done.load(Ordering::Relaxed);
        while done.load(Ordering::Relaxed) < before + 100 {
            assert!(Instant::now() < deadline, "requests stand still");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.expect("no request failed");
    }
    let left = secured.metric(&gauge).expect("a gauge");
    assert!(left / 86_400.0 <= 5.0, "{left}");
    secured.cluster.wait_log(0, &["expires in 4 days", "expires in 5 days"]).await;
    report(format!("{} requests", done.load(Ordering::Relaxed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_handshakes_does_not_stop_others() {
    let files = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: files.maximum, ..files }).expect("a limit");
    let secured = Secured::prepare(Settings::of(1)).closed().with_metrics().start().await;
    let port = secured.cluster.members[0].client_port;
    let mut kv = secured.kv(0, Some("client"));
    let leader_changes = secured.metric("etcd_server_leader_changes_seen_total");
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
    let mut worst = Duration::ZERO;
    let mut connected = 0;
    while began.elapsed() < Duration::from_secs(5) {
        let asked = Instant::now();
        kv.put(put("a", 1)).await.expect("who is known is served");
        worst = worst.max(asked.elapsed());
        let mut newcomer = secured.kv(0, Some("client"));
        newcomer.put(put("b", 1)).await.expect("who comes with a certificate is served");
        connected += 1;
    }
    stop.store(true, Ordering::Relaxed);
    let mut tried = 0;
    for stranger in strangers {
        tried += stranger.await.expect("no panic");
    }
    report(format!("{tried} strangers, {connected} newcomers, slowest put {worst:?}"));
    assert!(tried > 100, "no flood");
    assert!(worst < Duration::from_secs(5), "a put took {worst:?}");
    assert!(connected > 5);
    let after = secured.metric("etcd_server_leader_changes_seen_total");
    assert_eq!(leader_changes, after, "the flood cost the leader its office");
    let crowded = "quorate_tls_handshake_failures_total{listener=\"client\",reason=\"crowded\"";
    assert!(secured.metric(crowded) > Some(0.0), "the oldest made room");
    let lines = secured.cluster.log(0).lines().filter(|line| line.contains("rejected a")).count();
    assert!(lines < 100, "{lines} lines in the log");
}

#[tokio::test]
async fn a_member_makes_its_own_certificates() {
    let mut cluster = Cluster::prepare(Settings::of(3));
    let mut all = Vec::new();
    for i in 0..3 {
        let https = |word: String| word.replace("http://", "https://");
        let mut flags: Vec<String> = cluster.flags(i).into_iter().map(https).collect();
        flags.extend(["--auto-tls".to_owned(), "--peer-auto-tls".to_owned()]);
        cluster.spawn_with(i, &flags);
        all.push(format!("https://127.0.0.1:{}", cluster.members[i].client_port));
    }
    let endpoints = format!("--endpoints={}", all.join(","));
    let deadline = Instant::now() + SOON;
    loop {
        let words = ["ctl", "put", "hello", "world", "--insecure-skip-tls-verify"];
        let done = Command::new(binary()).args(words).arg(&endpoints).output().expect("our own");
        if done.status.success() {
            break;
        }
        assert!(Instant::now() < deadline, "{}", said(&done));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let words = ["ctl", "get", "hello"];
    let refused = Command::new(binary()).args(words).arg(&endpoints).output().expect("our own");
    assert!(said(&refused).contains("unknown authority"), "{}", said(&refused));
    let key = cluster.members[0].data_dir.join("fixtures/client/key.pem");
    assert_eq!(fs::metadata(key).expect("a key").permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_cluster_moves_to_tls_with_its_data() {
    let mut secured = Secured::prepare(Settings::of(3)).closed();
    secured.cluster.spawn_all();
    secured.cluster.wait_ready().await;
    let client = secured.cluster.client(0);
    let mut client = client;
    client.put("before", "1").await.expect("a write");
    for i in 0..3 {
        assert!(secured.cluster.stop(i).success());
    }
    let secured = secured.start().await;
    let read = RangeRequest { key: "before".into(), ..RangeRequest::default() };
    let answer = secured.kv(1, Some("client")).range(read).await.expect("an answer");
    assert_eq!(answer.into_inner().count, 1, "TLS makes nobody another");
}

#[test]
fn bad_certificates_keep_a_member_from_starting_and_say_why() {
    let secured = Secured::prepare(Settings::of(1)).closed();
    fs::write(secured.path("m1.key"), "no key").expect("a file");
    let output = |flags: &[String]| {
        Command::new(binary()).arg("serve").args(flags).output().expect("our own")
    };
    let broken = output(&secured.flags(0));
    assert_eq!(broken.status.code(), Some(2));
    assert!(said(&broken).contains("m1.key holds no private key"), "{}", said(&broken));
    fs::remove_file(secured.path("m1.key")).expect("a file");
    let broken = output(&secured.flags(0));
    assert!(said(&broken).contains("cannot read"), "{}", said(&broken));
    let data = &secured.cluster.members[0].data_dir;
    assert!(!data.exists(), "nothing was written before the files were read");
}

#[test]
fn a_pki_of_ones_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let pki = |words: &str| {
        let mut command = Command::new(binary());
        command.arg("pki").args(words.split(' ')).arg("--dir").arg(dir.path());
        command.output().expect("our own")
    };
    let none = pki("issue client alice");
    assert_eq!(none.status.code(), Some(2));
    assert!(said(&none).contains("quorate pki init"), "{}", said(&none));
    for words in ["init", "issue member m1 --host 10.0.0.1,m1.example", "issue client alice"] {
        let done = pki(words);
        assert_eq!(done.status.code(), Some(0), "{words}: {}", said(&done));
        assert!(!said(&done).contains("PRIVATE"), "{}", said(&done));
        let again = pki(words);
        assert_eq!(again.status.code(), Some(2));
        assert!(said(&again).contains("--force"), "{words}: {}", said(&again));
    }
    let before = fs::read(dir.path().join("alice.key")).expect("a key");
    assert_eq!(pki("issue client alice --force").status.code(), Some(0));
    assert_ne!(fs::read(dir.path().join("alice.key")).expect("a key"), before);
    for key in ["ca.key", "m1.key", "alice.key"] {
        let mode = fs::metadata(dir.path().join(key)).expect(key).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    for wrong in ["issue client ../x", "issue member m2 --host http://a", "issue member m2"] {
        assert_eq!(pki(wrong).status.code(), Some(2), "{wrong}");
    }
}

#[test]
fn a_local_cluster_over_tls_in_one_command() {
    let dir = tempfile::tempdir().expect("a directory");
    let base = free_ports(2);
    let mut up = Command::new(binary())
        .args(["up", "--tls", "--nodes", "1", "--port-base", &base.to_string(), "--data"])
        .arg(dir.path())
        .stdout(Stdio::piped())
        .spawn()
        .expect("our own");
    let mut lines = BufReader::new(up.stdout.take().expect("a pipe")).lines();
    let mut said_so = String::new();
    while !said_so.contains("stop     Ctrl-C") {
        said_so += &lines.next().expect("it comes to serve").expect("text");
        said_so.push('\n');
    }
    let line = |program: &str| -> Vec<String> {
        let line = said_so.lines().find(|line| line.contains(program)).expect(program);
        let words = line.trim().trim_start_matches("try").split_whitespace();
        words.map(str::to_owned).collect()
    };
    if tools().len() > 1 {
        let words = line("etcdctl ");
        let done = Command::new(&words[0]).env("ETCDCTL_API", "3").args(&words[1..]).output();
        let done = done.expect("etcdctl");
        assert!(done.status.success(), "{words:?}: {}", said(&done));
    }
    let words = line("quorate ctl ");
    let done = Command::new(binary()).args(&words[1..]).output().expect("our own");
    assert!(done.status.success(), "{words:?}: {}", said(&done));
    up.kill().expect("it runs");
    up.wait().expect("it has ended");
}
