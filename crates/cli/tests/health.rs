//! What load balancers and operators ask over plain HTTP.

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::cluster::{Cluster, SOON, Settings};
use support::net::{free_port, http_get};

/// Status code and body, read without blocking the runtime of the test.
async fn ask(cluster: &Cluster, i: usize, path: &'static str) -> (u16, String) {
    let port = cluster.members[i].client_port;
    let answer = tokio::task::spawn_blocking(move || http_get(port, path)).await;
    let (line, body) = answer.expect("a thread").expect("an answer");
    let code = line.split(' ').nth(1).and_then(|code| code.parse().ok());
    (code.unwrap_or_else(|| panic!("{line:?} is no status line")), body)
}

fn json(body: &str) -> Value {
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body:?}"))
}

#[tokio::test]
async fn health_follows_the_majority() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    for i in 0..3 {
        let (code, body) = ask(&cluster, i, "/health").await;
        assert_eq!((code, json(&body)["health"].as_str()), (200, Some("true")), "{body}");
    }
    cluster.kill(1);
    cluster.kill(2);
    let deadline = Instant::now() + SOON;
    loop {
        let (code, body) = ask(&cluster, 0, "/health").await;
        if code == 503 {
            assert_eq!(json(&body)["health"], "false", "{body}");
            break;
        }
        assert!(Instant::now() < deadline, "healthy without a majority: {body}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // It can still show what it has, which is all that this question asks.
    let (code, body) = ask(&cluster, 0, "/health?serializable=true").await;
    assert_eq!((code, json(&body)["health"].as_str()), (200, Some("true")), "{body}");
    cluster.spawn_all();
    cluster.wait_ready().await;
    assert_eq!(ask(&cluster, 0, "/health").await.0, 200, "healthy again");
}

#[tokio::test]
async fn version_is_what_clients_parse_and_nothing_else_is_served() {
    let cluster = Cluster::start(Settings::of(1)).await;
    let (code, body) = ask(&cluster, 0, "/version").await;
    assert_eq!(code, 200);
    for field in ["etcdserver", "etcdcluster"] {
        let version = json(&body)[field].as_str().map(str::to_owned).unwrap_or_default();
        assert!(version.starts_with("3."), "{field}: {body}");
        assert_eq!(version.split('.').count(), 3, "{field}: {body}");
    }
    assert_eq!(ask(&cluster, 0, "/nothing/here").await.0, 404);
}

/// What Kubernetes asks: a full store is ready for reads, and nobody is dead of it.
#[tokio::test]
async fn livez_and_readyz_say_what_failed() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    let all = "[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\n\
        [+]non_learner ok\nok\n";
    assert_eq!(ask(&cluster, 0, "/readyz?verbose").await, (200, all.to_owned()));
    assert_eq!(ask(&cluster, 0, "/readyz").await, (200, "ok\n".to_owned()));
    let alone = "[+]linearizable_read ok\nok\n".to_owned();
    assert_eq!(ask(&cluster, 0, "/readyz/linearizable_read?verbose").await, (200, alone));
    let live = "[+]serializable_read ok\nok\n".to_owned();
    assert_eq!(ask(&cluster, 0, "/livez?verbose").await, (200, live.clone()));
    assert_eq!(ask(&cluster, 0, "/livez/linearizable_read").await.0, 404);

    alarm(&cluster, 1, 1).await;
    assert_eq!(ask(&cluster, 0, "/readyz").await.0, 200, "a full store is ready for reads");
    let (code, body) = ask(&cluster, 0, "/health").await;
    assert_eq!((code, json(&body)["reason"].as_str()), (503, Some("ALARM NOSPACE")));
    assert_eq!(ask(&cluster, 0, "/health?exclude=NOSPACE").await.0, 200);
    alarm(&cluster, 1, 2).await;
    let (code, body) = ask(&cluster, 0, "/readyz").await;
    assert_eq!(code, 503);
    assert!(body.contains("[-]data_corruption failed: alarm activated: CORRUPT\n"), "{body}");
    assert_eq!(ask(&cluster, 0, "/readyz?exclude=data_corruption").await.0, 200);
    assert_eq!(ask(&cluster, 0, "/livez").await.0, 200);
    for kind in [1, 2] {
        alarm(&cluster, 2, kind).await;
    }

    cluster.kill(1);
    cluster.kill(2);
    let deadline = Instant::now() + SOON;
    while ask(&cluster, 0, "/readyz").await.0 == 200 {
        assert!(Instant::now() < deadline, "ready without a majority");
    }
    let (_, body) = ask(&cluster, 0, "/readyz").await;
    assert!(body.contains("[-]linearizable_read failed: etcdserver: "), "{body}");
    assert_eq!(ask(&cluster, 0, "/livez?verbose").await, (200, live), "it lives on");
}

/// Raises (1) or clears (2) an alarm.
async fn alarm(cluster: &Cluster, action: i32, alarm: i32) {
    let request = quorate_server::proto::etcdserverpb::AlarmRequest { action, member_id: 7, alarm };
    cluster.client(0).maintenance.alarm(request).await.expect("an alarm");
}

