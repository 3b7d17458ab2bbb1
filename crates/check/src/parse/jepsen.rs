//! Events of Jepsen's log and of its EDN histories, and how they become operations.
//!
//! ```text
//! INFO  jepsen.util - 2   :invoke :cas   [3 0]
//! {:process 2, :type :invoke, :f :cas, :value [3 0], :index 7, :time 12}
//! {:process 2, :type :info, :f :cas, :value [3 0], :error :timed-out}
//! ```
//!
//! `:ok` has an output, `:fail` took no effect, `:info` may take effect later or never; so may what
//! has no second event. A process that is not a number (`:nemesis`) is no client and is left out. A
//! value `[key v]` of a read or a write, and `[key [from to]]` of a compare-and-set, are those of
//! Jepsen's independent keys.

use super::edn::{Edn, Form, Reader};
use super::{Kind, ParseError, Place, Recorded};
use crate::history::{ClientId, OpId, Outcome, Recorder};
use crate::linear::{HistoryOf, Model};
use crate::models::Value;
use crate::models::keyed::On;
use crate::models::kv::{KvInput, KvOutput};
use crate::models::lock::{LockInput, LockOutput};
use crate::models::queue::{QueueInput, QueueOutput};
use crate::models::register::{RegisterInput, RegisterOutput};
use crate::models::set::{SetInput, SetOutput};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What an event tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Type {
    Invoke,
    Ok,
    Fail,
    Info,
}

/// One event of a client.
pub(super) struct Event {
    place: Place,
    process: u64,
    kind: Type,
    function: String,
    key: Option<Edn>,
    value: Edn,
}

/// The events of a log.
pub(super) fn log_events(text: &str) -> Result<Vec<Event>, ParseError> {
    let mut events = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let Some((before, rest)) = line.split_once(" - ") else {
            if line.trim().is_empty() {
                continue;
            }
            let place = Place { line: at + 1, column: 1 };
            return Err(ParseError::new(
                place,
                "a line of a Jepsen log has ' - ' before its event",
            ));
        };
        let place = Place { line: at + 1, column: before.chars().count() + 4 };
        let mut reader = Reader::new(rest, place);
        let mut word = |what: &str| {
            let end = Place { line: at + 1, column: line.chars().count() + 1 };
            reader.next_form()?.ok_or_else(|| ParseError::new(end, format!("{what} is missing")))
        };
        let process = word("the process")?;
        let kind = word("the type")?;
        let function = word("the function")?;
        let value = word("the value")?;
        events.extend(event(place, &process, &kind, &function, None, value)?);
    }
    Ok(events)
}

/// The events of maps, one after another or in one vector.
pub(super) fn edn_events(text: &str) -> Result<Vec<Event>, ParseError> {
    let mut reader = Reader::new(text, Place { line: 1, column: 1 });
    let mut events = Vec::new();
    while let Some(form) = reader.next_form()? {
        let maps = match form.form {
            Form::Sequence(maps) => maps,
            _ => vec![form],
        };
        for map in maps {
            let under = |name: &str| {
                map.under(name)
                    .ok_or_else(|| ParseError::new(map.place, format!("no :{name} here")))
            };
            if !matches!(map.form, Form::Map(_)) {
                return Err(ParseError::new(map.place, format!("an event is a map, not {map}")));
            }
            let nil = Edn { place: map.place, form: Form::Nil };
            let value = map.under("value").cloned().unwrap_or(nil);
            let key = map.under("key").cloned();
            let (process, kind, function) = (under("process")?, under("type")?, under("f")?);
            events.extend(event(map.place, process, kind, function, key, value)?);
        }
    }
    Ok(events)
}

fn event(
    place: Place,
    process: &Edn,
    kind: &Edn,
    function: &Edn,
    key: Option<Edn>,
    value: Edn,
) -> Result<Option<Event>, ParseError> {
    let process = match process.form {
        Form::Number(number) if number >= 0 => number as u64,
        Form::Keyword(_) => return Ok(None), // a nemesis
        _ => return Err(ParseError::new(process.place, format!("{process} is no process"))),
    };
    let kind = match &kind.form {
        Form::Keyword(word) if word == "invoke" => Type::Invoke,
        Form::Keyword(word) if word == "ok" => Type::Ok,
        Form::Keyword(word) if word == "fail" => Type::Fail,
        Form::Keyword(word) if word == "info" => Type::Info,
        _ => {
            let what = format!("a type is :invoke, :ok, :fail or :info, not {kind}");
            return Err(ParseError::new(kind.place, what));
        }
    };
    let Form::Keyword(name) = &function.form else {
        let what = format!("a function is a keyword, not {function}");
        return Err(ParseError::new(function.place, what));
    };
    Ok(Some(Event { place, process, kind, function: name.clone(), key, value }))
}

