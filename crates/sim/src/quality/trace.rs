//! The delays of one link, and the file that holds them.
//!
//! ```text
//! # anything after a '#' is a comment
//! every 100ms        the period of messages: first, and once; us, ms or s
//! 12.5               the delay of the next message, in milliseconds
//! lost               it never arrived
//! ```
//!
//! Message `i` left `i` periods after the first. Clocks need not agree: a constant added to all
//! delays changes no mistake, only the detection time.
//!
//! **Bounds.** [`HEARTBEATS_MIN`] to [`HEARTBEATS_MAX`] messages, delays of up to [`DELAY_MAX`].

use super::{MILLISECOND, SECOND};
use std::fmt;

/// Fewer say nothing about rare events.
pub const HEARTBEATS_MIN: usize = 300;
/// More do not fit into memory comfortably.
pub const HEARTBEATS_MAX: usize = 5_000_000;
/// A message that takes longer is lost. Unit: nanoseconds.
pub const DELAY_MAX: u64 = 3_600 * SECOND;

/// The delays of the messages of one link.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trace {
    /// What it is called.
    pub name: String,
    /// The period of heartbeats. Unit: nanoseconds.
    pub every: u64,
    /// Messages in a period: the first of them is the heartbeat, all are traffic.
    pub per: usize,
    /// Unit: nanoseconds; none for a message that was lost.
    pub delays: Vec<Option<u64>>,
}

/// A file that is no trace.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TraceError {
    /// The line, from 1; 0 for the file as a whole.
    pub line: usize,
    /// What is wrong, and what to write instead.
    pub why: String,
}

impl fmt::Display for TraceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}", self.why),
            line => write!(f, "line {line}: {}", self.why),
        }
    }
}

impl std::error::Error for TraceError {}

/// Mean and deviation of the delays, and the share that is lost. Unit: seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// The probability that a message is lost.
    pub loss: f64,
    /// The mean delay of those that are not.
    pub mean: f64,
    /// And its standard deviation.
    pub deviation: f64,
}

impl Trace {
    /// When message `index` left. Unit: nanoseconds.
    pub fn sent(&self, index: usize) -> u64 {
        self.every * index as u64 / self.per as u64
    }

    /// The time from the first message to the last. Unit: nanoseconds.
    pub fn length(&self) -> u64 {
        self.sent(self.delays.len())
    }

    /// How many heartbeats there are.
    pub fn heartbeats(&self) -> usize {
        self.delays.len() / self.per
    }

    /// Its first part, of so many heartbeats.
    pub fn prefix(&self, heartbeats: usize) -> Trace {
        let delays = self.delays[..(heartbeats * self.per).min(self.delays.len())].to_vec();
        Trace { delays, name: self.name.clone(), ..*self }
    }

    /// What a configurator wants to know of the link.
    pub fn link(&self) -> Link {
        let arrived: Vec<f64> =
            self.delays.iter().flatten().map(|delay| *delay as f64 / SECOND as f64).collect();
        let count = arrived.len().max(1) as f64;
        let mean = arrived.iter().sum::<f64>() / count;
        let square = |delay: &f64| (delay - mean) * (delay - mean);
        let variance = arrived.iter().map(square).sum::<f64>() / count;
        let loss = 1.0 - arrived.len() as f64 / self.delays.len().max(1) as f64;
        Link { loss, mean, deviation: variance.sqrt() }
    }

