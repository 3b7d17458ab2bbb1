//! Real handshakes over loopback, with certificates that are made for them.

use super::accept::Terminator;
use super::client::{Client, ClientFiles, call};
use super::files::{FILE_BYTES_MAX, FileError};
use super::gauges::Gauges;
use super::keeper::{Door, Keeper, Origin, Terms};
use super::pki::{Authority, Existing, Issued, Wanted};
use super::policy::Policy;
use super::reason::Reason;
use super::settings::Side;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// A CA, a directory, and what is counted.
struct Scene {
    dir: TempDir,
    ca: Authority,
    gauges: Arc<Gauges>,
}

impl Scene {
    /// With `ca.crt`, and a pair for a server on 127.0.0.1 in `server.crt` and `server.key`.
    fn new() -> Scene {
        let dir = tempfile::tempdir().expect("a directory");
        let ca = Authority::create("test CA", 10).expect("a CA");
        let scene = Scene { dir, ca, gauges: Arc::default() };
        scene.write("ca.crt", scene.ca.own().cert_pem());
        let wanted = Wanted::member("server", &["127.0.0.1"]);
        scene.keep("server", &scene.ca.issue(&wanted).expect("a certificate"));
        scene
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).expect("a file");
    }

    fn keep(&self, name: &str, issued: &Issued) {
        let (cert, key) = (self.path(&format!("{name}.crt")), self.path(&format!("{name}.key")));
        issued.write(&cert, &key, Existing::Replace).expect("two files");
    }

    /// Serves with the pair of that name, and no demands.
    fn side(&self) -> Side {
        Side {
            cert_file: Some(self.path("server.crt")),
            key_file: Some(self.path("server.key")),
            ..Side::default()
        }
    }

    /// The same, for who has a certificate of the CA.
    fn guarded(&self) -> Side {
        Side { trusted_ca_file: Some(self.path("ca.crt")), ..self.side() }
    }

    fn keeper(&self, door: Door, side: Side) -> Arc<Keeper> {
        self.open(door, side).expect("good files")
    }

    fn open(&self, door: Door, side: Side) -> Result<Arc<Keeper>, FileError> {
        let terms = Terms { door, side, policy: Policy::usual(), origin: Origin::Given };
        Keeper::open(terms, Arc::clone(&self.gauges))
    }

    async fn port(&self, keeper: &Arc<Keeper>) -> Port {
        let gauges = Arc::clone(&self.gauges);
        let terminator = Terminator::new(Arc::clone(keeper), gauges, b"neither".to_vec());
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Port { listener, terminator: terminator.expect("a thread") }
    }

    /// A caller who trusts the CA and shows the pair of that name, if any.
    fn caller(&self, pair: Option<&str>) -> Client {
        let file = |suffix: &str| pair.map(|name| self.path(&format!("{name}.{suffix}")));
        let ca = Some(self.path("ca.crt"));
        let files = ClientFiles { ca, cert: file("crt"), key: file("key"), ..Default::default() };
        Client::new(&files).expect("good files")
    }

    /// Failures so far, without those that never came.
    fn failures(&self, door: Door) -> Vec<(Reason, u64)> {
        self.gauges.of(door).failures().filter(|(_, count)| *count > 0).collect()
    }
}

struct Port {
    listener: TcpListener,
    terminator: Terminator,
}

impl Port {
    /// One caller who says `hello`; what is heard of it, and what the caller hears or fails of.
    async fn meet(&self, caller: &Client) -> (Option<String>, Result<String, String>) {
        let address = self.listener.local_addr().expect("bound");
        let config = caller.config();
        let calling = async {
            let stream = TcpStream::connect(address).await.expect("connects");
            let mut stream = call(config, "127.0.0.1", stream).await.map_err(|e| e.to_string())?;
            stream.write_all(b"hello").await.map_err(|error| error.to_string())?;
            let mut answer = String::new();
            let failed = |error| super::Failure::from(error).to_string();
            stream.read_to_string(&mut answer).await.map_err(failed)?;
            Ok(answer)
        };
        let serving = async {
            let (stream, _) = self.listener.accept().await.expect("a call");
            let mut stream = self.terminator.accept(stream, |stream| stream).await?;
            let mut heard = [0; 5];
            stream.read_exact(&mut heard).await.ok()?;
            stream.write_all(b"welcome").await.ok()?;
            stream.shutdown().await.ok()?;
            Some(String::from_utf8_lossy(&heard).into_owned())
        };
        tokio::join!(serving, calling)
    }

