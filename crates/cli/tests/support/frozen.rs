//! File systems that can stand still: an image with a file system of its own for each member,
//! frozen by the kernel. Needs root and loop devices; who has neither is told so loudly.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Enough for the members of a test. Unit: bytes; the image is sparse.
const IMAGE_BYTES: u64 = 512 << 20;

/// A mounted file system, thawed and unmounted when dropped.
#[derive(Debug)]
pub(crate) struct Freezable {
    mounted: PathBuf,
    image: PathBuf,
}

impl Freezable {
    /// Mounts a new file system at `place`. None, with a line that says why, if this machine
    /// cannot do that.
    pub(crate) fn mount(place: &Path) -> Option<Freezable> {
        let image = place.with_extension("img");
        fs::create_dir_all(place).expect("a directory");
        File::create(&image).and_then(|file| file.set_len(IMAGE_BYTES)).expect("an image");
        let (at, from) = (place.to_str().expect("UTF-8"), image.to_str().expect("UTF-8"));
        for command in [vec!["mkfs.ext4", "-q", from], vec!["mount", "-o", "loop", from, at]] {
            if !run(&command) {
                eprintln!("SKIPPED: {} wants root, loop devices and ext4", command.join(" "));
                return None;
            }
        }
        Some(Freezable { mounted: place.to_owned(), image })
    }

    /// Whoever writes or syncs here waits.
    pub(crate) fn freeze(&self) {
        assert!(run(&["fsfreeze", "-f", self.mounted.to_str().expect("UTF-8")]), "not frozen");
    }

    /// Everything goes on.
    pub(crate) fn thaw(&self) {
        assert!(run(&["fsfreeze", "-u", self.mounted.to_str().expect("UTF-8")]), "not thawed");
    }
}

impl Drop for Freezable {
    fn drop(&mut self) {
        let at = self.mounted.to_str().expect("UTF-8");
        run(&["fsfreeze", "-u", at]); // It may not be frozen.
        run(&["umount", "-l", at]);
        let _ = fs::remove_file(&self.image);
    }
}

fn run(command: &[&str]) -> bool {
    let mut process = Command::new(command[0]);
    process.args(&command[1..]).stdout(Stdio::null()).stderr(Stdio::null());
    process.status().is_ok_and(|status| status.success())
}
