//! Our own format: one JSON object per line.
//!
//! ```text
//! {"quorate_history":1,"model":"map"}
//! {"type":"invoke","op":0,"client":1,"input":{"f":"put","key":"a","value":"1"}}
//! {"type":"ok","op":0,"output":{"f":"put"},"revision":2}
//! {"type":"fail","op":1}                                  it took no effect
//! {"type":"unknown","op":2}                               it may, later or never
//! {"type":"seen","revision":3,"changes":[{"delete":"a"}]}  a map only: what a watch told
//! ```
//!
//! The order of the lines is the order of the events. `op` is any number that no other operation of
//! the file has; what has no second line is of unknown outcome. Inputs and outputs are those of the
//! models, in kebab case. `revision` is what makes a map's history checkable without a search.

use super::{Kind, ParseError, Place, Recorded};
use crate::history::{ClientId, History, OpId, Outcome, Recorder};
use crate::witness::{Change, Seen};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Write};

/// The version that is written, and the only one that is read.
pub const HISTORY_VERSION: u32 = 1;

#[derive(Deserialize, Serialize)]
struct Head {
    quorate_history: u32,
    model: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Type {
    Invoke,
    Ok,
    Fail,
    Unknown,
    Seen,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields, bound(deserialize = "I: DeserializeOwned, O: DeserializeOwned"))]
struct Line<I, O> {
    r#type: Type,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    op: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    client: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    input: Option<I>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    output: Option<O>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revision: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    changes: Option<Vec<Change>>,
}

impl<I, O> Line<I, O> {
    fn new(kind: Type, op: u64) -> Self {
        let (client, input, output, revision, changes) = (None, None, None, None, None);
        Line { r#type: kind, op: Some(op), client, input, output, revision, changes }
    }
}

/// Reads a file; the head says of what it is a history.
pub(super) fn read(text: &str, kind: Option<Kind>) -> Result<Recorded, ParseError> {
    let begin = Place { line: 1, column: 1 };
    let first = text.lines().next().unwrap_or_default();
    let head: Head = serde_json::from_str(first).map_err(|error| complaint(1, first, &error))?;
    if head.quorate_history != HISTORY_VERSION {
        let what = format!(
            "this is a history of version {}; this build reads version {HISTORY_VERSION}",
            head.quorate_history
        );
        return Err(ParseError::new(begin, what));
    }
    let row = Kind::ALL.iter().find(|(_, name)| *name == head.model);
    let Some((named, _)) = row else {
        let names: Vec<&str> = Kind::ALL.iter().map(|(_, name)| *name).collect();
        let what = format!("no model '{}'; there are {}", head.model, names.join(", "));
        return Err(ParseError::new(begin, what));
    };
    if kind.is_some_and(|kind| kind != *named) {
        let what = format!("this is a history of a {}", named.name());
        return Err(ParseError::new(begin, what));
    }
    Ok(match named {
        Kind::Register | Kind::CasRegister => Recorded::Register(events(text)?.0),
        Kind::Queue => Recorded::Queue(events(text)?.0),
        Kind::Set => Recorded::Set(events(text)?.0),
        Kind::Lock => Recorded::Lock(events(text)?.0),
        Kind::Kv => Recorded::Kv(events(text)?.0),
        Kind::Map => {
            let (history, seen) = events(text)?;
            Recorded::Map(history, seen)
        }
    })
}

/// Where `serde_json` points; inside of a tagged object it does not know, and the object is named.
fn complaint(line: usize, text: &str, error: &serde_json::Error) -> ParseError {
    let inner = ["\"output\":", "\"input\":"].iter().find_map(|name| text.find(name));
    let byte = match error.column() {
        _ if error.is_eof() => text.len(),
        0 => inner.unwrap_or(0),
        column => (column - 1).min(text.len()),
    };
    let column = text.char_indices().take_while(|(at, _)| *at < byte).count() + 1;
    let what = error.to_string();
    let what = what.split(" at line ").next().unwrap_or_default();
    let what = if error.is_eof() { "the line ends within an object" } else { what };
    ParseError::new(Place { line, column }, what)
}

fn events<I: DeserializeOwned, O: DeserializeOwned>(
    text: &str,
) -> Result<(History<I, O>, Seen), ParseError> {
    let mut recorder = Recorder::new();
    let mut seen = Seen::new();
    let mut ids: BTreeMap<u64, OpId> = BTreeMap::new();
    let mut open: BTreeMap<u64, OpId> = BTreeMap::new();
    for (at, text) in text.lines().enumerate().skip(1) {
        if text.trim().is_empty() {
            continue;
        }
        let line: Line<I, O> =
            serde_json::from_str(text).map_err(|error| complaint(at + 1, text, &error))?;
        let fail = |what: String| ParseError::new(Place { line: at + 1, column: 1 }, what);
        let missing = |name: &str| fail(format!("no \"{name}\" here"));
        if line.r#type == Type::Seen {
            let revision = line.revision.ok_or_else(|| missing("revision"))?;
            seen.insert(revision, line.changes.ok_or_else(|| missing("changes"))?);
            continue;
        }
        let op = line.op.ok_or_else(|| missing("op"))?;
        if line.r#type == Type::Invoke {
            let client = ClientId(line.client.ok_or_else(|| missing("client"))?);
            let id = recorder.invoke(client, line.input.ok_or_else(|| missing("input"))?);
            if ids.insert(op, id).is_some() {
                return Err(fail(format!("operation {op} begins twice")));
            }
            open.insert(op, id);
            continue;
        }
        let Some(id) = open.remove(&op) else {
            return Err(fail(format!("operation {op} ends, but is not under way")));
        };
        let outcome = match line.r#type {
            Type::Ok => Outcome::Ok(line.output.ok_or_else(|| missing("output"))?),
            Type::Fail => Outcome::Failed,
            Type::Unknown | Type::Invoke | Type::Seen => Outcome::Unknown,
        };
        match line.revision {
            Some(revision) => recorder.returned_at(id, outcome, revision),
            None => recorder.returned(id, outcome),
        }
    }
    Ok((recorder.history(), seen))
}

