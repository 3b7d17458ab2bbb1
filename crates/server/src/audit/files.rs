//! The directory of the log: opening, rotation, removal of the oldest, the head.
//!
//! A crash can leave an unfinished line at the end, and an empty file after it. Both are mended
//! when the log is opened; what the head names must be there, or somebody has shortened the log.

use super::AuditSettings;
use super::record::{self, Body, Event, Hash, LINE_BYTES_MAX, Record};
use std::fmt;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// The last record that was synced: its number and its hash.
pub(super) const HEAD: &str = "audit.head";
const HEAD_NEW: &str = "audit.head.new";
const LOCK: &str = "audit.lock";

/// Others than the owner have no business here.
const MODE: u32 = 0o600;

/// Why a log cannot be written to.
#[derive(Debug)]
pub enum AuditError {
    /// The system refuses.
    Io {
        /// Where.
        path: PathBuf,
        /// What it says.
        error: io::Error,
    },
    /// Somebody else writes to it.
    Locked {
        /// Where.
        dir: PathBuf,
    },
    /// Its end is missing, or is not what it was.
    Tampered {
        /// Where.
        dir: PathBuf,
        /// What is wrong.
        what: &'static str,
    },
}

impl fmt::Display for AuditError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuditError::Io { path, error } => {
                write!(f, "{}: {error}; name a directory that can be written", path.display())
            }
            AuditError::Locked { dir } => write!(
                f,
                "{} is in use by another process; each member needs a directory of its own",
                dir.display()
            ),
            AuditError::Tampered { dir, what } => write!(
                f,
                "{0}: {what}; see `quorate audit verify {0}`, and move it away to begin another",
                dir.display()
            ),
        }
    }
}

impl std::error::Error for AuditError {}

/// A point of the chain.
#[derive(Clone, Copy, Debug)]
struct Mark {
    seq: u64,
    hash: Hash,
    /// Of the file up to there.
    len: u64,
}

/// The files of a log that is written to.
#[derive(Debug)]
pub(super) struct Files {
    settings: AuditSettings,
    /// Held while this lives.
    _lock: File,
    file: File,
    number: u64,
    oldest: u64,
    /// In the file.
    written: Mark,
    /// With what is still in the buffer.
    made: Mark,
    buffer: Vec<u8>,
}

/// Name of a file of the log.
pub(super) fn name(number: u64) -> String {
    format!("audit-{number:08}.log")
}

/// The number in the name of a file of the log. None: it is none.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix("audit-")?.strip_suffix(".log")?;
    digits.parse().ok().filter(|number| self::name(*number) == name)
}

/// The numbers of the files in a directory, ascending.
pub(super) fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        found.extend(entry?.file_name().to_str().and_then(number));
    }
    found.sort_unstable();
    Ok(found)
}

/// The number and hash in a head. None: it is none.
pub(super) fn parse_head(text: &str) -> Option<(u64, Hash)> {
    let (seq, hash) = text.strip_suffix('\n')?.split_once(' ')?;
    let number = seq.parse::<u64>().ok().filter(|number| number.to_string() == seq)?;
    Some((number, Hash::parse(hash)?))
}

