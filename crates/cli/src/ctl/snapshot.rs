//! Copies of the whole state, for a day when all members are lost.
//!
//! ```text
//! FILE.part   blobs as they come   --- digest right, fsync ---> FILE, fsync of the directory
//! ```
//!
//! A stream ends with the SHA-256 of all before it, and that stays in the file, as etcdctl leaves
//! it there. So FILE is either absent or whole, and can be checked at any time without the server.
//!
//! Source: etcd `client/v3/snapshot/v3_snapshot.go`; the table of our own format is in
//! `crates/storage/FORMAT.md`.

use super::call::{CallError, Effect};
use super::{Caller, CtlError};
use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use quorate_server::proto::etcdserverpb::maintenance_client::MaintenanceClient;
use quorate_server::proto::etcdserverpb::{SnapshotRequest, SnapshotResponse};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, BufReader, IsTerminal as _, Read, Write as _};
use std::path::{Path, PathBuf};
use tonic::Streaming;

/// Bytes of a SHA-256.
const DIGEST_BYTES: usize = 32;

/// Everything before the digest is padded to a multiple of this, by etcd and by us.
const PAGE_BYTES: u64 = 512;

const EXAMPLES: &str = "\
Examples:
  quorate ctl snapshot save backup.db
  quorate ctl snapshot save backup.db --endpoints b:2379
  quorate ctl snapshot status backup.db

FILE appears when all of it is there, its digest is right and the disk has it; until then it is
FILE.part.";

#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct Snapshot {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Write the whole state of one member to a file
    Save {
        /// Where to; replaced if it exists
        file: PathBuf,
    },
    /// Check a file that was saved, and tell what is in it
    Status {
        /// The file
        file: PathBuf,
    },
}

/// A file that is no whole snapshot.
#[derive(Debug)]
pub(super) enum SnapshotError {
    /// The digest is that of other bytes.
    Digest { file: PathBuf },
    /// No snapshot has this size.
    Size { file: PathBuf, bytes: u64 },
}

impl std::fmt::Display for SnapshotError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SnapshotError::Digest { file } => write!(
                f,
                "{} is damaged: its SHA-256 does not match; save it again",
                file.display()
            ),
            SnapshotError::Size { file, bytes } => write!(
                f,
                "{} is no whole snapshot: {bytes} bytes are not pages and a digest",
                file.display()
            ),
        }
    }
}

/// What a file holds.
#[derive(Debug, Eq, PartialEq)]
struct Content {
    /// Bytes without the digest.
    bytes: u64,
    /// In hexadecimal.
    digest: String,
    kind: Kind,
}

/// Whose snapshot it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Kind {
    /// Ours.
    Quorate { cluster: u64, member: u64, term: u64, revision: u64 },
    /// etcd's, whose database we do not look into.
    Etcd,
    /// Nobody's that we know.
    Unknown,
}

impl Snapshot {
    /// Does it.
    pub(super) async fn run(&self, caller: &Caller) -> Result<Value, CtlError> {
        match &self.command {
            Command::Save { file } => {
                let content = caller.save(file).await?;
                let at = file.display();
                caller.say(format_args!("Snapshot saved at {at} ({} bytes)", content.bytes));
                Ok(content.json(file))
            }
            Command::Status { file } => {
                let content = look(file)?;
                content.lines().iter().for_each(|line| caller.say(line));
                Ok(content.json(file))
            }
        }
    }
}

impl Caller {
    async fn save(&self, file: &Path) -> Result<Content, CtlError> {
        let mut name = file.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        let at_part = |error| CtlError::File { file: part.clone(), error };
        let mut output = File::create(&part).map_err(at_part)?;
        let received = self.receive(&mut output, &part).await;
        let kept = received.and_then(|()| {
            output.sync_all().map_err(at_part)?;
            // Read back: what counts is what the file holds.
            look(&part)
        });
        let content = match kept {
            Ok(content) => content,
            Err(error) => {
                let _ = std::fs::remove_file(&part); // it is of no use, and no harm
                return Err(error);
            }
        };
        let named = std::fs::rename(&part, file).and_then(|()| sync_directory(file));
        named.map_err(|error| CtlError::File { file: file.to_owned(), error })?;
        Ok(content)
    }

