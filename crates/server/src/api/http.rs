//! The plain HTTP side of the client port: what probes, browsers and `curl` ask.

use super::health::{health_json, probe};
use super::{ETCD_CLUSTER_VERSION, ETCD_VERSION};
use crate::handle::{Consistency, Handle};
use axum::Router;
use axum::extract::{RawQuery, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use hyper::StatusCode;
use hyper::header::CONTENT_TYPE;

/// Every path of the HTTP side, over one replica.
pub(crate) fn router(handle: Handle) -> Router {
    plain().merge(Router::new().route("/health", get(health)).with_state(handle))
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

async fn health(State(handle): State<Handle>, RawQuery(query): RawQuery) -> Response {
    let verdict = probe(&handle, asked(query.as_deref())).await;
    let json = health_json(&verdict);
    match verdict {
        Ok(()) => json.into_response(),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, json + "\n").into_response(),
    }
}

async fn not_found() -> (StatusCode, &'static str) {
    (StatusCode::NOT_FOUND, "404 page not found\n")
}

fn asked(query: Option<&str>) -> Consistency {
    let serializable = query.unwrap_or("").split('&').any(|pair| pair == "serializable=true");
    if serializable { Consistency::Serializable } else { Consistency::Linearizable }
}

#[cfg(test)]
mod tests {
    use super::asked;
    use crate::handle::Consistency;

    #[test]
    fn a_probe_is_linearizable_unless_it_says_otherwise() {
        for query in [None, Some(""), Some("serializable=false"), Some("x=serializable=true")] {
            assert_eq!(asked(query), Consistency::Linearizable, "{query:?}");
        }
        for query in ["serializable=true", "exclude=NOSPACE&serializable=true"] {
            assert_eq!(asked(Some(query)), Consistency::Serializable, "{query}");
        }
    }
}
