//! Where a continuous backup lies: a directory, or an object store that speaks as S3 does.
//!
//! **Problem.** Stores are slow, away, or full now and then, and a backup that gives up at the
//! first failure is none; one that never gives up tells nobody.
//!
//! **Idea.** What may pass is tried again, ever more slowly, until [`Shelf`]'s patience has run
//! out: then the reason is told, and the process ends. Nothing is lost by that, as the cluster
//! still has what was not written.
//!
//! **Secrets.** Keys of S3 come from the environment (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`,
//! `AWS_SESSION_TOKEN`, `AWS_REGION`, `AWS_ENDPOINT`, `AWS_ALLOW_HTTP`), never from a place's name,
//! which is printed and logged.

use crate::output;
use bytes::Bytes;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, WriteMultipart};
use std::fmt;
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tonic::codegen::tokio_stream::StreamExt as _;

/// A file that is longer is put in parts. Unit: bytes.
const WHOLE_BYTES_MAX: u64 = 64 << 20;
/// One of these parts. Unit: bytes.
const PART_BYTES: usize = 8 << 20;
/// Parts that are on their way at once.
const PARTS_MAX: usize = 4;
/// The first pause before something is tried again; each is twice the one before,
const PAUSE: Duration = Duration::from_millis(200);
/// up to this.
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// Objects that are listed; a longer list is refused, as it would take too much memory.
const OBJECTS_MAX: usize = 10_000_000;

/// Where a backup lies.
pub(super) struct Shelf {
    store: Box<dyn ObjectStore>,
    prefix: ObjectPath,
    /// As it was given.
    place: String,
    patience: Duration,
}

/// Whether a directory is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Absent {
    /// If it is not there.
    Make,
    /// Who looks for something wants it to be there.
    Refuse,
}

/// Why a shelf does not do what it should.
#[derive(Debug)]
pub(crate) enum ShelfError {
    /// This is no place.
    Place { place: String, why: String },
    /// It has been tried for so long.
    Unreachable { place: String, tried: Duration, error: String },
    /// The store says no, and would again.
    Refused { place: String, error: String },
    /// An object that should be there is not.
    Missing { place: String, name: String },
    /// A file of ours cannot be used.
    File { file: PathBuf, error: io::Error },
}

impl fmt::Display for ShelfError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShelfError::Place { place, why } => write!(
                f,
                "'{place}' is no place for a backup: {why}; give a directory, or s3://BUCKET/PREFIX"
            ),
            ShelfError::Unreachable { place, tried, error } => write!(
                f,
                "{place} cannot be reached, tried for {} s: {error}; nothing is lost, begin again \
                 when it is back",
                tried.as_secs()
            ),
            ShelfError::Refused { place, error } => write!(
                f,
                "{place} refuses: {error}; compare the name and the keys in the environment"
            ),
            ShelfError::Missing { place, name } => write!(
                f,
                "{name} is missing in {place}: it was compacted before it was copied, or somebody \
                 has removed it; 'quorate restore --list' says what can be restored"
            ),
            ShelfError::File { file, error } => write!(f, "{}: {error}", file.display()),
        }
    }
}

impl std::error::Error for ShelfError {}

