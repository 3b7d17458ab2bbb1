//! etcd's map: keys in order, ranges, transactions with compares, leases, revisions.
//!
//! ```text
//! revision 1   nothing             a write, or a transaction that wrote, is one revision;
//! revision 2   put a               a deletion that found nothing is none
//! revision 3   txn: put b, del a
//! ```
//!
//! [`Store`] applies requests as etcd does and is what [`crate::witness`] replays. [`Map`] is the
//! same store without revisions, for the search: what it compares are keys, values, versions and
//! leases, since the revision would connect all keys, and no part could be checked alone. A compare
//! of a create or mod revision with anything but 0 therefore has no meaning in a [`Map`], and
//! [`Map::refuses`] says so beforehand.
//!
//! Source: etcd `api/etcdserverpb/rpc.proto`, `server/etcdserver/txn`.

use crate::history::Outcome;
use crate::linear::Model;
use serde::{Deserialize, Serialize};
use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Bound;
use std::sync::Arc;

/// Bytes of a key or a value, cheap to copy. In files they are text; what is not UTF-8 is hex.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Blob(pub Arc<[u8]>);

impl From<&str> for Blob {
    fn from(text: &str) -> Self {
        Blob(text.as_bytes().into())
    }
}

impl From<&[u8]> for Blob {
    fn from(bytes: &[u8]) -> Self {
        Blob(bytes.into())
    }
}

impl fmt::Display for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.escape_ascii())
    }
}

/// How a blob stands in a file.
#[derive(Deserialize, Serialize)]
#[serde(untagged)]
enum Written {
    Text(String),
    Bytes { bytes: Vec<u8> },
}

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => Written::Bytes { bytes: self.0.to_vec() }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(match Written::deserialize(deserializer)? {
            Written::Text(text) => text.as_str().into(),
            Written::Bytes { bytes } => bytes.as_slice().into(),
        })
    }
}

/// Which keys.
#[derive(Clone, Debug, Default, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Span {
    /// The key itself.
    #[default]
    One,
    /// From the key up to this one, which is not of them.
    Until(Blob),
    /// The key and all after it.
    Rest,
}

impl Span {
    fn is_one(&self) -> bool {
        *self == Span::One
    }

    /// True if `other` is one of the keys that begin at `key`.
    pub fn holds(&self, key: &Blob, other: &Blob) -> bool {
        match self {
            Span::One => key == other,
            Span::Until(end) => key <= other && other < end,
            Span::Rest => key <= other,
        }
    }
}

/// What a compare looks at.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// The value; never true of a key that is not there.
    Value(Blob),
    /// How often it was written since it was created; 0 if it is not there.
    Version(u64),
    /// The revision that created it; 0 if it is not there.
    Create(u64),
    /// The revision that wrote it last; 0 if it is not there.
    Mod(u64),
    /// Its lease; 0 if it has none or is not there.
    Lease(i64),
}

/// How it compares.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Relation {
    /// Equal.
    Equal,
    /// Not equal.
    NotEqual,
    /// What is there is greater.
    Greater,
    /// What is there is less.
    Less,
}

impl Relation {
    fn fits(self, order: Ordering) -> bool {
        match self {
            Relation::Equal => order.is_eq(),
            Relation::NotEqual => order.is_ne(),
            Relation::Greater => order.is_gt(),
            Relation::Less => order.is_lt(),
        }
    }
}

/// A condition of a transaction. With a span, every key of it must satisfy.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Compare {
    /// The key.
    pub key: Blob,
    /// Keys after it.
    #[serde(default, skip_serializing_if = "Span::is_one")]
    pub span: Span,
    /// What is looked at, and what it is compared with.
    pub target: Target,
    /// How.
    pub relation: Relation,
}

