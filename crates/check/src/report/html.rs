//! A conflict as one page that needs nothing else: no script, no font, no network.
//!
//! ```text
//! client 1  |--(1) write 1--|            |--(4) read -> 1--|  <- stuck
//! client 2        |--(2) write 2--|
//!           time ->
//! ```
//!
//! One lane per client, one bar per operation from its invocation to its return; what is of unknown
//! outcome goes on to the right edge and fades. The core stands out; numbers are the places in the
//! longest order that was found. Colours follow the reader's light or dark setting.

use super::{Bar, Conflict, Judgement, Role, Word};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Width of one step of time. Unit: pixels.
const STEP: usize = 22;
/// Height of one row.
const ROW: usize = 30;
/// Left of all bars: names of clients.
const MARGIN: usize = 110;
/// Above the first row.
const TOP: usize = 28;
/// About the width of a letter of the labels.
const LETTER: usize = 7;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c1c1e;--paper:#fcfcfa;--dim:#8a8a86;--lane:#e6e6e0;\
--bar:#d5dbe3;--core:#f2b8b0;--stuck:#d6402f;--help:#f3dfa8;--place:#2f5fa8}\
@media(prefers-color-scheme:dark){:root{--ink:#e8e8e4;--paper:#17181a;--dim:#8d9096;\
--lane:#2a2c30;--bar:#38404b;--core:#7a342c;--stuck:#e2574a;--help:#6a5722;--place:#8ab4f0}}\
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:2rem}\
h1{font-size:1.4rem;margin:0}h2{font-size:1.05rem;margin:2rem 0 .3rem}\
.scroll{overflow-x:auto;border:1px solid var(--lane);border-radius:6px}\
svg{display:block;font:12px ui-monospace,monospace}svg text{fill:var(--ink)}\
.lane{stroke:var(--lane)}.who{fill:var(--dim)!important}.Bystander rect{fill:var(--bar)}\
.Bystander text{fill:var(--dim)}.Core rect{fill:var(--core)}.Helper rect{fill:var(--help)}\
.Stuck rect{fill:var(--stuck)}.Stuck text{fill:#fff;font-weight:700}\
.place{fill:var(--place)!important;font-weight:700}.open rect{fill-opacity:.45;stroke-dasharray:4}\
rect{stroke:var(--dim);stroke-width:.5}table{border-collapse:collapse}\
td,th{padding:.15rem .9rem .15rem 0;text-align:left}\
.key span{display:inline-block;padding:0 .6rem;border-radius:4px;margin-right:.6rem;\
color:var(--ink)}\
.key .c{background:var(--core)}.key .s{background:var(--stuck);color:#fff}\
.key .h{background:var(--help)}.key .b{background:var(--bar)}";

/// The page of some files, each with its name.
pub fn page(judged: &[(String, Judgement)]) -> String {
    let mut page = String::new();
    let _ = write!(
        page,
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>quorate check</title><style>{STYLE}</style></head>\
         <body><h1>quorate check</h1><p class=\"key\"><span class=\"s\">{}</span>\
         <span class=\"c\">{}</span><span class=\"h\">{}</span><span class=\"b\">{}</span>\
         (n): place in the longest order that was found; open to the right: outcome unknown</p>",
        Role::Stuck.meaning(),
        Role::Core.meaning(),
        Role::Helper.meaning(),
        Role::Bystander.meaning()
    );
    for (name, judgement) in judged {
        let word = match judgement.word {
            Word::Holds => "holds",
            Word::Violated => "violated",
            Word::Undecided => "undecided",
        };
        let why = judgement.why.as_deref().unwrap_or("there is an order that explains everything");
        let _ = write!(
            page,
            "<h2>{}: {word}</h2><p>{} operations, {} parts. {}</p>",
            escape(name),
            judgement.operations,
            judgement.parts,
            escape(why)
        );
        if let Some(conflict) = &judgement.conflict {
            draw(&mut page, conflict);
            list(&mut page, conflict);
        }
    }
    page.push_str("</body></html>\n");
    page
}

/// Stamps to columns: only moments that are shown take room, and a label never leaves its bar.
fn columns(bars: &[Bar]) -> BTreeMap<u64, usize> {
    let mut moments: Vec<u64> =
        bars.iter().flat_map(|bar| [Some(bar.from), bar.until]).flatten().collect();
    moments.sort_unstable();
    let mut columns = BTreeMap::new();
    let mut at = 0;
    for moment in moments {
        let ending = bars.iter().filter(|bar| bar.until == Some(moment));
        for bar in ending {
            let from = columns.get(&bar.from).copied().unwrap_or(0);
            at = at.max(from + label(bar).chars().count() * LETTER + STEP / 2);
        }
        columns.insert(moment, at);
        at += STEP;
    }
    columns
}

fn label(bar: &Bar) -> String {
    match bar.place {
        Some(place) => format!("({place}) {}", bar.text),
        None => bar.text.clone(),
    }
}

/// Rows: a client has as many as its operations overlap, since one of unknown outcome goes on.
fn rows(bars: &[Bar]) -> (Vec<usize>, Vec<(u64, usize)>) {
    let mut clients: BTreeMap<u64, Vec<u64>> = BTreeMap::new(); // end of the last bar of each row
    let mut places = Vec::new();
    for bar in bars {
        let ends = clients.entry(bar.client).or_default();
        let free = ends.iter().position(|end| *end < bar.from);
        let row = free.unwrap_or_else(|| {
            ends.push(0);
            ends.len() - 1
        });
        ends[row] = bar.until.unwrap_or(u64::MAX);
        places.push(row);
    }
    let mut tops = BTreeMap::new();
    let mut names = Vec::new();
    let mut next = 0;
    for (client, ends) in &clients {
        tops.insert(*client, next);
        names.push((*client, next));
        next += ends.len();
    }
    let of = |(bar, row): (&Bar, &usize)| tops[&bar.client] + row;
    (bars.iter().zip(&places).map(of).collect(), names)
}

fn draw(page: &mut String, conflict: &Conflict) {
    let columns = columns(&conflict.bars);
    let (rows, names) = rows(&conflict.bars);
    let labels = conflict.bars.iter().map(|bar| columns[&bar.from] + label(bar).len() * LETTER);
    let end = labels.chain(columns.values().copied()).max().unwrap_or(0) + STEP;
    let width = MARGIN + end + STEP;
    let height = TOP + (rows.iter().max().copied().unwrap_or(0) + 1) * ROW + ROW / 2;
    let _ = write!(
        page,
        "<div class=\"scroll\"><svg width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"timeline of the conflicting operations\"><text x=\"{MARGIN}\" y=\"16\" \
         class=\"who\">time \u{2192}</text>"
    );
    for (client, row) in names {
        let y = TOP + row * ROW;
        let _ = write!(
            page,
            "<line class=\"lane\" x1=\"0\" x2=\"{width}\" y1=\"{y}\" y2=\"{y}\"/>\
             <text class=\"who\" x=\"8\" y=\"{}\">client {client}</text>",
            y + 20
        );
    }
    for (bar, row) in conflict.bars.iter().zip(rows) {
        let x = MARGIN + columns[&bar.from];
        let until = bar.until.map_or(end, |until| columns[&until]) + MARGIN;
        let y = TOP + row * ROW + 4;
        let open = if bar.until.is_none() { " open" } else { "" };
        let place = bar.place.map(|place| format!("<tspan class=\"place\">({place})</tspan> "));
        let _ = write!(
            page,
            "<g class=\"{:?}{open}\"><title>{} of client {}: {}</title><rect x=\"{x}\" y=\"{y}\" \
             width=\"{}\" height=\"{}\" rx=\"4\"/><text x=\"{}\" y=\"{}\">{}{}</text></g>",
            bar.role,
            bar.id,
            bar.client,
            escape(&bar.text),
            until - x,
            ROW - 8,
            x + 4,
            y + 15,
            place.unwrap_or_default(),
            escape(&bar.text)
        );
    }
    page.push_str("</svg></div>");
}

fn list(page: &mut String, conflict: &Conflict) {
    page.push_str("<table><tr><th></th><th>client</th><th>operation</th><th></th></tr>");
    for bar in conflict.bars.iter().filter(|bar| bar.role != Role::Bystander) {
        let note = bar.role.meaning();
        let text = escape(&bar.text);
        let (id, client) = (bar.id, bar.client);
        let _ =
            write!(page, "<tr><td>{id}</td><td>{client}</td><td>{text}</td><td>{note}</td></tr>");
    }
    page.push_str("</table>");
    if conflict.omitted > 0 {
        let _ = write!(page, "<p>{} further operations are not shown.</p>", conflict.omitted);
    }
}

fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            letter => safe.push(letter),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parse::{self, Format};
    use crate::report::{Limits, judge};

    fn stale() -> Judgement {
        let text = "INFO a - 1 :invoke :write 1\nINFO a - 1 :ok :write 1\n\
                    INFO a - 2 :invoke :write 2\nINFO a - 2 :ok :write 2\n\
                    INFO a - 3 :invoke :write 9\nINFO a - 3 :info :write :timed-out\n\
                    INFO a - 1 :invoke :read nil\nINFO a - 1 :ok :read 1\n";
        let recorded = parse::parse(text, Format::JepsenLog, None).expect("a log");
        let mut never = || false;
        judge(&recorded, Limits { steps: 1 << 20, bytes: 1 << 24, cancel: &mut never })
    }

    #[test]
    fn the_page_stands_alone_and_marks_the_conflict() {
        let page = page(&[("a<b>.log".to_owned(), stale())]);
        for foreign in ["http:", "https:", "<script", "@import", "url("] {
            assert!(!page.contains(foreign), "{foreign}");
        }
        assert!(page.contains("a&lt;b&gt;.log: violated"));
        assert!(page.contains("class=\"Stuck\"") && page.contains("class=\"Core\""));
        assert!(page.contains("class=\"Bystander open\""), "the unknown write fades");
        assert!(page.contains("<tspan class=\"place\">(1)</tspan> write 1"));
        assert!(page.contains("prefers-color-scheme:dark"));
    }

    #[test]
    fn bars_of_one_lane_do_not_overlap_and_hold_their_labels() {
        let judgement = stale();
        let conflict = judgement.conflict.expect("a conflict");
        let columns = columns(&conflict.bars);
        for bar in &conflict.bars {
            let Some(until) = bar.until else { continue };
            let width = columns[&until] - columns[&bar.from];
            assert!(width >= label(bar).chars().count() * LETTER, "{}", bar.text);
        }
        let (rows, _) = rows(&conflict.bars);
        for (at, bar) in conflict.bars.iter().enumerate() {
            for (before, other) in conflict.bars[..at].iter().enumerate() {
                let overlap = other.until.is_none_or(|end| end > bar.from);
                assert!(rows[at] != rows[before] || !overlap);
            }
        }
    }
}
