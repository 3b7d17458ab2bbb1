//! What load balancers and operators ask over plain HTTP.

mod support;

use serde_json::Value;
use std::time::{Duration, Instant};
use support::cluster::{Cluster, SOON, Settings};
use support::net::http_get;

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
