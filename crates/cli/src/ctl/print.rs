//! Answers as text (etcdctl's form) or JSON.

use crate::output;
use quorate_server::proto::etcdserverpb::response_op::Response;
use quorate_server::proto::etcdserverpb::{
    DeleteRangeResponse, PutResponse, RangeResponse, ResponseHeader, TxnResponse,
};
use quorate_server::proto::mvccpb::KeyValue;
use serde_json::{Map, Value, json};
use std::fmt::Write as _;
use std::io::Write as _;

/// Whether the values are wanted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Show {
    /// Keys and values.
    Everything,
    /// Keys.
    Keys,
    /// How many there are.
    Count,
}

/// Prints keys and values as they are, one per line.
pub(super) fn range(answer: &RangeResponse, show: Show) {
    if show == Show::Count {
        return output::line(answer.count);
    }
    answer.kvs.iter().for_each(|kv| pair(kv, show));
}

/// Prints what a put replaced, if that was asked for.
pub(super) fn put(answer: &PutResponse) {
    output::line("OK");
    if let Some(kv) = &answer.prev_kv {
        pair(kv, Show::Everything);
    }
}

/// Prints how many keys went, and which, if that was asked for.
pub(super) fn delete(answer: &DeleteRangeResponse) {
    output::line(answer.deleted);
    answer.prev_kvs.iter().for_each(|kv| pair(kv, Show::Everything));
}

/// Prints which branch was taken, and what it did.
pub(super) fn txn(answer: &TxnResponse) {
    output::line(if answer.succeeded { "SUCCESS" } else { "FAILURE" });
    for response in &answer.responses {
        output::line("");
        match &response.response {
            Some(Response::ResponseRange(answer)) => range(answer, Show::Everything),
            Some(Response::ResponsePut(answer)) => put(answer),
            Some(Response::ResponseDeleteRange(answer)) => delete(answer),
            Some(Response::ResponseTxn(answer)) => txn(answer),
            None => {}
        }
    }
}

/// The same as [`range`], for programs.
pub(super) fn range_json(answer: &RangeResponse) -> Value {
    let kvs: Vec<Value> = answer.kvs.iter().map(pair_json).collect();
    let header = header_json(answer.header.as_ref());
    json!({ "header": header, "kvs": kvs, "count": answer.count, "more": answer.more })
}

/// The same as [`put`], for programs.
pub(super) fn put_json(answer: &PutResponse) -> Value {
    let prev = answer.prev_kv.as_ref().map(pair_json);
    json!({ "header": header_json(answer.header.as_ref()), "prev_kv": prev })
}

/// The same as [`delete`], for programs.
pub(super) fn delete_json(answer: &DeleteRangeResponse) -> Value {
    let prev: Vec<Value> = answer.prev_kvs.iter().map(pair_json).collect();
    let header = header_json(answer.header.as_ref());
    json!({ "header": header, "deleted": answer.deleted, "prev_kvs": prev })
}

/// The same as [`txn`], for programs.
pub(super) fn txn_json(answer: &TxnResponse) -> Value {
    let response = |response: &Response| match response {
        Response::ResponseRange(answer) => json!({ "range": range_json(answer) }),
        Response::ResponsePut(answer) => json!({ "put": put_json(answer) }),
        Response::ResponseDeleteRange(answer) => json!({ "delete": delete_json(answer) }),
        Response::ResponseTxn(answer) => json!({ "txn": txn_json(answer) }),
    };
    let responses: Vec<Value> =
        answer.responses.iter().filter_map(|op| op.response.as_ref()).map(response).collect();
    let header = header_json(answer.header.as_ref());
    json!({ "header": header, "succeeded": answer.succeeded, "responses": responses })
}

/// Bytes go out unaltered: a value need not be text.
pub(super) fn pair(kv: &KeyValue, show: Show) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(&kv.key).and_then(|()| out.write_all(b"\n"));
    if show == Show::Everything {
        let _ = out.write_all(&kv.value).and_then(|()| out.write_all(b"\n"));
    }
}

/// What a header tells.
pub(super) fn header_json(header: Option<&ResponseHeader>) -> Value {
    let Some(header) = header else { return Value::Null };
    json!({
        "cluster_id": format!("{:x}", header.cluster_id),
        "member_id": format!("{:x}", header.member_id),
        "revision": header.revision,
        "raft_term": header.raft_term,
    })
}

/// A pair, for programs.
pub(super) fn pair_json(kv: &KeyValue) -> Value {
    let mut object = Map::new();
    for (name, bytes) in [("key", &kv.key), ("value", &kv.value)] {
        match std::str::from_utf8(bytes) {
            Ok(text) => object.insert(name.to_owned(), json!(text)),
            Err(_) => object.insert(format!("{name}_hex"), json!(hex(bytes))),
        };
    }
    object.insert("create_revision".to_owned(), json!(kv.create_revision));
    object.insert("mod_revision".to_owned(), json!(kv.mod_revision));
    object.insert("version".to_owned(), json!(kv.version));
    object.insert("lease".to_owned(), json!(format!("{:x}", kv.lease)));
    Value::Object(object)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string cannot fail
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_that_are_no_text_become_hexadecimal() {
        let kv = KeyValue { key: "k".into(), value: vec![0xff, 0x01].into(), ..Default::default() };
        let object = pair_json(&kv);
        assert_eq!(object["key"], "k");
        assert_eq!(object["value_hex"], "ff01");
        assert!(object.get("value").is_none());
    }
}