/// Makes operations of events.
pub(super) fn assemble(events: &[Event], kind: Option<Kind>) -> Result<Recorded, ParseError> {
    let kind = match kind {
        Some(kind) => kind,
        None => kind_of(events)?,
    };
    Ok(match kind {
        Kind::Register | Kind::CasRegister => {
            let swaps = if kind == Kind::Register { Swaps::Refused } else { Swaps::Allowed };
            Recorded::Register(pair(events, &Registers(swaps))?)
        }
        Kind::Queue => Recorded::Queue(pair(events, &Queues)?),
        Kind::Set => Recorded::Set(pair(events, &Sets)?),
        Kind::Lock => Recorded::Lock(pair(events, &Locks)?),
        Kind::Kv => Recorded::Kv(pair(events, &Texts)?),
        Kind::Map => {
            let what = "a history of a map is in our own format; see --format json";
            return Err(ParseError::new(Place { line: 1, column: 1 }, what));
        }
    })
}

/// The first function that tells which object it is; a read alone does not.
fn kind_of(events: &[Event]) -> Result<Kind, ParseError> {
    let names: BTreeSet<&str> = events.iter().map(|event| event.function.as_str()).collect();
    let knows = |name: &&str| match *name {
        "cas" => Some(Kind::CasRegister),
        "enqueue" | "dequeue" => Some(Kind::Queue),
        "add" | "remove" | "contains" => Some(Kind::Set),
        "acquire" | "release" => Some(Kind::Lock),
        "get" | "put" | "append" => Some(Kind::Kv),
        "write" => Some(Kind::CasRegister),
        _ => None,
    };
    if let Some(kind) = names.iter().find_map(knows) {
        return Ok(kind);
    }
    match events.first() {
        None => Err(ParseError::new(Place { line: 1, column: 1 }, "there is no event here")),
        Some(_) if names.len() == 1 && names.contains("read") => Ok(Kind::Register),
        Some(first) => {
            let what = format!("no model knows :{}; choose one with --model", first.function);
            Err(ParseError::new(first.place, what))
        }
    }
}

/// How the events of one kind of object are understood.
trait Dialect {
    type Of: Model;
    fn input(&self, event: &Event) -> Result<<Self::Of as Model>::Input, ParseError>;
    fn output(
        &self,
        input: &<Self::Of as Model>::Input,
        event: &Event,
    ) -> Result<<Self::Of as Model>::Output, ParseError>;
    /// What the value of an `:ok` is.
    fn answers(&self, input: &<Self::Of as Model>::Input) -> Answers;
}

/// What the value of an `:ok` is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Answers {
    /// An answer, which may be anything.
    Freely,
    /// That of the invocation again, or nothing.
    TheSame,
    /// An answer, beside Jepsen's independent key if there is one.
    UnderKey,
}

