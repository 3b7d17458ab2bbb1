//! The text of the repository, as the rules read it.

use super::source::Source;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

/// Folders that hold nothing of ours.
const SKIPPED: &[&str] = &["target", ".git", "quorate-data", "node_modules"];
/// Files that are text which somebody wrote.
const EXTENSIONS: &[&str] =
    &["rs", "md", "toml", "txt", "yml", "yaml", "proto", "html", "js", "css"];

/// All files that people write, by path with `/` between its parts.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    files: BTreeMap<String, String>,
    sources: BTreeMap<String, Source>,
    test_files: BTreeSet<String>,
}

impl Tree {
    /// Reads the repository at `root`.
    pub(crate) fn load(root: &Path) -> io::Result<Tree> {
        let mut files = BTreeMap::new();
        read_folder(root, "", &mut files)?;
        Ok(Tree::of(files))
    }

    /// A tree of these files.
    pub(super) fn of(files: BTreeMap<String, String>) -> Tree {
        let rust = files.iter().filter(|(path, _)| path.ends_with(".rs"));
        let sources: BTreeMap<String, Source> =
            rust.map(|(path, text)| (path.clone(), Source::read(text))).collect();
        let declared = sources.iter().flat_map(|(path, source)| {
            source.test_modules.iter().flat_map(move |name| module_paths(path, name))
        });
        let test_files = declared.collect();
        Tree { files, sources, test_files }
    }

    pub(super) fn files(&self) -> impl Iterator<Item = (&str, &str)> {
        self.files.iter().map(|(path, text)| (path.as_str(), text.as_str()))
    }

    pub(super) fn file(&self, path: &str) -> Option<&str> {
        self.files.get(path).map(String::as_str)
    }

    /// True if a file or a folder lies at `path`.
    pub(super) fn holds(&self, path: &str) -> bool {
        let folder = format!("{path}/");
        path.is_empty()
            || self.files.contains_key(path)
            || self
                .files
                .range(folder.clone()..)
                .next()
                .is_some_and(|(at, _)| at.starts_with(&folder))
    }

    /// Every Rust file.
    pub(super) fn sources(&self) -> impl Iterator<Item = (&str, &Source)> {
        self.sources.iter().map(|(path, source)| (path.as_str(), source))
    }

    /// True if the whole file is compiled for tests (or examples and measurements) only.
    pub(super) fn is_test_file(&self, path: &str) -> bool {
        let is_beside_src = |folder: &&str| ["tests", "benches", "examples"].contains(folder);
        let folders: Vec<&str> = path.split('/').collect();
        let package_folder = if folders[0] == "crates" { folders.get(2) } else { folders.get(1) };
        package_folder.is_some_and(is_beside_src)
            || self.test_files.iter().any(|test| {
                path == test
                    || path
                        .strip_prefix(test.trim_end_matches(".rs"))
                        .is_some_and(|rest| rest.starts_with('/'))
            })
    }

    /// The lines of code of a file that are compiled into the product, with their numbers.
    /// Comments, strings and tests are blank.
    pub(super) fn product_lines<'a>(
        &'a self,
        path: &str,
        source: &'a Source,
    ) -> impl Iterator<Item = (usize, &'a str)> {
        let is_test_file = self.is_test_file(path);
        source
            .code
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line))
            .filter(move |(number, _)| !is_test_file && !source.is_test_line(*number))
    }
}

/// Where `mod name;` in the file at `path` may lie.
fn module_paths(path: &str, name: &str) -> [String; 2] {
    let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
    let stem = file.trim_end_matches(".rs");
    let folder = match stem {
        "mod" | "lib" | "main" => folder.to_owned(),
        stem => format!("{folder}/{stem}"),
    };
    [format!("{folder}/{name}.rs"), format!("{folder}/{name}/mod.rs")]
}

fn read_folder(
    folder: &Path,
    prefix: &str,
    files: &mut BTreeMap<String, String>,
) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() && !SKIPPED.contains(&name.as_str()) {
            read_folder(&entry.path(), &format!("{path}/"), files)?;
        }
        let extension = Path::new(&name).extension().and_then(|extension| extension.to_str());
        let is_text = extension.is_some_and(|extension| EXTENSIONS.contains(&extension));
        if kind.is_file() && (is_text || name == "LICENSE") {
            files.insert(path, std::fs::read_to_string(entry.path())?);
        }
    }
    Ok(())
}

/// A tree for tests, from paths and texts.
#[cfg(test)]
pub(super) fn planted(files: &[(&str, &str)]) -> Tree {
    Tree::of(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_for_tests_is_a_test_file_wherever_it_lies() {
        let tree = planted(&[
            ("crates/a/src/lib.rs", "#[cfg(test)]\nmod tests;\nmod real;\n"),
            ("crates/a/src/tests.rs", "fn t() {}\n"),
            ("crates/a/src/tests/deep.rs", "fn t() {}\n"),
            ("crates/a/src/real.rs", "#[cfg(test)]\nmod tests;\nfn r() {}\n"),
            ("crates/a/src/real/tests.rs", "fn t() {}\n"),
            ("crates/a/tests/story.rs", "fn t() {}\n"),
        ]);
        let tests: Vec<&str> =
            tree.sources().map(|(path, _)| path).filter(|path| tree.is_test_file(path)).collect();
        assert_eq!(
            tests,
            [
                "crates/a/src/real/tests.rs",
                "crates/a/src/tests.rs",
                "crates/a/src/tests/deep.rs",
                "crates/a/tests/story.rs"
            ]
        );
        assert!(tree.holds("crates/a/src"));
        assert!(!tree.holds("crates/a/s"));
    }
}