    /// What is answered to bytes without TLS.
    async fn say(&self, words: &[u8]) -> Vec<u8> {
        let address = self.listener.local_addr().expect("bound");
        let calling = async {
            let mut stream = TcpStream::connect(address).await.expect("connects");
            stream.write_all(words).await.expect("sends");
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).await.expect("an orderly end");
            answer
        };
        let serving = async {
            let (stream, _) = self.listener.accept().await.expect("a call");
            assert!(self.terminator.accept(stream, |stream| stream).await.is_none());
        };
        tokio::join!(serving, calling).1
    }
}

#[tokio::test]
async fn without_a_ca_anybody_may_speak_and_nobody_unheard() {
    let scene = Scene::new();
    let port = scene.port(&scene.keeper(Door::Client, scene.side())).await;
    let (heard, answer) = port.meet(&scene.caller(None)).await;
    assert_eq!((heard.as_deref(), answer.as_deref()), (Some("hello"), Ok("welcome")));
    assert_eq!(scene.gauges.of(Door::Client).shaken.get(), 1);
    assert_eq!(scene.failures(Door::Client), []);
}

#[tokio::test]
async fn who_has_no_good_certificate_is_told_apart() {
    let scene = Scene::new();
    let issue = |wanted: Wanted| scene.ca.issue(&wanted).expect("a certificate");
    scene.keep("good", &issue(Wanted::client("good")));
    scene.keep("expired", &issue(Wanted::client("good").lasting(-1)));
    scene.keep("other", &issue(Wanted::client("mallory")));
    let revoked = issue(Wanted::client("good"));
    scene.keep("revoked", &revoked);
    let foreign = Authority::create("test CA", 10).expect("another CA of the same name");
    scene.keep("foreign", &foreign.issue(&Wanted::client("good")).expect("a certificate"));
    scene.write("crl.pem", &scene.ca.revoke(&[revoked.serial()]).expect("a list"));
    let side = Side {
        crl_file: Some(scene.path("crl.pem")),
        allowed_cn: vec!["good".to_owned()],
        ..scene.guarded()
    };
    let port = scene.port(&scene.keeper(Door::Client, side)).await;
    let (heard, answer) = port.meet(&scene.caller(Some("good"))).await;
    assert_eq!((heard.as_deref(), answer.as_deref()), (Some("hello"), Ok("welcome")));
    let cases = [
        (None, Reason::NoCertificate, "requires a certificate of ours"),
        (Some("expired"), Reason::Expired, "our certificate has expired"),
        (Some("foreign"), Reason::UnknownCa, "does not know the CA"),
        (Some("revoked"), Reason::Revoked, "has been revoked"),
        (Some("other"), Reason::Name, "refuses our certificate"),
    ];
    for (number, (pair, reason, told)) in cases.into_iter().enumerate() {
        let (heard, answer) = port.meet(&scene.caller(pair)).await;
        assert_eq!(heard, None, "{pair:?}");
        let answer = answer.expect_err("refused");
        assert!(answer.contains(told), "{pair:?}: {answer}");
        let failures = scene.failures(Door::Client);
        assert_eq!(failures.len(), number + 1, "{failures:?}");
        assert!(failures.contains(&(reason, 1)), "{pair:?}: {failures:?}");
    }
}

#[tokio::test]
async fn only_allowed_hosts_are_let_in() {
    let scene = Scene::new();
    for name in ["a.example", "b.example"] {
        let wanted = Wanted::member("x", &[name]);
        scene.keep(name, &scene.ca.issue(&wanted).expect("a certificate"));
    }
    let side = Side { allowed_hostname: vec!["a.example".to_owned()], ..scene.guarded() };
    let port = scene.port(&scene.keeper(Door::Client, side)).await;
    assert!(port.meet(&scene.caller(Some("a.example"))).await.0.is_some());
    assert!(port.meet(&scene.caller(Some("b.example"))).await.0.is_none());
    assert_eq!(scene.failures(Door::Client), [(Reason::Name, 1)]);
}