impl fmt::Debug for Shelf {
    /// Without the store, which has secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shelf").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Shelf {
    /// The place that `place` names. What fails is tried again for so long.
    ///
    /// Errors: [`ShelfError::Place`].
    pub(super) fn open(
        place: &str,
        absent: Absent,
        patience: Duration,
    ) -> Result<Shelf, ShelfError> {
        let no_place = |why: String| ShelfError::Place { place: place.to_owned(), why };
        if let Some(rest) = place.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            if bucket.is_empty() || bucket.contains('@') {
                let why = "after s3:// comes a bucket, and no keys".to_owned();
                return Err(no_place(why));
            }
            let prefix = ObjectPath::parse(prefix.trim_end_matches('/'));
            let prefix = prefix.map_err(|error| no_place(error.to_string()))?;
            let store = s3(bucket).map_err(no_place)?;
            return Ok(Shelf { store, prefix, place: place.to_owned(), patience });
        }
        let dir = place.strip_prefix("file://").unwrap_or(place);
        if dir.is_empty() || dir.contains("://") {
            return Err(no_place("this kind is not known".to_owned()));
        }
        if absent == Absent::Make {
            std::fs::create_dir_all(dir).map_err(|error| no_place(error.to_string()))?;
        }
        let store = LocalFileSystem::new_with_prefix(dir);
        let store = store.map_err(|error| no_place(error.to_string()))?.with_fsync(true);
        let (store, prefix) = (Box::new(store), ObjectPath::default());
        Ok(Shelf { store, prefix, place: place.to_owned(), patience })
    }

    /// As it was given.
    pub(super) fn place(&self) -> &str {
        &self.place
    }

    /// Puts an object where none is. One that is there stays as it is, and that is no error: it is
    /// ours, of an attempt whose answer was lost, or another process's of the same cluster.
    pub(super) async fn put(&self, name: &str, bytes: Bytes) -> Result<(), ShelfError> {
        let path = self.path(name);
        self.patiently(async || {
            let options = PutOptions { mode: PutMode::Create, ..PutOptions::default() };
            match self.store.put_opts(&path, bytes.clone().into(), options).await {
                Ok(_) | Err(Error::AlreadyExists { .. }) => Ok(()),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// The same of a file, however long. A long one is put in parts, and then in place of what is
    /// there: of the same name there is only the same.
    pub(super) async fn put_file(&self, name: &str, file: &Path) -> Result<(), ShelfError> {
        let at_file = |error| ShelfError::File { file: file.to_owned(), error };
        let len = file.metadata().map_err(at_file)?.len();
        if len <= WHOLE_BYTES_MAX {
            let bytes = std::fs::read(file).map_err(at_file)?;
            return self.put(name, bytes.into()).await;
        }
        let path = self.path(name);
        self.patiently(async || {
            let mut input = File::open(file).map_err(of_file)?;
            let upload = self.store.put_multipart(&path).await?;
            let mut upload = WriteMultipart::new_with_chunk_size(upload, PART_BYTES);
            let mut chunk = vec![0; PART_BYTES];
            loop {
                let count = input.read(&mut chunk).map_err(of_file)?;
                if count == 0 {
                    return upload.finish().await.map(drop);
                }
                upload.wait_for_capacity(PARTS_MAX).await?;
                upload.write(&chunk[..count]);
            }
        })
        .await
    }

    /// An object.
    pub(super) async fn get(&self, name: &str) -> Result<Bytes, ShelfError> {
        let path = self.path(name);
        self.patiently(async || self.store.get(&path).await?.bytes().await).await
    }

    /// Writes an object into a file.
    pub(super) async fn get_file(&self, name: &str, file: &Path) -> Result<(), ShelfError> {
        let path = self.path(name);
        self.patiently(async || {
            let mut output = File::create(file).map_err(of_file)?;
            let mut chunks = self.store.get(&path).await?.into_stream();
            while let Some(chunk) = chunks.next().await {
                output.write_all(&chunk?).map_err(of_file)?;
            }
            Ok(())
        })
        .await
    }

    /// The names of all objects, relative to the place.
    pub(super) async fn list(&self) -> Result<Vec<String>, ShelfError> {
        self.patiently(async || {
            let mut names = Vec::new();
            let mut objects = self.store.list(Some(&self.prefix));
            while let Some(object) = objects.next().await {
                let location = object?.location;
                let parts = location.prefix_match(&self.prefix);
                let parts: Vec<_> = parts.into_iter().flatten().collect();
                let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
                if names.len() == OBJECTS_MAX {
                    let source = "there are too many objects below it".into();
                    return Err(Error::NotSupported { source });
                }
                names.push(parts.join("/"));
            }
            Ok(names)
        })
        .await
    }

    /// Removes an object. One that is not there is as good.
    pub(super) async fn remove(&self, name: &str) -> Result<(), ShelfError> {
        let path = self.path(name);
        self.patiently(async || match self.store.delete(&path).await {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(error),
        })
        .await
    }

    fn path(&self, name: &str) -> ObjectPath {
        name.split('/').fold(self.prefix.clone(), |path, part| path.join(part))
    }

    /// Tries until it is done, hopeless, or has taken too long.
    async fn patiently<T>(
        &self,
        attempt: impl AsyncFn() -> Result<T, Error>,
    ) -> Result<T, ShelfError> {
        let (began, mut pause) = (Instant::now(), PAUSE);
        let place = || self.place.clone();
        loop {
            let error = match attempt().await {
                Ok(done) => return Ok(done),
                Err(Error::NotFound { path, .. }) => {
                    return Err(ShelfError::Missing { place: place(), name: path });
                }
                Err(error) => error,
            };
            let (tried, told) = (began.elapsed(), told(&error));
            if is_hopeless(&error) {
                return Err(ShelfError::Refused { place: place(), error: told });
            }
            if tried + pause > self.patience {
                return Err(ShelfError::Unreachable { place: place(), tried, error: told });
            }
            output::complain(format_args!("{}: {told}; trying again", self.place));
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// On one line.
fn told(error: &Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

fn of_file(error: io::Error) -> Error {
    Error::Generic { store: "file", source: Box::new(error) }
}

/// True if the same would be answered again.
fn is_hopeless(error: &Error) -> bool {
    matches!(
        error,
        Error::InvalidPath { .. }
            | Error::NotSupported { .. }
            | Error::NotImplemented { .. }
            | Error::PermissionDenied { .. }
            | Error::Unauthenticated { .. }
            | Error::UnknownConfigurationKey { .. }
    )
}

#[cfg(feature = "s3")]
fn s3(bucket: &str) -> Result<Box<dyn ObjectStore>, String> {
    use object_store::aws::AmazonS3Builder;
    use object_store::{ClientOptions, RetryConfig};
    /// For one request; a part of a base takes a while on a slow line.
    const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
    const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
    /// It is `patiently` that tries again and says so.
    const RETRIES: usize = 1;

    // Whoever was first is fine: there is only this one in the program.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = AmazonS3Builder::from_env();
    let allows_http = std::env::var("AWS_ALLOW_HTTP").is_ok_and(|word| word == "true");
    let options = ClientOptions::new()
        .with_timeout(REQUEST_TIMEOUT)
        .with_connect_timeout(CONNECT_TIMEOUT)
        .with_allow_http(allows_http);
    let retry = RetryConfig {
        max_retries: RETRIES,
        retry_timeout: REQUEST_TIMEOUT,
        ..RetryConfig::default()
    };
    let builder = builder.with_bucket_name(bucket).with_client_options(options).with_retry(retry);
    let store = builder.build().map_err(|error| told(&error))?;
    Ok(Box::new(store))
}

#[cfg(not(feature = "s3"))]
fn s3(_: &str) -> Result<Box<dyn ObjectStore>, String> {
    Err("this binary was built without the feature 's3'".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(500);

    #[tokio::test]
    async fn an_object_is_put_once_and_listed_by_its_name() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("backup").display().to_string();
        let refused = Shelf::open(&place, Absent::Refuse, PATIENCE);
        assert!(matches!(refused, Err(ShelfError::Place { .. })), "{refused:?}");
        let shelf = Shelf::open(&place, Absent::Make, PATIENCE).expect("a place");
        shelf.put("c1/a", Bytes::from_static(b"first")).await.expect("put");
        shelf.put("c1/a", Bytes::from_static(b"second")).await.expect("it is there");
        assert_eq!(shelf.get("c1/a").await.expect("there"), "first", "nothing is written over");
        assert_eq!(shelf.list().await.expect("a list"), ["c1/a"]);
        let missing = shelf.get("c1/b").await;
        assert!(matches!(missing, Err(ShelfError::Missing { .. })), "{missing:?}");
        shelf.remove("c1/a").await.expect("removed");
        shelf.remove("c1/a").await.expect("as good");
        assert_eq!(shelf.list().await.expect("a list"), [""; 0]);
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_tried_again_and_then_given_up() {
        let dir = tempfile::tempdir().expect("a directory");
        let place = dir.path().join("backup");
        let name = place.display().to_string();
        let shelf = Shelf::open(&name, Absent::Make, PATIENCE).expect("a place");
        std::fs::remove_dir(&place).expect("removed");
        std::fs::write(&place, "in the way").expect("a file");
        let began = Instant::now();
        let put = shelf.put("c1/a", Bytes::from_static(b"first")).await;
        assert!(matches!(put, Err(ShelfError::Unreachable { .. })), "{put:?}");
        assert!(began.elapsed() >= PAUSE, "it was tried again");
    }

    #[test]
    fn what_is_no_place_is_refused() {
        for place in ["", "ftp://host/a", "s3://", "s3://key:secret@bucket/a"] {
            let refused = Shelf::open(place, Absent::Make, PATIENCE);
            let told = refused.expect_err(place).to_string();
            assert!(told.contains("is no place for a backup"), "{told}");
        }
    }
}
