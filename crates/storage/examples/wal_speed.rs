//! How fast the log is on this machine's disk: `cargo run --release --example wal_speed [DIR]`.
//!
//! Each row appends 256-byte frames in batches, one sync per batch, with and without a segment that
//! was made ahead; the last rows read a log back, and compare with a bare write and fdatasync.
#![expect(clippy::print_stdout, reason = "it prints a table")]

use bytes::Bytes;
use quorate_core::{Frame, Position};
use quorate_storage::{Disk, DiskFile, Fill, LogIdentity, RealDisk, Wal, WalOptions};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const IDENTITY: LogIdentity = LogIdentity { cluster: 1, member: 2, data: 3 };
const PAYLOAD_BYTES: usize = 256;
const ROUND: Duration = Duration::from_secs(2);

fn main() {
    let root = std::env::args().nth(1).map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = root.join(format!("quorate-wal-speed-{}", std::process::id()));
    println!("| what | batches/s | frames/s | MB/s |");
    println!("|---|---|---|---|");
    bare(&dir);
    for batch in [1, 8, 64, 512] {
        append(&dir, batch);
    }
    restart(&dir);
    std::fs::remove_dir_all(&dir).expect("the directory is ours");
}

/// The floor: the same bytes, nothing else done to them.
fn bare(dir: &Path) {
    RealDisk.create_dir(dir).expect("a directory");
    for fill in [Fill::Zeroed, Fill::Reserved] {
        let path = dir.join("bare");
        let file = RealDisk.create(&path).expect("a file");
        file.preallocate(64 << 20, fill).expect("space");
        file.sync().expect("a sync");
        let bytes = [7; PAYLOAD_BYTES + 48];
        let started = Instant::now();
        let mut count = 0;
        while started.elapsed() < ROUND && (count + 1) * bytes.len() < 64 << 20 {
            file.write_at((count * bytes.len()) as u64, &bytes).expect("a write");
            file.sync().expect("a sync");
            count += 1;
        }
        row(&format!("bare pwrite + fdatasync, {fill:?}"), count, 1, started.elapsed());
        RealDisk.remove(&path).expect("it is ours");
    }
}

fn append(dir: &Path, batch: usize) {
    let dir = dir.join(format!("batch-{batch}"));
    let (mut wal, _) = Wal::open(RealDisk, &dir, WalOptions::default(), &IDENTITY).expect("opens");
    let payload = Bytes::from(vec![7; PAYLOAD_BYTES]);
    let mut index = 0;
    let started = Instant::now();
    while started.elapsed() < ROUND {
        for _ in 0..batch {
            index += 1;
            let position = Position::new(1, index);
            wal.append(&Frame { kind: 1, position, payload: payload.clone() });
        }
        wal.sync().expect("a sync");
    }
    let elapsed = started.elapsed();
    row(&format!("append {batch} + sync"), index as usize / batch, batch, elapsed);
    wal.close().expect("closed");
}

fn restart(dir: &Path) {
    let dir = dir.join("batch-512");
    let started = Instant::now();
    let (_wal, recovery) =
        Wal::open(RealDisk, &dir, WalOptions::default(), &IDENTITY).expect("opens");
    let opened = started.elapsed();
    let frames = recovery.inspect(|item| assert!(item.is_ok(), "readable")).count();
    row("restart: open and read all", 1, frames, started.elapsed());
    println!("\nopen {opened:?}, all {:?}", started.elapsed());
}

fn row(what: &str, batches: usize, batch: usize, elapsed: Duration) {
    let seconds = elapsed.as_secs_f64();
    let frames = (batches * batch) as f64 / seconds;
    let megabytes = frames * PAYLOAD_BYTES as f64 / 1e6;
    println!("| {what} | {:.0} | {frames:.0} | {megabytes:.1} |", batches as f64 / seconds);
}
