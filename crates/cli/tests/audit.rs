//! The audit log of a real member: what is in it, what is not, and that it cannot be changed
//! without being found out.

mod support;

use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::auth_client::AuthClient;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::cluster::{Cluster, SOON, Settings, binary};
use tokio::time::{Instant, sleep};
use tonic::Request;
use tonic::codegen::tokio_stream;
use tonic::transport::Channel;

/// What must never be in a log.
const SECRETS: [&str; 5] = ["VALUE-OF-A-KEY", "rootpw", "annpw", "wrong-guess", "$2b$"];

fn verify(path: &Path, more: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(binary())
        .args(["audit", "verify", "--json"])
        .arg(path)
        .args(more)
        .output()
        .expect("the binary under test starts");
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    (output.status.code(), serde_json::from_str(&printed).expect("JSON"))
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).expect("a directory");
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .collect();
    found.sort();
    found
}

fn records(dir: &Path) -> Vec<Value> {
    // A line that is being written is none yet.
    let text = text(dir);
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

fn text(dir: &Path) -> String {
    files(dir).into_iter().map(|file| std::fs::read_to_string(file).expect("text")).collect()
}

async fn channel(cluster: &Cluster) -> Channel {
    let address = format!("http://127.0.0.1:{}", cluster.members[0].client_port);
    Channel::from_shared(address).expect("a URI").connect().await.expect("the member listens")
}

fn carrying<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().expect("a header"));
    request
}

async fn login(channel: &Channel, name: &str, password: &str) -> Option<String> {
    let (name, password) = (name.to_owned(), password.to_owned());
    let request = pb::AuthenticateRequest { name, password };
    let answer = AuthClient::new(channel.clone()).authenticate(request).await;
    answer.ok().map(|answer| answer.into_inner().token)
}

/// Root, and ann who may do nothing.
async fn enable(channel: &Channel) {
    let mut auth = AuthClient::new(channel.clone());
    for (name, password) in [("root", "rootpw"), ("ann", "annpw")] {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = pb::AuthUserAddRequest { name, password, ..Default::default() };
        auth.user_add(request).await.expect("added");
    }
    let (user, role) = ("root".to_owned(), "root".to_owned());
    auth.user_grant_role(pb::AuthUserGrantRoleRequest { user, role }).await.expect("granted");
    auth.auth_enable(pb::AuthEnableRequest {}).await.expect("enabled");
}

fn put(key: &str) -> pb::PutRequest {
    let (key, value) = (key.to_owned().into(), "VALUE-OF-A-KEY".into());
    pb::PutRequest { key, value, ..Default::default() }
}

/// A watch of `k` as ann, which is refused within the stream.
async fn watch_refused(channel: &Channel, ann: &str) {
    let create = pb::WatchCreateRequest { key: "k".into(), ..Default::default() };
    let request_union = Some(RequestUnion::CreateRequest(create));
    let requests = tokio_stream::iter([pb::WatchRequest { request_union }]);
    let mut watch = WatchClient::new(channel.clone());
    let mut answers = watch.watch(carrying(requests, ann)).await.expect("a stream").into_inner();
    let refused = answers.message().await.expect("it goes on").expect("an answer");
    assert!(refused.canceled, "{refused:?}");
}