/// Writes a history, so that it reads back equal but for its stamps, which keep their order.
///
/// # Errors
///
/// Those of `to`.
pub fn write<I: Serialize + Clone, O: Serialize + Clone>(
    kind: Kind,
    history: &History<I, O>,
    seen: &Seen,
    mut to: impl Write,
) -> io::Result<()> {
    let head = Head { quorate_history: HISTORY_VERSION, model: kind.name().to_owned() };
    writeln!(to, "{}", serde_json::to_string(&head)?)?;
    let mut moments = Vec::new();
    for (at, operation) in history.operations().iter().enumerate() {
        moments.push((operation.invoked, at, Type::Invoke));
        if let Some(returned) = operation.returned {
            let kind = match operation.outcome {
                Outcome::Ok(_) => Type::Ok,
                Outcome::Failed => Type::Fail,
                Outcome::Unknown => Type::Unknown,
            };
            moments.push((returned, at, kind));
        }
    }
    moments.sort_by_key(|(stamp, at, _)| (*stamp, *at));
    for (_, at, kind) in moments {
        let operation = &history.operations()[at];
        let mut line = Line::new(kind, at as u64);
        if kind == Type::Invoke {
            line.client = Some(operation.client.0);
            line.input = Some(operation.input.clone());
        } else {
            line.output = operation.outcome.output().cloned();
            line.revision = operation.revision;
        }
        writeln!(to, "{}", serde_json::to_string(&line)?)?;
    }
    for (revision, changes) in seen {
        let mut line: Line<I, O> = Line::new(Type::Seen, 0);
        (line.op, line.revision, line.changes) = (None, Some(*revision), Some(changes.clone()));
        writeln!(to, "{}", serde_json::to_string(&line)?)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::Value;
    use crate::models::keyed::On;
    use crate::models::map::{Blob, Request, Response};
    use crate::models::register::{RegisterInput, RegisterOutput};

    fn complaint_of(text: &str) -> String {
        read(text, None).expect_err(text).to_string()
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut recorder = Recorder::new();
        let on = |input| On { key: Value::from("k"), input };
        let (from, to) = (Value::Nil, Value::from(3));
        let swap = recorder.invoke(ClientId(1), on(RegisterInput::Cas { from, to }));
        let read_id = recorder.invoke(ClientId(2), on(RegisterInput::Read));
        recorder.returned(read_id, Outcome::Ok(RegisterOutput::Value(Value::from("x"))));
        recorder.returned(swap, Outcome::Ok(RegisterOutput::Swapped(true)));
        let lost = recorder.invoke(ClientId(1), on(RegisterInput::Write(Value::from(4))));
        recorder.returned(lost, Outcome::Unknown);
        recorder.invoke(ClientId(2), on(RegisterInput::Read));
        let history = recorder.history();
        let mut text = Vec::new();
        write(Kind::CasRegister, &history, &Seen::new(), &mut text).expect("memory");
        let text = String::from_utf8(text).expect("text");
        match read(&text, None).expect(&text) {
            Recorded::Register(back) => assert_eq!(back, history),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_map_reads_back_with_what_was_seen_and_bytes_that_are_no_text() {
        let mut recorder = Recorder::new();
        let (key, value) = (Blob::from("a"), Blob::from(&[0xff, 0][..]));
        let put = Request::Put { key: key.clone(), value, lease: 0 };
        let id = recorder.invoke(ClientId(1), put);
        recorder.returned_at(id, Outcome::Ok(Response::Put), 2);
        let history = recorder.history();
        let seen = Seen::from([(3, vec![Change::Delete(key)])]);
        let mut text = Vec::new();
        write(Kind::Map, &history, &seen, &mut text).expect("memory");
        let text = String::from_utf8(text).expect("text");
        match read(&text, Some(Kind::Map)).expect(&text) {
            Recorded::Map(back, told) => assert_eq!((back, told), (history, seen)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn complaints_name_line_and_column() {
        let head = "{\"quorate_history\":1,\"model\":\"register\"}\n";
        let begin = "{\"type\":\"invoke\",\"op\":0,\"client\":1,\"input\":{\"f\":\"read\"}}\n";
        let cases = [
            (format!("{head}{{\"type\":\"in"), "2:12: the line ends within an object"),
            (format!("{head}{begin}{begin}"), "3:1: operation 0 begins twice"),
            (
                format!("{head}{{\"type\":\"ok\",\"op\":4}}"),
                "2:1: operation 4 ends, but is not under way",
            ),
            (format!("{head}{begin}{{\"type\":\"ok\",\"op\":0}}"), "3:1: no \"output\" here"),
            (
                head.replace(":1", ":9"),
                "1:1: this is a history of version 9; this build reads version 1",
            ),
            (
                head.replace("register", "heap"),
                "1:1: no model 'heap'; there are register, cas-register, map, queue, lock, set, kv",
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(complaint_of(&text), expected);
        }
        let strange = format!("{head}{}", begin.replace("read", "reed"));
        assert!(
            complaint_of(&strange).starts_with("2:55: unknown variant `reed`"),
            "{}",
            complaint_of(&strange)
        );
    }
}