    async fn receive(&self, output: &mut File, part: &Path) -> Result<(), CtlError> {
        let mut blobs = self
            .call(Effect::Read, async |channel| {
                let maintenance = MaintenanceClient::new(channel);
                let mut maintenance =
                    maintenance.max_decoding_message_size(super::MESSAGE_BYTES_MAX);
                maintenance.snapshot(SnapshotRequest {}).await
            })
            .await?;
        let mut bar: Option<ProgressBar> = None;
        let mut received = 0;
        let outcome = loop {
            let blob = match self.next(&mut blobs).await {
                Ok(Some(blob)) => blob,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            received += blob.blob.len() as u64;
            let bar = bar.get_or_insert_with(|| self.bar(received + blob.remaining_bytes));
            bar.set_position(received);
            if let Err(error) = output.write_all(&blob.blob) {
                break Err(CtlError::File { file: part.to_owned(), error });
            }
        };
        bar.inspect(ProgressBar::finish_and_clear);
        outcome
    }

    async fn next(
        &self,
        blobs: &mut Streaming<SnapshotResponse>,
    ) -> Result<Option<SnapshotResponse>, CallError> {
        let answer = tokio::time::timeout(self.timeout, blobs.message()).await;
        let message = match answer {
            Ok(Ok(blob)) => return Ok(blob),
            Ok(Err(status)) => status.message().to_owned(),
            Err(_) => "the stream of the snapshot has stopped".to_owned(),
        };
        let endpoints: Vec<String> = self.endpoints.iter().map(|url| url.authority()).collect();
        Err(CallError::Refused { endpoint: endpoints.join(","), message })
    }

    fn bar(&self, bytes: u64) -> ProgressBar {
        if self.json || !io::stderr().is_terminal() {
            return ProgressBar::hidden();
        }
        let template = "snapshot {bytes}/{total_bytes} {wide_bar} {bytes_per_sec}";
        let style = ProgressStyle::with_template(template).expect("a constant");
        let bar = ProgressBar::new(bytes).with_style(style);
        bar.set_draw_target(ProgressDrawTarget::stderr());
        bar
    }
}

/// Checks a file.
fn look(file: &Path) -> Result<Content, CtlError> {
    let at = |error| CtlError::File { file: file.to_owned(), error };
    let input = File::open(file).map_err(at)?;
    let all = input.metadata().map_err(at)?.len();
    let bytes = all.checked_sub(DIGEST_BYTES as u64);
    let Some(bytes) = bytes.filter(|bytes| *bytes > 0 && bytes.is_multiple_of(PAGE_BYTES)) else {
        return Err(SnapshotError::Size { file: file.to_owned(), bytes: all }.into());
    };
    let mut input = BufReader::new(input);
    let (told, found, head) = digests(&mut input, bytes).map_err(at)?;
    if told != found {
        return Err(SnapshotError::Digest { file: file.to_owned() }.into());
    }
    let digest = found.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string cannot fail
        text
    });
    Ok(Content { bytes, digest, kind: kind(&head) })
}

type Digest = [u8; DIGEST_BYTES];

/// The digest that stands after `bytes`, the one that should, and the first page.
fn digests(input: &mut impl Read, bytes: u64) -> io::Result<(Digest, Digest, Vec<u8>)> {
    let mut head = vec![0; PAGE_BYTES as usize];
    input.read_exact(&mut head)?;
    let mut hash = Sha256::new();
    hash.update(&head);
    let mut left = bytes - PAGE_BYTES;
    let mut chunk = vec![0; 64 << 10];
    while left > 0 {
        let size = chunk.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        input.read_exact(&mut chunk[..size])?;
        hash.update(&chunk[..size]);
        left -= size as u64;
    }
    let mut told = [0; DIGEST_BYTES];
    input.read_exact(&mut told)?;
    Ok((told, hash.finalize().into(), head))
}

