//! Imports point down only, async lives behind the door, and the shelf and what runs it do not know
//! each other's names.
//!
//! ```text
//! cli -> sim -> server -> replica -> protocols -> core
//!                   \---> drivers -> storage, check -> core
//! ```

use super::source::words;
use super::{Offence, Tree};

/// What one crate may depend on.
struct Layer {
    folder: &'static str,
    /// Crates of this workspace, below it.
    below: &'static [&'static str],
    /// The only crates of others, where those are counted.
    others: Option<&'static [&'static str]>,
}

/// All crates of the product; a new one must take its place here.
const LAYERS: &[Layer] = &[
    Layer { folder: "crates/core", below: &[], others: Some(&["bytes"]) },
    Layer { folder: "crates/check", below: &["core"], others: None },
    Layer { folder: "crates/storage", below: &["core"], others: None },
    Layer { folder: "crates/protocols", below: &["core"], others: Some(&["bytes"]) },
    Layer { folder: "crates/drivers", below: &["check", "core", "storage"], others: None },
    Layer { folder: "crates/replica", below: &["core", "protocols"], others: Some(&["bytes"]) },
    Layer {
        folder: "crates/server",
        below: &["check", "core", "drivers", "protocols", "replica", "storage"],
        others: None,
    },
    Layer {
        folder: "crates/sim",
        below: &["check", "core", "drivers", "protocols", "replica", "server", "storage"],
        others: None,
    },
    Layer {
        folder: "crates/cli",
        below: &["check", "core", "drivers", "protocols", "replica", "server", "sim", "storage"],
        others: None,
    },
];

/// Crates that bring async, sockets or TLS with them; with them, all that begin so and a `-`.
const ASYNC_CRATES: &[&str] = &[
    "async", "axum", "futures", "h2", "hyper", "mio", "rustls", "smol", "tokio", "tonic", "tower",
];

/// The one crate that may have all of those.
const DOOR: &str = "crates/server";

/// Who else may have one of them, and why.
const ASYNC_EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("crates/cli", "tokio", "ctl and bench are clients: they talk gRPC to any endpoint"),
    ("crates/cli", "tonic", "ctl and bench are clients: they talk gRPC to any endpoint"),
    ("crates/cli", "rustls", "who ships a backup to an object store names its provider of TLS"),
    ("crates/cli", "futures-util", "segments of a backup are fetched ahead"),
];

/// Files of protocols that are no protocol themselves.
const NO_PROTOCOL: &[&str] = &["mod"];

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) {
    for (path, text) in tree.files() {
        let Some(folder) = path.strip_suffix("/Cargo.toml") else { continue };
        if folder.starts_with("crates/") {
            check_manifest(folder, path, text, offences);
        }
    }
    check_names(tree, offences);
}

/// One dependency of a manifest.
struct Dependency<'a> {
    name: &'a str,
    line: usize,
    is_for_tests: bool,
}

fn dependencies(manifest: &str) -> Vec<Dependency<'_>> {
    let mut section = "";
    let mut found = Vec::new();
    for (at, line) in manifest.lines().enumerate() {
        let line_text = line.trim();
        if let Some(header) = line_text.strip_prefix('[') {
            section = header.trim_end_matches(']');
        }
        let is_for_tests = section.contains("dev-dependencies");
        let name = match section.rsplit_once("dependencies.") {
            Some((_, name)) if line_text.starts_with('[') => name,
            None if section.ends_with("dependencies") && line_text.contains('=') => {
                line_text.split(['.', ' ', '=']).next().unwrap_or_default()
            }
            _ => continue,
        };
        if !name.is_empty() && !name.starts_with('#') {
            found.push(Dependency { name, line: at + 1, is_for_tests });
        }
    }
    found
}

fn check_manifest(folder: &str, path: &str, manifest: &str, offences: &mut Vec<Offence>) {
    let Some(layer) = LAYERS.iter().find(|layer| layer.folder == folder) else {
        let advice = "a new crate: give it its place in LAYERS of xtask/src/tidy/layers.rs";
        return offences.push(Offence::new(path, 1, "imports", advice));
    };
    for Dependency { name, line, is_for_tests } in dependencies(manifest) {
        let mut report = |advice: String| {
            offences.push(Offence::new(path, line, "imports", advice));
        };
        let is_excused = ASYNC_EXCEPTIONS
            .iter()
            .any(|(at, what, why)| (*at, *what) == (folder, name) && !why.is_empty());
        match name.strip_prefix("quorate-") {
            _ if folder != DOOR && is_async(name) && !is_excused => {
                report(format!("'{name}' may be used in {DOOR} only; move what needs it there"));
            }
            _ if is_for_tests => {}
            Some(ours) if !layer.below.contains(&ours) => {
                report(format!("'{ours}' is not below {folder}; move the code or the dependency"));
            }
            None if layer.others.is_some_and(|others| !others.contains(&name)) => {
                report(format!("{folder} uses no crate '{name}'; a new one needs an ADR"));
            }
            _ => {}
        }
    }
}

