//! Names: who is where, by `quorate name` and by DNS, while instances fall ill, come back, are
//! killed and replaced, and while the cluster loses its quorum.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};
use support::cluster::{Cluster, SOON, Settings, binary};
use support::net::{free_port, loopback};

/// Time between two looks at something that is waited for.
const GLANCE: Duration = Duration::from_millis(50);

const A: u16 = 1;
const SRV: u16 = 33;

const NOERROR: u8 = 0;
const SERVFAIL: u8 = 2;
const NXDOMAIN: u8 = 3;
const REFUSED: u8 = 5;

/// A cluster whose members answer DNS.
struct Named {
    cluster: Cluster,
    dns: Vec<u16>,
}

impl Named {
    async fn start() -> Named {
        let settings = Settings::of(3).with("--dns-max-stale", "1s").with("--bcrypt-cost", 4);
        let mut cluster = Cluster::prepare(settings);
        let dns: Vec<u16> = (0..3).map(|_| free_port()).collect();
        for (i, port) in dns.iter().enumerate() {
            let mut flags = cluster.flags(i);
            flags.extend(["--listen-dns".to_owned(), format!("127.0.0.1:{port}")]);
            cluster.spawn_with(i, &flags);
        }
        cluster.wait_ready().await;
        Named { cluster, dns }
    }

    fn command(&self, words: &[&str]) -> Command {
        let ports = self.cluster.members.iter().map(|member| member.client_port);
        let all: Vec<String> = ports.map(|port| format!("127.0.0.1:{port}")).collect();
        let mut command = Command::new(binary());
        let (first, rest) = words.split_at(2);
        command.args(first).arg(format!("--endpoints={}", all.join(","))).args(rest);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Status and what was said of a command that ends by itself.
    fn run(&self, words: &[&str]) -> (i32, String) {
        let output = self.command(words).output().expect("the binary under test");
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text).into_owned();
        (output.status.code().expect("a status"), text)
    }

    /// The addresses of the instances, and those of them that are healthy.
    fn resolve(&self, name: &str) -> (BTreeSet<String>, BTreeSet<String>) {
        let (_, text) = self.run(&["name", "resolve", name, "--all", "--json"]);
        let found: Value = serde_json::from_str(&text).expect(&text);
        let of = |wanted: fn(&&Value) -> bool| {
            let instances = found["instances"].as_array().expect("a list").iter();
            let addr = |it: &Value| it["addr"].as_str().expect("text").to_owned();
            instances.filter(wanted).map(addr).collect()
        };
        (of(|_| true), of(|it| it["healthy"] == true))
    }

    /// Waits until every member tells these addresses for `web`, and no others.
    fn wait_dns(&self, wanted: &[[u8; 4]]) {
        let wanted: BTreeSet<Ipv4Addr> = wanted.iter().map(|ip| Ipv4Addr::from(*ip)).collect();
        for port in &self.dns {
            wait(|| {
                let answer = ask_udp(*port, "web.quorate", A)?;
                let found: BTreeSet<Ipv4Addr> = answer.addresses().collect();
                (found == wanted).then_some(()).ok_or(format!("{found:?}, not {wanted:?}"))
            });
        }
    }
}

/// Tries until it succeeds.
fn wait<T>(mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let since = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(why) => assert!(since.elapsed() < SOON, "{why}"),
        }
        std::thread::sleep(GLANCE);
    }
}

/// A command that goes on, and the lines that it prints; it is killed with the test.
struct Running {
    child: Child,
    lines: mpsc::Receiver<String>,
}

impl Running {
    fn start(named: &Named, words: &[&str]) -> Running {
        let mut child = named.command(words).spawn().expect("the binary under test");
        let (tell, lines) = mpsc::channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        std::thread::spawn(move || {
            for line in stdout.lines().map_while(Result::ok) {
                let _ = tell.send(line); // The test may have ended.
            }
        });
        Running { child, lines }
    }

    /// Reads on to a line that begins like this.
    fn wait_line(&self, begin: &str) -> String {
        let mut seen = Vec::new();
        loop {
            match self.lines.recv_timeout(SOON) {
                Ok(line) if line.starts_with(begin) => return line,
                Ok(line) => seen.push(line),
                Err(_) => panic!("no {begin:?} in {seen:#?}"),
            }
        }
    }

