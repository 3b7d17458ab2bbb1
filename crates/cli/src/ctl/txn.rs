//! The text form of a transaction, which is etcdctl's.
//!
//! ```text
//! value("balance") = "10"        compares, all must hold: value, version, create, mod, lease
//! mod("lock") < "42"             of a key, with = != < >
//!                                an empty line
//! put balance "9"                done if they hold: put KEY VALUE, get KEY, del KEY;
//! get log/ --prefix              get and del also with --prefix, --from-key, --range-end=END
//!                                an empty line
//! get balance                    done otherwise
//! ```
//!
//! Words with spaces stand in double quotes; inside, `\"`, `\\`, `\n`, `\t`, `\xHH` are what they
//! are in Go. The second and third block may be missing.

use crate::ctl::keys::{KeyFlags, KeyRange};
use quorate_server::proto::etcdserverpb::compare::{CompareResult, CompareTarget, TargetUnion};
use quorate_server::proto::etcdserverpb::request_op::Request;
use quorate_server::proto::etcdserverpb::{
    Compare, DeleteRangeRequest, PutRequest, RangeRequest, RequestOp, TxnRequest,
};
use std::fmt;

/// A line that is no part of a transaction.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct TxnError {
    line: usize, // 1-based
    reason: String,
}

impl fmt::Display for TxnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}; see 'quorate ctl txn --help'", self.line, self.reason)
    }
}

impl std::error::Error for TxnError {}

/// Reads a transaction.
///
/// Errors: the first line that cannot be understood, or more than three blocks.
pub(super) fn parse(text: &str) -> Result<TxnRequest, TxnError> {
    let mut txn = TxnRequest::default();
    let mut block = 0;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        let error = |reason| TxnError { line: number + 1, reason };
        match (line.is_empty(), block) {
            (true, _) => block += 1,
            (false, 0) => txn.compare.push(compare(line).map_err(error)?),
            (false, 1) => txn.success.push(operation(line).map_err(error)?),
            (false, 2) => txn.failure.push(operation(line).map_err(error)?),
            (false, _) => return Err(error("there are three blocks at most".to_owned())),
        }
    }
    Ok(txn)
}

fn compare(line: &str) -> Result<Compare, String> {
    let form = || format!("cannot understand '{line}'; write value(\"KEY\") = \"VALUE\"");
    let (target, rest) = line.split_once('(').ok_or_else(form)?;
    let (key, rest) = word(rest, ")")?.ok_or_else(form)?;
    let rest = rest.trim_start().strip_prefix(')').ok_or_else(form)?.trim_start();
    let (result, rest) = [
        ("!=", CompareResult::NotEqual),
        ("=", CompareResult::Equal),
        ("<", CompareResult::Less),
        (">", CompareResult::Greater),
    ]
    .iter()
    .find_map(|(sign, result)| rest.strip_prefix(sign).map(|rest| (*result, rest)))
    .ok_or_else(form)?;
    let (operand, rest) = word(rest, "")?.ok_or_else(form)?;
    if !rest.trim().is_empty() {
        return Err(form());
    }
    let (target, union) = compare_target(target.trim(), operand)?;
    Ok(Compare {
        result: result.into(),
        target: target.into(),
        key: key.into(),
        target_union: Some(union),
        range_end: Default::default(),
    })
}

fn compare_target(name: &str, operand: Vec<u8>) -> Result<(CompareTarget, TargetUnion), String> {
    let text = String::from_utf8_lossy(&operand).into_owned();
    let number = || text.parse::<i64>().map_err(|_| format!("'{text}' is no number"));
    Ok(match name {
        "value" | "val" => (CompareTarget::Value, TargetUnion::Value(operand.into())),
        "version" | "ver" => (CompareTarget::Version, TargetUnion::Version(number()?)),
        "create" | "c" => (CompareTarget::Create, TargetUnion::CreateRevision(number()?)),
        "mod" | "m" => (CompareTarget::Mod, TargetUnion::ModRevision(number()?)),
        "lease" => {
            // Leases are shown in hexadecimal everywhere.
            let id = i64::from_str_radix(&text, 16).map_err(|_| format!("'{text}' is no lease"))?;
            (CompareTarget::Lease, TargetUnion::Lease(id))
        }
        _ => {
            return Err(format!(
                "cannot compare '{name}'; write value, version, create, mod, lease"
            ));
        }
    })
}

fn operation(line: &str) -> Result<RequestOp, String> {
    let words = words(line)?;
    let (name, words) = words.split_first().ok_or("an operation is missing")?;
    let request = match name.as_slice() {
        b"put" => match words {
            [key, value] => Request::RequestPut(PutRequest {
                key: key.clone().into(),
                value: value.clone().into(),
                ..PutRequest::default()
            }),
            _ => return Err("write put KEY VALUE".to_owned()),
        },
        b"get" => {
            let range = selection(words)?;
            Request::RequestRange(RangeRequest {
                key: range.key.into(),
                range_end: range.range_end.into(),
                ..RangeRequest::default()
            })
        }
        b"del" => {
            let range = selection(words)?;
            Request::RequestDeleteRange(DeleteRangeRequest {
                key: range.key.into(),
                range_end: range.range_end.into(),
                ..DeleteRangeRequest::default()
            })
        }
        other => {
            let other = String::from_utf8_lossy(other);
            return Err(format!("unknown operation '{other}'; write put, get or del"));
        }
    };
    Ok(RequestOp { request: Some(request) })
}