/// Waits until so many records tell of a method.
async fn wait_for(dir: &Path, method: &str, wanted: usize) {
    let until = Instant::now() + SOON;
    loop {
        let found = records(dir).iter().filter(|record| record["call"] == method).count();
        if found >= wanted {
            return;
        }
        assert!(Instant::now() < until, "{found} of {wanted} records of {method}");
        sleep(std::time::Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn who_did_what_from_where_is_told_and_no_secret_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let settings = Settings::of(1).with("--bcrypt-cost", 4);
    let mut cluster = Cluster::start(settings.with("--audit-log", dir.path().display())).await;
    let to = channel(&cluster).await;
    enable(&to).await;
    let root = login(&to, "root", "rootpw").await.expect("it is right");
    let ann = login(&to, "ann", "annpw").await.expect("it is right");
    assert!(login(&to, "ann", "wrong-guess").await.is_none());
    let mut kv = KvClient::new(to.clone());
    kv.put(carrying(put("k"), &root)).await.expect("root may");
    kv.put(carrying(put("k"), &ann)).await.expect_err("she may not");
    let range = pb::RangeRequest { key: "k".into(), ..Default::default() };
    kv.range(carrying(range.clone(), &root)).await.expect("root may");
    kv.range(carrying(range.clone(), &ann)).await.expect_err("she may not");
    watch_refused(&to, &ann).await;
    wait_for(dir.path(), "/etcdserverpb.Watch/Watch", 1).await;

    let all = records(dir.path());
    let told = |user: &str, method: &str, result: &str| {
        let is = |record: &&Value| {
            let user_is = record["user"].as_str().unwrap_or("") == user;
            user_is && record["call"] == method && record["result"] == result
        };
        all.iter().filter(is).cloned().collect::<Vec<_>>()
    };
    let done = told("root", "/etcdserverpb.KV/Put", "OK");
    assert_eq!(done.len(), 1, "{all:#?}");
    assert_eq!(done[0]["deeds"], serde_json::json!([{ "do": "put", "key": "k" }]));
    assert_eq!(done[0]["by"], "token");
    assert!(done[0]["from"].as_str().expect("an address").starts_with("127.0.0.1:"), "{done:?}");
    let refused = told("ann", "/etcdserverpb.KV/Put", "PermissionDenied");
    assert_eq!(refused.len(), 1, "{all:#?}");
    assert_eq!(refused[0]["error"], "etcdserver: permission denied");
    assert_eq!(told("ann", "/etcdserverpb.KV/Range", "PermissionDenied").len(), 1, "{all:#?}");
    assert_eq!(told("ann", "/etcdserverpb.Watch/Watch", "PermissionDenied").len(), 1, "{all:#?}");
    assert!(told("root", "/etcdserverpb.KV/Range", "OK").is_empty(), "reads are not told");
    let guess = told("", "/etcdserverpb.Auth/Authenticate", "InvalidArgument");
    assert_eq!((guess.len(), &guess[0]["of_user"]), (1, &"ann".into()), "{all:#?}");
    assert_eq!(told("", "/etcdserverpb.Auth/UserAdd", "OK").len(), 2, "{all:#?}");

    assert!(cluster.stop(0).success());
    cluster.spawn(0);
    cluster.wait_ready().await;
    let text = text(dir.path());
    for secret in SECRETS.iter().chain([&&root[..], &&ann[..]]) {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
    let (code, report) = verify(dir.path(), &[]);
    assert_eq!((code, &report["findings"]), (Some(0), &serde_json::json!([])), "{report}");
    let events: Vec<Value> = records(dir.path()).iter().map(|r| r["event"].clone()).collect();
    let count = |name: &str| events.iter().filter(|event| **event == name).count();
    assert_eq!((count("opened"), count("closed")), (2, 1), "the chain goes over the restart");
}

#[tokio::test]
async fn a_log_that_was_changed_is_found_out_and_not_written_to() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().display().to_string();
    let settings = Settings::of(1).with("--audit-log-file-bytes", 65_536);
    let settings = settings.with("--audit-log", &path).with("--audit-log-calls", "all");
    let mut cluster = Cluster::start(settings).await;
    for number in 0..400 {
        cluster.client(0).put(&format!("k/{number}"), "v").await.expect("written");
    }
    wait_for(dir.path(), "/etcdserverpb.KV/Put", 400).await;
    assert!(files(dir.path()).len() >= 2, "it goes on in further files");
    let (code, report) = verify(dir.path(), &[]);
    assert_eq!(code, Some(0), "while it is written to: {report}");
    // Killed rather than stopped: the head is where the last sync was.
    cluster.kill(0);
    let head = format!("{}:{}", report["last"], report["hash"].as_str().expect("a hash"));
    assert_eq!(verify(dir.path(), &["--head", &head]).0, Some(0));

    let file = files(dir.path()).remove(0);
    let whole = std::fs::read(&file).expect("readable");
    let mut changed = whole.clone();
    let at = changed.windows(4).position(|four| four == b"k/17").expect("it was put");
    changed[at + 2] = b'9';
    std::fs::write(&file, &changed).expect("written");
    let (code, report) = verify(dir.path(), &[]);
    assert_eq!((code, report["findings"][0]["trouble"].as_str()), (Some(1), Some("altered")));
    let alone = verify(&file, &[]);
    assert_eq!(alone.0, Some(1), "{}", alone.1);
    std::fs::remove_file(&file).expect("removed");
    let (code, report) = verify(dir.path(), &[]);
    assert_eq!((code, report["findings"][0]["trouble"].as_str()), (Some(1), Some("file-missing")));
    std::fs::write(&file, &whole).expect("written");
    assert_eq!(verify(dir.path(), &[]).0, Some(0));

    let last = files(dir.path()).pop().expect("files");
    let lines = std::fs::read_to_string(&last).expect("text");
    let half: Vec<&str> = lines.split_inclusive('\n').collect();
    std::fs::write(&last, half[..half.len() / 2].concat()).expect("written");
    let (code, report) = verify(dir.path(), &["--head", &head]);
    assert_eq!((code, report["findings"][0]["trouble"].as_str()), (Some(1), Some("truncated")));

    let nothing = verify(&dir.path().join("nothing"), &[]);
    assert_eq!(nothing.0, Some(2), "{}", nothing.1);
    let (code, report) = verify(dir.path(), &["--head", &format!("1:{}", "0".repeat(64))]);
    assert_eq!(code, Some(1), "another first record: {report}");
    std::fs::remove_file(dir.path().join("audit.head")).expect("removed");
    cluster.spawn(0);
    let status = cluster.wait_exit(0, SOON);
    assert_eq!(status.code(), Some(2), "a log that was changed is not written to");
    let log = std::fs::read_to_string(&cluster.members[0].log_file).expect("a log");
    assert!(log.contains("audit.head is missing; see `quorate audit verify"), "{log}");
}
