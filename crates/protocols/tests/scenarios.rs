//! The golden transcripts in `scenarios/`: what each protocol does, told as stories.
//!
//! `UPDATE=1 cargo test -p quorate-protocols --test scenarios` records what they do today.

mod raft_story;

use quorate_drivers::scenario::check_folder;
use raft_story::RaftStory;
use std::path::{Path, PathBuf};

fn folder(protocol: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios").join(protocol)
}

#[test]
fn raft() {
    let stories = check_folder::<RaftStory>(&folder("raft"));
    assert!(stories >= 15, "only {stories} stories were found");
}
