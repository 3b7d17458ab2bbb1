//! Every method of the API is asked once and must answer as it should; `docs/api.md` is the table
//! of what came of it.
//!
//! `UPDATE=1` writes the table anew.

mod support;

use quorate_server::gateway::methods;
use quorate_server::proto::etcdserverpb::HashRequest;
use quorate_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use support::cluster::{Cluster, SOON, Settings};
use support::net::{free_port, loopback};

/// One question, and what its answer shows.
struct Ask {
    method: &'static str,
    body: Value,
    /// Part of the answer that must be so, by JSON pointer.
    expects: (&'static str, Value),
    shows: &'static str,
}

fn ask(
    method: &'static str,
    body: Value,
    expects: (&'static str, Value),
    shows: &'static str,
) -> Ask {
    Ask { method, body, expects, shows }
}

/// Who leads the election that is asked of.
fn leader() -> Value {
    json!({"name": "ZQ==", "key": "ZS83", "rev": 7, "lease": 7})
}

/// Questions of keys, leases, locks and the member, one after another.
fn of_data() -> Vec<Ask> {
    let (a, put) = ("YQ==", json!({"key": "YQ==", "value": "MQ==", "prev_kv": true}));
    vec![
        ask("KV/Put", put, ("/header/revision", json!("2")), "the revision of a first write"),
        ask("KV/Range", json!({"key": a}), ("/kvs/0/value", json!("MQ==")), "what was written"),
        ask(
            "KV/Txn",
            json!({
                "compare": [{"key": a, "target": "VERSION", "version": "1"}],
                "success": [{"request_put": {"key": a, "value": "Mg=="}}],
            }),
            ("/succeeded", json!(true)),
            "a comparison that holds",
        ),
        ask("KV/DeleteRange", json!({"key": a}), ("/deleted", json!("1")), "one key is gone"),
        ask(
            "KV/Compact",
            json!({"revision": "3"}),
            ("/header/revision", json!("4")),
            "history ends",
        ),
        ask(
            "Watch/Watch",
            json!({"create_request": {"key": a}}),
            ("/result/created", json!(true)),
            "a stream that has begun",
        ),
        ask("Lease/LeaseGrant", json!({"TTL": 3600, "ID": 7}), ("/ID", json!("7")), "a lease"),
        ask(
            "Lease/LeaseKeepAlive",
            json!({"ID": 7}),
            ("/result/TTL", json!("3600")),
            "it is renewed",
        ),
        ask("Lease/LeaseTimeToLive", json!({"ID": 7}), ("/grantedTTL", json!("3600")), "its term"),
        ask("Lease/LeaseLeases", json!({}), ("/leases/0/ID", json!("7")), "it is listed"),
        ask(
            "Lock/Lock",
            json!({"name": "bA==", "lease": 7}),
            ("/key", json!("bC83")),
            "the key held",
        ),
        ask("Lock/Unlock", json!({"key": "bC83"}), ("/header/revision", json!("6")), "it is gone"),
        ask(
            "Election/Campaign",
            json!({"name": "ZQ==", "lease": 7, "value": "bWU="}),
            ("/leader/rev", json!("7")),
            "the token of the leader",
        ),
        ask(
            "Election/Proclaim",
            json!({"leader": leader(), "value": "dXM="}),
            ("/header/revision", json!("8")),
            "a new value",
        ),
        ask("Election/Leader", json!({"name": "ZQ=="}), ("/kv/value", json!("dXM=")), "who leads"),
        ask(
            "Election/Observe",
            json!({"name": "ZQ=="}),
            ("/result/kv/value", json!("dXM=")),
            "who leads, and then who leads next",
        ),
        ask(
            "Election/Resign",
            json!({"leader": leader()}),
            ("/header/revision", json!("9")),
            "nobody leads",
        ),
        ask("Lease/LeaseRevoke", json!({"ID": 7}), ("/header/revision", json!("9")), "it is gone"),
        ask(
            "Limits/LimitSet",
            json!({"rule": {"name": "r", "prefix": "cQ==", "keys": "5"}}),
            ("/error", Value::Null),
            "a storage quota",
        ),
        ask("Limits/LimitList", json!({}), ("/limits/0/rule/keys", json!("5")), "it is listed"),
        ask("Limits/LimitRemove", json!({"name": "r"}), ("/error", Value::Null), "it is gone"),
        ask("Maintenance/Status", json!({}), ("/raftTerm", json!("1")), "the term"),
        ask("Maintenance/Alarm", json!({}), ("/alarms", Value::Null), "no alarm"),
        ask(
            "Maintenance/Defragment",
            json!({}),
            ("/error", Value::Null),
            "done: nothing is needed",
        ),
        ask(
            "Maintenance/HashKV",
            json!({}),
            ("/compact_revision", json!("3")),
            "a hash since then",
        ),
        ask("Maintenance/Snapshot", json!({}), ("/error", Value::Null), "a first piece"),
        ask(
            "Maintenance/Downgrade",
            json!({"action": "CANCEL"}),
            ("/code", json!(9)),
            "refused: none is going on",
        ),
    ]
}

/// Questions of users and roles; the last leaves authentication off.
fn of_users() -> Vec<Ask> {
    let done = || ("/error", Value::Null);
    let grant = json!({"name": "r", "perm": {"permType": "READ", "key": "YQ=="}});
    vec![
        ask("Auth/AuthStatus", json!({}), ("/authRevision", json!("1")), "off, and never changed"),
        ask("Auth/UserAdd", json!({"name": "root", "password": "p"}), done(), "a user"),
        ask("Auth/UserList", json!({}), ("/users/0", json!("root")), "it is listed"),
        ask("Auth/UserGrantRole", json!({"user": "root", "role": "root"}), done(), "a right"),
        ask("Auth/UserGet", json!({"name": "root"}), ("/roles/0", json!("root")), "what it may"),
        ask("Auth/UserChangePassword", json!({"name": "root", "password": "q"}), done(), "another"),
        ask("Auth/RoleAdd", json!({"name": "r"}), done(), "a role"),
        ask("Auth/RoleList", json!({}), ("/roles/0", json!("r")), "it is listed"),
        ask("Auth/RoleGrantPermission", grant, done(), "a range that may be read"),
        ask("Auth/RoleGet", json!({"role": "r"}), ("/perm/0/key", json!("YQ==")), "which one"),
        ask(
            "Auth/RoleRevokePermission",
            json!({"role": "r", "key": "YQ=="}),
            done(),
            "it may no more",
        ),
        ask("Auth/RoleDelete", json!({"role": "r"}), done(), "it is gone"),
        ask("Auth/AuthEnable", json!({}), done(), "from now on tokens are wanted"),
        ask(
            "Auth/Authenticate",
            json!({"name": "root", "password": "q"}),
            ("/error", Value::Null),
            "a token",
        ),
        ask("Auth/AuthDisable", json!({}), done(), "with that token"),
        ask(
            "Auth/UserRevokeRole",
            json!({"name": "root", "role": "root"}),
            done(),
            "no right more",
        ),
        ask("Auth/UserDelete", json!({"name": "root"}), done(), "it is gone"),
    ]
}

/// Questions of members; `id` is that of the only one, `peer` an address where nobody listens.
fn of_members(id: &str, peer: &str) -> Vec<Ask> {
    let refused = "can only promote a learner member which is in sync with leader";
    let add = json!({"peerURLs": [format!("http://127.0.0.1:{peer}")], "isLearner": true});
    vec![
        ask("Cluster/MemberList", json!({}), ("/members/0/ID", json!(id)), "the only one"),
        ask(
            "Maintenance/MoveLeader",
            json!({"targetID": id}),
            ("/error", Value::Null),
            "it leads already",
        ),
        ask("Cluster/MemberAdd", add, ("/member/isLearner", json!(true)), "a learner"),
        ask(
            "Cluster/MemberUpdate",
            json!({"ID": "NEW", "peerURLs": [format!("http://localhost:{peer}")]}),
            ("/error", Value::Null),
            "another address",
        ),
        ask(
            "Cluster/MemberPromote",
            json!({"ID": "NEW"}),
            ("/message", json!(format!("etcdserver: {refused}"))),
            "refused: it has not caught up",
        ),
        ask("Cluster/MemberRemove", json!({"ID": "NEW"}), ("/error", Value::Null), "one is left"),
    ]
}

/// The first line of the answer.
fn post(port: u16, path: &str, token: Option<&str>, body: &str) -> Value {
    let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    let token = token.map_or_else(String::new, |token| format!("Authorization: {token}\r\n"));
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.0\r\n{token}Content-Length: {length}\r\n\r\n{body}")
        .expect("a request");
    let mut lines = BufReader::new(stream).lines().map(|line| line.expect("an answer"));
    let body = lines.by_ref().skip_while(|line| !line.is_empty()).nth(1).expect("a body");
    serde_json::from_str(&body).unwrap_or_else(|_| panic!("{path}: {body}"))
}

/// Asks, and tells by the method what came of it: what it shows, or what went wrong.
struct Asker {
    port: u16,
    paths: BTreeMap<String, String>,
    token: Option<String>,
    added: String,
    came: BTreeMap<String, Result<&'static str, String>>,
}

impl Asker {
    fn ask(&mut self, asks: Vec<Ask>) {
        for Ask { method, body, expects, shows } in asks {
            let path = self.paths.get(method).unwrap_or_else(|| panic!("{method} has no path"));
            let body = body.to_string().replace("NEW", &self.added);
            let answer = post(self.port, path, self.token.as_deref(), &body);
            let found = answer.pointer(expects.0).cloned().unwrap_or(Value::Null);
            let came = if found == expects.1 { Ok(shows) } else { Err(answer.to_string()) };
            self.came.insert(method.to_owned(), came);
            let text = |pointer| answer.pointer(pointer).and_then(Value::as_str).map(str::to_owned);
            self.added = text("/member/ID").unwrap_or_else(|| self.added.clone());
            self.token = text("/token").or_else(|| self.token.clone());
        }
    }
}

/// `etcdserverpb.KV` -> `KV`.
fn short(service: &str) -> &str {
    service.rsplit('.').next().unwrap_or(service)
}

#[tokio::test]
async fn every_method_answers() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let port = cluster.members[0].client_port;
    let served = methods().into_iter().filter(|(service, ..)| !service.starts_with("grpc.health"));
    let served: Vec<_> = served.collect();
    let paths = served.iter().filter_map(|(service, name, path)| {
        Some((format!("{}/{name}", short(service)), path.clone()?))
    });
    let (paths, added, came) = (paths.collect(), String::new(), BTreeMap::new());
    let mut asker = Asker { port, paths, token: None, added, came };
    let id = cluster.ids().await[0].to_string();
    let peer = free_port().to_string();
    let asked = tokio::task::spawn_blocking(move || {
        asker.ask(of_data());
        asker.ask(of_members(&id, &peer));
        asker.ask(of_users());
        asker.came
    });
    let mut came = asked.await.expect("every question was asked");
    let hashed = MaintenanceClient::connect(format!("http://127.0.0.1:{port}")).await;
    let hashed = hashed.expect("a connection").hash(HashRequest {}).await;
    let hashed = hashed.map(|_| "a hash of the state").map_err(|status| status.to_string());
    came.insert("Maintenance/Hash".to_owned(), hashed);
    compare(&table(&served, &came));
    let failed: Vec<_> = came.iter().filter(|(_, came)| came.is_err()).collect();
    assert!(failed.is_empty(), "{failed:#?}");
}

type Served = (String, String, Option<String>);

fn table(served: &[Served], came: &BTreeMap<String, Result<&'static str, String>>) -> String {
    let mut text = String::from(
        "# The API, method by method\n\nEach was asked of a running member by `cargo test -p \
         quorate --test api`, which also writes this\ntable (`UPDATE=1`).\n\n| method | as JSON \
         | | what the answer showed |\n|---|---|---|---|\n",
    );
    for (service, name, path) in served {
        let path = path.as_ref().map_or("-".to_owned(), |path| format!("`{path}`"));
        let (verdict, shows) = match came.get(&format!("{}/{name}", short(service))) {
            Some(Ok(shows)) => ("pass", *shows),
            Some(Err(_)) => ("**fail**", "something else"),
            None => ("not served", "`Unimplemented`, as etcd 3.5 answers"),
        };
        writeln!(text, "| `{service}/{name}` | {path} | {verdict} | {shows} |").expect("text");
    }
    text
}

fn compare(table: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, table).expect("a table");
    }
    let kept = std::fs::read_to_string(&file).unwrap_or_default();
    assert_eq!(kept, table, "docs/api.md is another's: UPDATE=1 writes it anew");
}