/// What is asked.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "f")]
pub enum Request {
    /// Let the key have this value.
    Put {
        /// The key.
        key: Blob,
        /// The value.
        value: Blob,
        /// The lease that it shall hang on; 0 for none.
        #[serde(default, skip_serializing_if = "is_zero")]
        lease: i64,
    },
    /// Let these keys not be there.
    Delete {
        /// The first key.
        key: Blob,
        /// Keys after it.
        #[serde(default, skip_serializing_if = "Span::is_one")]
        span: Span,
    },
    /// What is there?
    Range {
        /// The first key.
        key: Blob,
        /// Keys after it.
        #[serde(default, skip_serializing_if = "Span::is_one")]
        span: Span,
        /// As it was at this revision; 0 for the newest.
        #[serde(default, skip_serializing_if = "is_zero_u")]
        revision: u64,
        /// At most so many; 0 for all.
        #[serde(default, skip_serializing_if = "is_zero_u")]
        limit: u64,
        /// True if an old state will do.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        serializable: bool,
    },
    /// One branch or the other, in one revision.
    Txn {
        /// All must be true for the first branch.
        compares: Vec<Compare>,
        /// The first branch.
        success: Vec<Request>,
        /// The other one.
        failure: Vec<Request>,
    },
    /// Let the lease end: all its keys go, in one revision. Also what the service does by itself
    /// when a lease expires; then nobody acknowledges it.
    Revoke {
        /// Which lease.
        lease: i64,
    },
}

fn is_zero(number: &i64) -> bool {
    *number == 0
}

fn is_zero_u(number: &u64) -> bool {
    *number == 0
}

/// A pair of the map.
#[derive(Clone, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
pub struct Pair {
    /// The key.
    pub key: Blob,
    /// The value.
    pub value: Blob,
    /// The revision that created it.
    pub create: u64,
    /// The revision that wrote it last.
    #[serde(rename = "mod")]
    pub modified: u64,
    /// How often it was written since it was created.
    pub version: u64,
    /// Its lease; 0 for none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub lease: i64,
}

/// What is answered. The revision of the answer stands beside it, in the history.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "f")]
pub enum Response {
    /// To a put.
    Put,
    /// To a deletion.
    Delete {
        /// How many keys went.
        deleted: u64,
    },
    /// To a range.
    Range {
        /// What was found, by key, up to the limit.
        pairs: Vec<Pair>,
        /// How many there are, whatever the limit.
        count: u64,
    },
    /// To a transaction.
    Txn {
        /// Whether all compares were true.
        succeeded: bool,
        /// The answers of the branch.
        responses: Vec<Response>,
    },
    /// To the end of a lease.
    Revoke,
}

/// What is kept of a key.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Kept {
    value: Blob,
    create: u64,
    modified: u64,
    version: u64,
    lease: i64,
}

/// The state of the map.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Store {
    keys: BTreeMap<Blob, Kept>,
    leased: BTreeMap<i64, BTreeSet<Blob>>,
}

/// What one request did: the keys that it wrote, with what stood there before.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Effect {
    touched: Vec<(Blob, Option<Kept>)>,
}

impl Effect {
    /// True if it made a revision.
    pub fn is_write(&self) -> bool {
        !self.touched.is_empty()
    }

    /// The keys, as often as they were written.
    pub fn keys(&self) -> impl Iterator<Item = &Blob> {
        self.touched.iter().map(|(key, _)| key)
    }
}

impl Store {
    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there is no key.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// The pair of a key.
    pub fn pair(&self, key: &Blob) -> Option<Pair> {
        self.keys.get(key).map(|kept| pair(key, kept))
    }

    /// Keys of a span, in order.
    fn range(&self, key: &Blob, span: &Span) -> impl Iterator<Item = (&Blob, &Kept)> {
        let end = match span {
            Span::One => Bound::Included(key),
            // An end before the begin holds nothing.
            Span::Until(end) => Bound::Excluded(end.max(key)),
            Span::Rest => Bound::Unbounded,
        };
        let begin = match span {
            Span::Until(end) if end <= key => Bound::Excluded(key),
            _ => Bound::Included(key),
        };
        let is_empty = matches!(span, Span::Until(end) if end <= key);
        let range = if is_empty { None } else { Some(self.keys.range((begin, end))) };
        range.into_iter().flatten()
    }