impl Files {
    /// Opens or begins a log, and says in it that it goes on.
    ///
    /// Errors: see [`AuditError`]; a log that was shortened is not written to.
    pub(super) fn open(settings: AuditSettings, member: &str) -> Result<Files, AuditError> {
        let dir = settings.dir.clone();
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| AuditError::Io { path, error }
        };
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new().create(true).append(true).mode(MODE).open(&path);
        let lock = lock.map_err(at(&path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => AuditError::Locked { dir: dir.clone() },
            TryLockError::Error(error) => AuditError::Io { path, error },
        })?;
        let found = numbers(&dir).map_err(at(&dir))?;
        if found.is_empty() && !dir.join(HEAD).exists() {
            write_head(&dir, 0, Hash::ZERO).map_err(at(&dir))?;
        }
        let ending = Ending::find(&dir, &found)?;
        check_head(&dir, ending.last.as_ref())?;
        ending.mend(&dir)?;
        let (number, len) = ending.file.unwrap_or((1, 0));
        let path = dir.join(name(number));
        let file = if ending.file.is_some() { append(&path) } else { create(&path) };
        let file = file.map_err(at(&path))?;
        let last = ending.last.map(|last| (last.seq, last.hash));
        let (seq, hash) = last.unwrap_or((0, Hash::ZERO));
        let mark = Mark { seq, hash, len };
        let mut files = Files {
            settings,
            _lock: lock,
            file,
            number,
            oldest: found.first().copied().unwrap_or(number),
            written: mark,
            made: mark,
            buffer: Vec::new(),
        };
        let cut_bytes = ending.cut_bytes;
        let opened = Event::Opened { member: member.to_owned(), cut_bytes };
        files.push(SystemTime::now(), &Body::Event(opened)).map_err(at(&dir))?;
        files.sync().map_err(at(&dir))?;
        Ok(files)
    }

    /// Adds a record. It is in the file after [`Files::flush`].
    ///
    /// Errors: the next file could not be begun, or what came before not be written; the record is
    /// not added.
    pub(super) fn push(&mut self, at: SystemTime, body: &Body) -> io::Result<()> {
        let begin = self.buffer.len();
        self.line(at, body);
        let is_first = self.written.len == 0 && begin == 0;
        if self.made.len <= self.settings.file_bytes || is_first {
            return Ok(());
        }
        // It is of the next file: made again there, because its number may be another.
        self.unmake(begin);
        self.rotate()?;
        self.line(at, body);
        Ok(())
    }

    fn line(&mut self, at: SystemTime, body: &Body) {
        let begin = self.buffer.len();
        let seq = self.made.seq + 1;
        let hash = record::write(seq, self.made.hash, at, body, &mut self.buffer);
        let len = self.made.len + (self.buffer.len() - begin) as u64;
        self.made = Mark { seq, hash, len };
    }

    /// Takes back the line that was just made.
    fn unmake(&mut self, begin: usize) {
        let line = record::read(self.buffer[begin..].trim_ascii_end()).expect("it was just made");
        let len = self.made.len - (self.buffer.len() - begin) as u64;
        self.made = Mark { seq: line.seq - 1, hash: line.prev, len };
        self.buffer.truncate(begin);
    }

    /// Writes what was pushed.
    ///
    /// Errors: it is not written; [`Files::drop_unwritten`] gives it up.
    pub(super) fn flush(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.write_all(&self.buffer)?;
            self.buffer.clear();
            self.written = self.made;
        }
        Ok(())
    }

    /// Gives up what could not be written, and takes a part of it that was off the file.
    pub(super) fn drop_unwritten(&mut self) {
        self.buffer.clear();
        self.made = self.written;
        // If this fails too, the line will be found to be none, by whoever verifies the log.
        let _ = self.file.set_len(self.written.len);
    }

    /// The number of the last record in the file.
    pub(super) fn written(&self) -> u64 {
        self.written.seq
    }

    /// Writes and syncs what was pushed, and names it in the head.
    pub(super) fn sync(&mut self) -> io::Result<()> {
        self.flush()?;
        self.file.sync_data()?;
        write_head(&self.settings.dir, self.written.seq, self.written.hash)
    }

    /// The last record in the file, for whoever keeps it elsewhere.
    pub(super) fn head(&self) -> String {
        format!("{}:{}", self.written.seq, self.written.hash)
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.sync()?;
        let number = self.number + 1;
        self.file = create(&self.settings.dir.join(name(number)))?;
        self.number = number;
        self.written.len = 0;
        self.made = self.written;
        tracing::info!(file = name(number), after = self.head(), "the audit log goes on");
        while number - self.oldest >= u64::from(self.settings.files) {
            self.remove_oldest()?;
        }
        Ok(())
    }

    /// The log says what was removed before it is.
    fn remove_oldest(&mut self) -> io::Result<()> {
        let next = first_record(&self.settings.dir.join(name(self.oldest + 1)))?;
        if let Some(next) = next {
            let (last_seq, last_hash) = (next.seq.saturating_sub(1), next.prev.to_string());
            let event = Event::Removed { file: self.oldest, last_seq, last_hash };
            self.line(SystemTime::now(), &Body::Event(event));
            self.sync()?;
        }
        fs::remove_file(self.settings.dir.join(name(self.oldest)))?;
        self.oldest += 1;
        Ok(())
    }
}

