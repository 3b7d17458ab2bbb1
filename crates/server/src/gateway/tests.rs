//! What needs no service: the table of paths, JSON in both directions, pieces, bounds.

use super::frames::Frames;
use super::json::{self, Objects};
use super::visitors::{From, Visitors};
use super::{ANSWER_BYTES_MAX, Gateway, POOL, method, routes, status};
use http_body_util::{BodyExt, Full};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_ORIGIN, HOST, HeaderMap, HeaderValue, ORIGIN, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::future::poll_fn;
use std::sync::Arc;
use tonic::body::Body;
use tonic::{Code, Status};

/// Methods that etcd 3.5 does not serve as JSON either.
const WITHOUT_PATH: [&str; 2] = ["etcdserverpb.KV/RangeStream", "etcdserverpb.Maintenance/Hash"];

fn full_names() -> BTreeSet<String> {
    let all = POOL.services().flat_map(|service| service.methods().collect::<Vec<_>>());
    all.map(|method| format!("{}/{}", method.parent_service().full_name(), method.name()))
        .filter(|name| !name.starts_with("grpc.health"))
        .collect()
}

#[test]
fn each_method_has_a_path_and_each_path_a_method() {
    let sorted = routes::ROUTES.is_sorted_by(|(a, ..), (b, ..)| a < b);
    assert!(sorted, "the table is searched by halves");
    let mut named = BTreeSet::new();
    for (path, service, name) in routes::ROUTES {
        let found = method(&format!("/v3/{path}")).expect(path);
        assert_eq!((found.parent_service().full_name(), found.name()), (*service, *name));
        assert!(method(&format!("/v3beta/{path}")).is_some(), "{path}");
        named.insert(format!("{service}/{name}"));
    }
    named.extend(WITHOUT_PATH.map(str::to_owned));
    assert_eq!(named, full_names());
    for path in
        ["/v3/", "/v3/kv", "/v3/kv/range/", "/v3//kv/range", "/v2/kv/range", "/v3alpha/watch"]
    {
        assert!(method(path).is_none(), "{path}");
    }
}

fn message(name: &str, json: &str) -> Result<String, Status> {
    let shape = POOL.get_message_by_name(name).expect(name);
    let framed = json::to_message(&shape, json.as_bytes())?;
    let mut text = Vec::new();
    json::from_message(&shape, framed.slice(json::PREFIX_BYTES..), &mut text)?;
    Ok(String::from_utf8(text).expect("JSON"))
}