/// `KEY [--prefix | --from-key | --range-end=END]`
fn selection(words: &[Vec<u8>]) -> Result<KeyRange, String> {
    let mut flags = KeyFlags::default();
    let mut key = None;
    for word in words {
        let word = String::from_utf8(word.clone()).map_err(|_| "a key must be UTF-8 here")?;
        match (word.as_str(), word.strip_prefix("--range-end="), &key) {
            ("--prefix", ..) => flags.prefix = true,
            ("--from-key", ..) => flags.from_key = true,
            (_, Some(end), _) => flags.range_end = Some(end.to_owned()),
            (_, None, None) => key = Some(word),
            _ => return Err(format!("unexpected '{word}'")),
        }
    }
    let key = key.ok_or("a key is missing")?;
    Ok(KeyRange::new(&key, &flags))
}

fn words(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut words = Vec::new();
    let mut rest = line;
    while let Some((next, tail)) = word(rest, "")? {
        words.push(next);
        rest = tail;
    }
    Ok(words)
}

/// The first word of `text`, plain or quoted, and what follows it; a plain word ends at white space
/// or at one of `ends`.
fn word<'a>(text: &'a str, ends: &str) -> Result<Option<(Vec<u8>, &'a str)>, String> {
    let text = text.trim_start();
    if let Some(quoted) = text.strip_prefix('"') {
        return unquote(quoted).map(Some);
    }
    let end = text.find(|c: char| c.is_whitespace() || ends.contains(c)).unwrap_or(text.len());
    let (word, rest) = text.split_at(end);
    Ok((!word.is_empty()).then(|| (word.as_bytes().to_vec(), rest)))
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> Result<(Vec<u8>, &str), String> {
    let mut bytes = Vec::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((bytes, &text[at + 1..])),
            '\\' => match chars.next() {
                Some((_, 'n')) => bytes.push(b'\n'),
                Some((_, 't')) => bytes.push(b'\t'),
                Some((_, c @ ('"' | '\\'))) => bytes.push(c as u8),
                Some((at, 'x')) => {
                    let digits = text.get(at + 1..at + 3);
                    let byte = digits.and_then(|digits| u8::from_str_radix(digits, 16).ok());
                    bytes.push(byte.ok_or("write \\xHH with two hexadecimal digits")?);
                    chars.nth(1);
                }
                _ => return Err("only \\\" \\\\ \\n \\t \\xHH may follow a backslash".to_owned()),
            },
            c => bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Err("a quote is not closed".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_is_understood() {
        let text = "mod(\"key 1\") > \"0\"\nvalue(k)!=\"a\\\"b\\x00\"\nlease(\"k\") = \"ff\"\n\n\
                    put key1 \"over \\n wrote\"\nget a --prefix\n\ndel a --range-end=c\n";
        let txn = parse(text).expect("a transaction");
        assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (3, 2, 1));
        assert_eq!(txn.compare[0].key.as_ref(), b"key 1");
        assert_eq!(txn.compare[0].result(), CompareResult::Greater);
        assert_eq!(txn.compare[0].target_union, Some(TargetUnion::ModRevision(0)));
        assert_eq!(txn.compare[1].result(), CompareResult::NotEqual);
        let value = TargetUnion::Value(b"a\"b\0".to_vec().into());
        assert_eq!(txn.compare[1].target_union, Some(value));
        assert_eq!(txn.compare[2].target_union, Some(TargetUnion::Lease(255)));
        let Some(Request::RequestPut(put)) = &txn.success[0].request else { panic!("a put") };
        assert_eq!(put.value.as_ref(), b"over \n wrote");
        let Some(Request::RequestRange(get)) = &txn.success[1].request else { panic!("a get") };
        assert_eq!((get.key.as_ref(), get.range_end.as_ref()), (&b"a"[..], &b"b"[..]));
        let Some(Request::RequestDeleteRange(del)) = &txn.failure[0].request else { panic!() };
        assert_eq!(del.range_end.as_ref(), b"c");
    }

    #[test]
    fn blocks_may_be_missing_or_empty() {
        let txn = parse("\nput a b").expect("no compares");
        assert_eq!((txn.compare.len(), txn.success.len(), txn.failure.len()), (0, 1, 0));
        assert_eq!(parse("").expect("nothing"), TxnRequest::default());
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let cases = [
            ("value(\"a\") ~ \"b\"", 1, "cannot understand"),
            ("value(\"a\") = \"b", 1, "not closed"),
            ("size(\"a\") = \"1\"", 1, "cannot compare 'size'"),
            ("mod(\"a\") = \"x\"", 1, "'x' is no number"),
            ("value(\"a\") = \"b\" c", 1, "cannot understand"),
            ("\nput a", 2, "write put KEY VALUE"),
            ("\nincr a", 2, "unknown operation 'incr'"),
            ("\nget", 2, "a key is missing"),
            ("\nget a b", 2, "unexpected 'b'"),
            ("\nput a \"\\q\"", 2, "may follow a backslash"),
            ("\nput a \"\\xg1\"", 2, "two hexadecimal digits"),
            ("\n\n\nput a b", 4, "three blocks"),
        ];
        for (text, line, reason) in cases {
            let error = parse(text).expect_err(text);
            assert_eq!(error.line, line, "{text}");
            assert!(error.to_string().contains(reason), "{text}: {error}");
        }
    }
}