    /// Applies a request; what it writes gets `revision`.
    pub fn apply(&mut self, request: &Request, revision: u64) -> (Response, Effect) {
        let mut effect = Effect::default();
        let response = self.apply_to(request, revision, &mut effect);
        (response, effect)
    }

    fn apply_to(&mut self, request: &Request, revision: u64, effect: &mut Effect) -> Response {
        match request {
            Request::Put { key, value, lease } => {
                let old = self.keys.get(key);
                let kept = Kept {
                    value: value.clone(),
                    create: old.map_or(revision, |old| old.create),
                    modified: revision,
                    version: old.map_or(1, |old| old.version + 1),
                    lease: *lease,
                };
                let old = self.set(key, Some(kept));
                effect.touched.push((key.clone(), old));
                Response::Put
            }
            Request::Delete { key, span } => {
                let gone: Vec<Blob> = self.range(key, span).map(|(key, _)| key.clone()).collect();
                let deleted = gone.len() as u64;
                self.remove(gone, effect);
                Response::Delete { deleted }
            }
            Request::Range { key, span, limit, .. } => self.read(key, span, *limit),
            Request::Txn { compares, success, failure } => {
                let succeeded = compares.iter().all(|compare| self.satisfies(compare));
                let branch = if succeeded { success } else { failure };
                let apply = |request| self.apply_to(request, revision, effect);
                let responses = branch.iter().map(apply).collect();
                Response::Txn { succeeded, responses }
            }
            Request::Revoke { lease } => {
                let gone = self.leased.get(lease).into_iter().flatten().cloned().collect();
                self.remove(gone, effect);
                Response::Revoke
            }
        }
    }

    fn remove(&mut self, gone: Vec<Blob>, effect: &mut Effect) {
        for key in gone {
            let old = self.set(&key, None);
            effect.touched.push((key, old));
        }
    }

    /// Takes back what was done last.
    pub fn undo(&mut self, effect: Effect) {
        for (key, old) in effect.touched.into_iter().rev() {
            self.set(&key, old);
        }
    }

    /// Puts or removes a key, and keeps account of its lease; gives what was there.
    fn set(&mut self, key: &Blob, kept: Option<Kept>) -> Option<Kept> {
        let lease = kept.as_ref().map_or(0, |kept| kept.lease);
        let old = match kept {
            Some(kept) => self.keys.insert(key.clone(), kept),
            None => self.keys.remove(key),
        };
        let old_lease = old.as_ref().map_or(0, |old| old.lease);
        if old_lease != lease {
            if let Some(keys) = self.leased.get_mut(&old_lease) {
                keys.remove(key);
                if keys.is_empty() {
                    self.leased.remove(&old_lease);
                }
            }
            if lease != 0 {
                self.leased.entry(lease).or_default().insert(key.clone());
            }
        }
        old
    }

    /// The leases that keys hang on.
    pub fn leases(&self) -> impl Iterator<Item = i64> {
        self.leased.keys().copied()
    }

    fn read(&self, key: &Blob, span: &Span, limit: u64) -> Response {
        let most =
            if limit == 0 { usize::MAX } else { usize::try_from(limit).unwrap_or(usize::MAX) };
        let pairs = self.range(key, span).take(most).map(|(key, kept)| pair(key, kept)).collect();
        Response::Range { pairs, count: self.range(key, span).count() as u64 }
    }

    fn satisfies(&self, compare: &Compare) -> bool {
        let fits = |kept: Option<&Kept>| {
            let order = match &compare.target {
                Target::Value(value) => match kept {
                    Some(kept) => kept.value.cmp(value),
                    None => return false,
                },
                Target::Version(number) => kept.map_or(0, |kept| kept.version).cmp(number),
                Target::Create(number) => kept.map_or(0, |kept| kept.create).cmp(number),
                Target::Mod(number) => kept.map_or(0, |kept| kept.modified).cmp(number),
                Target::Lease(number) => kept.map_or(0, |kept| kept.lease).cmp(number),
            };
            compare.relation.fits(order)
        };
        match compare.span {
            Span::One => fits(self.keys.get(&compare.key)),
            _ => self.range(&compare.key, &compare.span).all(|(_, kept)| fits(Some(kept))),
        }
    }
}

