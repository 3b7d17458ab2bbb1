//! Members over TLS, the CA that signs for them, and the tools that ask them.

use crate::support::cluster::{Cluster, SOON, Settings, binary};
use crate::support::net::{free_port, http_get};
use crate::support::report;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::{PutRequest, RangeRequest};
use quorate_server::tls::pki::{Authority, Existing, Issued, Wanted};
use quorate_server::tls::{Client, ClientFiles, Verify};
use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Members over TLS, and the CA that has signed for them.
pub(crate) struct Secured {
    /// Its processes, all of whose URLs are https when they are spawned from here.
    pub(crate) cluster: Cluster,
    /// Whom members and clients trust.
    pub(crate) ca: Authority,
    pki: TempDir,
    flags: Vec<(&'static str, String)>,
    /// Whose metrics are asked, at which port.
    metrics: Option<(usize, u16)>,
}

impl Secured {
    /// A CA, a certificate for each member and one for the client `root`; no process yet.
    pub(crate) fn prepare(settings: Settings) -> Secured {
        let pki = tempfile::tempdir().expect("a directory");
        let ca = Authority::create("test CA", 100).expect("a CA");
        let cluster = Cluster::prepare(settings);
        let secured = Secured { cluster, ca, pki, flags: Vec::new(), metrics: None };
        fs::write(secured.path("ca.crt"), secured.ca.own().cert_pem()).expect("a file");
        for member in &secured.cluster.members {
            secured.issue(&member.name, &Wanted::member("member", &["127.0.0.1"]));
        }
        secured.issue("client", &Wanted::client("root"));
        secured
    }

    /// A file of the PKI.
    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.pki.path().join(file)
    }

    /// The same as text.
    pub(crate) fn text(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// Writes a pair as `NAME.crt` and `NAME.key`, over what was there.
    pub(crate) fn keep(&self, name: &str, issued: &Issued) {
        let (cert, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        issued.write(&cert, &key, Existing::Replace).expect("two files");
    }

    /// Has the CA sign, and keeps the pair.
    pub(crate) fn issue(&self, name: &str, wanted: &Wanted) {
        self.keep(name, &self.ca.issue(wanted).expect("a certificate"));
    }

    /// The same with one more flag for each member.
    pub(crate) fn with(mut self, flag: &'static str, value: impl Into<String>) -> Secured {
        self.flags.push((flag, value.into()));
        self
    }

    /// Certificates are wanted of clients and of peers.
    pub(crate) fn closed(self) -> Secured {
        let ca = self.text("ca.crt");
        self.with("--trusted-ca-file", ca.clone()).with("--peer-trusted-ca-file", ca)
    }

    /// The flags of member `i`, all of whose URLs are https.
    pub(crate) fn flags(&self, i: usize) -> Vec<String> {
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
        if let Some((_, port)) = self.metrics.filter(|(member, _)| *member == i) {
            flags.push(format!("--listen-metrics-urls=http://127.0.0.1:{port}"));
        }
        flags
    }

    /// Starts member `i`.
    pub(crate) fn spawn(&mut self, i: usize) {
        let flags = self.flags(i);
        self.cluster.spawn_with(i, &flags);
    }

    /// Starts all and waits until they serve.
    pub(crate) async fn start(mut self) -> Secured {
        for i in 0..self.cluster.members.len() {
            self.spawn(i);
        }
        for i in 0..self.cluster.members.len() {
            self.wait_ready(i).await;
        }
        self
    }

    /// Waits until member `i` answers a linearizable read.
    pub(crate) async fn wait_ready(&mut self, i: usize) {
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
    pub(crate) fn client(&self, pair: Option<&str>) -> Client {
        let file = |ending: &str| pair.map(|name| self.path(&format!("{name}.{ending}")));
        let ca = Some(self.path("ca.crt"));
        let files = ClientFiles { ca, cert: file("crt"), key: file("key"), verify: Verify::Server };
        Client::new(&files).expect("good files")
    }

    /// Where member `i` serves clients.
    pub(crate) fn endpoint(&self, i: usize) -> Endpoint {
        let url = format!("https://127.0.0.1:{}", self.cluster.members[i].client_port);
        Endpoint::from_shared(url).expect("a URL")
    }

    /// A client of member `i` that shows the pair of that name; it connects when it is first
    /// used.
    pub(crate) fn kv(&self, i: usize, pair: Option<&str>) -> KvClient<Channel> {
        KvClient::new(self.client(pair).channel(&self.endpoint(i)))
    }

    /// Of all members, for a command.
    pub(crate) fn endpoints(&self) -> String {
        let ports = self.cluster.members.iter().map(|member| member.client_port);
        ports.map(|port| format!("https://127.0.0.1:{port}")).collect::<Vec<_>>().join(",")
    }

    /// A command of `program` that trusts the CA and shows the pair of that name.
    pub(crate) fn tool(&self, program: &Tool, pair: Option<&str>, words: &str) -> Output {
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

    /// The same until it succeeds: a cluster may be about to elect.
    pub(crate) fn tool_soon(&self, program: &Tool, pair: Option<&str>, words: &str) -> Output {
        let deadline = Instant::now() + SOON;
        loop {
            let done = self.tool(program, pair, words);
            if done.status.success() {
                return done;
            }
            assert!(Instant::now() < deadline, "{words}: {}", said(&done));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Puts by member `i` as the client `root`, again until it succeeds.
    pub(crate) async fn put_soon(&self, i: usize, key: &str, value: impl ToString) {
        let deadline = Instant::now() + SOON;
        let mut kv = self.kv(i, Some("client"));
        while let Err(failure) = kv.put(put(key, value.to_string())).await {
            assert!(Instant::now() < deadline, "{key} cannot be put: {failure}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Reads by member `i` until there is an answer: how many of that key there are.
    pub(crate) async fn count_soon(&self, i: usize, key: &str) -> i64 {
        let deadline = Instant::now() + SOON;
        let mut kv = self.kv(i, Some("client"));
        loop {
            let read = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
            let failure = match kv.range(read).await {
                Ok(answer) => return answer.into_inner().count,
                Err(failure) => failure,
            };
            assert!(Instant::now() < deadline, "{key} cannot be read: {failure}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A figure of `/metrics`, asked on the plain port of [`Secured::with_metrics_of`].
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let (_, port) = self.metrics?;
        let (_, page) = http_get(port, "/metrics").expect("an answer");
        let line = page.lines().find(|line| line.starts_with(name));
        line.and_then(|line| line.rsplit(' ').next()?.parse().ok())
    }

    /// The same with a plain port for the metrics of member `i`.
    pub(crate) fn with_metrics_of(self, i: usize) -> Secured {
        Secured { metrics: Some((i, free_port())), ..self }
    }
}

/// What asks a cluster from a command line.
pub(crate) enum Tool {
    /// The original.
    Etcdctl,
    /// `quorate ctl`.
    Ours,
}

/// What a command wrote.
pub(crate) fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    text(&output.stdout) + &text(&output.stderr)
}

/// The tools that are here; ours always is.
pub(crate) fn tools() -> Vec<Tool> {
    let mut tools = vec![Tool::Ours];
    if Command::new("etcdctl").arg("version").output().is_ok() {
        tools.push(Tool::Etcdctl);
    } else {
        report("SKIPPED: etcdctl not found on PATH; install etcd-client");
    }
    tools
}

/// A request.
pub(crate) fn put(key: &str, value: impl ToString) -> PutRequest {
    PutRequest {
        key: key.to_owned().into(),
        value: value.to_string().into(),
        ..PutRequest::default()
    }
}