/// How a log ends.
#[derive(Debug, Default)]
struct Ending {
    last: Option<Record>,
    /// The file to go on with, and its length.
    file: Option<(u64, u64)>,
    /// Files with an unfinished line, and their lengths without it.
    torn: Vec<(u64, u64)>,
    cut_bytes: u64,
}

impl Ending {
    /// Errors: the last line is no record.
    fn find(dir: &Path, found: &[u64]) -> Result<Ending, AuditError> {
        let mut ending = Ending::default();
        for number in found.iter().rev() {
            let path = dir.join(name(*number));
            let (line, len, torn) = tail(&path).map_err(|error| AuditError::Io { path, error })?;
            if torn > 0 {
                ending.torn.push((*number, len));
                ending.cut_bytes += torn;
            }
            ending.file = ending.file.or(Some((*number, len)));
            let Some(line) = line else { continue };
            let what = "its last line is no record";
            let tampered = || AuditError::Tampered { dir: dir.to_owned(), what };
            let record = record::read(&line).filter(|record| record.is_true);
            ending.last = Some(record.ok_or_else(tampered)?);
            break;
        }
        Ok(ending)
    }

    /// Takes off what a crash has left.
    fn mend(&self, dir: &Path) -> Result<(), AuditError> {
        for (number, len) in &self.torn {
            let path = dir.join(name(*number));
            let mended = append(&path).and_then(|file| file.set_len(*len));
            mended.map_err(|error| AuditError::Io { path, error })?;
        }
        Ok(())
    }
}

/// Errors: the log does not have what its head names.
fn check_head(dir: &Path, last: Option<&Record>) -> Result<(), AuditError> {
    let tampered = |what| Err(AuditError::Tampered { dir: dir.to_owned(), what });
    let path = dir.join(HEAD);
    let text = match fs::read_to_string(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return tampered("audit.head is missing");
        }
        text => text.map_err(|error| AuditError::Io { path, error })?,
    };
    let Some((seq, hash)) = parse_head(&text) else { return tampered("audit.head is none") };
    let (last_seq, last_hash) = last.map_or((0, Hash::ZERO), |last| (last.seq, last.hash));
    if last_seq < seq {
        return tampered("it ends before the record that audit.head names");
    }
    if last_seq == seq && last_hash != hash {
        return tampered("its last record is not the one that audit.head names");
    }
    Ok(())
}

fn write_head(dir: &Path, seq: u64, hash: Hash) -> io::Result<()> {
    let new = dir.join(HEAD_NEW);
    let mut options = OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(MODE).open(&new)?;
    file.write_all(format!("{seq} {hash}\n").as_bytes())?;
    fs::rename(&new, dir.join(HEAD))
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).open(path)
}

/// A file that is not there, or that was begun and never written.
fn create(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().create(true).append(true).mode(MODE).open(path)?;
    if file.metadata()?.len() > 0 {
        return Err(io::Error::other(format!("{} is there already", path.display())));
    }
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

/// The last whole line without its end, the length up to there, and the bytes after it.
fn tail(path: &Path) -> io::Result<(Option<Vec<u8>>, u64, u64)> {
    let mut file = File::open(path)?;
    let len = file.metadata()?.len();
    let from = len.saturating_sub(2 * LINE_BYTES_MAX);
    file.seek(SeekFrom::Start(from))?;
    let mut bytes = Vec::new();
    file.take(2 * LINE_BYTES_MAX).read_to_end(&mut bytes)?;
    let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else {
        let text = format!("{} has no lines", path.display());
        return if from == 0 { Ok((None, 0, len)) } else { Err(io::Error::other(text)) };
    };
    let begin = bytes[..end].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    let whole = from + end as u64 + 1;
    Ok((Some(bytes[begin..end].to_vec()), whole, len - whole))
}

fn first_record(path: &Path) -> io::Result<Option<Record>> {
    let mut line = Vec::new();
    let file = BufReader::new(File::open(path)?);
    file.take(LINE_BYTES_MAX).read_until(b'\n', &mut line)?;
    Ok(record::read(line.trim_ascii_end()))
}
