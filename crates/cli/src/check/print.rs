//! A row for each file; under the table, what contradicts what.

use super::Row;
use crate::output;
use quorate_check::report::{Bar, Conflict, Method, Role, Word};
use serde_json::{Value, json};
use std::time::Duration;

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
        let judgement = &row.judgement;
        output::line(format_args!(
            "{:<width$}  {:<9}  {:>10}  {:>6}  {:<9}  {:>8}",
            row.file,
            word(judgement.word),
            judgement.operations,
            judgement.parts,
            method(judgement.method),
            time(row.took)
        ));
    }
    if rows.len() > 1 {
        let count = |word| rows.iter().filter(|row| row.judgement.word == word).count();
        let sum = rows.iter().map(|row| row.took).sum();
        output::line(format_args!(
            "{} hold, {} violated, {} undecided; {}",
            count(Word::Holds),
            count(Word::Violated),
            count(Word::Undecided),
            time(sum)
        ));
    }
}

/// Why a file does not hold.
pub(super) fn story(row: &Row) {
    let Some(why) = &row.judgement.why else { return };
    output::line(format_args!("\n{}: {}: {why}", row.file, word(row.judgement.word)));
    let Some(conflict) = &row.judgement.conflict else { return };
    let shown: Vec<&Bar> = conflict.bars.iter().filter(|bar| bar.role != Role::Bystander).collect();
    let width = shown.iter().map(|bar| bar.text.chars().count()).max().unwrap_or(0);
    for bar in shown {
        let until = bar.until.map_or("..".to_owned(), |until| until.to_string());
        let note = match bar.role {
            Role::Stuck => "fits nowhere",
            Role::Core => "contradicts it",
            Role::Helper | Role::Bystander => "is used",
        };
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
    let rest = "  [a, b]: places of its invocation and its answer in the order of all events";
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
        let judgement = &row.judgement;
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
            "micros": u64::try_from(row.took.as_micros()).unwrap_or(u64::MAX),
            "why": judgement.why,
            "minimal": conflict.and_then(|conflict| conflict.is_minimal),
            "conflict": told,
        })
    };
    Value::Array(rows.iter().map(row).collect())
}
