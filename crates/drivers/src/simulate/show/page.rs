//! A trace as one HTML page that needs nothing else: no server, no network, no file beside it.
//!
//! The page is a space-time diagram (L. Lamport, "Time, Clocks, and the Ordering of Events in a
//! Distributed System", 1978) with time downwards: clients and nodes are lanes, messages are arrows
//! from send to receipt, and each step has a row of its own, in which its words stand beside what
//! is drawn of it. At the side is the state of every node at the selected step.
//!
//! ```text
//!   page/page.html   the frame, with a slot for each part
//!   page/page.css    light and dark, for eyes that see all colours and those that do not
//!   page/*.js        model (an index of the trace) -> diagram, list, panel, overview <- main
//! ```
//!
//! *The trace is data.* It reaches the page as JSON in which `<`, `>` and `&` are escaped, so that
//! no text can end the element that holds it; the script writes texts as texts and never as markup.
//! A content security policy in the page forbids every request.
//!
//! *Bounds.* Only what is in view is drawn, at most `DRAWN_MAX` messages of it (`diagram.js`; the
//! page says so when it leaves some out), so the length of a trace costs memory, and time once
//! while the page loads. Rows get lower when all together would be higher than `HEIGHT_MAX`
//! (`main.js`), which is what browsers can scroll.

use super::Readable;
use crate::simulate::trace::{Head, Trace};
use std::io::{self, Write};

const FRAME: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
/// In the order in which they are run, as one function.
const SCRIPTS: &[&str] = &[
    include_str!("page/words.js"),
    include_str!("page/model.js"),
    include_str!("page/diagram.js"),
    include_str!("page/list.js"),
    include_str!("page/panel.js"),
    include_str!("page/overview.js"),
    include_str!("page/main.js"),
];

/// Writes a page that a browser shows from disk.
///
/// Errors: those of `out`.
pub fn page(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    for piece in FRAME.split("{{") {
        let Some((slot, rest)) = piece.split_once("}}") else {
            out.write_all(piece.as_bytes())?;
            continue;
        };
        match slot {
            "title" => out.write_all(title(&trace.head).as_bytes())?,
            "style" => out.write_all(STYLE.as_bytes())?,
            "trace" => write_trace(trace, &mut Harmless(&mut *out))?,
            "script" => SCRIPTS.iter().try_for_each(|script| out.write_all(script.as_bytes()))?,
            slot => unreachable!("the frame has a slot '{slot}' that nobody fills"),
        }
        out.write_all(rest.as_bytes())?;
    }
    Ok(())
}

/// What a tab of the browser shows.
fn title(head: &Head) -> String {
    let subject = head.property.as_ref().unwrap_or(&head.protocol);
    let title = format!("{} (seed {})", Readable(subject), Readable(&head.seed));
    title.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

fn write_trace(trace: &Trace, out: &mut impl Write) -> io::Result<()> {
    out.write_all(b"{\"head\":")?;
    serde_json::to_writer(&mut *out, &trace.head)?;
    out.write_all(b",\n\"steps\":[")?;
    for (at, step) in trace.steps.iter().enumerate() {
        out.write_all(if at == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, step)?;
    }
    out.write_all(b"]}")
}

/// Writes JSON so that HTML sees no markup in it: in JSON the three letters stand in strings only,
/// where they may be written by their numbers.
struct Harmless<W>(W);

impl<W: Write> Write for Harmless<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut rest = bytes;
        while let Some(at) = rest.iter().position(|byte| b"<>&".contains(byte)) {
            self.0.write_all(&rest[..at])?;
            write!(self.0, "\\u{:04x}", rest[at])?;
            rest = &rest[at + 1..];
        }
        self.0.write_all(rest)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_frame_has_each_slot_once() {
        let slots: Vec<&str> =
            FRAME.split("{{").skip(1).filter_map(|s| s.split("}}").next()).collect();
        assert_eq!(slots, ["title", "style", "trace", "script"]);
    }

    #[test]
    fn no_part_of_the_page_asks_for_another_file() {
        for part in [FRAME, STYLE].iter().chain(SCRIPTS) {
            let part = part.replace("url(#", "");
            for asks in ["src=", "@import", "url(", "fetch(", "XMLHttp", "innerHTML", "eval("] {
                assert!(!part.contains(asks), "'{asks}' in a part that begins {}", &part[..60]);
            }
        }
    }

    #[test]
    fn markup_in_json_is_written_by_numbers() {
        let mut out = Vec::new();
        Harmless(&mut out).write_all(b"\"</script>&amp;<!--\"").expect("memory takes all");
        let text = String::from_utf8(out).expect("what was text stays text");
        assert_eq!(text, r#""\u003c/script\u003e\u0026amp;\u003c!--""#);
    }
}
