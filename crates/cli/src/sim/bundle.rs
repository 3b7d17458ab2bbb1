//! A run, as files and as a story: a counter-example, or one that somebody wants to look at.
//!
//! The directory is named by what is run, the seed, and a digest of the plan, the workload and the
//! build: two runs that differ have two directories, and the same one again has the same.
//!
//! | file | for |
//! |---|---|
//! | `story.txt` | reading |
//! | `page.html` | a browser |
//! | `trace.ndjson` | programs |
//! | `shiviz.log` | ShiViz |
//! | `choices.json` | `quorate sim --replay`: the same run again, with this build |

use quorate_drivers::simulate::replay::{REPLAY_VERSION, Replay, streams};
use quorate_drivers::simulate::show::{self, Colour};
use quorate_drivers::simulate::terms::Terms;
use quorate_drivers::simulate::trace::Trace;
use quorate_drivers::simulate::{
    Choice, Keep, Origin, Plan, Subject, Tally, Violation, hash_of_text,
};
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

/// What came of a run, with all its steps.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) trace: Trace,
    pub(super) log: Vec<Choice>,
    pub(super) tally: Tally,
    pub(super) violation: Option<Violation>,
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

/// The directory of a run.
pub(super) fn directory(out: &Path, named: &Named, plan: &Plan) -> PathBuf {
    let Named { protocol, workload, mutant, seed } = named;
    let said = (Terms::from(plan), workload, env!("CARGO_PKG_VERSION"));
    let digest = hash_of_text(&said) as u32;
    match mutant {
        None => out.join(format!("{protocol}-{seed}-{digest:08x}")),
        Some(mutant) => out.join(format!("{protocol}-{mutant}-{seed}-{digest:08x}")),
    }
}

/// Looks whether directories can be made in `out`, and leaves nothing behind.
///
/// Before a campaign, so that nobody learns after an hour that its story has no place to go.
pub(super) fn probe(out: &Path) -> Result<(), WriteError> {
    let failed = |error| WriteError { path: out.to_owned(), error };
    let made: Vec<&Path> = out.ancestors().take_while(|path| !is_there(path)).collect();
    let name = format!(".quorate-{}", std::process::id());
    // Another process may be at the same, and take away what this one has just made.
    let mut tried = Ok(());
    for _ in 0..8 {
        tried = fs::create_dir_all(out).and_then(|()| fs::create_dir(out.join(&name)));
        match &tried {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            _ => break,
        }
    }
    let gone = tried.and_then(|()| fs::remove_dir(out.join(&name)));
    for path in made {
        // Somebody else may have put something there.
        let _ = fs::remove_dir(path);
    }
    gone.map_err(failed)
}

fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.symlink_metadata().is_ok()
}

/// A run with its trace and its choices.
pub(super) fn trace(
    subject: &dyn Subject,
    plan: &Plan,
    origin: Origin<'_>,
    named: &Named,
    replay: String,
) -> Told {
    let mut outcome = subject.run(plan, origin, Keep::Trace);
    let log = outcome.log.take().expect("choices were kept").entries;
    let (tally, violation) = (outcome.tally.clone(), outcome.violation.clone());
    let trace = outcome.into_trace(&named.protocol, plan, named.seed, replay);
    let mut trace = trace.expect("steps were kept");
    trace.head.mutant.clone_from(&named.mutant);
    Told { trace, log, tally, violation }
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

#[cfg(test)]
mod tests {
    use super::*;
    use quorate_core::SystemModel;

    #[test]
    fn two_runs_that_differ_have_two_directories() {
        let (protocol, workload) = ("service".to_owned(), "mixed".to_owned());
        let named = Named { protocol, workload, mutant: None, seed: 7 };
        let plan = Plan::of(SystemModel::DATA_CENTRE);
        let of = |named: &Named, plan: &Plan| directory(Path::new("out"), named, plan);
        let first = of(&named, &plan);
        assert_eq!(first, of(&named.clone(), &plan.clone()));
        assert!(first.to_string_lossy().starts_with("out/service-7-"), "{first:?}");
        let others = [
            of(&named, &plan.clone().with_nodes(5)),
            of(&named, &plan.clone().calm()),
            of(&named, &Plan::of("timing=asynchronous".parse().expect("a model"))),
            of(&Named { workload: "kv".to_owned(), ..named.clone() }, &plan),
            of(&Named { seed: 8, ..named.clone() }, &plan),
        ];
        for (at, other) in others.iter().enumerate() {
            assert!(*other != first && !others[..at].contains(other), "{other:?}");
        }
    }

    #[test]
    fn a_probe_leaves_nothing_behind_and_says_what_hinders() {
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("a/b/c");
        assert!(probe(&out).is_ok());
        assert!(!folder.path().join("a").exists());
        fs::create_dir(folder.path().join("a")).expect("a directory");
        assert!(probe(&out).is_ok());
        assert!(folder.path().join("a").exists() && !folder.path().join("a/b").exists());
        fs::write(folder.path().join("a/b"), "a file").expect("it can be written");
        let error = probe(&out).expect_err("a file is in the way").to_string();
        assert!(error.contains("a/b/c") && error.contains("--out"), "{error}");
    }
}
