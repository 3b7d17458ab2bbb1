//! Users, roles and tokens of real members: a conversation with the official client beside the
//! original, and what nobody may get around.

#![allow(clippy::print_stderr, reason = "a test talks to the developer")]

mod support;

use bytes::{Buf, BufMut};
use quorate_server::proto::authpb;
use quorate_server::proto::etcdserverpb as pb;
use quorate_server::proto::etcdserverpb::auth_client::AuthClient;
use quorate_server::proto::etcdserverpb::kv_client::KvClient;
use quorate_server::proto::etcdserverpb::lease_client::LeaseClient;
use quorate_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_server::proto::etcdserverpb::watch_client::WatchClient;
use quorate_server::proto::etcdserverpb::watch_request::RequestUnion;
use quorate_server::tls::pki::Wanted;
use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};
use support::cluster::{Cluster, Program, SOON, Settings, binary};
use support::secured::{self, Secured, Tool};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

const DENIED: &str = "rpc error: code = PermissionDenied desc = etcdserver: permission denied";
const ROOT: &str = "--user root:rootpw";
const ANN: &str = "--user ann:annpw";

/// Commands and what they print; `!` begins an error. The original prints the same.
const CONVERSATION: &[(&str, &str)] = &[
    ("auth disable", "Authentication Disabled"),
    ("user add root:rootpw", "User root created"),
    ("user add root:rootpw", "!user name already exists"),
    ("user add ann:annpw", "User ann created"),
    ("user add bob --no-password", "User bob created"),
    ("user passwd ghost --interactive=false", "!user name not found"),
    ("role add \"\"", "!role name is empty"),
    ("user grant-role ann nothing", "!role name not found"),
    ("user grant-role ghost root", "!user name not found"),
    ("user revoke-role ann root", "!role is not granted to the user"),
    ("role add r", "Role r created"),
    ("role add r", "!role name already exists"),
    ("role grant-permission r readwrite a", "Role r updated"),
    ("role grant-permission r read k --prefix", "Role r updated"),
    ("role grant-permission r write w", "Role r updated"),
    ("role grant-permission r read z --from-key", "Role r updated"),
    ("role grant-permission nothing read k", "!role name not found"),
    ("role get nothing", "!role name not found"),
    ("role revoke-permission r nothing", "!permission is not granted to the role"),
    ("user grant-role ann r", "Role r is granted to user ann"),
    ("user grant-role ann r", "Role r is granted to user ann"),
    ("user get ann", "User: ann\nRoles: r"),
    ("user get ghost", "!user name not found"),
    ("user list", "ann\nbob\nroot"),
    ("role list", "r"),
    ("put secret s", "OK"),
    ("put w before", "OK"),
    ("--user ann:annpw put a 0", "OK"),
    ("auth enable", "Authentication Enabled"),
    ("auth enable", "!user name is empty"),
    ("user list", "!user name is empty"),
    ("get a", "!user name is empty"),
    ("put a 1", "!user name is empty"),
    ("ANN put a 1", "OK"),
    ("ANN get a", "a\n1"),
    ("ANN put k1 v", "!permission denied"),
    ("ANN get k1", ""),
    ("ANN get --prefix k", ""),
    ("ANN get --from-key z", ""),
    ("ANN get --from-key k", "!permission denied"),
    ("ANN get secret", "!permission denied"),
    ("ANN put w v", "OK"),
    ("ANN put --prev-kv w v", "!permission denied"),
    ("ANN get w", "!permission denied"),
    ("ANN del w --prev-kv", "!permission denied"),
    ("ANN del --prefix w", "!permission denied"),
    ("ANN del w", "1"),
    ("ANN auth disable", "!permission denied"),
    ("ANN user list", "!permission denied"),
    ("ANN user get ann", "User: ann\nRoles: r"),
    ("ANN user get root", "!permission denied"),
    ("ANN role get root", "!permission denied"),
    ("ANN role list", "!permission denied"),
    ("ANN watch secret", "!watch is canceled by the server"),
    ("--user ann:wrong get a", "!authentication failed, invalid user ID or password"),
    ("--user ghost:x get a", "!authentication failed, invalid user ID or password"),
    ("--user bob:x get a", "!password was given for no password user"),
    ("ROOT user delete root", "!invalid auth management"),
    ("ROOT user revoke-role root root", "!invalid auth management"),
    ("ROOT role delete root", "!invalid auth management"),
    ("ROOT get secret", "secret\ns"),
    ("ROOT role revoke-permission r a", "Permission of key a is revoked from role r"),
    ("ANN get a", "!permission denied"),
    ("ROOT user revoke-role ann r", "Role r is revoked from user ann"),
    ("ANN get k1", "!permission denied"),
    ("ROOT user delete ann", "User ann deleted"),
    ("ROOT user delete ann", "!user name not found"),
    ("ROOT role delete r", "Role r deleted"),
    ("ROOT role delete r", "!role name not found"),
    ("ROOT user list", "bob\nroot"),
    ("ROOT auth disable", "Authentication Disabled"),
    ("get secret", "secret\ns"),
    ("user delete root", "User root deleted"),
    ("auth enable", "!root user does not exist"),
];