fn pair(key: &Blob, kept: &Kept) -> Pair {
    Pair {
        key: key.clone(),
        value: kept.value.clone(),
        create: kept.create,
        modified: kept.modified,
        version: kept.version,
        lease: kept.lease,
    }
}

/// The map without revisions.
#[derive(Clone, Copy, Debug, Default)]
pub struct Map;

impl Map {
    /// Why this request can not be checked without revisions, if it can not.
    pub fn refuses(request: &Request) -> Option<&'static str> {
        match request {
            Request::Range { revision, serializable, .. } if *revision != 0 || *serializable => {
                Some("a read of an old state is checked by its revision")
            }
            Request::Revoke { .. } => Some("the end of a lease is checked by its revision"),
            Request::Txn { compares, success, failure } => {
                let by_revision = |compare: &Compare| match compare.target {
                    Target::Create(number) | Target::Mod(number) => number != 0,
                    _ => false,
                };
                if compares.iter().any(by_revision) {
                    return Some("a compare of revisions is checked by its revision");
                }
                success.iter().chain(failure).find_map(Map::refuses)
            }
            _ => None,
        }
    }
}

/// Every write of the revision-less map is of this revision: not 0, so that what is there differs
/// from what is not.
const SOME_REVISION: u64 = 1;

impl Model for Map {
    type State = Arc<Store>;
    type Input = Request;
    type Output = Response;

    fn initial(&self) -> Arc<Store> {
        Arc::default()
    }

    fn step(
        &self,
        state: &Arc<Store>,
        input: &Request,
        output: Option<&Response>,
    ) -> Option<Arc<Store>> {
        let mut next = Store::clone(state);
        let (given, effect) = next.apply(input, SOME_REVISION);
        if output.is_some_and(|output| !is_alike(&given, output)) {
            return None;
        }
        Some(if effect.is_write() { Arc::new(next) } else { state.clone() })
    }

    fn heap_bytes(&self, state: &Arc<Store>) -> usize {
        state.len() * 160 + 64
    }

    fn is_read(&self, input: &Request, _: Option<&Response>) -> bool {
        is_read(input)
    }

    fn parts(&self, inputs: &[&Request]) -> Vec<usize> {
        connect(inputs)
    }

    fn show(&self, input: &Request, outcome: &Outcome<Response>) -> String {
        match outcome {
            Outcome::Ok(response) => format!("{input}{response}"),
            Outcome::Failed => format!("{input}: failed"),
            Outcome::Unknown => format!("{input}: unknown"),
        }
    }
}

/// True if the request can not write.
pub(crate) fn is_read(request: &Request) -> bool {
    match request {
        Request::Range { .. } => true,
        Request::Txn { success, failure, .. } => success.iter().chain(failure).all(is_read),
        Request::Put { .. } | Request::Delete { .. } | Request::Revoke { .. } => false,
    }
}

/// Equal, whatever the revisions.
fn is_alike(given: &Response, told: &Response) -> bool {
    match (given, told) {
        (Response::Range { pairs, count }, Response::Range { pairs: told, count: of }) => {
            let strip = |pair: &Pair| Pair { create: 0, modified: 0, ..pair.clone() };
            count == of && pairs.iter().map(strip).eq(told.iter().map(strip))
        }
        (
            Response::Txn { succeeded, responses },
            Response::Txn { succeeded: told, responses: all },
        ) => {
            let alike = responses.iter().zip(all).all(|(given, told)| is_alike(given, told));
            succeeded == told && responses.len() == all.len() && alike
        }
        _ => given == told,
    }
}

