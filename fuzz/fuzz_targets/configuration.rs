//! The settings of a member: lines before an empty one are words of a command line and variables of
//! the environment, what follows is the configuration file.
#![no_main]
#![allow(dead_code, unused_imports, reason = "the rest of the command is not compiled")]

#[path = "../../crates/cli/src/nearest.rs"]
mod nearest;
#[path = "../../crates/cli/src/serve/mod.rs"]
mod serve;

use std::collections::BTreeMap;

libfuzzer_sys::fuzz_target!(|text: &str| {
    let (head, file) = text.split_once("\n\n").unwrap_or((text, ""));
    let mut variables = BTreeMap::new();
    let mut words = vec!["--config-file".to_owned(), "file".to_owned()];
    for line in head.lines() {
        match line.split_once('=') {
            Some((name, value)) if name.starts_with("ETCD_") => {
                variables.insert(name.to_owned(), value.to_owned());
            }
            _ => words.push(line.to_owned()),
        }
    }
    if let Err(error) = serve::request(&words, &variables, |_| Ok(file.to_owned())) {
        assert!(!error.to_string().is_empty(), "a refusal without a word");
    }
});
