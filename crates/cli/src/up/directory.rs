//! The directory of a local cluster: found again, locked, and deleted only if it is ours.
//!
//! ```text
//! DIR/cluster.json   the plan            DIR/n1/      what member n1 remembers
//! DIR/lock           held while we run   DIR/n1.log   what it says (n1.log.1: before that)
//! DIR/pki/           certificates, with --tls (security.rs)
//! ```

use crate::up::error::UpError;
use crate::up::plan::{NODES_DEFAULT, NODES_MAX, PORT_BASE_DEFAULT, Plan, Transport};
use crate::up::security::{self, Security};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

const PLAN_FILE: &str = "cluster.json";
const PLAN_FILE_NEW: &str = "cluster.json.new";
const LOCK_FILE: &str = "lock";

/// A log larger than this is set aside when its member starts; one older log is kept.
const LOG_BYTES_MAX: u64 = 64 << 20;

/// What the command line says about the cluster.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Wanted {
    /// Number of members.
    pub(super) nodes: Option<u16>,
    /// First client port.
    pub(super) port_base: Option<u16>,
    /// How bytes travel; as before, if nothing is said.
    pub(super) transport: Option<Transport>,
    /// Whether what is there goes first.
    pub(super) start: Start,
}

/// Whether to continue.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) enum Start {
    /// With the data that is there.
    #[default]
    Continue,
    /// With nothing.
    Fresh,
}

/// A directory that this process alone uses.
#[derive(Debug)]
pub(super) struct Directory {
    /// Where it is; absolute, since members need not share our working directory.
    pub(super) path: PathBuf,
    /// The cluster that lives in it.
    pub(super) plan: Plan,
    /// True if the plan was there before.
    pub(super) continued: bool,
    /// Dropping it unlocks.
    _lock: File,
}

impl Directory {
    /// Finds or makes the cluster in `path`.
    ///
    /// Errors: the directory is in use, belongs to something else, contradicts `wanted`, or cannot
    /// be written.
    pub(super) fn open(path: &Path, wanted: Wanted) -> Result<Directory, UpError> {
        let path = std::path::absolute(path).map_err(|error| unwritable(path, error))?;
        fs::create_dir_all(&path).map_err(|error| unwritable(&path, error))?;
        if let Some(entry) = foreign_entry(&path)? {
            return Err(UpError::NotOurs { path, entry });
        }
        let lock = lock(&path)?;
        if wanted.start == Start::Fresh {
            clear(&path)?;
        }
        let known = read_plan(&path)?;
        let continued = known.is_some();
        let plan = match known {
            Some(plan) => agree(plan, wanted, &path)?,
            None => new_plan(&path, wanted)?,
        };
        if plan.transport == Transport::Tls {
            let names: Vec<String> = plan.members().into_iter().map(|member| member.name).collect();
            Security::of(&path).prepare(&names)?;
        }
        Ok(Directory { path, plan, continued, _lock: lock })
    }

    /// The certificates, if it is served over TLS.
    pub(super) fn security(&self) -> Option<Security> {
        (self.plan.transport == Transport::Tls).then(|| Security::of(&self.path))
    }

    /// The log of a member.
    pub(super) fn log_path(&self, member: &str) -> PathBuf {
        self.path.join(format!("{member}.log"))
    }

    /// Opens the log of a member for appending, after setting a large one aside.
    pub(super) fn open_log(&self, member: &str) -> Result<File, UpError> {
        let path = self.log_path(member);
        let large = fs::metadata(&path).is_ok_and(|data| data.len() > LOG_BYTES_MAX);
        if large {
            let aside = self.path.join(format!("{member}.log.1"));
            fs::rename(&path, aside).map_err(|error| unwritable(&path, error))?;
        }
        let log = OpenOptions::new().create(true).append(true).open(&path);
        log.map_err(|error| unwritable(&path, error))
    }
}