#[tokio::test]
async fn a_caller_refuses_a_server_that_it_did_not_mean() {
    let scene = Scene::new();
    let elsewhere = Wanted::member("server", &["10.0.0.1"]);
    scene.keep("server", &scene.ca.issue(&elsewhere).expect("a certificate"));
    let port = scene.port(&scene.keeper(Door::Client, scene.side())).await;
    let (heard, answer) = port.meet(&scene.caller(None)).await;
    assert_eq!(heard, None);
    let answer = answer.expect_err("refused");
    assert!(answer.contains("not for 127.0.0.1, which was dialled"), "{answer}");
    assert_eq!(scene.failures(Door::Client), [(Reason::Refused, 1)]);
}

#[tokio::test]
async fn a_peer_calls_from_where_its_certificate_says() {
    let scene = Scene::new();
    let hosts = [("away", "10.9.9.9"), ("home", "127.0.0.1"), ("named", "localhost")];
    for (name, host) in hosts {
        let wanted = Wanted::member(name, &[host]);
        scene.keep(name, &scene.ca.issue(&wanted).expect("a certificate"));
    }
    let port = scene.port(&scene.keeper(Door::Peer, scene.guarded())).await;
    assert!(port.meet(&scene.caller(Some("home"))).await.0.is_some());
    assert!(port.meet(&scene.caller(Some("named"))).await.0.is_some());
    assert!(port.meet(&scene.caller(Some("away"))).await.0.is_none());
    assert_eq!(scene.failures(Door::Peer), [(Reason::Name, 1)]);
    let side = Side { skip_client_san_verification: true, ..scene.guarded() };
    let port = scene.port(&scene.keeper(Door::Peer, side)).await;
    assert!(port.meet(&scene.caller(Some("away"))).await.0.is_some());
}