/// What etcd lets through up to the versions with which we compare, and what is refused here.
const STRICTER: &[(&str, &str)] = &[
    ("ROOT role grant-permission r read z b", "!invalid auth management"),
    ("member list", "!user name is empty"),
    ("alarm list", "!user name is empty"),
    ("lease list", "!user name is empty"),
    ("lease grant 60", "!user name is empty"),
    ("ANN alarm list", "!permission denied"),
    ("ANN compaction 2", "!permission denied"),
    ("ANN snapshot save /dev/null", "!permission denied"),
];

/// Says which client is missing, so that a skipped test is seen.
fn missing(program: &str) -> bool {
    let found = Command::new(program).arg("version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: {program} not found on PATH; install etcd-client and etcd-server");
    }
    !found
}

fn run(mut command: Command, typed: &str) -> Output {
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().expect("the program starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that reads nothing closes the pipe first, which is no fault of it.
    let _ = stdin.write_all(typed.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("it ends")
}

fn etcdctl(endpoints: &str, words: &str) -> String {
    let words = words.replace("ANN", ANN).replace("ROOT", ROOT);
    let mut command = Command::new("etcdctl");
    command.env("ETCDCTL_API", "3").arg(format!("--endpoints={endpoints}"));
    command.args(words.split(' ').map(|word| if word == "\"\"" { "" } else { word }));
    said(&run(command, "typed\n"))
}

/// What a command printed, without the end of the last line; errors begin with `!`.
fn said(output: &Output) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        let printed = text(&output.stdout);
        return printed.strip_suffix('\n').unwrap_or(&printed).to_owned();
    }
    let error = text(&output.stderr);
    let last = error.lines().rfind(|line| line.contains("rror")).unwrap_or(&error).to_owned();
    format!("!{}", last.trim_end())
}

fn endpoints(cluster: &Cluster) -> String {
    let all = cluster.members.iter().map(|m| format!("http://127.0.0.1:{}", m.client_port));
    all.collect::<Vec<_>>().join(",")
}

fn settings(members: usize) -> Settings {
    Settings::of(members).with("--bcrypt-cost", 4)
}

fn goes_as(here: &str, expected: &str) -> bool {
    match expected.strip_prefix('!') {
        Some(error) => here.starts_with('!') && here.contains(error),
        None => here == expected,
    }
}

#[tokio::test]
async fn a_conversation_with_etcdctl_goes_as_with_etcd() {
    if missing("etcdctl") {
        return;
    }
    let ours = Cluster::start(settings(3)).await;
    let theirs = match missing("etcd") {
        true => None,
        false => Some(Cluster::start(Settings { program: Program::Etcd, ..settings(1) }).await),
    };
    let all = endpoints(&ours);
    for (words, expected) in CONVERSATION {
        let here = etcdctl(&all, words);
        assert!(goes_as(&here, expected), "etcdctl {words}\n{here}\nexpected\n{expected}");
        if let Some(theirs) = &theirs {
            let there = etcdctl(&endpoints(theirs), words);
            assert!(goes_as(&there, expected), "etcd, etcdctl {words}\n{there}\n{expected}");
        }
        if *words == "ANN del w" {
            for (words, expected) in STRICTER {
                // Of several members etcdctl itself refuses to ask for a snapshot.
                let one = all.split(',').next().expect("there is a first");
                let here = etcdctl(if words.contains("snapshot") { one } else { &all }, words);
                assert!(goes_as(&here, expected), "etcdctl {words}\n{here}\nexpected\n{expected}");
            }
        }
    }
}

