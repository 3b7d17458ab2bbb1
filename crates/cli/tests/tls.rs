//! Members that serve over TLS, as real processes, and those who must not get in.

mod support;

use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::tls::pki::{Authority, Wanted};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use support::cluster::{Cluster, SOON, Settings, binary};
use support::net::{free_ports, loopback};
use support::report;
use support::secured::{Secured, Tool, put, said, tools};

#[tokio::test]
async fn clients_are_served_over_tls_and_only_over_tls() {
    let secured = Secured::prepare(Settings::of(1)).start().await;
    for tool in tools() {
        secured.tool_soon(&tool, None, "put hello world");
        let done = secured.tool_soon(&tool, None, "get hello");
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
        secured.tool_soon(&tool, Some("client"), "put hello world");
        let done = secured.tool_soon(&tool, Some("client"), "get hello");
        assert_eq!(said(&done).lines().collect::<Vec<_>>(), ["hello", "world"]);
    }
    secured.cluster.kill(2);
    for number in 0..200 {
        secured.put_soon(0, &format!("key-{number}"), "x".repeat(1_000)).await;
    }
    secured.spawn(2);
    secured.wait_ready(2).await;
    // It came back by a checkpoint, which travels on a lane of its own.
    secured.cluster.wait_log(2, &["received a checkpoint"]).await;
    assert_eq!(secured.count_soon(2, "key-199").await, 1);
    for i in 0..3 {
        let log = secured.cluster.log(i);
        assert!(!log.contains("PRIVATE KEY"), "a key in a log");
    }
}

#[tokio::test]
async fn who_may_not_get_in_is_refused_and_the_log_says_why() {
    let secured = Secured::prepare(Settings::of(1)).closed().with_metrics_of(0);
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
    secured.put_soon(0, "a", 1).await; // Who may is served.
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
    let secured = Secured::prepare(Settings::of(1)).closed().with_metrics_of(0).start().await;
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

#[tokio::test]
async fn what_ends_soon_is_told_in_the_log_and_by_metrics() {
    let secured = Secured::prepare(Settings::of(1)).closed().with_metrics_of(0);
    // Three files with three ends; that of the CA is far.
    let lasting = |days| Wanted::member("member", &["127.0.0.1"]).lasting(days);
    let ends = [("m1", 29), ("caller", 6), ("checked", 1)];
    ends.iter().for_each(|(name, days)| secured.issue(name, &lasting(*days)));
    let pair =
        |name: &str| (secured.text(&format!("{name}.crt")), secured.text(&format!("{name}.key")));
    let (caller, checked) = (pair("caller"), pair("checked"));
    let secured = secured
        .with("--peer-client-cert-file", caller.0)
        .with("--peer-client-key-file", caller.1)
        .with("--client-cert-file", checked.0)
        .with("--client-key-file", checked.1)
        .start()
        .await;
    // Made and looked at in one second, or not.
    let told = [("m1", 29, "days"), ("caller", 6, "days"), ("checked", 24, "hours")];
    for (name, left, unit) in told {
        let file = secured.text(&format!("{name}.crt"));
        let line = |left: u32| format!("{file} expires in {left} {unit}, at 20");
        secured.cluster.wait_log(0, &[&line(left), &line(left - 1)]).await;
    }
    let gauge = |name: &str| {
        let file = secured.text(&format!("{name}.crt"));
        secured.metric(&format!("quorate_certificate_expiry_seconds{{file=\"{file}\"")).expect(name)
    };
    for (name, days) in ends.into_iter().chain([("ca", 100)]) {
        let left = gauge(name) / 86_400.0;
        assert!(left <= f64::from(days) && left > f64::from(days) - 0.5, "{name}: {left} days");
    }
    let log = secured.cluster.log(0);
    assert_eq!(log.matches(" expires in ").count(), 4, "each once, m1 for either port:\n{log}");
    // What is replaced is told no more, and its figure follows.
    secured.issue("m1", &lasting(200));
    let deadline = Instant::now() + SOON;
    while gauge("m1") < 199.0 * 86_400.0 {
        assert!(Instant::now() < deadline, "the new certificate is not in force");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(secured.cluster.log(0).matches(" expires in ").count(), 4);
}

#[tokio::test]
async fn an_expired_peer_is_told_from_when_by_both_sides_and_comes_back_renewed() {
    let secured = Secured::prepare(Settings::of(3)).closed();
    let mut secured = secured.with_metrics_of(1);
    secured.issue("m3", &Wanted::member("member", &["127.0.0.1"]).lasting(-1));
    for i in 0..3 {
        secured.spawn(i);
    }
    secured.wait_ready(0).await;
    secured.wait_ready(1).await;
    // Who calls it, who is called by it, and itself.
    let called = "no TLS with the peer: its certificate has expired: good until 20";
    secured.cluster.wait_log(1, &[called]).await;
    let calls = "rejected a connection: its certificate has expired: good until 20";
    secured.cluster.wait_log(1, &[calls]).await;
    secured.cluster.wait_log(2, &["m3.crt expired 24 hours ago, at 20"]).await;
    secured.cluster.wait_log(2, &["it says that our certificate has expired"]).await;
    let refused = "quorate_tls_handshake_failures_total{listener=\"peer\",reason=\"expired\"}";
    assert!(secured.metric(refused) >= Some(1.0));
    secured.put_soon(0, "without", 3).await;
    secured.issue("m3", &Wanted::member("member", &["127.0.0.1"]));
    secured.wait_ready(2).await;
    assert_eq!(secured.count_soon(2, "without").await, 1);
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
    let mut client = secured.cluster.client(0);
    let deadline = Instant::now() + SOON;
    while let Err(failure) = client.put("before", "1").await {
        assert!(Instant::now() < deadline, "nothing can be written: {failure}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for i in 0..3 {
        assert!(secured.cluster.stop(i).success());
    }
    let secured = secured.start().await;
    assert_eq!(secured.count_soon(1, "before").await, 1, "TLS makes nobody another");
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