#[tokio::test]
async fn who_speaks_without_tls_is_told_in_its_own_words() {
    let scene = Scene::new();
    let port = scene.port(&scene.keeper(Door::Client, scene.side())).await;
    let answer = port.say(b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n").await;
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.starts_with("HTTP/1.0 400 Bad Request\r\n"), "{answer}");
    assert!(answer.contains("HTTP request to an HTTPS server"), "{answer}");
    let answer = port.say(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
    assert_eq!(answer[3], 4, "SETTINGS first");
    assert_eq!((answer[11] as usize, answer[12]), (answer.len() - 18, 7), "then GOAWAY");
    assert!(answer.ends_with(b"write https://"), "{answer:?}");
    assert_eq!(port.say(b"\0\0\0\x07garbage").await, b"neither");
    // A record that begins like TLS and is none ends at once, whether or not with an alert.
    assert!(port.say(b"\x16\x03\x01\xff\xffhello").await.len() < 16);
    let failures = scene.failures(Door::Client);
    assert_eq!(failures.iter().map(|(_, count)| count).sum::<u64>(), 4, "{failures:?}");
}

#[tokio::test]
async fn changed_files_are_taken_into_force_and_broken_ones_are_not() {
    let scene = Scene::new();
    let keeper = scene.keeper(Door::Client, scene.side());
    let port = scene.port(&keeper).await;
    let caller = scene.caller(None);
    assert!(port.meet(&caller).await.0.is_some());
    keeper.look();
    assert_eq!(scene.gauges.reloaded.get(), 0, "nothing has changed");

    // A certificate alone, without its key: as if somebody were in the middle of copying.
    let wanted = Wanted::member("server", &["127.0.0.1"]);
    let next = scene.ca.issue(&wanted).expect("a certificate");
    scene.write("server.crt", next.cert_pem());
    for _ in 0..3 {
        keeper.look();
    }
    assert_eq!(scene.gauges.reload_failures.get(), 1, "told once");
    assert!(scene.gauges.of(Door::Client).is_stale());
    assert!(port.meet(&caller).await.0.is_some(), "the old one is in force");

    scene.write("server.key", next.key_pem());
    keeper.look();
    assert_eq!(scene.gauges.reloaded.get(), 1);
    assert!(!scene.gauges.of(Door::Client).is_stale());
    assert!(port.meet(&caller).await.0.is_some());

    // Another CA: callers of the old one refuse what is in force now.
    let other = Authority::create("other", 10).expect("a CA");
    scene.keep("server", &other.issue(&wanted).expect("a certificate"));
    keeper.look();
    assert!(port.meet(&caller).await.1.is_err());
    fs::remove_file(scene.path("server.key")).expect("it is there");
    keeper.look();
    assert!(scene.gauges.of(Door::Client).is_stale(), "a file that is gone is no good");
}

#[tokio::test]
async fn who_is_revoked_later_is_refused_from_then_on() {
    let scene = Scene::new();
    let issued = scene.ca.issue(&Wanted::client("a")).expect("a certificate");
    scene.keep("a", &issued);
    scene.write("crl.pem", &scene.ca.revoke(&[]).expect("an empty list"));
    let side = Side { crl_file: Some(scene.path("crl.pem")), ..scene.guarded() };
    let keeper = scene.keeper(Door::Client, side);
    let port = scene.port(&keeper).await;
    assert!(port.meet(&scene.caller(Some("a"))).await.0.is_some());
    scene.write("crl.pem", &scene.ca.revoke(&[issued.serial()]).expect("a list"));
    keeper.look();
    assert!(port.meet(&scene.caller(Some("a"))).await.0.is_none());
    assert_eq!(scene.failures(Door::Client), [(Reason::Revoked, 1)]);
    scene.write("crl.pem", "nonsense");
    keeper.look();
    assert!(port.meet(&scene.caller(Some("a"))).await.0.is_none(), "the list stays in force");
}

/// How a file can be wrong.
const WRONG: [&str; 8] = ["gone", "dir", "empty", "words", "half", "noise", "other", "huge"];

#[test]
fn each_file_that_is_wrong_in_any_way_is_an_error_that_names_it() {
    let scene = Scene::new();
    scene.write("crl.pem", &scene.ca.revoke(&[]).expect("a list"));
    let whole = |name: &str| fs::read_to_string(scene.path(name)).expect("a file");
    let [certificate, key, list] = ["server.crt", "server.key", "crl.pem"].map(whole);
    fs::create_dir(scene.path("dir")).expect("a directory");
    scene.write("empty", "");
    scene.write("words", "-----BEGIN SOMETHING-----\nAAAA\n-----END SOMETHING-----\n");
    scene.write("huge", &"#".repeat(FILE_BYTES_MAX as usize + 1));
    // By what should be there: half of it, something in its place, and what is there instead.
    let mut tried = 0;
    let mut attempt = |text: &str, other: &str, place: &dyn Fn(&mut Side, PathBuf)| {
        let label = text.lines().next().expect("PEM").trim_matches('-').replace("BEGIN ", "");
        scene.write("half", &text[..text.len() / 2]);
        scene.write("noise", &format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n"));
        scene.write("other", other);
        for name in WRONG {
            for door in [Door::Client, Door::Peer] {
                let mut side = Side {
                    crl_file: Some(scene.path("crl.pem")),
                    dial_cert_file: Some(scene.path("server.crt")),
                    dial_key_file: Some(scene.path("server.key")),
                    ..scene.guarded()
                };
                scene.open(door, side.clone()).expect("all files are good");
                place(&mut side, scene.path(name));
                let error = scene.open(door, side).expect_err(name).to_string();
                assert!(error.contains(&*scene.path(name).to_string_lossy()), "{name}: {error}");
                let secret = key.lines().nth(1).expect("a line of base64");
                assert!(!error.contains(&secret[..20]), "{error}");
                tried += 1;
            }
        }
    };
    attempt(&certificate, &key, &|side, path| side.cert_file = Some(path));
    attempt(&key, &certificate, &|side, path| side.key_file = Some(path));
    attempt(&certificate, &key, &|side, path| side.dial_cert_file = Some(path));
    attempt(&key, &certificate, &|side, path| side.dial_key_file = Some(path));
    attempt(&certificate, &key, &|side, path| side.trusted_ca_file = Some(path));
    attempt(&list, &certificate, &|side, path| side.crl_file = Some(path));
    assert_eq!(tried, 6 * 2 * WRONG.len());
}