/// An entry that `up` does not make, if there is one.
///
/// A directory with such an entry is neither used nor deleted: it may be somebody's home.
fn foreign_entry(path: &Path) -> Result<Option<String>, UpError> {
    for entry in fs::read_dir(path).map_err(|error| unwritable(path, error))? {
        let entry = entry.map_err(|error| unwritable(path, error))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_ours(&name) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}

fn is_ours(name: &str) -> bool {
    let member = name.strip_suffix(".log.1").or_else(|| name.strip_suffix(".log")).unwrap_or(name);
    let number = member.strip_prefix('n').and_then(|digits| digits.parse::<u16>().ok());
    [PLAN_FILE, PLAN_FILE_NEW, LOCK_FILE, security::DIR].contains(&name)
        || number.is_some_and(|number| (1..=NODES_MAX).contains(&number))
}

fn lock(path: &Path) -> Result<File, UpError> {
    let file = path.join(LOCK_FILE);
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    let lock = lock.map_err(|error| unwritable(&file, error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(UpError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => Err(unwritable(&file, error)),
    }
}

/// Deletes everything but the lock that we hold.
fn clear(path: &Path) -> Result<(), UpError> {
    // The plan goes last: a directory half cleared is still recognised, and cleared again.
    let mut entries: Vec<_> = fs::read_dir(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unwritable(path, error))?;
    entries.sort_by_key(|entry| entry.file_name() == PLAN_FILE);
    for entry in entries {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !is_ours(&name) {
            return Err(UpError::NotOurs { path: path.to_owned(), entry: name });
        }
        if name == LOCK_FILE {
            continue;
        }
        let at = entry.path();
        let kind = entry.file_type().map_err(|error| unwritable(&at, error))?;
        let removed = if kind.is_dir() { fs::remove_dir_all(&at) } else { fs::remove_file(&at) };
        removed.map_err(|error| unwritable(&at, error))?;
    }
    Ok(())
}

fn read_plan(path: &Path) -> Result<Option<Plan>, UpError> {
    let file = path.join(PLAN_FILE);
    let text = match fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(unwritable(&file, error)),
    };
    let damaged = |reason: String| UpError::DamagedPlan { path: file.clone(), reason };
    let plan: Plan = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    if plan.format != Plan::FORMAT {
        return Err(damaged(format!(
            "its format is \"{}\", not \"{}\"",
            plan.format,
            Plan::FORMAT
        )));
    }
    if !(1..=NODES_MAX).contains(&plan.nodes) || !plan.fits() {
        return Err(damaged("its members or ports are out of range".to_owned()));
    }
    Ok(Some(plan))
}

/// The remembered plan, unless the command line asks for another one.
fn agree(mut plan: Plan, wanted: Wanted, path: &Path) -> Result<Plan, UpError> {
    let pairs =
        [("--nodes", plan.nodes, wanted.nodes), ("--port-base", plan.port_base, wanted.port_base)];
    for (flag, known, wanted) in pairs {
        if wanted.is_some_and(|wanted| wanted != known) {
            return Err(UpError::Conflict { path: path.to_owned(), flag, known });
        }
    }
    // How a member is reached is no part of who it is, so data of either kind goes on.
    if let Some(transport) = wanted.transport.filter(|transport| *transport != plan.transport) {
        plan.transport = transport;
        write_plan(path, &plan)?;
    }
    Ok(plan)
}

fn new_plan(path: &Path, wanted: Wanted) -> Result<Plan, UpError> {
    let plan = Plan {
        format: Plan::FORMAT.to_owned(),
        nodes: wanted.nodes.unwrap_or(NODES_DEFAULT),
        port_base: wanted.port_base.unwrap_or(PORT_BASE_DEFAULT),
        token: new_token(),
        transport: wanted.transport.unwrap_or_default(),
    };
    if !plan.fits() {
        return Err(UpError::PortsOutOfRange { nodes: plan.nodes, port_base: plan.port_base });
    }
    write_plan(path, &plan)?;
    Ok(plan)
}

fn write_plan(path: &Path, plan: &Plan) -> Result<(), UpError> {
    let (new, file) = (path.join(PLAN_FILE_NEW), path.join(PLAN_FILE));
    let text = serde_json::to_string_pretty(plan).expect("a plan of numbers and text");
    let write = || {
        let mut out = File::create(&new)?;
        writeln!(out, "{text}")?;
        out.sync_all()?;
        fs::rename(&new, &file)?;
        File::open(path)?.sync_all()
    };
    write().map_err(|error| unwritable(&file, error))
}

/// Two clusters made at different moments never mix, even on the same ports.
fn new_token() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    format!("quorate-up-{:x}-{:x}", since.unwrap_or_default().as_nanos(), std::process::id())
}

fn unwritable(path: &Path, error: std::io::Error) -> UpError {
    UpError::Unwritable { path: path.to_owned(), error }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nodes(nodes: u16) -> Wanted {
        Wanted { nodes: Some(nodes), ..Wanted::default() }
    }

    #[test]
    fn a_cluster_is_found_again() {
        let root = tempfile::tempdir().expect("a directory");
        let path = root.path().join("a/b");
        let first = Directory::open(&path, nodes(1)).expect("made");
        assert!(!first.continued);
        let plan = first.plan.clone();
        drop(first);
        let second = Directory::open(&path, Wanted::default()).expect("found");
        assert!(second.continued);
        assert_eq!(second.plan, plan);
    }

    #[test]
    fn it_is_used_by_one_process_at_a_time() {
        let root = tempfile::tempdir().expect("a directory");
        let held = Directory::open(root.path(), Wanted::default()).expect("made");
        let error = Directory::open(root.path(), Wanted::default()).expect_err("held");
        assert!(matches!(error, UpError::InUse { .. }), "{error}");
        let fresh = Wanted { start: Start::Fresh, ..Wanted::default() };
        let error = Directory::open(root.path(), fresh).expect_err("not even to delete it");
        assert!(matches!(error, UpError::InUse { .. }), "{error}");
        drop(held);
        Directory::open(root.path(), Wanted::default()).expect("released");
    }

    #[test]
    fn another_number_of_members_or_port_is_a_conflict() {
        let root = tempfile::tempdir().expect("a directory");
        drop(Directory::open(root.path(), nodes(3)).expect("made"));
        drop(Directory::open(root.path(), nodes(3)).expect("the same"));
        let error = Directory::open(root.path(), nodes(5)).expect_err("five");
        let text = error.to_string();
        assert!(
            text.contains("--nodes") && text.contains('3') && text.contains("--fresh"),
            "{text}"
        );
        let port = Wanted { port_base: Some(1_000), ..Wanted::default() };
        let error = Directory::open(root.path(), port).expect_err("another port");
        assert!(error.to_string().contains("--port-base"), "{error}");
    }

    #[test]
    fn fresh_deletes_what_is_ours_and_only_that() {
        let root = tempfile::tempdir().expect("a directory");
        drop(Directory::open(root.path(), nodes(3)).expect("made"));
        fs::create_dir(root.path().join("n1")).expect("data");
        fs::write(root.path().join("n1/wal"), "x").expect("data");
        let fresh = Wanted { nodes: Some(5), start: Start::Fresh, ..Wanted::default() };
        let directory = Directory::open(root.path(), fresh).expect("cleared");
        assert_eq!((directory.plan.nodes, directory.continued), (5, false));
        assert!(!root.path().join("n1").exists());
        drop(directory);

        fs::write(root.path().join("thesis.tex"), "years of work").expect("a file");
        let error = Directory::open(root.path(), fresh).expect_err("not ours");
        assert!(error.to_string().contains("thesis.tex"), "{error}");
        assert!(root.path().join("thesis.tex").exists());
        assert!(root.path().join(PLAN_FILE).exists(), "nothing was deleted");
    }

    #[test]
    fn only_names_that_up_makes_are_ours() {
        for name in ["cluster.json", "lock", "pki", "n1", "n9", "n3.log", "n3.log.1"] {
            assert!(is_ours(name), "{name}");
        }
        for name in ["n", "n0", "n10", "n1.txt", "notes", "n1x", ".git", "N1"] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn a_damaged_or_foreign_plan_is_refused() {
        for text in
            ["{", "{}", "{\"format\":\"other 7\",\"nodes\":3,\"port_base\":1,\"token\":\"\"}"]
        {
            let root = tempfile::tempdir().expect("a directory");
            fs::write(root.path().join(PLAN_FILE), text).expect("a plan");
            let error = Directory::open(root.path(), Wanted::default()).expect_err(text);
            assert!(matches!(error, UpError::DamagedPlan { .. }), "{error}");
        }
    }
}
