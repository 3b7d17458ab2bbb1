//! A counter-example, as files and as a story.
//!
//! | file | for |
//! |---|---|
//! | `story.txt` | reading |
//! | `page.html` | a browser |
//! | `trace.ndjson` | programs |
//! | `shiviz.log` | ShiViz |
//! | `choices.json` | `quorate sim --replay`: the same run again, with this build |

use quorate_drivers::simulate::campaign::Terms;
use quorate_drivers::simulate::replay::{REPLAY_VERSION, Replay, streams};
use quorate_drivers::simulate::show::{self, Colour};
use quorate_drivers::simulate::trace::Trace;
use quorate_drivers::simulate::{Choice, Keep, Origin, Plan, Subject};
use std::fs;
use std::io::{self, BufWriter, Write as _};
use std::path::{Path, PathBuf};

/// What is run, as files name it.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) protocol: String,
    pub(super) workload: String,
    pub(super) mutant: Option<String>,
    pub(super) seed: u64,
}

/// A file that could not be written.
#[derive(Debug)]
pub(super) struct WriteError {
    path: PathBuf,
    error: io::Error,
}

impl std::fmt::Display for WriteError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "cannot write {}: {}; name another directory with --out",
            self.path.display(),
            self.error
        )
    }
}

/// The directory of a counter-example.
pub(super) fn directory(out: &Path, named: &Named) -> PathBuf {
    let Named { protocol, mutant, seed, .. } = named;
    match mutant {
        None => out.join(format!("{protocol}-{seed}")),
        Some(mutant) => out.join(format!("{protocol}-{mutant}-{seed}")),
    }
}

/// The trace of a run, and its choices.
pub(super) fn trace(
    subject: &dyn Subject,
    plan: &Plan,
    origin: Origin<'_>,
    named: &Named,
    replay: String,
) -> (Trace, Vec<Choice>) {
    let mut outcome = subject.run(plan, origin, Keep::Trace);
    let log = outcome.log.take().expect("choices were kept").entries;
    let trace = outcome.into_trace(&named.protocol, plan, named.seed, replay);
    let mut trace = trace.expect("steps were kept");
    trace.head.mutant.clone_from(&named.mutant);
    (trace, log)
}

/// The story as text.
pub(super) fn story(trace: &Trace, colour: Colour) -> String {
    let mut text = Vec::new();
    show::text(trace, colour, &mut text).expect("memory takes all that is written");
    String::from_utf8_lossy(&text).into_owned()
}

/// Writes all files.
pub(super) fn write(
    at: &Path,
    trace: &Trace,
    named: &Named,
    plan: &Plan,
    log: &[Choice],
) -> Result<(), WriteError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |error| WriteError { path, error }
    };
    fs::create_dir_all(at).map_err(failed(at))?;
    let file = |name: &str, fill: &dyn Fn(&mut BufWriter<fs::File>) -> io::Result<()>| {
        let path = at.join(name);
        let written = fs::File::create(&path).and_then(|file| {
            let mut out = BufWriter::new(file);
            fill(&mut out)?;
            out.flush()
        });
        written.map_err(failed(&path))
    };
    file("story.txt", &|out| show::text(trace, Colour::Plain, out))?;
    file("page.html", &|out| show::page(trace, out))?;
    file("trace.ndjson", &|out| trace.write(out))?;
    file("shiviz.log", &|out| show::shiviz(trace, out))?;
    let replay = Replay {
        quorate_replay: REPLAY_VERSION,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: named.protocol.clone(),
        workload: named.workload.clone(),
        mutant: named.mutant.clone(),
        seed: named.seed,
        plan: Terms::from(plan),
        property: trace.head.property.clone().unwrap_or_default(),
        digest: trace.head.digest.clone(),
        sites: streams(log),
    };
    file("choices.json", &|out| {
        serde_json::to_writer(&mut *out, &replay)?;
        out.write_all(b"\n")
    })
}
