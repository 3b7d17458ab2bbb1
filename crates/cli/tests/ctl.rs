//! `quorate ctl` and `quorate bench` against real members: watches, leases, upkeep.

mod support;

use serde_json::Value;
use std::process::{Command, Output, Stdio};
use support::cluster::{Cluster, Settings, binary};

/// The endpoints of all members, the first one first.
fn endpoints(cluster: &Cluster) -> String {
    let all = cluster.members.iter().map(|member| format!("127.0.0.1:{}", member.client_port));
    all.collect::<Vec<_>>().join(",")
}

fn command(cluster: &Cluster, words: &str) -> Command {
    let mut command = Command::new(binary());
    command.args(words.split(' ')).args(["--endpoints", &endpoints(cluster)]);
    command
}

fn run(cluster: &Cluster, words: &str) -> Output {
    command(cluster, words).output().expect("the binary runs")
}

/// What a command prints that must succeed.
fn done(cluster: &Cluster, words: &str) -> String {
    let output = run(cluster, words);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{words}: {complaint}");
    String::from_utf8(output.stdout).expect("text")
}

fn json(cluster: &Cluster, words: &str) -> Value {
    let text = done(cluster, &format!("{words} --json"));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{words}: {error}: {text}"))
}

/// What a command complains of that must end with `code`.
fn refused(cluster: &Cluster, words: &str, code: i32) -> String {
    let output = run(cluster, words);
    assert_eq!(output.status.code(), Some(code), "{words}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

fn put(cluster: &Cluster, key: &str, value: &str) -> i64 {
    let answer = json(cluster, &format!("ctl put {key} {value}"));
    answer["header"]["revision"].as_i64().expect("a revision")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_outlives_the_member_it_was_on() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    put(&cluster, "w/0", "before");
    let first = put(&cluster, "w/1", "one");
    let words = format!("ctl watch w/ --prefix --prev-kv --json --count 5 --rev {first}");
    let mut watch = command(&cluster, &words);
    let watch = watch.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("a watch");
    put(&cluster, "w/1", "two");
    put(&cluster, "other", "unseen");
    done(&cluster, "ctl del w/1");
    cluster.kill(0);
    cluster.wait_ready().await;
    put(&cluster, "w/2", "three");
    put(&cluster, "w/3", "four");
    let output = watch.wait_with_output().expect("an end");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("text");
    let events: Vec<Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("an event")).collect();
    let told: Vec<(&str, &str, &str, &str)> = events
        .iter()
        .map(|event| {
            (
                event["type"].as_str().expect("a type"),
                event["kv"]["key"].as_str().expect("a key"),
                event["kv"]["value"].as_str().unwrap_or("-"),
                event["prev_kv"]["value"].as_str().unwrap_or("-"),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("put", "w/1", "one", "-"),
            ("put", "w/1", "two", "one"),
            ("delete", "w/1", "", "two"),
            ("put", "w/2", "three", "-"),
            ("put", "w/3", "four", "-"),
        ]
    );
    let revisions: Vec<i64> =
        events.iter().filter_map(|event| event["kv"]["mod_revision"].as_i64()).collect();
    assert!(revisions.windows(2).all(|pair| pair[0] < pair[1]), "{revisions:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_compacted_is_neither_read_nor_watched() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let first = put(&cluster, "a", "1");
    put(&cluster, "a", "2");
    let last = put(&cluster, "a", "3");
    let told = done(&cluster, &format!("ctl compact {} --physical", first + 1));
    assert_eq!(told, format!("compacted revision {}\n", first + 1));
    let complaint = refused(&cluster, &format!("ctl get a --rev {first}"), 1);
    assert!(complaint.contains("required revision has been compacted"), "{complaint}");
    let complaint = refused(&cluster, &format!("ctl watch a --rev {first} --count 1"), 1);
    assert!(complaint.contains(&format!("--rev {}", first + 1)), "{complaint}");
    assert_eq!(done(&cluster, "ctl compact"), format!("compacted revision {last}\n"));
    let complaint = refused(&cluster, "ctl compact 1000000", 1);
    assert!(complaint.contains("is a future revision"), "{complaint}");
    assert_eq!(done(&cluster, "ctl get a"), "a\n3\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_takes_its_keys_with_it() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let lease = json(&cluster, "ctl lease grant 600");
    let id = lease["id"].as_str().expect("an id").to_owned();
    assert_eq!(lease["ttl"], 600);
    assert_eq!(done(&cluster, "ctl lease grant 60 --id abc"), "lease abc granted with TTL(60s)\n");
    let complaint = refused(&cluster, "ctl lease grant 60 --id abc", 1);
    assert!(complaint.contains("lease already exists"), "{complaint}");
    done(&cluster, &format!("ctl put job/1 mine --lease {id}"));
    done(&cluster, &format!("ctl put job/2 mine --lease {id}"));
    let left = json(&cluster, &format!("ctl lease timetolive {id} --keys"));
    assert_eq!(left["keys"], serde_json::json!(["job/1", "job/2"]));
    assert_eq!(left["granted_ttl"], 600);
    let kept = json(&cluster, &format!("ctl lease keep-alive {id} --once"));
    assert_eq!((&kept["id"], &kept["ttl"]), (&Value::from(id.as_str()), &Value::from(600)));
    let all = json(&cluster, "ctl lease list");
    let all = all["leases"].as_array().expect("a list");
    assert!(all.len() == 2 && all.contains(&Value::from(id.as_str())), "{all:?}");
    assert_eq!(done(&cluster, &format!("ctl lease revoke {id}")), format!("lease {id} revoked\n"));
    assert_eq!(done(&cluster, "ctl get job/ --prefix"), "");
    for words in ["timetolive", "keep-alive"] {
        let complaint = refused(&cluster, &format!("ctl lease {words} {id}"), 1);
        assert!(complaint.contains("there is no lease"), "{complaint}");
    }
    let complaint = refused(&cluster, &format!("ctl put job/3 late --lease {id}"), 1);
    assert!(complaint.contains("requested lease not found"), "{complaint}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_listed() {
    let settings = Settings::of(1).with("--quota-backend-bytes", 2 << 20);
    let cluster = Cluster::start(settings).await;
    assert_eq!(done(&cluster, "ctl alarm list"), "");
    let value = "v".repeat(100_000);
    let complaint = (0..200).find_map(|number| {
        let output = run(&cluster, &format!("ctl put big/{number} {value}"));
        (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    });
    let complaint = complaint.expect("twenty megabytes are too many");
    assert!(complaint.contains("database space exceeded"), "{complaint}");
    let listed = done(&cluster, "ctl alarm list");
    assert!(listed.starts_with("memberID:") && listed.ends_with("alarm:NOSPACE\n"), "{listed}");
    done(&cluster, "ctl del big/ --prefix");
    done(&cluster, "ctl compact --physical");
    done(&cluster, "ctl alarm disarm");
    done(&cluster, "ctl alarm list");
}

#[tokio::test(flavor = "multi_thread")]
async fn members_pass_the_checks_of_every_workload() {
    let cluster = Cluster::start(Settings::of(3)).await;
    let common = "--for 700ms --warmup 100ms --rounds 1 --keys 300 --clients 16";
    for words in [
        "put",
        "get",
        "get --serializable",
        "mixed --reads 50",
        "txn",
        "range --span 100",
        "list",
        "watch --watchers 50 --streams 6",
        "lease-grant",
        "lease-keepalive --leases 40",
        "age",
    ] {
        let figures = json(&cluster, &format!("bench {words} {common}"));
        let measured = &figures["clusters"][0];
        assert!(measured["done"].as_u64() > Some(0), "{words}: {figures}");
        assert!(measured["server_cpu_us"].as_f64().is_some(), "{words}: {figures}");
        assert_eq!(measured["errors"], serde_json::json!({}), "{words}");
    }
}