/// Our own command line, with passwords on standard input and in the environment.
#[tokio::test]
async fn our_own_client_manages_users_and_roles() {
    let cluster = Cluster::start(settings(1)).await;
    let endpoint = format!("127.0.0.1:{}", cluster.members[0].client_port);
    let ctl = |words: &str, typed: &str, password: Option<&str>| {
        let mut command = Command::new(binary());
        command.arg("ctl").args(words.split(' ')).args(["--endpoints", &endpoint]);
        command.env_remove("QUORATE_USER").env_remove("QUORATE_PASSWORD");
        if let Some(password) = password {
            command.env("QUORATE_PASSWORD", password);
        }
        said(&run(command, typed))
    };
    let steps = [
        ("user add root", "rootpw\n", None, "User root created"),
        ("user add ann", "annpw\n", None, "User ann created"),
        ("user add bob --no-password", "", None, "User bob created"),
        ("role add readers", "", None, "Role readers created"),
        ("role grant-permission readers read config/ --prefix", "", None, "Role readers updated"),
        ("role grant-permission readers readwrite own", "", None, "Role readers updated"),
        ("user grant-role ann readers", "", None, "Role readers is granted to user ann"),
        ("auth enable", "", None, "!root user does not have root role"),
        ("user grant-role root root", "", None, "Role root is granted to user root"),
        ("put config/a 1", "", None, "OK"),
        ("auth enable", "", None, "Authentication Enabled"),
        ("get own", "", None, "!user name is empty"),
        ("get config/ --prefix --user ann", "annpw\n", None, "config/a\n1"),
        ("get config/ --prefix --user ann", "", Some("annpw"), "config/a\n1"),
        ("put own 2 --user ann", "", Some("annpw"), "OK"),
        ("put config/a 2 --user ann", "", Some("annpw"), "!permission denied"),
        ("put own 2 --user ann", "", Some("wrong"), "!authentication failed"),
        ("user get ann --user ann", "", Some("annpw"), "User: ann\nRoles: readers"),
        (
            "role get readers --user ann",
            "",
            Some("annpw"),
            "Role readers\nKV Read:\n\t[config/, config0) (prefix config/)\n\town\nKV Write:\n\t\
             own",
        ),
        ("user passwd ann --user root:rootpw", "fresh\n", None, "Password updated"),
        ("put own 3 --user ann", "", Some("annpw"), "!authentication failed"),
        ("put own 3 --user ann", "", Some("fresh"), "OK"),
        (
            "auth status --user root:rootpw",
            "",
            None,
            "Authentication Status: true\nAuthRevision: 10",
        ),
        ("auth disable --user root:rootpw", "", None, "Authentication Disabled"),
        ("put config/a 3", "", None, "OK"),
        ("put config/a 4 --user ann:whatever", "", None, "OK"),
    ];
    for (words, typed, password, expected) in steps {
        let here = ctl(words, typed, password);
        assert!(goes_as(&here, expected), "ctl {words}\n{here}\nexpected\n{expected}");
    }
    let log = std::fs::read_to_string(&cluster.members[0].log_file).expect("a log");
    for secret in ["rootpw", "annpw", "fresh", "$2b$"] {
        assert!(!log.contains(secret), "{secret} is in the log");
    }
}

/// What asks every member needs a user for their names and for whether they serve.
#[tokio::test]
async fn the_members_are_asked_as_a_user() {
    let cluster = Cluster::start(settings(1)).await;
    enable(&cluster).await;
    let endpoint = format!("127.0.0.1:{}", cluster.members[0].client_port);
    let status = |words: &str| {
        let mut command = Command::new(binary());
        command.args(["status", "--json", "--endpoints", &endpoint]).args(words.split(' '));
        let output = run(command, "");
        let printed: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        (output.status.code(), printed)
    };
    let (code, report) = status("--user root:rootpw");
    assert_eq!((code, &report["serves"]), (Some(0), &true.into()), "{report}");
    assert_eq!(report["members"][0]["name"], cluster.members[0].name, "{report}");
    assert!(report["warning"].is_null(), "{report}");
    let (_, report) = status("--user root:guess");
    let warning = report["warning"].as_str().expect("a warning");
    assert!(warning.contains("root could not log in: etcdserver: authentication"), "{report}");
    assert!(report["members"][0]["name"].is_null(), "{report}");
    let refused = Command::new(binary()).args(["status", "--password", "x"]).output();
    assert_eq!(refused.expect("it runs").status.code(), Some(2), "a password of nobody");
}