#[tokio::test]
async fn metrics_have_the_names_that_dashboards_know() {
    let metrics_port = free_port();
    let url = format!("http://127.0.0.1:{metrics_port}");
    let settings = Settings::of(1).with("--listen-metrics-urls", url);
    let cluster = Cluster::start(settings.with("--metrics", "extensive")).await;
    let mut client = cluster.client(0);
    for number in 0..5 {
        client.put("k", format!("{number}")).await.expect("a write");
    }
    client.delete("k").await.expect("a delete");
    client.get_past([("k", 99)].into_iter()).await.expect_err("the future");
    let (_, page) = ask(&cluster, 0, "/metrics").await;
    let value = |sample: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        let text = line.unwrap_or_else(|| panic!("no {sample} in\n{page}"));
        text.parse::<f64>().expect("a number")
    };
    let unary = |name, method, code| {
        let service = "grpc_service=\"etcdserverpb.KV\",grpc_type=\"unary\"";
        format!("grpc_server_{name}{{{code}grpc_method=\"{method}\",{service}}}")
    };
    for (sample, expected) in [
        ("etcd_server_has_leader".to_owned(), 1.0),
        ("etcd_server_is_leader".to_owned(), 1.0),
        ("etcd_server_leader_changes_seen_total".to_owned(), 1.0),
        ("etcd_server_version{server_version=\"3.5.17\"}".to_owned(), 1.0),
        ("etcd_cluster_version{cluster_version=\"3.5\"}".to_owned(), 1.0),
        ("etcd_server_proposals_pending".to_owned(), 0.0),
        ("etcd_server_proposals_failed_total".to_owned(), 0.0),
        ("etcd_server_quota_backend_bytes".to_owned(), 2_147_483_648.0),
        ("etcd_mvcc_put_total".to_owned(), 5.0),
        ("etcd_mvcc_delete_total".to_owned(), 1.0),
        ("etcd_debugging_mvcc_keys_total".to_owned(), 0.0),
        ("etcd_debugging_mvcc_current_revision".to_owned(), 7.0),
        (unary("started_total", "Put", ""), 5.0),
        (unary("handled_total", "Put", "grpc_code=\"OK\","), 5.0),
        (unary("handled_total", "Txn", "grpc_code=\"OutOfRange\","), 1.0),
        (unary("handling_seconds_count", "Put", ""), 5.0),
    ] {
        assert_eq!(value(&sample), expected, "{sample}");
    }
    for sample in [
        "etcd_server_proposals_committed_total",
        "etcd_server_proposals_applied_total",
        "etcd_disk_wal_fsync_duration_seconds_count",
        "etcd_disk_backend_commit_duration_seconds_bucket{le=\"+Inf\"}",
        "etcd_mvcc_db_total_size_in_bytes",
        "etcd_mvcc_db_total_size_in_use_in_bytes",
        "etcd_network_client_grpc_received_bytes_total",
        "etcd_network_client_grpc_sent_bytes_total",
        "process_resident_memory_bytes",
        "process_start_time_seconds",
        "process_open_fds",
    ] {
        assert!(value(sample) > 0.0, "{sample}");
    }
    // The same is told on an address of its own, where there is no data.
    let apart =
        |path: &'static str| tokio::task::spawn_blocking(move || http_get(metrics_port, path));
    let (_, other) = apart("/metrics").await.expect("a thread").expect("an answer");
    assert!(other.contains("etcd_server_has_leader 1\n"), "{other}");
    let (line, _) = apart("/readyz").await.expect("a thread").expect("an answer");
    assert!(line.contains("200"), "{line}");
}

#[tokio::test]
async fn traffic_between_members_is_counted() {
    let cluster = Cluster::start(Settings::of(3)).await;
    cluster.client(0).put("k", vec![b'v'; 100_000]).await.expect("a write");
    let leader = cluster.leader().await;
    let (_, page) = ask(&cluster, leader, "/metrics").await;
    let total = |name: &str| -> u64 {
        let samples = page.lines().filter(|line| line.starts_with(name));
        samples.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
    };
    assert!(total("etcd_network_peer_sent_bytes_total{To=") > 200_000, "{page}");
    assert!(total("etcd_network_peer_received_bytes_total{From=") > 100, "{page}");
}

/// How often that was seen of any peer by member `i`.
async fn seen(cluster: &Cluster, i: usize, kind: &str) -> u64 {
    let (_, page) = ask(cluster, i, "/metrics").await;
    let samples = page.lines().filter(|line| line.starts_with("quorate_peer_evidence_total{"));
    let of_kind = samples.filter(|line| line.contains(&format!("kind=\"{kind}\"")));
    of_kind.map(|line| line.rsplit(' ').next().expect("a value").parse::<u64>().expect("it")).sum()
}

async fn wait_seen(cluster: &Cluster, i: usize, kind: &str) {
    let deadline = Instant::now() + SOON;
    while seen(cluster, i, kind).await == 0 {
        assert!(Instant::now() < deadline, "member {i} never saw '{kind}'");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn what_becomes_of_a_peer_is_counted_by_who_saw_it() {
    let mut cluster = Cluster::start(Settings::of(3)).await;
    for kind in ["goodbye", "exited", "unreachable", "link-down"] {
        assert_eq!(seen(&cluster, 0, kind).await, 0, "{kind}");
    }
    assert!(cluster.stop(1).success(), "in order");
    wait_seen(&cluster, 0, "goodbye").await;
    assert_eq!(seen(&cluster, 2, "exited").await, 0, "nobody supervises them");
    cluster.spawn_all();
    cluster.wait_ready().await;
    let before = seen(&cluster, 0, "goodbye").await;
    cluster.kill(2);
    wait_seen(&cluster, 0, "refused").await;
    assert_eq!(seen(&cluster, 0, "goodbye").await, before, "who is killed says nothing");
}
