//! Documents have one title, links that lead somewhere, and every decision and protocol is listed.

use super::{Offence, Tree, layers};

/// Where decisions are recorded, and where they are listed.
const DECISIONS: &str = "docs/adr/";
const DECISION_LIST: &str = "docs/adr/README.md";
/// The table of contents of all protocols.
const CONTENTS: &str = "crates/protocols/src/lib.rs";

pub(super) fn check(tree: &Tree, offences: &mut Vec<Offence>) {
    for (path, text) in tree.files().filter(|(path, _)| path.ends_with(".md")) {
        check_title(path, text, offences);
        check_links(tree, path, text, offences);
    }
    check_decisions(tree, offences);
    check_contents(tree, offences);
}

/// Lines outside fenced blocks, with their numbers.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut is_fenced = false;
    text.lines().enumerate().filter_map(move |(at, line)| {
        let is_fence = line.trim_start().starts_with("```");
        is_fenced ^= is_fence;
        (!is_fenced && !is_fence).then_some((at + 1, line))
    })
}

fn check_title(path: &str, text: &str, offences: &mut Vec<Offence>) {
    let titles: Vec<usize> =
        prose(text).filter(|(_, line)| line.starts_with("# ")).map(|(number, _)| number).collect();
    match titles.as_slice() {
        [_] => {}
        [] => offences.push(Offence::new(path, 1, "title", "give it one title: '# ...'")),
        [_, second, ..] => {
            offences.push(Offence::new(path, *second, "title", "one title only; use '## ...'"));
        }
    }
}

fn check_links(tree: &Tree, path: &str, text: &str, offences: &mut Vec<Offence>) {
    for (number, line) in prose(text) {
        for part in line.split("](").skip(1) {
            let target = part.split([')', '#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains(':') {
                continue; // inside this page, or on the web
            }
            if !tree.holds(&resolve(path, target)) && !is_known_elsewhere(target) {
                let advice = format!("nothing lies at '{target}'; links are relative to the file");
                offences.push(Offence::new(path, number, "links", advice));
            }
        }
    }
}

/// Files that exist but are not read by these rules.
fn is_known_elsewhere(target: &str) -> bool {
    target.ends_with(".ci/run") || target.ends_with(".png") || target.ends_with(".svg")
}

/// The path in the repository of a link in the file at `path`.
fn resolve(path: &str, target: &str) -> String {
    let mut parts: Vec<&str> = path.split('/').collect();
    parts.pop();
    for part in target.trim_end_matches('/').split('/') {
        match part {
            "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

fn check_decisions(tree: &Tree, offences: &mut Vec<Offence>) {
    let list = tree.file(DECISION_LIST).unwrap_or_default();
    let mut numbers: Vec<&str> = Vec::new();
    for (path, text) in tree.files() {
        let Some(name) = path.strip_prefix(DECISIONS).filter(|name| *name != "README.md") else {
            continue;
        };
        let number = name.split('-').next().unwrap_or_default();
        let mut report = |advice: &str| offences.push(Offence::new(path, 1, "decisions", advice));
        if number.len() != 4 || !number.chars().all(|digit| digit.is_ascii_digit()) {
            report("name it NNNN-what-was-decided.md");
        } else if numbers.contains(&number) {
            report("another decision has this number; take the next free one");
        } else if !text.starts_with(&format!("# {number}")) {
            report("let its title begin with its number");
        }
        if !list.contains(&format!("]({name})")) {
            report("list it in docs/adr/README.md");
        }
        for section in ["## Context", "## Decision", "## Consequences"] {
            if !text.lines().any(|line| line == section) {
                report(&format!("a decision has a section '{section}'"));
            }
        }
        numbers.push(number);
    }
}

fn check_contents(tree: &Tree, offences: &mut Vec<Offence>) {
    let contents = tree.file(CONTENTS).unwrap_or_default();
    let table: Vec<&str> = contents.lines().filter(|line| line.starts_with("//! |")).collect();
    for protocol in layers::protocols(tree) {
        let is_listed = |row: &&str| {
            let names =
                [format!("/{protocol}.rs"), format!("/{protocol}/"), format!("::{protocol}`")];
            names.iter().any(|name| row.contains(name))
        };
        if !table.iter().any(is_listed) {
            let advice = format!("add '{protocol}' to the table: problem, file, paper, model");
            offences.push(Offence::new(CONTENTS, 1, "contents", advice));
        }
    }
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
    fn a_document_has_one_title() {
        assert!(found(&[("a.md", "text\n")])[0].contains("a.md:1: title: give"));
        assert!(found(&[("a.md", "# A\n# B\n")])[0].contains("a.md:2: title: one"));
        assert_eq!(found(&[("a.md", "# A\n```\n# a comment\n```\n")]), [""; 0]);
    }

    #[test]
    fn a_link_that_leads_nowhere_is_found() {
        let page =
            "# A\n[b](b.md) [up](../LICENSE#x) [dir](sub/) [web](https://x.y/z) [here](#a)\n";
        let files = [("docs/a.md", page), ("docs/b.md", "# B\n"), ("LICENSE", "x\n")];
        let found = found(&[files[0], files[1], files[2]]);
        assert_eq!(
            found,
            ["docs/a.md:2: links: nothing lies at 'sub/'; links are relative to the file"]
        );
    }

    const DECISION: &str = "# 0001 A\n\n## Context\n\n## Decision\n\n## Consequences\n";

    #[test]
    fn decisions_are_numbered_listed_and_complete() {
        let list = ("docs/adr/README.md", "# List\n[a](0001-a.md)\n");
        assert_eq!(found(&[list, ("docs/adr/0001-a.md", DECISION)]), [""; 0]);
        let twice = [list, ("docs/adr/0001-a.md", DECISION), ("docs/adr/0001-b.md", DECISION)];
        let found_twice = found(&twice);
        assert!(found_twice.iter().any(|offence| offence.contains("another decision")));
        assert!(found_twice.iter().any(|offence| offence.contains("list it")));
        let unnamed = found(&[list, ("docs/adr/0001-a.md", DECISION), ("docs/adr/x.md", DECISION)]);
        assert!(unnamed[0].contains("name it NNNN"));
        let untitled = found(&[list, ("docs/adr/0001-a.md", "# A\n## Context\n## Decision\n")]);
        assert!(untitled[0].contains("let its title begin"), "{untitled:?}");
        assert!(untitled[1].contains("## Consequences"), "{untitled:?}");
    }

    #[test]
    fn a_protocol_that_is_not_in_the_contents_is_found() {
        let table = "//! | agree | `consensus/raft/` |\n";
        let files = [
            (CONTENTS, table),
            ("crates/protocols/src/consensus/mod.rs", "//! Shelf.\n"),
            ("crates/protocols/src/consensus/raft/mod.rs", "//! Raft.\n"),
            ("crates/protocols/src/mutex/lease.rs", "//! Lease.\n"),
        ];
        let found = found(&files);
        assert_eq!(found.len(), 1);
        assert!(found[0].contains("contents: add 'lease' to the table"));
    }
}