/// What the first page says; a page is long enough for all of it.
fn kind(head: &[u8]) -> Kind {
    /// bbolt's, in the first page after its header of 16 bytes.
    const ETCD_MAGIC: u32 = 0xed0c_daed;
    let word = |at: usize| u64::from_le_bytes(head[at..at + 8].try_into().expect("eight bytes"));
    if head.starts_with(b"quorSNAP") {
        let (cluster, member, term, revision) = (word(16), word(24), word(32), word(40));
        return Kind::Quorate { cluster, member, term, revision };
    }
    if word(16) as u32 == ETCD_MAGIC { Kind::Etcd } else { Kind::Unknown }
}

impl Content {
    fn lines(&self) -> Vec<String> {
        let mut lines = match self.kind {
            Kind::Quorate { cluster, member, term, revision } => vec![
                "made by   quorate".to_owned(),
                format!("revision  {revision}"),
                format!("term      {term}"),
                format!("cluster   {cluster:x}"),
                format!("member    {member:x}"),
            ],
            Kind::Etcd => vec!["made by   etcd".to_owned()],
            Kind::Unknown => vec!["made by   unknown".to_owned()],
        };
        lines.push(format!("bytes     {}", self.bytes));
        lines.push(format!("sha256    {}, right", self.digest));
        lines
    }

    fn json(&self, file: &Path) -> Value {
        let mut object = json!({ "file": file, "bytes": self.bytes, "sha256": self.digest });
        object["made_by"] = match self.kind {
            Kind::Quorate { .. } => json!("quorate"),
            Kind::Etcd => json!("etcd"),
            Kind::Unknown => Value::Null,
        };
        if let Kind::Quorate { cluster, member, term, revision } = self.kind {
            object["revision"] = json!(revision);
            object["term"] = json!(term);
            object["cluster_id"] = json!(format!("{cluster:x}"));
            object["member_id"] = json!(format!("{member:x}"));
        }
        object
    }
}

/// Makes a new name last.
fn sync_directory(file: &Path) -> io::Result<()> {
    let parent = file.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(parent.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(head: &[u8]) -> Vec<u8> {
        let mut bytes = head.to_vec();
        bytes.resize(1_024, 7);
        let digest = Sha256::digest(&bytes);
        bytes.extend_from_slice(&digest);
        bytes
    }

    fn ours() -> Vec<u8> {
        let mut head = b"quorSNAP".to_vec();
        head.extend([0; 8]);
        for word in [1_u64, 2, 3, 4] {
            head.extend(word.to_le_bytes());
        }
        snapshot(&head)
    }

    #[test]
    fn ours_and_etcds_are_told_apart() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a.db");
        let kind_of = |bytes: &[u8]| {
            std::fs::write(&file, bytes).expect("a file");
            look(&file).map(|content| content.kind).expect("whole")
        };
        let wanted = Kind::Quorate { cluster: 1, member: 2, term: 3, revision: 4 };
        assert_eq!(kind_of(&ours()), wanted);
        let mut etcd = vec![0; 16];
        etcd.extend([0xed, 0xda, 0x0c, 0xed]);
        assert_eq!(kind_of(&snapshot(&etcd)), Kind::Etcd);
        assert_eq!(kind_of(&snapshot(b"text")), Kind::Unknown);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_noticed() {
        let directory = tempfile::tempdir().expect("a directory");
        let file = directory.path().join("a.db");
        let whole = ours();
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            std::fs::write(&file, damaged).expect("a file");
            let refused = look(&file);
            assert!(matches!(refused, Err(CtlError::Snapshot(SnapshotError::Digest { .. }))));
        }
        for cut in (0..whole.len()).step_by(32) {
            std::fs::write(&file, &whole[..cut]).expect("a file");
            assert!(look(&file).is_err(), "{cut}");
        }
    }
}