/// The value of an `:ok` and its key must be those that the invocation had, where they say what was
/// asked: otherwise two histories were mixed up, and any verdict on them would be wrong.
fn repeats(begun: &Event, event: &Event, answers: Answers) -> Result<(), ParseError> {
    let differs = |what: &str, was: &Edn, is: &Edn| {
        let (name, line) = (&event.function, begun.place.line);
        let what = format!(
            "this :ok of a :{name} has {what} {}, and its invocation in line {line} has {}; both \
             must be of one operation",
            said(is),
            said(was)
        );
        Err(ParseError::new(is.place, what))
    };
    if let (Some(was), Some(is)) = (&begun.key, &event.key)
        && !same(was, is)
    {
        return differs("the key", was, is);
    }
    let (was, is) = (&begun.value, &event.value);
    match answers {
        _ if is.form == Form::Nil => Ok(()),
        Answers::TheSame if !same(was, is) => differs("the value", was, is),
        Answers::UnderKey => match (two(was), two(is)) {
            (Some((was, _)), Some((is, _))) if begun.key.is_none() && !same(was, is) => {
                differs("the key", was, is)
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    }
}

/// Equal wherever they stand.
fn same(one: &Edn, other: &Edn) -> bool {
    match (&one.form, &other.form) {
        (Form::Sequence(one), Form::Sequence(other)) | (Form::Set(one), Form::Set(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Form::Map(one), Form::Map(other)) => {
            let pairs = one.iter().zip(other);
            let is_same = |(one, other): (&(Edn, Edn), &(Edn, Edn))| {
                same(&one.0, &other.0) && same(&one.1, &other.1)
            };
            one.len() == other.len() && pairs.into_iter().all(is_same)
        }
        (one, other) => one == other,
    }
}

/// A value as a complaint repeats it.
fn said(edn: &Edn) -> String {
    match &edn.form {
        Form::Number(number) => number.to_string(),
        Form::Float(number) => number.to_string(),
        Form::Bool(is) => is.to_string(),
        Form::Text(text) => format!("{text:?}"),
        Form::Sequence(items) => {
            let items: Vec<String> = items.iter().map(said).collect();
            format!("[{}]", items.join(" "))
        }
        _ => edn.to_string(),
    }
}

/// Joins each invocation with what came of it.
fn pair<D: Dialect>(events: &[Event], dialect: &D) -> Result<HistoryOf<D::Of>, ParseError> {
    let mut recorder = Recorder::new();
    let mut open: BTreeMap<u64, (OpId, &Event)> = BTreeMap::new();
    for event in events {
        if event.kind == Type::Invoke {
            let id = recorder.invoke(ClientId(event.process), dialect.input(event)?);
            if let Some((_, other)) = open.insert(event.process, (id, event)) {
                let what = format!(
                    "process {} begins an operation, but the one of line {} is not over",
                    event.process, other.place.line
                );
                return Err(ParseError::new(event.place, what));
            }
            continue;
        }
        let Some((id, begun)) = open.remove(&event.process) else {
            let what = format!("process {} ends what it has not begun", event.process);
            return Err(ParseError::new(event.place, what));
        };
        if begun.function != event.function {
            let what = format!(
                ":{} does not end the :{} of line {}",
                event.function, begun.function, begun.place.line
            );
            return Err(ParseError::new(event.place, what));
        }
        let outcome = match event.kind {
            Type::Ok => {
                let input = &recorder.operations()[id.0].input;
                repeats(begun, event, dialect.answers(input))?;
                Outcome::Ok(dialect.output(input, event)?)
            }
            Type::Fail => Outcome::Failed,
            Type::Info | Type::Invoke => Outcome::Unknown,
        };
        recorder.returned(id, outcome);
    }
    Ok(recorder.history())
}

fn stranger(event: &Event, model: &str) -> ParseError {
    ParseError::new(event.place, format!("a {model} knows no :{}", event.function))
}

fn value(edn: &Edn) -> Result<Value, ParseError> {
    Ok(match &edn.form {
        Form::Nil => Value::Nil,
        Form::Bool(is_true) => Value::Text(is_true.to_string().into()),
        Form::Number(number) => Value::Number(*number),
        Form::Text(text) => Value::Text(text.as_str().into()),
        Form::Keyword(word) => Value::Text(format!(":{word}").into()),
        _ => return Err(ParseError::new(edn.place, format!("{edn} is no value of an operation"))),
    })
}

fn text(edn: Option<&Edn>, event: &Event, what: &str) -> Result<Arc<str>, ParseError> {
    match edn.map(|edn| (edn, value(edn))) {
        Some((_, Ok(Value::Text(text)))) => Ok(text),
        Some((_, Ok(Value::Number(number)))) => Ok(number.to_string().into()),
        Some((edn, _)) => Err(ParseError::new(edn.place, format!("{what} is a string"))),
        None => Err(ParseError::new(event.place, format!("{what} is missing"))),
    }
}

fn two(edn: &Edn) -> Option<(&Edn, &Edn)> {
    match &edn.form {
        Form::Sequence(items) => match items.as_slice() {
            [first, second] => Some((first, second)),
            _ => None,
        },
        _ => None,
    }
}

/// Whether compare-and-set is a word of the model.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Swaps {
    Allowed,
    Refused,
}

struct Registers(Swaps);

impl Registers {
    /// The key, if the value is one of Jepsen's independent ones, and what is left.
    fn split(event: &Event) -> Result<(Value, &Edn), ParseError> {
        if let Some(key) = &event.key {
            return Ok((value(key)?, &event.value));
        }
        match two(&event.value) {
            Some((key, inner)) if event.function != "cas" || two(inner).is_some() => {
                Ok((value(key)?, inner))
            }
            _ => Ok((Value::Nil, &event.value)),
        }
    }
}

impl Dialect for Registers {
    type Of = crate::models::keyed::Keyed<crate::models::register::Register<Value>>;

    fn input(&self, event: &Event) -> Result<On<RegisterInput<Value>>, ParseError> {
        let (key, inner) = Registers::split(event)?;
        let input = match event.function.as_str() {
            "read" => RegisterInput::Read,
            "write" => RegisterInput::Write(value(inner)?),
            "cas" if self.0 == Swaps::Allowed => {
                let Some((from, to)) = two(inner) else {
                    return Err(ParseError::new(inner.place, "a :cas has a value [from to]"));
                };
                RegisterInput::Cas { from: value(from)?, to: value(to)? }
            }
            "cas" => {
                let what = "a register knows no :cas; use --model cas-register";
                return Err(ParseError::new(event.place, what));
            }
            _ => return Err(stranger(event, "register")),
        };
        Ok(On { key, input })
    }

    fn answers(&self, on: &On<RegisterInput<Value>>) -> Answers {
        match on.input {
            RegisterInput::Read if !on.key.is_nil() => Answers::UnderKey,
            RegisterInput::Read => Answers::Freely,
            RegisterInput::Write(_) | RegisterInput::Cas { .. } => Answers::TheSame,
        }
    }

    fn output(
        &self,
        on: &On<RegisterInput<Value>>,
        event: &Event,
    ) -> Result<RegisterOutput<Value>, ParseError> {
        Ok(match on.input {
            RegisterInput::Read => RegisterOutput::Value(value(Registers::split(event)?.1)?),
            RegisterInput::Write(_) => RegisterOutput::Written,
            RegisterInput::Cas { .. } => RegisterOutput::Swapped(true),
        })
    }
}

struct Queues;

impl Dialect for Queues {
    type Of = crate::models::queue::Queue<Value>;

    fn input(&self, event: &Event) -> Result<QueueInput<Value>, ParseError> {
        match event.function.as_str() {
            "enqueue" => Ok(QueueInput::Enqueue(value(&event.value)?)),
            "dequeue" => Ok(QueueInput::Dequeue),
            _ => Err(stranger(event, "queue")),
        }
    }

    fn answers(&self, input: &QueueInput<Value>) -> Answers {
        match input {
            QueueInput::Enqueue(_) => Answers::TheSame,
            QueueInput::Dequeue => Answers::Freely,
        }
    }

    fn output(
        &self,
        input: &QueueInput<Value>,
        event: &Event,
    ) -> Result<QueueOutput<Value>, ParseError> {
        Ok(match input {
            QueueInput::Enqueue(_) => QueueOutput::Enqueued,
            QueueInput::Dequeue => {
                let value = value(&event.value)?;
                QueueOutput::Dequeued((!value.is_nil()).then_some(value))
            }
        })
    }
}

struct Sets;

impl Dialect for Sets {
    type Of = crate::models::set::Set<Value>;

    fn input(&self, event: &Event) -> Result<SetInput<Value>, ParseError> {
        match event.function.as_str() {
            "add" => Ok(SetInput::Add(value(&event.value)?)),
            "remove" => Ok(SetInput::Remove(value(&event.value)?)),
            "contains" => Ok(SetInput::Contains(value(&event.value)?)),
            "read" => Ok(SetInput::Read),
            _ => Err(stranger(event, "set")),
        }
    }

    fn answers(&self, input: &SetInput<Value>) -> Answers {
        match input {
            SetInput::Add(_) | SetInput::Remove(_) => Answers::TheSame,
            SetInput::Contains(_) | SetInput::Read => Answers::Freely,
        }
    }

    fn output(
        &self,
        input: &SetInput<Value>,
        event: &Event,
    ) -> Result<SetOutput<Value>, ParseError> {
        match (input, &event.value.form) {
            (SetInput::Add(_) | SetInput::Remove(_), _) => Ok(SetOutput::Done),
            (SetInput::Contains(_), Form::Bool(is_there)) => Ok(SetOutput::Is(*is_there)),
            (SetInput::Read, Form::Set(items) | Form::Sequence(items)) => {
                Ok(SetOutput::All(items.iter().map(value).collect::<Result<_, _>>()?))
            }
            _ => {
                let what = format!(":{} answers no {}", event.function, event.value);
                Err(ParseError::new(event.value.place, what))
            }
        }
    }
}

struct Locks;

impl Dialect for Locks {
    type Of = crate::models::lock::Lock;

    fn input(&self, event: &Event) -> Result<LockInput, ParseError> {
        let lock = match &event.key {
            Some(key) => text(Some(key), event, "the key")?,
            None => "lock".into(),
        };
        let holder = format!("process {}", event.process).into();
        match event.function.as_str() {
            "acquire" => Ok(LockInput::Acquire { lock, holder }),
            "release" => Ok(LockInput::Release { lock, holder }),
            _ => Err(stranger(event, "lock")),
        }
    }

    fn answers(&self, _: &LockInput) -> Answers {
        Answers::Freely
    }

    fn output(&self, input: &LockInput, event: &Event) -> Result<LockOutput, ParseError> {
        let token = match event.value.form {
            Form::Number(token) if token >= 0 => Some(token as u64),
            _ => None,
        };
        Ok(match input {
            LockInput::Acquire { .. } => LockOutput::Acquired(token),
            LockInput::Release { .. } => LockOutput::Released,
        })
    }
}

struct Texts;

impl Dialect for Texts {
    type Of = crate::models::kv::Kv;

    fn input(&self, event: &Event) -> Result<KvInput, ParseError> {
        let key = text(event.key.as_ref(), event, "the :key")?;
        let value = || text(Some(&event.value), event, "the :value");
        match event.function.as_str() {
            "get" => Ok(KvInput::Get { key }),
            "put" => Ok(KvInput::Put { key, value: value()? }),
            "append" => Ok(KvInput::Append { key, value: value()? }),
            _ => Err(stranger(event, "kv")),
        }
    }

    fn answers(&self, input: &KvInput) -> Answers {
        match input {
            KvInput::Get { .. } => Answers::Freely,
            KvInput::Put { .. } | KvInput::Append { .. } => Answers::TheSame,
        }
    }

    fn output(&self, input: &KvInput, event: &Event) -> Result<KvOutput, ParseError> {
        Ok(match input {
            KvInput::Get { .. } => KvOutput::Text(text(Some(&event.value), event, "the :value")?),
            KvInput::Put { .. } | KvInput::Append { .. } => KvOutput::Done,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(text: &str) -> Option<String> {
        assemble(&edn_events(text).expect("events"), None).err().map(|error| error.to_string())
    }

    /// Two events of one process.
    fn two_events(invoke: &str, ok: &str) -> String {
        format!("{{:process 0, :type :invoke, {invoke}}}\n{{:process 0, :type :ok, {ok}}}\n")
    }

    #[test]
    fn an_ok_says_what_its_invocation_said() {
        let cases = [
            (":f :write, :value 3", ":f :write, :value 4", "the value 4, and its"),
            (":f :write, :value 3", ":f :write, :value \"3\"", "the value \"3\", and its"),
            (":f :write, :value [1 3]", ":f :write, :value [2 3]", "the value [2 3], and its"),
            (":f :cas, :value [0 1]", ":f :cas, :value [0 2]", "line 1 has [0 1]; both"),
            (":f :read, :value [1 nil]", ":f :read, :value [2 7]", "the key 2, and its"),
            (":f :enqueue, :value 1", ":f :enqueue, :value 2", "the value 2, and its"),
            (":f :add, :value 1", ":f :add, :value 2", "the value 2, and its"),
            (
                ":f :put, :key \"a\", :value \"x\"",
                ":f :put, :key \"a\", :value \"y\"",
                "line 1 has \"x\"",
            ),
            (":f :get, :key \"a\"", ":f :get, :key \"b\", :value \"\"", "the key \"b\", and its"),
        ];
        for (invoke, ok, expected) in cases {
            let text = two_events(invoke, ok);
            let error = complaint(&text).unwrap_or_else(|| panic!("accepted: {text}"));
            assert!(error.starts_with("2:") && error.contains(expected), "{error}");
            assert_eq!(
                complaint(&two_events(invoke, invoke)).filter(|_| !invoke.contains("get")),
                None
            );
        }
        // Nothing is no other value, and what is read was not known before.
        assert_eq!(complaint(&two_events(":f :write, :value 3", ":f :write")), None);
        assert_eq!(complaint(&two_events(":f :write, :value 3", ":f :write, :value nil")), None);
        assert_eq!(complaint(&two_events(":f :read, :value nil", ":f :read, :value 4")), None);
        assert_eq!(complaint(&two_events(":f :read", ":f :read, :value [1 2]")), None);
        assert_eq!(complaint(&two_events(":f :dequeue", ":f :dequeue, :value 4")), None);
    }
}