/// Keys that no request connects are parts of their own: a forest of keys, joined by requests.
fn connect(inputs: &[&Request]) -> Vec<usize> {
    let mut numbers: BTreeMap<&Blob, usize> = BTreeMap::new();
    let mut spans: Vec<Vec<(&Blob, &Span)>> = Vec::new();
    for input in inputs {
        let mut touched = Vec::new();
        touches(input, &mut touched);
        for (key, _) in &touched {
            let next = numbers.len();
            numbers.entry(key).or_insert(next);
        }
        spans.push(touched);
    }
    let mut parents: Vec<usize> = (0..numbers.len()).collect();
    let mut firsts = Vec::new();
    for touched in &spans {
        let mut first = None;
        for (key, span) in touched {
            let own = numbers[*key];
            let others = match span {
                Span::One => None,
                _ => Some(
                    numbers.range::<&Blob, _>(*key..).filter(|(other, _)| span.holds(key, other)),
                ),
            };
            let others = others.into_iter().flatten().map(|(_, number)| *number);
            for number in std::iter::once(own).chain(others) {
                let (one, other) = (root(&mut parents, *first.get_or_insert(own)), number);
                let other = root(&mut parents, other);
                parents[other] = one;
            }
        }
        firsts.push(first.unwrap_or_default());
    }
    let roots: Vec<usize> = firsts.iter().map(|first| root(&mut parents, *first)).collect();
    super::number_keys(roots.into_iter())
}

fn root(parents: &mut [usize], mut at: usize) -> usize {
    while parents[at] != at {
        parents[at] = parents[parents[at]];
        at = parents[at];
    }
    at
}

fn touches<'a>(request: &'a Request, touched: &mut Vec<(&'a Blob, &'a Span)>) {
    match request {
        Request::Put { key, .. } => touched.push((key, &Span::One)),
        Request::Delete { key, span } | Request::Range { key, span, .. } => {
            touched.push((key, span));
        }
        Request::Txn { compares, success, failure } => {
            touched.extend(compares.iter().map(|compare| (&compare.key, &compare.span)));
            success.iter().chain(failure).for_each(|request| touches(request, touched));
        }
        Request::Revoke { .. } => {}
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys = |key: &Blob, span: &Span| match span {
            Span::One => format!("{key}"),
            Span::Until(end) => format!("[{key}, {end})"),
            Span::Rest => format!("[{key}, ..)"),
        };
        match self {
            Request::Put { key, value, .. } => write!(f, "put {key} = {value}"),
            Request::Delete { key, span } => write!(f, "delete {}", keys(key, span)),
            Request::Range { key, span, .. } => write!(f, "get {}", keys(key, span)),
            Request::Txn { compares, success, failure } => {
                let list = |requests: &[Request]| {
                    requests.iter().map(Request::to_string).collect::<Vec<_>>().join("; ")
                };
                let conditions = compares.iter().map(|compare| {
                    format!("{:?} {:?} of {}", compare.relation, compare.target, compare.key)
                });
                let conditions = conditions.collect::<Vec<_>>().join(", ");
                let (success, failure) = (list(success), list(failure));
                write!(f, "txn if [{conditions}] then [{success}] else [{failure}]")
            }
            Request::Revoke { lease } => write!(f, "revoke lease {lease}"),
        }
    }
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Response::Put | Response::Revoke => Ok(()),
            Response::Delete { deleted } => write!(f, " -> {deleted} deleted"),
            Response::Range { pairs, .. } => {
                let shown = pairs.iter().map(|pair| {
                    format!("{} = {} (version {})", pair.key, pair.value, pair.version)
                });
                let shown: Vec<String> = shown.collect();
                write!(
                    f,
                    " -> {}",
                    if shown.is_empty() { "nothing".to_owned() } else { shown.join(", ") }
                )
            }
            Response::Txn { succeeded, responses } => {
                write!(f, " -> {}", if *succeeded { "succeeded" } else { "failed" })?;
                responses.iter().try_for_each(|response| response.fmt(f))
            }
        }
    }
}