#[test]
fn requests_are_understood_as_etcd_does() {
    let range = |json| message("etcdserverpb.RangeRequest", json);
    for (json, wanted) in [
        ("", "{}"),
        (" null ", "{}"),
        (r#"{"key":null,"limit":0}"#, "{}"),
        (r#"{"key":"Zm9v","limit":5}"#, r#"{"key":"Zm9v","limit":"5"}"#),
        (r#"{"key":"Zm9v","limit":"-5"}"#, r#"{"key":"Zm9v","limit":"-5"}"#),
        (r#"{"rangeEnd":"AA==","bogus":[1]}"#, r#"{"range_end":"AA=="}"#),
        (r#"{"range_end":"AA==","sort_order":1}"#, r#"{"range_end":"AA==","sort_order":"ASCEND"}"#),
        (r#"{"sort_order":"DESCEND"}"#, r#"{"sort_order":"DESCEND"}"#),
        (r#"{"key":"YQ=="}{"key":"Yg=="}"#, r#"{"key":"YQ=="}"#),
    ] {
        assert_eq!(range(json).expect(json), wanted, "{json}");
    }
    for json in [
        "{",
        "[]",
        "7",
        "{\"key\":\"!!\"}",
        "{\"key\":7}",
        "{\"limit\":\"abc\"}",
        "{\"limit\":1.5}",
    ] {
        assert_eq!(range(json).expect_err(json).code(), Code::InvalidArgument, "{json}");
    }
    let grant =
        message("etcdserverpb.LeaseGrantRequest", r#"{"TTL":10,"ID":"9223372036854775807"}"#);
    assert_eq!(grant.expect("a lease"), r#"{"TTL":"10","ID":"9223372036854775807"}"#);
}

#[test]
fn nested_answers_keep_names_and_leave_out_what_is_absent() {
    let json = concat!(
        r#"{"header":{"revision":"3"},"succeeded":true,"responses":["#,
        r#"{"response_put":{"header":{},"prev_kv":{"key":"Zm9v","version":"1"}}},"#,
        r#"{"response_txn":{"header":{}}}]}"#,
    );
    assert_eq!(message("etcdserverpb.TxnResponse", json).expect("an answer"), json);
}

#[test]
fn deep_nesting_is_refused_and_does_not_end_the_process() {
    let (mut json, end) = (String::new(), "]}}");
    for _ in 0..5_000 {
        json.push_str(r#"{"success":[{"request_txn":"#);
    }
    json.push_str("{}");
    json.push_str(&end.repeat(5_000));
    let refusal = message("etcdserverpb.TxnRequest", &json).expect_err("too deep");
    assert_eq!(refusal.code(), Code::InvalidArgument, "{refusal}");
}

proptest! {
    /// However a stream of objects is cut into pieces, the same objects are found.
    #[test]
    fn objects_are_found_in_any_pieces(
        texts in prop::collection::vec(".{0,12}", 0..6),
        between in "[ \n\t]{0,3}",
        size in 1_usize..9,
    ) {
        let wanted: Vec<String> = texts
            .iter()
            .map(|text| serde_json::json!({ "a": [text, { "b{\"": text }], "c": {} }).to_string())
            .collect();
        let stream = wanted.join(&between) + &between;
        let (mut objects, mut found) = (Objects::new(usize::MAX), Vec::new());
        for piece in stream.as_bytes().chunks(size) {
            objects.push(piece);
            while let Some(object) = objects.next().expect("objects") {
                found.push(String::from_utf8(object.to_vec()).expect("text"));
            }
        }
        while let Some(object) = objects.next().expect("objects") {
            found.push(String::from_utf8(object.to_vec()).expect("text"));
        }
        prop_assert_eq!(found, wanted);
        prop_assert!(!objects.is_within());
    }

    /// Whatever comes, it is taken or refused.
    #[test]
    fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for (_, service, name) in routes::ROUTES {
            let service = POOL.get_service_by_name(service).expect("known");
            let method = service.methods().find(|method| method.name() == *name).expect("known");
            let _ = json::to_message(&method.input(), &bytes);
        }
        let mut objects = Objects::new(50);
        objects.push(&bytes);
        while let Ok(Some(object)) = objects.next() {
            prop_assert!(object.len() <= 50, "{object:?}");
        }
    }
}

#[test]
fn what_is_no_object_or_too_large_ends_a_stream() {
    let refusal = |text: &str| {
        let mut objects = Objects::new(10);
        objects.push(text.as_bytes());
        objects.next().expect_err(text)
    };
    assert_eq!(refusal("[1]").message(), "an object begins with '{', not '['");
    assert_eq!(refusal("{\"a\":\"12345\"}").message(), "etcdserver: request is too large");
}

/// A service that answers everything with these bytes, framed as that length.
async fn answered(path: &str, json: &str, length: usize, bytes: Vec<u8>) -> Response<Body> {
    let mut framed = vec![0];
    framed.extend(u32::try_from(length).expect("small").to_be_bytes());
    framed.extend(bytes);
    let request = Request::builder().method(Method::POST).uri(path);
    let request = request.body(Body::new(Full::from(json.to_owned()))).expect("a request");
    let serve = async |_| Response::new(Body::new(Full::from(framed)));
    Gateway::new(1_000, Arc::default()).answer(request, serve).await
}

async fn text(response: Response<Body>) -> String {
    let bytes = response.into_body().collect().await.expect("an answer").to_bytes();
    String::from_utf8(bytes.to_vec()).expect("text")
}

#[tokio::test]
async fn answers_beyond_the_bound_are_refused_before_they_are_gathered() {
    let response = answered("/v3/kv/range", "{}", ANSWER_BYTES_MAX + 1, Vec::new()).await;
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    let words = text(response).await;
    assert!(words.contains("8388609 bytes is too large for the gateway"), "{words}");
    let response = answered("/v3/kv/range", "{}", 2, vec![0x20, 7]).await;
    assert_eq!((response.status(), &*text(response).await), (StatusCode::OK, r#"{"count":"7"}"#));
}

#[tokio::test]
async fn waiting_answers_share_their_room_and_give_it_back() {
    let gateway = Gateway::new(1_000, Arc::default());
    let begun = || {
        let mut framed = vec![0];
        framed.extend(u32::try_from(ANSWER_BYTES_MAX - 1024).expect("small").to_be_bytes());
        Frames::new(Body::new(Full::from(framed)), &gateway.limits)
    };
    let mut held: Vec<Frames> = Vec::new();
    loop {
        let mut frames = begun();
        match poll_fn(|cx| frames.poll_next(cx)).await {
            None => held.push(frames),
            Some(told) => {
                assert_eq!(told.expect_err("no room").code(), Code::ResourceExhausted);
                break;
            }
        }
    }
    assert_eq!(held.len(), 4, "of a quarter each");
    held.pop();
    let mut frames = begun();
    assert!(poll_fn(|cx| frames.poll_next(cx)).await.is_none(), "there is room again");
}

#[tokio::test]
async fn a_request_beyond_the_bound_is_refused() {
    let json = format!(r#"{{"key":"{}"}}"#, "YQ==".repeat(400));
    let response = answered("/v3/kv/range", &json, 0, Vec::new()).await;
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(text(response).await.contains("etcdserver: request is too large"));
}

#[test]
fn pages_of_elsewhere_are_strangers() {
    let visitors = Visitors::default();
    let foreign = |origin: Option<&'static str>| {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1:2379"));
        headers.extend(origin.map(|origin| (ORIGIN, HeaderValue::from_static(origin))));
        visitors.from(&headers, None) == From::Stranger
    };
    let over_http_2 = |origin: &'static str| {
        let headers = HeaderMap::from_iter([(ORIGIN, HeaderValue::from_static(origin))]);
        visitors.from(&headers, Some("a:1")) == From::Stranger
    };
    assert!(!over_http_2("https://a:1") && over_http_2("https://b:1") && over_http_2("null"));
    assert!(!foreign(None) && !foreign(Some("http://127.0.0.1:2379")));
    for origin in ["http://evil.example", "null", "http://127.0.0.1:80", "https://127.0.0.1"] {
        assert!(foreign(Some(origin)), "{origin}");
    }
}

#[tokio::test]
async fn a_page_that_was_named_is_told_that_it_may_ask() {
    let visitors = Visitors::new(&["https://ui.example".to_owned()], &[]);
    let gateway = Gateway::new(1_000, Arc::new(visitors));
    let ask = async |method: Method, origin: &'static str| {
        let request = Request::builder().method(method).uri("/v3/kv/range").header(ORIGIN, origin);
        let request = request.body(Body::new(Full::from("{}".to_owned()))).expect("a request");
        let answer = vec![0, 0, 0, 0, 0];
        gateway.answer(request, async |_| Response::new(Body::new(Full::from(answer)))).await
    };
    let allowed = |response: &Response<Body>| {
        response.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|origin| origin.as_bytes().to_vec())
    };
    let named = Some(b"https://ui.example".to_vec());
    let asked = ask(Method::OPTIONS, "https://ui.example").await;
    assert_eq!((asked.status(), allowed(&asked)), (StatusCode::NO_CONTENT, named.clone()));
    let answered = ask(Method::POST, "https://ui.example").await;
    assert_eq!((answered.status(), allowed(&answered)), (StatusCode::OK, named));
    for method in [Method::OPTIONS, Method::POST] {
        let refused = ask(method, "https://evil.example").await;
        assert_eq!((refused.status(), allowed(&refused)), (StatusCode::FORBIDDEN, None));
    }
}

#[tokio::test]
async fn who_is_refused_for_now_is_told_when_to_ask_again() {
    let response = status::refusal(&Status::from(crate::api::ApiError::TooManyRequests));
    assert_eq!(response.status(), StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(response.headers().get(RETRY_AFTER), Some(&HeaderValue::from_static("1")));
}

#[tokio::test]
async fn refusals_have_the_words_of_the_original() {
    let failed = Status::failed_precondition("etcdserver: root user does not exist");
    let response = status::refusal(&failed);
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    let words = "etcdserver: root user does not exist";
    let wanted = format!(r#"{{"error":"{words}","message":"{words}","code":9}}"#);
    assert_eq!(text(response).await, wanted);
    let line = String::from_utf8(status::last_line(&Status::unavailable("gone"))).expect("text");
    let wanted = concat!(
        r#"{"error":{"grpc_code":14,"http_code":503,"message":"gone","#,
        r#""http_status":"Service Unavailable"}}"#,
    );
    assert_eq!(line.trim_end(), wanted);
}
