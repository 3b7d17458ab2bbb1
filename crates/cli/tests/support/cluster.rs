//! Members as real processes, which end with the test whatever happens to it.

use crate::support::client::{Client, Failure, Freshness, Snapshot};
use crate::support::files::files_below;
use crate::support::net::free_port;
use crate::support::proxy::Network;
use rustix::process::{Pid, Signal, kill_process};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// How long anything that must happen may take, on a machine that is busy with other tests.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// Time between two looks at something that is waited for.
const GLANCE: Duration = Duration::from_millis(20);

/// Lines of each log that a failing test prints.
const TAIL_LINES: usize = 25;

/// The binary under test.
pub(crate) fn binary() -> PathBuf {
    match std::env::var_os("QUORATE_BIN") {
        Some(path) => path.into(),
        None => env!("CARGO_BIN_EXE_quorate").into(),
    }
}

/// What runs as a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Program {
    /// The binary under test.
    Quorate,
    /// The original, found on the search path, to compare with.
    Etcd,
}

/// How the members reach each other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Wires {
    /// Directly.
    Direct,
    /// Through a network that the test can cut.
    Proxied,
}

/// What the members of a cluster are started with.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// What runs.
    pub(crate) program: Program,
    /// How many members.
    pub(crate) members: usize,
    /// Time between heartbeats. Unit: milliseconds.
    pub(crate) heartbeat_ms: u64,
    /// Silence after which a follower stands for election. Unit: milliseconds.
    pub(crate) election_ms: u64,
    /// `--initial-cluster-token`.
    pub(crate) token: String,
    /// How the members reach each other.
    pub(crate) wires: Wires,
    /// What runs instead of the binary under test, if it is quorate at all: another version.
    pub(crate) version: Option<PathBuf>,
    /// Shell commands before a member starts, for example `ulimit -n 64`.
    pub(crate) prelude: String,
    /// Flags that every member gets besides.
    pub(crate) extra: Vec<String>,
}

impl Settings {
    /// `members` members that notice a lost leader fast, to keep tests short.
    pub(crate) fn of(members: usize) -> Settings {
        Settings {
            program: Program::Quorate,
            members,
            heartbeat_ms: 40,
            election_ms: 250,
            token: "test".to_owned(),
            wires: Wires::Direct,
            version: None,
            prelude: String::new(),
            extra: Vec::new(),
        }
    }

    /// The same with one more flag.
    pub(crate) fn with(mut self, flag: &str, value: impl ToString) -> Settings {
        self.extra.extend([flag.to_owned(), value.to_string()]);
        self
    }
}

/// One member: its place on disk and in the network, and its process while it runs.
#[derive(Debug)]
pub(crate) struct Member {
    /// Its name.
    pub(crate) name: String,
    /// Where it serves clients.
    pub(crate) client_port: u16,
    /// Where it serves peers.
    pub(crate) peer_port: u16,
    /// Where its peers reach it: the same, or a proxy.
    pub(crate) advertised_port: u16,
    /// `--data-dir`.
    pub(crate) data_dir: PathBuf,
    /// Where its output goes, over all its lives.
    pub(crate) log_file: PathBuf,
    child: Option<Child>,
    paused: bool,
}

/// A cluster of real processes. Dropping it kills them; after a failure the directory stays.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// The members, in the order of their names.
    pub(crate) members: Vec<Member>,
    /// What lies between the members, if the wires are proxied.
    pub(crate) network: Option<Network>,
    settings: Settings,
    dir: Option<TempDir>,
}

impl Cluster {
    /// Ports and directories, but no process yet.
    pub(crate) fn prepare(settings: Settings) -> Cluster {
        last_words::listen();
        let dir = tempfile::Builder::new().prefix("quorate-test-").tempdir().expect("a directory");
        let members = (1..=settings.members)
            .map(|number| (number, free_port()))
            .map(|(number, peer_port)| Member {
                name: format!("m{number}"),
                client_port: free_port(),
                peer_port,
                advertised_port: match settings.wires {
                    Wires::Direct => peer_port,
                    Wires::Proxied => free_port(),
                },
                data_dir: dir.path().join(format!("m{number}")),
                log_file: dir.path().join(format!("m{number}.log")),
                child: None,
                paused: false,
            })
            .collect();
        Cluster { members, network: None, settings, dir: Some(dir) }
    }

    /// A cluster that serves.
    pub(crate) async fn start(settings: Settings) -> Cluster {
        let mut cluster = Cluster::prepare(settings);
        if cluster.settings.wires == Wires::Proxied {
            let ports = cluster.members.iter().map(|m| (m.advertised_port, m.peer_port));
            cluster.network = Some(Network::start(&ports.collect::<Vec<_>>()).await);
        }
        cluster.spawn_all();
        cluster.wait_ready().await;
        cluster
    }

