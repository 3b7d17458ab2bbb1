//! The plain HTTP side of the client port: what probes, browsers and `curl` ask.

use super::calls::Calls;
use super::checks::{self, Check, LIVEZ, READYZ, values};
use super::health::{health_json, probe};
use super::metrics::{self, Sources};
use super::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::handle::{Consistency, Handle};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::StatusCode;
use hyper::header::{CONTENT_TYPE, HeaderName, X_CONTENT_TYPE_OPTIONS};
use quorate_replica::store::AlarmKind;
use std::sync::Arc;
use tokio::task::spawn_blocking;

/// Who answers.
#[derive(Clone, Debug)]
struct Sides {
    handle: Handle,
    calls: Arc<Calls>,
}

/// Every path of the HTTP side, over one replica.
pub(crate) fn router(handle: Handle, calls: Arc<Calls>) -> Router {
    let mut routes = Router::new()
        .route("/health", get(health))
        .route("/guarantees", get(guarantees))
        .route("/metrics", get(told_metrics))
        .route("/scrub", get(scrub_report).post(scrub_now))
        .route("/time", get(time))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz));
    for (root, checks) in [("livez", LIVEZ), ("readyz", READYZ)] {
        for check in checks {
            let alone = move |State(sides): State<Sides>, RawQuery(query): RawQuery| async move {
                checked(&sides, &[*check], query).await
            };
            routes = routes.route(&format!("/{root}/{}", check.name()), get(alone));
        }
    }
    plain().merge(routes.with_state(Sides { handle, calls }))
}

/// What can be answered without asking a replica.
pub(crate) fn plain() -> Router {
    Router::new().route("/version", get(version)).fallback(not_found)
}

/// etcd's two versions, which clients parse, and our own.
async fn version() -> Response {
    let (server, cluster) = (ETCD_VERSION, ETCD_CLUSTER_VERSION);
    let own = env!("CARGO_PKG_VERSION");
    let json =
        format!(r#"{{"etcdserver":"{server}","etcdcluster":"{cluster}","quorate":"{own}"}}"#);
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

async fn health(State(sides): State<Sides>, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let handle = &sides.handle;
    let verdict = match forbidding(handle, &query) {
        Some(kind) => Err(format!("ALARM {kind}")),
        None => probe(handle, asked(&query)).await,
    };
    let json = health_json(&verdict);
    match verdict {
        Ok(()) => {
            handle.metrics().health_success.add(1);
            json.into_response()
        }
        Err(_) => {
            handle.metrics().health_failures.add(1);
            (StatusCode::SERVICE_UNAVAILABLE, json + "\n").into_response()
        }
    }
}

/// What is promised right now. It is told whatever is broken, so the code is always 200.
async fn guarantees(State(sides): State<Sides>) -> Response {
    let report = sides.handle.guarantees();
    let json = serde_json::to_string(&report).expect("numbers and text");
    ([(CONTENT_TYPE, "application/json")], json + "\n").into_response()
}

/// What the scrubber says of itself.
async fn scrub_report(State(sides): State<Sides>) -> Response {
    let report = serde_json::to_string(&sides.handle.scrub_report());
    let json = report.expect("numbers and text") + "\n";
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

/// Asks for a round, and tells its number. It costs what `--scrub-rate` says, whoever asks and
/// how often, so it wants no user; nor do metrics.
async fn scrub_now(State(sides): State<Sides>) -> Response {
    let json = format!("{{\"round\":{}}}\n", sides.handle.scrub_now());
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

/// What `quorate time status` asks.
async fn time(State(sides): State<Sides>) -> Response {
    let report = serde_json::to_string(&sides.handle.time().report());
    let json = report.expect("numbers and text") + "\n";
    ([(CONTENT_TYPE, "application/json")], json).into_response()
}

/// An alarm that makes a member unhealthy and was not excluded.
fn forbidding(handle: &Handle, query: &str) -> Option<AlarmKind> {
    let excluded = |kind: AlarmKind| values(query, "exclude").any(|name| name == kind.to_string());
    handle.status().alarms.iter().map(|alarm| alarm.kind).find(|kind| !excluded(*kind))
}

async fn livez(State(sides): State<Sides>, RawQuery(query): RawQuery) -> Response {
    checked(&sides, LIVEZ, query).await
}

async fn readyz(State(sides): State<Sides>, RawQuery(query): RawQuery) -> Response {
    checked(&sides, READYZ, query).await
}

async fn checked(sides: &Sides, all: &[Check], query: Option<String>) -> Response {
    const PLAIN: [(HeaderName, &str); 2] =
        [(CONTENT_TYPE, "text/plain; charset=utf-8"), (X_CONTENT_TYPE_OPTIONS, "nosniff")];
    let query = query.unwrap_or_default();
    let verdict = checks::run(&sides.handle, &checks::chosen(all, &query), &query).await;
    let code = if verdict.passed { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (code, PLAIN, verdict.text).into_response()
}

async fn told_metrics(State(sides): State<Sides>) -> Response {
    // A fenced member has figures, too; only those of its store are then those of an empty one.
    let snapshot = sides.handle.snapshot(Consistency::Serializable).await;
    let store = snapshot.map(|snapshot| snapshot.store).unwrap_or_default();
    // It asks the system about this process, which reads files.
    let telling = spawn_blocking(move || {
        let Sides { handle, calls } = &sides;
        let metrics = handle.metrics();
        metrics::page(&Sources { handle, metrics, calls, store: &store })
    });
    let text = telling.await.expect("telling figures does not panic");
    ([(CONTENT_TYPE, metrics::CONTENT_TYPE)], text).into_response()
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}

fn asked(query: &str) -> Consistency {
    let serializable = values(query, "serializable").any(|value| value == "true");
    if serializable { Consistency::Serializable } else { Consistency::Linearizable }
}

#[cfg(test)]
mod tests {
    use super::asked;
    use crate::handle::Consistency;

    #[test]
    fn a_probe_is_linearizable_unless_it_says_otherwise() {
        for query in ["", "serializable=false", "x=serializable=true"] {
            assert_eq!(asked(query), Consistency::Linearizable, "{query:?}");
        }
        for query in ["serializable=true", "exclude=NOSPACE&serializable=true"] {
            assert_eq!(asked(query), Consistency::Serializable, "{query}");
        }
    }
}