    /// Reads a file.
    ///
    /// Errors: the first line that is wrong.
    pub fn parse(name: &str, text: &str) -> Result<Trace, TraceError> {
        let mut every = None;
        let mut delays = Vec::new();
        for (at, line) in text.lines().enumerate() {
            let words = line.split('#').next().unwrap_or_default().trim();
            let wrong = |why: String| TraceError { line: at + 1, why };
            match (words, every) {
                ("", _) => {}
                (words, None) => every = Some(period(words).map_err(wrong)?),
                ("lost", Some(_)) => delays.push(None),
                (word, Some(_)) => delays.push(Some(delay(word).map_err(wrong)?)),
            }
            if delays.len() > HEARTBEATS_MAX {
                return Err(wrong(format!("more than {HEARTBEATS_MAX} messages; cut the file")));
            }
        }
        let whole = |why: String| TraceError { line: 0, why };
        let every = every.ok_or_else(|| whole("it is empty; begin with 'every 100ms'".into()))?;
        if delays.len() < HEARTBEATS_MIN {
            let count = delays.len();
            return Err(whole(format!(
                "{count} messages are too few to say anything; record {HEARTBEATS_MIN} or more"
            )));
        }
        if delays.iter().all(Option::is_none) {
            return Err(whole("every message is lost".into()));
        }
        Ok(Trace { name: name.to_owned(), every, per: 1, delays })
    }

    /// The file that [`Trace::parse`] reads, of the heartbeats alone.
    pub fn render(&self) -> String {
        let mut text = format!("# {}\nevery {}us\n", self.name, self.every / 1_000);
        for delay in self.delays.iter().step_by(self.per) {
            match delay {
                Some(delay) => text += &format!("{:.3}\n", *delay as f64 / MILLISECOND as f64),
                None => text += "lost\n",
            }
        }
        text
    }
}

fn period(words: &str) -> Result<u64, String> {
    let wrong = || format!("'{words}' is no period; begin with 'every 100ms'");
    let word = words.strip_prefix("every ").ok_or_else(wrong)?.trim();
    let digits = word.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    let unit = match &word[digits.len()..] {
        "us" => 1_000,
        "ms" => MILLISECOND,
        "s" => SECOND,
        _ => return Err(wrong()),
    };
    match number.checked_mul(unit) {
        Some(every) if (10_000..=DELAY_MAX).contains(&every) => Ok(every),
        _ => Err(format!("a period of {word}; take 10us to 3600s")),
    }
}

fn delay(word: &str) -> Result<u64, String> {
    let wrong = || format!("'{word}' is no delay; write milliseconds such as 12.5, or 'lost'");
    let ms: f64 = word.parse().map_err(|_| wrong())?;
    let nanos = ms * MILLISECOND as f64;
    if !(0.0..=DELAY_MAX as f64).contains(&nanos) {
        return Err(format!("a delay of {word} ms; take 0 to an hour, or write 'lost'"));
    }
    Ok(nanos as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(lines: &str) -> String {
        format!("# a link\nevery 100ms\n{}{lines}", "5.5\nlost\n".repeat(200))
    }

    #[test]
    fn a_file_is_read_and_written_alike() {
        let trace = Trace::parse("a link", &file("7 # late\n")).expect("a trace");
        assert_eq!(trace.every, 100 * MILLISECOND);
        assert_eq!(trace.delays[..2], [Some(5_500_000), None]);
        assert_eq!(trace.delays.last(), Some(&Some(7_000_000)));
        assert_eq!(Trace::parse("a link", &trace.render()), Ok(trace.clone()));
        assert!((trace.link().loss - 200.0 / 401.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let error = |text: &str| Trace::parse("x", text).expect_err("wrong").to_string();
        assert!(error(&file("fast\n")).starts_with("line 403: 'fast' is no delay; write"));
        assert!(error(&file("-1\n")).starts_with("line 403: a delay of -1 ms"));
        assert!(error(&file("NaN\n")).starts_with("line 403: a delay of NaN"));
        assert!(error(&file("1e99\n")).starts_with("line 403: a delay of 1e99"));
        assert!(error("12\n").starts_with("line 1: '12' is no period; begin with"));
        assert!(error("every 0ms\n").starts_with("line 1: a period of 0ms"));
        assert!(error("every 99999999999999999999s\n").contains("no period"));
        assert!(error("# nothing\n").starts_with("it is empty"));
        assert!(error("every 1s\n1\n").starts_with("1 messages are too few"));
        assert!(error(&format!("every 1s\n{}", "lost\n".repeat(500))).contains("every message"));
    }
}