async fn channel(cluster: &Cluster, i: usize) -> Channel {
    let address = format!("http://127.0.0.1:{}", cluster.members[i].client_port);
    Channel::from_shared(address).expect("a URI").connect().await.expect("the member listens")
}

fn carrying<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("token", token.parse().expect("a header"));
    request
}

/// Root with a password, and ann who reads and writes `a`, at member 0.
async fn enable(cluster: &Cluster) {
    let mut auth = AuthClient::new(channel(cluster, 0).await);
    for (name, password) in [("root", "rootpw"), ("ann", "annpw")] {
        let (name, password) = (name.to_owned(), password.to_owned());
        let request = pb::AuthUserAddRequest { name, password, ..Default::default() };
        auth.user_add(request).await.expect("added");
    }
    let role = |name: &str| pb::AuthRoleAddRequest { name: name.to_owned() };
    auth.role_add(role("r")).await.expect("added");
    grant(&mut auth, "").await.expect("granted");
    for (user, role) in [("root", "root"), ("ann", "r")] {
        let (user, role) = (user.to_owned(), role.to_owned());
        auth.user_grant_role(pb::AuthUserGrantRoleRequest { user, role }).await.expect("granted");
    }
    auth.auth_enable(pb::AuthEnableRequest {}).await.expect("enabled");
}

/// The role r may read and write the key `a`.
async fn grant(auth: &mut AuthClient<Channel>, token: &str) -> Result<(), Status> {
    let (key, range_end) = ("a".into(), Default::default());
    let perm = Some(authpb::Permission { perm_type: 2, key, range_end });
    let request = pb::AuthRoleGrantPermissionRequest { name: "r".to_owned(), perm };
    auth.role_grant_permission(carrying(request, token)).await.map(|_| ())
}

async fn revoke(auth: &mut AuthClient<Channel>, token: &str) -> Result<(), Status> {
    let (role, key, range_end) = ("r".to_owned(), "a".into(), Default::default());
    let request = pb::AuthRoleRevokePermissionRequest { role, key, range_end };
    auth.role_revoke_permission(carrying(request, token)).await.map(|_| ())
}

async fn login(cluster: &Cluster, i: usize, name: &str, password: &str) -> String {
    let mut auth = AuthClient::new(channel(cluster, i).await);
    let (name, password) = (name.to_owned(), password.to_owned());
    let answer = auth.authenticate(pb::AuthenticateRequest { name, password }).await;
    answer.expect("the password is right").into_inner().token
}

async fn put(cluster: &Cluster, i: usize, key: &str, token: &str) -> Result<(), Status> {
    let put = pb::PutRequest { key: key.to_owned().into(), ..Default::default() };
    KvClient::new(channel(cluster, i).await).put(carrying(put, token)).await.map(|_| ())
}

