//! The API as JSON: the same requests give the same answers as the original's gateway, if that is
//! installed, and those which are known to be right in any case.

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};
use support::cluster::{Cluster, Program, SOON, Settings};
use support::missing;
use support::net::loopback;

/// What curl would see of an answer.
#[derive(Clone, Debug, PartialEq)]
struct Answer {
    code: u16,
    /// Each line of the body.
    body: Vec<Value>,
}

/// Posts over HTTP/1.0, where the end of the answer is the end of the connection.
fn post(port: u16, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = open(port, path, headers, body);
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    Answer { code: code(head), body: body.lines().map(value).collect() }
}

fn open(port: u16, path: &str, headers: &str, body: &str) -> TcpStream {
    let mut stream = TcpStream::connect(loopback(port)).expect("a connection");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    let length = body.len();
    write!(stream, "POST {path} HTTP/1.0\r\n{headers}Content-Length: {length}\r\n\r\n{body}")
        .expect("a request");
    stream
}

fn code(head: &str) -> u16 {
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    code.unwrap_or_else(|| panic!("no status line: {head:?}"))
}

/// A line of a body, without what differs between two clusters.
fn value(line: &str) -> Value {
    let mut value = serde_json::from_str(line).unwrap_or_else(|_| Value::from(line));
    mask(&mut value);
    value
}