fn is_async(name: &str) -> bool {
    ASYNC_CRATES.iter().any(|family| {
        let rest = name.strip_prefix(family);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
    })
}

/// Drivers name no protocol; protocols and the replica name no driver and no storage.
fn check_names(tree: &Tree, offences: &mut Vec<Offence>) {
    let protocols = protocols(tree);
    for (path, source) in tree.sources() {
        for (number, line) in tree.product_lines(path, source) {
            for word in words(line) {
                if let Some(advice) = bad_name(path, word, &protocols) {
                    offences.push(Offence::new(path, number, "names", advice));
                }
            }
        }
    }
}

fn bad_name(path: &str, word: &str, protocols: &[&str]) -> Option<String> {
    let lower = word.to_lowercase();
    if path.starts_with("crates/drivers/src/") && protocols.contains(&lower.as_str()) {
        return Some(format!("a driver is generic over Protocol and never names '{word}'"));
    }
    let layer = LAYERS.iter().find(|layer| {
        path.strip_prefix(layer.folder).is_some_and(|rest| rest.starts_with("/src/"))
    })?;
    let ours = word.strip_prefix("quorate_")?;
    let is_known = LAYERS.iter().any(|layer| layer.folder.strip_prefix("crates/") == Some(ours));
    (is_known && !layer.below.contains(&ours) && !layer.folder.ends_with(ours))
        .then(|| format!("'{ours}' is not below {}; imports point down", layer.folder))
}

/// The protocols of the shelf: every file or folder on the second level that is no test.
pub(super) fn protocols(tree: &Tree) -> Vec<&str> {
    let sources = tree.sources().filter(|(path, _)| !tree.is_test_file(path));
    let below = sources.filter_map(|(path, _)| path.strip_prefix("crates/protocols/src/"));
    let mut names: Vec<&str> = below
        .filter_map(|path| path.split('/').nth(1))
        .map(|name| name.trim_end_matches(".rs"))
        .filter(|name| !NO_PROTOCOL.contains(name))
        .collect();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use super::super::tree::planted;
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let mut offences = Vec::new();
        check(&planted(files), &mut offences);
        offences.iter().map(Offence::to_string).collect()
    }

    #[test]
    fn an_import_that_points_up_is_found() {
        let manifest = "[package]\nname = \"x\"\n[dependencies]\nquorate-server.workspace = true\n";
        let found = found(&[("crates/core/Cargo.toml", manifest)]);
        assert_eq!(
            found,
            ["crates/core/Cargo.toml:4: imports: 'server' is not below crates/core; \
                 move the code or the dependency"]
        );
    }

    #[test]
    fn tests_may_reach_up_but_not_to_async() {
        let manifest = "[dev-dependencies]\nquorate-drivers.workspace = true\ntokio = \"1\"\n";
        let found = found(&[("crates/protocols/Cargo.toml", manifest)]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains(":3: imports: 'tokio' may be used in crates/server only"));
    }

    #[test]
    fn a_table_of_its_own_is_a_dependency_too() {
        let manifest = "[dependencies.tokio-util]\nversion = \"1\"\n[dependencies]\nrand = \"1\"\n";
        let found = found(&[("crates/replica/Cargo.toml", manifest)]);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!(found[0].contains(":1: imports: 'tokio-util'"));
        assert!(found[1].contains(":4: imports: crates/replica uses no crate 'rand'"));
    }

    #[test]
    fn a_crate_without_a_place_is_found() {
        assert_eq!(found(&[("crates/extra/Cargo.toml", "[package]\n")]).len(), 1);
        assert_eq!(
            found(&[("crates/server/Cargo.toml", "[dependencies]\ntokio = \"1\"\n")]).len(),
            0
        );
    }

    #[test]
    fn a_driver_that_names_a_protocol_is_found() {
        let found = found(&[
            ("crates/protocols/src/consensus/raft/mod.rs", "//! Raft.\n"),
            ("crates/protocols/src/consensus/mod.rs", "//! Shelf.\n"),
            (
                "crates/drivers/src/live.rs",
                "//! Raft in an essay is fine.\nuse x::Raft;\n\
                 #[cfg(test)]\nmod t { use x::Raft; }\n",
            ),
        ]);
        assert_eq!(
            found,
            ["crates/drivers/src/live.rs:2: names: a driver is generic over Protocol and never \
                 names 'Raft'"]
        );
    }

    #[test]
    fn a_protocol_that_names_a_driver_is_found() {
        let text = "use quorate_drivers::live;\nuse quorate_core::Time;\n";
        let found = found(&[("crates/protocols/src/mutex/lease.rs", text)]);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("lease.rs:1: names: 'drivers' is not below crates/protocols"));
    }
}