#[tokio::test]
async fn a_token_is_good_on_every_member_and_after_all_were_killed() {
    let mut cluster = Cluster::start(settings(3)).await;
    enable(&cluster).await;
    let token = login(&cluster, 1, "ann", "annpw").await;
    for i in 0..3 {
        put(&cluster, i, "a", &token).await.expect("it is good at once");
        let refused = put(&cluster, i, "b", &token).await.expect_err("that is of others");
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    cluster.kill_all();
    cluster.spawn_all();
    // Nothing may be read or written without a token from the first moment on.
    let since = Instant::now();
    loop {
        let address = format!("http://127.0.0.1:{}", cluster.members[0].client_port);
        let channel = Channel::from_shared(address).expect("a URI").connect().await;
        if let Ok(channel) = channel {
            let mut kv = KvClient::new(channel);
            let get =
                pb::RangeRequest { key: "a".into(), serializable: true, ..Default::default() };
            let status = kv.range(get).await.expect_err("nobody is asking");
            if status.message() == "etcdserver: user name is empty" {
                break;
            }
            assert_eq!(status.code(), Code::Unavailable, "{status}");
        }
        assert!(since.elapsed() < SOON, "nobody answers");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for i in 0..3 {
        let since = Instant::now();
        while let Err(status) = put(&cluster, i, "a", &token).await {
            assert_eq!(status.code(), Code::Unavailable, "{status}");
            assert!(since.elapsed() < SOON, "{status}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test]
async fn a_right_counts_at_once_everywhere_and_so_does_its_end() {
    let cluster = Cluster::start(settings(3)).await;
    enable(&cluster).await;
    let root = login(&cluster, 0, "root", "rootpw").await;
    let ann = login(&cluster, 0, "ann", "annpw").await;
    let mut auth = AuthClient::new(channel(&cluster, 0).await);
    for round in 0..20 {
        let elsewhere = 1 + round % 2;
        revoke(&mut auth, &root).await.expect("root may");
        let refused = put(&cluster, elsewhere, "a", &ann).await.expect_err("it was taken back");
        assert_eq!(refused.message(), "etcdserver: permission denied");
        grant(&mut auth, &root).await.expect("root may");
        put(&cluster, elsewhere, "a", &ann).await.expect("it was given");
    }
}

#[tokio::test]
async fn a_running_watch_ends_when_its_right_is_taken_back() {
    let cluster = Cluster::start(settings(3)).await;
    enable(&cluster).await;
    let root = login(&cluster, 0, "root", "rootpw").await;
    let ann = login(&cluster, 0, "ann", "annpw").await;
    let (requests, stream) = mpsc::channel(8);
    let create = |key: &str, end: &'static str| {
        let (key, range_end) = (key.to_owned().into(), end.into());
        let create = pb::WatchCreateRequest { key, range_end, ..Default::default() };
        pb::WatchRequest { request_union: Some(RequestUnion::CreateRequest(create)) }
    };
    // The right on one key is none on those after it (GHSA-xg4h-6gfc-h4m8).
    requests.send(create("a", "\0")).await.expect("room");
    requests.send(create("a", "")).await.expect("room");
    let call = carrying(ReceiverStream::new(stream), &ann);
    let mut watch = WatchClient::new(channel(&cluster, 1).await);
    let mut answers = watch.watch(call).await.expect("a stream").into_inner();
    let refused = answers.message().await.expect("it goes on").expect("an answer");
    assert!(refused.created && refused.canceled);
    assert_eq!(refused.cancel_reason, DENIED);
    let created = answers.message().await.expect("it goes on").expect("an answer");
    assert!(created.created && !created.canceled);
    put(&cluster, 0, "a", &ann).await.expect("she may");
    let told = answers.message().await.expect("it goes on").expect("an answer");
    assert_eq!(told.events.len(), 1);
    let mut auth = AuthClient::new(channel(&cluster, 0).await);
    revoke(&mut auth, &root).await.expect("root may");
    put(&cluster, 0, "a", &root).await.expect("root may");
    let ended = tokio::time::timeout(SOON, answers.message()).await.expect("it is told");
    let ended = ended.expect("it goes on").expect("an answer");
    assert!(ended.canceled && ended.events.is_empty(), "{ended:?}");
    assert_eq!(ended.cancel_reason, DENIED);
}

/// Every method that the definitions have, without a token and with such as are none, or none any
/// more: etcd's errors, and nothing has changed.
#[tokio::test]
async fn no_method_answers_nobody_but_those_that_tell_nothing() {
    let cluster = Cluster::start(settings(1)).await;
    enable(&cluster).await;
    let stale = stale_tokens(&cluster).await;
    let root = login(&cluster, 0, "root", "rootpw").await;
    let before = everything(&cluster, &root).await;
    let open = ["/etcdserverpb.Auth/Authenticate", "/etcdserverpb.Maintenance/Status"];
    let methods = methods(cluster.members[0].client_port);
    assert!(methods.len() >= 40, "{methods:?}");
    let cut = &stale[0][..stale[0].len() - 1];
    let none = ["", "x", "Bearer ", cut, "a.b.c", &"A".repeat(4_000)];
    let tokens: Vec<&str> = none.into_iter().chain(stale.iter().map(String::as_str)).collect();
    for path in methods.iter().filter(|path| !open.contains(&&path[..])) {
        let status = ask(&cluster, path, None).await;
        assert!(status.message().contains("user name is empty"), "{path}: {status}");
        for token in &tokens {
            let status = ask(&cluster, path, Some(token)).await;
            assert_eq!(status.message(), "etcdserver: invalid auth token", "{path} {token}");
            assert_eq!(status.code(), Code::Unauthenticated, "{path} {token}");
        }
    }
    assert_eq!(everything(&cluster, &root).await, before, "nothing has changed");
}

/// Tokens of before authentication was turned on anew, of before another password, and of a user
/// who is gone.
async fn stale_tokens(cluster: &Cluster) -> Vec<String> {
    let mut auth = AuthClient::new(channel(cluster, 0).await);
    let early = login(cluster, 0, "ann", "annpw").await;
    let root = login(cluster, 0, "root", "rootpw").await;
    auth.auth_disable(carrying(pb::AuthDisableRequest {}, &root)).await.expect("root may");
    auth.auth_enable(pb::AuthEnableRequest {}).await.expect("anybody may");
    let root = login(cluster, 0, "root", "rootpw").await;
    let before = login(cluster, 0, "ann", "annpw").await;
    let named = |name: &str, password: &str| (name.to_owned(), password.to_owned());
    let (name, password) = named("ann", "fresh");
    let change = pb::AuthUserChangePasswordRequest { name, password, ..Default::default() };
    auth.user_change_password(carrying(change, &root)).await.expect("root may");
    let (name, password) = named("bob", "bobpw");
    let add = pb::AuthUserAddRequest { name, password, ..Default::default() };
    auth.user_add(carrying(add, &root)).await.expect("root may");
    let gone = login(cluster, 0, "bob", "bobpw").await;
    let delete = pb::AuthUserDeleteRequest { name: "bob".to_owned() };
    auth.user_delete(carrying(delete, &root)).await.expect("root may");
    vec![early, before, gone]
}

/// What would show a change: keys and their history, leases, members, users and roles.
async fn everything(cluster: &Cluster, root: &str) -> Vec<String> {
    let channel = channel(cluster, 0).await;
    let mut maintenance = MaintenanceClient::new(channel.clone());
    let hash = maintenance.hash_kv(carrying(pb::HashKvRequest { revision: 0 }, root)).await;
    let hash = hash.expect("root may").into_inner();
    let mut leases = LeaseClient::new(channel.clone());
    let leases = leases.lease_leases(carrying(pb::LeaseLeasesRequest {}, root)).await;
    let mut auth = AuthClient::new(channel);
    let status = auth.auth_status(carrying(pb::AuthStatusRequest {}, root)).await;
    let status = status.expect("root may").into_inner();
    vec![
        format!("{} {} {}", hash.hash, hash.hash_revision, hash.compact_revision),
        format!("{:?}", leases.expect("root may").into_inner().leases),
        format!("{} {}", status.enabled, status.auth_revision),
    ]
}

/// Every method of the API, as the member itself counts them.
fn methods(port: u16) -> Vec<String> {
    let metrics = fetch(port, "/metrics");
    let methods = metrics.lines().filter_map(|line| {
        let rest = line.strip_prefix("grpc_server_started_total{")?;
        let label = |name: &str| {
            let (_, rest) = rest.split_once(&format!("{name}=\""))?;
            rest.split('"').next()
        };
        Some(format!("/{}/{}", label("grpc_service")?, label("grpc_method")?))
    });
    methods.filter(|path| path.starts_with("/etcdserverpb")).collect()
}

/// The API as JSON, whose calls go through the same gate.
#[tokio::test]
async fn calls_as_json_need_the_same_rights() {
    let cluster = Cluster::start(settings(1)).await;
    enable(&cluster).await;
    let port = cluster.members[0].client_port;
    // A message, a token; the status and a part of the answer.
    let post = |path: &str, body: &str, token: &str| {
        let token = if token.is_empty() { "" } else { &format!("Authorization: {token}\r\n") };
        let (length, rest) = (body.len(), format!("Connection: close\r\n\r\n{body}"));
        let head = format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n");
        exchange(port, &format!("{head}{token}{rest}"))
    };
    let answer = post("/v3/auth/authenticate", r#"{"name":"ann","password":"annpw"}"#, "");
    let (_, token) = answer.split_once(r#""token":""#).expect("a token");
    let token = token.split('"').next().expect("its end");
    for (key, token, wanted) in [
        ("YQ==", token, "HTTP/1.1 200 OK"),
        ("YQ==", &format!("Bearer {token}"), "HTTP/1.1 200 OK"),
        ("Yg==", token, "HTTP/1.1 403 Forbidden"),
        ("YQ==", "x", "HTTP/1.1 401 Unauthorized"),
        ("YQ==", "", "HTTP/1.1 400 Bad Request"),
    ] {
        let answer = post("/v3/kv/put", &format!(r#"{{"key":"{key}"}}"#), token);
        assert!(answer.starts_with(wanted), "{key} {token}: {answer}");
    }
    let wrong = post("/v3/auth/authenticate", r#"{"name":"ann","password":"guess"}"#, "");
    assert!(wrong.contains("authentication failed, invalid user ID or password"), "{wrong}");
}

/// A common name is a user, but not before a token.
#[tokio::test]
async fn a_certificate_stands_for_its_user() {
    let mut plain = settings(1);
    plain.extra.push("--client-cert-auth=true".to_owned());
    let secured = Secured::prepare(plain).closed().start().await;
    for name in ["ann", "stranger"] {
        secured.issue(name, &Wanted::client(name));
    }
    // The pair "client" is root's.
    let ctl =
        |pair: &str, words: &str| secured::said(&secured.tool(&Tool::Ours, Some(pair), words));
    for (pair, words, wanted) in [
        ("client", "user add root --no-password", "User root created"),
        ("client", "user grant-role root root", "Role root is granted to user root"),
        ("client", "user add ann --no-password", "User ann created"),
        ("client", "user add bob:bobpw", "User bob created"),
        ("client", "role add r", "Role r created"),
        ("client", "role grant-permission r readwrite a", "Role r updated"),
        ("client", "user grant-role ann r", "Role r is granted to user ann"),
        ("client", "auth enable", "Authentication Enabled"),
        ("ann", "put a 1", "OK"),
        ("ann", "put b 1", "etcdserver: permission denied"),
        ("ann", "user list", "etcdserver: permission denied"),
        ("ann", "put a 2 --user bob:bobpw", "etcdserver: permission denied"),
        ("client", "put b 1", "OK"),
        ("stranger", "put a 1", "etcdserver: permission denied"),
    ] {
        let here = ctl(pair, words);
        assert!(here.contains(wanted), "{pair}: {words}: {here}\nexpected {wanted}");
    }
}

/// Messages as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Raw;
    type Decoder = Raw;

    fn encoder(&mut self) -> Raw {
        Raw
    }

    fn decoder(&mut self) -> Raw {
        Raw
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&message);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, input: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut message = vec![0; input.remaining()];
        input.copy_to_slice(&mut message);
        Ok(Some(message))
    }
}

/// The key `a`, where it is the first field.
const KEY_A: &[u8] = &[0x0a, 1, b'a'];

/// A `WatchRequest` with a `WatchCreateRequest` for the key `a`.
const WATCH_A: &[u8] = &[0x0a, 3, 0x0a, 1, b'a'];

/// Sends a small message to a method; what becomes of it.
async fn ask(cluster: &Cluster, path: &str, token: Option<&str>) -> Status {
    let mut grpc = tonic::client::Grpc::new(channel(cluster, 0).await);
    grpc.ready().await.expect("a connection");
    let (requests, stream) = mpsc::channel(1);
    // A watch that asks for nothing is told nothing, and without a key nobody asks for one.
    let message = match path.rsplit('/').next().expect("there is a last part") {
        "Watch" => WATCH_A,
        "Range" | "RangeStream" | "Put" | "DeleteRange" => KEY_A,
        _ => &[],
    };
    requests.send(message.to_vec()).await.expect("room");
    drop(requests);
    let mut request = Request::new(ReceiverStream::new(stream));
    if let Some(token) = token {
        request.metadata_mut().insert("token", token.parse().expect("a header"));
    }
    let path = path.parse().expect("a path");
    let mut answers = match grpc.streaming(request, path, Raw).await {
        Ok(answers) => answers.into_inner(),
        Err(status) => return status,
    };
    match answers.message().await {
        Err(status) => status,
        // A watch that is refused says why, at the end of its answer.
        Ok(Some(answer)) => Status::unknown(String::from_utf8_lossy(&answer)),
        Ok(None) => Status::ok("it was answered"),
    }
}

fn fetch(port: u16, path: &str) -> String {
    exchange(port, &format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"))
}

fn exchange(port: u16, request: &str) -> String {
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    std::io::Read::read_to_string(&mut stream, &mut answer).expect("answered");
    answer
}

#[tokio::test]
async fn a_token_without_use_ends_and_a_signed_one_ends_with_each_change() {
    let cluster = Cluster::start(settings(1).with("--auth-token-ttl", 1)).await;
    enable(&cluster).await;
    let token = login(&cluster, 0, "ann", "annpw").await;
    put(&cluster, 0, "a", &token).await.expect("it is good");
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    let refused = put(&cluster, 0, "a", &token).await.expect_err("it is over");
    assert_eq!(refused.message(), "etcdserver: invalid auth token");
    drop(cluster);

    let dir = tempfile::tempdir().expect("a directory");
    let secret = dir.path().join("secret");
    std::fs::write(&secret, "a shared secret").expect("written");
    let options = format!("jwt,sign-method=HS256,priv-key={},ttl=1m", secret.display());
    let cluster = Cluster::start(settings(1).with("--auth-token", options)).await;
    enable(&cluster).await;
    let ann = login(&cluster, 0, "ann", "annpw").await;
    let root = login(&cluster, 0, "root", "rootpw").await;
    put(&cluster, 0, "a", &ann).await.expect("it is good");
    let mut auth = AuthClient::new(channel(&cluster, 0).await);
    grant(&mut auth, &root).await.expect("root may");
    let refused = put(&cluster, 0, "a", &ann).await.expect_err("users or roles have changed");
    assert_eq!(refused.message(), "etcdserver: revision of auth store is old");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let ann = login(&cluster, 0, "ann", "annpw").await;
    put(&cluster, 0, "a", &ann).await.expect("it is good");
}

/// A thousand logins a second beside puts, on whatever the machine has. A measurement, to be run by
/// hand with a release build: `QUORATE_BIN=.. cargo test --test auth -- --ignored --nocapture`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn logins_beside_puts() {
    let cluster = Cluster::start(Settings::of(1).with("--bcrypt-cost", 10)).await;
    enable(&cluster).await;
    let token = login(&cluster, 0, "ann", "annpw").await;
    for round in 0..3 {
        let alone = puts_p99(&cluster, &token).await;
        for (what, password) in [("right", "annpw"), ("wrong", "guess")] {
            let logins = tokio::spawn(crowd(channel(&cluster, 0).await, password));
            let beside = puts_p99(&cluster, &token).await;
            let (asked, right) = logins.await.expect("it ends");
            let times = beside.as_secs_f64() / alone.as_secs_f64();
            eprintln!(
                "round {round}: p99 of puts alone {alone:?}, beside {asked} logins with a {what} \
                 password ({right} entered) {beside:?}: x{times:.2}"
            );
        }
    }
}

/// Logs in a thousand times a second for five seconds; how often it asked, and was let in by then.
/// Wrong passwords still wait then: they are given up.
async fn crowd(channel: Channel, password: &'static str) -> (usize, usize) {
    let mut asked = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_millis(1));
    for _ in 0..5_000 {
        ticks.tick().await;
        let mut auth = AuthClient::new(channel.clone());
        let (name, password) = ("ann".to_owned(), password.to_owned());
        asked.spawn(async move {
            auth.authenticate(pb::AuthenticateRequest { name, password }).await.is_ok()
        });
    }
    let (count, mut right) = (asked.len(), 0);
    while let Some(answer) = asked.try_join_next() {
        right += usize::from(answer.expect("it ends"));
    }
    (count, right)
}

/// Eight clients put for five seconds; the time that one put in a hundred takes or more.
async fn puts_p99(cluster: &Cluster, token: &str) -> Duration {
    let mut clients = Vec::new();
    for _ in 0..8 {
        let (channel, token) = (channel(cluster, 0).await, token.to_owned());
        clients.push(tokio::spawn(async move {
            let (mut kv, mut took) = (KvClient::new(channel), Vec::new());
            let until = Instant::now() + Duration::from_secs(5);
            while Instant::now() < until {
                let begun = Instant::now();
                let put = pb::PutRequest { key: "a".into(), ..Default::default() };
                kv.put(carrying(put, &token)).await.expect("she may");
                took.push(begun.elapsed());
            }
            took
        }));
    }
    let mut all = Vec::new();
    for client in clients {
        all.extend(client.await.expect("it ends"));
    }
    all.sort_unstable();
    all[all.len() * 99 / 100]
}