    /// Reads on to an event of this kind and address.
    fn wait_event(&self, event: &str, addr: &str) {
        loop {
            let line = self.wait_line("{");
            let told: Value = serde_json::from_str(&line).expect(&line);
            if told["event"] == event && (addr.is_empty() || told["addr"] == addr) {
                return;
            }
        }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn ended(&mut self) -> i32 {
        wait(|| match self.child.try_wait().expect("a child") {
            Some(status) => Ok(status.code().expect("a status")),
            None => Err("it does not end".to_owned()),
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What is told of an answer of DNS: its code, and the records of the answer section.
#[derive(Debug)]
struct Answer {
    rcode: u8,
    is_cut: bool,
    /// Type, time to live, data.
    records: Vec<(u16, u32, Vec<u8>)>,
}

impl Answer {
    fn addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let of = |(_, _, data): &(u16, u32, Vec<u8>)| <[u8; 4]>::try_from(&data[..]).ok();
        self.records.iter().filter(|(rtype, ..)| *rtype == A).filter_map(of).map(Ipv4Addr::from)
    }
}

fn question(name: &str, rtype: u16) -> Vec<u8> {
    // Id, "recursion desired", one question.
    let mut bytes = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(rtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn parse(bytes: &[u8]) -> Answer {
    assert_eq!(bytes[..2], [0x12, 0x34], "the id of the question");
    assert!(bytes[2] & 0x80 != 0, "a response");
    let number = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    let after_name = |mut at: usize| loop {
        match bytes[at] {
            0 => return at + 1,
            pointer if pointer >= 0xc0 => return at + 2,
            length => at += 1 + usize::from(length),
        }
    };
    let mut at = after_name(12) + 4;
    let mut records = Vec::new();
    for _ in 0..number(6) {
        at = after_name(at);
        let (rtype, length) = (number(at), usize::from(number(at + 8)));
        let ttl = u32::from(number(at + 4)) << 16 | u32::from(number(at + 6));
        records.push((rtype, ttl, bytes[at + 10..at + 10 + length].to_vec()));
        at += 10 + length;
    }
    Answer { rcode: bytes[3] & 15, is_cut: bytes[2] & 2 != 0, records }
}

fn ask_udp(port: u16, name: &str, rtype: u16) -> Result<Answer, String> {
    let socket = UdpSocket::bind(loopback(0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a limit");
    socket.send_to(&question(name, rtype), loopback(port)).expect("a datagram");
    let mut buffer = [0; 2_048];
    let length = socket.recv(&mut buffer).map_err(|error| format!("{name}: {error}"))?;
    Ok(parse(&buffer[..length]))
}

fn ask_tcp(port: u16, name: &str, rtype: u16) -> Answer {
    let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    let question = question(name, rtype);
    let length = u16::try_from(question.len()).expect("short");
    stream.write_all(&[&length.to_be_bytes()[..], &question].concat()).expect("a query");
    let mut length = [0; 2];
    stream.read_exact(&mut length).expect("a length");
    let mut answer = vec![0; usize::from(u16::from_be_bytes(length))];
    stream.read_exact(&mut answer).expect("an answer");
    parse(&answer)
}

/// Waits for an answer of this code.
fn wait_code(port: u16, name: &str, rcode: u8) -> Answer {
    wait(|| {
        let answer = ask_udp(port, name, A)?;
        if answer.rcode == rcode { Ok(answer) } else { Err(format!("{name}: {answer:?}")) }
    })
}

#[tokio::test]
async fn instances_come_and_go() {
    let mut named = Named::start().await;
    let watch = Running::start(&named, &["name", "watch", "web", "--json"]);
    watch.wait_event("listed", "");
    let service = TcpListener::bind(loopback(0)).expect("a port");
    let at = service.local_addr().expect("bound");
    let addr = at.to_string();
    let checked = ["--ttl=4", "--check=tcp", "--check-every=100ms", "--service=http"];
    let words = [&["name", "register", "web", addr.as_str()][..], &checked].concat();
    let mut first = Running::start(&named, &words);
    first.wait_line("registered");
    let steady = ["name", "register", "web", "10.0.0.9:80", "--ttl=4"];
    let mut second = Running::start(&named, &steady);
    second.wait_line("registered 10.0.0.9:80 as web");
    // As a client of etcd writes it.
    let of_go = r#"{"Op":0,"Addr":"10.0.0.8:80","Metadata":null}"#;
    named.cluster.client(0).put("names/web/10.0.0.8:80", of_go).await.expect("a put");
    named.wait_dns(&[[127, 0, 0, 1], [10, 0, 0, 9], [10, 0, 0, 8]]);
    zone_is_told(&named);
    if let Some(told) = by_dig(named.dns[1]) {
        assert_eq!(told, ["10.0.0.8", "10.0.0.9", "127.0.0.1"]);
    }

    drop(service);
    first.wait_line("withdrawn");
    watch.wait_event("down", &addr);
    let (all, healthy) = named.resolve("web");
    assert!(all.contains(&addr) && !healthy.contains(&addr) && healthy.len() == 2, "{all:?}");
    named.wait_dns(&[[10, 0, 0, 9], [10, 0, 0, 8]]);
    let service = TcpListener::bind(at).expect("the port it had");
    watch.wait_event("up", &addr);

    // The lease is taken away: it is registered again, under another one.
    let (_, text) = named.run(&["name", "resolve", "web", "--json"]);
    let found: Value = serde_json::from_str(&text).expect(&text);
    let instances = found["instances"].as_array().expect("a list");
    let lease = instances.iter().find(|it| it["addr"] == addr.as_str()).expect("it is there");
    let lease = lease["lease"].as_str().expect("a lease");
    assert_eq!(named.run(&["ctl", "lease", "revoke", lease]).0, 0);
    first.wait_line("lost");
    first.wait_line("registered");
    watch.wait_event("up", &addr);

    // Who registers the same later has it.
    let mut third = Running::start(&named, &steady);
    third.wait_line("registered");
    second.wait_line("replaced");
    assert_eq!(second.ended(), 76);
    third.signal(Signal::TERM);
    assert_eq!(third.ended(), 0);
    watch.wait_event("down", "10.0.0.9:80");

    // Killed, it is gone as soon as its lease is.
    let killed = Instant::now();
    first.signal(Signal::KILL);
    watch.wait_event("down", &addr);
    eprintln!("gone {:?} after the kill, with a lease of 4 s", killed.elapsed());
    named.wait_dns(&[[10, 0, 0, 8]]);
    drop((service, first.child.wait()));

    without_quorum(&mut named).await;
}

fn zone_is_told(named: &Named) {
    let port = named.dns[0];
    let services = ask_tcp(port, "_http._tcp.WEB.quorate", SRV);
    assert_eq!((services.rcode, services.records.len()), (NOERROR, 3), "{services:?}");
    assert!(services.records.iter().all(|(rtype, ttl, _)| *rtype == SRV && *ttl <= 4));
    let others = ask_udp(port, "_ftp._tcp.web.quorate", SRV).expect("an answer");
    assert_eq!(others.records.len(), 2, "the one that says what it serves serves no other");
    for (name, rcode) in [("nobody.quorate", NXDOMAIN), ("web.example", REFUSED)] {
        assert_eq!(wait_code(port, name, rcode).records.len(), 0);
    }
    let wrong = ask_udp(port, "web.quorate", 16).expect("an answer");
    assert_eq!((wrong.rcode, wrong.records.len(), wrong.is_cut), (NOERROR, 0, false));
}

/// The addresses of `web`, sorted, as `dig` tells them.
fn by_dig(port: u16) -> Option<Vec<String>> {
    let port = port.to_string();
    let words = ["@127.0.0.1", "-p", &port, "web.quorate", "A", "+short"];
    let Ok(output) = Command::new("dig").args(words).output() else {
        eprintln!("SKIPPED: dig not found on PATH; install bind9-dnsutils");
        return None;
    };
    let mut told: Vec<String> =
        String::from_utf8_lossy(&output.stdout).lines().map(str::to_owned).collect();
    told.sort();
    Some(told)
}

/// Users guard the store: nothing is told. No quorum: nothing that may be old is told.
async fn without_quorum(named: &mut Named) {
    for words in [
        &["ctl", "user", "add", "root:secret"][..],
        &["ctl", "user", "grant-role", "root", "root"],
        &["ctl", "auth", "enable"],
    ] {
        let (status, text) = named.run(&[words, &["--timeout=60"]].concat());
        assert_eq!(status, 0, "{text}");
    }
    named.dns.iter().for_each(|port| drop(wait_code(*port, "web.quorate", REFUSED)));
    let (status, text) =
        named.run(&["ctl", "auth", "disable", "--user=root:secret", "--timeout=60"]);
    assert_eq!(status, 0, "{text}");
    named.dns.iter().for_each(|port| drop(wait_code(*port, "web.quorate", NOERROR)));
    named.cluster.kill(0);
    named.cluster.kill(1);
    wait_code(named.dns[2], "web.quorate", SERVFAIL);
    assert_eq!(wait_code(named.dns[2], "web.example", REFUSED).records.len(), 0);
}