    /// Replaces the shell commands before members that start from now on.
    pub(crate) fn set_prelude(&mut self, prelude: &str) {
        self.settings.prelude = prelude.to_owned();
    }

    /// Members that start from now on are of the binary under test.
    pub(crate) fn upgrade(&mut self) {
        self.settings.version = None;
    }

    /// The directory of everything.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.as_ref().expect("it is taken only by drop").path()
    }

    /// Starts every member that does not run.
    pub(crate) fn spawn_all(&mut self) {
        for i in 0..self.members.len() {
            if self.members[i].child.is_none() {
                self.spawn(i);
            }
        }
    }

    /// Starts member `i` as it was configured.
    pub(crate) fn spawn(&mut self, i: usize) {
        let flags = self.flags(i);
        self.spawn_with(i, &flags);
    }

    /// Starts member `i` with other flags than its own.
    pub(crate) fn spawn_with(&mut self, i: usize, flags: &[String]) {
        assert!(self.members[i].child.is_none(), "{} runs already", self.members[i].name);
        let log = File::options().create(true).append(true).open(&self.members[i].log_file);
        let log = log.expect("a log file");
        let program = match self.settings.program {
            Program::Quorate => self.settings.version.clone().unwrap_or_else(binary),
            Program::Etcd => "etcd".into(),
        };
        // The shell becomes the member, so its process is the one to be killed.
        let mut command = Command::new("sh");
        command.arg("-c").arg(format!("{}\nexec \"$@\"", self.settings.prelude)).arg("sh");
        command.arg(program);
        if self.settings.program == Program::Quorate {
            command.args(["serve", "--log-format", "text"]);
        }
        let child = command
            .args(flags)
            // The member stops by itself when this pipe breaks, so that not even a killed test
            // leaves processes behind.
            .env("QUORATE_EXIT_WITH_PARENT", "1")
            .stdin(Stdio::piped())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log)
            .spawn()
            .expect("the binary under test starts");
        self.members[i].child = Some(child);
        self.members[i].paused = false;
    }

    /// The flags of member `i`, in pairs of name and value.
    pub(crate) fn flags(&self, i: usize) -> Vec<String> {
        let member = &self.members[i];
        let settings = &self.settings;
        let client_url = format!("http://127.0.0.1:{}", member.client_port);
        let pairs = [
            ("--name", member.name.clone()),
            ("--data-dir", member.data_dir.display().to_string()),
            ("--listen-client-urls", client_url.clone()),
            ("--advertise-client-urls", client_url),
            ("--listen-peer-urls", format!("http://127.0.0.1:{}", member.peer_port)),
            ("--initial-advertise-peer-urls", member.peer_url()),
            ("--initial-cluster", self.initial_cluster()),
            ("--initial-cluster-token", settings.token.clone()),
            ("--initial-cluster-state", "new".to_owned()),
            ("--heartbeat-interval", settings.heartbeat_ms.to_string()),
            ("--election-timeout", settings.election_ms.to_string()),
        ];
        let pairs = pairs.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]);
        pairs.chain(settings.extra.iter().cloned()).collect()
    }

    /// The value of `--initial-cluster`.
    pub(crate) fn initial_cluster(&self) -> String {
        let names = self.members.iter().map(|m| format!("{}={}", m.name, m.peer_url()));
        names.collect::<Vec<_>>().join(",")
    }

    /// Ends member `i` at once: `kill -9`. A process that has ended by itself is only cleared away.
    pub(crate) fn kill(&mut self, i: usize) {
        let mut child = self.members[i].child.take().expect("a running member");
        child.kill().expect("SIGKILL");
        child.wait().expect("a dead child");
    }

    /// Kills every member that runs, without waiting in between.
    pub(crate) fn kill_all(&mut self) {
        for member in &mut self.members {
            if let Some(child) = &mut member.child {
                child.kill().expect("SIGKILL");
            }
        }
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                child.wait().expect("a dead child");
            }
        }
    }

    /// Asks member `i` to end (SIGTERM) and returns how it did.
    pub(crate) fn stop(&mut self, i: usize) -> ExitStatus {
        self.signal(i, Signal::TERM);
        self.wait_exit(i, SOON)
    }

    /// Freezes member `i`: its sockets stay open, but nothing answers.
    pub(crate) fn pause(&mut self, i: usize) {
        self.signal(i, Signal::STOP);
        self.members[i].paused = true;
    }

    /// Lets member `i` go on.
    pub(crate) fn resume(&mut self, i: usize) {
        self.signal(i, Signal::CONT);
        self.members[i].paused = false;
    }

    /// Memory of member `i` that is resident. Unit: bytes.
    pub(crate) fn resident_bytes(&self, i: usize) -> u64 {
        let pid = self.members[i].child.as_ref().expect("a running member").id();
        let statm = fs::read_to_string(format!("/proc/{pid}/statm")).expect("a living process");
        let pages: u64 = statm.split(' ').nth(1).and_then(|n| n.parse().ok()).expect("a number");
        pages * rustix::param::page_size() as u64
    }

    /// True if member `i` has a process and the process is not frozen.
    pub(crate) fn is_up(&self, i: usize) -> bool {
        self.members[i].child.is_some() && !self.members[i].paused
    }

    /// True if member `i` is frozen.
    pub(crate) fn is_paused(&self, i: usize) -> bool {
        self.members[i].child.is_some() && self.members[i].paused
    }

    /// True if the process of member `i` has not ended by itself.
    pub(crate) fn is_alive(&mut self, i: usize) -> bool {
        let child = self.members[i].child.as_mut();
        child.is_some_and(|child| child.try_wait().expect("a child").is_none())
    }

    /// Waits until member `i` has ended by itself.
    pub(crate) fn wait_exit(&mut self, i: usize, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            let child = self.members[i].child.as_mut().expect("a running member");
            if let Some(status) = child.try_wait().expect("a child") {
                self.members[i].child = None;
                return status;
            }
            assert!(Instant::now() < deadline, "{} still runs", self.members[i].name);
            std::thread::sleep(GLANCE);
        }
    }

    /// A client of member `i`.
    pub(crate) fn client(&self, i: usize) -> Client {
        Client::new(self.members[i].client_port)
    }

    /// Waits until every member that is up answers a linearizable read.
    pub(crate) async fn wait_ready(&mut self) {
        for i in 0..self.members.len() {
            if self.is_up(i) {
                self.wait_ready_one(i).await;
            }
        }
    }

    /// Waits until member `i` answers a linearizable read.
    pub(crate) async fn wait_ready_one(&mut self, i: usize) {
        let mut client = self.client(i);
        let deadline = Instant::now() + SOON;
        loop {
            let failure = match client.get("ready?", Freshness::Linearizable).await {
                Ok(_) => return,
                // It serves, and not everybody.
                Err(failure) if failure.to_string().contains("user name is empty") => return,
                Err(failure) => failure,
            };
            let name = &self.members[i].name;
            assert!(Instant::now() < deadline, "{name} is not ready: {failure}");
            assert!(self.is_alive(i), "{} ended while it started", self.members[i].name);
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// The leader, once every member that is up names the same one and it is up.
    pub(crate) async fn leader(&self) -> usize {
        let deadline = Instant::now() + SOON;
        loop {
            if let Some(leader) = self.leader_now().await {
                return leader;
            }
            assert!(Instant::now() < deadline, "no agreed leader");
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// The leader, if at this moment all members that are up agree on one of them.
    pub(crate) async fn leader_now(&self) -> Option<usize> {
        let mut ids = Vec::new();
        let mut leaders = Vec::new();
        for i in (0..self.members.len()).filter(|i| self.is_up(*i)) {
            let status = self.client(i).status().await.ok()?;
            ids.push((i, status.header?.member_id));
            leaders.push(status.leader);
        }
        let leader = *leaders.first()?;
        let agreed = leaders.iter().all(|other| *other == leader);
        ids.iter().find(|(_, id)| agreed && *id == leader).map(|(i, _)| *i)
    }

    /// The ids of the members, in their order.
    pub(crate) async fn ids(&self) -> Vec<u64> {
        let mut ids = Vec::new();
        for i in 0..self.members.len() {
            let status = self.client(i).status().await.expect("a status");
            ids.push(status.header.expect("a header").member_id);
        }
        ids
    }

    /// Somebody who is not the leader.
    pub(crate) async fn follower(&self) -> usize {
        let leader = self.leader().await;
        (0..self.members.len()).find(|i| *i != leader && self.is_up(*i)).expect("a follower")
    }

    /// Waits until every member that is up has the same store, and returns it.
    ///
    /// Panics: if they do not agree in time; the message names the first difference.
    pub(crate) async fn wait_agreement(&self) -> Snapshot {
        let deadline = Instant::now() + SOON;
        loop {
            let mut all = Vec::new();
            for i in (0..self.members.len()).filter(|i| self.is_up(*i)) {
                let snapshot = self.client(i).all(Freshness::Serializable).await;
                all.push((self.members[i].name.as_str(), snapshot));
            }
            let difference = match first_difference(&all) {
                None => match self.difference_of_histories().await {
                    None => return all.remove(0).1.expect("no difference: all answered"),
                    Some(difference) => difference,
                },
                Some(difference) => difference,
            };
            assert!(Instant::now() < deadline, "members differ: {difference}");
            tokio::time::sleep(GLANCE).await;
        }
    }

    /// In what the histories of the members differ, not only their present. A compaction changes no
    /// revision, so a member may still be about to apply it when the presents agree.
    async fn difference_of_histories(&self) -> Option<String> {
        let mut hashes = Vec::new();
        for i in (0..self.members.len()).filter(|i| self.is_up(*i)) {
            match self.client(i).hash_kv(0).await {
                Ok(answer) => hashes.push((answer.hash, answer.compact_revision)),
                Err(failure) => return Some(format!("no hash: {failure}")),
            }
        }
        let same = hashes.iter().all(|other| *other == hashes[0]);
        (!same).then(|| format!("hash and compaction of the histories: {hashes:?}"))
    }

    /// Everything that member `i` has written to its output.
    pub(crate) fn log(&self, i: usize) -> String {
        let bytes = fs::read(&self.members[i].log_file).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Waits until the log of member `i` holds one of `needles`, ignoring case.
    pub(crate) async fn wait_log(&self, i: usize, needles: &[&str]) {
        let deadline = Instant::now() + SOON;
        loop {
            let log = self.log(i).to_lowercase();
            if needles.iter().any(|needle| log.contains(&needle.to_lowercase())) {
                return;
            }
            let name = &self.members[i].name;
            assert!(Instant::now() < deadline, "the log of {name} has none of {needles:?}");
            tokio::time::sleep(GLANCE).await;
        }
    }

    fn signal(&self, i: usize, signal: Signal) {
        let child = self.members[i].child.as_ref().expect("a running member");
        kill_process(Pid::from_child(child), signal).expect("a signal");
    }

    fn print_tails(&self) {
        for (i, member) in self.members.iter().enumerate() {
            let log = self.log(i);
            let lines: Vec<&str> = log.lines().collect();
            eprintln!("---- {} ({}) ends with", member.name, member.log_file.display());
            for line in &lines[lines.len().saturating_sub(TAIL_LINES)..] {
                eprintln!("{line}");
            }
            for (file, bytes) in files_below(&member.data_dir) {
                eprintln!("  {bytes:>10} {}", file.display());
            }
        }
    }
}

impl Member {
    /// Where its peers reach it.
    pub(crate) fn peer_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.advertised_port)
    }

    /// Where its write-ahead log lies.
    pub(crate) fn wal_dir(&self) -> PathBuf {
        self.data_dir.join("member/wal")
    }

    /// Where its checkpoints lie.
    pub(crate) fn checkpoint_dir(&self) -> PathBuf {
        self.data_dir.join("member/checkpoints")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(mut child) = member.child.take() {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        let panicked = (0..self.members.len()).find(|i| self.log(*i).contains("panicked at"));
        let failed = std::thread::panicking();
        if failed || panicked.is_some() {
            self.print_tails();
            last_words::repeat();
        }
        if failed || panicked.is_some() || std::env::var_os("QUORATE_TEST_KEEP").is_some() {
            let kept = self.dir.take().expect("dropped once").keep();
            eprintln!("---- kept: {}", kept.display());
        }
        if let (false, Some(i)) = (failed, panicked) {
            panic!("{} panicked; see its log above", self.members[i].name);
        }
    }
}

/// Why a test fails, said again after the logs: what reports a run often keeps only its end.
mod last_words {
    use std::sync::{Mutex, Once, PoisonError};

    static WORDS: Mutex<Vec<String>> = Mutex::new(Vec::new());

    /// Remembers what panics say from now on.
    pub(super) fn listen() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                WORDS.lock().unwrap_or_else(PoisonError::into_inner).push(panic.to_string());
                before(panic);
            }));
        });
    }

    /// Says it again.
    pub(super) fn repeat() {
        for words in WORDS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            eprintln!("---- {words}");
        }
    }
}

/// What keeps the members from being called equal; `None` if they are.
fn first_difference(all: &[(&str, Result<Snapshot, Failure>)]) -> Option<String> {
    let (first_name, first) = all.first().expect("at least one member is up");
    for (name, snapshot) in all {
        let (first, snapshot) = match (first, snapshot) {
            (Ok(first), Ok(snapshot)) => (first, snapshot),
            (Err(failure), _) => return Some(format!("{first_name}: {failure}")),
            (_, Err(failure)) => return Some(format!("{name}: {failure}")),
        };
        if first.revision != snapshot.revision {
            let (a, b) = (first.revision, snapshot.revision);
            return Some(format!("{first_name} is at revision {a}, {name} at {b}"));
        }
        if first.kvs.len() != snapshot.kvs.len() {
            let (a, b) = (first.kvs.len(), snapshot.kvs.len());
            return Some(format!("{first_name} has {a} keys, {name} {b}"));
        }
        if let Some((a, b)) = first.kvs.iter().zip(&snapshot.kvs).find(|(a, b)| a != b) {
            return Some(format!("{first_name} has {a:?}, {name} {b:?}"));
        }
    }
    None
}