fn mask(value: &mut Value) {
    const OWN: [&str; 12] = [
        "cluster_id",
        "member_id",
        "raft_term",
        "dbSize",
        "dbSizeInUse",
        "raftIndex",
        "raftTerm",
        "raftAppliedIndex",
        "leader",
        "version",
        "hash",
        "storageVersion",
    ];
    match value {
        Value::Object(fields) => {
            let is_status = fields.contains_key("raftIndex");
            for (name, field) in fields {
                // Of a key, its version is no name of a program.
                let own = OWN.contains(&name.as_str()) && (is_status || name != "version");
                if own { *field = Value::from("...") } else { mask(field) }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(mask),
        _ => {}
    }
}

fn ask(cluster: &Cluster, path: &str, body: &Value) -> Answer {
    post(cluster.members[0].client_port, path, "", &body.to_string())
}

/// Path and body; asked one after another.
fn script() -> Vec<(&'static str, Value)> {
    vec![
        ("/v3/kv/range", json!({"key": "Zm9v"})),
        ("/v3/kv/put", json!({"key": "Zm9v", "value": "YmFy"})),
        ("/v3/kv/range", json!({"key": "Zm9v"})),
        ("/v3beta/kv/range", json!({"key": "Zm9v", "serializable": true})),
        ("/v3/kv/put", json!({"key": "Zm9v", "value": "YmF6", "prevKv": true})),
        ("/v3/kv/put", json!({"key": "Zm9w", "value": "", "bogus": {"a": [1]}})),
        (
            "/v3/kv/range",
            json!({"key": "AA==", "range_end": "AA==", "sort_order": "DESCEND", "limit": 1}),
        ),
        (
            "/v3/kv/range",
            json!({"key": "AA==", "rangeEnd": "AA==", "keysOnly": true, "limit": "5"}),
        ),
        ("/v3/kv/range", json!({"key": "AA==", "range_end": "AA==", "count_only": true})),
        ("/v3/kv/range", json!({"key": "Zm9v", "revision": "99"})),
        ("/v3/kv/range", json!({})),
        (
            "/v3/kv/txn",
            json!({
                "compare": [{"key": "Zm9v", "result": "EQUAL", "target": "MOD", "mod_revision": "3"}],
                "success": [
                    {"request_range": {"key": "Zm9v"}},
                    {"request_put": {"key": "Zm9v", "value": "Yg==", "prev_kv": true}},
                    {"requestDeleteRange": {"key": "Zm9w"}},
                ],
            }),
        ),
        (
            "/v3/kv/txn",
            json!({
                "compare": [{"key": "Zm9v", "target": "CREATE", "create_revision": "7"}],
                "failure": [{"request_txn": {"success": [{"request_range": {"key": "eA=="}}]}}],
            }),
        ),
        ("/v3/kv/txn", json!({"success": [{}]})),
        (
            "/v3/kv/txn",
            json!({"success": [
                {"request_put": {"key": "YQ=="}}, {"request_put": {"key": "YQ=="}},
            ]}),
        ),
        ("/v3/kv/deleterange", json!({"key": "Zm9v", "prev_kv": true})),
        ("/v3/kv/put", json!({"key": "bA==", "value": "YQ==", "lease": "123"})),
        ("/v3/lease/grant", json!({"TTL": 3600, "ID": "77"})),
        ("/v3/lease/grant", json!({"TTL": "3600", "ID": 77})),
        ("/v3/kv/put", json!({"key": "bA==", "value": "YQ==", "lease": 77})),
        ("/v3/lease/keepalive", json!({"ID": 77})),
        ("/v3/lease/keepalive", json!({"ID": 78})),
        ("/v3/lease/leases", json!({})),
        ("/v3/kv/lease/timetolive", json!({"ID": 78})),
        ("/v3/kv/lease/revoke", json!({"ID": "77"})),
        ("/v3/lease/revoke", json!({"ID": "77"})),
        ("/v3/kv/compaction", json!({"revision": "4"})),
        ("/v3/kv/compaction", json!({"revision": "4"})),
        ("/v3/kv/range", json!({"key": "Zm9v", "revision": "2"})),
        ("/v3/maintenance/alarm", json!({"action": "GET"})),
        ("/v3/maintenance/transfer-leadership", json!({"targetID": "9"})),
        ("/v3/nothing", json!({})),
    ]
}

/// What is refused before it is a message: the words are each one's own.
const MALFORMED: [(&str, &str); 7] = [
    ("/v3/kv/range", "{"),
    ("/v3/kv/range", "[]"),
    ("/v3/kv/range", r#"{"key":"!!"}"#),
    ("/v3/kv/range", r#"{"key":"Zm9v","limit":"abc"}"#),
    ("/v3/kv/put", r#"{"key":7}"#),
    ("/v3/kv/txn", r#"{"compare":{"key":"YQ=="}}"#),
    ("/v3/lease/grant", r#"{"TTL":"99999999999999999999999"}"#),
];

fn answers(cluster: &Cluster) -> Vec<Answer> {
    script().iter().map(|(path, body)| ask(cluster, path, body)).collect()
}

#[tokio::test]
async fn answers_are_the_originals() {
    let ours = Cluster::start(Settings::of(1)).await;
    let given = answers(&ours);
    let codes: Vec<u16> = given.iter().map(|answer| answer.code).collect();
    assert_eq!(codes.iter().filter(|code| **code == 200).count(), 21, "{codes:?}");
    let header =
        json!({"cluster_id": "...", "member_id": "...", "revision": "2", "raft_term": "..."});
    let mut pair = json!({"key": "Zm9v", "create_revision": "2", "mod_revision": "2"});
    pair["version"] = json!("1");
    pair["value"] = json!("YmFy");
    assert_eq!(given[2].body, [json!({"header": header, "kvs": [pair], "count": "1"})]);
    if missing("etcd") {
        return;
    }
    let theirs = Cluster::start(Settings { program: Program::Etcd, ..Settings::of(1) }).await;
    for ((request, ours), theirs) in script().iter().zip(&given).zip(&answers(&theirs)) {
        // The gateway of etcd 3.4 had a code of its own for a failed precondition.
        let code = if theirs.code == 412 { 400 } else { theirs.code };
        assert_eq!(*ours, Answer { code, ..theirs.clone() }, "{request:?}");
    }
    for (path, body) in MALFORMED {
        let code = |cluster: &Cluster| post(cluster.members[0].client_port, path, "", body).code;
        assert_eq!((code(&ours), code(&theirs)), (400, 400), "{path} {body}");
    }
}

#[tokio::test]
async fn what_is_malformed_changes_nothing_and_says_where() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let port = cluster.members[0].client_port;
    for (path, body) in MALFORMED {
        let answer = post(port, path, "", body);
        assert_eq!((answer.code, &answer.body[0]["code"]), (400, &json!(3)), "{path} {body}");
        let words = answer.body[0]["message"].as_str().expect("words").to_owned();
        assert!(words.contains("line 1 column"), "{words}");
    }
    let answer = ask(&cluster, "/v3/kv/range", &json!({"key": "AA==", "range_end": "AA=="}));
    assert_eq!(answer.body[0]["header"]["revision"], "1", "nothing was written");
    let huge = json!({"key": "YQ==", "value": "A".repeat(4 << 20)});
    let answer = ask(&cluster, "/v3/kv/put", &huge);
    assert_eq!(answer.code, 400);
    assert_eq!(answer.body[0]["message"], "etcdserver: request is too large");
}

/// Lines as they come.
struct Lines(BufReader<TcpStream>);

impl Lines {
    fn open(port: u16, path: &str, body: &Value) -> Lines {
        let mut lines = BufReader::new(open(port, path, "", &body.to_string()));
        let mut line = String::new();
        lines.read_line(&mut line).expect("a status");
        assert_eq!(code(&line), 200, "{line}");
        while line != "\r\n" {
            line.clear();
            lines.read_line(&mut line).expect("a header");
        }
        Lines(lines)
    }

    fn next(&mut self) -> Value {
        let mut line = String::new();
        self.0.read_line(&mut line).expect("a line");
        value(&line)
    }
}

#[tokio::test]
async fn a_watch_goes_on_while_others_write() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let port = cluster.members[1].client_port;
    // As Patroni does: everything below a prefix, without what was deleted.
    let watch = json!({"create_request": {
        "key": "YQ==", "range_end": "Yg==", "start_revision": "1", "filters": ["NODELETE"],
    }});
    let mut lines = Lines::open(port, "/v3/watch", &watch);
    assert_eq!(lines.next()["result"]["created"], true);
    for round in 0..20 {
        for i in 0..3 {
            let put = json!({"key": "YWE=", "value": format!("{round:03}{i}")});
            let answer = post(cluster.members[i].client_port, "/v3/kv/put", "", &put.to_string());
            assert_eq!(answer.code, 200, "{answer:?}");
            let told = lines.next();
            let told = &told["result"]["events"][0];
            assert_eq!(told["kv"]["value"], put["value"], "{told}");
            assert!(told.get("type").is_none(), "a put is the default: {told}");
        }
    }
    let deletion = ask(&cluster, "/v3/kv/deleterange", &json!({"key": "YWE="}));
    assert_eq!(deletion.body[0]["deleted"], "1");
    ask(&cluster, "/v3/kv/put", &json!({"key": "YWI=", "value": "Yw=="}));
    assert_eq!(lines.next()["result"]["events"][0]["kv"]["key"], "YWI=", "deletions are filtered");
    drop(lines);
    let deadline = Instant::now() + SOON;
    while watchers(port) != 0 {
        assert!(Instant::now() < deadline, "a watch whose client is gone goes on");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn watchers(port: u16) -> u64 {
    let page = support::net::http_get(port, "/metrics").expect("figures").1;
    let line = page.lines().find(|line| line.starts_with("etcd_debugging_mvcc_watcher_total "));
    let line = line.unwrap_or_else(|| panic!("no count of watchers: {page}"));
    line.rsplit(' ').next().and_then(|count| count.parse().ok()).expect("a count")
}

#[tokio::test]
async fn a_request_that_stays_open_asks_for_more() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let mut stream = TcpStream::connect(loopback(cluster.members[0].client_port)).expect("a link");
    stream.set_read_timeout(Some(SOON)).expect("a limit");
    let chunk = |text: &str| format!("{:x}\r\n{text}\r\n", text.len());
    write!(stream, "POST /v3/watch HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        .expect("a head");
    let mut lines = BufReader::new(stream.try_clone().expect("the other half"));
    let mut told = || loop {
        let mut line = String::new();
        lines.read_line(&mut line).expect("a line");
        if line.starts_with('{') {
            break value(&line);
        }
    };
    // An object may come in pieces, and two in one.
    stream.write_all(chunk(r#"{"create_request":{"key":"#).as_bytes()).expect("a piece");
    let rest = chunk(r#""YQ=="}} {"create_request":{"key":"Yg=="}}"#);
    stream.write_all(rest.as_bytes()).expect("a piece");
    assert_eq!(told()["result"]["created"], true);
    assert_eq!(told()["result"]["watch_id"], "1", "the second");
    stream.write_all(chunk(r#"{"progress_request":{}}"#).as_bytes()).expect("a piece");
    assert_eq!(told()["result"]["watch_id"], "-1", "progress of all");
    stream.write_all(chunk("[7]").as_bytes()).expect("a piece");
    let last = told();
    assert_eq!(last["error"]["grpc_code"], 3, "{last}");
    assert_eq!(last["error"]["message"], "an object begins with '{', not '['");
}

#[tokio::test]
async fn it_can_be_switched_off() {
    // A switch takes its value after the equals sign only.
    let mut settings = Settings::of(1);
    settings.extra.push("--enable-grpc-gateway=false".to_owned());
    let cluster = Cluster::start(settings).await;
    assert_eq!(ask(&cluster, "/v3/kv/range", &json!({"key": "YQ=="})).code, 404);
}
