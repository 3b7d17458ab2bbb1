//! A row for each file; under the table, what contradicts what.

use super::Row;
use crate::output;
use quorate_check::report::{Bar, Conflict, Method, Role, Word};
use serde_json::{Value, json};
use std::time::Duration;

/// The verdict on a file that could not be read.
const UNREAD: &str = "unread";

fn word(word: Word) -> &'static str {
    match word {
        Word::Holds => "holds",
        Word::Violated => "violated",
        Word::Undecided => "undecided",
    }
}

fn method(method: Method) -> &'static str {
    match method {
        Method::Search => "search",
        Method::Revisions => "revisions",
    }
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Core => "core",
        Role::Stuck => "stuck",
        Role::Helper => "helper",
        Role::Bystander => "bystander",
    }
}

fn time(took: Duration) -> String {
    let micros = took.as_micros();
    match micros {
        0..10_000 => format!("{micros} us"),
        10_000..10_000_000 => format!("{} ms", micros / 1000),
        _ => format!("{} s", took.as_secs()),
    }
}

/// The table, and a line that sums up if there is more than one file.
pub(super) fn table(rows: &[Row]) {
    let width = rows.iter().map(|row| row.file.chars().count()).max().unwrap_or(4).max(4);
    output::line(format_args!(
        "{:<width$}  {:<9}  {:>10}  {:>6}  {:<9}  {:>8}",
        "FILE", "VERDICT", "OPERATIONS", "PARTS", "BY", "TIME"
    ));
    for row in rows {
        match &row.checked {
            Ok((judgement, took)) => output::line(format_args!(
                "{:<width$}  {:<9}  {:>10}  {:>6}  {:<9}  {:>8}",
                row.file,
                word(judgement.word),
                judgement.operations,
                judgement.parts,
                method(judgement.method),
                time(*took)
            )),
            Err(_) => output::line(format_args!("{:<width$}  {UNREAD}", row.file)),
        }
    }
    if rows.len() > 1 {
        let judged = || rows.iter().filter_map(|row| row.checked.as_ref().ok());
        let count = |word| judged().filter(|(judgement, _)| judgement.word == word).count();
        let unread = match rows.len() - judged().count() {
            0 => String::new(),
            some => format!(", {some} {UNREAD}"),
        };
        output::line(format_args!(
            "{} hold, {} violated, {} undecided{unread}; {}",
            count(Word::Holds),
            count(Word::Violated),
            count(Word::Undecided),
            time(judged().map(|(_, took)| *took).sum())
        ));
    }
}

/// Why a file does not hold.
pub(super) fn story(row: &Row) {
    let Some(judgement) = row.judgement() else { return };
    let Some(why) = &judgement.why else { return };
    output::line(format_args!("\n{}: {}: {why}", row.file, word(judgement.word)));
    let Some(conflict) = &judgement.conflict else { return };
    let shown: Vec<&Bar> = conflict.bars.iter().filter(|bar| bar.role != Role::Bystander).collect();
    let width = shown.iter().map(|bar| bar.text.chars().count()).max().unwrap_or(0);
    for bar in shown {
        let until = bar.until.map_or("..".to_owned(), |until| until.to_string());
        let note = bar.role.meaning();
        output::line(format_args!(
            "  {:>5}  client {:<4} {:<width$}  [{}, {until}]  {note}",
            bar.id.to_string(),
            bar.client,
            bar.text,
            bar.from
        ));
    }
    output::line(tail(conflict));
}

fn tail(conflict: &Conflict) -> String {
    let rest = "  [a, b]: under way between these places in the order of all events";
    match conflict.is_minimal {
        Some(true) => format!("{rest};\n  without any one of these the rest could be explained"),
        Some(false) => format!("{rest};\n  the budget ended before this was as short as it gets"),
        None => rest.to_owned(),
    }
}

/// All rows as one array.
pub(super) fn json(rows: &[Row]) -> Value {
    let bar = |bar: &Bar| {
        json!({
            "op": bar.id.0, "client": bar.client, "text": bar.text, "invoked": bar.from,
            "returned": bar.until, "role": role(bar.role), "place": bar.place,
        })
    };
    let row = |row: &Row| {
        let (judgement, took) = match &row.checked {
            Ok(checked) => checked,
            Err(why) => {
                return json!({ "file": row.file, "verdict": UNREAD, "why": why.trim_start() });
            }
        };
        let conflict = judgement.conflict.as_ref();
        let is_told = |bar: &&Bar| bar.role != Role::Bystander;
        let told = conflict
            .map(|conflict| conflict.bars.iter().filter(is_told).map(bar).collect::<Vec<Value>>());
        json!({
            "file": row.file,
            "verdict": word(judgement.word),
            "operations": judgement.operations,
            "parts": judgement.parts,
            "by": method(judgement.method),
            "steps": judgement.steps,
            "micros": u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            "why": judgement.why,
            "minimal": conflict.and_then(|conflict| conflict.is_minimal),
            "conflict": told,
        })
    };
    Value::Array(rows.iter().map(row).collect())
}
